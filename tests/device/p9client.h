/* SPDX-License-Identifier: Apache-2.0 */
/* p9client.h - 9P messages by hand, served at once: for tests and the fuzzer of backend/p9.h. */
#ifndef TESTS_DEVICE_P9CLIENT_H
#define TESTS_DEVICE_P9CLIENT_H

#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include "common/bytes.h"
#include "devices/backend/p9.h"

#define P9C_BYTES 65536u

struct p9c {
	struct p9_io io; /* first */
	struct p9 *p9;
	uint8_t request[P9C_BYTES], reply[P9C_BYTES];
	uint32_t len; /* of the request */
};

static inline int p9c_read(struct p9_io *io, uint32_t offset, void *buf, uint32_t len)
{
	memcpy(buf, ((struct p9c *)io)->request + offset, len);
	return 0;
}

static inline int p9c_write(struct p9_io *io, uint32_t offset, const void *buf, uint32_t len)
{
	memcpy(((struct p9c *)io)->reply + offset, buf, len);
	return 0;
}

static inline int p9c_iov(struct p9_io *io, bool reply, uint32_t offset, uint32_t len,
			  struct iovec *iov)
{
	struct p9c *c = (struct p9c *)io;

	iov[0].iov_base = (reply ? c->reply : c->request) + offset;
	iov[0].iov_len = len;
	return 1;
}

static inline void p9c_written(struct p9_io *io, uint32_t offset, uint32_t len)
{
	(void)io, (void)offset, (void)len;
}

static const struct p9_io_ops p9c_ops = { p9c_read, p9c_write, p9c_iov, p9c_written };

static inline void p9c_put(struct p9c *c, unsigned size, uint64_t value)
{
	for (unsigned i = 0; i < size && c->len < P9C_BYTES; i++)
		c->request[c->len++] = (uint8_t)(value >> 8 * i);
}

static inline void p9c_put_bytes(struct p9c *c, const void *bytes, size_t n)
{
	n = n < P9C_BYTES - c->len ? n : P9C_BYTES - c->len;
	memcpy(c->request + c->len, bytes, n);
	c->len += (uint32_t)n;
}

/* Format as p9_unpack()'s: b w d q by value (all as uint64_t or int), s a string. */
static inline void p9c_begin(struct p9c *c, uint8_t type, const char *format, ...)
{
	va_list ap;

	c->len = 4;
	p9c_put(c, 1, type);
	p9c_put(c, 2, 1);
	va_start(ap, format);
	for (; *format; format++) {
		const char *s;

		switch (*format) {
		case 'b': p9c_put(c, 1, va_arg(ap, unsigned)); break;
		case 'w': p9c_put(c, 2, va_arg(ap, unsigned)); break;
		case 'd': p9c_put(c, 4, va_arg(ap, unsigned)); break;
		case 'q': p9c_put(c, 8, va_arg(ap, uint64_t)); break;
		default:
			s = va_arg(ap, const char *);
			p9c_put(c, 2, strlen(s));
			p9c_put_bytes(c, s, strlen(s));
			break;
		}
	}
	va_end(ap);
}

/* Serves it: 0, the error that came back, or -1 if there was no answer. */
static inline int p9c_send(struct p9c *c)
{
	int n;

	put_le32(c->request, c->len);
	c->io = (struct p9_io){ &p9c_ops, c->len, P9C_BYTES };
	n = p9_serve(c->p9, &c->io);
	if (n < (int)P9_HEADER)
		return -1;
	return c->reply[4] == 7 ? (int)get_le32(c->reply + 7) : 0;
}

#define p9c_call(c, ...) ({ p9c_begin(c, __VA_ARGS__); p9c_send(c); })

#endif
