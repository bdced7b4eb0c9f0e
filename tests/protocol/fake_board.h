/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_board.h - a test double of devices/board.h: its "guest" is a script in the kernel's command
 * line, so that the daemon and the client are tested to the last branch without a processor.
 *
 * Words, done in order, from the start again after a reset:
 *   say=TEXT      prints TEXT ('_' for a space) and a line end
 *   lines=N       prints "line 0" ... "line N-1"
 *   flood=N       prints N bytes of a pattern
 *   sleep=MS      runs for so long
 *   shell         reads lines: "poweroff", "reboot", "crash", "vsock=PORT", else echoes "got: LINE"
 *   poweroff, crash (triple fault), debugexit=N
 *   reboot=N      resets until there were N resets
 *   abort         the whole process dies of SIGABRT
 *   nobutton      from here on the power button does nothing
 *   engine        ends with an engine error
 *   vsock=PORT    connects to that port of the host, says "guest" and prints what it hears; or prints
 *                 "refused"
 * At the end of the script the guest waits; the power button powers it off.
 */
#ifndef TESTS_PROTOCOL_FAKE_BOARD_H
#define TESTS_PROTOCOL_FAKE_BOARD_H

#include <pthread.h>

#include "devices/board.h"

#define FAKE_UNITS_MAX (BOARD_DISKS_MAX + BOARD_NETS_MAX)

struct board {
	struct board_config config;
	char *cmdline;
	board_changed_fn *changed;
	void *opaque;
	pthread_t thread;
	pthread_mutex_t lock;
	int wake; /* eventfd: something below changed */
	struct board_info info;
	uint64_t start_ns, ran_from_ns;
	struct board_unit units[FAKE_UNITS_MAX];
	int unit_fd[FAKE_UNITS_MAX]; /* of disks plugged in later: the image's lock; of cards: the peer */
	size_t unit_count;
	pthread_t late; /* lets units go that are called "late..." */
	bool has_late;
	uint32_t vsock_port, vsock_id; /* wanted; 0: nothing, asked for */
	int vsock_fd;
	bool vsock_answered;
	bool want_kill, want_pause, want_reset, button, nobutton, threaded;
};

/* The guest's thread; opaque: the board. */
void *fake_guest(void *opaque);
/* A device more; lock held, or the board is not in use yet. fd is the board's from then on; -1: none. */
struct board_unit *fake_unit_add(struct board *b, const char *class, const char *id, int fd);
/* A card more. Of its queues one is kept. */
void fake_net_add(struct board *b, const struct board_net *net);
/* The i-th device is gone. */
void fake_unit_drop(struct board *b, size_t i);

#endif
