/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2_internal.h - shared by qcow2_*.c only.
 *
 *   L1 table (in memory) -> L2 tables -> data clusters       where a guest's cluster is
 *   refcount table (in memory) -> refcount blocks            how often a cluster of the file is used
 *
 * What is on disk is consistent at every moment, but for clusters that are counted and not used:
 *
 *   taking a cluster   count it, write the data; both are on disk before the L2 entry
 *   giving one up      the L2 entry is on disk before the count goes down, and no transfer that
 *                      began earlier is left before the cluster can be taken again
 *
 * So L2 tables and refcount blocks are changed in memory and written by qcow2_flush(): counts, sync,
 * L2 tables, sync, and then what was given up is. A new L2 table or refcount block, a few per GiB,
 * is written at once.
 *
 * Locks: one, q->lock; not held over data transfers. Nothing changes an L2 table while q->flushing.
 */
#ifndef DEVICES_BACKEND_QCOW2_INTERNAL_H
#define DEVICES_BACKEND_QCOW2_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/backend/block.h"
#include "devices/backend/iov.h"
#include "devices/backend/qcow2.h"

#define QCOW2_COPIED (1ull << 63)
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO 1ull                       /* version 3, L2 entries */
#define QCOW2_OFFSET 0x00fffffffffffe00ull    /* of L1 and L2 entries */
#define QCOW2_REFTABLE_OFFSET 0xfffffffffffffe00ull
#define QCOW2_HEADER_MAX 1024u

#define QCOW2_L1_BYTES_MAX (32u << 20)
#define QCOW2_REFTABLE_BYTES_MAX (8u << 20)
#define QCOW2_SNAPSHOTS_MAX 65536u
#define QCOW2_BUCKETS 512u
#define QCOW2_CACHE_BYTES (16u << 20)

enum { /* offsets in the header */
	QH_VERSION = 4, QH_BACKING_OFFSET = 8, QH_BACKING_SIZE = 16, QH_CLUSTER_BITS = 20,
	QH_SIZE = 24, QH_CRYPT = 32, QH_L1_SIZE = 36, QH_L1_OFFSET = 40, QH_REFTABLE_OFFSET = 48,
	QH_REFTABLE_CLUSTERS = 56, QH_SNAPSHOTS = 60, QH_SNAPSHOTS_OFFSET = 64, QH_INCOMPATIBLE = 72,
	QH_COMPATIBLE = 80, QH_AUTOCLEAR = 88, QH_REFCOUNT_ORDER = 96, QH_LENGTH = 100,
	QH_COMPRESSION = 104,
};

struct qtable { /* an L2 table or a refcount block, as on disk */
	uint64_t offset;
	struct qtable *next; /* of the bucket */
	uint64_t used;       /* tick of the last use */
	bool dirty, refblock;
	uint8_t data[];
};

struct qalloc { /* clusters of the guest that are being given a place; on the writer's stack */
	uint64_t first, last;
	struct qalloc *next;
};

struct qrun { /* clusters of the file */
	uint64_t first, count;
};

struct qcow2 {
	struct block block;
	struct block *file, *backing;
	unsigned version, cluster_bits;
	unsigned refcount_order;      /* a count has 1 << this bits */
	bool zstd;
	uint64_t autoclear;
	uint32_t snapshots;
	uint64_t snapshots_offset;

	pthread_mutex_t lock; /* all below */
	pthread_cond_t changed;
	uint64_t *l1;                 /* host byte order */
	uint32_t l1_size;
	uint64_t l1_offset;
	uint64_t *reftable;
	uint32_t reftable_size;       /* entries */
	uint64_t reftable_offset;
	uint64_t file_size;           /* bytes of the file; reads as zeroes from there on */
	uint64_t fresh;               /* clusters from here on were never written: zeroes */
	uint64_t hint;                /* no free cluster before this one */

	struct qtable *bucket[QCOW2_BUCKETS];
	unsigned tables, tables_max;
	unsigned l2_dirty, refblocks_dirty;
	uint64_t tick;

	struct qalloc *allocs;
	bool flushing;
	struct qrun *given_up;        /* still counted */
	size_t given_up_count, given_up_room;
	unsigned phase;               /* which counter transfers use that begin now */
	unsigned transfers[2];

	pthread_mutex_t inflate_lock; /* all below */
	uint64_t inflated_entry;      /* whose cluster that is; 0: none */
	uint8_t *inflated, *deflated; /* one cluster each, made when needed */
};

static inline uint64_t qcow2_cluster(const struct qcow2 *q) { return 1ull << q->cluster_bits; }
static inline unsigned qcow2_l2_bits(const struct qcow2 *q) { return q->cluster_bits - 3; }
static inline unsigned qcow2_refblock_bits(const struct qcow2 *q)
{
	return q->cluster_bits + 3 - q->refcount_order;
}
/* The whole clusters that the file has, a last short one counted. */
static inline uint64_t qcow2_file_clusters(const struct qcow2 *q)
{
	uint64_t size = __atomic_load_n(&q->file_size, __ATOMIC_RELAXED);

	return (size >> q->cluster_bits) + !!(size & (qcow2_cluster(q) - 1));
}

/* --- qcow2_cache.c: the file, and its tables in memory. Lock held (but read and write). ------ */

int qcow2_read_file(struct qcow2 *q, uint64_t offset, void *buf, size_t len);
int qcow2_write_file(struct qcow2 *q, uint64_t offset, const void *buf, size_t len);
/* The same for data; iov is spoilt. */
int qcow2_readv_file(struct qcow2 *q, struct iovec *iov, unsigned n, uint64_t offset, uint64_t len);
int qcow2_writev_file(struct qcow2 *q, struct iovec *iov, unsigned n, uint64_t offset,
		      uint64_t len);
/* The table at that place, read if it is not there. Valid until qcow2_trim(). */
int qcow2_table(struct qcow2 *q, uint64_t offset, bool refblock, struct qtable **ret_table);
/* The same if it is in memory, else NULL. */
struct qtable *qcow2_cached(struct qcow2 *q, uint64_t offset);
/* A new one, zeroed, not dirty, put in place of what the cache may have of an older one there. */
int qcow2_new_table(struct qcow2 *q, uint64_t offset, bool refblock, struct qtable **ret_table);
void qcow2_dirty(struct qcow2 *q, struct qtable *table);
/* Writes all dirty L2 tables or refcount blocks. */
int qcow2_write_tables(struct qcow2 *q, bool refblocks);
int qcow2_write_table(struct qcow2 *q, struct qtable *table);
/* Forgets clean tables until there are not too many. */
void qcow2_trim(struct qcow2 *q);
void qcow2_forget(struct qcow2 *q, uint64_t offset);
void qcow2_free_tables(struct qcow2 *q);

/* --- qcow2_refcount.c. Lock held. ------------------------------------------------------------ */

uint64_t qcow2_count_get(const struct qcow2 *q, const uint8_t *refblock, uint64_t index);
/* Takes up to `want` clusters in a row. *ret_fresh: they read as zeroes. -ENOSPC: a block device is
 * full; -EFBIG. */
int qcow2_take(struct qcow2 *q, uint64_t want, uint64_t *ret_first, uint64_t *ret_got,
	       bool *ret_fresh);
/* Counts one reference less, now. */
int qcow2_drop(struct qcow2 *q, uint64_t first, uint64_t count);
/* The same, when the change that gave them up is on disk. -ENOMEM: they stay counted (a leak). */
int qcow2_give_up(struct qcow2 *q, uint64_t first, uint64_t count);
/* Of qcow2_flush(), lock not held: drops them. */
int qcow2_drop_given_up(struct qcow2 *q, struct qrun *runs, size_t n);
/* The clusters that an L2 entry refers to, or none. */
struct qrun qcow2_entry_run(const struct qcow2 *q, uint64_t entry);

/* --- qcow2_map.c. Lock held. ----------------------------------------------------------------- */

enum qkind { QK_NONE, QK_ZERO, QK_DATA, QK_COMPRESSED };
enum qkind qcow2_kind(const struct qcow2 *q, uint64_t entry);
/* -EIO: it points where it must not. */
int qcow2_entry_check(const struct qcow2 *q, uint64_t entry);
/* Place and size of a compressed cluster. */
void qcow2_compressed(const struct qcow2 *q, uint64_t entry, uint64_t *ret_offset,
		      uint64_t *ret_len);
/* The entry of a guest's cluster; 0 if there is no table. */
int qcow2_entry(struct qcow2 *q, uint64_t cluster, uint64_t *ret_entry);
/* The same without waiting: -EAGAIN: its table is not in memory. */
int qcow2_entry_now(struct qcow2 *q, uint64_t cluster, uint64_t *ret_entry);
/* A table that may be changed, made or copied if need be. Not while flushing. */
int qcow2_l2_for_write(struct qcow2 *q, uint64_t cluster, struct qtable **ret_table);
/* Puts an entry into the table that qcow2_l2_for_write() gave, and gives up what the old one had
 * (but for what the new one has too). */
void qcow2_set_entry(struct qcow2 *q, struct qtable *table, uint64_t cluster, uint64_t entry);
/* Longer; -ENOTSUP, -EFBIG. Not while flushing. */
int qcow2_grow(struct qcow2 *q, uint64_t size);

/* --- the rest -------------------------------------------------------------------------------- */

/* qcow2_check.c: all of the metadata, before anything else has the image. */
int qcow2_check(struct qcow2 *q, char *why);
/* qcow2_inflate.c: copies from a compressed cluster; no lock held. */
int qcow2_inflate(struct qcow2 *q, uint64_t entry, uint64_t skip, struct iov_cursor *to,
		  uint64_t len);
/* qcow2_now.c, a struct block_ops.try_now */
int qcow2_try_now(struct block *b, bool write, const struct iovec *iov, unsigned n, uint64_t offset);
/* qcow2_io.c */
extern const struct block_ops qcow2_ops;

#endif
