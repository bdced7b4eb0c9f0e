/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spoil.h - guest memory that changes right after each single read of it, as another processor may
 * change it. The target is linked with --wrap=mem_read and --wrap=mem_load16.
 */
#ifndef TESTS_FUZZ_SPOIL_H
#define TESTS_FUZZ_SPOIL_H

#include "tests/fuzz/input.h"

struct memory;

struct spoiler {
	struct memory *memory;
	struct input *in;   /* says when, where and what */
	unsigned reach;     /* so many bytes from where it was read */
};

/* From now on; *s is the caller's and stays where it is. NULL: no more. */
void spoil_with(struct spoiler *s);

#endif
