/* SPDX-License-Identifier: Apache-2.0 */
/* Everything wrong that a client can send, to every method: an exact error, and the daemon goes on. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/clock.h"
#include "protocol/methods.h"
#include "tests/protocol/rig.h"

static const struct {
	const char *text;
	int code; /* of the answer; 1: there must be none */
} lines[] = {
	{ "x", -32700 }, { "{", -32700 }, { "{}", -32600 }, { "[]", -32600 }, { "1", -32600 },
	{ "\"vm.list\"", -32600 }, { "null", -32600 }, { "{'a':1}", -32700 }, { "[NaN]", -32700 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\",\"id\":1,\"id\":2}", -32700 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\",\"id\":\"\xff\"}", -32700 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\",\"id\":\"\xc0\x80\"}", -32700 },
	{ "\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\",\"id\":1}", -32700 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\",\"id\":1.5}", -32600 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\",\"id\":123456789012345678901234567890}", -32600 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\",\"id\":{}}", -32600 },
	{ "{\"jsonrpc\":\"1.0\",\"method\":\"vm.list\",\"id\":1}", -32600 },
	{ "{\"method\":\"vm.list\",\"id\":1}", -32600 },
	{ "{\"jsonrpc\":\"2.0\",\"id\":1}", -32600 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\",\"id\":1,\"parms\":{}}", -32600 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\",\"id\":1,\"params\":[]}", -32602 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\",\"id\":1,\"params\":null}", -32600 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.lists\",\"id\":1}", -32601 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\\u0000\",\"id\":1}", -32601 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"rpc.nothing\",\"id\":1}", -32601 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\",\"id\":null}", 0 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\",\"id\":1}\r", 0 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\"}", 1 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"no.such\"}", 1 },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"vm.info\",\"params\":{\"name\":5}}", 1 },
	{ "[{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\"},{\"jsonrpc\":\"2.0\",\"method\":\"x\"}]", 1 },
	{ "", 1 }, { "\r", 1 },
};

/* What must not be answered is shown by the answer to a marker that follows it. */
static void test_lines(struct rig *rig)
{
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
		char line[4096];
		int fd = rig_connect(rig), code;

		raw_text(fd, lines[i].text);
		raw_text(fd, "\n{\"jsonrpc\":\"2.0\",\"method\":\"daemon.info\",\"id\":\"marker\"}\n");
		code = 1;
		if (lines[i].code != 1)
			code = raw_code(fd);
		CHECK(rig, code == lines[i].code, "%s: %d", lines[i].text, code);
		CHECK(rig, raw_line(fd, line, sizeof(line), 30000) > 0 && strstr(line, "\"marker\""),
		      "%s: what follows is lost: %s", lines[i].text, line);
		close(fd);
	}
}

/* A value of a type that the field does not have. */
static const char *wrong_value(enum schema_type type)
{
	switch (type) {
	case SCHEMA_STRING: case SCHEMA_NAME: case SCHEMA_PATH: case SCHEMA_ENUM:
		return "17";
	case SCHEMA_SIZE:
		return "true";
	default:
		return "\"yes\"";
	}
}

static void expect(struct rig *rig, struct client *client, const char *method, const char *params,
		   int code, const char *field, const char *reason)
{
	struct rpc_error error;
	int r = rig_call(rig, client, method, params, NULL, &error);

	CHECK(rig, r == code && (!field || !strcmp(error.field, field)) &&
	      (!reason || !strcmp(error.reason, reason)),
	      "%s %s: %d field \"%s\" reason \"%s\": %s", method, params, r, error.field,
	      error.reason, error.message);
}

/* Every method, by its own description: each field wrong, each required one missing, one unknown. */
static void test_methods(struct rig *rig, struct client *client)
{
	for (enum method_id id = 0; id < METHOD_COUNT; id++) {
		const struct method *m = method_get(id);
		char params[512];
		unsigned required = 0;

		expect(rig, client, m->name, "[]", -32602, "params", "not-an-object");
		expect(rig, client, m->name, "\"x\"", -32602, "params", "not-an-object");
		expect(rig, client, m->name, "{\"no_such_field\":1}", -32602, "no_such_field",
		       "unknown-field");
		for (const struct schema_field *f = m->params; f->name; f++) {
			required += f->required;
			snprintf(params, sizeof(params), "{\"%s\":%s}", f->name,
				 wrong_value(f->type));
			expect(rig, client, m->name, params, -32602, f->name, "wrong-type");
			snprintf(params, sizeof(params), "{\"%s\":null}", f->name);
			expect(rig, client, m->name, params, -32602, f->name, "wrong-type");
			snprintf(params, sizeof(params), "{\"%s\":[[[]]]}", f->name);
			expect(rig, client, m->name, params, -32602, NULL, NULL);
			if (f->required && f == m->params)
				expect(rig, client, m->name, "{}", -32602, f->name, "missing-field");
		}
		if (m->params->name && m->params->type == SCHEMA_NAME && required == 1)
			expect(rig, client, m->name, "{\"name\":\"nobody\"}", -32001, "name",
			       "no-such-vm");
	}
}

static const struct {
	const char *params;
	const char *field, *reason;
} creates[] = {
	{ "{\"name\":\"b\",\"kernel\":\"@D/nothing\"}", "kernel", "no-such-file" },
	{ "{\"name\":\"b\",\"kernel\":\"@D\"}", "kernel", "not-a-file" },
	{ "{\"name\":\"b\",\"kernel\":\"/dev/zero\"}", "kernel", "not-a-file" },
	{ "{\"name\":\"b\",\"kernel\":\"@D/fifo\"}", "kernel", "not-a-file" },
	{ "{\"name\":\"b\",\"kernel\":\"@D/text\"}", "kernel", "not-a-kernel" },
	{ "{\"name\":\"b\",\"kernel\":\"@D/empty\"}", "kernel", "not-a-kernel" },
	{ "{\"name\":\"b\",\"kernel\":\"relative\"}", "kernel", "bad-value" },
	{ "{\"name\":\"../b\",\"kernel\":\"@K\"}", "name", "bad-value" },
	{ "{\"name\":\"b\",\"kernel\":\"@K\",\"initrd\":\"@D/nothing\"}", "initrd", "no-such-file" },
	{ "{\"name\":\"b\",\"kernel\":\"@K\",\"initrd\":\"@D/huge\"}", "initrd", "does-not-fit" },
	{ "{\"name\":\"b\",\"kernel\":\"@K\",\"memory\":\"1T\"}", "memory", "out-of-range" },
	{ "{\"name\":\"b\",\"kernel\":\"@K\",\"memory\":\"15M\"}", "memory", "out-of-range" },
	{ "{\"name\":\"b\",\"kernel\":\"@K\",\"memory\":20000000}", "memory", "bad-value" },
	{ "{\"name\":\"b\",\"kernel\":\"@K\",\"disks\":[{\"path\":\"@D/nothing\"}]}", "disks[0].path",
	  "no-such-file" },
	{ "{\"name\":\"b\",\"kernel\":\"@K\",\"disks\":[{\"path\":\"@K\"},{\"path\":\"/dev/null\"}]}",
	  "disks[1].path", "not-a-file" },
#define VSOCK(members) "{\"name\":\"b\",\"kernel\":\"@K\",\"vsock\":{" members "}}"
	{ VSOCK(""), "vsock.path", "missing-field" },
	{ VSOCK("\"path\":\"relative\""), "vsock.path", "bad-value" },
	{ VSOCK("\"path\":\"@D/text\""), "vsock.path", "exists" },
	{ VSOCK("\"path\":\"@D/v\",\"cid\":2"), "vsock.cid", "out-of-range" },
	{ VSOCK("\"path\":\"@D/v\",\"cid\":4294967295"), "vsock.cid", "out-of-range" },
	{ VSOCK("\"path\":\"@D/v\",\"cid\":\"3\""), "vsock.cid", "wrong-type" },
	{ VSOCK("\"path\":\"@D/v\",\"port\":3"), "vsock.port", "unknown-field" },
#define VHOST(list) "{\"name\":\"b\",\"kernel\":\"@K\",\"vhost_user\":[" list "]}"
	{ VHOST("{\"device\":\"blk\"}"), "vhost_user[0].socket", "missing-field" },
	{ VHOST("{\"socket\":\"/x\"}"), "vhost_user[0].device", "missing-field" },
	{ VHOST("{\"device\":\"gpu\",\"socket\":\"/x\"}"), "vhost_user[0].device", "bad-value" },
	{ VHOST("{\"device\":\"blk\",\"socket\":\"x\"}"), "vhost_user[0].socket", "bad-value" },
	{ VHOST("{\"device\":\"fs\",\"socket\":\"/x\"}"), "vhost_user[0].tag", "missing-field" },
	{ VHOST("{\"device\":\"blk\",\"socket\":\"/x\",\"tag\":\"t\"}"), "vhost_user[0].tag",
	  "bad-value" },
	{ VHOST("{\"device\":\"fs\",\"socket\":\"/x\",\"tag\":\"t123456789012345678901234567890123456\"}"),
	  "vhost_user[0].tag", "too-long" },
	{ VHOST("{\"device\":\"fs\",\"socket\":\"/x\",\"tag\":\"t\"},"
		"{\"device\":\"fs\",\"socket\":\"/y\",\"tag\":\"t\"}"), "vhost_user[1].tag", "bad-value" },
	{ VHOST("{\"device\":\"blk\",\"socket\":\"/x\",\"mac\":\"52:54:00:00:00:01\"}"),
	  "vhost_user[0].mac", "bad-value" },
	{ VHOST("{\"device\":\"net\",\"socket\":\"/x\",\"mac\":\"53:54:00:00:00:01\"}"),
	  "vhost_user[0].mac", "bad-value" },
	{ VHOST("{\"device\":\"net\",\"socket\":\"/x\",\"queues\":2}"), "vhost_user[0].queues",
	  "not-supported" },
	{ VHOST("{\"device\":\"blk\",\"socket\":\"/x\",\"queues\":16}"), "vhost_user[0].queues",
	  "out-of-range" },
	{ VHOST("{\"device\":\"blk\",\"socket\":\"/x\",\"queue_size\":48}"),
	  "vhost_user[0].queue_size", "bad-value" },
	{ VHOST("{\"device\":\"blk\",\"socket\":\"/x\",\"path\":\"/y\"}"), "vhost_user[0].path",
	  "unknown-field" },
	{ VHOST("{},{},{},{},{},{},{},{},{}"), "vhost_user", "too-many" },
	{ VHOST("{\"device\":\"blk\",\"socket\":\"/x\",\"id\":\"a b\"}"), "vhost_user[0].id", "bad-value" },
	{ VHOST("{\"device\":\"blk\",\"socket\":\"/x\",\"id\":\"a\"},"
		"{\"device\":\"blk\",\"socket\":\"/x\",\"id\":\"a\"}"), "vhost_user[1].id", "bad-value" },
#define SHARES(list) "{\"name\":\"b\",\"kernel\":\"@K\",\"shares\":[" list "]}"
	{ SHARES("{\"path\":\"@D/nothing\",\"tag\":\"t\"}"), "shares[0].path", "no-such-file" },
	{ SHARES("{\"path\":\"@D/text\",\"tag\":\"t\"}"), "shares[0].path", "not-a-directory" },
	{ SHARES("{\"path\":\"@D/fifo\",\"tag\":\"t\"}"), "shares[0].path", "not-a-directory" },
	{ SHARES("{\"path\":\"/usr\",\"tag\":\"t\"}"), "shares[0].path", "not-allowed" },
	{ SHARES("{\"path\":\"/usr\",\"tag\":\"t\",\"driver\":\"virtiofs\"}"), "shares[0].path",
	  "not-allowed" },
	{ SHARES("{\"path\":\"@D\",\"tag\":\"t\",\"driver\":\"nfs\"}"), "shares[0].driver", "bad-value" },
	{ SHARES("{\"path\":\"@D\",\"tag\":\"t\",\"driver\":\"virtiofs\",\"readonly\":true}"),
	  "shares[0].readonly", "not-supported" },
	{ SHARES("{\"path\":\"/\",\"tag\":\"t\"}"), "shares[0].path", "not-allowed" },
	{ SHARES("{\"path\":\"@D/..\",\"tag\":\"t\"}"), "shares[0].path", "not-allowed" },
	{ SHARES("{\"path\":\"@D/out\",\"tag\":\"t\"}"), "shares[0].path", "not-allowed" },
	{ SHARES("{\"path\":\"@D-beside\",\"tag\":\"t\"}"), "shares[0].path", "not-allowed" },
	{ SHARES("{\"path\":\"/proc\",\"tag\":\"t\"}"), "shares[0].path", "not-allowed" },
	{ SHARES("{\"path\":\"relative\",\"tag\":\"t\"}"), "shares[0].path", "bad-value" },
	{ SHARES("{\"path\":\"@D\"}"), "shares[0].tag", "missing-field" },
	{ SHARES("{\"tag\":\"t\"}"), "shares[0].path", "missing-field" },
	{ SHARES("{\"path\":\"@D\",\"tag\":\"\"}"), "shares[0].tag", "bad-value" },
	{ SHARES("{\"path\":\"@D\",\"tag\":\"a/b\"}"), "shares[0].tag", "bad-value" },
	{ SHARES("{\"path\":\"@D\",\"tag\":\"a1234567890123456789012345678901\"}"),
	  "shares[0].tag", "too-long" },
	{ SHARES("{\"path\":\"@D\",\"tag\":\"t\"},{\"path\":\"@D\",\"tag\":\"t\"}"),
	  "shares[1].tag", "bad-value" },
	{ SHARES("{\"path\":\"@D\",\"tag\":\"t\",\"readonly\":\"yes\"}"),
	  "shares[0].readonly", "wrong-type" },
	{ SHARES("{\"path\":\"@D\",\"tag\":\"t\",\"writable\":true}"), "shares[0].writable",
	  "unknown-field" },
	{ SHARES("{},{},{},{},{},{},{},{},{}"), "shares", "too-many" },
#define MEM(text) "{\"name\":\"b\",\"kernel\":\"@K\",\"mem\":{" text "}}"
	{ MEM(""), "mem.size", "missing-field" },
	{ MEM("\"size\":\"3M\""), "mem.size", "bad-value" },
	{ MEM("\"size\":\"4M\",\"requested\":\"1M\""), "mem.requested", "bad-value" },
	{ MEM("\"size\":\"4M\",\"requested\":\"6M\""), "mem.requested", "out-of-range" },
	{ MEM("\"size\":\"4M\",\"block\":\"3M\""), "mem.block", "bad-value" },
	{ MEM("\"size\":\"4M\",\"block\":\"64K\""), "mem.block", "out-of-range" },
	{ MEM("\"size\":\"2T\""), "mem.size", "out-of-range" },
	{ MEM("\"size\":\"1T\""), "mem.size", "out-of-range" },
	{ MEM("\"size\":\"4M\",\"max\":1"), "mem.max", "unknown-field" },
#define PMEM(list) "{\"name\":\"b\",\"kernel\":\"@K\",\"pmem\":[" list "]}"
	{ PMEM("{}"), "pmem[0].path", "missing-field" },
	{ PMEM("{\"path\":\"@D/nothing\"}"), "pmem[0].path", "no-such-file" },
	{ PMEM("{\"path\":\"@D/fifo\"}"), "pmem[0].path", "not-a-file" },
	{ PMEM("{\"path\":\"@D/empty\"}"), "pmem[0].path", "bad-value" },
	{ PMEM("{\"path\":\"@D/text\"}"), "pmem[0].path", "bad-value" },
	{ PMEM("{\"path\":\"@D/huge\"},{\"path\":\"@D/huge\"}"), "pmem[1].path", "file-twice" },
	{ PMEM("{\"path\":\"@D/huge\",\"readonly\":true}"), "pmem[0].readonly", "unknown-field" },
	{ PMEM("{},{},{},{},{}"), "pmem", "too-many" },
};

/* Network cards: what stands in the list, the field, the reason. */
static const struct {
	const char *nets, *field, *reason;
} bad_nets[] = {
	{ "{\"kind\":\"vde\"}", "nets[0].kind", "bad-value" },
	{ "{\"kinds\":\"user\"}", "nets[0].kinds", "unknown-field" },
	{ "{\"mac\":\"52:54:00:12:34\"}", "nets[0].mac", "bad-value" },
	{ "{\"mac\":\"52:54:00:12:34:5g\"}", "nets[0].mac", "bad-value" },
	{ "{\"mac\":\"52-54-00-12-34-56\"}", "nets[0].mac", "bad-value" },
	{ "{\"mac\":\"53:54:00:12:34:56\"}", "nets[0].mac", "bad-value" },
	{ "{\"mac\":\"00:00:00:00:00:00\"}", "nets[0].mac", "bad-value" },
	{ "{\"mac\":\"52:54:00:12:34:56:\"}", "nets[0].mac", "too-long" },
	{ "{\"mac\":5}", "nets[0].mac", "wrong-type" },
	{ "{\"mac\":\"52:54:00:12:34:56\"},{\"mac\":\"52:54:00:12:34:56\"}",
	  "nets[1].mac", "bad-value" },
	{ "{\"mtu\":67}", "nets[0].mtu", "out-of-range" },
	{ "{\"mtu\":65521}", "nets[0].mtu", "out-of-range" },
	{ "{\"mtu\":1000}", "nets[0].mtu", "out-of-range" },
	{ "{\"mtu\":65536}", "nets[0].mtu", "out-of-range" },
	{ "{\"ifname\":\"tap0\"}", "nets[0].ifname", "bad-value" },
	{ "{\"path\":\"/x\"}", "nets[0].path", "bad-value" },
	{ "{\"queues\":2}", "nets[0].queues", "bad-value" },
	{ "{\"kind\":\"tap\"}", "nets[0].ifname", "missing-field" },
	{ "{\"kind\":\"tap\",\"ifname\":\"\"}", "nets[0].ifname", "bad-value" },
	{ "{\"kind\":\"tap\",\"ifname\":\"a/b\"}", "nets[0].ifname", "bad-value" },
	{ "{\"kind\":\"tap\",\"ifname\":\"..\"}", "nets[0].ifname", "bad-value" },
	{ "{\"kind\":\"tap\",\"ifname\":\"t%d\"}", "nets[0].ifname", "bad-value" },
	{ "{\"kind\":\"tap\",\"ifname\":\"sixteen-letters.\"}", "nets[0].ifname", "too-long" },
	{ "{\"kind\":\"tap\",\"ifname\":\"t\",\"queues\":9}", "nets[0].queues", "out-of-range" },
	{ "{\"kind\":\"tap\",\"ifname\":\"t\",\"queues\":0}", "nets[0].queues", "out-of-range" },
	{ "{\"kind\":\"tap\",\"ifname\":\"t\",\"bridge\":\"b\"}",
	  "nets[0].bridge", "bad-value" },
	{ "{\"kind\":\"tap\",\"ifname\":\"t\",\"vhost\":true}",
	  "nets[0].vhost", "wrong-type" },
	{ "{\"kind\":\"tap\",\"ifname\":\"t\",\"vhost\":\"yes\"}", "nets[0].vhost", "bad-value" },
	{ "{\"vhost\":\"on\"}", "nets[0].vhost", "bad-value" },
	{ "{\"kind\":\"tap\",\"ifname\":\"t\",\"vhost\":\"on\",\"tx_packets_per_s\":9}",
	  "nets[0].vhost", "bad-value" },
	{ "{\"kind\":\"tap\",\"ifname\":\"t\",\"publish\":[]}", "nets[0].publish", "bad-value" },
	{ "{\"kind\":\"stream\"}", "nets[0].path", "missing-field" },
	{ "{\"kind\":\"stream\",\"path\":\"x\"}", "nets[0].path", "bad-value" },
	{ "{\"kind\":\"stream\",\"path\":\"/x\",\"host_access\":true}",
	  "nets[0].host_access", "bad-value" },
	{ "{\"publish\":[{}]}", "nets[0].publish[0].host_port", "missing-field" },
	{ "{\"publish\":[{\"host_port\":0,\"guest_port\":1}]}",
	  "nets[0].publish[0].host_port", "out-of-range" },
	{ "{\"publish\":[{\"host_port\":1,\"guest_port\":65536}]}",
	  "nets[0].publish[0].guest_port", "out-of-range" },
	{ "{\"publish\":[{\"host_port\":1,\"guest_port\":1,\"protocol\":\"sctp\"}]}",
	  "nets[0].publish[0].protocol", "bad-value" },
	{ "{\"publish\":[{\"host_port\":1,\"guest_port\":1,\"address\":\"localhost\"}]}",
	  "nets[0].publish[0].address", "bad-value" },
	{ "{\"publish\":[{\"host_port\":1,\"guest_port\":1,\"address\":\"1.2.3.4.5\"}]}",
	  "nets[0].publish[0].address", "bad-value" },
	{ "{\"publish\":[{\"host_port\":1,\"guest_port\":1,\"address\":\"::1\"}],\"ipv6\":false}",
	  "nets[0].publish[0].address", "bad-value" },
	{ "{\"publish\":[{\"host_port\":1,\"guest_port\":1,\"address\":\"[::1]\"}]}",
	  "nets[0].publish[0].address", "bad-value" },
	{ "{\"publish\":[{\"host_port\":80,\"guest_port\":1,\"address\":\"::\"},"
	  "{\"host_port\":80,\"guest_port\":2,\"address\":\"0:0::1\"}]}",
	  "nets[0].publish[1]", "bad-value" },
	{ "{\"publish\":[{\"host_port\":80,\"guest_port\":1,\"address\":\"::1\"},"
	  "{\"host_port\":80,\"guest_port\":2,\"address\":\"0:0::1\"}]}",
	  "nets[0].publish[1]", "bad-value" },
	{ "{\"publish\":[{\"host_port\":80,\"guest_port\":1},{\"host_port\":80,\"guest_port\":2,\"address\":\"127.0.0.1\"}]}",
	  "nets[0].publish[1]", "bad-value" },
	{ "{\"rx_bytes_per_s\":999}", "nets[0].rx_bytes_per_s", "out-of-range" },
	{ "{\"tx_packets_per_s\":0}", "nets[0].tx_packets_per_s", "out-of-range" },
	{ "{},{},{},{},{},{},{},{},{}", "nets", "too-many" },
};

static void test_nets(struct rig *rig, struct client *client)
{
	char params[512];

	for (size_t i = 0; i < ARRAY_SIZE(bad_nets); i++) {
		snprintf(params, sizeof(params),
			 "{\"name\":\"b\",\"kernel\":\"@K\",\"nets\":[%s]}", bad_nets[i].nets);
		expect(rig, client, "vm.create", params, -32602, bad_nets[i].field,
		       bad_nets[i].reason);
	}
}

static void test_creates(struct rig *rig, struct client *client)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/fifo", rig->dir);
	mkfifo(path, 0600);
	snprintf(path, sizeof(path), "%s/huge", rig->dir);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	CHECK(rig, ftruncate(fd, (off_t)600 << 20) == 0, "no sparse file");
	close(fd);
	snprintf(path, sizeof(path), "%s/empty", rig->dir);
	close(open(path, O_WRONLY | O_CREAT, 0600));
	snprintf(path, sizeof(path), "%s/text", rig->dir);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	CHECK(rig, write(fd, "#!/bin/sh\n", 10) == 10, "no text file");
	close(fd);
	snprintf(path, sizeof(path), "%s/out", rig->dir);
	CHECK(rig, symlink("/usr", path) == 0, "no link");
	snprintf(path, sizeof(path), "%s-beside", rig->dir);
	mkdir(path, 0700);
	for (size_t i = 0; i < ARRAY_SIZE(creates); i++)
		expect(rig, client, "vm.create", creates[i].params, -32602, creates[i].field,
		       creates[i].reason);
	CHECK(rig, strcmp(rig_state(rig, client, "b"), "gone") == 0, "something was made");
	rmdir(path);
}

static void test_long_line(struct rig *rig)
{
	size_t len = 2 * 1024 * 1024;
	char *text = malloc(len);
	char line[1024];
	int fd = rig_connect(rig), code;

	memset(text, 'x', len);
	text[len - 1] = '\n';
	raw_send(fd, text, len);
	code = raw_code(fd);
	CHECK(rig, code == -32600, "2 MiB line: %d", code);
	CHECK(rig, raw_line(fd, line, sizeof(line), 30000) == 0, "the connection stays open");
	close(fd);
	/* One of exactly 1 MiB is only a bad request. */
	fd = rig_connect(rig);
	text[1024 * 1024] = '\n';
	raw_send(fd, text, 1024 * 1024 + 1);
	code = raw_code(fd);
	CHECK(rig, code == -32700, "1 MiB line: %d", code);
	raw_text(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"vm.list\",\"id\":1}\n");
	CHECK(rig, raw_code(fd) == 0, "after 1 MiB");
	close(fd);
	free(text);
}

static void test_deep(struct rig *rig)
{
	char text[4096];
	int fd = rig_connect(rig);

	for (int depth = 31; depth <= 1000; depth += 969) {
		size_t n = 0;

		memset(text, '[', (size_t)depth);
		n += (size_t)depth;
		memset(text + n, ']', (size_t)depth);
		n += (size_t)depth;
		text[n++] = '\n';
		raw_send(fd, text, n);
		CHECK(rig, raw_code(fd) == (depth == 31 ? 0 : -32700) || depth == 31, "depth %d", depth);
	}
	close(fd);
}

/* Half a message holds up nobody else, and a peer that goes away leaves nothing behind. */
static void test_half(struct rig *rig, struct client *client)
{
	int before = count_fds(rig->daemon), fds[50];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = rig_connect(rig);
		raw_text(fds[i], "{\"jsonrpc\":\"2.0\",\"meth");
	}
	CHECK(rig, rig_call(rig, client, "vm.list", NULL, NULL, NULL) == 0, "others wait");
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	for (int i = 0; i < 1500 && count_fds(rig->daemon) > before; i++)
		usleep(20000);
	CHECK(rig, count_fds(rig->daemon) <= before, "%d descriptors, %d before",
	      count_fds(rig->daemon), before);
}

/* All are answered, in order, though none is read before the last is sent. */
static void test_many(struct rig *rig)
{
	enum { N = 10000 };
	int fd = rig_connect(rig);
	unsigned good = 0;
	pid_t sender = fork();

	if (sender == 0) {
		for (int i = 0; i < N; i++) {
			char text[128];

			snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"method\":\"vm.%s\",\"id\":%d}\n",
				 i % 3 ? "list" : "nothing", i);
			raw_text(fd, text);
		}
		_exit(0);
	}
	usleep(300000);
	for (int i = 0; i < N; i++) {
		char line[65536], id[32];

		if (raw_line(fd, line, sizeof(line), 30000) <= 0)
			break;
		snprintf(id, sizeof(id), "\"id\":%d}", i);
		good += strstr(line, id) != NULL;
	}
	CHECK(rig, good == N, "%u of %d answered in order", good, N);
	close(fd);
}

static long resident_kib(pid_t pid)
{
	char path[64], line[256];
	long kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "VmRSS: %ld", &kib);
	if (file)
		fclose(file);
	return kib;
}

/* It asks and asks and never reads: the daemon stops listening to it, and to nobody else. */
static void test_reads_nothing(struct rig *rig, struct client *client)
{
	static const char ask[] = "{\"jsonrpc\":\"2.0\",\"method\":\"rpc.discover\",\"id\":1}\n";
	int fd = rig_connect(rig);
	long before = resident_kib(rig->daemon), after;
	uint64_t until = clock_monotonic_ns() + NSEC_PER_SEC;
	size_t sent = 0;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (clock_monotonic_ns() < until && sent < 64 * 1024 * 1024) {
		ssize_t n = send(fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL);

		if (n > 0)
			sent += (size_t)n;
		else
			usleep(1000);
	}
	after = resident_kib(rig->daemon);
	CHECK(rig, sent < 16 * 1024 * 1024, "it took %zu bytes of requests", sent);
	CHECK(rig, after - before < 16 * 1024, "it grew by %ld KiB", after - before);
	CHECK(rig, rig_call(rig, client, "vm.list", NULL, NULL, NULL) == 0, "others wait");
	close(fd);
}

static void batch_of(char *text, int n, const char *request)
{
	strcpy(text, "[");
	for (int i = 0; i < n; i++) {
		strcat(text, i ? "," : "");
		strcat(text, request);
	}
	strcat(text, "]\n");
}

static size_t answers(int fd)
{
	static char line[4 * 1024 * 1024];
	json_object *list = NULL;
	ssize_t n = raw_line(fd, line, sizeof(line), 30000);
	size_t count = 0;

	if (n > 0 && json_parse(line, (size_t)n, &list, NULL, 0) == 0 &&
	    json_object_is_type(list, json_type_array))
		count = json_object_array_length(list);
	json_object_put(list);
	return count;
}

static void test_batches(struct rig *rig)
{
	static const char info[] = "{\"jsonrpc\":\"2.0\",\"method\":\"daemon.info\",\"id\":1}";
	static char text[65536];
	int fd = rig_connect(rig);

	batch_of(text, 64, info);
	raw_text(fd, text);
	CHECK(rig, answers(fd) == 64, "64 in a batch");
	batch_of(text, 65, info);
	raw_text(fd, text);
	CHECK(rig, raw_code(fd) == -32600, "65 in a batch");
	raw_text(fd, "[1,2,{\"jsonrpc\":\"2.0\",\"method\":\"daemon.info\",\"id\":1},[],"
		     "{\"jsonrpc\":\"2.0\",\"method\":\"daemon.info\"}]\n");
	CHECK(rig, answers(fd) == 4, "bad ones do not spoil the others");
	raw_text(fd, "[{\"jsonrpc\":\"2.0\",\"method\":\"vm.console\",\"params\":{\"name\":\"x\",\"fd\":true},"
		     "\"id\":1},{\"jsonrpc\":\"2.0\",\"method\":\"daemon.info\",\"id\":2}]\n");
	CHECK(rig, answers(fd) == 2, "a descriptor in a batch");
	close(fd);
}

/* A peer that is full: 300 connections, of which 256 may be. */
static void test_connections(struct rig *rig, struct client *client)
{
	int fds[300];
	unsigned refused = 0;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = rig_connect(rig);
		raw_text(fds[i], "{\"jsonrpc\":\"2.0\",\"method\":\"daemon.info\",\"id\":1}\n");
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		refused += raw_code(fds[i]) == -32005;
	CHECK(rig, refused >= 44 && refused <= 52, "%u refused", refused);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		close(fds[i]);
	CHECK(rig, rig_call(rig, client, "vm.list", NULL, NULL, NULL) == 0, "after the crowd");
}

/* Another user may look and not touch. */
static void test_access(struct rig *rig)
{
	int status, out[2];
	pid_t pid;

	if (geteuid() != 0 || pipe(out) < 0) {
		puts("skipped: access of another user (needs root)");
		rig->skipped++;
		return;
	}
	chmod(rig->dir, 0755);
	chmod(rig->socket, 0666);
	pid = fork();
	if (pid == 0) {
		struct client *client;

		if (setgid(65534) < 0 || setuid(65534) < 0 || client_new(rig->socket, &client) < 0)
			_exit(1);
		if (rig_call(rig, client, "vm.list", NULL, NULL, NULL) != 0)
			_exit(2);
		for (enum method_id id = 0; id < METHOD_COUNT; id++)
			if (method_get(id)->access == ACCESS_WRITE &&
			    rig_call(rig, client, method_get(id)->name, "{\"name\":\"a\"}", NULL,
				     NULL) != -32006)
				_exit(10 + (int)id);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	CHECK(rig, status == 0, "as another user: %#x", status);
	chmod(rig->socket, 0600);
}

/* Half a line is not waited for beyond 30 s: fd was given one when the test began. */
static void test_half_for_long(struct rig *rig, int fd)
{
	char line[1024];
	ssize_t n = raw_line(fd, line, sizeof(line), 40000);

	CHECK(rig, n > 0 && strstr(line, "-32700") && strstr(line, "half-line"), "half a line: %zd", n);
	CHECK(rig, raw_line(fd, line, sizeof(line), 30000) == 0, "the connection stays open");
	close(fd);
}

int main(void)
{
	struct rig rig;
	struct client *client;
	int half;

	rig_init(&rig);
	half = rig_connect(&rig);
	raw_text(half, "{\"jsonrpc\":\"2.0\",");
	client = rig_client(&rig);
	test_lines(&rig);
	test_methods(&rig, client);
	test_nets(&rig, client);
	test_creates(&rig, client);
	test_long_line(&rig);
	test_deep(&rig);
	test_half(&rig, client);
	test_many(&rig);
	test_reads_nothing(&rig, client);
	test_batches(&rig);
	test_connections(&rig, client);
	test_access(&rig);
	test_half_for_long(&rig, half);
	client_free(client);
	return rig_finish(&rig);
}
