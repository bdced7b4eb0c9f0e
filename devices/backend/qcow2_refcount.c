/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2_refcount.c - which clusters of the file are in use. See qcow2_internal.h. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "devices/backend/qcow2_internal.h"

uint64_t qcow2_count_get(const struct qcow2 *q, const uint8_t *refblock, uint64_t index)
{
	unsigned bits = 1u << q->refcount_order;
	uint64_t i = index & ((1ull << qcow2_refblock_bits(q)) - 1);

	switch (q->refcount_order) {
	case 3:
		return refblock[i];
	case 4:
		return get_be16(refblock + 2 * i);
	case 5:
		return get_be32(refblock + 4 * i);
	case 6:
		return get_be64(refblock + 8 * i);
	default: /* several in a byte, the first in the lowest bits */
		return refblock[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
	}
}

static void count_set(const struct qcow2 *q, uint8_t *refblock, uint64_t index, uint64_t value)
{
	unsigned bits = 1u << q->refcount_order;
	uint64_t i = index & ((1ull << qcow2_refblock_bits(q)) - 1);
	uint8_t *byte;

	switch (q->refcount_order) {
	case 3:
		refblock[i] = (uint8_t)value;
		break;
	case 4:
		put_be16(refblock + 2 * i, (uint16_t)value);
		break;
	case 5:
		put_be32(refblock + 4 * i, (uint32_t)value);
		break;
	case 6:
		put_be64(refblock + 8 * i, value);
		break;
	default:
		byte = refblock + i * bits / 8;
		*byte &= (uint8_t)~(((1u << bits) - 1) << (i * bits % 8));
		*byte |= (uint8_t)(value << (i * bits % 8));
		break;
	}
}

static uint64_t place_of(const struct qcow2 *q, uint64_t index)
{
	return q->reftable[index >> qcow2_refblock_bits(q)] & QCOW2_REFTABLE_OFFSET;
}

/* Nothing may lie behind the end of a block device, or where an L2 entry cannot point. */
static int room_check(const struct qcow2 *q, uint64_t end)
{
	if (end > (QCOW2_OFFSET >> q->cluster_bits))
		return -EFBIG;
	if (!q->file->growable && end << q->cluster_bits > q->file->size)
		return -ENOSPC;
	return 0;
}

static int write_be64(struct qcow2 *q, uint64_t offset, uint64_t value)
{
	uint8_t raw[8];

	put_be64(raw, value);
	return qcow2_write_file(q, offset, raw, sizeof(raw));
}

/* The block that counts cluster `index`, put at that very cluster: all that it counts is free. */
static int new_refblock(struct qcow2 *q, uint64_t index)
{
	uint64_t offset = index << q->cluster_bits, slot = index >> qcow2_refblock_bits(q);
	struct qtable *t;
	int r = room_check(q, index + 1);

	if (r == 0)
		r = qcow2_new_table(q, offset, true, &t);
	if (r < 0)
		return r;
	count_set(q, t->data, index, 1);
	r = qcow2_write_table(q, t);
	if (r == 0)
		r = q->file->ops->flush(q->file);
	if (r == 0)
		r = write_be64(q, q->reftable_offset + 8 * slot, offset);
	if (r < 0) {
		qcow2_forget(q, offset);
		return r;
	}
	q->reftable[slot] = offset;
	if (q->fresh <= index)
		q->fresh = index + 1;
	return 0;
}

struct bigger { /* a refcount table in the making, followed by the blocks that count it and them */
	uint64_t first, clusters, blocks, entries;
	uint64_t *table;
	uint8_t *raw;
};

static int write_bigger(struct qcow2 *q, struct bigger *n)
{
	uint64_t total = n->clusters + n->blocks, per_block = 1ull << qcow2_refblock_bits(q);
	uint8_t field[12];
	int r = 0;

	for (uint64_t b = 0; b < n->blocks && r == 0; b++) {
		uint64_t at = (n->first + n->clusters + b) << q->cluster_bits;
		struct qtable *t;

		r = qcow2_new_table(q, at, true, &t);
		if (r < 0)
			break;
		for (uint64_t i = b * per_block; i < total && i < (b + 1) * per_block; i++)
			count_set(q, t->data, n->first + i, 1);
		n->table[q->reftable_size + b] = at;
		r = qcow2_write_table(q, t);
	}
	for (uint64_t i = 0; i < n->entries; i++)
		put_be64(n->raw + 8 * i, n->table[i]);
	if (r == 0)
		r = qcow2_write_file(q, n->first << q->cluster_bits, n->raw, 8 * n->entries);
	if (r == 0)
		r = q->file->ops->flush(q->file);
	put_be64(field, n->first << q->cluster_bits);
	put_be32(field + 8, (uint32_t)n->clusters);
	if (r == 0) /* from here on it is the table */
		r = qcow2_write_file(q, QH_REFTABLE_OFFSET, field, sizeof(field));
	if (r == 0)
		r = q->file->ops->flush(q->file);
	return r;
}

/* A longer refcount table. It lies in the first clusters that the old one cannot count, so they are
 * all free, whatever else there is. */
static int grow_reftable(struct qcow2 *q)
{
	uint64_t per_block = 1ull << qcow2_refblock_bits(q), old_size = q->reftable_size, old_first;
	struct bigger n = { .first = old_size * per_block };
	int r;

	n.clusters = (old_size * 8 * 3 / 2 >> q->cluster_bits) + 1;
	if (n.clusters << q->cluster_bits > QCOW2_REFTABLE_BYTES_MAX)
		return -EFBIG;
	n.entries = n.clusters << (q->cluster_bits - 3);
	do
		n.blocks++;
	while (n.blocks * per_block < n.clusters + n.blocks);
	if (old_size + n.blocks > n.entries)
		return -EFBIG;
	r = room_check(q, n.first + n.clusters + n.blocks);
	if (r < 0)
		return r;
	n.table = calloc(n.entries, sizeof(*n.table));
	n.raw = calloc(n.entries, sizeof(*n.table));
	if (!n.table || !n.raw) {
		r = -ENOMEM;
	} else {
		memcpy(n.table, q->reftable, old_size * sizeof(*n.table));
		r = write_bigger(q, &n);
	}
	free(n.raw);
	if (r < 0) {
		for (uint64_t b = 0; b < n.blocks; b++)
			qcow2_forget(q, (n.first + n.clusters + b) << q->cluster_bits);
		free(n.table);
		return r;
	}
	old_first = q->reftable_offset >> q->cluster_bits;
	free(q->reftable);
	q->reftable = n.table;
	q->reftable_size = (uint32_t)n.entries;
	q->reftable_offset = n.first << q->cluster_bits;
	if (q->fresh < n.first + n.clusters + n.blocks)
		q->fresh = n.first + n.clusters + n.blocks;
	return qcow2_drop(q, old_first, old_size >> (q->cluster_bits - 3));
}

/* The refcount block of a cluster, made if it is not there; 1: made just now. */
static int refblock_for(struct qcow2 *q, uint64_t index, struct qtable **ret)
{
	uint64_t slot = index >> qcow2_refblock_bits(q);
	int r;

	if (slot >= q->reftable_size) {
		r = grow_reftable(q);
		return r < 0 ? r : 1;
	}
	if (!place_of(q, index)) {
		r = new_refblock(q, index);
		return r < 0 ? r : 1;
	}
	return qcow2_table(q, place_of(q, index), true, ret);
}

int qcow2_take(struct qcow2 *q, uint64_t want, uint64_t *ret_first, uint64_t *ret_got,
	       bool *ret_fresh)
{
	uint64_t index = q->hint, got = 0, block = ~0ull;
	struct qtable *t = NULL;
	int r;

	for (;; index++) {
		if (index >> qcow2_refblock_bits(q) != block) {
			if (got) /* a run ends with its block */
				break;
			do
				r = refblock_for(q, index, &t);
			while (r > 0);
			if (r < 0)
				return r;
			block = index >> qcow2_refblock_bits(q);
		}
		if (qcow2_count_get(q, t->data, index)) {
			if (got)
				break;
			continue;
		}
		if (room_check(q, index + 1) < 0) {
			if (got)
				break;
			return room_check(q, index + 1);
		}
		if (++got == want) {
			index++;
			break;
		}
	}
	*ret_first = index - got;
	*ret_got = got;
	*ret_fresh = q->file->growable && *ret_first >= q->fresh;
	for (uint64_t i = *ret_first; i < index; i++)
		count_set(q, t->data, i, 1);
	qcow2_dirty(q, t);
	q->hint = index;
	if (q->fresh < index)
		q->fresh = index;
	return 0;
}

int qcow2_drop(struct qcow2 *q, uint64_t first, uint64_t count)
{
	for (uint64_t i = first; i < first + count; i++) {
		struct qtable *t;
		uint64_t n;
		int r;

		if (i >> qcow2_refblock_bits(q) >= q->reftable_size || !place_of(q, i))
			return -EIO;
		r = qcow2_table(q, place_of(q, i), true, &t);
		if (r < 0)
			return r;
		n = qcow2_count_get(q, t->data, i);
		if (!n)
			return -EIO;
		count_set(q, t->data, i, n - 1);
		qcow2_dirty(q, t);
		if (n == 1 && i < q->hint)
			q->hint = i;
	}
	return 0;
}

int qcow2_give_up(struct qcow2 *q, uint64_t first, uint64_t count)
{
	struct qrun *runs = q->given_up, *last;

	if (!count)
		return 0;
	if (q->given_up_count) {
		last = &runs[q->given_up_count - 1];
		if (last->first + last->count == first) {
			last->count += count;
			return 0;
		}
	}
	if (q->given_up_count == q->given_up_room) {
		size_t room = q->given_up_room ? q->given_up_room * 2 : 64;

		runs = reallocarray(runs, room, sizeof(*runs));
		if (!runs)
			return -ENOMEM;
		q->given_up = runs;
		q->given_up_room = room;
	}
	runs[q->given_up_count++] = (struct qrun){ first, count };
	return 0;
}

/* Space that nobody uses goes back to the host, while the clusters are still counted. */
static void punch(struct qcow2 *q, const struct qrun *run)
{
	for (uint64_t i = run->first; i < run->first + run->count; i++) {
		struct qtable *t;
		bool last = false;

		pthread_mutex_lock(&q->lock);
		if (i >> qcow2_refblock_bits(q) < q->reftable_size && place_of(q, i) &&
		    qcow2_table(q, place_of(q, i), true, &t) == 0)
			last = qcow2_count_get(q, t->data, i) == 1;
		pthread_mutex_unlock(&q->lock);
		if (last)
			(void)q->file->ops->discard(q->file, i << q->cluster_bits,
						    qcow2_cluster(q));
	}
}

int qcow2_drop_given_up(struct qcow2 *q, struct qrun *runs, size_t n)
{
	unsigned old;
	int r = 0;

	pthread_mutex_lock(&q->lock);
	old = q->phase;
	q->phase = !old;
	while (q->transfers[old]) /* those that began when the clusters were in use */
		pthread_cond_wait(&q->changed, &q->lock);
	pthread_mutex_unlock(&q->lock);
	for (size_t i = 0; i < n; i++) {
		int one;

		punch(q, &runs[i]);
		pthread_mutex_lock(&q->lock);
		qcow2_trim(q);
		one = qcow2_drop(q, runs[i].first, runs[i].count);
		pthread_mutex_unlock(&q->lock);
		r = r < 0 ? r : one; /* what failed stays counted: a leak */
	}
	return r;
}

struct qrun qcow2_entry_run(const struct qcow2 *q, uint64_t entry)
{
	uint64_t offset = entry & QCOW2_OFFSET, len;
	struct qrun run = { 0, 0 };

	if (qcow2_kind(q, entry) == QK_COMPRESSED) {
		qcow2_compressed(q, entry, &offset, &len);
		run.first = offset >> q->cluster_bits;
		run.count = ((offset + len - 1) >> q->cluster_bits) - run.first + 1;
	} else if (offset) {
		run = (struct qrun){ offset >> q->cluster_bits, 1 };
	}
	return run;
}
