/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's part in vsock: addresses, and the sockets behind the ports that a guest connects to. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "protocol/unix.h"
#include "tests/protocol/rig.h"

static int create(struct rig *rig, struct client *client, const char *name, const char *vsock,
		  const char *script, struct rpc_error *error)
{
	char params[512];

	snprintf(params, sizeof(params),
		 "{\"name\":\"%s\",\"kernel\":\"@K\",\"cmdline\":\"%s\",\"vsock\":%s}", name, script,
		 vsock);
	return rig_call(rig, client, "vm.create", params, NULL, error);
}

static int named(struct rig *rig, struct client *client, const char *method, const char *name,
		 json_object **ret)
{
	char params[128];

	snprintf(params, sizeof(params), "{\"name\":\"%s\"}", name);
	return rig_call(rig, client, method, params, ret, NULL);
}

static int64_t cid_of(struct rig *rig, struct client *client, const char *name)
{
	json_object *info = NULL;
	int64_t cid;

	named(rig, client, "vm.info", name, &info);
	cid = json_get_int(json_get(json_get(info, "config"), "vsock"), "cid", -1);
	json_object_put(info);
	return cid;
}

static void test_addresses(struct rig *rig)
{
	struct client *client = rig_client(rig);
	struct rpc_error error;

	CHECK(rig, create(rig, client, "a", "{\"path\":\"@D/a\",\"cid\":4}", "", NULL) == 0, "create");
	CHECK(rig, create(rig, client, "b", "{\"path\":\"@D/b\"}", "", NULL) == 0, "without cid");
	CHECK(rig, create(rig, client, "c", "{\"path\":\"@D/c\"}", "", NULL) == 0, "another");
	CHECK(rig, cid_of(rig, client, "b") == 3 && cid_of(rig, client, "c") == 5,
	      "the free addresses are 3 and 5, not %d and %d", (int)cid_of(rig, client, "b"),
	      (int)cid_of(rig, client, "c"));
	CHECK(rig, create(rig, client, "d", "{\"path\":\"@D/d\",\"cid\":5}", "", &error) ==
	      RPC_EXISTS && !strcmp(error.field, "vsock.cid") && strstr(error.message, " c;"),
	      "it is taken: %s", error.message);
	/* It is kept; and free again once its owner is deleted. */
	rig_end_daemon(rig, SIGKILL);
	rig_daemon(rig);
	client_free(client);
	client = rig_client(rig);
	CHECK(rig, cid_of(rig, client, "c") == 5, "after a new start");
	CHECK(rig, named(rig, client, "vm.delete", "c", NULL) == 0, "delete");
	CHECK(rig, create(rig, client, "d", "{\"path\":\"@D/d\",\"cid\":5}", "", NULL) == 0, "free");
	named(rig, client, "vm.delete", "a", NULL);
	named(rig, client, "vm.delete", "b", NULL);
	named(rig, client, "vm.delete", "d", NULL);
	client_free(client);
}

/* What the guest printed. */
static bool printed(struct rig *rig, struct client *client, const char *name, const char *what)
{
	json_object *info = NULL;
	bool found;

	named(rig, client, "vm.info", name, &info);
	found = strstr(json_text(json_get(info, "console_tail")), what);
	json_object_put(info);
	return found;
}

static void serve(struct rig *rig, int listener, const char *answer)
{
	struct pollfd p = { .fd = listener, .events = POLLIN };
	char line[32] = "";
	int fd;

	CHECK(rig, poll(&p, 1, 10000) == 1, "the guest does not come");
	fd = accept(listener, NULL, NULL);
	CHECK(rig, raw_line(fd, line, sizeof(line), 10000) == 5 && !strcmp(line, "guest"), "%s", line);
	raw_text(fd, answer);
	close(fd);
}

static void test_ports(struct rig *rig)
{
	struct client *client = rig_client(rig);
	char path[128];
	struct stat st;
	int listener;

	/* nobody there, and then a program that listens */
	snprintf(path, sizeof(path), "%s/v_80", rig->dir);
	listener = unix_listen(path, 0600, 4);
	CHECK(rig, create(rig, client, "v", "{\"path\":\"@D/v\"}", "vsock=81 vsock=80 crash",
			  NULL) == 0, "create");
	CHECK(rig, named(rig, client, "vm.start", "v", NULL) == 0, "start");
	serve(rig, listener, "welcome");
	CHECK(rig, named(rig, client, "vm.wait", "v", NULL) == 0, "wait");
	CHECK(rig, printed(rig, client, "v", "refused"), "nobody listens on 81");
	CHECK(rig, printed(rig, client, "v", "welcome"), "what was said on 80");
	snprintf(path, sizeof(path), "%s/v", rig->dir);
	CHECK(rig, lstat(path, &st) < 0, "%s is left", path);
	named(rig, client, "vm.delete", "v", NULL);
	close(listener);
	client_free(client);
}

/* Waits until the guest prints that. */
static bool hears(int console, const char *what)
{
	char line[128] = "";

	while (!strstr(line, what))
		if (raw_line(console, line, sizeof(line), 10000) < 0)
			return false;
	return true;
}

/* Without a daemon a guest's connection is refused; the next daemon does as the old one did. */
static void test_daemons(struct rig *rig)
{
	struct client *client = rig_client(rig);
	char path[128];
	struct stat st;
	int listener, console;

	snprintf(path, sizeof(path), "%s/w_80", rig->dir);
	listener = unix_listen(path, 0600, 4);
	CHECK(rig, create(rig, client, "w", "{\"path\":\"@D/w\"}", "shell", NULL) == 0, "create");
	CHECK(rig, named(rig, client, "vm.start", "w", NULL) == 0, "start");
	snprintf(path, sizeof(path), "%s/w", rig->dir);
	CHECK(rig, lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0600,
	      "no socket at %s", path);
	rig_call(rig, client, "vm.console", "{\"name\":\"w\",\"fd\":true}", NULL, NULL);
	console = client_take_fd(client);
	raw_text(console, "vsock=80\n");
	serve(rig, listener, "first");
	CHECK(rig, hears(console, "first"), "the first daemon");
	rig_end_daemon(rig, SIGKILL);
	client_free(client);
	raw_text(console, "vsock=80\n");
	CHECK(rig, hears(console, "refused"), "no daemon");
	rig_daemon(rig);
	client = rig_client(rig);
	raw_text(console, "vsock=80\n");
	serve(rig, listener, "second");
	CHECK(rig, hears(console, "second"), "the second daemon");
	close(console);
	named(rig, client, "vm.kill", "w", NULL);
	named(rig, client, "vm.delete", "w", NULL);
	close(listener);
	client_free(client);
}

int main(void)
{
	struct rig rig;

	rig_init(&rig);
	test_addresses(&rig);
	test_ports(&rig);
	test_daemons(&rig);
	return rig_finish(&rig);
}
