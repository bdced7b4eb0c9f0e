/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that come and go: the API, a guest that does not let go, a daemon killed at every step. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/protocol/rig.h"

/* "ID:STATE ID:STATE", as vm.disk_list has them; static. */
static const char *disks(struct rig *rig, struct client *client, const char *name)
{
	static char text[2048];
	json_object *result = NULL, *list;
	char params[128];

	snprintf(params, sizeof(params), "{\"name\":\"%s\"}", name);
	text[0] = '\0';
	if (rig_call(rig, client, "vm.disk_list", params, &result, NULL) != 0)
		return "error";
	list = json_get(result, "disks");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object *disk = json_object_array_get_idx(list, i);
		size_t len = strlen(text);

		snprintf(text + len, sizeof(text) - len, "%s%s:%s", i ? " " : "",
			 json_get_str(disk, "id", "?"), json_get_str(disk, "state", "?"));
	}
	json_object_put(result);
	return text;
}

/* What is kept: the ids in the file, in order. */
static const char *kept(struct rig *rig, const char *name)
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
	list = json_get(json_get(file, "config"), "disks");
	for (size_t i = 0; list && i < json_object_array_length(list); i++) {
		size_t len = strlen(text);

		snprintf(text + len, sizeof(text) - len, "%s%s", i ? " " : "",
			 json_get_str(json_object_array_get_idx(list, i), "id", "?"));
	}
	json_object_put(file);
	return text;
}

static int add(struct rig *rig, struct client *client, const char *name, const char *file,
	       const char *id, struct rpc_error *error)
{
	char params[512];

	snprintf(params, sizeof(params), "{\"name\":\"%s\",\"disk\":{\"path\":\"%s/%s\"%s%s%s}}", name,
		 rig->dir, file, *id ? ",\"id\":\"" : "", id, *id ? "\"" : "");
	return rig_call(rig, client, "vm.disk_add", params, NULL, error);
}

static int take_out(struct rig *rig, struct client *client, const char *name, const char *id,
		    const char *more, struct rpc_error *error)
{
	char params[256];

	snprintf(params, sizeof(params), "{\"name\":\"%s\",\"id\":\"%s\"%s}", name, id, more);
	return rig_call(rig, client, "vm.disk_remove", params, NULL, error);
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
	CHECK(rig, is(disks(rig, client, "s"), "disk1:configured disk0:configured"), "ids");
	CHECK(rig, add(rig, client, "s", "c", "", &error) == 0, "%s", error.message);
	CHECK(rig, is(kept(rig, "s"), "disk1 disk0 disk2"), "kept");
	CHECK(rig, add(rig, client, "s", "c", "disk1", &error) == RPC_EXISTS, "same id");
	CHECK(rig, add(rig, client, "s", "nothing", "", &error) == RPC_INVALID_PARAMS &&
	      strcmp(error.field, "disk.path") == 0, "%s", error.field);
	CHECK(rig, take_out(rig, client, "s", "disk7", "", &error) == RPC_INVALID_PARAMS, "no such");
	CHECK(rig, take_out(rig, client, "s", "disk0", "", &error) == 0, "%s", error.message);
	CHECK(rig, is(kept(rig, "s"), "disk1 disk2"), "kept");
	CHECK(rig, add(rig, client, "none", "a", "", &error) == RPC_NO_SUCH_VM, "no VM");
	CHECK(rig, rig_call(rig, client, "vm.create", "{\"name\":\"t\",\"kernel\":\"@K\",\"disks\":"
			    "[{\"path\":\"@D/a\",\"id\":\"x\"},{\"path\":\"@D/b\",\"id\":\"x\"}]}",
			    NULL, &error) == RPC_INVALID_PARAMS &&
	      strcmp(error.field, "disks[1].id") == 0, "two of one id: %s", error.field);
	CHECK(rig, rig_call(rig, client, "vm.start", "{\"name\":\"s\"}", NULL, NULL) == 0, "start");
	CHECK(rig, is(disks(rig, client, "s"), "disk1:attached disk2:attached"), "attached");
	rig_call(rig, client, "vm.kill", "{\"name\":\"s\"}", NULL, NULL);
	rig_call(rig, client, "vm.delete", "{\"name\":\"s\"}", NULL, NULL);
}

static void test_running(struct rig *rig, struct client *client)
{
	struct rpc_error error;
	int fds;

	CHECK(rig, rig_vm(rig, client, "r", ""), "start");
	fds = count_fds(rig->daemon);
	CHECK(rig, add(rig, client, "r", "a", "", &error) == 0, "%s", error.message);
	CHECK(rig, is(disks(rig, client, "r"), "disk0:attached"), "attached");
	CHECK(rig, is(kept(rig, "r"), "disk0"), "kept");
	CHECK(rig, add(rig, client, "r", "a", "again", &error) == RPC_BUSY, "locked: %s", error.message);
	CHECK(rig, add(rig, client, "r", "b", "refused", &error) == RPC_FAILED, "refused");
	CHECK(rig, add(rig, client, "r", "b", "b", &error) == 0, "its lock was let go: %s",
	      error.message);
	CHECK(rig, take_out(rig, client, "r", "disk0", "", &error) == 0, "%s", error.message);
	CHECK(rig, is(kept(rig, "r"), "b"), "kept");
	CHECK(rig, add(rig, client, "r", "c", "stuck", &error) == 0, "%s", error.message);
	CHECK(rig, take_out(rig, client, "r", "stuck", ",\"timeout_s\":0.2", &error) == RPC_TIMEOUT,
	      "a guest that keeps it");
	CHECK(rig, is(disks(rig, client, "r"), "b:attached stuck:removing"), "states");
	CHECK(rig, is(kept(rig, "r"), "b stuck"), "kept");
	CHECK(rig, take_out(rig, client, "r", "stuck", ",\"force\":true", &error) == 0, "%s",
	      error.message);
	CHECK(rig, is(disks(rig, client, "r"), "b:attached"), "gone by force");
	CHECK(rig, add(rig, client, "r", "c", "late", &error) == 0, "%s", error.message);
	CHECK(rig, take_out(rig, client, "r", "late", ",\"timeout_s\":10", &error) == 0, "%s",
	      error.message);
	CHECK(rig, rig_call(rig, client, "vm.pause", "{\"name\":\"r\"}", NULL, NULL) == 0, "pause");
	CHECK(rig, add(rig, client, "r", "c", "paused", &error) == 0, "%s", error.message);
	CHECK(rig, add(rig, client, "r", "d", "stuck2", &error) == 0, "%s", error.message);
	CHECK(rig, count_fds(rig->daemon) == fds, "descriptors stay in the daemon: %d, %d before",
	      count_fds(rig->daemon), fds);
	for (int i = 0; i < 20; i++) {
		char id[16];

		snprintf(id, sizeof(id), "n%d", i);
		if (add(rig, client, "r", "e", id, &error) != 0)
			break;
		take_out(rig, client, "r", id, "", &error);
	}
	CHECK(rig, is(kept(rig, "r"), "b paused stuck2"), "kept");
	CHECK(rig, rig_call(rig, client, "vm.kill", "{\"name\":\"r\"}", NULL, NULL) == 0, "kill");
	CHECK(rig, is(disks(rig, client, "r"), "b:configured paused:configured stuck2:configured"),
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

static struct client *again(struct rig *rig, struct client *client)
{
	client_free(client);
	usleep(600000); /* what was slow has happened */
	return rig_client(rig);
}

/* The machine is slow at each point in turn, so that it is known what the daemon had done. */
static struct client *test_killed(struct rig *rig, struct client *client)
{
	static const char *const slow[] = { "slow-before", "slow-after" };
	struct rpc_error error;
	char params[512];

	CHECK(rig, rig_vm(rig, client, "k", ""), "start");
	for (int i = 0; i < 2; i++) {
		snprintf(params, sizeof(params),
			 "{\"name\":\"k\",\"disk\":{\"path\":\"%s/a\",\"id\":\"%s\"}}", rig->dir, slow[i]);
		kill_in(rig, "vm.disk_add", params, 150000);
		client = again(rig, client);
		snprintf(params, sizeof(params), "%s:attached", slow[i]);
		CHECK(rig, is(disks(rig, client, "k"), params), "killed while adding, %s", slow[i]);
		CHECK(rig, is(kept(rig, "k"), slow[i]), "its file");
		CHECK(rig, take_out(rig, client, "k", slow[i], "", &error) == 0, "%s", error.message);
	}
	CHECK(rig, add(rig, client, "k", "a", "late", &error) == 0, "%s", error.message);
	kill_in(rig, "vm.disk_remove", "{\"name\":\"k\",\"id\":\"late\"}", 100000);
	client = again(rig, client);
	CHECK(rig, is(disks(rig, client, "k"), ""), "let go while there was no daemon");
	CHECK(rig, is(kept(rig, "k"), ""), "its file");
	rig_call(rig, client, "vm.kill", "{\"name\":\"k\"}", NULL, NULL);
	rig_call(rig, client, "vm.delete", "{\"name\":\"k\"}", NULL, NULL);
	return client;
}

/* At any moment: afterwards list, file and machine agree, and the disk can be plugged again. */
static struct client *test_killed_anywhere(struct rig *rig, struct client *client)
{
	struct rpc_error error;
	char params[512], want[64];

	CHECK(rig, rig_vm(rig, client, "w", ""), "start");
	for (unsigned i = 0; i < 16; i++) {
		snprintf(params, sizeof(params),
			 "{\"name\":\"w\",\"disk\":{\"path\":\"%s/a\",\"id\":\"x%u\"}}", rig->dir, i);
		kill_in(rig, "vm.disk_add", params, 100 * i * i);
		client_free(client);
		client = rig_client(rig);
		usleep(20000);
		snprintf(want, sizeof(want), "x%u", i);
		if (*disks(rig, client, "w")) { /* it was in time */
			strcat(want, ":attached");
			CHECK(rig, is(disks(rig, client, "w"), want), "round %u", i);
			want[strlen(want) - strlen(":attached")] = '\0';
			CHECK(rig, is(kept(rig, "w"), want), "round %u: file", i);
		} else {
			CHECK(rig, is(kept(rig, "w"), ""), "round %u: file", i);
			CHECK(rig, add(rig, client, "w", "a", want, &error) == 0, "round %u: %s", i,
			      error.message);
		}
		snprintf(params, sizeof(params), "{\"name\":\"w\",\"id\":\"x%u\"}", i);
		kill_in(rig, "vm.disk_remove", params, 100 * i * i);
		client_free(client);
		client = rig_client(rig);
		usleep(20000);
		if (*kept(rig, "w"))
			CHECK(rig, take_out(rig, client, "w", want, "", &error) == 0, "round %u: %s", i,
			      error.message);
		CHECK(rig, is(disks(rig, client, "w"), ""), "round %u: empty", i);
	}
	rig_call(rig, client, "vm.kill", "{\"name\":\"w\"}", NULL, NULL);
	rig_call(rig, client, "vm.delete", "{\"name\":\"w\"}", NULL, NULL);
	return client;
}

int main(void)
{
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
	}
	client = rig_client(&rig);
	test_stopped(&rig, client);
	test_running(&rig, client);
	client = test_killed(&rig, client);
	client = test_killed_anywhere(&rig, client);
	client_free(client);
	return rig_finish(&rig);
}
