/* SPDX-License-Identifier: Apache-2.0 */
/* vmcs.c - VMCS fields by their encoding (SDM 3C 25.11.2, appendix B). GENERAL. */
#include "vmx-driver/soft/vmcs.h"

/* Width, type and index of an encoding next to each other: what the table is looked up by. */
#define INDEX_BITS 6u
#define INDEX_MAX ((1u << INDEX_BITS) - 1)
#define KEY(encoding) \
	((((encoding) >> 13 & 3) << 2 | ((encoding) >> 10 & 3)) << INDEX_BITS | \
	 ((encoding) >> 1 & INDEX_MAX))
#define RESERVED_BITS (~0x6fffu)

#define SIZE(member) (uint8_t)sizeof(((struct soft_vmcs *)0)->member)
#define ROW(width, member, encoding, need_) \
	[KEY(encoding)] = { offsetof(struct soft_vmcs, member), need_, SIZE(member), \
			    KEY(encoding) & INDEX_MAX },
#define ROWS(width, member, count, encoding, need_) \
	[KEY(encoding) ... KEY(encoding) + (count) - 1] = { \
		offsetof(struct soft_vmcs, member), need_, SIZE(member[0]), \
		KEY(encoding) & INDEX_MAX },
static const struct vmcs_field fields[1u << (4 + INDEX_BITS)] = { VMCS_TABLE(ROW, ROWS) };

static unsigned place(const struct vmcs_field *f, uint32_t encoding)
{
	return f->offset + ((encoding >> 1 & INDEX_MAX) - f->first) * f->size;
}

const struct vmcs_field *soft_vmcs_field(const struct soft_vmx_caps *caps, uint32_t encoding)
{
	const struct vmcs_field *f = &fields[KEY(encoding)];

	if ((encoding & RESERVED_BITS) || (encoding >> 1 & 0x1ff) > INDEX_MAX || !f->size ||
	    ((encoding & 1) && vmcs_width(encoding) != VMCS_WIDTH_64))
		return NULL;
	return soft_vmx_has(caps, f->need) ? f : NULL;
}

uint64_t soft_vmcs_get(const struct soft_vmcs *vmcs, const struct vmcs_field *f, uint32_t encoding)
{
	const uint8_t *at = (const uint8_t *)vmcs + place(f, encoding);

	if (f->size == 2)
		return *(const uint16_t *)(const void *)at;
	if (f->size == 4)
		return *(const uint32_t *)(const void *)at;
	return *(const uint64_t *)(const void *)at >> (encoding & 1 ? 32 : 0);
}

void soft_vmcs_set(struct soft_vmcs *vmcs, const struct vmcs_field *f, uint32_t encoding,
		   uint64_t value)
{
	uint8_t *at = (uint8_t *)vmcs + place(f, encoding);

	if (f->size == 2)
		*(uint16_t *)(void *)at = (uint16_t)value;
	else if (f->size == 4)
		*(uint32_t *)(void *)at = (uint32_t)value;
	else if (encoding & 1)
		*(uint64_t *)(void *)at = (*(uint64_t *)(void *)at & 0xffffffffu) | value << 32;
	else
		*(uint64_t *)(void *)at = value;
}

unsigned soft_vmcs_max_index(const struct soft_vmx_caps *caps)
{
	unsigned max = 0;

	for (unsigned key = 0; key < sizeof(fields) / sizeof(fields[0]); key++)
		if (fields[key].size && soft_vmx_has(caps, fields[key].need) &&
		    (key & INDEX_MAX) > max)
			max = key & INDEX_MAX;
	return max;
}
