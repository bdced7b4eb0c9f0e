/* SPDX-License-Identifier: Apache-2.0 */
/* The console: scrollback, several readers, input, slow and vanishing readers, every last byte. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/clock.h"
#include "protocol/unix.h"
#include "tests/protocol/rig.h"

static void end_vm(struct rig *rig, struct client *client, const char *name)
{
	char params[128];

	snprintf(params, sizeof(params), "{\"name\":\"%s\"}", name);
	rig_call(rig, client, "vm.kill", params, NULL, NULL);
	rig_call(rig, client, "vm.delete", params, NULL, NULL);
}

static int attach(struct rig *rig, struct client *client, const char *name)
{
	char params[128];
	json_object *result = NULL;
	int fd;

	snprintf(params, sizeof(params), "{\"name\":\"%s\",\"fd\":true}", name);
	rig_call(rig, client, "vm.console", params, &result, NULL);
	fd = client_take_fd(client);
	CHECK(rig, fd >= 0 && json_get_int(result, "fds", -1) == 1, "no descriptor for %s", name);
	json_object_put(result);
	return fd;
}

/* Reads until text is in what came, or the time is over. */
static bool read_until(int fd, const char *text, int timeout_ms)
{
	uint64_t until = clock_monotonic_ns() + (uint64_t)timeout_ms * 1000000;
	static char seen[1024 * 1024];
	size_t n = 0;

	while (clock_monotonic_ns() < until && n < sizeof(seen) - 1) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t got;

		if (poll(&p, 1, 50) != 1)
			continue;
		got = read(fd, seen + n, sizeof(seen) - 1 - n);
		if (got <= 0)
			break;
		n += (size_t)got;
		seen[n] = '\0';
		if (strstr(seen, text))
			return true;
	}
	return false;
}

static void test_scrollback(struct rig *rig, struct client *client)
{
	int first, second;

	CHECK(rig, rig_vm(rig, client, "c", "say=welcome lines=100 shell"), "start");
	first = attach(rig, client, "c");
	CHECK(rig, read_until(first, "welcome\r\nline 0\r\n", 30000), "scrollback");
	raw_text(first, "one\n");
	CHECK(rig, read_until(first, "got: one", 30000), "the echo");
	close(first);
	/* Who comes later sees what was said meanwhile. */
	second = attach(rig, client, "c");
	CHECK(rig, read_until(second, "got: one", 30000), "what was missed");
	first = attach(rig, client, "c");
	raw_text(first, "two\n");
	CHECK(rig, read_until(first, "got: two", 30000) && read_until(second, "got: two", 30000),
	      "two readers");
	/* One that only shut down its input still reads. */
	shutdown(first, SHUT_WR);
	raw_text(second, "three\n");
	CHECK(rig, read_until(first, "got: three", 30000), "half closed");
	close(first);
	close(second);
	end_vm(rig, client, "c");
}

static void test_socket_path(struct rig *rig, struct client *client)
{
	json_object *result = NULL;
	int fd;

	CHECK(rig, rig_vm(rig, client, "p", "say=here shell"), "start");
	rig_call(rig, client, "vm.console", "{\"name\":\"p\"}", &result, NULL);
	CHECK(rig, json_get_int(result, "fds", -1) == 0, "fds");
	fd = unix_connect(json_get_str(result, "socket", ""), 0);
	CHECK(rig, fd >= 0 && read_until(fd, "here", 30000), "by its path");
	close(fd);
	json_object_put(result);
	end_vm(rig, client, "p");
}

/* A guest that speaks and ends at once: whoever asked for the console with the start gets it all. */
static void test_last_byte(struct rig *rig, struct client *client)
{
	static char bytes[300000];

	rig_call(rig, client, "vm.create", "{\"name\":\"q\",\"kernel\":\"@K\",\"engine\":\"soft\","
		 "\"cmdline\":\"flood=200000 say=END poweroff\"}", NULL, NULL);
	for (int round = 0; round < 10; round++) {
		size_t n = 0;
		ssize_t got;
		int fd;

		rig_call(rig, client, "vm.start", "{\"name\":\"q\",\"console\":true}", NULL, NULL);
		fd = client_take_fd(client);
		if (round % 2)
			usleep(200000); /* it has long ended when the first byte is read */
		while (fd >= 0 && n < sizeof(bytes) &&
		       (got = read(fd, bytes + n, sizeof(bytes) - n)) > 0)
			n += (size_t)got;
		CHECK(rig, n == 200000 + 5 && memcmp(bytes + n - 5, "END\r\n", 5) == 0,
		      "round %d: %zu bytes", round, n);
		close(fd);
		rig_call(rig, client, "vm.wait", "{\"name\":\"q\"}", NULL, NULL);
	}
	rig_call(rig, client, "vm.delete", "{\"name\":\"q\"}", NULL, NULL);
}

/* Reads up to the text. How many bytes the guest had said by its end: those that came, and those that the
 * console's notes say are missing. */
static uint64_t said_until(int fd, const char *text, uint64_t *ret_missing)
{
	static const char before[] = "\r\n[vmxd: ", after[] = " bytes are missing here: read too slowly]\r\n";
	static char seen[4 * 1024 * 1024];
	const struct timeval limit = { .tv_sec = 30 };
	const char *note = seen, *found = NULL;
	uint64_t said;
	size_t n = 0;
	ssize_t got;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	while (!found && n < sizeof(seen) - 1 && (got = read(fd, seen + n, sizeof(seen) - 1 - n)) > 0) {
		n += (size_t)got;
		seen[n] = '\0';
		found = strstr(seen, text);
	}
	*ret_missing = 0;
	if (!found)
		return 0;
	said = (uint64_t)(found - seen) + strlen(text);
	while ((note = strstr(note, before))) {
		char *end;

		*ret_missing += strtoull(note + strlen(before), &end, 10);
		if (strncmp(end, after, strlen(after)) != 0)
			return 0;
		end += strlen(after);
		said -= (uint64_t)(end - note);
		note = end;
	}
	return said + *ret_missing;
}

/* Readers that do not read: the guest goes on, the oldest is dropped, the newest is there, and who reads
 * after all is told what is missing. */
static void test_slow_reader(struct rig *rig, struct client *client)
{
	uint64_t start = clock_monotonic_ns();
	json_object *info = NULL;
	uint64_t said, missing;
	int fd, idle;

	rig_call(rig, client, "vm.create", "{\"name\":\"f\",\"kernel\":\"@K\",\"engine\":\"soft\","
		 "\"cmdline\":\"flood=20000000 say=PAST shell\"}", NULL, NULL);
	rig_call(rig, client, "vm.start", "{\"name\":\"f\",\"console\":true}", NULL, NULL);
	fd = client_take_fd(client);
	idle = attach(rig, client, "f");
	for (int i = 0; i < 600; i++) { /* another reader sees that the guest came through */
		int other = attach(rig, client, "f");
		bool past = read_until(other, "PAST", 300);

		close(other);
		if (past)
			break;
		CHECK(rig, i < 599, "the guest waits for a reader");
	}
	printf("20 MB past a reader that sleeps: %.1f s\n",
	       (double)(clock_monotonic_ns() - start) / 1e9);
	rig_call(rig, client, "vm.info", "{\"name\":\"f\"}", &info, NULL);
	CHECK(rig, strcmp(json_get_str(info, "state", ""), "running") == 0, "state");
	json_object_put(info);
	said = said_until(fd, "PAST\r\n", &missing);
	CHECK(rig, said == 20000000 + 6 && missing, "%llu bytes said, %llu missing",
	      (unsigned long long)said, (unsigned long long)missing);
	/* Its end waits for a reader that reads nothing, but not for ever. */
	start = clock_monotonic_ns();
	end_vm(rig, client, "f");
	CHECK(rig, clock_monotonic_ns() - start < 60 * NSEC_PER_SEC, "the end takes too long");
	close(fd);
	close(idle);
}

/* More readers than there is room for: the surplus is closed, the others live. */
static void test_many_readers(struct rig *rig, struct client *client)
{
	int fds[40], alive = 0;

	CHECK(rig, rig_vm(rig, client, "m", "say=crowd shell"), "start");
	for (int i = 0; i < 40; i++)
		fds[i] = attach(rig, client, "m");
	for (int i = 0; i < 40; i++)
		alive += read_until(fds[i], "crowd", i < 16 ? 30000 : 300);
	CHECK(rig, alive == 16, "%d readers live", alive);
	for (int i = 0; i < 40; i++)
		close(fds[i]);
	for (int i = 0; i < 600 && alive; i++) { /* once the machine has heard of it */
		usleep(50000);
		fds[0] = attach(rig, client, "m");
		alive = !read_until(fds[0], "crowd", 300);
		close(fds[0]);
	}
	CHECK(rig, !alive, "no room again");
	end_vm(rig, client, "m");
}

/* Input that the guest does not take yet is kept, up to what the sockets hold, and not lost. */
static void test_input(struct rig *rig, struct client *client)
{
	static char text[60000];
	int fd;

	memset(text, 'x', sizeof(text));
	for (size_t i = 99; i < sizeof(text); i += 100)
		text[i] = '\n';
	memcpy(text + sizeof(text) - 6, "\nlast\n", 6);
	CHECK(rig, rig_vm(rig, client, "i", "sleep=500 shell"), "start");
	fd = attach(rig, client, "i");
	raw_send(fd, text, sizeof(text));
	CHECK(rig, read_until(fd, "nothing-like-it", 1) == false, "impossible");
	for (int i = 0; i < 100; i++)
		if (read_until(fd, "got: last", 200))
			i = 1000;
		else if (i == 99)
			CHECK(rig, false, "the last line did not come");
	close(fd);
	end_vm(rig, client, "i");
}

static void test_none(struct rig *rig, struct client *client)
{
	rig_call(rig, client, "vm.create", "{\"name\":\"n\",\"kernel\":\"@K\",\"engine\":\"soft\","
		 "\"console\":\"none\",\"cmdline\":\"say=nobody_hears\"}", NULL, NULL);
	CHECK(rig, rig_call(rig, client, "vm.start", "{\"name\":\"n\",\"console\":true}", NULL,
			    NULL) == -32002, "start with what there is not");
	CHECK(rig, rig_call(rig, client, "vm.start", "{\"name\":\"n\"}", NULL, NULL) == 0, "start");
	CHECK(rig, rig_call(rig, client, "vm.console", "{\"name\":\"n\"}", NULL, NULL) == -32002,
	      "there is none");
	end_vm(rig, client, "n");
}

int main(void)
{
	struct rig rig;
	struct client *client;

	rig_init(&rig);
	client = rig_client(&rig);
	test_scrollback(&rig, client);
	test_socket_path(&rig, client);
	test_last_byte(&rig, client);
	test_slow_reader(&rig, client);
	test_many_readers(&rig, client);
	test_input(&rig, client);
	test_none(&rig, client);
	client_free(client);
	return rig_finish(&rig);
}
