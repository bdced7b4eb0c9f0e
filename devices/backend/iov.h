/* SPDX-License-Identifier: Apache-2.0 */
/* iov.h - walking a vector of buffers. The vector itself is not changed. */
#ifndef DEVICES_BACKEND_IOV_H
#define DEVICES_BACKEND_IOV_H

#include <assert.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>

struct iov_cursor {
	const struct iovec *iov;
	unsigned n;
	size_t skip; /* of the first */
};

/* The next piece, at most len bytes, which are left. */
static inline struct iovec iov_piece(struct iov_cursor *c, uint64_t len)
{
	struct iovec piece;
	size_t left;

	while (c->n && c->skip == c->iov->iov_len) {
		c->skip = 0;
		c->iov++;
		c->n--;
	}
	assert(c->n);
	left = c->iov->iov_len - c->skip;
	piece.iov_base = (uint8_t *)c->iov->iov_base + c->skip;
	piece.iov_len = left < len ? left : (size_t)len;
	c->skip += piece.iov_len;
	return piece;
}

static inline void iov_zero(struct iov_cursor *c, uint64_t len)
{
	while (len) {
		struct iovec piece = iov_piece(c, len);

		memset(piece.iov_base, 0, piece.iov_len);
		len -= piece.iov_len;
	}
}

static inline void iov_copy_in(struct iov_cursor *c, const uint8_t *from, uint64_t len)
{
	while (len) {
		struct iovec piece = iov_piece(c, len);

		memcpy(piece.iov_base, from, piece.iov_len);
		from += piece.iov_len;
		len -= piece.iov_len;
	}
}

static inline void iov_copy_out(struct iov_cursor *c, uint8_t *to, uint64_t len)
{
	while (len) {
		struct iovec piece = iov_piece(c, len);

		memcpy(to, piece.iov_base, piece.iov_len);
		to += piece.iov_len;
		len -= piece.iov_len;
	}
}

/* The next len bytes as a vector of its own; there is room for as many pieces as the cursor's whole
 * vector has. Returns how many. */
static inline unsigned iov_slice(struct iov_cursor *c, uint64_t len, struct iovec *to)
{
	unsigned n = 0;

	while (len) {
		to[n] = iov_piece(c, len);
		len -= to[n++].iov_len;
	}
	return n;
}

#endif
