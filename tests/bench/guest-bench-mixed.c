/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest-bench-mixed.c - a workload like those that small processors are rated by: records in a linked
 * list that are looked up, sorted and turned round; a small matrix; text that a state machine reads;
 * and a CRC over what comes out. All of it lies in a few pages.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tests/bench/guest-bench.h"

#define RECORDS 200u
#define ORDER 10u
#define TEXT 600u

struct record {
	struct record *next;
	int16_t key, serial;
};

enum state { START, SIGN, DIGITS, POINT, FRACTION, EXPONENT, EXPONENT_DIGITS, WORD, STATES };

struct mixed {
	struct record record[RECORDS];
	int32_t a[ORDER][ORDER], b[ORDER][ORDER], product[ORDER][ORDER];
	char text[TEXT];
	uint32_t seen[STATES];
};

static uint16_t crc16(uint16_t crc, uint32_t value)
{
	for (unsigned bit = 0; bit < 32; bit++) {
		uint16_t odd = (uint16_t)((crc ^ value) & 1);

		crc = (uint16_t)(crc >> 1 ^ (odd ? 0xa001 : 0));
		value >>= 1;
	}
	return crc;
}

/* --- the list -------------------------------------------------------------------------------------- */

static struct record *list_make(struct mixed *m)
{
	uint32_t s = 77;

	for (unsigned i = 0; i < RECORDS; i++) {
		s = s * 1664525u + 1013904223u;
		m->record[i].key = (int16_t)(s >> 18 & 1023);
		m->record[i].serial = (int16_t)i;
		m->record[i].next = i + 1 < RECORDS ? &m->record[i + 1] : NULL;
	}
	return &m->record[0];
}

static struct record *list_reverse(struct record *list)
{
	struct record *turned = NULL;

	while (list) {
		struct record *next = list->next;

		list->next = turned;
		turned = list;
		list = next;
	}
	return turned;
}

static const struct record *list_find(const struct record *list, int16_t key)
{
	while (list && list->key != key)
		list = list->next;
	return list;
}

static int by_key(const struct record *a, const struct record *b)
{
	return a->key - b->key;
}

static int by_serial(const struct record *a, const struct record *b)
{
	return a->serial - b->serial;
}

static struct record *list_merge(struct record *a, struct record *b,
				 int (*order)(const struct record *, const struct record *))
{
	struct record *first = NULL, **end = &first;

	while (a && b) {
		struct record **from = order(a, b) <= 0 ? &a : &b;

		*end = *from;
		end = &(*from)->next;
		*from = (*from)->next;
	}
	*end = a ? a : b;
	return first;
}

static struct record *list_sort(struct record *list, unsigned n,
				int (*order)(const struct record *, const struct record *))
{
	struct record *half = list;

	if (n < 2) {
		if (list)
			list->next = NULL;
		return list;
	}
	for (unsigned i = 0; i < n / 2; i++)
		half = half->next;
	half = list_sort(half, n - n / 2, order);
	return list_merge(list_sort(list, n / 2, order), half, order);
}

static uint16_t do_list(struct mixed *m, uint16_t crc)
{
	struct record *list = list_make(m);

	for (int16_t key = 0; key < 24; key++) {
		const struct record *found = list_find(list, (int16_t)(key * 40));

		crc = crc16(crc, found ? (uint32_t)found->serial : 0xffffu);
		list = list_reverse(list);
	}
	list = list_sort(list, RECORDS, by_key);
	crc = crc16(crc, (uint32_t)list->key << 16 | (uint16_t)list->serial);
	list = list_sort(list, RECORDS, by_serial);
	return crc16(crc, (uint32_t)list->key << 16 | (uint16_t)list->next->key);
}

/* --- the matrix ------------------------------------------------------------------------------------ */

static void matrix_multiply(struct mixed *m)
{
	for (unsigned i = 0; i < ORDER; i++) {
		for (unsigned j = 0; j < ORDER; j++) {
			int32_t sum = 0;

			for (unsigned k = 0; k < ORDER; k++)
				sum += m->a[i][k] * m->b[k][j];
			m->product[i][j] = sum;
		}
	}
}

static uint16_t do_matrix(struct mixed *m, uint16_t crc)
{
	uint32_t sum = 0;

	for (unsigned i = 0; i < ORDER * ORDER; i++) {
		m->a[i / ORDER][i % ORDER] = (int32_t)(i * 7 + crc % 13);
		m->b[i / ORDER][i % ORDER] = (int32_t)(i * 3) - 100;
	}
	matrix_multiply(m);
	for (unsigned i = 0; i < ORDER; i++)
		for (unsigned j = 0; j < ORDER; j++)
			sum = (sum << 1 | sum >> 31) ^ (uint32_t)(m->product[i][j] >> (j & 3));
	return crc16(crc, sum);
}

/* --- the text -------------------------------------------------------------------------------------- */

static void text_make(struct mixed *m, uint16_t crc)
{
	static const char *const part[] = { "5012,", "-874,", "+122.5,", "1.7e3,", "-.123e-2,", "T0.3e-1F,",
					    "++35,", "1a2b," };
	unsigned at = 0;

	for (unsigned i = crc; at + 16 < TEXT; i = i * 5 + 3) {
		const char *p = part[i >> 2 & 7];
		size_t len = strlen(p);

		memcpy(m->text + at, p, len);
		at += (unsigned)len;
	}
	memset(m->text + at, 0, TEXT - at);
}

static int is_digit(char c) { return c >= '0' && c <= '9'; }

static enum state step(enum state s, char c)
{
	switch (s) {
	case START:
		return c == '+' || c == '-' ? SIGN : is_digit(c) ? DIGITS : c == '.' ? POINT : WORD;
	case SIGN:
		return is_digit(c) ? DIGITS : c == '.' ? POINT : WORD;
	case DIGITS:
		return is_digit(c) ? DIGITS : c == '.' ? FRACTION : c == 'e' ? EXPONENT : WORD;
	case POINT:
	case FRACTION:
		return is_digit(c) ? FRACTION : c == 'e' && s == FRACTION ? EXPONENT : WORD;
	case EXPONENT:
		return c == '-' || c == '+' || is_digit(c) ? EXPONENT_DIGITS : WORD;
	case EXPONENT_DIGITS:
		return is_digit(c) ? EXPONENT_DIGITS : WORD;
	default:
		return WORD;
	}
}

static uint16_t do_text(struct mixed *m, uint16_t crc)
{
	enum state s = START;

	text_make(m, crc);
	memset(m->seen, 0, sizeof(m->seen));
	for (const char *p = m->text; *p; p++) {
		if (*p == ',') {
			m->seen[s]++;
			s = START;
		} else {
			s = step(s, *p);
		}
	}
	for (unsigned i = 0; i < STATES; i++)
		crc = crc16(crc, m->seen[i]);
	return crc;
}

void bench_mixed(struct work *w, uint64_t n)
{
	struct mixed *m = (struct mixed *)w->a;
	uint16_t crc = 0;

	for (uint64_t i = 0; i < n; i++) {
		crc = do_list(m, crc);
		crc = do_matrix(m, crc);
		crc = do_text(m, crc);
	}
	w->sink += crc;
}
