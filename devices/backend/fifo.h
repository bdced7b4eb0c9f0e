/* SPDX-License-Identifier: Apache-2.0 */
/* fifo.h - bytes that wait, oldest first, in a buffer of fixed size that is the owner's. */
#ifndef DEVICES_BACKEND_FIFO_H
#define DEVICES_BACKEND_FIFO_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct fifo {
	uint8_t *bytes;
	size_t size, head, count; /* head: the oldest */
};

static inline size_t fifo_room(const struct fifo *f)
{
	return f->size - f->count;
}

/* The longest run of the oldest bytes that lies in one piece. */
static inline size_t fifo_front(const struct fifo *f, uint8_t **ret)
{
	size_t n = f->size - f->head;

	*ret = f->bytes + f->head;
	return n < f->count ? n : f->count;
}

/* The longest free run behind the newest byte. */
static inline size_t fifo_back(const struct fifo *f, uint8_t **ret)
{
	size_t tail = (f->head + f->count) % f->size;
	size_t n = f->size - tail;

	*ret = f->bytes + tail;
	return n < fifo_room(f) ? n : fifo_room(f);
}

/* The n oldest are gone; there are that many. */
static inline void fifo_drop(struct fifo *f, size_t n)
{
	f->head = (f->head + n) % f->size;
	f->count -= n;
}

/* As many as there is room for; returns how many. */
static inline size_t fifo_put(struct fifo *f, const uint8_t *bytes, size_t n)
{
	size_t done = 0, run;
	uint8_t *to;

	while (done < n && f->count < f->size) {
		run = fifo_back(f, &to);
		run = run < n - done ? run : n - done;
		memcpy(to, bytes + done, run);
		f->count += run;
		done += run;
	}
	return done;
}

#endif
