/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block.h - what stands behind a disk: bytes at offsets, whatever the format.
 *
 * Calls block, so they are made on worker threads only, several at a time; only destroy is alone.
 * The caller has checked [offset, offset+len) against size. 0 or a negative errno; anything short
 * of the whole is an error (-EIO).
 */
#ifndef DEVICES_BACKEND_BLOCK_H
#define DEVICES_BACKEND_BLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct block;

struct block_ops {
	/* *ret_done: bytes really read, also on an error. iov is spoilt. */
	int (*readv)(struct block *b, struct iovec *iov, unsigned n, uint64_t offset,
		     uint64_t *ret_done);
	int (*writev)(struct block *b, struct iovec *iov, unsigned n, uint64_t offset);
	int (*flush)(struct block *b);
	/* The content may be forgotten. A backend that can't does nothing. */
	int (*discard)(struct block *b, uint64_t offset, uint64_t len);
	/* unmap: may give the space back. */
	int (*write_zeroes)(struct block *b, uint64_t offset, uint64_t len, bool unmap);
	void (*destroy)(struct block *b);
};

struct block {
	const struct block_ops *ops;
	uint64_t size;
	bool readonly;
};

/* A raw image: regular file or block device, opened for what readonly says. fd belongs to the block
 * after success only. -EINVAL: another kind of file, or opened for less. -ENOMEM. */
int block_raw_create(int fd, bool readonly, struct block **ret_block);

/* NULL is fine; returns NULL. */
static inline struct block *block_destroy(struct block *b)
{
	if (b)
		b->ops->destroy(b);
	return NULL;
}

#endif
