/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2_cache.c - reading and writing the file, and its tables in memory. See qcow2_internal.h. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "devices/backend/qcow2_internal.h"

int qcow2_readv_file(struct qcow2 *q, struct iovec *iov, unsigned n, uint64_t offset, uint64_t len)
{
	uint64_t size = __atomic_load_n(&q->file_size, __ATOMIC_RELAXED), done;
	struct iov_cursor tail = { iov, n, 0 };
	uint64_t there = offset >= size ? 0 : size - offset < len ? size - offset : len;
	uint64_t left;
	unsigned k;

	if (there == len)
		return q->file->ops->readv(q->file, iov, n, offset, &done);
	for (left = there; left;) /* the last cluster may be cut off: the rest is zeroes */
		left -= iov_piece(&tail, left).iov_len;
	iov_zero(&tail, len - there);
	for (k = 0, left = there; left; k++) {
		if (iov[k].iov_len > left)
			iov[k].iov_len = (size_t)left;
		left -= iov[k].iov_len;
	}
	return k ? q->file->ops->readv(q->file, iov, k, offset, &done) : 0;
}

int qcow2_writev_file(struct qcow2 *q, struct iovec *iov, unsigned n, uint64_t offset,
		      uint64_t len)
{
	int r = q->file->ops->writev(q->file, iov, n, offset);
	uint64_t size = __atomic_load_n(&q->file_size, __ATOMIC_RELAXED);

	while (r == 0 && size < offset + len &&
	       !__atomic_compare_exchange_n(&q->file_size, &size, offset + len, true,
					    __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	return r;
}

int qcow2_read_file(struct qcow2 *q, uint64_t offset, void *buf, size_t len)
{
	struct iovec iov = { buf, len };

	return qcow2_readv_file(q, &iov, 1, offset, len);
}

int qcow2_write_file(struct qcow2 *q, uint64_t offset, const void *buf, size_t len)
{
	struct iovec iov = { (void *)(uintptr_t)buf, len };

	return qcow2_writev_file(q, &iov, 1, offset, len);
}

/* --- tables ---------------------------------------------------------------------------------- */

static struct qtable **bucket_of(struct qcow2 *q, uint64_t offset)
{
	return &q->bucket[(offset >> q->cluster_bits) % QCOW2_BUCKETS];
}

static struct qtable *find(struct qcow2 *q, uint64_t offset)
{
	struct qtable *t;

	for (t = *bucket_of(q, offset); t; t = t->next)
		if (t->offset == offset)
			return t;
	return NULL;
}

static struct qtable *add(struct qcow2 *q, uint64_t offset, bool refblock)
{
	struct qtable *t = calloc(1, sizeof(*t) + qcow2_cluster(q));

	if (!t)
		return NULL;
	t->offset = offset;
	t->refblock = refblock;
	t->used = q->tick++;
	t->next = *bucket_of(q, offset);
	*bucket_of(q, offset) = t;
	q->tables++;
	return t;
}

void qcow2_forget(struct qcow2 *q, uint64_t offset)
{
	struct qtable **at, *t;

	for (at = bucket_of(q, offset); (t = *at); at = &t->next)
		if (t->offset == offset)
			break;
	if (!t)
		return;
	*at = t->next;
	if (t->dirty)
		(*(t->refblock ? &q->refblocks_dirty : &q->l2_dirty))--;
	q->tables--;
	free(t);
}

struct qtable *qcow2_cached(struct qcow2 *q, uint64_t offset)
{
	struct qtable *t = find(q, offset);

	if (t)
		t->used = q->tick++;
	return t;
}

int qcow2_table(struct qcow2 *q, uint64_t offset, bool refblock, struct qtable **ret_table)
{
	struct qtable *t = qcow2_cached(q, offset);
	int r;

	if (t) {
		*ret_table = t;
		return t->refblock == refblock ? 0 : -EIO; /* one cluster in two roles */
	}
	t = add(q, offset, refblock);
	if (!t)
		return -ENOMEM;
	r = qcow2_read_file(q, offset, t->data, qcow2_cluster(q));
	if (r < 0) {
		qcow2_forget(q, offset);
		return r;
	}
	*ret_table = t;
	return 0;
}

int qcow2_new_table(struct qcow2 *q, uint64_t offset, bool refblock, struct qtable **ret_table)
{
	qcow2_forget(q, offset);
	*ret_table = add(q, offset, refblock);
	return *ret_table ? 0 : -ENOMEM;
}

void qcow2_dirty(struct qcow2 *q, struct qtable *table)
{
	if (!table->dirty)
		(*(table->refblock ? &q->refblocks_dirty : &q->l2_dirty))++;
	table->dirty = true;
}

int qcow2_write_table(struct qcow2 *q, struct qtable *table)
{
	int r = qcow2_write_file(q, table->offset, table->data, qcow2_cluster(q));

	if (r == 0 && table->dirty) {
		(*(table->refblock ? &q->refblocks_dirty : &q->l2_dirty))--;
		table->dirty = false;
	}
	return r;
}

int qcow2_write_tables(struct qcow2 *q, bool refblocks)
{
	const unsigned *dirty = refblocks ? &q->refblocks_dirty : &q->l2_dirty;
	int r = 0;

	for (unsigned i = 0; i < QCOW2_BUCKETS && *dirty && r == 0; i++)
		for (struct qtable *t = q->bucket[i]; t && r == 0; t = t->next)
			if (t->dirty && t->refblock == refblocks)
				r = qcow2_write_table(q, t);
	return r;
}

void qcow2_trim(struct qcow2 *q)
{
	while (q->tables > q->tables_max) {
		struct qtable *oldest = NULL;

		for (unsigned i = 0; i < QCOW2_BUCKETS; i++)
			for (struct qtable *t = q->bucket[i]; t; t = t->next)
				if (!t->dirty && (!oldest || t->used < oldest->used))
					oldest = t;
		if (!oldest)
			return;
		qcow2_forget(q, oldest->offset);
	}
}

void qcow2_free_tables(struct qcow2 *q)
{
	for (unsigned i = 0; i < QCOW2_BUCKETS; i++)
		while (q->bucket[i])
			qcow2_forget(q, q->bucket[i]->offset);
	assert(!q->tables);
}
