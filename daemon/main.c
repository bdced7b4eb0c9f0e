/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - vmxd: options, start, loop, end. */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/clock.h"
#include "daemon/daemon.h"
#include "daemon/events.h"
#include "daemon/files.h"
#include "daemon/link.h"
#include "daemon/nets.h"
#include "daemon/helper.h"
#include "daemon/vhosts.h"
#include "daemon/notify.h"
#include "daemon/probe.h"
#include "daemon/server.h"
#include "daemon/store.h"
#include "daemon/vm.h"
#include "protocol/paths.h"

#define ADOPT_MS 2000
#define LOCKS 3

enum { OPT_SOCKET = 256, OPT_RUNTIME, OPT_STATE, OPT_LEVEL, OPT_SHARE, OPT_MACHINE,
       OPT_NO_SANDBOX };

#define SHARE_ROOTS_MAX 32

static const struct option long_options[] = {
	{ "socket", required_argument, NULL, OPT_SOCKET },
	{ "runtime-dir", required_argument, NULL, OPT_RUNTIME },
	{ "state-dir", required_argument, NULL, OPT_STATE },
	{ "log-level", required_argument, NULL, OPT_LEVEL },
	{ "no-sandbox", no_argument, NULL, OPT_NO_SANDBOX },
	{ "share-root", required_argument, NULL, OPT_SHARE },
	{ "machine-program", required_argument, NULL, OPT_MACHINE }, /* for tests: not in --help */
	{ "version", no_argument, NULL, 'V' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

struct setup {
	char *socket, *runtime, *state, *machine;
	bool socket_given, no_sandbox;
	char *share_roots[SHARE_ROOTS_MAX + 1]; /* real paths */
	size_t share_root_count;
	enum log_level level;
	int locks[LOCKS];
	size_t lock_count;
};

static void usage(FILE *out)
{
	fputs("Usage: vmxd [OPTION]...\n"
	      "Runs virtual machines; speaks JSON-RPC on a unix socket. Stays in the foreground.\n\n"
	      "  --socket PATH       where to listen (vmxd.sock in the runtime directory)\n"
	      "  --runtime-dir DIR   sockets of the VMs (/run/vmxd; a user's: $XDG_RUNTIME_DIR/vmxd)\n"
	      "  --state-dir DIR     configurations (/var/lib/vmxd; a user's: $XDG_STATE_HOME/vmxd)\n"
	      "  --share-root DIR    directories below it may be shared with guests; may be repeated\n"
	      "                      (none for root, all for a user)\n"
	      "  --log-level LEVEL   error, warning, notice, info (default) or debug\n"
	      "  --no-sandbox        VMs' processes are not confined: for development only\n"
	      "  --version           print the version and exit\n"
	      "  --help              print this and exit\n", out);
}

static char *absolute(const char *path)
{
	char cwd[PATH_MAX], *result;

	if (path[0] == '/')
		return strdup(path);
	if (!getcwd(cwd, sizeof(cwd)) || asprintf(&result, "%s/%s", cwd, path) < 0)
		return NULL;
	return result;
}

static void replace(char **slot, const char *path)
{
	free(*slot);
	*slot = absolute(path);
}

static int add_share_root(struct setup *setup, const char *path)
{
	char *real = realpath(path, NULL);

	if (real && setup->share_root_count < SHARE_ROOTS_MAX) {
		setup->share_roots[setup->share_root_count++] = real;
		return 0;
	}
	if (real)
		fprintf(stderr, "vmxd: --share-root: given more than %d times\n", SHARE_ROOTS_MAX);
	else
		fprintf(stderr, "vmxd: --share-root %s: %s\n", path, strerror(errno));
	free(real);
	return 2;
}

/* 0: go on; 1: done, exit 0; 2: exit with usage error. */
static int parse_options(int argc, char **argv, struct setup *setup)
{
	int c;

	while ((c = getopt_long(argc, argv, "Vh", long_options, NULL)) != -1) {
		switch (c) {
		case OPT_SOCKET:
			replace(&setup->socket, optarg);
			setup->socket_given = true;
			break;
		case OPT_RUNTIME:
			replace(&setup->runtime, optarg);
			break;
		case OPT_STATE:
			replace(&setup->state, optarg);
			break;
		case OPT_SHARE:
			if (add_share_root(setup, optarg))
				return 2;
			break;
		case OPT_MACHINE:
			replace(&setup->machine, optarg);
			break;
		case OPT_NO_SANDBOX:
			setup->no_sandbox = true;
			break;
		case OPT_LEVEL:
			if (log_level_parse(optarg, &setup->level) < 0) {
				fprintf(stderr, "vmxd: --log-level: no level \"%s\"\n", optarg);
				return 2;
			}
			break;
		case 'V':
			puts("vmxd " PACKAGE_VERSION);
			return 1;
		case 'h':
			usage(stdout);
			return 1;
		default:
			fputs("Try 'vmxd --help'.\n", stderr);
			return 2;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "vmxd: unexpected argument \"%s\"\n", argv[optind]);
		return 2;
	}
	return 0;
}

/* Beside this program (as in the build tree), else where it is installed. */
static char *find_machine(void)
{
	char self[PATH_MAX], *slash, *path;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
		if (slash && asprintf(&path, "%.*s/vmxd-machine", (int)(slash - self), self) >= 0) {
			if (access(path, X_OK) == 0)
				return path;
			free(path);
		}
	}
	return strdup(VMXD_LIBEXECDIR "/vmxd-machine");
}

static int fill_defaults(struct setup *setup)
{
	if (!setup->runtime)
		setup->runtime = path_default_runtime();
	if (!setup->state)
		setup->state = path_default_state();
	if (!setup->machine)
		setup->machine = find_machine();
	if (setup->runtime && !setup->socket &&
	    asprintf(&setup->socket, "%s/vmxd.sock", setup->runtime) < 0)
		setup->socket = NULL;
	if (setup->runtime && setup->state && setup->machine && setup->socket)
		return 0;
	fputs("vmxd: XDG_RUNTIME_DIR or HOME is not set: give --runtime-dir and --state-dir\n",
	      stderr);
	return -ENOENT;
}

static int take_lock(struct log *log, struct setup *setup, const char *what, const char *dir,
		     const char *suffix)
{
	char *path = NULL;
	pid_t pid = 0;
	int fd;

	if (asprintf(&path, "%s%s", dir, suffix) < 0)
		return -ENOMEM;
	fd = files_lock(path, &pid);
	/* A daemon that was killed while it started a process: that one has the lock until it is
	 * exec'd. */
	for (int i = 0; fd == -EBUSY && pid > 0 && kill(pid, 0) < 0 && errno == ESRCH && i < 200; i++) {
		usleep(10000);
		fd = files_lock(path, &pid);
	}
	if (fd == -EBUSY)
		log_line(log, LOG_LEVEL_ERROR, "another vmxd (pid %d) uses the %s %s", (int)pid,
			 what, dir);
	else if (fd < 0)
		log_line(log, LOG_LEVEL_ERROR, "%s: %s", path, strerror(-fd));
	else
		setup->locks[setup->lock_count++] = fd;
	free(path);
	return fd < 0 ? fd : 0;
}

static int make_dir(struct log *log, const char *path)
{
	int r = files_mkdir(path, 0700);

	if (r < 0)
		log_line(log, LOG_LEVEL_ERROR, "%s: %s", path, strerror(-r));
	return r;
}

/* Directories and locks: two daemons must not share any of them. */
static int take_places(struct log *log, struct setup *setup)
{
	int r = make_dir(log, setup->runtime);

	if (r == 0)
		r = make_dir(log, setup->state);
	if (r == 0)
		r = take_lock(log, setup, "socket", setup->socket, ".lock");
	if (r == 0)
		r = take_lock(log, setup, "runtime directory", setup->runtime, "/lock");
	if (r == 0)
		r = take_lock(log, setup, "state directory", setup->state, "/lock");
	return r;
}

static void fill_instance(char *text, size_t size)
{
	unsigned char bytes[16];
	size_t n = 0;

	if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
		memset(bytes, 0, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes) && n + 3 <= size; i++)
		n += (size_t)snprintf(text + n, size - n, "%02x", bytes[i]);
}

static void end_daemon(struct daemon *daemon)
{
	struct vm *vm;

	if (daemon->ending)
		return;
	daemon->ending = true;
	notify_stopping();
	server_stop(daemon->server);
	probe_stop(daemon->probe);
	while ((vm = TAILQ_FIRST(&daemon->vms)))
		vm_remove(vm);
	helpers_forget(daemon);
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct daemon *daemon = handle->data;
	unsigned running = 0;
	struct vm *vm;

	TAILQ_FOREACH(vm, &daemon->vms, entry)
		running += vm->link != NULL;
	log_line(daemon->log, LOG_LEVEL_NOTICE, "ending: %s; %u VM%s left running",
		 strsignal(number), running, running == 1 ? "" : "s");
	end_daemon(daemon);
	uv_stop(daemon->loop);
}

static void on_adopt_timeout(uv_timer_t *timer)
{
	(void)timer; /* only there to end the waiting */
}

static bool any_unknown(const struct daemon *daemon)
{
	const struct vm *vm;

	TAILQ_FOREACH(vm, &daemon->vms, entry)
		if (vm->link && !vm->reported_ns)
			return true;
	return false;
}

/* Finds the VMs that run since before, and learns how the others ended meanwhile. */
static void adopt(struct daemon *daemon)
{
	struct vm *vm, *next;
	uint64_t until = clock_monotonic_ns() + ADOPT_MS * 1000000ull;
	uv_timer_t timer;

	for (vm = TAILQ_FIRST(&daemon->vms); vm; vm = next) {
		json_object *final = NULL;

		next = TAILQ_NEXT(vm, entry);
		if (link_adopt(vm, &final) == 0) {
			vm->state = VM_STARTING; /* until it says more */
			nets_adopt(vm);
			vhosts_adopt(vm);
			continue;
		}
		if (final || json_get_bool(vm->config, "transient", false))
			vm_link_ended(vm, final, "is gone since the daemon's last run");
		json_object_put(final);
	}
	uv_timer_init(daemon->loop, &timer);
	uv_timer_start(&timer, on_adopt_timeout, ADOPT_MS, 0);
	while (any_unknown(daemon) && clock_monotonic_ns() < until)
		uv_run(daemon->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&timer, NULL);
	uv_run(daemon->loop, UV_RUN_NOWAIT);
	TAILQ_FOREACH(vm, &daemon->vms, entry) {
		if (!vm->link)
			continue;
		log_line(daemon->log, LOG_LEVEL_NOTICE, "vm %s: found again, process %d, %s",
			 vm->name, (int)link_pid(vm->link), vm_state_name(vm->state));
		if (vm->state == VM_STARTING) /* the last daemon ended before it said so */
			link_request(vm->link, "machine.start", NULL, NULL, NULL);
	}
}

static void close_handle(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static int serve(struct daemon *daemon, int listen_fd)
{
	static const int numbers[] = { SIGTERM, SIGINT, SIGHUP };
	uv_signal_t signals[ARRAY_SIZE(numbers)];
	int r = server_new(daemon, listen_fd, &daemon->server);

	if (r < 0) {
		log_line(daemon->log, LOG_LEVEL_ERROR, "%s: %s", daemon->options.socket,
			 strerror(-r));
		return r;
	}
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		uv_signal_init(daemon->loop, &signals[i]);
		signals[i].data = daemon;
		uv_signal_start(&signals[i], on_signal, numbers[i]);
	}
	r = server_start(daemon->server);
	if (r == 0) {
		log_line(daemon->log, LOG_LEVEL_NOTICE, "vmxd " PACKAGE_VERSION " listens on %s",
			 daemon->options.socket);
		notify_ready("Ready.");
		uv_run(daemon->loop, UV_RUN_DEFAULT);
	}
	end_daemon(daemon);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		uv_close((uv_handle_t *)&signals[i], NULL);
	while (uv_run(daemon->loop, UV_RUN_DEFAULT)) {
	}
	return r;
}

static int run(struct setup *setup, struct log *log, int listen_fd)
{
	struct daemon daemon = {
		.log = log,
		.options = { setup->socket, setup->runtime, setup->state, setup->machine,
			     setup->level, setup->no_sandbox,
			     /* a user may share what is his; root says what of all that is there */
			     geteuid() && !setup->share_root_count ? NULL : setup->share_roots },
		.started_ns = clock_monotonic_ns(),
	};
	struct sysinfo host;
	uv_loop_t loop;
	int r = uv_loop_init(&loop);

	if (r < 0)
		return r;
	tsc_sample(&daemon.tsc);
	daemon.loop = &loop;
	TAILQ_INIT(&daemon.vms);
	LIST_INIT(&daemon.helpers);
	fill_instance(daemon.instance, sizeof(daemon.instance));
	if (sysinfo(&host) == 0)
		daemon.host_memory = (uint64_t)host.totalram * host.mem_unit;
	daemon.events = events_new();
	daemon.probe = probe_new(&daemon);
	r = daemon.events && daemon.probe ? store_load(&daemon) : -ENOMEM;
	if (r == 0) {
		adopt(&daemon);
		r = serve(&daemon, listen_fd);
	} else {
		log_line(log, LOG_LEVEL_ERROR, "%s: %s", setup->state, strerror(-r));
	}
	daemon.server = server_free(daemon.server);
	daemon.probe = probe_free(daemon.probe);
	daemon.events = events_free(daemon.events);
	uv_walk(&loop, close_handle, NULL); /* none, unless the start failed half-way */
	uv_run(&loop, UV_RUN_DEFAULT);
	uv_loop_close(&loop);
	return r;
}

/* 0, 1, 2 open, so that no socket ever becomes one of them; every client costs a descriptor. */
static void prepare_process(void)
{
	struct rlimit files;
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	while (fd >= 0 && fd <= 2 && fcntl(fd, F_SETFD, 0) == 0);
	if (fd > 2)
		close(fd);
	signal(SIGPIPE, SIG_IGN);
	umask(0077);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max < 65536 ? files.rlim_max : 65536;
		setrlimit(RLIMIT_NOFILE, &files);
	}
}

int main(int argc, char **argv)
{
	struct setup setup = { .level = LOG_LEVEL_INFO };
	struct log *log = NULL;
	int listen_fd, status = EXIT_FAILURE, r = parse_options(argc, argv, &setup);

	if (r) {
		status = r == 1 ? EXIT_SUCCESS : 2;
		goto out;
	}
	listen_fd = notify_listen_fd();
	prepare_process();
	if (listen_fd < -1 || (listen_fd >= 0 && setup.socket_given)) {
		fputs(listen_fd < 0 ? "vmxd: what the service manager handed over is not one "
				      "listening unix socket\n" :
				      "vmxd: --socket cannot be used with socket activation\n",
		      stderr);
		goto out;
	}
	if (fill_defaults(&setup) < 0)
		goto out;
	log = log_new(STDERR_FILENO, setup.level, "vmxd");
	if (!log || take_places(log, &setup) < 0)
		goto out;
	r = run(&setup, log, listen_fd);
	if (r == 0)
		status = EXIT_SUCCESS;
out:
	while (setup.lock_count)
		close(setup.locks[--setup.lock_count]);
	log_free(log);
	free(setup.socket);
	free(setup.runtime);
	free(setup.state);
	free(setup.machine);
	while (setup.share_root_count)
		free(setup.share_roots[--setup.share_root_count]);
	return status;
}
