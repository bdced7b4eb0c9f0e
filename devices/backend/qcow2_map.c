/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2_map.c - where a guest's cluster is: L1 and L2 tables. See qcow2_internal.h. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/backend/qcow2_internal.h"

enum qkind qcow2_kind(const struct qcow2 *q, uint64_t entry)
{
	if (entry & QCOW2_COMPRESSED)
		return QK_COMPRESSED;
	if (q->version >= 3 && entry & QCOW2_ZERO)
		return QK_ZERO;
	return entry & QCOW2_OFFSET ? QK_DATA : QK_NONE;
}

void qcow2_compressed(const struct qcow2 *q, uint64_t entry, uint64_t *ret_offset,
		      uint64_t *ret_len)
{
	unsigned bits = 62 - (q->cluster_bits - 8); /* of the offset */
	uint64_t offset = entry & ((1ull << bits) - 1);
	uint64_t sectors = ((entry & ~(QCOW2_COMPRESSED | QCOW2_COPIED)) >> bits) + 1;

	*ret_offset = offset;
	*ret_len = sectors * 512 - offset % 512;
}

int qcow2_entry_check(const struct qcow2 *q, uint64_t entry)
{
	uint64_t offset = entry & QCOW2_OFFSET, end = qcow2_file_clusters(q) << q->cluster_bits;
	uint64_t known = QCOW2_COPIED | QCOW2_OFFSET | (q->version >= 3 ? QCOW2_ZERO : 0), len;

	if (entry & QCOW2_COMPRESSED) {
		qcow2_compressed(q, entry, &offset, &len);
		return entry & QCOW2_COPIED || !range_inside(offset, len, end) ? -EIO : 0;
	}
	if (entry & ~known || offset & (qcow2_cluster(q) - 1) ||
	    (!offset && entry & QCOW2_COPIED))
		return -EIO;
	return offset && !range_inside(offset, qcow2_cluster(q), end) ? -EIO : 0;
}

static unsigned l2_index(const struct qcow2 *q, uint64_t cluster)
{
	return (unsigned)(cluster & ((1u << qcow2_l2_bits(q)) - 1));
}

/* Where the table of a cluster is; 0: there is none. */
static int l2_place(const struct qcow2 *q, uint64_t cluster, uint64_t *ret_offset)
{
	uint64_t i = cluster >> qcow2_l2_bits(q), offset = i < q->l1_size ? q->l1[i] & QCOW2_OFFSET : 0;

	*ret_offset = offset;
	return offset & (qcow2_cluster(q) - 1) ||
	       offset >> q->cluster_bits >= qcow2_file_clusters(q) ? -EIO : 0;
}

static int read_entry(const struct qcow2 *q, const struct qtable *t, uint64_t cluster,
		      uint64_t *ret_entry)
{
	*ret_entry = get_be64(t->data + 8 * l2_index(q, cluster));
	return qcow2_entry_check(q, *ret_entry);
}

int qcow2_entry(struct qcow2 *q, uint64_t cluster, uint64_t *ret_entry)
{
	uint64_t offset;
	struct qtable *t;
	int r = l2_place(q, cluster, &offset);

	*ret_entry = 0;
	if (r < 0 || !offset)
		return r;
	r = qcow2_table(q, offset, false, &t);
	return r < 0 ? r : read_entry(q, t, cluster, ret_entry);
}

int qcow2_entry_now(struct qcow2 *q, uint64_t cluster, uint64_t *ret_entry)
{
	const struct qtable *t;
	uint64_t offset;
	int r = l2_place(q, cluster, &offset);

	*ret_entry = 0;
	if (r < 0 || !offset)
		return r;
	t = qcow2_cached(q, offset);
	return t && !t->refblock ? read_entry(q, t, cluster, ret_entry) : -EAGAIN;
}

/* A table of our own in place of none, or of one that a snapshot has too. It is on disk, and
 * counted there, before the L1 entry is. */
static int new_l2(struct qcow2 *q, uint64_t i)
{
	uint64_t old = q->l1[i] & QCOW2_OFFSET, index, got, offset;
	struct qtable *t, *from = NULL;
	uint8_t raw[8];
	bool fresh;
	int r = qcow2_take(q, 1, &index, &got, &fresh);

	if (r < 0)
		return r;
	offset = index << q->cluster_bits;
	if (old)
		r = qcow2_table(q, old, false, &from);
	if (r == 0)
		r = qcow2_new_table(q, offset, false, &t);
	if (r == 0 && from)
		memcpy(t->data, from->data, qcow2_cluster(q));
	if (r == 0)
		r = qcow2_write_tables(q, true);
	if (r == 0)
		r = qcow2_write_table(q, t);
	if (r == 0)
		r = q->file->ops->flush(q->file);
	put_be64(raw, offset | QCOW2_COPIED);
	if (r == 0)
		r = qcow2_write_file(q, q->l1_offset + 8 * i, raw, sizeof(raw));
	if (r < 0) {
		/* Whether the entry is on disk is not known after a failed write: then it leaks. */
		qcow2_forget(q, offset);
		return r;
	}
	q->l1[i] = offset | QCOW2_COPIED;
	if (old)
		(void)qcow2_give_up(q, old >> q->cluster_bits, 1);
	return 0;
}

int qcow2_l2_for_write(struct qcow2 *q, uint64_t cluster, struct qtable **ret_table)
{
	uint64_t i = cluster >> qcow2_l2_bits(q);
	int r = 0;

	assert(!q->flushing);
	if (i >= q->l1_size)
		return -EIO;
	if (!(q->l1[i] & QCOW2_COPIED))
		r = new_l2(q, i);
	return r < 0 ? r : qcow2_table(q, q->l1[i] & QCOW2_OFFSET, false, ret_table);
}

void qcow2_set_entry(struct qcow2 *q, struct qtable *table, uint64_t cluster, uint64_t entry)
{
	uint8_t *at = table->data + 8 * l2_index(q, cluster);
	uint64_t old = get_be64(at);
	struct qrun run = qcow2_entry_run(q, old);

	if (old == entry)
		return;
	put_be64(at, entry);
	qcow2_dirty(q, table);
	if (run.count && (entry & QCOW2_OFFSET) >> q->cluster_bits != run.first)
		(void)qcow2_give_up(q, run.first, run.count);
}

/* --- a longer disk --------------------------------------------------------------------------- */

static int write_l1(struct qcow2 *q, const uint64_t *l1, uint32_t size, uint64_t at)
{
	uint8_t *raw = calloc(size, 8);
	uint8_t field[12];
	int r;

	if (!raw)
		return -ENOMEM;
	for (uint32_t i = 0; i < size; i++)
		put_be64(raw + 8ull * i, l1[i]);
	r = qcow2_write_tables(q, true);
	if (r == 0)
		r = qcow2_write_file(q, at, raw, 8ull * size);
	free(raw);
	if (r == 0)
		r = q->file->ops->flush(q->file);
	put_be32(field, size);
	put_be64(field + 4, at);
	if (r == 0)
		r = qcow2_write_file(q, QH_L1_SIZE, field, sizeof(field));
	return r < 0 ? r : q->file->ops->flush(q->file);
}

static int grow_l1(struct qcow2 *q, uint32_t size)
{
	uint64_t per_cluster = qcow2_cluster(q) / 8, old = q->l1_offset >> q->cluster_bits;
	uint64_t want = (size + per_cluster - 1) / per_cluster, first, got;
	uint64_t *l1;
	bool fresh;
	int r;

	if (want >= 1ull << qcow2_refblock_bits(q)) /* each range of a refcount block has the block */
		return -EFBIG;
	for (;;) { /* in one piece: pieces that are too small are put back once it is found */
		r = qcow2_take(q, want, &first, &got, &fresh);
		if (r < 0 || got == want)
			break;
		(void)qcow2_give_up(q, first, got);
	}
	if (r < 0)
		return r;
	l1 = calloc(want * per_cluster, sizeof(*l1));
	if (!l1)
		return -ENOMEM;
	memcpy(l1, q->l1, q->l1_size * sizeof(*l1));
	r = write_l1(q, l1, size, first << q->cluster_bits);
	if (r < 0) {
		free(l1);
		return r;
	}
	want = (q->l1_size + per_cluster - 1) / per_cluster;
	free(q->l1);
	q->l1 = l1;
	q->l1_size = size;
	q->l1_offset = first << q->cluster_bits;
	return want ? qcow2_drop(q, old, want) : 0;
}

int qcow2_grow(struct qcow2 *q, uint64_t size)
{
	unsigned shift = q->cluster_bits + qcow2_l2_bits(q);
	uint64_t entries = (size >> shift) + !!(size & ((1ull << shift) - 1));
	uint8_t field[8];
	int r = 0;

	if (q->version < 3 && q->snapshots) /* they do not say their own size */
		return -ENOTSUP;
	if (entries > QCOW2_L1_BYTES_MAX / 8)
		return -EFBIG;
	if (entries > q->l1_size)
		r = grow_l1(q, (uint32_t)entries);
	put_be64(field, size);
	if (r == 0)
		r = qcow2_write_file(q, QH_SIZE, field, sizeof(field));
	return r < 0 ? r : q->file->ops->flush(q->file);
}
