/* SPDX-License-Identifier: Apache-2.0 */
/*
 * input.h - a fuzzer's bytes, read as choices. When they are used up, everything is 0: an input is
 * finite, so is what it does.
 *
 * Targets build what is mostly valid; rarely() is the knob before each violation, so that an input
 * gets past the first check before it breaks something.
 */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct input {
	const uint8_t *bytes;
	size_t left;
};

static inline uint8_t input8(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->bytes++;
}

static inline uint16_t input16(struct input *in)
{
	uint16_t high = input8(in);

	return (uint16_t)(high << 8 | input8(in));
}

static inline uint32_t input32(struct input *in)
{
	uint32_t high = input16(in);

	return high << 16 | input16(in);
}

static inline uint64_t input64(struct input *in)
{
	uint64_t high = input32(in);

	return high << 32 | input32(in);
}

static inline unsigned pick(struct input *in, unsigned n) /* 0..n-1 */
{
	return n ? input8(in) % n : 0;
}

static inline bool rarely(struct input *in)
{
	return (input8(in) & 0x1f) == 0x1f;
}

/* A number that is often at an edge. */
static inline uint64_t input_edge(struct input *in)
{
	static const uint64_t edges[] = {
		0, 1, 2, 3, 7, 8, 15, 16, 63, 64, 127, 128, 255, 256, 511, 512, 513, 4095, 4096,
		0x7fff, 0x8000, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
		0x7fffffffffffffff, 0x8000000000000000, 0xfffffffffffff000, 0xffffffffffffffff,
	};
	uint8_t which = input8(in);

	if (which & 0x80)
		return input64(in);
	return edges[which % (sizeof(edges) / sizeof(edges[0]))];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
