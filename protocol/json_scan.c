/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/json_scan.h"

#include <stdbool.h>
#include <string.h>

struct cursor {
	const unsigned char *text;
	size_t len, at;
	unsigned depth_left;
	struct json_scan *ret;
};

size_t utf8_sequence(const unsigned char *p, size_t len)
{
	size_t need;
	unsigned char low = 0x80, high = 0xbf; /* of the second byte: RFC 3629, section 4 */

	if (!len)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] >= 0xc2 && p[0] <= 0xdf)
		need = 2;
	else if (p[0] >= 0xe0 && p[0] <= 0xef)
		need = 3;
	else if (p[0] >= 0xf0 && p[0] <= 0xf4)
		need = 4;
	else
		return 0;
	if (len < need)
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < need; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return need;
}

static bool fail(struct cursor *c, const char *error)
{
	c->ret->error = error;
	c->ret->offset = c->at;
	return false;
}

static int peek(const struct cursor *c)
{
	return c->at < c->len ? c->text[c->at] : -1;
}

static void skip_space(struct cursor *c)
{
	while (c->at < c->len && memchr(" \t\r\n", c->text[c->at], 4))
		c->at++;
}

static int hex4(const struct cursor *c, size_t at)
{
	int value = 0;

	if (c->len - at < 4)
		return -1;
	for (size_t i = 0; i < 4; i++) {
		unsigned char h = c->text[at + i];
		int digit = h >= '0' && h <= '9' ? h - '0' :
			    h >= 'a' && h <= 'f' ? h - 'a' + 10 :
			    h >= 'A' && h <= 'F' ? h - 'A' + 10 : -1;

		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

/* After the backslash. A surrogate must come as a pair: half of one is no character. */
static bool scan_escape(struct cursor *c)
{
	int e = peek(c), unit;

	if (e > 0 && memchr("\"\\/bfnrt", e, 8)) {
		c->at++;
		return true;
	}
	if (e != 'u')
		return fail(c, "unknown escape in a string");
	unit = hex4(c, c->at + 1);
	if (unit < 0)
		return fail(c, "\\u needs four hexadecimal digits");
	c->at += 5;
	if (unit < 0xd800 || unit > 0xdfff)
		return true;
	if (unit <= 0xdbff && c->len - c->at >= 6 && c->text[c->at] == '\\' &&
	    c->text[c->at + 1] == 'u') {
		int second = hex4(c, c->at + 2);

		if (second >= 0xdc00 && second <= 0xdfff) {
			c->at += 6;
			return true;
		}
	}
	return fail(c, "half of a surrogate pair in a string");
}

static bool scan_string(struct cursor *c)
{
	c->at++; /* the opening quote */
	while (c->at < c->len) {
		unsigned char b = c->text[c->at];
		size_t step;

		if (b == '"') {
			c->at++;
			return true;
		}
		if (b < 0x20)
			return fail(c, "control character in a string");
		if (b == '\\') {
			c->at++;
			if (!scan_escape(c))
				return false;
			continue;
		}
		step = utf8_sequence(c->text + c->at, c->len - c->at);
		if (!step)
			return fail(c, "invalid UTF-8");
		c->at += step;
	}
	return fail(c, "a string without an end");
}

static size_t scan_digits(struct cursor *c)
{
	size_t start = c->at;

	while (peek(c) >= '0' && peek(c) <= '9')
		c->at++;
	return c->at - start;
}

static bool scan_number(struct cursor *c)
{
	if (peek(c) == '-')
		c->at++;
	if (peek(c) == '0')
		c->at++;
	else if (!scan_digits(c))
		return fail(c, "a number needs digits");
	if (peek(c) == '.') {
		c->at++;
		if (!scan_digits(c))
			return fail(c, "a number needs digits");
	}
	if (peek(c) == 'e' || peek(c) == 'E') {
		c->at++;
		if (peek(c) == '+' || peek(c) == '-')
			c->at++;
		if (!scan_digits(c))
			return fail(c, "a number needs digits");
	}
	return true;
}

static bool scan_word(struct cursor *c, const char *word)
{
	size_t n = strlen(word);

	if (c->len - c->at < n || memcmp(c->text + c->at, word, n) != 0)
		return fail(c, "not a JSON value");
	c->at += n;
	return true;
}

static bool scan_value(struct cursor *c);

/* The inside of an array or object, from its opening bracket on. */
static bool scan_items(struct cursor *c, bool object)
{
	int close = object ? '}' : ']';

	c->at++;
	skip_space(c);
	if (peek(c) == close) {
		c->at++;
		return true;
	}
	for (;;) {
		if (object) {
			if (peek(c) != '"')
				return fail(c, "an object needs a quoted key here");
			if (!scan_string(c))
				return false;
			skip_space(c);
			if (peek(c) != ':')
				return fail(c, "a ':' is missing");
			c->at++;
			c->ret->members++;
			skip_space(c);
		}
		if (!scan_value(c))
			return false;
		skip_space(c);
		if (peek(c) == close) {
			c->at++;
			return true;
		}
		if (peek(c) != ',')
			return fail(c, c->at < c->len ? "a ',' or the end of the list is missing" :
							"the text ends too early");
		c->at++;
		skip_space(c);
	}
}

static bool scan_nested(struct cursor *c, bool object)
{
	bool fine;

	if (!c->depth_left)
		return fail(c, "nested too deeply");
	c->depth_left--;
	fine = scan_items(c, object);
	c->depth_left++;
	return fine;
}

static bool scan_value(struct cursor *c)
{
	switch (peek(c)) {
	case '{':
		return scan_nested(c, true);
	case '[':
		return scan_nested(c, false);
	case '"':
		return scan_string(c);
	case 't':
		return scan_word(c, "true");
	case 'f':
		return scan_word(c, "false");
	case 'n':
		return scan_word(c, "null");
	case '-':
	case '0': case '1': case '2': case '3': case '4':
	case '5': case '6': case '7': case '8': case '9':
		return scan_number(c);
	case -1:
		return fail(c, "the text ends too early");
	default:
		return fail(c, "not a JSON value");
	}
}

int json_scan(const char *text, size_t len, unsigned depth_max, struct json_scan *ret)
{
	struct cursor c = { .text = (const unsigned char *)text, .len = len,
			    .depth_left = depth_max, .ret = ret };

	memset(ret, 0, sizeof(*ret));
	skip_space(&c);
	ret->begin = c.at;
	if (!scan_value(&c))
		return -1;
	ret->end = c.at;
	skip_space(&c);
	if (c.at != len) {
		fail(&c, "more text after the value");
		return -1;
	}
	return 0;
}
