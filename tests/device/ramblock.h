/* SPDX-License-Identifier: Apache-2.0 */
/* ramblock.h - a disk in memory that counts what is asked of it and answers as it is told. */
#ifndef TESTS_DEVICE_RAMBLOCK_H
#define TESTS_DEVICE_RAMBLOCK_H

#include <stdatomic.h>

#include "devices/backend/block.h"

struct ramblock {
	struct block block;
	uint8_t *bytes;        /* the caller's */
	_Atomic int now;       /* what try_now() says; 0: it does it */
	_Atomic int error;     /* what readv() and writev() say */
	atomic_uint tries, transfers, flushes; /* calls of try_now(), of readv() and writev(), of flush() */
	void (*trying)(struct ramblock *ram); /* in try_now(); may be NULL */
};

/* Zeroes *ram first. */
void ramblock_init(struct ramblock *ram, void *bytes, uint64_t size);

#endif
