/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_check.c - is an image that is to be written whole? Every reference to every cluster is
 * counted, by kind, and compared with the image's own counts. Afterwards no cluster has two roles,
 * none that is in use can be given out, and one marked as ours alone is. Counts that are too high
 * are leaks, and harmless.
 */
#include <config.h>

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/backend/qcow2_internal.h"

#define USE_META 0x8000u /* header, L1 and refcount tables, refcount blocks: one use */
#define USE_L2 0x4000u
#define USE_COUNT 0x3fffu
#define CLUSTERS_MAX (1ull << 27)      /* 8 TiB of 64 KiB clusters */
#define ENTRIES_MAX (1ull << 29)       /* L2 entries looked at, so that no image takes for ever */
#define SNAPSHOT_HEAD 40u

struct check {
	struct qcow2 *q;
	char *why;
	uint64_t clusters;
	uint16_t *use;
	uint8_t *l2;        /* one table */
	uint64_t budget;
};

static int __attribute__((format(printf, 3, 4)))
broken(struct check *c, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->why, QCOW2_WHY_MAX, fmt, ap);
	va_end(ap);
	return r;
}

static int use_meta(struct check *c, uint64_t offset, uint64_t len, const char *what)
{
	unsigned bits = c->q->cluster_bits;

	if (offset & (qcow2_cluster(c->q) - 1))
		return broken(c, -EINVAL, "%s at 0x%" PRIx64 " is not at the start of a cluster",
			      what, offset);
	if (!range_inside(offset, len, c->clusters << bits))
		return broken(c, -EINVAL, "%s at 0x%" PRIx64 " is not inside the file", what,
			      offset);
	for (uint64_t i = offset >> bits; len && i <= (offset + len - 1) >> bits; i++) {
		if (c->use[i])
			return broken(c, -EINVAL,
				      "%s at 0x%" PRIx64 " overlaps other metadata", what, offset);
		c->use[i] = USE_META | 1;
	}
	return 0;
}

static int use_run(struct check *c, struct qrun run, uint16_t kind)
{
	for (uint64_t i = run.first; i < run.first + run.count; i++) {
		if (c->use[i] & USE_META || (c->use[i] && (c->use[i] & USE_L2) != kind))
			return broken(c, -EINVAL, "the cluster at 0x%" PRIx64 " has two roles",
				      i << c->q->cluster_bits);
		c->use[i] |= kind;
		if ((c->use[i] & USE_COUNT) < USE_COUNT)
			c->use[i]++;
	}
	return 0;
}

static int count_of(struct check *c, uint64_t index, uint64_t *ret)
{
	struct qcow2 *q = c->q;
	uint64_t slot = index >> qcow2_refblock_bits(q), offset;
	struct qtable *t;
	int r;

	*ret = 0;
	offset = slot < q->reftable_size ? q->reftable[slot] & QCOW2_REFTABLE_OFFSET : 0;
	if (!offset)
		return 0;
	qcow2_trim(q);
	r = qcow2_table(q, offset, true, &t);
	if (r == 0)
		*ret = qcow2_count_get(q, t->data, index);
	return r;
}

/* What is marked as ours alone is written in place: it must be counted once. */
static int check_copied(struct check *c, uint64_t entry)
{
	uint64_t n, offset = entry & QCOW2_OFFSET;
	int r;

	if (!(entry & QCOW2_COPIED))
		return 0;
	r = count_of(c, offset >> c->q->cluster_bits, &n);
	if (r == 0 && n != 1)
		return broken(c, -EINVAL, "the cluster at 0x%" PRIx64
			      " is marked as used once and counted %" PRIu64 " times", offset, n);
	return r;
}

static int check_l2(struct check *c, bool active)
{
	uint64_t n = qcow2_cluster(c->q) / 8;
	int r = 0;

	if (c->budget < n)
		return broken(c, -EINVAL, "there is more metadata than any real image has");
	c->budget -= n;
	for (uint64_t i = 0; i < n && r == 0; i++) {
		uint64_t entry = get_be64(c->l2 + 8 * i);

		if (!entry)
			continue;
		if (qcow2_entry_check(c->q, entry) < 0)
			return broken(c, -EINVAL, "an L2 entry, 0x%016" PRIx64
				      ", points nowhere", entry);
		r = use_run(c, qcow2_entry_run(c->q, entry), 0);
		if (r == 0 && active)
			r = check_copied(c, entry);
	}
	return r;
}

static int check_l1_entry(struct check *c, uint64_t entry, bool active)
{
	struct qcow2 *q = c->q;
	uint64_t offset = entry & QCOW2_OFFSET;
	struct qrun run = { offset >> q->cluster_bits, 1 };
	int r;

	if (entry & ~(QCOW2_OFFSET | QCOW2_COPIED) || offset & (qcow2_cluster(q) - 1) ||
	    run.first >= c->clusters || (!offset && entry))
		return broken(c, -EINVAL, "an L1 entry, 0x%016" PRIx64 ", points nowhere", entry);
	if (!offset)
		return 0;
	r = use_run(c, run, USE_L2);
	if (r == 0 && active)
		r = check_copied(c, entry);
	if (r == 0)
		r = qcow2_read_file(q, offset, c->l2, qcow2_cluster(q));
	return r < 0 ? r : check_l2(c, active);
}

static int check_active(struct check *c)
{
	int r = use_meta(c, c->q->l1_offset, 8ull * c->q->l1_size, "the L1 table");

	for (uint32_t i = 0; i < c->q->l1_size && r == 0; i++)
		r = check_l1_entry(c, c->q->l1[i], true);
	return r;
}

static int check_snapshot(struct check *c, const uint8_t *head)
{
	uint64_t offset = get_be64(head);
	uint32_t size = get_be32(head + 8);
	uint8_t *raw;
	int r;

	if (size > QCOW2_L1_BYTES_MAX / 8)
		return broken(c, -EINVAL, "a snapshot's L1 table has %" PRIu32 " entries", size);
	r = use_meta(c, offset, 8ull * size, "a snapshot's L1 table");
	if (r < 0 || !size)
		return r;
	raw = malloc(8ull * size);
	if (!raw)
		return -ENOMEM;
	r = qcow2_read_file(c->q, offset, raw, 8ull * size);
	for (uint32_t i = 0; i < size && r == 0; i++)
		r = check_l1_entry(c, get_be64(raw + 8ull * i), false);
	free(raw);
	return r;
}

static int check_snapshots(struct check *c)
{
	struct qcow2 *q = c->q;
	uint64_t at = q->snapshots_offset, end = c->clusters << q->cluster_bits;
	int r = 0;

	for (uint32_t i = 0; i < q->snapshots && r == 0; i++) {
		uint8_t head[SNAPSHOT_HEAD];

		if (at > end)
			return broken(c, -EINVAL, "the snapshot table is not inside the file");
		r = qcow2_read_file(q, at, head, sizeof(head));
		if (r == 0)
			r = check_snapshot(c, head);
		/* extra data, id and name; each entry is padded to eight bytes */
		at += SNAPSHOT_HEAD + (uint64_t)get_be32(head + 36) + get_be16(head + 12) +
		      get_be16(head + 14);
		at = (at + 7) & ~7ull;
	}
	if (r == 0 && q->snapshots)
		r = use_meta(c, q->snapshots_offset, at - q->snapshots_offset,
			     "the snapshot table");
	return r;
}

static int check_refblocks(struct check *c)
{
	struct qcow2 *q = c->q;
	int r = use_meta(c, q->reftable_offset, 8ull * q->reftable_size, "the refcount table");

	for (uint32_t i = 0; i < q->reftable_size && r == 0; i++) {
		if (q->reftable[i] & ~QCOW2_REFTABLE_OFFSET)
			return broken(c, -EINVAL, "a refcount table entry, 0x%016" PRIx64
				      ", points nowhere", q->reftable[i]);
		if (q->reftable[i])
			r = use_meta(c, q->reftable[i], qcow2_cluster(q), "a refcount block");
	}
	return r;
}

static int check_counts(struct check *c)
{
	uint64_t n;
	int r = 0;

	for (uint64_t i = 0; i < c->clusters && r == 0; i++) {
		if (!c->use[i])
			continue;
		r = count_of(c, i, &n);
		if (r == 0 && n < (c->use[i] & USE_COUNT))
			return broken(c, -EINVAL, "the cluster at 0x%" PRIx64 " is used %u times "
				      "and counted %" PRIu64 " times: qemu-img check -r all "
				      "mends that", i << c->q->cluster_bits,
				      c->use[i] & USE_COUNT, n);
	}
	return r;
}

int qcow2_check(struct qcow2 *q, char *why)
{
	struct check c = { .q = q, .why = why, .clusters = qcow2_file_clusters(q),
			   .budget = ENTRIES_MAX };
	int r;

	why[0] = '\0';
	if (c.clusters > CLUSTERS_MAX)
		return broken(&c, -EFBIG, "%" PRIu64 " clusters are more than can be checked: give "
			      "it larger ones", c.clusters);
	c.use = calloc(c.clusters, sizeof(*c.use));
	c.l2 = malloc(qcow2_cluster(q));
	r = c.use && c.l2 ? use_meta(&c, 0, 1, "the header") : -ENOMEM;
	if (r == 0)
		r = check_refblocks(&c);
	if (r == 0)
		r = check_active(&c);
	if (r == 0)
		r = check_snapshots(&c);
	if (r == 0)
		r = check_counts(&c);
	if (r < 0 && !why[0])
		snprintf(why, QCOW2_WHY_MAX, "its metadata cannot be read: %s", strerror(-r));
	free(c.use);
	free(c.l2);
	return r;
}
