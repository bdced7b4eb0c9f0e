/* SPDX-License-Identifier: Apache-2.0 */
/* Disks, network cards and vhost-user devices that come and go: the API, a guest that does not let go, a daemon killed at
 * every step. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/checked.h"
#include "tests/protocol/rig.h"

/* All kinds go through all of it. What is behind a unit is a file in the rig's directory: an image, a socket
 * that is waited at, or one that is connected to. */
static const struct kind {
	const char *word, *list, *unit;
	const char *first; /* id of the first that gets none */
	int fds;           /* that the daemon keeps for each */
	bool shared;       /* nobody has it alone */
} disk = { "disk", "disks", "\"path\":\"%s/%s\"", "disk0", 0, false },
  net = { "net", "nets", "\"kind\":\"stream\",\"listen\":true,\"path\":\"%s/%s.sock\"", "net0", 1, false },
  vhost = { "vhost", "vhost_user", "\"device\":\"blk\",\"socket\":\"%s/%s.peer\"", "vhost0", 0, true };

/* "ID:STATE ID:STATE", as vm.disk_list has them; static. */
static const char *units(struct rig *rig, struct client *client, const struct kind *kind,
			 const char *name)
{
	static char text[2048];
	json_object *result = NULL, *list;
	char method[32], params[128];

	snprintf(method, sizeof(method), "vm.%s_list", kind->word);
	snprintf(params, sizeof(params), "{\"name\":\"%s\"}", name);
	text[0] = '\0';
	if (rig_call(rig, client, method, params, &result, NULL) != 0)
		return "error";
	list = json_get(result, kind->list);
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object *unit = json_object_array_get_idx(list, i);
		size_t len = strlen(text);

		snprintf(text + len, sizeof(text) - len, "%s%s:%s", i ? " " : "",
			 json_get_str(unit, "id", "?"), json_get_str(unit, "state", "?"));
	}
	json_object_put(result);
	return text;
}

/* What is kept: the ids in the file, in order. */
static const char *kept(struct rig *rig, const struct kind *kind, const char *name)
{
	static char text[2048];
	char path[160], bytes[8192] = "";
	json_object *file = NULL, *list;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/state/vm/%s.json", rig->dir, name);
	fd = open(path, O_RDONLY);
	n = fd < 0 ? -1 : read(fd, bytes, sizeof(bytes));
	if (fd >= 0)
		close(fd);
	text[0] = '\0';
	if (n <= 0 || json_parse(bytes, (size_t)n, &file, NULL, 0) < 0)
		return "no file";
	list = json_get(json_get(file, "config"), kind->list);
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		size_t len = strlen(text);

		snprintf(text + len, sizeof(text) - len, "%s%s", i ? " " : "",
			 json_get_str(json_object_array_get_idx(list, i), "id", "?"));
	}
	json_object_put(file);
	return text;
}

/* The parameters of an addition; static. */
static const char *add_params(struct rig *rig, const struct kind *kind, const char *name,
			      const char *file, const char *id)
{
	static char params[512];
	char unit[300];

	snprintf(unit, sizeof(unit), kind->unit, rig->dir, file);
	snprintf(params, sizeof(params), "{\"name\":\"%s\",\"%s\":{%s%s%s%s}}", name, kind->word, unit,
		 *id ? ",\"id\":\"" : "", id, *id ? "\"" : "");
	return params;
}

static int add(struct rig *rig, struct client *client, const struct kind *kind, const char *name,
	       const char *file, const char *id, struct rpc_error *error)
{
	char method[32];

	snprintf(method, sizeof(method), "vm.%s_add", kind->word);
	return rig_call(rig, client, method, add_params(rig, kind, name, file, id), NULL, error);
}

static int take_out(struct rig *rig, struct client *client, const struct kind *kind,
		    const char *name, const char *id, const char *more, struct rpc_error *error)
{
	char method[32], params[256];

	snprintf(method, sizeof(method), "vm.%s_remove", kind->word);
	snprintf(params, sizeof(params), "{\"name\":\"%s\",\"id\":\"%s\"%s}", name, id, more);
	return rig_call(rig, client, method, params, NULL, error);
}

static bool is(const char *got, const char *want)
{
	if (strcmp(got, want) == 0)
		return true;
	printf("got \"%s\", wanted \"%s\"\n", got, want);
	return false;
}

static void test_stopped(struct rig *rig, struct client *client)
{
	struct rpc_error error;

	CHECK(rig, rig_call(rig, client, "vm.create", "{\"name\":\"s\",\"kernel\":\"@K\",\"engine\":\"soft\","
			    "\"disks\":[{\"path\":\"@D/a\",\"id\":\"disk1\"},{\"path\":\"@D/b\"}]}",
			    NULL, NULL) == 0, "create");
	CHECK(rig, is(units(rig, client, &disk, "s"), "disk1:configured disk0:configured"), "ids");
	CHECK(rig, add(rig, client, &disk, "s", "c", "", &error) == 0, "%s", error.message);
	CHECK(rig, is(kept(rig, &disk, "s"), "disk1 disk0 disk2"), "kept");
	CHECK(rig, add(rig, client, &disk, "s", "c", "disk1", &error) == RPC_EXISTS, "same id");
	CHECK(rig, add(rig, client, &disk, "s", "nothing", "", &error) == RPC_INVALID_PARAMS &&
	      strcmp(error.field, "disk.path") == 0, "%s", error.field);
	CHECK(rig, take_out(rig, client, &disk, "s", "disk7", "", &error) == RPC_INVALID_PARAMS, "no such");
	CHECK(rig, take_out(rig, client, &disk, "s", "disk0", "", &error) == 0, "%s", error.message);
	CHECK(rig, is(kept(rig, &disk, "s"), "disk1 disk2"), "kept");
	CHECK(rig, add(rig, client, &disk, "none", "a", "", &error) == RPC_NO_SUCH_VM, "no VM");
	CHECK(rig, rig_call(rig, client, "vm.create", "{\"name\":\"t\",\"kernel\":\"@K\",\"disks\":"
			    "[{\"path\":\"@D/a\",\"id\":\"x\"},{\"path\":\"@D/b\",\"id\":\"x\"}]}",
			    NULL, &error) == RPC_INVALID_PARAMS &&
	      strcmp(error.field, "disks[1].id") == 0, "two of one id: %s", error.field);
	CHECK(rig, rig_call(rig, client, "vm.start", "{\"name\":\"s\"}", NULL, NULL) == 0, "start");
	CHECK(rig, is(units(rig, client, &disk, "s"), "disk1:attached disk2:attached"), "attached");
	rig_call(rig, client, "vm.kill", "{\"name\":\"s\"}", NULL, NULL);
	rig_call(rig, client, "vm.delete", "{\"name\":\"s\"}", NULL, NULL);
}

/* A VM that has none. */
static bool bare_vm(struct rig *rig, struct client *client, const char *name)
{
	struct rpc_error error;

	return rig_vm(rig, client, name, "") &&
	       take_out(rig, client, &net, name, "net0", "", &error) == 0;
}

static void test_running(struct rig *rig, struct client *client, const struct kind *kind)
{
	struct rpc_error error;
	char attached[32];
	int fds;

	CHECK(rig, bare_vm(rig, client, "r"), "start");
	fds = count_fds(rig->daemon);
	snprintf(attached, sizeof(attached), "%s:attached", kind->first);
	CHECK(rig, add(rig, client, kind, "r", "a", "", &error) == 0, "%s", error.message);
	CHECK(rig, is(units(rig, client, kind, "r"), attached), "attached");
	CHECK(rig, is(kept(rig, kind, "r"), kind->first), "kept");
	CHECK(rig, kind->shared || add(rig, client, kind, "r", "a", "again", &error) == RPC_BUSY,
	      "locked: %s", error.message);
	CHECK(rig, add(rig, client, kind, "r", "b", "refused", &error) == RPC_FAILED, "refused");
	CHECK(rig, add(rig, client, kind, "r", "b", "b", &error) == 0, "its lock was let go: %s",
	      error.message);
	CHECK(rig, take_out(rig, client, kind, "r", kind->first, "", &error) == 0, "%s", error.message);
	CHECK(rig, is(kept(rig, kind, "r"), "b"), "kept");
	CHECK(rig, add(rig, client, kind, "r", "c", "stuck", &error) == 0, "%s", error.message);
	CHECK(rig, take_out(rig, client, kind, "r", "stuck", ",\"timeout_s\":0.2", &error) == RPC_TIMEOUT,
	      "a guest that keeps it");
	CHECK(rig, is(units(rig, client, kind, "r"), "b:attached stuck:removing"), "states");
	CHECK(rig, is(kept(rig, kind, "r"), "b stuck"), "kept");
	CHECK(rig, take_out(rig, client, kind, "r", "stuck", ",\"force\":true", &error) == 0, "%s",
	      error.message);
	CHECK(rig, is(units(rig, client, kind, "r"), "b:attached"), "gone by force");
	CHECK(rig, add(rig, client, kind, "r", "c", "late", &error) == 0, "%s", error.message);
	CHECK(rig, take_out(rig, client, kind, "r", "late", ",\"timeout_s\":10", &error) == 0, "%s",
	      error.message);
	CHECK(rig, rig_call(rig, client, "vm.pause", "{\"name\":\"r\"}", NULL, NULL) == 0, "pause");
	CHECK(rig, add(rig, client, kind, "r", "c", "paused", &error) == 0, "%s", error.message);
	CHECK(rig, add(rig, client, kind, "r", "d", "stuck2", &error) == 0, "%s", error.message);
	CHECK(rig, count_fds(rig->daemon) == fds + 3 * kind->fds,
	      "descriptors stay in the daemon: %d, %d before", count_fds(rig->daemon), fds);
	for (int i = 0; i < 20; i++) {
		char id[16];

		snprintf(id, sizeof(id), "n%d", i);
		if (add(rig, client, kind, "r", "e", id, &error) != 0)
			break;
		take_out(rig, client, kind, "r", id, "", &error);
	}
	CHECK(rig, is(kept(rig, kind, "r"), "b paused stuck2"), "kept");
	CHECK(rig, rig_call(rig, client, "vm.kill", "{\"name\":\"r\"}", NULL, NULL) == 0, "kill");
	CHECK(rig, is(units(rig, client, kind, "r"), "b:configured paused:configured stuck2:configured"),
	      "after the end");
	rig_call(rig, client, "vm.delete", "{\"name\":\"r\"}", NULL, NULL);
}

/* Sends a request, does not wait for the answer, and kills the daemon after so long. */
static void kill_in(struct rig *rig, const char *method, const char *params, unsigned us)
{
	char line[1024];
	int fd = rig_connect(rig);

	snprintf(line, sizeof(line), "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"%s\",\"params\":%s}\n",
		 method, params);
	raw_text(fd, line);
	usleep(us);
	rig_end_daemon(rig, SIGKILL);
	close(fd);
	rig_daemon(rig);
}

/* Kills the daemon in the midst of a request to a machine that takes its time, and again if that machine, on a
 * busy host, had not heard of it by then. True once its units are `want`, as they are when it has done it. */
static bool killed_in(struct rig *rig, struct client **client, const struct kind *kind, const char *verb,
		      const char *params, const char *want)
{
	char method[32];

	snprintf(method, sizeof(method), "vm.%s_%s", kind->word, verb);
	for (int i = 0; i < 8; i++) {
		client_free(*client);
		kill_in(rig, method, params, 150000);
		*client = rig_client(rig);
		for (int ms = 0; ms < 3000; ms += 100) {
			usleep(100000);
			if (strcmp(units(rig, *client, kind, "k"), want) == 0)
				return true;
		}
	}
	return is(units(rig, *client, kind, "k"), want);
}

/* The machine is slow at each point in turn, so that it is known what the daemon had done. */
static struct client *test_killed(struct rig *rig, struct client *client, const struct kind *kind)
{
	static const char *const slow[] = { "slow-before", "slow-after" };
	struct rpc_error error;
	char want[64];

	CHECK(rig, bare_vm(rig, client, "k"), "start");
	for (int i = 0; i < 2; i++) {
		snprintf(want, sizeof(want), "%s:attached", slow[i]);
		CHECK(rig, killed_in(rig, &client, kind, "add", add_params(rig, kind, "k", "a", slow[i]), want),
		      "killed while adding, %s", slow[i]);
		CHECK(rig, is(kept(rig, kind, "k"), slow[i]), "its file");
		CHECK(rig, take_out(rig, client, kind, "k", slow[i], "", &error) == 0, "%s", error.message);
	}
	CHECK(rig, add(rig, client, kind, "k", "a", "late", &error) == 0, "%s", error.message);
	CHECK(rig, killed_in(rig, &client, kind, "remove", "{\"name\":\"k\",\"id\":\"late\"}", ""),
	      "let go while there was no daemon");
	CHECK(rig, is(kept(rig, kind, "k"), ""), "its file");
	rig_call(rig, client, "vm.kill", "{\"name\":\"k\"}", NULL, NULL);
	rig_call(rig, client, "vm.delete", "{\"name\":\"k\"}", NULL, NULL);
	return client;
}

/* At any moment: afterwards list, file and machine agree, and the disk can be plugged again. */
static struct client *test_killed_anywhere(struct rig *rig, struct client *client,
					   const struct kind *kind)
{
	struct rpc_error error;
	char method[32], params[64], want[64];

	CHECK(rig, bare_vm(rig, client, "w"), "start");
	for (unsigned i = 0; i < 16; i++) {
		snprintf(want, sizeof(want), "x%u", i);
		snprintf(method, sizeof(method), "vm.%s_add", kind->word);
		kill_in(rig, method, add_params(rig, kind, "w", "a", want), 100 * i * i);
		client_free(client);
		client = rig_client(rig);
		usleep(20000);
		if (*units(rig, client, kind, "w")) { /* it was in time */
			strcat(want, ":attached");
			CHECK(rig, is(units(rig, client, kind, "w"), want), "round %u", i);
			want[strlen(want) - strlen(":attached")] = '\0';
			CHECK(rig, is(kept(rig, kind, "w"), want), "round %u: file", i);
		} else {
			CHECK(rig, is(kept(rig, kind, "w"), ""), "round %u: file", i);
			CHECK(rig, add(rig, client, kind, "w", "a", want, &error) == 0, "round %u: %s", i,
			      error.message);
		}
		snprintf(params, sizeof(params), "{\"name\":\"w\",\"id\":\"x%u\"}", i);
		snprintf(method, sizeof(method), "vm.%s_remove", kind->word);
		kill_in(rig, method, params, 100 * i * i);
		client_free(client);
		client = rig_client(rig);
		usleep(20000);
		if (*kept(rig, kind, "w"))
			CHECK(rig, take_out(rig, client, kind, "w", want, "", &error) == 0, "round %u: %s", i,
			      error.message);
		CHECK(rig, is(units(rig, client, kind, "w"), ""), "round %u: empty", i);
	}
	rig_call(rig, client, "vm.kill", "{\"name\":\"w\"}", NULL, NULL);
	rig_call(rig, client, "vm.delete", "{\"name\":\"w\"}", NULL, NULL);
	return client;
}

static void listen_at(const struct rig *rig, char name)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s/%c.peer", rig->dir, name);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(fd, 1024) < 0)
		abort();
}

/* What only devices of other programs have. */
static void test_peers(struct rig *rig, struct client *client)
{
	struct rpc_error error;
	json_object *info = NULL;

	CHECK(rig, bare_vm(rig, client, "p"), "start");
	CHECK(rig, add(rig, client, &vhost, "p", "nobody", "", &error) == RPC_INVALID_PARAMS &&
	      strcmp(error.reason, "no-such-peer") == 0 && strcmp(error.field, "vhost.socket") == 0,
	      "%s: %s", error.reason, error.message);
	for (int i = 0; i < 8; i++)
		CHECK(rig, add(rig, client, &vhost, "p", "a", "", &error) == 0, "%s", error.message);
	CHECK(rig, add(rig, client, &vhost, "p", "a", "", &error) == RPC_LIMIT, "%s", error.message);
	CHECK(rig, take_out(rig, client, &vhost, "p", "vhost0", "", &error) == 0, "%s", error.message);
	rig_call(rig, client, "vm.info", "{\"name\":\"p\"}", &info, NULL);
	CHECK(rig, json_object_array_length(json_get(info, "peers")) == 7, "peers");
	json_object_put(info);
	CHECK(rig, rig_call(rig, client, "vm.vhost_add", "{\"name\":\"p\",\"vhost\":{\"device\":\"fs\","
			    "\"socket\":\"@D/a.peer\"}}", NULL, &error) == RPC_INVALID_PARAMS &&
	      strcmp(error.field, "vhost.tag") == 0, "%s", error.message);
	CHECK(rig, rig_call(rig, client, "vm.vhost_add", "{\"name\":\"p\",\"vhost\":{\"device\":\"fs\","
			    "\"socket\":\"@D/a.peer\",\"tag\":\"t\"}}", NULL, &error) == 0, "%s", error.message);
	CHECK(rig, take_out(rig, client, &vhost, "p", "vhost1", "", &error) == 0, "%s", error.message);
	CHECK(rig, rig_call(rig, client, "vm.vhost_add", "{\"name\":\"p\",\"vhost\":{\"device\":\"fs\","
			    "\"socket\":\"@D/a.peer\",\"tag\":\"t\"}}", NULL, &error) == RPC_INVALID_PARAMS &&
	      strcmp(error.field, "vhost.tag") == 0, "%s", error.message);
	rig_call(rig, client, "vm.kill", "{\"name\":\"p\"}", NULL, NULL);
	rig_call(rig, client, "vm.delete", "{\"name\":\"p\"}", NULL, NULL);
}

int main(void)
{
	static const struct kind *const kinds[] = { &disk, &net, &vhost };
	struct rig rig;
	struct client *client;

	rig_init(&rig);
	for (const char *name = "abcde"; *name; name++) {
		char path[160];
		int fd;

		snprintf(path, sizeof(path), "%s/%c", rig.dir, *name);
		fd = open(path, O_RDWR | O_CREAT, 0600);
		if (fd < 0 || ftruncate(fd, 1 << 20) < 0)
			return 1;
		close(fd);
		listen_at(&rig, *name);
	}
	client = rig_client(&rig);
	test_stopped(&rig, client);
	test_peers(&rig, client);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		test_running(&rig, client, kinds[i]);
		client = test_killed(&rig, client, kinds[i]);
		client = test_killed_anywhere(&rig, client, kinds[i]);
	}
	client_free(client);
	return rig_finish(&rig);
}
