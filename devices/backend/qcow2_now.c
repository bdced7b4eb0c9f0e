/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_now.c - what can be read or written without waiting: clusters in their place, whose table is in
 * memory. See block.h and qcow2_internal.h.
 *
 * The lock is held meanwhile: it is a copy, of a cluster at most. Whoever has it now may be waiting for the
 * disk, so it is not waited for.
 */
#include <config.h>

#include <errno.h>

#include "devices/backend/qcow2_internal.h"

/* The next len bytes of a vector, from or to `offset` of a block. */
static int try_block(struct block *b, bool write, struct iov_cursor *c, uint64_t offset, uint64_t len)
{
	struct iovec iov[BLOCK_PIECES_MAX];
	unsigned n = iov_slice(c, len, iov);

	return b->ops->try_now ? b->ops->try_now(b, write, iov, n, offset) : -EOPNOTSUPP;
}

static int try_backing(struct qcow2 *q, struct iov_cursor *to, uint64_t offset, uint64_t len)
{
	uint64_t size = q->backing ? q->backing->size : 0;

	if (offset >= size) {
		iov_zero(to, len);
		return 0;
	}
	return len <= size - offset ? try_block(q->backing, false, to, offset, len) : -EAGAIN;
}

/* A part of one cluster. Lock held. */
static int try_cluster(struct qcow2 *q, bool write, struct iov_cursor *c, uint64_t offset, uint64_t len)
{
	uint64_t entry, at, size = __atomic_load_n(&q->file_size, __ATOMIC_RELAXED);
	int r = qcow2_entry_now(q, offset >> q->cluster_bits, &entry);
	enum qkind kind = qcow2_kind(q, entry);

	if (r < 0)
		return r;
	if (kind == QK_DATA && (!write || entry & QCOW2_COPIED)) {
		at = (entry & QCOW2_OFFSET) + (offset & (qcow2_cluster(q) - 1));
		return at < size && len <= size - at ? try_block(q->file, write, c, at, len) : -EAGAIN;
	}
	if (write || kind == QK_DATA || kind == QK_COMPRESSED)
		return -EAGAIN;
	if (kind == QK_NONE)
		return try_backing(q, c, offset, len);
	iov_zero(c, len);
	return 0;
}

int qcow2_try_now(struct block *b, bool write, const struct iovec *iov, unsigned n, uint64_t offset)
{
	struct qcow2 *q = (struct qcow2 *)b;
	struct iov_cursor c = { iov, n, 0 };
	uint64_t len = 0, some;
	int r = 0;

	for (unsigned i = 0; i < n; i++)
		len += iov[i].iov_len;
	if (pthread_mutex_trylock(&q->lock) != 0)
		return -EAGAIN;
	for (; len && r == 0; len -= some, offset += some) {
		some = qcow2_cluster(q) - (offset & (qcow2_cluster(q) - 1));
		some = some < len ? some : len;
		r = try_cluster(q, write, &c, offset, some);
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}
