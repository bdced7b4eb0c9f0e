/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include "cli/cli.h"

/* The one thing that signal handlers and atexit() must reach, so it cannot be passed down. */
static struct termios saved;
static volatile sig_atomic_t raw;

void tty_restore(void)
{
	if (!raw)
		return;
	raw = 0;
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
}

/* For what ends the program without asking: the terminal is put right first. */
static void on_crash(int number)
{
	tty_restore();
	signal(number, SIG_DFL);
	raise(number);
}

bool tty_raw(void)
{
	static const int crashes[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	struct termios mode;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved) < 0)
		return false;
	mode = saved;
	cfmakeraw(&mode);
	if (isatty(STDOUT_FILENO))
		mode.c_oflag = saved.c_oflag; /* what vmctl itself says still has line ends */
	raw = 1;
	atexit(tty_restore);
	for (size_t i = 0; i < sizeof(crashes) / sizeof(crashes[0]); i++)
		signal(crashes[i], on_crash);
	if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &mode) < 0)
		raw = 0;
	return raw;
}
