/* SPDX-License-Identifier: Apache-2.0 */
/* p9_codec.c - the bytes of messages, see p9_internal.h. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "devices/backend/p9_internal.h"

struct reader {
	uint8_t *at;
	size_t left;
};

static int take(struct reader *r, size_t size, uint64_t *ret)
{
	uint64_t value = 0;

	if (r->left < size)
		return -EPROTO;
	for (size_t i = 0; i < size; i++)
		value |= (uint64_t)r->at[i] << 8 * i;
	r->at += size;
	r->left -= size;
	*ret = value;
	return 0;
}

/* len[2] bytes[len]; moved one to the front, which makes room for its end. */
static int take_string(struct reader *r, const char **ret)
{
	uint64_t len;
	char *text;

	if (take(r, 2, &len) < 0 || r->left < len)
		return -EPROTO;
	text = (char *)r->at - 1;
	memmove(text, r->at, len);
	text[len] = '\0';
	r->at += len;
	r->left -= len;
	if (memchr(text, 0, len))
		return -EINVAL;
	if (len >= PATH_MAX)
		return -ENAMETOOLONG;
	*ret = text;
	return 0;
}

/* One component of a path. */
static int take_name(struct reader *r, bool dotdot, const char **ret)
{
	int ret_string = take_string(r, ret);

	if (ret_string < 0)
		return ret_string;
	if (!**ret || strcmp(*ret, ".") == 0)
		return -ENOENT;
	if (strchr(*ret, '/') || (!dotdot && strcmp(*ret, "..") == 0))
		return -EINVAL;
	return strlen(*ret) > NAME_MAX ? -ENAMETOOLONG : 0;
}

static int take_names(struct reader *r, struct p9_args *args)
{
	uint64_t n;
	int ret = take(r, 2, &n);

	if (ret == 0 && n > P9_NAMES_MAX)
		ret = -EPROTO;
	while (ret == 0 && args->names < n) {
		ret = take_name(r, true, &args->name[args->names]);
		args->names += ret == 0;
	}
	return ret;
}

int p9_unpack(uint8_t *body, size_t len, const char *format, struct p9_args *ret_args)
{
	struct reader r = { body, len };
	unsigned ints = 0, strings = 0;
	int ret = 0;

	memset(ret_args, 0, sizeof(*ret_args));
	for (const char *f = format; *f && ret == 0; f++) {
		static const char letters[] = "bwdFq";
		static const uint8_t sizes[] = { 1, 2, 4, 4, 8 };
		const char *letter = strchr(letters, *f);

		if (letter) {
			assert(ints < P9_INTS_MAX);
			ret = take(&r, sizes[letter - letters], &ret_args->n[ints++]);
		} else if (*f == 'W') {
			ret = take_names(&r, ret_args);
		} else {
			assert(strings < 2);
			ret = *f == 's' ? take_string(&r, &ret_args->s[strings])
					: take_name(&r, false, &ret_args->s[strings]);
			strings++;
		}
	}
	return ret;
}

/* --- replies ---------------------------------------------------------------------------------- */

static uint8_t *room(struct p9_out *out, size_t n)
{
	uint8_t *at = out->bytes + out->len;

	if (out->full || n > sizeof(out->bytes) - out->len) {
		out->full = true;
		return NULL;
	}
	out->len += n;
	return at;
}

void p9_put8(struct p9_out *out, uint8_t value)
{
	uint8_t *at = room(out, 1);

	if (at)
		*at = value;
}

void p9_put16(struct p9_out *out, uint16_t value)
{
	uint8_t *at = room(out, 2);

	if (at)
		put_le16(at, value);
}

void p9_put32(struct p9_out *out, uint32_t value)
{
	uint8_t *at = room(out, 4);

	if (at)
		put_le32(at, value);
}

void p9_put64(struct p9_out *out, uint64_t value)
{
	uint8_t *at = room(out, 8);

	if (at)
		put_le64(at, value);
}

void p9_put_qid(struct p9_out *out, const struct p9_qid *qid)
{
	p9_put8(out, qid->type);
	p9_put32(out, qid->version);
	p9_put64(out, qid->path);
}

void p9_put_string(struct p9_out *out, const char *string)
{
	size_t len = strlen(string);
	uint8_t *at;

	if (len > UINT16_MAX)
		out->full = true;
	p9_put16(out, (uint16_t)len);
	at = room(out, len);
	if (at)
		memcpy(at, string, len);
}
