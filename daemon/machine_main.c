/* SPDX-License-Identifier: Apache-2.0 */
/* machine_main.c - vmxd-machine: takes what it was handed, makes the board, serves until its end. */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/launch.h"
#include "daemon/machine.h"

#define CONFIG_MAX ((size_t)1024 * 1024)

/* Any of the board's threads. */
void machine_board_changed(void *opaque)
{
	struct machine *m = opaque;

	uv_async_send(&m->changed);
}

json_object *machine_current(struct machine *m)
{
	struct board_info info;

	if (!m->board)
		return json_object_new_object();
	board_info(m->board, &info);
	return machine_report(m, &info);
}

static void write_status(const struct machine *m, json_object *final)
{
	const char *text = json_text(final);
	size_t len = strlen(text);

	if (ftruncate(m->status_fd, 0) < 0 ||
	    pwrite(m->status_fd, text, len, 0) != (ssize_t)len)
		log_line(m->log, LOG_LEVEL_ERROR, "the status file cannot be written: %s",
			 strerror(errno));
}

static void on_console_done(void *opaque)
{
	struct machine *m = opaque;

	control_stop(m->control);
	uv_stop(m->loop);
}

/* The board came to its end: its threads are joined, everything it said is passed on, its end is
 * written down, and then this process ends. */
static void finish(struct machine *m, const struct board_info *info)
{
	json_object *final;

	m->ended = true;
	log_line(m->log, info->state == BOARD_FAILED ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO,
		 "ended: %s%s%s", board_stop_name(info->stop), info->detail[0] ? ": " : "",
		 info->detail);
	board_destroy(m->board); /* closes its end of the console */
	m->board = NULL;
	if (m->console)
		console_drain(m->console);
	final = machine_report(m, info);
	control_tell(m->control, json_object_get(final));
	write_status(m, final);
	json_object_put(final);
	if (m->console)
		console_finish(m->console, on_console_done, m);
	else
		on_console_done(m);
}

/* The guest wants to reach a port of the host: what is behind it the daemon opens. One at a time, so
 * that a guest keeps the daemon no busier than a client could. */
static void connect_for_guest(struct machine *m)
{
	json_object *params;
	uint32_t id, port;

	if (!board_vsock_wanted(m->board, &id, &port))
		return;
	params = json_object_new_object();
	json_add_int(params, "id", id);
	json_add_int(params, "port", port);
	if (!control_ask(m->control, "machine.vsock_connect", params))
		board_vsock_answer(m->board, id, -ENOTCONN);
}

static void on_changed(uv_async_t *async)
{
	struct machine *m = async->data;
	struct board_info info;

	if (!m->board || m->ended)
		return;
	board_settle(m->board);
	connect_for_guest(m);
	board_info(m->board, &info);
	if (info.state == BOARD_RUNNING || info.state == BOARD_PAUSED || info.run_ns)
		m->ran = true;
	if (m->ran)
		sandbox_guest_runs(m->sandbox);
	if (info.state == BOARD_STOPPED || info.state == BOARD_FAILED) {
		finish(m, &info);
		return;
	}
	if (info.state == m->told && info.resets == m->told_resets &&
	    info.links == m->told_links && info.stalls == m->told_stalls &&
	    info.plugs == m->told_plugs && info.peers == m->told_peers &&
	    (info.boot_ns != 0) == m->told_boot)
		return;
	m->told_boot = info.boot_ns != 0;
	m->told_peers = info.peers;
	m->told_plugs = info.plugs;
	m->told = info.state;
	m->told_resets = info.resets;
	m->told_links = info.links;
	m->told_stalls = info.stalls;
	control_tell(m->control, machine_report(m, &info));
}

void machine_kill(struct machine *m)
{
	if (!m->board || m->ended)
		return;
	if (board_kill(m->board) < 0) {
		struct board_info info;

		board_info(m->board, &info);
		info.state = BOARD_STOPPED;
		info.stop = BOARD_STOP_KILLED;
		finish(m, &info);
	}
}

static void on_signal(uv_signal_t *handle, int number)
{
	struct machine *m = handle->data;

	log_line(m->log, LOG_LEVEL_NOTICE, "ending: %s", strsignal(number));
	machine_kill(m);
}

static json_object *read_config(void)
{
	char *text = malloc(CONFIG_MAX);
	json_object *config = NULL;
	ssize_t n = text ? pread(MACHINE_FD_CONFIG, text, CONFIG_MAX, 0) : -1;

	if (n > 0 && json_parse(text, (size_t)n, &config, NULL, 0) < 0)
		config = NULL;
	free(text);
	close(MACHINE_FD_CONFIG);
	return config;
}

/* Nothing but what was handed over stays open, nothing of it reaches a program that is exec'd. */
static int close_rest(json_object *config)
{
	json_object *nets = json_get(config, "nets"),
		    *handed = json_get(config, "handed");
	unsigned first = MACHINE_FD_FILES + 1 + json_get_bool(config, "initrd", false) +
			 (unsigned)json_get_int(config, "disk_files", 0) +
			 (unsigned)(handed ? json_object_array_length(handed) : 0);

	for (size_t i = 0; nets && i < json_object_array_length(nets); i++)
		first += (unsigned)json_get_int(json_object_array_get_idx(nets, i), "fds", 0);
	if (syscall(SYS_close_range, first, ~0u, 0) < 0 && errno == ENOSYS)
		for (unsigned fd = first; fd < 1024; fd++)
			close((int)fd);
	for (unsigned fd = MACHINE_FD_CONTROL; fd < first; fd++)
		if (fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
			return -errno;
	return 0;
}

static void begin_thread(void *opaque, enum thread_kind kind)
{
	struct machine *m = opaque;

	sandbox_thread(m->sandbox, kind);
}

/* What shared directories need of the host while there are files to open, and later in the sandbox. */
static int open_shares(struct machine *m, struct sandbox_options *options)
{
	json_object *shares = json_get(m->config, "shares");
	size_t n = shares ? json_object_array_length(shares) : 0;

	if (!n)
		return 0;
	if (n > SANDBOX_SHARES_MAX)
		return -EINVAL;
	m->proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (m->proc_fd < 0)
		return -errno;
	options->proc_fd = m->proc_fd;
	for (size_t i = 0; i < n; i++) {
		json_object *share = json_object_array_get_idx(shares, i);

		options->shares[i].fd = machine_share_fd(m, i);
		options->shares[i].readonly = json_get_bool(share, "readonly", false);
	}
	options->share_count = n;
	return 0;
}

/* Before there is a second thread, and anything of the guest's is looked at. */
static int confine(struct machine *m, char **ret_error)
{
	struct sandbox_options options = { .status_fd = m->status_fd };
	int r;

	*ret_error = NULL;
	machine_thread_take_turns(m->log, (unsigned)json_get_int(m->config, "cpus", 1));
	m->threads = (struct thread_hook){ .begin = begin_thread, .opaque = m };
	if (strcmp(json_get_str(m->config, "engine", ""), "kvm") == 0) {
		options.kvm = true;
		m->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
		if (m->kvm_fd < 0)
			m->kvm_fd = 0; /* the engine says what is wrong with it */
	}
	options.proc_fd = -1;
	r = open_shares(m, &options);
	if (r < 0)
		return r;
	if (!json_get_bool(m->config, "sandbox", true)) {
		struct rlimit none = { 0, 0 };

		log_line(m->log, LOG_LEVEL_WARNING, "no sandbox: vmxd was started with --no-sandbox");
		setrlimit(RLIMIT_CORE, &none); /* a core file would hold the guest's registers */
		return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
	}
	options.report = machine_report_base(m, "failed", "sandbox-violation", "");
	json_object_object_del(options.report, "detail"); /* known when it happens */
	json_object_object_del(options.report, "ran");
	r = sandbox_create(&options, &m->sandbox, ret_error);
	json_object_put(options.report);
	return r;
}

static int make_console(struct machine *m, int *ret_guest_fd)
{
	int pair[2] = { -1, -1 }, r;

	*ret_guest_fd = -1;
	if (!json_get_bool(m->config, "console", true)) {
		close(MACHINE_FD_CONSOLE);
		return 0;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
		close(MACHINE_FD_CONSOLE);
		return -errno;
	}
	r = console_new(m->loop, pair[0], MACHINE_FD_CONSOLE, &m->console);
	if (r < 0)
		close(pair[1]);
	else
		*ret_guest_fd = pair[1];
	return r;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
	(void)arg;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

/* Where the time from vm.start to the first guest instruction goes: vmxd --log-level=debug. */
static void mark(const struct machine *m, const char *what)
{
	log_since(m->log, (uint64_t)json_get_int(m->config, "asked_ns", 0), what);
}

/* No board: the daemon learns why from the status file, and there is nothing to serve. */
static int fail_boot(struct machine *m, int r, char *why)
{
	json_object *final = machine_boot_failure(m, r, why);

	log_line(m->log, LOG_LEVEL_ERROR, "cannot start: %s", why ? why : strerror(-r));
	write_status(m, final);
	json_object_put(final);
	free(why);
	uv_walk(m->loop, close_handle, NULL);
	uv_run(m->loop, UV_RUN_DEFAULT);
	return 1;
}

static int serve(struct machine *m)
{
	uv_signal_t terminate;
	char *why = NULL;
	int guest_fd = -1, r;

	uv_async_init(m->loop, &m->changed, on_changed);
	m->changed.data = m;
	mark(m, "process and configuration");
	r = confine(m, &why);
	mark(m, "sandbox");
	if (r == 0)
		r = make_console(m, &guest_fd);
	if (r == 0) {
		r = machine_make_board(m, guest_fd, &why);
		if (r < 0 && guest_fd >= 0)
			close(guest_fd);
	}
	if (r < 0)
		return fail_boot(m, r, why);
	r = control_new(m, MACHINE_FD_CONTROL, &m->control);
	if (r < 0)
		return fail_boot(m, r, NULL);
	uv_signal_init(m->loop, &terminate);
	terminate.data = m;
	uv_signal_start(&terminate, on_signal, SIGTERM);
	sandbox_thread(m->sandbox, THREAD_CONTROL);
	mark(m, "control socket");
	uv_run(m->loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&terminate, NULL);
	uv_close((uv_handle_t *)&m->changed, NULL);
	uv_run(m->loop, UV_RUN_DEFAULT);
	return 0;
}

static int run(const char *name)
{
	struct machine m = { .name = name, .status_fd = MACHINE_FD_STATUS };
	char prefix[80];
	uv_loop_t loop;
	int status = 1;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	umask(0077);
	m.config = read_config();
	if (!m.config || close_rest(m.config) < 0) {
		fputs("vmxd-machine: this program is started by vmxd\n", stderr);
		json_object_put(m.config);
		return 2;
	}
	snprintf(prefix, sizeof(prefix), "vm %s", name);
	m.log = log_new(STDERR_FILENO,
			(enum log_level)json_get_int(m.config, "log_level", LOG_LEVEL_INFO), prefix);
	m.loop = &loop;
	setenv("UV_USE_IO_URING", "0", 1); /* of the event library: the sandbox has no use for it */
	if (uv_loop_init(&loop) == 0)
		status = serve(&m);
	board_destroy(m.board);
	m.control = control_free(m.control);
	m.console = console_free(m.console);
	uv_loop_close(&loop);
	if (m.kvm_fd > 0)
		close(m.kvm_fd);
	if (m.proc_fd > 0)
		close(m.proc_fd);
	m.sandbox = sandbox_free(m.sandbox);
	log_free(m.log);
	json_object_put(m.plugged);
	json_object_put(m.config);
	return status;
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "--probe") == 0)
		return machine_probe();
	if (argc == 2 && strcmp(argv[1], "--version") == 0) {
		puts("vmxd-machine " PACKAGE_VERSION);
		return 0;
	}
	if (argc != 2 || argv[1][0] == '-') {
		fputs("vmxd-machine: runs one VM; started by vmxd, see vmxd(8)\n", stderr);
		return 2;
	}
	return run(argv[1]);
}
