/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue.h - the device's side of a virtqueue, split or packed (virtio 1.2, 2.6 to 2.8).
 *
 * The driver makes chains of descriptors available; the device takes them and gives them back as
 * used, in any order. Here for the split format; in the packed one all three parts are one ring
 * (queue_packed.c):
 *
 *     driver                                            device
 *     descriptor table  { gpa len flags next } ...      virtq_get()      a checked copy of a chain
 *     available ring    idx -> head, head, ...    -->   ... the device does its work ...
 *     used ring         idx -> {head, written}   <--    virtq_release()  gives one back
 *                                                       virtq_end()      interrupt or not?
 *
 * Four verbs: has, get, release, end. Only end decides about the interrupt. A descriptor is read
 * once, into the chain; nothing is looked at in guest memory again. What a chain holds when get
 * returns 1: heads and links inside the table, no more segments than the limit, each segment wholly
 * in RAM, those to read before those to write, at most 4 GiB - 1 bytes, a head (packed: a buffer
 * id) below the queue's size that is not in flight. Anything else is -EPROTO: the queue is dead
 * until the device is reset.
 *
 * Threads: one at a time; the virtio core's lock is held around every call.
 */
#ifndef DEVICES_VIRTIO_QUEUE_H
#define DEVICES_VIRTIO_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct memory;

#define VIRTQ_SIZE_MAX 1024u     /* of any ring */
#define VIRTQ_SEGMENTS_MAX 256u  /* of one chain, indirect ones counted */

struct virtq_segment {
	uint64_t gpa;
	uint32_t len; /* never 0 */
};

struct virtq_chain {
	uint16_t head;  /* packed: the buffer's id */
	uint16_t slots; /* of the ring that it takes up; split: 1 */
	uint16_t readable, writable; /* segments: readable ones first */
	uint32_t out_bytes, in_bytes; /* for the device to read, to write */
	struct virtq_segment segment[VIRTQ_SEGMENTS_MAX];
};

struct virtq_format { /* negotiated */
	bool packed, event_idx, indirect;
};

struct virtq_ring_ops;

struct virtq {
	struct memory *memory;
	/* set by the driver through the core, before it is enabled */
	uint16_t size_max, size;
	uint64_t desc, driver, device;
	uint16_t vector;
	bool enabled;
	/* set by virtq_enable() */
	struct virtq_format format;
	const struct virtq_ring_ops *ops;
	/* running */
	bool dead;             /* a guest error was found */
	union { /* by format.packed */
		struct {
			uint16_t next_avail; /* next entry of the available ring to take */
			uint16_t next_used;  /* next entry of the used ring to fill */
			uint16_t signalled;  /* next_used at the last virtq_end() */
		} split;
		struct {
			uint16_t next_avail, next_used; /* slots */
			bool avail_wrap, used_wrap;     /* wrap counters at those */
			unsigned slots_out;             /* taken and not given back */
			unsigned unsignalled;           /* slots used since the last virtq_end() */
		} packed;
	};
	unsigned in_flight;
	uint64_t busy[VIRTQ_SIZE_MAX / 64]; /* heads in flight */
};

/* Checks the geometry that the driver gave, once, and starts the queue. -EINVAL: size out of range
 * (split: or no power of two), ring misaligned or not wholly in RAM. */
int virtq_enable(struct virtq *q, const struct virtq_format *format);
/* Stops it and forgets the driver's settings. Nothing may be in flight. */
void virtq_reset(struct virtq *q);

/* Is there something to get (or a guest error to find)? */
bool virtq_has(struct virtq *q);
/* 1: *chain filled. 0: nothing there. -EPROTO: guest error, the queue is dead. */
int virtq_get(struct virtq *q, struct virtq_chain *chain);
/* Gives a chain back, `written` bytes of it (from the start of its writable part) written. */
void virtq_release(struct virtq *q, const struct virtq_chain *chain, uint32_t written);
/* Puts a chain back as if it had not been taken: the one that was taken last, and so on backwards
 * through those that were not released. */
void virtq_unget(struct virtq *q, const struct virtq_chain *chain);
/* Forgets a chain without a word to the driver (reset, guest error). */
void virtq_drop(struct virtq *q, const struct virtq_chain *chain);
/* After one or more releases: true if the driver wants an interrupt for them. */
bool virtq_end(struct virtq *q);

/* Asks the driver to notify about new chains, or not to bother. After turning it on call
 * virtq_has() once more: a chain may have come before the driver saw it. */
void virtq_want_kicks(struct virtq *q, bool want);

/* Copies between a buffer and `len` bytes of the chain from `offset` of its readable (out) or
 * writable (in) part. -ERANGE: the part ends before that; nothing was copied. */
int virtq_copy_out(const struct virtq *q, const struct virtq_chain *chain, uint64_t offset,
		   void *buf, size_t len);
int virtq_copy_in(const struct virtq *q, const struct virtq_chain *chain, uint64_t offset,
		  const void *buf, size_t len);
/* Zeroes [offset, offset + len) of the writable part; -ERANGE as above. */
int virtq_zero_in(const struct virtq *q, const struct virtq_chain *chain, uint64_t offset,
		  uint64_t len);
/* Host memory of [offset, offset+len) of the writable (in) or readable part, for a system call. At
 * most `max` entries. Returns how many, or -ERANGE. */
int virtq_iov(const struct virtq *q, const struct virtq_chain *chain, bool in, uint64_t offset,
	      uint64_t len, struct iovec *iov, unsigned max);
/* The kernel wrote the first `len` bytes of [offset, ...) of the writable part. */
void virtq_iov_written(const struct virtq *q, const struct virtq_chain *chain, uint64_t offset,
		       uint64_t len);

#endif
