/* SPDX-License-Identifier: Apache-2.0 */
/* queue_internal.h - shared by queue.c (what both formats have), queue_split.c and queue_packed.c
 * only. */
#ifndef DEVICES_VIRTIO_QUEUE_INTERNAL_H
#define DEVICES_VIRTIO_QUEUE_INTERNAL_H

#include "devices/virtio/queue.h"
#include "machine/memory.h"

enum { /* flags of a descriptor, in both formats (2.7.5, 2.8.1) */
	DESC_NEXT = 1,
	DESC_WRITE = 2,
	DESC_INDIRECT = 4,
};
#define DESC_BYTES 16u

/* One ring format. The queue is enabled, and not dead. */
struct virtq_ring_ops {
	/* Size and addresses as the driver gave them; nothing is enabled yet. */
	bool (*geometry_ok)(const struct virtq *q);
	void (*start)(struct virtq *q); /* all counters as at the first descriptor */
	bool (*has)(const struct virtq *q);
	int (*get)(struct virtq *q, struct virtq_chain *chain); /* 1, 0, -EPROTO */
	void (*unget)(struct virtq *q, const struct virtq_chain *chain);
	void (*release)(struct virtq *q, const struct virtq_chain *chain, uint32_t written);
	bool (*end)(struct virtq *q);
	void (*want_kicks)(struct virtq *q, bool want);
};
extern const struct virtq_ring_ops virtq_split_ops, virtq_packed_ops;

/* An empty chain. */
void virtq_chain_begin(struct virtq_chain *chain);
/* Appends a descriptor's buffer. -EPROTO: too many, not in RAM, in the wrong order, too long. */
int virtq_chain_add(const struct virtq *q, struct virtq_chain *chain, uint64_t gpa, uint32_t len,
		    bool write);
/* Is [gpa, +len) an indirect table? Its number of entries, or -EPROTO. */
int virtq_indirect_entries(const struct virtq *q, uint64_t gpa, uint32_t len);

static inline bool virtq_is_busy(const struct virtq *q, uint16_t head)
{
	return q->busy[head / 64] >> head % 64 & 1;
}

/* A 16-bit field of a ring; all of the ring was found to be RAM, which does not go away. */
static inline uint16_t virtq_load16(const struct virtq *q, uint64_t gpa)
{
	uint16_t value = 0;

	(void)mem_load16(q->memory, gpa, &value);
	return value;
}

#endif
