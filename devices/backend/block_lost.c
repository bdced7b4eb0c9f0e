/* SPDX-License-Identifier: Apache-2.0 */
/* block_lost.c - a disk whose image was taken away while the guest has it: nothing works. */
#include <errno.h>

#include "devices/backend/block.h"

static int lost_readv(struct block *b, struct iovec *iov, unsigned n, uint64_t offset,
		      uint64_t *ret_done)
{
	(void)b, (void)iov, (void)n, (void)offset;
	*ret_done = 0;
	return -EIO;
}

static int lost_writev(struct block *b, struct iovec *iov, unsigned n, uint64_t offset)
{
	(void)b, (void)iov, (void)n, (void)offset;
	return -EIO;
}

static int lost_flush(struct block *b)
{
	(void)b;
	return -EIO;
}

static int lost_discard(struct block *b, uint64_t offset, uint64_t len)
{
	(void)b, (void)offset, (void)len;
	return -EIO;
}

static int lost_write_zeroes(struct block *b, uint64_t offset, uint64_t len, bool unmap)
{
	(void)b, (void)offset, (void)len, (void)unmap;
	return -EIO;
}

static void lost_destroy(struct block *b)
{
	(void)b; /* it is a part of something else */
}

static const struct block_ops lost_ops = {
	.readv = lost_readv,
	.writev = lost_writev,
	.flush = lost_flush,
	.discard = lost_discard,
	.write_zeroes = lost_write_zeroes,
	.destroy = lost_destroy,
};

struct block *block_lost(struct block *lost, struct block *was)
{
	*lost = (struct block){ .ops = &lost_ops, .size = block_size(was),
				.readonly = was->readonly, .align = 1 };
	block_destroy(was);
	return lost;
}
