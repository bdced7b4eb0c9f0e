/* SPDX-License-Identifier: Apache-2.0 */
/* fake_guest.c - the guest of a fake board: it does the words of fake_board.h on a thread. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/protocol/fake_board.h"

enum end { GO_ON, END_KILLED, END_RESET };

static void set_state(struct board *b, enum board_state state)
{
	pthread_mutex_lock(&b->lock);
	if (b->info.state == BOARD_RUNNING)
		b->info.run_ns += clock_monotonic_ns() - b->ran_from_ns;
	if (state == BOARD_RUNNING)
		b->ran_from_ns = clock_monotonic_ns();
	b->info.state = state;
	pthread_mutex_unlock(&b->lock);
	b->changed(b->opaque);
}

static void stop(struct board *b, enum board_stop why, const char *detail)
{
	bool failed = why == BOARD_STOP_TRIPLE_FAULT || why == BOARD_STOP_ENGINE_ERROR;

	pthread_mutex_lock(&b->lock);
	b->info.stop = why;
	snprintf(b->info.detail, sizeof(b->info.detail), "%s", detail);
	if (failed)
		b->info.rip = 0xffffffff81000123;
	pthread_mutex_unlock(&b->lock);
	set_state(b, failed ? BOARD_FAILED : BOARD_STOPPED);
}

/* Waits up to timeout_ms (< 0: for ever) for fd's events or an order; true: fd is ready. */
static bool wait_for(struct board *b, int fd, short events, int timeout_ms, enum end *ret_end)
{
	uint64_t until = clock_monotonic_ns() + (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms) * 1000000;

	for (;;) {
		struct pollfd p[2] = { { .fd = b->wake, .events = POLLIN },
				       { .fd = fd, .events = events } };
		uint64_t now = clock_monotonic_ns(), count;
		int left = timeout_ms < 0 ? -1 : now >= until ? 0 : (int)((until - now) / 1000000) + 1;
		bool kill, reset, pause;

		pthread_mutex_lock(&b->lock);
		kill = b->want_kill;
		reset = b->want_reset;
		pause = b->want_pause;
		b->want_reset = false;
		if (b->nobutton)
			b->button = false;
		if (!kill && b->button && !pause)
			b->info.stop = BOARD_STOP_POWEROFF;
		kill |= b->button && !pause;
		pthread_mutex_unlock(&b->lock);
		if (kill || reset) {
			*ret_end = kill ? END_KILLED : END_RESET;
			return false;
		}
		if (pause != (b->info.state == BOARD_PAUSED))
			set_state(b, pause ? BOARD_PAUSED : BOARD_RUNNING);
		if (pause) {
			p[1].fd = -1;
			left = -1;
		} else if (!left) {
			return false;
		}
		poll(p, 2, left);
		if (p[0].revents && read(b->wake, &count, sizeof(count)) < 0)
			abort();
		if (p[1].revents)
			return true;
	}
}

static enum end print(struct board *b, const char *bytes, size_t len)
{
	enum end end = GO_ON;

	while (len && b->config.console_fd >= 0) {
		ssize_t n = write(b->config.console_fd, bytes, len);

		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		} else if (errno != EAGAIN ||
			   !wait_for(b, b->config.console_fd, POLLOUT, 30000, &end)) {
			break;
		}
	}
	return end;
}

static enum end flood(struct board *b, size_t total)
{
	enum { LINE = 32, LINES = 128 }; /* together: a call for each is seconds on a busy host */
	char text[LINES * LINE + 1];
	enum end end = GO_ON;

	for (size_t i = 0; i * LINE < total && end == GO_ON;) {
		size_t len = 0;

		for (; len < LINES * LINE && i * LINE < total; i++, len += LINE)
			snprintf(text + len, LINE + 1, "%08zu abcdefghijklmnopqrstuv\n", i);
		end = print(b, text, len);
	}
	return end;
}

static enum end say(struct board *b, const char *text)
{
	char line[300];

	snprintf(line, sizeof(line), "%s\r\n", text);
	for (char *p = line; *p; p++)
		if (*p == '_')
			*p = ' ';
	return print(b, line, strlen(line));
}

static enum end vsock(struct board *b, uint32_t port)
{
	char heard[100] = "refused";
	enum end end = GO_ON;
	bool answered = false;
	ssize_t n;

	pthread_mutex_lock(&b->lock);
	b->vsock_port = port;
	b->vsock_answered = false;
	pthread_mutex_unlock(&b->lock);
	b->changed(b->opaque);
	while (!answered && end == GO_ON) {
		wait_for(b, -1, 0, 10, &end);
		pthread_mutex_lock(&b->lock);
		answered = b->vsock_answered;
		pthread_mutex_unlock(&b->lock);
	}
	if (end == GO_ON && b->vsock_fd >= 0) {
		n = write(b->vsock_fd, "guest\n", 6);
		if (n == 6 && wait_for(b, b->vsock_fd, POLLIN, 30000, &end))
			n = read(b->vsock_fd, heard, sizeof(heard) - 1);
		heard[n > 0 ? n : 0] = '\0';
	}
	if (answered && b->vsock_fd >= 0)
		close(b->vsock_fd);
	return end == GO_ON ? say(b, heard) : end;
}

/* Returns true when the guest came to its end (already told). */
static bool shell_line(struct board *b, const char *line, enum end *end)
{
	char answer[300];

	if (strcmp(line, "poweroff") == 0)
		stop(b, BOARD_STOP_POWEROFF, "the guest powered itself off");
	else if (strcmp(line, "crash") == 0)
		stop(b, BOARD_STOP_TRIPLE_FAULT, "triple fault at RIP 0xffffffff81000123");
	else if (strcmp(line, "reboot") == 0)
		*end = END_RESET;
	else if (strncmp(line, "vsock=", 6) == 0)
		*end = vsock(b, (uint32_t)strtoul(line + 6, NULL, 10));
	else {
		snprintf(answer, sizeof(answer), "got: %s\r\n# ", line);
		*end = print(b, answer, strlen(answer));
	}
	return b->info.state == BOARD_STOPPED || b->info.state == BOARD_FAILED;
}

static bool shell(struct board *b, enum end *end)
{
	char line[256];
	size_t n = 0;

	*end = print(b, "# ", 2);
	while (*end == GO_ON) {
		char c;

		if (!wait_for(b, b->config.console_fd, POLLIN, -1, end))
			break;
		if (read(b->config.console_fd, &c, 1) != 1) {
			wait_for(b, -1, 0, -1, end);
			break;
		}
		if (c != '\n' && c != '\r') {
			if (n < sizeof(line) - 1)
				line[n++] = c;
			continue;
		}
		line[n] = '\0';
		n = 0;
		if (shell_line(b, line, end))
			return true;
	}
	return false;
}

/* One word of the script; true: the guest came to its end. */
static bool word(struct board *b, const char *w, enum end *end)
{
	const char *value = strchr(w, '=');
	unsigned long n = value ? strtoul(value + 1, NULL, 10) : 0;
	char line[64];

	if (strncmp(w, "say=", 4) == 0) {
		*end = say(b, value + 1);
	} else if (strcmp(w, "vmx") == 0) {
		*end = say(b, b->config.vm_flags & VMX_VM_NESTED ? "VMX is there" : "no VMX");
	} else if (strncmp(w, "lines=", 6) == 0) {
		for (unsigned long i = 0; i < n && *end == GO_ON; i++) {
			snprintf(line, sizeof(line), "line %lu", i);
			*end = say(b, line);
		}
	} else if (strncmp(w, "flood=", 6) == 0) {
		*end = flood(b, n);
	} else if (strncmp(w, "vsock=", 6) == 0) {
		*end = vsock(b, (uint32_t)n);
	} else if (strncmp(w, "sleep=", 6) == 0) {
		wait_for(b, -1, 0, (int)n, end);
	} else if (strcmp(w, "shell") == 0) {
		return shell(b, end);
	} else if (strcmp(w, "poweroff") == 0) {
		stop(b, BOARD_STOP_POWEROFF, "the guest powered itself off");
		return true;
	} else if (strcmp(w, "crash") == 0) {
		stop(b, BOARD_STOP_TRIPLE_FAULT, "triple fault at RIP 0xffffffff81000123");
		return true;
	} else if (strcmp(w, "engine") == 0) {
		stop(b, BOARD_STOP_ENGINE_ERROR, "the engine cannot go on");
		return true;
	} else if (strncmp(w, "debugexit=", 10) == 0) {
		b->info.exit_code = (int)(n << 1 | 1);
		stop(b, BOARD_STOP_DEBUG_EXIT, "the guest wrote to isa-debug-exit");
		return true;
	} else if (strncmp(w, "reboot=", 7) == 0) {
		if (b->info.resets < n)
			*end = END_RESET;
	} else if (strcmp(w, "abort") == 0) {
		abort();
	} else if (strcmp(w, "nobutton") == 0) {
		b->nobutton = true;
	}
	return false;
}

/* Runs the script once; true: the guest came to its end. */
static bool script(struct board *b, enum end *end)
{
	char *copy = strdup(b->cmdline), *save = NULL;
	bool over = false;

	*end = GO_ON;
	b->nobutton = false;
	for (char *w = strtok_r(copy, " ", &save); w && !over && *end == GO_ON;
	     w = strtok_r(NULL, " ", &save)) {
		/* Every instruction boundary takes orders. */
		wait_for(b, -1, 0, 0, end);
		if (*end == GO_ON)
			over = word(b, w, end);
	}
	free(copy);
	while (!over && *end == GO_ON)
		wait_for(b, -1, 0, -1, end);
	return over;
}

void *fake_guest(void *arg)
{
	struct board *b = arg;
	enum end end;

	b->info.boot_ns = clock_monotonic_ns() -
			  (b->config.asked_ns ? b->config.asked_ns : b->start_ns);
	set_state(b, BOARD_RUNNING);
	for (;;) {
		if (script(b, &end))
			return NULL;
		if (end == END_KILLED)
			break;
		if (b->config.reboot_stops) {
			stop(b, BOARD_STOP_RESET, "the guest asked for a reset");
			return NULL;
		}
		pthread_mutex_lock(&b->lock);
		b->info.resets++;
		pthread_mutex_unlock(&b->lock);
		b->changed(b->opaque);
	}
	if (b->info.stop == BOARD_STOP_POWEROFF)
		stop(b, BOARD_STOP_POWEROFF, "the guest powered itself off");
	else
		stop(b, BOARD_STOP_KILLED, "ended by force");
	return NULL;
}
