/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2_open.c - the header, and what is kept in memory from it. See qcow2.h. */
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

#define MAGIC 0x514649fbu
#define V2_HEADER 72u
#define V3_HEADER 104u
#define BACKING_NAME_MAX 1023u

enum { INCOMPATIBLE_DIRTY = 1, INCOMPATIBLE_CORRUPT = 2, INCOMPATIBLE_COMPRESSION = 8 };

struct header {
	uint8_t raw[QCOW2_HEADER_MAX];
	uint64_t incompatible, backing_offset;
	uint32_t backing_size, length, reftable_clusters;
};

static int __attribute__((format(printf, 3, 4))) refuse(char *why, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, QCOW2_WHY_MAX, fmt, ap);
	va_end(ap);
	return r;
}

static int read_header(struct qcow2 *q, struct header *h, char *why)
{
	int r;

	if (q->file_size < V2_HEADER)
		return refuse(why, -EINVAL, "%" PRIu64 " bytes are too short for a qcow2 image",
			      q->file_size);
	r = qcow2_read_file(q, 0, h->raw, sizeof(h->raw));
	if (r < 0)
		return refuse(why, r, "its header cannot be read: %s", strerror(-r));
	if (get_be32(h->raw) != MAGIC)
		return refuse(why, -EINVAL, "it is not a qcow2 image");
	q->version = get_be32(h->raw + QH_VERSION);
	if (q->version != 2 && q->version != 3)
		return refuse(why, -ENOTSUP, "version %u of the format is not supported; 2 and 3 are",
			      q->version);
	h->length = V2_HEADER;
	q->refcount_order = 4;
	if (q->version == 3) {
		h->incompatible = get_be64(h->raw + QH_INCOMPATIBLE);
		q->autoclear = get_be64(h->raw + QH_AUTOCLEAR);
		q->refcount_order = get_be32(h->raw + QH_REFCOUNT_ORDER);
		h->length = get_be32(h->raw + QH_LENGTH);
	}
	return 0;
}

static int check_features(struct qcow2 *q, const struct header *h, char *why)
{
	uint64_t known = INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT | INCOMPATIBLE_COMPRESSION;
	unsigned type = 0;

	if (h->incompatible & ~known)
		return refuse(why, -ENOTSUP, "it uses features that are not supported: incompatible "
			      "bits 0x%" PRIx64 "%s%s", h->incompatible & ~known,
			      h->incompatible & 4 ? " (external data file)" : "",
			      h->incompatible & 16 ? " (extended L2 entries)" : "");
	if (get_be32(h->raw + QH_CRYPT))
		return refuse(why, -ENOTSUP, "it is encrypted");
	if (h->length > QH_COMPRESSION)
		type = h->raw[QH_COMPRESSION];
	if (type > 1 || !!(h->incompatible & INCOMPATIBLE_COMPRESSION) != (type != 0))
		return refuse(why, type > 1 ? -ENOTSUP : -EINVAL,
			      "compression type %u is not supported or does not fit its feature bit",
			      type);
	q->zstd = type == 1;
	if (q->block.readonly)
		return 0;
	if (h->incompatible & INCOMPATIBLE_CORRUPT)
		return refuse(why, -EROFS, "it is marked as corrupt, so it can only be read: "
			      "qemu-img check -r all mends that");
	if (h->incompatible & INCOMPATIBLE_DIRTY)
		return refuse(why, -EROFS, "it is marked as dirty, so it can only be read: "
			      "qemu-img check -r all mends that");
	return 0;
}

static int check_geometry(struct qcow2 *q, struct header *h, char *why)
{
	uint64_t size = get_be64(h->raw + QH_SIZE), entries, per_entry;
	uint32_t bits = get_be32(h->raw + QH_CLUSTER_BITS);

	if (bits < 9 || bits > 21)
		return refuse(why, -EINVAL, "clusters of 2^%" PRIu32 " bytes", bits);
	q->cluster_bits = bits;
	if (q->version == 3 && (h->length < V3_HEADER || h->length % 8 ||
				h->length > qcow2_cluster(q)))
		return refuse(why, -EINVAL, "a header of %" PRIu32 " bytes", h->length);
	if (q->refcount_order > 6)
		return refuse(why, -EINVAL, "reference counts of 2^%u bits", q->refcount_order);
	if (size > INT64_MAX / 2)
		return refuse(why, -EFBIG, "a disk of %" PRIu64 " bytes is too large", size);
	q->block.size = size;
	q->l1_size = get_be32(h->raw + QH_L1_SIZE);
	q->l1_offset = get_be64(h->raw + QH_L1_OFFSET);
	per_entry = 1ull << (q->cluster_bits + qcow2_l2_bits(q));
	entries = size / per_entry + (size % per_entry != 0);
	if (q->l1_size > QCOW2_L1_BYTES_MAX / 8 || entries > q->l1_size)
		return refuse(why, -EINVAL, "an L1 table of %" PRIu32 " entries for a disk that "
			      "needs %" PRIu64, q->l1_size, entries);
	h->reftable_clusters = get_be32(h->raw + QH_REFTABLE_CLUSTERS);
	q->reftable_offset = get_be64(h->raw + QH_REFTABLE_OFFSET);
	if (!h->reftable_clusters ||
	    h->reftable_clusters > QCOW2_REFTABLE_BYTES_MAX >> q->cluster_bits)
		return refuse(why, -EINVAL, "a refcount table of %" PRIu32 " clusters",
			      h->reftable_clusters);
	q->reftable_size = h->reftable_clusters << (q->cluster_bits - 3);
	q->snapshots = get_be32(h->raw + QH_SNAPSHOTS);
	q->snapshots_offset = get_be64(h->raw + QH_SNAPSHOTS_OFFSET);
	if (q->snapshots > QCOW2_SNAPSHOTS_MAX)
		return refuse(why, -EINVAL, "%" PRIu32 " snapshots", q->snapshots);
	return 0;
}

/* The image names its backing file only to people: what is opened is what was configured. */
static int check_backing(struct qcow2 *q, const struct header *h, char *why)
{
	uint64_t offset = get_be64(h->raw + QH_BACKING_OFFSET);
	uint32_t len = get_be32(h->raw + QH_BACKING_SIZE);
	char name[BACKING_NAME_MAX + 1] = "";

	if (!offset && q->backing)
		return refuse(why, -EMLINK, "it has no backing file, and one is given");
	if (!offset)
		return 0;
	if (len > BACKING_NAME_MAX || !range_inside(offset, len, qcow2_cluster(q)) ||
	    qcow2_read_file(q, offset, name, len) < 0)
		return refuse(why, -EINVAL, "the name of its backing file is not where it should be");
	for (char *p = name; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			*p = '?';
	if (!q->backing)
		return refuse(why, -EMLINK, "it lies on top of a backing file, \"%.100s\": allow that "
			      "by giving \"backing\"", name);
	return 0;
}

static int read_tables(struct qcow2 *q, char *why)
{
	int r = 0;

	if (q->l1_size && (q->l1_offset & (qcow2_cluster(q) - 1) ||
			   !range_inside(q->l1_offset, 8ull * q->l1_size, q->file_size)))
		return refuse(why, -EINVAL, "its L1 table is not inside the file, which may have been "
			      "cut off");
	if (q->reftable_offset & (qcow2_cluster(q) - 1) ||
	    !range_inside(q->reftable_offset, 8ull * q->reftable_size, q->file_size))
		return refuse(why, -EINVAL, "its refcount table is not inside the file, which may have "
			      "been cut off");
	q->l1 = calloc(q->l1_size ? q->l1_size : 1, sizeof(*q->l1));
	q->reftable = calloc(q->reftable_size, sizeof(*q->reftable));
	if (!q->l1 || !q->reftable)
		r = -ENOMEM;
	if (r == 0 && q->l1_size)
		r = qcow2_read_file(q, q->l1_offset, q->l1, 8ull * q->l1_size);
	if (r == 0)
		r = qcow2_read_file(q, q->reftable_offset, q->reftable, 8ull * q->reftable_size);
	if (r < 0)
		return refuse(why, r, "its tables cannot be read: %s", strerror(-r));
	for (uint32_t i = 0; i < q->l1_size; i++)
		q->l1[i] = get_be64(&q->l1[i]);
	for (uint32_t i = 0; i < q->reftable_size; i++)
		q->reftable[i] = get_be64(&q->reftable[i]);
	return 0;
}

/* Whoever writes and does not know a feature takes its "still true" bit away. */
static int clear_features(struct qcow2 *q, char *why)
{
	uint8_t zero[8] = { 0 };
	int r;

	if (!q->autoclear)
		return 0;
	r = qcow2_write_file(q, QH_AUTOCLEAR, zero, sizeof(zero));
	if (r == 0)
		r = q->file->ops->flush(q->file);
	return r < 0 ? refuse(why, r, "it cannot be written: %s", strerror(-r)) : 0;
}

static int open_image(struct qcow2 *q, char *why)
{
	struct header h = { 0 };
	int r = read_header(q, &h, why);

	if (r == 0)
		r = check_features(q, &h, why);
	if (r == 0)
		r = check_geometry(q, &h, why);
	if (r == 0)
		r = check_backing(q, &h, why);
	if (r < 0)
		return r;
	q->tables_max = QCOW2_CACHE_BYTES >> q->cluster_bits;
	q->tables_max = q->tables_max < 4096 ? q->tables_max : 4096;
	q->fresh = qcow2_file_clusters(q);
	r = read_tables(q, why);
	if (r == 0 && !q->block.readonly)
		r = qcow2_check(q, why);
	if (r == 0 && !q->block.readonly)
		r = clear_features(q, why);
	return r;
}

int block_qcow2_create(struct block *file, struct block *backing, bool readonly, char *why,
		       struct block **ret_block)
{
	struct qcow2 *q = calloc(1, sizeof(*q));
	int r;

	why[0] = '\0';
	if (!q)
		return refuse(why, -ENOMEM, "out of memory");
	q->block = (struct block){ .ops = &qcow2_ops, .readonly = readonly };
	q->file = file;
	q->backing = backing;
	q->file_size = file->size;
	pthread_mutex_init(&q->lock, NULL);
	pthread_mutex_init(&q->inflate_lock, NULL);
	pthread_cond_init(&q->changed, NULL);
	r = open_image(q, why);
	if (r < 0) {
		q->file = q->backing = NULL; /* still the caller's */
		q->block.readonly = true;
		block_destroy(&q->block);
		return r;
	}
	*ret_block = &q->block;
	return 0;
}
