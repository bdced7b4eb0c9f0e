/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

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
