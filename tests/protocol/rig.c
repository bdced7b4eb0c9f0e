/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/protocol/rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "protocol/unix.h"

void rig_check(struct rig *rig, bool fine, const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	if (fine) {
		rig->passed++;
		return;
	}
	rig->failed++;
	printf("FAILED %s:%d: ", file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
}

static const char *build_dir(void)
{
	const char *dir = getenv("VMXD_BUILDDIR");

	return dir ? dir : ".";
}

static void make_kernel(const char *path)
{
	char image[8192] = "";
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	image[0x1fe] = 0x55;
	image[0x1ff] = (char)0xaa;
	memcpy(image + 0x202, "HdrS", 4);
	if (fd < 0 || write(fd, image, sizeof(image)) != (ssize_t)sizeof(image)) {
		perror(path);
		exit(1);
	}
	close(fd);
}

/* A daemon that was killed while it started a process leaves its socket to that one for a moment. */
static bool is_from(int fd, pid_t daemon)
{
	struct ucred who;
	socklen_t len = sizeof(who);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &len) == 0 && who.pid == daemon;
}

void rig_daemon(struct rig *rig)
{
	char vmxd[512], machine[512], runtime[96], state[96], log[96];

	snprintf(vmxd, sizeof(vmxd), "%s/vmxd", build_dir());
	snprintf(machine, sizeof(machine), "%s/vmxd-machine-fake", build_dir());
	snprintf(runtime, sizeof(runtime), "%s/run", rig->dir);
	snprintf(state, sizeof(state), "%s/state", rig->dir);
	snprintf(log, sizeof(log), "%s/log", rig->dir);
	rig->daemon = fork();
	if (rig->daemon == 0) {
		int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

		dup2(fd, 2);
		fd = open("/dev/null", O_RDWR);
		dup2(fd, 0);
		dup2(fd, 1);
		for (fd = 3; fd < 256; fd++)
			close(fd);
		execl(vmxd, "vmxd", "--socket", rig->socket, "--runtime-dir", runtime,
		      "--state-dir", state, "--machine-program", machine, "--log-level", "debug",
		      "--share-root", rig->dir, "--share-root", "/proc",
		      (char *)NULL);
		_exit(127);
	}
	for (int i = 0; i < 1000; i++) {
		int fd = unix_connect(rig->socket, 0);

		if (fd >= 0 && is_from(fd, rig->daemon)) {
			close(fd);
			return;
		}
		if (fd >= 0)
			close(fd);
		if (waitpid(rig->daemon, NULL, WNOHANG) == rig->daemon)
			break;
		usleep(20000);
	}
	fprintf(stderr, "%s does not listen; see %s\n", vmxd, log);
	exit(1);
}

void rig_init(struct rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	signal(SIGPIPE, SIG_IGN);
	snprintf(rig->dir, sizeof(rig->dir), "/tmp/vmxd-test-XXXXXX");
	if (!mkdtemp(rig->dir)) {
		perror("mkdtemp");
		exit(1);
	}
	snprintf(rig->socket, sizeof(rig->socket), "%s/vmxd.sock", rig->dir);
	snprintf(rig->kernel, sizeof(rig->kernel), "%s/kernel", rig->dir);
	make_kernel(rig->kernel);
	rig_daemon(rig);
}

int rig_end_daemon(struct rig *rig, int number)
{
	int status = -1;

	kill(rig->daemon, number);
	for (int i = 0; i < 3000; i++) {
		if (waitpid(rig->daemon, &status, WNOHANG) == rig->daemon)
			return status;
		usleep(10000);
	}
	kill(rig->daemon, SIGKILL);
	waitpid(rig->daemon, &status, 0);
	return -1; /* it did not end by itself */
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void kill_vms(struct rig *rig)
{
	struct client *client = rig_client(rig);
	json_object *list = NULL, *vms;
	struct rpc_error error;

	if (client_call(client, "vm.list", NULL, 10000, &list, &error) == 0) {
		vms = json_get(list, "vms");
		for (size_t i = 0; i < json_object_array_length(vms); i++) {
			json_object *result = NULL, *params = json_object_new_object();

			json_add_str(params, "name",
				     json_get_str(json_object_array_get_idx(vms, i), "name", ""));
			client_call(client, "vm.kill", params, 20000, &result, &error);
			json_object_put(result);
		}
		json_object_put(list);
	}
	client_free(client);
}

/* AddressSanitizer and valgrind speak through the daemon's log. */
static bool log_clean(const struct rig *rig)
{
	char command[160];

	snprintf(command, sizeof(command),
		 "grep -E 'Sanitizer|runtime error|==[0-9]+== (Invalid|[0-9,]+ bytes)' %s/log >&2",
		 rig->dir);
	return system(command) != 0;
}

int rig_finish(struct rig *rig)
{
	int status;

	kill_vms(rig);
	status = rig_end_daemon(rig, SIGTERM);
	CHECK(rig, WIFEXITED(status) && WEXITSTATUS(status) == 0, "vmxd ended with %#x", status);
	CHECK(rig, access(rig->socket, F_OK) < 0, "the socket is still there");
	CHECK(rig, log_clean(rig), "a checker complained");
	if (rig->failed) {
		char command[128];

		snprintf(command, sizeof(command), "tail -n 60 %s/log", rig->dir);
		if (system(command) != 0)
			puts("no log");
	}
	nftw(rig->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	printf("%u passed, %u failed, %u skipped\n", rig->passed, rig->failed, rig->skipped);
	return rig->failed || !rig->passed;
}

struct client *rig_client(struct rig *rig)
{
	struct client *client;

	for (int i = 0; i < 3000; i++) {
		if (client_new(rig->socket, &client) == 0)
			return client;
		usleep(10000);
	}
	fprintf(stderr, "cannot connect to %s\n", rig->socket);
	exit(1);
}

static json_object *expand(const struct rig *rig, const char *text)
{
	char out[8192];
	json_object *object = NULL;
	size_t n = 0;

	for (; *text && n < sizeof(out) - 128; text++) {
		if (text[0] == '@' && (text[1] == 'K' || text[1] == 'D'))
			n += (size_t)snprintf(out + n, sizeof(out) - n, "%s",
					      *++text == 'K' ? rig->kernel : rig->dir);
		else
			out[n++] = *text;
	}
	if (json_parse(out, n, &object, NULL, 0) < 0)
		fprintf(stderr, "not JSON: %.*s\n", (int)n, out);
	return object;
}

int rig_call(struct rig *rig, struct client *client, const char *method, const char *params,
	     json_object **ret_result, struct rpc_error *ret_error)
{
	struct rpc_error error = { .code = 0 };
	json_object *result = NULL;
	int r = client_call(client, method, params ? expand(rig, params) : NULL, 30000, &result,
			    &error);

	if (ret_error)
		*ret_error = error;
	if (r == 0 && ret_result)
		*ret_result = result;
	else
		json_object_put(result);
	return r == 0 ? 0 : r == -EREMOTE ? error.code : r;
}

bool rig_vm(struct rig *rig, struct client *client, const char *name, const char *script)
{
	char params[1024];
	struct rpc_error error;
	int r;

	snprintf(params, sizeof(params),
		 "{\"name\":\"%s\",\"kernel\":\"@K\",\"engine\":\"soft\",\"memory\":\"64M\","
		 "\"cmdline\":\"%s\"}", name, script);
	r = rig_call(rig, client, "vm.create", params, NULL, &error);
	if (r == 0) {
		snprintf(params, sizeof(params), "{\"name\":\"%s\"}", name);
		r = rig_call(rig, client, "vm.start", params, NULL, &error);
	}
	if (r)
		printf("%s: %d %s\n", name, r, error.message);
	return r == 0;
}

const char *rig_state(struct rig *rig, struct client *client, const char *name)
{
	static char text[128];
	char params[128];
	json_object *info = NULL;

	snprintf(params, sizeof(params), "{\"name\":\"%s\"}", name);
	if (rig_call(rig, client, "vm.info", params, &info, NULL))
		snprintf(text, sizeof(text), "gone");
	else
		snprintf(text, sizeof(text), "%s %s", json_get_str(info, "state", "?"),
			 json_get_str(info, "reason", "?"));
	json_object_put(info);
	return text;
}

int rig_connect(struct rig *rig)
{
	int fd = unix_connect(rig->socket, 0);

	if (fd < 0) {
		fprintf(stderr, "%s: %s\n", rig->socket, strerror(-fd));
		exit(1);
	}
	return fd;
}

void raw_send(int fd, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		bytes += n;
		len -= (size_t)n;
	}
}

void raw_text(int fd, const char *text)
{
	raw_send(fd, text, strlen(text));
}

ssize_t raw_line(int fd, char *buf, size_t size, int timeout_ms)
{
	size_t n = 0;

	for (;;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		char c;
		ssize_t r;

		if (poll(&p, 1, timeout_ms) != 1)
			return -1;
		r = recv(fd, &c, 1, 0);
		if (r <= 0)
			return 0;
		if (c == '\n')
			break;
		if (n < size - 1)
			buf[n++] = c;
	}
	buf[n] = '\0';
	return (ssize_t)n;
}

int raw_code(int fd)
{
	static char line[2 * 1024 * 1024];
	json_object *message = NULL;
	int code = 1;
	ssize_t n = raw_line(fd, line, sizeof(line), 10000);

	if (n > 0 && json_parse(line, (size_t)n, &message, NULL, 0) == 0)
		code = (int)json_get_int(json_get(message, "error"), "code", 0);
	json_object_put(message);
	return code;
}

int count_fds(pid_t pid)
{
	char path[64];
	int n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}
