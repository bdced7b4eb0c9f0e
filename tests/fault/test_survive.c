/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's death and return: VMs run on and are found again; two daemons never share a place. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/checked.h"
#include "protocol/unix.h"
#include "tests/protocol/rig.h"

/* A zombie is gone: whether somebody collects it is init's affair. */
static bool alive(int64_t pid)
{
	char path[64], text[256] = "";
	const char *after;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) <= 0)
		text[0] = '\0';
	close(fd);
	after = strrchr(text, ')');
	return after && after[1] && after[2] != 'Z';
}

static int64_t pid_of(struct rig *rig, struct client *client, const char *name)
{
	char params[128];
	json_object *info = NULL;
	int64_t pid;

	snprintf(params, sizeof(params), "{\"name\":\"%s\"}", name);
	rig_call(rig, client, "vm.info", params, &info, NULL);
	pid = json_get_int(info, "pid", 0);
	json_object_put(info);
	return pid;
}

/* The caller's; it is attached until the VM's process drops it, with or without a daemon. */
static int console_of(struct rig *rig, struct client *client, const char *name)
{
	char params[128];

	snprintf(params, sizeof(params), "{\"name\":\"%s\",\"fd\":true}", name);
	rig_call(rig, client, "vm.console", params, NULL, NULL);
	return client_take_fd(client);
}

static bool says(struct rig *rig, struct client *client, const char *name, const char *ask,
		 const char *answer)
{
	int fd = console_of(rig, client, name);
	char line[512];

	raw_text(fd, ask);
	for (int i = 0; i < 100; i++)
		if (raw_line(fd, line, sizeof(line), 30000) <= 0 || strstr(line, answer))
			break;
	close(fd);
	return strstr(line, answer) != NULL;
}

static bool is(struct rig *rig, struct client *client, const char *name, const char *state)
{
	return strcmp(rig_state(rig, client, name), state) == 0;
}

/* A VM that ends while there is no daemon. */
struct unseen {
	const char *name, *last_word; /* to its console; NULL: it is killed */
	int64_t pid;
	int console;
};

static void unseen_start(struct rig *rig, struct client *client, struct unseen *vm)
{
	vm->pid = pid_of(rig, client, vm->name);
	vm->console = console_of(rig, client, vm->name);
	CHECK(rig, vm->pid > 1 && vm->console >= 0, "%s: no process or no console", vm->name);
}

static void unseen_end(struct rig *rig, struct unseen *vm)
{
	if (vm->last_word)
		raw_text(vm->console, vm->last_word);
	else if (vm->pid > 1)
		kill((pid_t)vm->pid, SIGKILL);
	for (int i = 0; i < 3000 && alive(vm->pid); i++)
		usleep(10000);
	CHECK(rig, !alive(vm->pid), "%s has not ended", vm->name);
	close(vm->console);
}

static bool has_pid_file(struct rig *rig, const char *name, int64_t pid)
{
	char path[160], text[64] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/run/vm/%s/pid", rig->dir, name);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;
	if (read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '\0';
	close(fd);
	return atoi(text) == pid;
}

static void delete_all(struct rig *rig, struct client *client)
{
	static const char *const names[] = { "live", "still", "brief", "dead", "idle" };
	char params[64];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(params, sizeof(params), "{\"name\":\"%s\"}", names[i]);
		CHECK(rig, rig_call(rig, client, "vm.delete", params, NULL, NULL) == 0, "delete %s",
		      names[i]);
	}
}

/* number: how the daemon goes. */
static void test_found_again(struct rig *rig, int number)
{
	struct unseen unseen[] = { { "brief", "crash\n", 0, -1 }, { "passing", "poweroff\n", 0, -1 },
				   { "dead", NULL, 0, -1 } };
	struct client *client = rig_client(rig);
	int64_t pid, paused;
	int status;

	CHECK(rig, rig_vm(rig, client, "live", "say=before shell"), "start");
	CHECK(rig, rig_vm(rig, client, "still", ""), "start");
	CHECK(rig, rig_vm(rig, client, "brief", "shell"), "start");
	CHECK(rig, rig_vm(rig, client, "dead", ""), "start");
	rig_call(rig, client, "vm.create", "{\"name\":\"idle\",\"kernel\":\"@K\"}", NULL, NULL);
	rig_call(rig, client, "vm.create", "{\"name\":\"passing\",\"kernel\":\"@K\",\"transient\":true,"
		 "\"engine\":\"soft\",\"cmdline\":\"shell\"}", NULL, NULL);
	rig_call(rig, client, "vm.start", "{\"name\":\"passing\"}", NULL, NULL);
	rig_call(rig, client, "vm.pause", "{\"name\":\"still\"}", NULL, NULL);
	pid = pid_of(rig, client, "live");
	paused = pid_of(rig, client, "still");
	for (size_t i = 0; i < ARRAY_SIZE(unseen); i++)
		unseen_start(rig, client, &unseen[i]);
	status = rig_end_daemon(rig, number);
	CHECK(rig, number == SIGKILL ? WIFSIGNALED(status) : WIFEXITED(status), "%#x", status);
	client_free(client);
	CHECK(rig, alive(pid), "the VM ended with the daemon");
	CHECK(rig, has_pid_file(rig, "live", pid), "no pid file");
	for (size_t i = 0; i < ARRAY_SIZE(unseen); i++)
		unseen_end(rig, &unseen[i]);
	rig_daemon(rig);
	client = rig_client(rig);
	CHECK(rig, is(rig, client, "live", "running none"), "live: %s", rig_state(rig, client, "live"));
	CHECK(rig, pid_of(rig, client, "live") == pid, "another process");
	CHECK(rig, says(rig, client, "live", "hello\n", "got: hello"), "its console");
	CHECK(rig, is(rig, client, "still", "paused none"), "still: %s",
	      rig_state(rig, client, "still"));
	CHECK(rig, pid_of(rig, client, "still") == paused, "another process");
	CHECK(rig, rig_call(rig, client, "vm.resume", "{\"name\":\"still\"}", NULL, NULL) == 0,
	      "resume");
	CHECK(rig, is(rig, client, "brief", "failed triple-fault"), "brief: %s",
	      rig_state(rig, client, "brief"));
	CHECK(rig, is(rig, client, "dead", "created none") ||
	      is(rig, client, "dead", "failed machine-died"), "dead: %s",
	      rig_state(rig, client, "dead"));
	CHECK(rig, is(rig, client, "idle", "created none"), "idle: %s", rig_state(rig, client, "idle"));
	CHECK(rig, is(rig, client, "passing", "gone"), "passing: %s",
	      rig_state(rig, client, "passing"));
	CHECK(rig, rig_call(rig, client, "vm.stop", "{\"name\":\"still\"}", NULL, NULL) == 0, "stop");
	CHECK(rig, rig_call(rig, client, "vm.kill", "{\"name\":\"live\"}", NULL, NULL) == 0, "kill");
	CHECK(rig, !alive(pid), "its process is still there");
	CHECK(rig, rig_call(rig, client, "vm.start", "{\"name\":\"dead\"}", NULL, NULL) == 0, "start");
	rig_call(rig, client, "vm.kill", "{\"name\":\"dead\"}", NULL, NULL);
	delete_all(rig, client);
	client_free(client);
}

/* kill -9 at random moments of starts and ends: whatever is there afterwards can be ended. */
static void test_any_moment(struct rig *rig)
{
	for (int i = 0; i < 12; i++) {
		struct client *client = rig_client(rig);
		json_object *params = json_object_new_object();
		int r;

		rig_call(rig, client, "vm.create", "{\"name\":\"any\",\"kernel\":\"@K\","
			 "\"engine\":\"soft\",\"cmdline\":\"sleep=20 shell\"}", NULL, NULL);
		json_add_str(params, "name", "any");
		client_send(client, "vm.start", params);
		usleep((useconds_t)(i * i * 250));
		rig_end_daemon(rig, SIGKILL);
		client_free(client);
		rig_daemon(rig);
		client = rig_client(rig);
		r = rig_call(rig, client, "vm.kill", "{\"name\":\"any\"}", NULL, NULL);
		CHECK(rig, r == 0 || r == -32002, "kill after %d us: %d", i * i * 250, r);
		CHECK(rig, rig_call(rig, client, "vm.start", "{\"name\":\"any\"}", NULL, NULL) == 0,
		      "start after %d us", i * i * 250);
		rig_call(rig, client, "vm.kill", "{\"name\":\"any\"}", NULL, NULL);
		CHECK(rig, rig_call(rig, client, "vm.delete", "{\"name\":\"any\"}", NULL, NULL) == 0,
		      "delete");
		client_free(client);
	}
}

/* Starts a further vmxd with these arguments; its exit status, -1 if it went on. */
static int second(const char *socket, const char *runtime, const char *state)
{
	const char *dir = getenv("VMXD_BUILDDIR");
	char vmxd[512];
	int status = -1;
	pid_t pid;

	snprintf(vmxd, sizeof(vmxd), "%s/vmxd", dir ? dir : ".");
	pid = fork();
	if (pid == 0) {
		dup2(open("/dev/null", O_WRONLY), 2);
		execl(vmxd, "vmxd", "--socket", socket, "--runtime-dir", runtime, "--state-dir", state,
		      (char *)NULL);
		_exit(127);
	}
	for (int i = 0; i < 1500; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
		usleep(20000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -1;
}

static void test_second(struct rig *rig)
{
	char socket[128], runtime[128], state[128], other[4][160];
	struct client *client;

	snprintf(socket, sizeof(socket), "%s", rig->socket);
	snprintf(runtime, sizeof(runtime), "%s/run", rig->dir);
	snprintf(state, sizeof(state), "%s/state", rig->dir);
	snprintf(other[0], sizeof(other[0]), "%s/x.sock", rig->dir);
	snprintf(other[1], sizeof(other[1]), "%s/xrun", rig->dir);
	snprintf(other[2], sizeof(other[2]), "%s/xstate", rig->dir);
	CHECK(rig, second(socket, runtime, state) == 1, "the same everything");
	CHECK(rig, second(socket, other[1], other[2]) == 1, "the same socket");
	CHECK(rig, second(other[0], runtime, other[2]) == 1, "the same runtime directory");
	CHECK(rig, second(other[0], other[1], state) == 1, "the same state directory");
	CHECK(rig, second(other[0], other[1], other[2]) == -1, "nothing in common");
	client = rig_client(rig);
	CHECK(rig, rig_call(rig, client, "vm.list", NULL, NULL, NULL) == 0, "the first goes on");
	client_free(client);
}

/* Files in the state directory that are none of ours, or broken, are left alone. */
static void test_broken_state(struct rig *rig)
{
	static const char *const texts[] = {
		"", "{", "[]", "{\"version\":9}", "{\"version\":1,\"config\":{\"name\":\"other\"}}",
		"{\"version\":1,\"config\":{\"name\":\"broken\",\"kernel\":\"/k\",\"cpus\":1000}}",
		"{\"version\":1,\"config\":{\"name\":\"other\",\"kernel\":\"/k\"}}",
	};
	struct client *client;
	char path[160];

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		int fd;

		snprintf(path, sizeof(path), "%s/state/vm/broken.json", rig->dir);
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		CHECK(rig, fd >= 0 && write(fd, texts[i], strlen(texts[i])) == (ssize_t)strlen(texts[i]),
		      "%s", path);
		close(fd);
		rig_end_daemon(rig, SIGTERM);
		rig_daemon(rig);
		client = rig_client(rig);
		CHECK(rig, strcmp(rig_state(rig, client, "broken"), "gone") == 0, "%s", texts[i]);
		client_free(client);
		CHECK(rig, access(path, F_OK) == 0, "it was removed");
	}
	unlink(path);
}

/* The service manager's part: a socket made by it, readiness told to it. */
static void test_activation(struct rig *rig)
{
	struct sockaddr_un manager = { .sun_family = AF_UNIX };
	char path[160], text[256] = "", runtime[160], state[160], vmxd[512];
	const char *dir = getenv("VMXD_BUILDDIR");
	struct client *client = NULL;
	int ready, status = -1;
	ssize_t n;
	pid_t pid;

	snprintf(vmxd, sizeof(vmxd), "%s/vmxd", dir ? dir : ".");
	snprintf(path, sizeof(path), "%s/given.sock", rig->dir);
	snprintf(runtime, sizeof(runtime), "%s/arun", rig->dir);
	snprintf(state, sizeof(state), "%s/astate", rig->dir);
	snprintf(manager.sun_path, sizeof(manager.sun_path), "%.80s/notify", rig->dir);
	ready = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	CHECK(rig, bind(ready, (struct sockaddr *)&manager, sizeof(manager)) == 0, "bind");
	pid = fork();
	if (pid == 0) {
		int fd = unix_listen(path, 0600, 8);

		dup2(fd, 3);
		fcntl(3, F_SETFD, 0);
		snprintf(text, sizeof(text), "%d", (int)getpid());
		setenv("LISTEN_PID", text, 1);
		setenv("LISTEN_FDS", "1", 1);
		setenv("NOTIFY_SOCKET", manager.sun_path, 1);
		dup2(open("/dev/null", O_WRONLY), 2);
		execl(vmxd, "vmxd", "--runtime-dir", runtime, "--state-dir", state, (char *)NULL);
		_exit(127);
	}
	n = recv(ready, text, sizeof(text) - 1, 0);
	CHECK(rig, n > 0 && strncmp(text, "READY=1\n", 8) == 0, "told: %s", text);
	CHECK(rig, client_new(path, &client) == 0 &&
	      rig_call(rig, client, "vm.list", NULL, NULL, NULL) == 0, "on the given socket");
	client_free(client);
	kill(pid, SIGTERM);
	memset(text, 0, sizeof(text));
	n = recv(ready, text, sizeof(text) - 1, 0);
	CHECK(rig, n > 0 && strcmp(text, "STOPPING=1") == 0, "told: %s", text);
	waitpid(pid, &status, 0);
	CHECK(rig, status == 0, "%#x", status);
	CHECK(rig, access(path, F_OK) == 0, "the manager's socket was removed");
	close(ready);
}

int main(void)
{
	struct rig rig;

	rig_init(&rig);
	test_second(&rig);
	test_activation(&rig);
	test_found_again(&rig, SIGKILL);
	test_found_again(&rig, SIGTERM);
	test_any_moment(&rig);
	test_broken_state(&rig);
	return rig_finish(&rig);
}
