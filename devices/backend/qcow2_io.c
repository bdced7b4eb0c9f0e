/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2_io.c - reading, writing, flushing, discarding. See qcow2_internal.h. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "common/bytes.h"
#include "devices/backend/qcow2_internal.h"

#define PIECES_MAX BLOCK_PIECES_MAX
#define GIVEN_UP_MAX 4096u /* runs: then a flush is due */

/* --- transfers ------------------------------------------------------------------------------- */

static unsigned begin_transfer(struct qcow2 *q)
{
	q->transfers[q->phase]++;
	return q->phase;
}

static void end_transfer(struct qcow2 *q, unsigned phase)
{
	assert(q->transfers[phase]);
	if (!--q->transfers[phase])
		pthread_cond_broadcast(&q->changed);
}

static uint64_t min64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t inside(const struct qcow2 *q, uint64_t offset)
{
	return offset & (qcow2_cluster(q) - 1);
}

/* Do two clusters that follow each other make one piece? */
static bool follows(const struct qcow2 *q, uint64_t first, uint64_t entry, uint64_t n)
{
	enum qkind kind = qcow2_kind(q, first);

	if (kind != qcow2_kind(q, entry) || kind == QK_COMPRESSED)
		return false;
	return kind != QK_DATA ||
	       (entry & QCOW2_OFFSET) == (first & QCOW2_OFFSET) + (n << q->cluster_bits);
}

/* How many bytes from offset on lie in one piece, at most len. Lock held. */
static int find_run(struct qcow2 *q, uint64_t offset, uint64_t len, uint64_t *ret_entry,
		    uint64_t *ret_run)
{
	uint64_t cluster = offset >> q->cluster_bits, n = 1, entry;
	uint64_t run = qcow2_cluster(q) - inside(q, offset);
	int r = qcow2_entry(q, cluster, ret_entry);

	while (r == 0 && run < len) {
		if (qcow2_entry(q, cluster + n, &entry) < 0 || /* its own turn will tell */
		    !follows(q, *ret_entry, entry, n) || (entry ^ *ret_entry) & QCOW2_COPIED)
			break;
		n++;
		run += qcow2_cluster(q);
	}
	*ret_run = min64(run, len);
	return r;
}

/* --- reading --------------------------------------------------------------------------------- */

static int read_backing(struct qcow2 *q, struct iov_cursor *to, uint64_t offset, uint64_t len)
{
	uint64_t size = q->backing ? q->backing->size : 0, done;
	uint64_t there = offset >= size ? 0 : min64(len, size - offset);
	struct iovec iov[PIECES_MAX];
	int r = 0;

	if (there)
		r = q->backing->ops->readv(q->backing, iov, iov_slice(to, there, iov), offset, &done);
	if (r == 0)
		iov_zero(to, len - there);
	return r;
}

static int read_run(struct qcow2 *q, uint64_t entry, struct iov_cursor *to, uint64_t offset,
		    uint64_t len)
{
	struct iovec iov[PIECES_MAX];
	unsigned n;

	switch (qcow2_kind(q, entry)) {
	case QK_ZERO:
		iov_zero(to, len);
		return 0;
	case QK_COMPRESSED:
		return qcow2_inflate(q, entry, inside(q, offset), to, len);
	case QK_DATA:
		n = iov_slice(to, len, iov);
		return qcow2_readv_file(q, iov, n, (entry & QCOW2_OFFSET) + inside(q, offset), len);
	case QK_NONE:
		break;
	}
	return read_backing(q, to, offset, len);
}

static int read_all(struct qcow2 *q, struct iov_cursor *to, uint64_t offset, uint64_t len,
		    uint64_t *ret_done)
{
	while (*ret_done < len) {
		uint64_t at = offset + *ret_done, entry, run;
		unsigned phase;
		int r;

		pthread_mutex_lock(&q->lock);
		qcow2_trim(q);
		r = find_run(q, at, len - *ret_done, &entry, &run);
		phase = begin_transfer(q);
		pthread_mutex_unlock(&q->lock);
		if (r == 0)
			r = read_run(q, entry, to, at, run);
		pthread_mutex_lock(&q->lock);
		end_transfer(q, phase);
		pthread_mutex_unlock(&q->lock);
		if (r < 0)
			return r;
		*ret_done += run;
	}
	return 0;
}

static int qcow2_readv(struct block *b, struct iovec *iov, unsigned n, uint64_t offset,
		       uint64_t *ret_done)
{
	struct iov_cursor to = { iov, n, 0 };
	uint64_t len = 0;

	for (unsigned i = 0; i < n; i++)
		len += iov[i].iov_len;
	*ret_done = 0;
	return read_all((struct qcow2 *)b, &to, offset, len, ret_done);
}

/* --- flushing -------------------------------------------------------------------------------- */

static int write_metadata(struct qcow2 *q, struct qrun **ret_runs, size_t *ret_n)
{
	bool tables;
	int r;

	pthread_mutex_lock(&q->lock);
	r = qcow2_write_tables(q, true);
	tables = q->l2_dirty;
	pthread_mutex_unlock(&q->lock);
	if (r == 0 && tables) /* counts and data first: see qcow2_internal.h */
		r = q->file->ops->flush(q->file);
	pthread_mutex_lock(&q->lock);
	if (r == 0)
		r = qcow2_write_tables(q, false);
	pthread_mutex_unlock(&q->lock);
	if (r == 0)
		r = q->file->ops->flush(q->file);
	if (r < 0)
		return r;
	pthread_mutex_lock(&q->lock);
	*ret_runs = q->given_up;
	*ret_n = q->given_up_count;
	q->given_up = NULL;
	q->given_up_count = q->given_up_room = 0;
	pthread_mutex_unlock(&q->lock);
	return 0;
}

static int qcow2_flush(struct block *b)
{
	struct qcow2 *q = (struct qcow2 *)b;
	struct qrun *runs = NULL;
	size_t n = 0;
	int r;

	if (b->readonly)
		return 0;
	pthread_mutex_lock(&q->lock);
	while (q->flushing)
		pthread_cond_wait(&q->changed, &q->lock);
	if (!q->l2_dirty && !q->refblocks_dirty && !q->given_up_count) {
		pthread_mutex_unlock(&q->lock);
		return q->file->ops->flush(q->file);
	}
	q->flushing = true;
	pthread_mutex_unlock(&q->lock);
	r = write_metadata(q, &runs, &n);
	if (n)
		(void)qcow2_drop_given_up(q, runs, n); /* an error leaks them */
	free(runs);
	pthread_mutex_lock(&q->lock);
	q->flushing = false;
	pthread_cond_broadcast(&q->changed);
	pthread_mutex_unlock(&q->lock);
	return r;
}

/* Memory is bounded: too much that is only there makes a flush due. */
static int flush_if_due(struct qcow2 *q)
{
	bool due;

	pthread_mutex_lock(&q->lock);
	due = q->l2_dirty + q->refblocks_dirty > q->tables_max / 2 ||
	      q->given_up_count > GIVEN_UP_MAX;
	pthread_mutex_unlock(&q->lock);
	return due ? qcow2_flush(&q->block) : 0;
}

/* --- writing --------------------------------------------------------------------------------- */

/* Waits until nothing else places clusters from first on, and no flush is under way; *last comes
 * down to before what somebody places further on. Lock held. */
static void wait_turn(struct qcow2 *q, uint64_t first, uint64_t *last)
{
	uint64_t wanted = *last;
	bool wait;

	do {
		wait = q->flushing;
		*last = wanted;
		for (struct qalloc *a = q->allocs; a; a = a->next) {
			if (a->last < first || a->first > *last)
				continue;
			if (a->first <= first)
				wait = true;
			else
				*last = a->first - 1;
		}
		if (wait)
			pthread_cond_wait(&q->changed, &q->lock);
	} while (wait);
}

static void remove_alloc(struct qcow2 *q, struct qalloc *alloc)
{
	struct qalloc **at = &q->allocs;

	while (*at != alloc)
		at = &(*at)->next;
	*at = alloc->next;
	pthread_cond_broadcast(&q->changed);
}

static bool in_place(const struct qcow2 *q, uint64_t entry)
{
	return entry & QCOW2_COPIED && qcow2_kind(q, entry) == QK_DATA;
}

struct placing { /* of clusters that a write needs */
	struct qalloc alloc;     /* in q->allocs */
	uint64_t host, count;    /* where, how many */
	bool taken;              /* else it had the place already, as zeroes */
	bool fresh;              /* nothing need be written around the data */
};

/* Finds a place for the clusters from `first` on, up to `last`. Lock held, nobody flushes. */
static int place(struct qcow2 *q, uint64_t first, uint64_t last, uint64_t entry, struct placing *p)
{
	uint64_t want, next, got;
	struct qtable *t;
	int r = qcow2_l2_for_write(q, first, &t); /* now, so that the end cannot fail for it */

	if (r < 0)
		return r;
	p->count = 1;
	p->taken = false;
	p->fresh = false;
	p->host = entry & QCOW2_OFFSET;
	if (!(entry & QCOW2_COPIED)) {
		last = min64(last, first | ((1ull << qcow2_l2_bits(q)) - 1));
		for (want = 1; first + want <= last; want++)
			if (qcow2_entry(q, first + want, &next) < 0 || next & QCOW2_COPIED)
				break;
		r = qcow2_take(q, want, &p->host, &got, &p->fresh);
		if (r < 0)
			return r;
		p->host <<= q->cluster_bits;
		p->count = got;
		p->taken = true;
	}
	p->alloc = (struct qalloc){ first, first + p->count - 1, q->allocs };
	q->allocs = &p->alloc;
	return 0;
}

/* What the clusters held around the data, copied, or zeroes. */
static int write_around(struct qcow2 *q, uint64_t host, uint64_t offset, uint64_t len, bool fresh)
{
	uint64_t done = 0;
	uint8_t *buf;
	int r;

	if (!len)
		return 0;
	buf = calloc(1, len);
	if (!buf)
		return -ENOMEM;
	r = read_all(q, &(struct iov_cursor){ &(struct iovec){ buf, len }, 1, 0 }, offset, len,
		     &done);
	if (r == 0 && !(fresh && !buf[0] && !memcmp(buf, buf + 1, len - 1)))
		r = qcow2_write_file(q, host, buf, len);
	free(buf);
	return r;
}

static int write_placed(struct qcow2 *q, const struct placing *p, struct iov_cursor *from,
			uint64_t offset, uint64_t len)
{
	uint64_t start = p->alloc.first << q->cluster_bits, before = offset - start;
	uint64_t after = (p->count << q->cluster_bits) - before - len;
	struct iovec iov[PIECES_MAX];
	unsigned n = iov_slice(from, len, iov);
	int r = qcow2_writev_file(q, iov, n, p->host + before, len);

	if (r == 0)
		r = write_around(q, p->host, start, before, p->fresh);
	if (r == 0)
		r = write_around(q, p->host + before + len, offset + len, after, p->fresh);
	return r;
}

/* The clusters are where the guest looks from now on; or, after an error, nowhere. Lock held. */
static int link_placed(struct qcow2 *q, const struct placing *p, int r)
{
	struct qtable *t;

	while (q->flushing)
		pthread_cond_wait(&q->changed, &q->lock);
	if (r == 0)
		r = qcow2_l2_for_write(q, p->alloc.first, &t);
	for (uint64_t i = 0; r == 0 && i < p->count; i++)
		qcow2_set_entry(q, t, p->alloc.first + i,
				(p->host + (i << q->cluster_bits)) | QCOW2_COPIED);
	if (r < 0 && p->taken)
		(void)qcow2_drop(q, p->host >> q->cluster_bits, p->count);
	return r;
}

static int write_new(struct qcow2 *q, struct placing *p, struct iov_cursor *from, uint64_t offset,
		     uint64_t len)
{
	int r = write_placed(q, p, from, offset, len);

	pthread_mutex_lock(&q->lock);
	r = link_placed(q, p, r);
	remove_alloc(q, &p->alloc);
	pthread_mutex_unlock(&q->lock);
	return r;
}

static int write_over(struct qcow2 *q, uint64_t host, unsigned phase, struct iov_cursor *from,
		      uint64_t len)
{
	struct iovec iov[PIECES_MAX];
	unsigned n = iov_slice(from, len, iov);
	int r = qcow2_writev_file(q, iov, n, host, len);

	pthread_mutex_lock(&q->lock);
	end_transfer(q, phase);
	pthread_mutex_unlock(&q->lock);
	return r;
}

/* Writes the first piece of [offset, offset+len); *ret_run: how much that was. */
static int write_some(struct qcow2 *q, struct iov_cursor *from, uint64_t offset, uint64_t len,
		      uint64_t *ret_run)
{
	uint64_t first = offset >> q->cluster_bits, last = (offset + len - 1) >> q->cluster_bits;
	struct placing p;
	uint64_t entry;
	int r;

	pthread_mutex_lock(&q->lock);
	qcow2_trim(q);
	r = find_run(q, offset, len, &entry, ret_run);
	if (r == 0 && in_place(q, entry)) {
		unsigned phase = begin_transfer(q);

		pthread_mutex_unlock(&q->lock);
		return write_over(q, (entry & QCOW2_OFFSET) + inside(q, offset), phase, from,
				  *ret_run);
	}
	wait_turn(q, first, &last);
	if (r == 0)
		r = qcow2_entry(q, first, &entry); /* maybe another one now */
	if (r == 0 && in_place(q, entry)) {
		pthread_mutex_unlock(&q->lock);
		*ret_run = 0; /* once more */
		return 0;
	}
	if (r == 0)
		r = place(q, first, last, entry, &p);
	pthread_mutex_unlock(&q->lock);
	if (r < 0)
		return r;
	*ret_run = min64(len, (p.count << q->cluster_bits) - inside(q, offset));
	return write_new(q, &p, from, offset, *ret_run);
}

static int write_all(struct qcow2 *q, struct iov_cursor *from, uint64_t offset, uint64_t len)
{
	uint64_t done, run;
	int r = flush_if_due(q);

	for (done = 0; r == 0 && done < len; done += run)
		r = write_some(q, from, offset + done, len - done, &run);
	return r;
}

static int qcow2_writev(struct block *b, struct iovec *iov, unsigned n, uint64_t offset)
{
	struct iov_cursor from = { iov, n, 0 };
	uint64_t len = 0;

	for (unsigned i = 0; i < n; i++)
		len += iov[i].iov_len;
	return write_all((struct qcow2 *)b, &from, offset, len);
}

/* --- discarding and zeroes ------------------------------------------------------------------- */

/* What a cluster's entry becomes when it reads as zeroes; the same: there is nothing to do. */
static uint64_t zero_entry(const struct qcow2 *q, uint64_t entry, bool unmap)
{
	if (qcow2_kind(q, entry) == QK_ZERO && !(unmap && entry & QCOW2_OFFSET))
		return entry;
	if (!entry && !q->backing)
		return entry;
	if (q->version < 3)
		return 0;
	if (!unmap && in_place(q, entry))
		return entry | QCOW2_ZERO; /* keeps its place */
	return unmap && !q->backing ? 0 : QCOW2_ZERO;
}

static int zero_clusters(struct qcow2 *q, uint64_t first, uint64_t count, bool unmap)
{
	int r = 0;

	for (uint64_t i = first; i < first + count && r == 0; i++) {
		uint64_t entry, last = i;
		struct qtable *t;

		pthread_mutex_lock(&q->lock);
		qcow2_trim(q);
		wait_turn(q, i, &last);
		r = qcow2_entry(q, i, &entry);
		if (r == 0 && zero_entry(q, entry, unmap) != entry) {
			r = qcow2_l2_for_write(q, i, &t);
			if (r == 0)
				qcow2_set_entry(q, t, i, zero_entry(q, entry, unmap));
		}
		pthread_mutex_unlock(&q->lock);
		if (r == 0)
			r = flush_if_due(q);
	}
	return r;
}

static int write_zero_bytes(struct qcow2 *q, uint64_t offset, uint64_t len)
{
	uint8_t *zero;
	int r = 0;

	if (!len)
		return 0;
	zero = calloc(1, qcow2_cluster(q));
	if (!zero)
		return -ENOMEM;
	while (r == 0 && len) {
		uint64_t some = min64(len, qcow2_cluster(q));

		r = write_all(q, &(struct iov_cursor){ &(struct iovec){ zero, some }, 1, 0 },
			      offset, some);
		offset += some;
		len -= some;
	}
	free(zero);
	return r;
}

/* The whole clusters in [offset, offset+len); the last one of the disk may be a part only. */
static void whole_clusters(const struct qcow2 *q, uint64_t offset, uint64_t len,
			   uint64_t *ret_first, uint64_t *ret_count)
{
	uint64_t mask = qcow2_cluster(q) - 1, end = offset + len;
	uint64_t first = (offset >> q->cluster_bits) + !!(offset & mask);
	uint64_t after = end >> q->cluster_bits;

	if (end == q->block.size && end & mask)
		after++;
	*ret_first = first;
	*ret_count = after > first ? after - first : 0;
}

static int qcow2_discard(struct block *b, uint64_t offset, uint64_t len)
{
	struct qcow2 *q = (struct qcow2 *)b;
	uint64_t first, count;

	if (q->version < 3 && q->backing) /* it would show what lies beneath */
		return 0;
	whole_clusters(q, offset, len, &first, &count);
	return zero_clusters(q, first, count, true);
}

static int qcow2_write_zeroes(struct block *b, uint64_t offset, uint64_t len, bool unmap)
{
	struct qcow2 *q = (struct qcow2 *)b;
	uint64_t first, count, start, end;
	int r;

	whole_clusters(q, offset, len, &first, &count);
	if (!count || (q->version < 3 && (q->backing || !unmap)))
		return write_zero_bytes(q, offset, len);
	start = first << q->cluster_bits;
	end = min64((first + count) << q->cluster_bits, offset + len);
	r = write_zero_bytes(q, offset, start - offset);
	if (r == 0)
		r = zero_clusters(q, first, count, unmap);
	return r < 0 ? r : write_zero_bytes(q, end, offset + len - end);
}

/* --- the rest -------------------------------------------------------------------------------- */

static int qcow2_resize(struct block *b, uint64_t size)
{
	struct qcow2 *q = (struct qcow2 *)b;
	int r;

	if (b->readonly)
		return -EROFS;
	if (size < b->size)
		return -ERANGE;
	pthread_mutex_lock(&q->lock);
	while (q->flushing)
		pthread_cond_wait(&q->changed, &q->lock);
	r = qcow2_grow(q, size);
	if (r == 0)
		__atomic_store_n(&b->size, size, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&q->lock);
	return r;
}

static void qcow2_destroy(struct block *b)
{
	struct qcow2 *q = (struct qcow2 *)b;

	if (!b->readonly) { /* the second one: counts that the first one brought down */
		(void)qcow2_flush(b);
		(void)qcow2_flush(b);
	}
	qcow2_free_tables(q);
	free(q->l1);
	free(q->reftable);
	free(q->given_up);
	free(q->inflated);
	free(q->deflated);
	pthread_cond_destroy(&q->changed);
	pthread_mutex_destroy(&q->inflate_lock);
	pthread_mutex_destroy(&q->lock);
	block_destroy(q->backing);
	block_destroy(q->file);
	free(q);
}

const struct block_ops qcow2_ops = {
	.readv = qcow2_readv,
	.writev = qcow2_writev,
	.try_now = qcow2_try_now,
	.flush = qcow2_flush,
	.discard = qcow2_discard,
	.write_zeroes = qcow2_write_zeroes,
	.destroy = qcow2_destroy,
	.resize = qcow2_resize,
};
