/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/thread.h"

#include <signal.h>

int machine_thread_create(pthread_t *ret_thread, const char *name, void *(*fn)(void *),
			  void *opaque)
{
	static const int process_signals[] = { SIGINT,  SIGTERM, SIGHUP,   SIGQUIT, SIGCHLD,
					       SIGPIPE, SIGTSTP, SIGWINCH, SIGALRM };
	sigset_t block, old;
	int r;

	sigemptyset(&block);
	for (size_t i = 0; i < sizeof(process_signals) / sizeof(process_signals[0]); i++)
		sigaddset(&block, process_signals[i]);
	pthread_sigmask(SIG_BLOCK, &block, &old);
	r = pthread_create(ret_thread, NULL, fn, opaque);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r)
		return -r;
	(void)pthread_setname_np(*ret_thread, name);
	return 0;
}
