/* SPDX-License-Identifier: Apache-2.0 */
/* signals.c - what would end vmctl, as events. */
#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/cli.h"
#include "common/checked.h"

int signals_take(struct ctl *ctl, bool resizes)
{
	static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	sigset_t set;
	int fd;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct sigaction old;

		/* One that is ignored would be seen all the same once it is blocked. */
		if (sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
			sigaddset(&set, numbers[i]);
	}
	if (resizes)
		sigaddset(&set, SIGWINCH);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(ctl->signals, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	ctl->signals = fd;
	return 0;
}

int signals_next(struct ctl *ctl)
{
	struct signalfd_siginfo info;

	return read(ctl->signals, &info, sizeof(info)) == (ssize_t)sizeof(info) ? (int)info.ssi_signo : 0;
}
