/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/thread.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "common/log.h"

struct start {
	const struct thread_hook *hook;
	enum thread_kind kind;
	char name[16];
	void *(*fn)(void *opaque);
	void *opaque;
};

void machine_thread_begin(const struct thread_hook *hook, enum thread_kind kind)
{
	if (hook)
		hook->begin(hook->opaque, kind);
}

static void *thread_main(void *opaque)
{
	struct start start = *(struct start *)opaque;

	free(opaque);
	/* By the thread itself: for another one's name a file would have to be opened. */
	(void)prctl(PR_SET_NAME, start.name);
	machine_thread_begin(start.hook, start.kind);
	return start.fn(start.opaque);
}

int machine_thread_create(pthread_t *ret_thread, const struct thread_hook *hook,
			  enum thread_kind kind, const char *name, void *(*fn)(void *),
			  void *opaque)
{
	static const int process_signals[] = { SIGINT,  SIGTERM, SIGHUP,   SIGQUIT, SIGCHLD,
					       SIGPIPE, SIGTSTP, SIGWINCH, SIGALRM };
	struct start *start = malloc(sizeof(*start));
	sigset_t block, old;
	int r;

	if (!start)
		return -ENOMEM;
	*start = (struct start){ .hook = hook, .kind = kind, .fn = fn, .opaque = opaque };
	snprintf(start->name, sizeof(start->name), "%s", name);
	sigemptyset(&block);
	for (size_t i = 0; i < sizeof(process_signals) / sizeof(process_signals[0]); i++)
		sigaddset(&block, process_signals[i]);
	pthread_sigmask(SIG_BLOCK, &block, &old);
	r = pthread_create(ret_thread, NULL, thread_main, start);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		free(start);
	return -r;
}

int machine_thread_take_turns(struct log *log, unsigned vcpus)
{
	struct sched_param param, none = { 0 };
	int policy = SCHED_RR;
	cpu_set_t host;

	/* With SCHED_RESET_ON_FORK, which is a bit beside it, other threads have no such policy. */
	if (sched_getscheduler(0) != SCHED_FIFO || sched_getparam(0, &param) < 0 ||
	    sched_getaffinity(0, sizeof(host), &host) < 0 || vcpus < (unsigned)CPU_COUNT(&host))
		return -1;
	if (sched_setscheduler(0, policy, &param) < 0) {
		policy = SCHED_OTHER;
		if (sched_setscheduler(0, policy, &none) < 0)
			return -1;
	}
	log_line(log, LOG_LEVEL_WARNING,
		 "started with SCHED_FIFO, under which a guest with %u vCPU(s) that spins may keep all %d host "
		 "processor(s) for ever: %s; to keep SCHED_FIFO give the VM fewer vCPUs or more processors",
		 vcpus, CPU_COUNT(&host),
		 policy == SCHED_RR ? "running with SCHED_RR and the same priority" :
				      "running without real-time priority, as SCHED_RR is not allowed");
	return policy;
}
