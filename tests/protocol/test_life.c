/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a VM through the API: states, ends, events, files, what is possible when. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/clock.h"
#include "tests/protocol/rig.h"

static bool is_state(struct rig *rig, struct client *client, const char *name, const char *state)
{
	return strcmp(rig_state(rig, client, name), state) == 0;
}

/* A call about one VM. */
static int named(struct rig *rig, struct client *client, const char *method, const char *name,
		 json_object **ret)
{
	char params[128];

	snprintf(params, sizeof(params), "{\"name\":\"%s\"}", name);
	return rig_call(rig, client, method, params, ret, NULL);
}

static json_object *parse(const char *text)
{
	json_object *object = NULL;

	json_parse(text, strlen(text), &object, NULL, 0);
	return object;
}

static const struct {
	const char *script, *state, *reason;
} ends[] = {
	{ "say=hello poweroff", "stopped", "guest-poweroff" },
	{ "say=hello crash", "failed", "triple-fault" },
	{ "engine", "failed", "engine-error" },
	{ "debugexit=5", "stopped", "debug-exit" },
	{ "sleep=50 abort", "failed", "machine-died" },
	{ "reboot=3 poweroff", "stopped", "guest-poweroff" },
};

static void test_ends(struct rig *rig, struct client *client)
{
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		json_object *info = NULL;
		char name[16];

		snprintf(name, sizeof(name), "end%zu", i);
		CHECK(rig, rig_vm(rig, client, name, ends[i].script), "%s", ends[i].script);
		CHECK(rig, named(rig, client, "vm.wait", name, &info) == 0, "wait");
		CHECK(rig, !strcmp(json_get_str(info, "state", ""), ends[i].state) &&
		      !strcmp(json_get_str(info, "reason", ""), ends[i].reason),
		      "%s: %s", ends[i].script, json_text(info));
		CHECK(rig, json_get(info, "pid") == NULL, "it has a process still");
		if (i == 1) {
			CHECK(rig, strcmp(json_get_str(info, "rip", ""), "0xffffffff81000123") == 0,
			      "RIP: %s", json_text(info));
			CHECK(rig, strcmp(json_object_get_string(json_object_array_get_idx(
					  json_get(info, "console_tail"), 0)), "hello") == 0,
			      "console_tail: %s", json_text(info));
		}
		if (i == 3)
			CHECK(rig, json_get_int(info, "exit_code", 0) == 11, "exit code");
		if (i == 5)
			CHECK(rig, json_get_int(info, "resets", 0) == 3, "resets");
		json_object_put(info);
		/* It can be started again, and ends the same. */
		CHECK(rig, named(rig, client, "vm.start", name, NULL) == 0, "again");
		CHECK(rig, named(rig, client, "vm.wait", name, NULL) == 0, "wait again");
		CHECK(rig, named(rig, client, "vm.delete", name, NULL) == 0, "delete");
		CHECK(rig, is_state(rig, client, name, "gone"), "deleted");
	}
}

/* Which of these is possible in which state. */
static const char *const verbs[] = { "vm.start", "vm.stop", "vm.kill", "vm.pause", "vm.resume",
				     "vm.reset", "vm.delete", "vm.console" };
enum { START, STOP, KILL, PAUSE, RESUME, RESET, DELETE, CONSOLE };

static void refused(struct rig *rig, struct client *client, const char *name, unsigned which)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (!(which & (1u << i)))
			continue;
		CHECK(rig, named(rig, client, verbs[i], name, NULL) == -32002, "%s of %s (%s)",
		      verbs[i], name, rig_state(rig, client, name));
	}
}

/* It counts from the request: no process is made in less than a fraction of a millisecond. */
static void test_boot_time(struct rig *rig, struct client *client)
{
	uint64_t asked = clock_monotonic_ns();
	json_object *info = NULL;
	double ms, most;

	CHECK(rig, rig_call(rig, client, "vm.create", "{\"name\":\"b\",\"kernel\":\"@K\"}", NULL,
			    NULL) == 0, "create");
	CHECK(rig, named(rig, client, "vm.start", "b", NULL) == 0, "start");
	most = (double)(clock_monotonic_ns() - asked) / 1e6;
	CHECK(rig, named(rig, client, "vm.info", "b", &info) == 0, "info");
	ms = json_get_number(info, "boot_ms", 0);
	CHECK(rig, ms > 0.4 && ms <= most, "first instruction after %f of %f ms", ms, most);
	json_object_put(info);
	named(rig, client, "vm.kill", "b", NULL);
	named(rig, client, "vm.wait", "b", NULL);
	named(rig, client, "vm.delete", "b", NULL);
}

static void test_states(struct rig *rig, struct client *client)
{
	unsigned ended = 1u << STOP | 1u << KILL | 1u << PAUSE | 1u << RESUME | 1u << RESET |
			 1u << CONSOLE;

	CHECK(rig, rig_call(rig, client, "vm.create", "{\"name\":\"s\",\"kernel\":\"@K\"}", NULL,
			    NULL) == 0, "create");
	CHECK(rig, rig_call(rig, client, "vm.create", "{\"name\":\"s\",\"kernel\":\"@K\"}", NULL,
			    NULL) == -32003, "the name is taken");
	CHECK(rig, is_state(rig, client, "s", "created none"), "created");
	refused(rig, client, "s", ended);
	CHECK(rig, named(rig, client, "vm.wait", "s", NULL) == 0, "wait for what does not run");
	CHECK(rig, named(rig, client, "vm.start", "s", NULL) == 0, "start");
	CHECK(rig, is_state(rig, client, "s", "running none"), "running");
	refused(rig, client, "s", 1u << START | 1u << RESUME | 1u << DELETE);
	CHECK(rig, named(rig, client, "vm.pause", "s", NULL) == 0, "pause");
	CHECK(rig, is_state(rig, client, "s", "paused none"), "paused");
	refused(rig, client, "s", 1u << START | 1u << PAUSE | 1u << DELETE);
	CHECK(rig, named(rig, client, "vm.resume", "s", NULL) == 0, "resume");
	CHECK(rig, is_state(rig, client, "s", "running none"), "running again");
	CHECK(rig, named(rig, client, "vm.reset", "s", NULL) == 0, "reset");
	CHECK(rig, named(rig, client, "vm.pause", "s", NULL) == 0, "pause");
	CHECK(rig, named(rig, client, "vm.kill", "s", NULL) == 0, "kill");
	CHECK(rig, is_state(rig, client, "s", "stopped killed"), "killed");
	refused(rig, client, "s", ended);
	CHECK(rig, named(rig, client, "vm.delete", "s", NULL) == 0, "delete");
}

static void test_stop(struct rig *rig, struct client *client)
{
	static const struct {
		const char *script, *params, *state;
		bool forced, pause;
	} stops[] = {
		{ "", "{\"name\":\"st\"}", "stopped guest-poweroff", false, false },
		{ "", "{\"name\":\"st\"}", "stopped guest-poweroff", false, true },
		{ "nobutton", "{\"name\":\"st\",\"timeout_s\":0.2}", "stopped killed", true, false },
		{ "nobutton", "{\"name\":\"st\",\"timeout_s\":0}", "stopped killed", true, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(stops); i++) {
		json_object *result = NULL;

		CHECK(rig, rig_vm(rig, client, "st", stops[i].script), "start");
		usleep(50000);
		if (stops[i].pause)
			CHECK(rig, named(rig, client, "vm.pause", "st", NULL) == 0, "pause");
		CHECK(rig, rig_call(rig, client, "vm.stop", stops[i].params, &result, NULL) == 0,
		      "stop %zu", i);
		CHECK(rig, json_get_bool(result, "forced", false) == stops[i].forced, "%s",
		      json_text(result));
		CHECK(rig, is_state(rig, client, "st", stops[i].state), "%s",
		      rig_state(rig, client, "st"));
		json_object_put(result);
		named(rig, client, "vm.delete", "st", NULL);
	}
}

/* What can only be found out at the start: an exact error, and nothing is left behind. */
static void test_start_errors(struct rig *rig, struct client *client)
{
	struct rpc_error error;
	char path[128];
	int before = count_fds(rig->daemon), fd, r;

	snprintf(path, sizeof(path), "%s/initrd", rig->dir);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	CHECK(rig, ftruncate(fd, 40 << 20) == 0, "initrd");
	close(fd);
	rig_call(rig, client, "vm.create", "{\"name\":\"e\",\"kernel\":\"@K\",\"memory\":\"64M\","
		 "\"engine\":\"soft\",\"initrd\":\"@D/initrd\"}", NULL, NULL);
	r = rig_call(rig, client, "vm.start", "{\"name\":\"e\"}", NULL, &error);
	CHECK(rig, r == -32008 && !strcmp(error.field, "initrd"), "%d %s: %s", r, error.field,
	      error.message);
	CHECK(rig, is_state(rig, client, "e", "failed boot-error"), "%s", rig_state(rig, client, "e"));
	unlink(path);
	r = rig_call(rig, client, "vm.start", "{\"name\":\"e\"}", NULL, &error);
	CHECK(rig, r == -32602 && !strcmp(error.field, "initrd"), "%d %s", r, error.message);
	named(rig, client, "vm.delete", "e", NULL);
	rig_call(rig, client, "vm.create", "{\"name\":\"e\",\"kernel\":\"@K\",\"engine\":\"soft\","
		 "\"cmdline\":\"noengine\"}", NULL, NULL);
	r = rig_call(rig, client, "vm.start", "{\"name\":\"e\"}", NULL, &error);
	CHECK(rig, r == -32009 && !strcmp(error.field, "engine"), "%d %s: %s", r, error.field,
	      error.message);
	named(rig, client, "vm.delete", "e", NULL);
	CHECK(rig, count_fds(rig->daemon) == before, "%d descriptors, %d before",
	      count_fds(rig->daemon), before);
}

/* A disk that one VM writes is nobody else's. */
static void test_disk_lock(struct rig *rig, struct client *client)
{
	static const char *const disks[] = { "{\"path\":\"@D/disk\"}",
					     "{\"path\":\"@D/disk\",\"readonly\":true}" };
	struct rpc_error error;
	char path[128], params[512];
	int r;

	snprintf(path, sizeof(path), "%s/disk", rig->dir);
	close(open(path, O_WRONLY | O_CREAT, 0600));
	for (size_t a = 0; a < 2; a++) {
		for (size_t b = 0; b < 2; b++) {
			snprintf(params, sizeof(params), "{\"name\":\"da\",\"kernel\":\"@K\","
				 "\"engine\":\"soft\",\"disks\":[%s]}", disks[a]);
			CHECK(rig, rig_call(rig, client, "vm.create", params, NULL, NULL) == 0, "a");
			snprintf(params, sizeof(params), "{\"name\":\"db\",\"kernel\":\"@K\","
				 "\"engine\":\"soft\",\"disks\":[%s]}", disks[b]);
			CHECK(rig, rig_call(rig, client, "vm.create", params, NULL, NULL) == 0, "b");
			CHECK(rig, named(rig, client, "vm.start", "da", NULL) == 0, "start a");
			r = rig_call(rig, client, "vm.start", "{\"name\":\"db\"}", NULL, &error);
			CHECK(rig, r == (a && b ? 0 : -32004), "%zu %zu: %d %s", a, b, r,
			      error.message);
			named(rig, client, "vm.kill", "da", NULL);
			if (r) /* free again with the other's end */
				CHECK(rig, named(rig, client, "vm.start", "db", NULL) == 0, "later");
			named(rig, client, "vm.kill", "db", NULL);
			named(rig, client, "vm.delete", "da", NULL);
			named(rig, client, "vm.delete", "db", NULL);
		}
	}
}

static void test_wait(struct rig *rig, struct client *client)
{
	struct client *other = rig_client(rig);
	json_object *message = NULL;
	int64_t id;
	int r;

	CHECK(rig, rig_vm(rig, client, "w", ""), "start");
	r = rig_call(rig, client, "vm.wait", "{\"name\":\"w\",\"timeout_s\":0.1}", NULL, NULL);
	CHECK(rig, r == -32007, "timeout: %d", r);
	id = client_send(other, "vm.wait", parse("{\"name\":\"w\"}"));
	CHECK(rig, client_next(other, 200, &message) < 0, "answered too early");
	named(rig, client, "vm.kill", "w", NULL);
	CHECK(rig, client_next(other, 30000, &message) == 0 &&
	      json_get_int(message, "id", 0) == id, "the other's wait");
	json_object_put(message);
	client_free(other);
	/* Waiters that go away are forgotten. */
	named(rig, client, "vm.start", "w", NULL);
	for (int i = 0; i < 50; i++) {
		other = rig_client(rig);
		client_send(other, "vm.wait", parse("{\"name\":\"w\"}"));
		client_free(other);
	}
	named(rig, client, "vm.kill", "w", NULL);
	named(rig, client, "vm.delete", "w", NULL);
}

/* The next notification of that method; its params (owned). */
static json_object *next_event(struct client *client)
{
	json_object *message = NULL, *params = NULL;

	if (client_next(client, 30000, &message) == 0)
		params = json_object_get(json_get(message, "params"));
	json_object_put(message);
	return params;
}

static void test_events(struct rig *rig, struct client *client)
{
	static const char *const expected[] = { "vm.created", "starting", "running", "stopping",
						"stopped", "vm.deleted" };
	struct client *listener = rig_client(rig);
	json_object *result = NULL, *event;
	int64_t next, seq = 0;

	rig_call(rig, listener, "events.subscribe", "{}", &result, NULL);
	next = json_get_int(result, "next", 0);
	json_object_put(result);
	rig_vm(rig, client, "ev", ""); /* until it is told: one that is seen to run */
	named(rig, client, "vm.stop", "ev", NULL);
	named(rig, client, "vm.wait", "ev", NULL);
	named(rig, client, "vm.delete", "ev", NULL);
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		event = next_event(listener);
		seq = json_get_int(event, "seq", 0);
		CHECK(rig, seq == next + (int64_t)i, "number %lld", (long long)seq);
		CHECK(rig, !strcmp(json_get_str(event, "type", ""), expected[i]) ||
		      !strcmp(json_get_str(event, "state", ""), expected[i]), "%zu: %s", i,
		      json_text(event));
		CHECK(rig, strcmp(json_get_str(event, "vm", ""), "ev") == 0, "whose");
		json_object_put(event);
	}
	client_free(listener);
	/* Again, from a number on. */
	listener = rig_client(rig);
	result = json_object_new_object();
	json_add_int(result, "from", seq - 1);
	client_send(listener, "events.subscribe", result);
	json_object_put(next_event(listener)); /* the answer */
	event = next_event(listener);
	CHECK(rig, json_get_int(event, "seq", 0) == seq - 1, "replay: %s", json_text(event));
	json_object_put(event);
	client_free(listener);
}

/* A listener that does not read loses events, is told how many, and holds up nothing. */
static void test_slow_listener(struct rig *rig, struct client *client)
{
	struct client *slow = rig_client(rig);
	json_object *message = NULL;
	int64_t lost = 0, seen = 0, first = 0, seq = 0;
	bool over = false;

	rig_call(rig, slow, "events.subscribe", "{}", NULL, NULL);
	rig_vm(rig, client, "many-many-many-many-many-many", "");
	for (int i = 0; i < 3000; i++) {
		named(rig, client, "vm.pause", "many-many-many-many-many-many", NULL);
		named(rig, client, "vm.resume", "many-many-many-many-many-many", NULL);
	}
	named(rig, client, "vm.kill", "many-many-many-many-many-many", NULL);
	while (!over && client_next(slow, 30000, &message) == 0) {
		json_object *params = json_get(message, "params");

		if (!strcmp(json_get_str(message, "method", ""), "events.lost")) {
			lost += json_get_int(params, "lost", 0);
		} else {
			seq = json_get_int(params, "seq", 0);
			first = first ? first : seq;
			seen++;
			over = strcmp(json_get_str(params, "state", ""), "stopped") == 0;
		}
		json_object_put(message);
	}
	CHECK(rig, seen + lost == seq - first + 1 && seen >= 1024, "%lld seen, %lld lost, %lld..%lld",
	      (long long)seen, (long long)lost, (long long)first, (long long)seq);
	CHECK(rig, over, "the newest event did not come");
	CHECK(rig, lost > 0, "nothing was lost: the test proves nothing");
	named(rig, client, "vm.delete", "many-many-many-many-many-many", NULL);
	client_free(slow);
}

static void test_transient(struct rig *rig, struct client *client)
{
	json_object *info = NULL;

	rig_call(rig, client, "vm.create", "{\"name\":\"tr\",\"kernel\":\"@K\",\"transient\":true,"
		 "\"engine\":\"soft\",\"cmdline\":\"sleep=100 poweroff\"}", NULL, NULL);
	named(rig, client, "vm.start", "tr", NULL);
	CHECK(rig, named(rig, client, "vm.wait", "tr", &info) == 0 &&
	      !strcmp(json_get_str(info, "reason", ""), "guest-poweroff"), "its end");
	json_object_put(info);
	CHECK(rig, is_state(rig, client, "tr", "gone"), "it is still there");
}

static void test_stats(struct rig *rig, struct client *client)
{
	json_object *info = NULL;

	rig_vm(rig, client, "in", "");
	rig_call(rig, client, "vm.info", "{\"name\":\"in\",\"stats\":true}", &info, NULL);
	CHECK(rig, json_get_int(json_get(info, "stats"), "fake.exits", 0) == 42, "%s",
	      json_text(info));
	CHECK(rig, json_get_int(info, "pid", 0) > 1, "pid");
	CHECK(rig, !strcmp(json_get_str(info, "engine", ""), "soft"), "engine");
	CHECK(rig, json_get_int(info, "memory", 0) == 64 << 20, "memory");
	json_object_put(info);
	named(rig, client, "vm.kill", "in", NULL);
	named(rig, client, "vm.delete", "in", NULL);
}

/* The VM's process has nothing but its own, and can gain nothing. */
static void test_process(struct rig *rig, struct client *client)
{
	json_object *info = NULL;
	char path[128], line[512];
	bool no_privileges = false, no_core = false;
	struct dirent *entry;
	FILE *file;
	DIR *dir;
	int pid;

	rig_vm(rig, client, "pr", "");
	named(rig, client, "vm.info", "pr", &info);
	pid = (int)json_get_int(info, "pid", 0);
	json_object_put(info);
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	CHECK(rig, dir != NULL, "%s", path);
	while (dir && (entry = readdir(dir))) {
		char link[640];
		ssize_t n;

		snprintf(link, sizeof(link), "%s/%s", path, entry->d_name);
		n = readlink(link, line, sizeof(line) - 1);
		line[n > 0 ? n : 0] = '\0';
		CHECK(rig, !strstr(line, "/lock") && !strstr(line, "/state") &&
		      !strstr(line, "vmxd.sock"), "it has %s", line);
	}
	if (dir)
		closedir(dir);
	CHECK(rig, count_fds(pid) < 32, "%d descriptors", count_fds(pid));
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file))
		no_privileges |= strcmp(line, "NoNewPrivs:\t1\n") == 0;
	if (file)
		fclose(file);
	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	file = fopen(path, "r");
	while (file && fgets(line, sizeof(line), file)) {
		unsigned long soft, hard;

		no_core |= sscanf(line, "Max core file size %lu %lu", &soft, &hard) == 2 && !soft &&
			   !hard;
	}
	if (file)
		fclose(file);
	CHECK(rig, no_privileges, "it may gain privileges");
	CHECK(rig, no_core, "it may leave a core file");
	named(rig, client, "vm.kill", "pr", NULL);
	named(rig, client, "vm.delete", "pr", NULL);
}

/* A guest that resets itself is told at once, not with its end. */
static void test_resets(struct rig *rig, struct client *client)
{
	json_object *info = NULL;
	int64_t resets = 0;

	rig_vm(rig, client, "re", "reboot=2");
	for (int i = 0; i < 1500 && resets < 2; i++) {
		usleep(20000);
		named(rig, client, "vm.info", "re", &info);
		resets = json_get_int(info, "resets", 0);
		json_object_put(info);
	}
	CHECK(rig, resets == 2, "%lld resets", (long long)resets);
	named(rig, client, "vm.kill", "re", NULL);
	named(rig, client, "vm.delete", "re", NULL);
}

static int by_value(const void *a, const void *b)
{
	return *(const uint64_t *)a < *(const uint64_t *)b ? -1 : 1;
}

/* Not a limit that fails: a figure (the bench shows it), and that it is not absurd. */
static void test_round_trip(struct rig *rig, struct client *client)
{
	enum { N = 500 };
	uint64_t times[N];

	rig_vm(rig, client, "rt", "");
	for (int i = 0; i < N; i++) {
		uint64_t start = clock_monotonic_ns();

		named(rig, client, "vm.info", "rt", NULL);
		times[i] = clock_monotonic_ns() - start;
	}
	qsort(times, N, sizeof(times[0]), by_value);
	printf("vm.info round trip: median %.3f ms\n", (double)times[N / 2] / 1e6);
	CHECK(rig, times[N / 2] < NSEC_PER_SEC, "it takes over a second");
	named(rig, client, "vm.kill", "rt", NULL);
	named(rig, client, "vm.delete", "rt", NULL);
}

int main(void)
{
	struct rig rig;
	struct client *client;
	int before;

	rig_init(&rig);
	client = rig_client(&rig);
	rig_call(&rig, client, "daemon.probe", NULL, NULL, NULL);
	before = count_fds(rig.daemon);
	test_ends(&rig, client);
	test_boot_time(&rig, client);
	test_states(&rig, client);
	test_stop(&rig, client);
	test_start_errors(&rig, client);
	test_disk_lock(&rig, client);
	test_wait(&rig, client);
	test_events(&rig, client);
	test_slow_listener(&rig, client);
	test_transient(&rig, client);
	test_stats(&rig, client);
	test_process(&rig, client);
	test_resets(&rig, client);
	test_round_trip(&rig, client);
	CHECK(&rig, count_fds(rig.daemon) == before, "%d descriptors, %d at the start",
	      count_fds(rig.daemon), before);
	client_free(client);
	return rig_finish(&rig);
}
