/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/huge.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/clock.h"
#include "common/huge.h"
#include "machine/thread.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define PAGE 4096u
#define PER_GRANULE (HUGE_SIZE / PAGE)
#define RUN_MAX 8u /* granules at once: the host's queues are drained once for all */
#define TRIES_MAX 6u
#define PERIOD_MIN (1ull * 1000 * 1000) /* ns between looks while memory comes into use, */
#define PERIOD_MAX (200ull * 1000 * 1000) /* and else; one that finds no new page costs a system call */
#define PERIOD_POOR (10ull * 1000 * 1000 * 1000) /* after the host had no memory */
/* Where so much is in use already the kernel mostly copies. That waits until no more memory comes into
 * use: none did when looks have become that rare, which takes twice as long; or so long in any case. */
#define MUCH (PER_GRANULE / 4)
#define SETTLED_NS (125ull * 1000 * 1000)
#define PATIENCE_NS (5ull * NSEC_PER_SEC)

enum granule { /* a byte each, atomic */
	SMALL,   /* not huge, or not in use */
	HUGE,
	BEING_MADE,
	FULL,    /* as SMALL, and much is in use */
	GAVE,    /* as SMALL, and the guest does without some of it, */
	GAVE_ALL, /* or without all of it: nothing is made there before it is in use */
};

struct range {
	uint8_t *host;
	size_t granules;
	int fd;
	unsigned least, ahead;
	uint8_t *state;
	bool later;      /* some are FULL and left for later; */
	size_t from;     /* where the next look begins: not all of them at once */
	blkcnt_t blocks; /* that the file had when it was last looked through; -1: look in any case */
};

struct huge {
	struct range range[HUGE_RANGES_MAX];
	unsigned count;
	bool started, stopping; /* stopping: by lock */
	uint64_t dear_ns;
	bool dear;              /* the last one took longer than that: atomic */
	bool works;             /* it did so once; the thread's from here on */
	unsigned tries;         /* that failed since it last worked */
	bool settled;           /* memory comes into use no more: what is FULL has its turn */
	uint64_t settled_at;    /* when it last was so */
	bool unknown;           /* this kernel does not know how */
	bool poor;              /* the host had no memory for it */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
};

static bool unwanted(void)
{
	int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC);
	char text[64];
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[n < 0 ? 0 : n] = '\0';
	return strstr(text, "[never]");
}

struct huge *huge_create(uint64_t dear_ns)
{
	struct huge *huge = unwanted() ? NULL : calloc(1, sizeof(*huge));
	pthread_condattr_t attr;

	if (!huge)
		return NULL;
	huge->dear_ns = dear_ns;
	pthread_mutex_init(&huge->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&huge->wake, &attr);
	pthread_condattr_destroy(&attr);
	return huge;
}

struct huge *huge_destroy(struct huge *huge)
{
	if (!huge)
		return NULL;
	huge_stop(huge);
	for (unsigned i = 0; i < huge->count; i++)
		free(huge->range[i].state);
	pthread_cond_destroy(&huge->wake);
	pthread_mutex_destroy(&huge->lock);
	free(huge);
	return NULL;
}

void huge_add(struct huge *huge, void *host, uint64_t size, int fd, unsigned least, unsigned ahead)
{
	struct range *r;

	if (!huge || huge->count == HUGE_RANGES_MAX || size < HUGE_SIZE)
		return;
	r = &huge->range[huge->count];
	*r = (struct range){ .host = host, .granules = size / HUGE_SIZE, .fd = fd, .least = least,
			     .ahead = ahead, .blocks = -1 };
	r->state = calloc(r->granules, sizeof(*r->state));
	huge->count += r->state != NULL;
}

static uint8_t state_of(const struct range *r, size_t granule)
{
	return __atomic_load_n(&r->state[granule], __ATOMIC_ACQUIRE);
}

/* Unless the guest gave some of it back meanwhile. If it did so while the kernel was at it, the hole
 * may be filled with zeroes again: memory that is lost, but no more than what is in use by then. */
static void change(struct range *r, size_t granule, enum granule from, enum granule to)
{
	uint8_t expected = (uint8_t)from;

	__atomic_compare_exchange_n(&r->state[granule], &expected, (uint8_t)to, false, __ATOMIC_ACQ_REL,
				    __ATOMIC_RELAXED);
}

/* 0 or -errno of n granules together. */
static int collapse(struct huge *huge, struct range *r, size_t first, size_t n)
{
	static const enum granule from[] = { SMALL, FULL, GAVE, GAVE_ALL };
	uint64_t began = clock_monotonic_ns();
	int e;

	for (size_t i = first; i < first + n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(from); k++)
			change(r, i, from[k], BEING_MADE);
	e = madvise(r->host + first * HUGE_SIZE, n * HUGE_SIZE, MADV_COLLAPSE) < 0 ? -errno : 0;
	for (size_t i = first; i < first + n; i++)
		change(r, i, BEING_MADE, e == 0 ? HUGE : SMALL);
	__atomic_store_n(&huge->dear, clock_monotonic_ns() - began > n * huge->dear_ns, __ATOMIC_RELAXED);
	return e;
}

/* As collapse(), and where not all together could be made, each for itself. */
static int collapse_each(struct huge *huge, struct range *r, size_t first, size_t n)
{
	int e = collapse(huge, r, first, n), failed = 0;

	if (e == -ENOMEM || n == 1)
		return e;
	for (size_t i = first; e < 0 && failed != -ENOMEM && i < first + n; i++) {
		int one = collapse(huge, r, i, 1);

		huge->works |= one == 0;
		if (one < 0)
			failed = one;
	}
	return failed;
}

/* The same for the thread, which takes note of how it went. */
static void try(struct huge *huge, struct range *r, size_t first, size_t n)
{
	int e = collapse_each(huge, r, first, n);

	if (e == 0) {
		huge->works = true;
		huge->tries = 0;
		return;
	}
	huge->poor |= e == -ENOMEM;
	if (huge->tries < TRIES_MAX)
		huge->tries++;
	if (huge->tries < TRIES_MAX)
		r->blocks = -1; /* again: a device or a fault may have had pages in use */
	else
		huge->unknown |= e == -EINVAL && !huge->works;
}

/* The kernel makes none of nothing. The guest may run: an addition of nothing is no change. */
static void take_into_use(const struct range *r, size_t first, size_t end)
{
	for (size_t i = first; i < end; i++)
		__atomic_fetch_add(r->host + i * HUGE_SIZE, 0, __ATOMIC_RELAXED);
}

/* --- what is in use ----------------------------------------------------------------------------- */

/* Are at least so many pages of a granule in use? */
static bool has(const struct range *r, size_t granule, unsigned pages)
{
	const off_t end = (off_t)((granule + 1) * HUGE_SIZE);
	off_t at = (off_t)(granule * HUGE_SIZE), hole, used = 0;

	while (used < (off_t)pages * PAGE) {
		at = lseek(r->fd, at, SEEK_DATA);
		if (at < 0 || at >= end)
			return false;
		hole = lseek(r->fd, at, SEEK_HOLE);
		if (hole < 0)
			return false;
		used += (hole < end ? hole : end) - at;
		at = hole;
	}
	return true;
}

/* The next granule from this one on that is in use and not huge, nor left for later; r->granules:
 * none. */
static size_t next(const struct huge *huge, const struct range *r, size_t granule)
{
	while (granule < r->granules) {
		off_t at;

		if (state_of(r, granule) == HUGE || (state_of(r, granule) == FULL && !huge->settled)) {
			granule++;
			continue;
		}
		at = lseek(r->fd, (off_t)(granule * HUGE_SIZE), SEEK_DATA);
		if (at < 0)
			return r->granules;
		if ((uint64_t)at / HUGE_SIZE == granule)
			return granule;
		granule = (uint64_t)at / HUGE_SIZE;
	}
	return r->granules;
}

static bool stopping(struct huge *huge)
{
	bool stop;

	pthread_mutex_lock(&huge->lock);
	stop = huge->stopping;
	pthread_mutex_unlock(&huge->lock);
	return stop;
}

/* Does the granule, of which some is in use, go on where others end? */
static bool goes_on(const struct range *r, size_t granule)
{
	return r->ahead && granule && state_of(r, granule) == SMALL &&
	       (state_of(r, granule - 1) == HUGE || state_of(r, granule - 1) == FULL);
}

/* HUGE: it is to be made so now; FULL: when there is time; else it stays what it is. */
static enum granule fate_of(const struct huge *huge, const struct range *r, size_t granule)
{
	bool dear = __atomic_load_n(&huge->dear, __ATOMIC_RELAXED);
	enum granule state = state_of(r, granule);

	if (state == FULL)
		return FULL;
	if (state == GAVE)
		return has(r, granule, PER_GRANULE) ? FULL : GAVE;
	if ((dear || !goes_on(r, granule)) && !has(r, granule, r->least))
		return state;
	return dear || has(r, granule, MUCH) ? FULL : HUGE;
}

/* n granules from `first` on are about to be made huge: how many they are with those that are likely
 * to come into use next. */
static size_t with_next(const struct range *r, size_t first, size_t n)
{
	size_t end = first + n, limit = end + r->ahead;

	if (!goes_on(r, first))
		return n;
	while (end < limit && end < r->granules && state_of(r, end) == SMALL && !has(r, end, 1))
		end++;
	take_into_use(r, first + n, end);
	return end - first;
}

/* Is the granule to be made huge by this look? *ret_grew: memory came into use. */
static bool has_its_turn(const struct huge *huge, struct range *r, size_t granule, bool *ret_grew)
{
	enum granule state = state_of(r, granule), fate = fate_of(huge, r, granule);

	if (fate == HUGE)
		*ret_grew = true;
	if (fate != FULL)
		return fate == HUGE;
	change(r, granule, SMALL, FULL);
	if (huge->settled)
		return true;
	*ret_grew |= state == SMALL;
	r->later = true;
	return false;
}

/* True if something was done. *ret_grew as above. */
static bool look_through(struct huge *huge, struct range *r, bool *ret_grew)
{
	size_t first = 0, n = 0, from;
	bool found = false;
	struct stat st;

	if (fstat(r->fd, &st) < 0 || (st.st_blocks == r->blocks && !(huge->settled && r->later)))
		return false;
	r->blocks = st.st_blocks;
	if (huge->settled)
		r->later = false;
	from = huge->settled ? r->from : 0;
	r->from = 0;
	for (size_t g = next(huge, r, from); g < r->granules && !huge->poor; g = next(huge, r, g + 1)) {
		if (!has_its_turn(huge, r, g, ret_grew))
			continue;
		if (n && (g != first + n || n == RUN_MAX)) {
			try(huge, r, first, with_next(r, first, n));
			n = 0;
			if (huge->settled) {
				r->later = true;
				r->from = g;
				return true;
			}
		}
		if (!n)
			first = g;
		n++;
		found = true;
		if (stopping(huge))
			return true;
	}
	if (n)
		try(huge, r, first, with_next(r, first, n));
	return found;
}

/* --- the thread --------------------------------------------------------------------------------- */

/* False: the end. */
static bool wait_for(struct huge *huge, uint64_t ns)
{
	uint64_t until = clock_monotonic_ns() + ns;
	struct timespec t = { (time_t)(until / NSEC_PER_SEC), (long)(until % NSEC_PER_SEC) };
	int r = 0;

	pthread_mutex_lock(&huge->lock);
	while (!huge->stopping && r == 0)
		r = pthread_cond_timedwait(&huge->wake, &huge->lock, &t);
	pthread_mutex_unlock(&huge->lock);
	return r != 0;
}

static void settle(struct huge *huge, bool grew, uint64_t period, uint64_t now)
{
	huge->settled = grew ? now - huge->settled_at >= PATIENCE_NS && !huge->settled :
			       huge->settled || period >= SETTLED_NS;
	if (huge->settled)
		huge->settled_at = now;
}

static void *huge_main(void *opaque)
{
	struct huge *huge = opaque;
	uint64_t period = PERIOD_MIN, spent;

	huge->settled_at = clock_monotonic_ns();
	do {
		bool found = false, grew = false;

		spent = clock_monotonic_ns();
		for (unsigned i = 0; i < huge->count; i++)
			found |= look_through(huge, &huge->range[i], &grew);
		settle(huge, grew, period, spent);
		spent = clock_monotonic_ns() - spent;
		if (huge->unknown)
			break;
		period = found || grew ? PERIOD_MIN << huge->tries : period * 2;
		if (period > PERIOD_MAX)
			period = PERIOD_MAX;
		if (huge->poor)
			period = PERIOD_POOR;
		huge->poor = false;
	} while (wait_for(huge, period > spent ? period : spent));
	return NULL;
}

void huge_start(struct huge *huge, const struct thread_hook *hook)
{
	if (!huge || huge->started)
		return;
	huge->stopping = false;
	huge->started = machine_thread_create(&huge->thread, hook, THREAD_MEMORY, "memory", huge_main,
					      huge) == 0;
}

void huge_stop(struct huge *huge)
{
	if (!huge || !huge->started)
		return;
	pthread_mutex_lock(&huge->lock);
	huge->stopping = true;
	pthread_cond_signal(&huge->wake);
	pthread_mutex_unlock(&huge->lock);
	pthread_join(huge->thread, NULL);
	huge->started = false;
}

/* --- others ------------------------------------------------------------------------------------- */

static struct range *range_of(struct huge *huge, const uint8_t *host, uint64_t len)
{
	for (unsigned i = 0; huge && i < huge->count; i++) {
		struct range *r = &huge->range[i];

		if (host >= r->host &&
		    range_inside((uint64_t)(host - r->host), len, r->granules * HUGE_SIZE))
			return r;
	}
	return NULL;
}

uint64_t huge_now(struct huge *huge, const void *host, uint64_t len)
{
	struct range *r = range_of(huge, host, len);
	size_t at, begin, first, end;

	if (!r)
		return 0;
	at = (size_t)((const uint8_t *)host - r->host);
	begin = first = (at + HUGE_SIZE - 1) / HUGE_SIZE;
	end = (at + len) / HUGE_SIZE;
	while (first < end && state_of(r, first) != SMALL && state_of(r, first) != GAVE_ALL)
		first++;
	/* The first one shows what they cost. */
	if (first < end) {
		take_into_use(r, first, first + 1);
		(void)collapse(huge, r, first++, 1);
	}
	if (first < end && !__atomic_load_n(&huge->dear, __ATOMIC_RELAXED)) {
		take_into_use(r, first, end);
		(void)collapse(huge, r, first, end - first);
	}
	first = begin;
	while (first < end && state_of(r, first) == HUGE)
		first++;
	return at % HUGE_SIZE ? 0 : (first - begin) * HUGE_SIZE;
}

void huge_gave(struct huge *huge, const void *host, uint64_t len)
{
	const uint8_t *from = host;

	while (len) {
		struct range *r = range_of(huge, from, 1);
		uint64_t at, part;

		if (!r)
			return;
		at = (uint64_t)(from - r->host);
		part = HUGE_SIZE - at % HUGE_SIZE;
		if (part > len)
			part = len;
		__atomic_store_n(&r->state[at / HUGE_SIZE], part == HUGE_SIZE ? GAVE_ALL : GAVE,
				 __ATOMIC_RELEASE);
		from += part;
		len -= part;
	}
}
