/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest-bench-latency.c - how late a sleeper wakes: `guest-bench --latency` prints
 * `latency NAME P50 P90 P99 P99.9 MAX`, microseconds after the deadline that the clock shows when the
 * program runs again. The processor is idle in between, so that it has to be woken each time.
 */
#include <config.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/guest-bench.h"

#define ROUNDS 2000u
#define PERIOD_NS 1000000u
#define SECOND_NS 1000000000u

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void report(const char *name, uint64_t *late)
{
	static const unsigned parts[] = { 500, 900, 990, 999 };

	qsort(late, ROUNDS, sizeof(*late), compare);
	printf("latency %s", name);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		printf(" %.1f", (double)late[(size_t)ROUNDS * parts[i] / 1000] / 1000);
	printf(" %.1f\n", (double)late[ROUNDS - 1] / 1000);
}

static struct timespec to_timespec(uint64_t ns)
{
	return (struct timespec){ .tv_sec = (time_t)(ns / SECOND_NS), .tv_nsec = (long)(ns % SECOND_NS) };
}

/* Each deadline is set anew, some way off the last wake-up. */
static void sleeper(uint64_t *late)
{
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t at = bench_now_ns() + PERIOD_NS / 2 + i % 64 * (PERIOD_NS / 64);
		struct timespec t = to_timespec(at);

		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0)
			;
		late[i] = bench_now_ns() - at;
	}
}

/* Against the grid that was set at the beginning: what is missed stays late. */
static void periodic(uint64_t *late)
{
	uint64_t start = bench_now_ns() + PERIOD_NS, ticks = 0, n;
	const struct itimerspec when = { to_timespec(PERIOD_NS), to_timespec(start) };
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);

	if (fd < 0 || timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL) < 0) {
		perror("guest-bench: timerfd");
		exit(1);
	}
	for (unsigned i = 0; i < ROUNDS; i++) {
		if (read(fd, &n, sizeof(n)) != sizeof(n))
			exit(1);
		late[i] = bench_now_ns() - (start + ticks * PERIOD_NS);
		ticks += n;
	}
	close(fd);
}

int bench_latency(void)
{
	uint64_t *late = calloc(ROUNDS, sizeof(*late));

	if (!late)
		return 1;
	prctl(PR_SET_TIMERSLACK, 1);
	sleeper(late);
	report("sleep", late);
	periodic(late);
	report("timerfd", late);
	free(late);
	return 0;
}
