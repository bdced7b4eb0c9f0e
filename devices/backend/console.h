/* SPDX-License-Identifier: Apache-2.0 */
/*
 * console.h - a character stream on a host descriptor, for a device that must never wait.
 *
 * Two bounded buffers and the event loop stand between device and descriptor. A reader that is slow
 * shows as console_room() shrinking: the device passes that on to its guest.
 */
#ifndef DEVICES_BACKEND_CONSOLE_H
#define DEVICES_BACKEND_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct console;
struct loop;

struct console_events { /* on the loop thread, no lock held */
	void (*input)(void *opaque); /* console_get() has something */
	void (*room)(void *opaque);  /* console_room() grew */
	/* Once: the peer will say no more; what it said may still wait to be got. It may be destroyed
	 * later, not from here. May be NULL. */
	void (*gone)(void *opaque);
};

#define CONSOLE_OUTPUT_BYTES 16384u
#define CONSOLE_INPUT_BYTES 4096u

/* fd: non-blocking socket, tty or pipe end, or -1 (no input, output vanishes). It belongs to the
 * console after success only. A descriptor that can't be polled (a file) gives no input.
 * events must outlive the console. -ENOMEM, or what epoll says. */
int console_create(struct loop *loop, int fd, const struct console_events *events, void *opaque,
		   struct console **ret_console);
/* Tries once to write what is left, closes fd. No lock held that the events take. NULL is fine;
 * returns NULL. On the loop thread, not from an event, or while that is stopped. */
struct console *console_destroy(struct console *c);

/* Writes what is gathered, as far as that goes without waiting. Loop thread, as for pause. */
void console_sync(struct console *c);

/* The rest may be called from any thread, with a device's lock held. */
size_t console_room(struct console *c);           /* bytes that console_put() takes now */
bool console_put(struct console *c, uint8_t byte); /* false: no room, dropped and counted */
bool console_get(struct console *c, uint8_t *ret_byte); /* false: nothing there */
/* The same for many bytes: how many were taken, or filled. Nobody else puts or gets meanwhile. */
size_t console_write(struct console *c, const uint8_t *bytes, size_t n);
size_t console_read(struct console *c, uint8_t *bytes, size_t n);
size_t console_pending(struct console *c); /* bytes of input that wait */
bool console_hung_up(const struct console *c); /* will the peer say no more? Asks the kernel */
/* Puts back bytes that console_get() gave, to be got again first; up to 16 of them always fit. */
void console_unget(struct console *c, const uint8_t *bytes, size_t n);
/* Nobody reads: until something is read again, there is room for everything and it vanishes. */
void console_discard(struct console *c);
uint64_t console_dropped(struct console *c); /* bytes of output that vanished so far */

#endif
