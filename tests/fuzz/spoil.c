/* SPDX-License-Identifier: Apache-2.0 */
/* spoil.c - see spoil.h. */
#include <config.h>

#include "machine/memory.h"
#include "tests/fuzz/spoil.h"

static struct spoiler *spoiler;

void spoil_with(struct spoiler *s)
{
	spoiler = s;
}

/* The other processor was faster: what was just read is something else now. */
static void after_read(uint64_t gpa, size_t len)
{
	struct spoiler *s = spoiler;
	uint8_t byte;

	if (!s || !len || !rarely(s->in))
		return;
	byte = input8(s->in);
	spoiler = NULL; /* not from within */
	(void)mem_write(s->memory, gpa + pick(s->in, len < s->reach ? (unsigned)len : s->reach),
			&byte, 1);
	spoiler = s;
}

int __real_mem_read(const struct memory *memory, uint64_t gpa, void *buf, size_t len);
int __wrap_mem_read(const struct memory *memory, uint64_t gpa, void *buf, size_t len);
int __wrap_mem_read(const struct memory *memory, uint64_t gpa, void *buf, size_t len)
{
	int r = __real_mem_read(memory, gpa, buf, len);

	after_read(gpa, len);
	return r;
}

int __real_mem_load16(const struct memory *memory, uint64_t gpa, uint16_t *ret_value);
int __wrap_mem_load16(const struct memory *memory, uint64_t gpa, uint16_t *ret_value);
int __wrap_mem_load16(const struct memory *memory, uint64_t gpa, uint16_t *ret_value)
{
	int r = __real_mem_load16(memory, gpa, ret_value);

	after_read(gpa, 2);
	return r;
}
