/* SPDX-License-Identifier: Apache-2.0 */
/* test_thread.c - which policy of the host's scheduler a VM's threads run under (machine/thread.c). */
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "machine/thread.h"
#include "tests/unit/unit.h"

#define PRIORITY 3
#define NOBODY 65534
#define CANNOT 100 /* status of a child that could not get what it needs */

struct child {
	int policy;      /* that it is started with, on one host processor */
	bool may_change; /* to another real-time policy */
	unsigned vcpus;
	int result, after; /* what take_turns() returns, and the policy then */
};

static int priority_of(int policy)
{
	return policy == SCHED_OTHER ? 0 : PRIORITY;
}

static int child_main(const struct child *c)
{
	struct sched_param param = { .sched_priority = priority_of(c->policy) };
	const struct rlimit none = { 0, 0 };
	struct log *log = log_new(STDERR_FILENO, LOG_LEVEL_WARNING, "test");
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((unsigned)sched_getcpu(), &one);
	if (!log || sched_setaffinity(0, sizeof(one), &one) < 0 || sched_setscheduler(0, c->policy, &param) < 0)
		return CANNOT;
	if (!c->may_change && (setrlimit(RLIMIT_RTPRIO, &none) < 0 || setuid(NOBODY) < 0))
		return CANNOT;
	if (machine_thread_take_turns(log, c->vcpus) != c->result)
		return 1;
	if (sched_getscheduler(0) != c->after || sched_getparam(0, &param) < 0)
		return 2;
	return param.sched_priority != priority_of(c->after) ? 3 : 0;
}

static int run(const struct child *c)
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(child_main(c));
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static const struct child fifo[] = {
	{ SCHED_FIFO, true, 1, SCHED_RR, SCHED_RR },
	{ SCHED_FIFO, true, 64, SCHED_RR, SCHED_RR },
	{ SCHED_FIFO, true, 0, -1, SCHED_FIFO }, /* fewer than host processors */
	{ SCHED_FIFO | SCHED_RESET_ON_FORK, true, 2, -1, SCHED_FIFO | SCHED_RESET_ON_FORK },
	{ SCHED_RR, true, 2, -1, SCHED_RR },
	{ SCHED_FIFO, false, 2, SCHED_OTHER, SCHED_OTHER },
};

static void test_fifo(void)
{
	for (size_t i = 0; i < sizeof(fifo) / sizeof(fifo[0]); i++)
		CU_ASSERT_EQUAL(run(&fifo[i]), 0);
}

static void test_other(void)
{
	CU_ASSERT_EQUAL(run(&(struct child){ SCHED_OTHER, true, 64, -1, SCHED_OTHER }), 0);
}

int main(void)
{
	CU_TestInfo both[] = {
		{ "no real-time policy", test_other },
		{ "SCHED_FIFO", test_fifo },
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo other[] = { both[0], CU_TEST_INFO_NULL };

	if (run(&fifo[0]) != CANNOT && run(&fifo[5]) != CANNOT)
		return UNIT_RUN(UNIT_SUITE("scheduling", both));
	printf("skip: SCHED_FIFO: this needs to be root, with real-time priorities\n");
	return UNIT_RUN_BUT(1, UNIT_SUITE("scheduling", other));
}
