/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jit_point.c - the points of a block (struct jit_point), in few bytes each.
 *
 * A point is a byte that says what of it differs from the one before, and that: one or four bytes of
 * distance in host code; two of guest address, where that is not a few bytes on; one of state; six of
 * recipe. Only a trap of the host's processor wants them back, so they are read one after the other.
 */
#include <string.h>

#include "vmx-driver/soft/jit.h"

enum {
	NEAR_MASK = 15u,    /* guest bytes from the point before, less than this */
	STATE = 1u << 4,
	RECIPE = 1u << 5,
	NO_RECIPE = 1u << 6,
	FAR = 1u << 7,      /* host code */
};

static uint8_t *put(uint8_t *to, uint64_t value, unsigned n)
{
	memcpy(to, &value, n);
	return to + n;
}

static uint64_t get(const uint8_t **from, unsigned n)
{
	uint64_t value = 0;

	memcpy(&value, *from, n);
	*from += n;
	return value;
}

uint8_t *jit_points_pack(uint8_t *to, const struct jit_point *points, unsigned n)
{
	struct jit_point was = { 0 };

	for (unsigned k = 0; k < n; k++) {
		const struct jit_point *p = &points[k];
		uint32_t host = p->host - was.host;
		uint16_t guest = (uint16_t)(p->guest - was.guest);
		uint8_t what = (uint8_t)(guest < NEAR_MASK ? guest : NEAR_MASK);

		what |= host > 255 ? FAR : 0;
		what |= p->state != was.state ? STATE : 0;
		if (p->recipe != was.recipe)
			what |= p->recipe ? RECIPE : NO_RECIPE;
		*to++ = what;
		to = put(to, host, what & FAR ? 4 : 1);
		if (guest >= NEAR_MASK)
			to = put(to, p->guest, 2);
		if (what & STATE)
			to = put(to, p->state, 1);
		if (what & RECIPE)
			to = put(to, p->recipe, JIT_RECIPE_BYTES);
		was = *p;
	}
	return to;
}

static const uint8_t *next(const uint8_t *from, struct jit_point *p)
{
	uint8_t what = *from++;

	p->host += (uint32_t)get(&from, what & FAR ? 4 : 1);
	if ((what & NEAR_MASK) == NEAR_MASK)
		p->guest = (uint16_t)get(&from, 2);
	else
		p->guest += what & NEAR_MASK;
	if (what & STATE)
		p->state = (uint16_t)get(&from, 1);
	if (what & RECIPE)
		p->recipe = get(&from, JIT_RECIPE_BYTES);
	else if (what & NO_RECIPE)
		p->recipe = 0;
	return from;
}

bool jit_points_find(const uint8_t *from, size_t bytes, uint32_t host, struct jit_point *ret)
{
	const uint8_t *end = from + bytes;
	struct jit_point p = { 0 };
	unsigned n = 0;

	for (; from < end; n++) {
		from = next(from, &p);
		if (n && p.host > host)
			break;
		*ret = p;
	}
	return n > 0;
}
