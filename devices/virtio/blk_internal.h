/* SPDX-License-Identifier: Apache-2.0 */
/* blk_internal.h - shared by blk.c (the device), blk_request.c (what it does), blk_here.c (what the vCPU
 * does of it) and blk_hold.c (when the driver is told of that). */
#ifndef DEVICES_VIRTIO_BLK_INTERNAL_H
#define DEVICES_VIRTIO_BLK_INTERNAL_H

#include "devices/backend/limit.h"
#include "devices/backend/block.h"
#include "devices/backend/uring.h"
#include "devices/backend/workers.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/blk_spec.h"
#include "devices/virtio/core.h"
#include "machine/timer.h"

#define BLK_REQUESTS 64u
#define BLK_SECTOR 512u
#define BLK_RANGES_MAX 16u
#define BLK_DISCARD_SECTORS_MAX (1u << 22)
#define BLK_ZEROES_SECTORS_MAX (1u << 18)

enum { /* types (5.2.6) */
	BLK_T_IN = 0, BLK_T_OUT = 1, BLK_T_FLUSH = 4, BLK_T_GET_ID = 8, BLK_T_DISCARD = 11,
	BLK_T_WRITE_ZEROES = 13,
};
#define BLK_HEADER_BYTES 16u

struct blk_request {
	struct work work;        /* done by a worker, or */
	struct uring_op op;      /* by the kernel alone, */
	struct block_map map;    /*   from or to here */
	struct virtio_blk *blk;
	struct blk_request *next;
	unsigned queue;
	uint32_t type;
	uint64_t sector;
	struct virtq_chain chain;
	struct iovec iov[VIRTQ_SEGMENTS_MAX];
};

struct blk_list { /* in order */
	struct blk_request *first, **last;
};

struct blk_here { /* blk_here.c */
	bool off;        /* never */
	unsigned pause;  /* so many rings are the loop's */
	unsigned misses; /* as long as the last pause for one */
	unsigned slow;   /* not 0: it was, with one of the last ones */
};

struct blk_hold { /* blk_hold.c */
	unsigned held;     /* given back and not told of */
	bool waiting;      /* they wait on purpose; written by the vCPU, or with nothing held by any */
	uint64_t since;    /* machine time of the first of these */
	unsigned want;     /* so many are told of together; 0: each */
	unsigned row;      /* how often there were so many */
	unsigned skip;     /* 0: the next one may wait for a second one */
	unsigned back_off; /* the next `skip` */
	struct timer timer;
};

struct virtio_blk {
	struct device dev;
	struct virtio virtio;
	struct block *block;
	struct block lost;           /* what `block` is then */
	struct workers *workers;
	struct uring *uring;         /* NULL: all is done by workers */
	char serial[VIRTIO_BLK_SERIAL_MAX];
	bool has_timers;
	struct timer timer;          /* of the limits */
	/* virtio.lock for all below */
	struct limit limit;
	struct blk_here here;
	struct blk_hold hold;
	struct blk_request *idle;
	struct blk_list stalled;     /* the host has no room for them; counted in virtio.parked */
	bool starved[VIRTIO_BLK_QUEUES_MAX];   /* something waits there for a request */
	bool throttled[VIRTIO_BLK_QUEUES_MAX]; /* ... for the limits */
	bool ended[VIRTIO_BLK_QUEUES_MAX];     /* a batch gave something back: virtio_end() is due */
	struct blk_request request[BLK_REQUESTS];
};

static inline bool blk_is_transfer(const struct blk_request *req)
{
	return req->type == BLK_T_IN || req->type == BLK_T_OUT;
}

/* Bytes of data that it reads or writes. */
static inline uint64_t blk_data_bytes(const struct blk_request *req)
{
	return req->type == BLK_T_IN  ? req->chain.in_bytes - 1 :
	       req->type == BLK_T_OUT ? req->chain.out_bytes - BLK_HEADER_BYTES :
					0;
}

/* blk_here.c */
bool blk_kick_here(struct virtio *v, unsigned queue);

/* blk_hold.c */
void blk_hold_reset(struct blk_hold *h);
/* After a row that the vCPU did: blk_end_batch(), or later. Lock held. */
void blk_end_here(struct virtio_blk *b);
void blk_hold_timer(void *opaque, uint64_t now);
/* As device_class.idle. */
void blk_idle(struct device *dev);

/* blk_request.c */
/* The header, copied once. Lock held. */
bool blk_parse(struct virtio_blk *b, struct blk_request *req);
/* The vector of a read's or write's data, checked. How many pieces, or an error. */
int blk_data_iov(struct blk_request *req);
/* All of a read or write was moved through that vector: the status byte. No lock. */
void blk_transferred(struct blk_request *req);
/* Lock held; blk_end_batch() is the caller's. */
void blk_give_back(struct virtio_blk *b, struct blk_request *req, uint32_t written);
/* After some of these: interrupts, and what waits for requests. Lock held. */
void blk_end_batch(struct virtio_blk *b);
void blk_kick(struct virtio *v, unsigned queue);
void blk_work(struct work *work);
void blk_op_done(struct uring_op *op, int result);
/* After a row of blk_op_done(): interrupts, and what waits for requests. */
void blk_batch_done(void *opaque);
/* The limits let something pass again. */
void blk_timer(void *opaque, uint64_t now);
/* Those that wait for room are given back, of one queue or (queue < 0) all. Lock held. */
void blk_drop_stalled(struct virtio_blk *b, int queue);
/* They are tried once more. */
void blk_retry_stalled(struct virtio_blk *b);

#endif
