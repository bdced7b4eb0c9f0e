/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2_inflate.c - compressed clusters: zlib's or zstd's. They are read, never made. */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include "devices/backend/qcow2_internal.h"

#define WINDOW_BITS (-12) /* raw deflate, as the format says */

/* The stream may be followed by anything up to the end of its sectors. */
static int with_zlib(struct qcow2 *q, size_t len)
{
	z_stream z = { .next_in = q->deflated, .avail_in = (uInt)len, .next_out = q->inflated,
		       .avail_out = (uInt)qcow2_cluster(q) };
	int r;

	if (inflateInit2(&z, WINDOW_BITS) != Z_OK)
		return -ENOMEM;
	r = inflate(&z, Z_FINISH);
	inflateEnd(&z);
	return (r == Z_STREAM_END || r == Z_BUF_ERROR) && !z.avail_out ? 0 : -EIO;
}

static int with_zstd(struct qcow2 *q, size_t len)
{
	ZSTD_inBuffer in = { q->deflated, len, 0 };
	ZSTD_outBuffer out = { q->inflated, qcow2_cluster(q), 0 };
	ZSTD_DStream *stream = ZSTD_createDStream();
	size_t r = 1;

	if (!stream)
		return -ENOMEM;
	while (r && !ZSTD_isError(r) && out.pos < out.size) {
		size_t before = in.pos + out.pos;

		r = ZSTD_decompressStream(stream, &out, &in);
		if (in.pos + out.pos == before)
			break;
	}
	ZSTD_freeDStream(stream);
	return !ZSTD_isError(r) && out.pos == out.size ? 0 : -EIO;
}

static int load(struct qcow2 *q, uint64_t entry)
{
	uint64_t offset, len;
	int r;

	if (q->inflated_entry == entry)
		return 0;
	q->inflated_entry = 0;
	if (!q->inflated)
		q->inflated = malloc(qcow2_cluster(q));
	if (!q->deflated) /* a compressed cluster may be one sector more than its number says */
		q->deflated = malloc(2 * qcow2_cluster(q) + 512);
	if (!q->inflated || !q->deflated)
		return -ENOMEM;
	qcow2_compressed(q, entry, &offset, &len);
	if (len > 2 * qcow2_cluster(q))
		return -EIO;
	r = qcow2_read_file(q, offset, q->deflated, len);
	if (r == 0)
		r = q->zstd ? with_zstd(q, len) : with_zlib(q, len);
	if (r == 0)
		q->inflated_entry = entry;
	return r;
}

int qcow2_inflate(struct qcow2 *q, uint64_t entry, uint64_t skip, struct iov_cursor *to,
		  uint64_t len)
{
	int r;

	pthread_mutex_lock(&q->inflate_lock);
	r = load(q, entry);
	if (r == 0)
		iov_copy_in(to, q->inflated + skip, len);
	pthread_mutex_unlock(&q->inflate_lock);
	return r;
}
