/* SPDX-License-Identifier: Apache-2.0 */
/* ramblock.c - see ramblock.h. */
#include <config.h>

#include <string.h>

#include "tests/device/ramblock.h"

static void move(struct ramblock *ram, bool write, const struct iovec *iov, unsigned n,
		 uint64_t offset)
{
	for (unsigned i = 0; i < n; i++) {
		uint8_t *at = ram->bytes + offset;

		memcpy(write ? at : iov[i].iov_base, write ? iov[i].iov_base : at, iov[i].iov_len);
		offset += iov[i].iov_len;
	}
}

static int ram_readv(struct block *b, struct iovec *iov, unsigned n, uint64_t offset,
		     uint64_t *ret_done)
{
	struct ramblock *ram = (struct ramblock *)b;

	ram->transfers++;
	*ret_done = 0;
	if (ram->error)
		return ram->error;
	move(ram, false, iov, n, offset);
	for (unsigned i = 0; i < n; i++)
		*ret_done += iov[i].iov_len;
	return 0;
}

static int ram_writev(struct block *b, struct iovec *iov, unsigned n, uint64_t offset)
{
	struct ramblock *ram = (struct ramblock *)b;

	ram->transfers++;
	if (!ram->error)
		move(ram, true, iov, n, offset);
	return ram->error;
}

static int ram_try_now(struct block *b, bool write, const struct iovec *iov, unsigned n,
		       uint64_t offset)
{
	struct ramblock *ram = (struct ramblock *)b;

	ram->tries++;
	if (ram->trying)
		ram->trying(ram);
	if (!ram->now)
		move(ram, write, iov, n, offset);
	return ram->now;
}

static int ram_flush(struct block *b)
{
	((struct ramblock *)b)->flushes++;
	return 0;
}

static int ram_discard(struct block *b, uint64_t offset, uint64_t len)
{
	(void)b, (void)offset, (void)len;
	return 0;
}

static int ram_zeroes(struct block *b, uint64_t offset, uint64_t len, bool unmap)
{
	(void)unmap;
	memset(((struct ramblock *)b)->bytes + offset, 0, (size_t)len);
	return 0;
}

static void ram_destroy(struct block *b)
{
	(void)b;
}

void ramblock_init(struct ramblock *ram, void *bytes, uint64_t size)
{
	static const struct block_ops ops = {
		.readv = ram_readv, .writev = ram_writev, .try_now = ram_try_now,
		.flush = ram_flush, .discard = ram_discard, .write_zeroes = ram_zeroes,
		.destroy = ram_destroy,
	};

	memset(ram, 0, sizeof(*ram));
	ram->block = (struct block){ .ops = &ops, .size = size, .align = 1 };
	ram->bytes = bytes;
}
