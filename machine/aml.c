/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/aml.h"

#include <assert.h>
#include <string.h>

#include "common/bytes.h"

#define OP_NAME 0x08
#define OP_BYTE 0x0a
#define OP_WORD 0x0b
#define OP_DWORD 0x0c
#define OP_STRING 0x0d
#define OP_QWORD 0x0e
#define OP_SCOPE 0x10
#define OP_BUFFER 0x11
#define OP_PACKAGE 0x12
#define OP_METHOD 0x14
#define OP_EXT 0x5b
#define OP_DEVICE 0x82 /* after OP_EXT */
#define OP_REGION 0x80 /* after OP_EXT */
#define OP_FIELD 0x81  /* after OP_EXT */
#define OP_IF 0xa0

/* Bytes kept free for a length: all our objects stay below 4 KiB ... 1 MiB with three. */
#define LENGTH_BYTES 3

void aml_init(struct aml *aml, void *buf, size_t size)
{
	*aml = (struct aml){ .buf = buf, .size = size };
}

bool aml_ok(const struct aml *aml)
{
	return !aml->failed && !aml->depth;
}

void aml_bytes(struct aml *aml, const void *bytes, size_t n)
{
	if (aml->failed || n > aml->size - aml->len) {
		aml->failed = true;
		return;
	}
	memcpy(aml->buf + aml->len, bytes, n);
	aml->len += n;
}

void aml_byte(struct aml *aml, uint8_t byte)
{
	aml_bytes(aml, &byte, 1);
}

static void open_length(struct aml *aml)
{
	assert(aml->depth < AML_DEPTH);
	aml->open[aml->depth++] = aml->len;
	aml_bytes(aml, "\0\0\0", LENGTH_BYTES);
}

/* PkgLength (20.2.4), always in its three-byte form: it counts itself. */
void aml_close(struct aml *aml)
{
	size_t at, len;

	assert(aml->depth);
	at = aml->open[--aml->depth];
	if (aml->failed)
		return;
	len = aml->len - at;
	if (len >= 1u << 20) {
		aml->failed = true;
		return;
	}
	aml->buf[at] = (uint8_t)(0x80 | (len & 0xf));
	aml->buf[at + 1] = (uint8_t)(len >> 4);
	aml->buf[at + 2] = (uint8_t)(len >> 12);
}

void aml_integer(struct aml *aml, uint64_t value)
{
	uint8_t bytes[9];
	size_t n;

	put_le64(bytes + 1, value);
	if (value <= 1) {
		aml_byte(aml, (uint8_t)value); /* ZeroOp, OneOp */
		return;
	}
	if (value <= UINT8_MAX) {
		bytes[0] = OP_BYTE;
		n = 1;
	} else if (value <= UINT16_MAX) {
		bytes[0] = OP_WORD;
		n = 2;
	} else if (value <= UINT32_MAX) {
		bytes[0] = OP_DWORD;
		n = 4;
	} else {
		bytes[0] = OP_QWORD;
		n = 8;
	}
	aml_bytes(aml, bytes, 1 + n);
}

static unsigned hex(char c)
{
	return c >= 'A' ? (unsigned)(c - 'A' + 10) : (unsigned)(c - '0');
}

/* 19.3.4: three letters of five bits and four hex digits, most significant byte first. */
void aml_eisa_id(struct aml *aml, const char *id)
{
	uint32_t v = 0;
	uint8_t bytes[5] = { OP_DWORD };

	assert(strlen(id) == 7);
	for (int i = 0; i < 3; i++)
		v = v << 5 | (uint32_t)(id[i] - 0x40);
	for (int i = 3; i < 7; i++)
		v = v << 4 | hex(id[i]);
	put_le32(bytes + 1, __builtin_bswap32(v));
	aml_bytes(aml, bytes, sizeof(bytes));
}

void aml_path(struct aml *aml, const char *name)
{
	assert(strlen(name) == (*name == '\\' ? 5 : 4));
	aml_bytes(aml, name, strlen(name));
}

void aml_name(struct aml *aml, const char *name)
{
	aml_byte(aml, OP_NAME);
	aml_path(aml, name);
}

void aml_name_integer(struct aml *aml, const char *name, uint64_t value)
{
	aml_name(aml, name);
	aml_integer(aml, value);
}

void aml_name_eisa_id(struct aml *aml, const char *name, const char *id)
{
	aml_name(aml, name);
	aml_eisa_id(aml, id);
}

void aml_name_string(struct aml *aml, const char *name, const char *text)
{
	aml_name(aml, name);
	aml_byte(aml, OP_STRING);
	aml_bytes(aml, text, strlen(text) + 1);
}

void aml_scope(struct aml *aml, const char *path)
{
	aml_byte(aml, OP_SCOPE);
	open_length(aml);
	aml_path(aml, path);
}

void aml_device(struct aml *aml, const char *name)
{
	aml_byte(aml, OP_EXT);
	aml_byte(aml, OP_DEVICE);
	open_length(aml);
	aml_path(aml, name);
}

void aml_method(struct aml *aml, const char *name, unsigned args)
{
	assert(args < 8);
	aml_byte(aml, OP_METHOD);
	open_length(aml);
	aml_path(aml, name);
	aml_byte(aml, (uint8_t)args);
}

void aml_package(struct aml *aml, uint8_t elements)
{
	aml_byte(aml, OP_PACKAGE);
	open_length(aml);
	aml_byte(aml, elements);
}

void aml_if(struct aml *aml)
{
	aml_byte(aml, OP_IF);
	open_length(aml);
}

void aml_op_region(struct aml *aml, const char *name, uint8_t space, uint64_t offset, uint64_t len)
{
	aml_byte(aml, OP_EXT);
	aml_byte(aml, OP_REGION);
	aml_path(aml, name);
	aml_byte(aml, space);
	aml_integer(aml, offset);
	aml_integer(aml, len);
}

void aml_field(struct aml *aml, const char *region, uint8_t flags)
{
	aml_byte(aml, OP_EXT);
	aml_byte(aml, OP_FIELD);
	open_length(aml);
	aml_path(aml, region);
	aml_byte(aml, flags);
}

void aml_field_unit(struct aml *aml, const char *name, uint8_t bits)
{
	assert(bits < 64); /* a length of one byte */
	aml_path(aml, name);
	aml_byte(aml, bits);
}

/* --- resources -------------------------------------------------------------------------------- */

/* A buffer with its size as a 16-bit constant, which the close fills in. */
void aml_resources(struct aml *aml)
{
	aml_byte(aml, OP_BUFFER);
	open_length(aml);
	aml_byte(aml, OP_WORD);
	aml_bytes(aml, "\0", 2);
}

void aml_resources_close(struct aml *aml)
{
	size_t size_at = aml->open[aml->depth - 1] + LENGTH_BYTES + 1;

	aml_bytes(aml, "\x79", 2); /* end tag, no checksum */
	if (!aml->failed)
		put_le16(aml->buf + size_at, (uint16_t)(aml->len - size_at - 2));
	aml_close(aml);
}

void aml_res_io(struct aml *aml, uint16_t base, uint8_t len)
{
	uint8_t d[8] = { 0x47, 1 /* decodes 16 bits */ };

	put_le16(d + 2, base);
	put_le16(d + 4, base);
	d[6] = 1;
	d[7] = len;
	aml_bytes(aml, d, sizeof(d));
}

void aml_res_irq(struct aml *aml, unsigned irq)
{
	uint8_t d[3] = { 0x22 };

	put_le16(d + 1, (uint16_t)(1u << irq));
	aml_bytes(aml, d, sizeof(d));
}

void aml_res_gsi(struct aml *aml, uint32_t gsi)
{
	uint8_t d[9] = { 0x89, 6, 0, 0x09 /* consumer, shared */, 1 };

	put_le32(d + 5, gsi);
	aml_bytes(aml, d, sizeof(d));
}

void aml_res_memory32(struct aml *aml, uint32_t base, uint32_t len)
{
	uint8_t d[12] = { 0x86, 9, 0, 1 /* writable */ };

	put_le32(d + 4, base);
	put_le32(d + 8, len);
	aml_bytes(aml, d, sizeof(d));
}

#define RANGE_MEMORY 0
#define RANGE_IO 1
#define RANGE_BUS 2
#define RANGE_FIXED 0x0c /* both ends are fixed */

/* Address space descriptors of 2, 4 or 8-byte fields: granularity, min, max, offset, length. */
static void range(struct aml *aml, uint8_t tag, uint8_t type, uint8_t flags, unsigned width,
		  uint64_t first, uint64_t last)
{
	const uint64_t fields[5] = { 0, first, last, 0, last - first + 1 };
	uint8_t d[6 + 5 * 8];

	d[0] = tag;
	put_le16(d + 1, (uint16_t)(3 + 5 * width));
	d[3] = type;
	d[4] = RANGE_FIXED;
	d[5] = flags;
	for (unsigned i = 0; i < 5; i++)
		memcpy(d + 6 + i * width, &fields[i], width);
	aml_bytes(aml, d, 6 + 5 * width);
}

void aml_res_bus_range(struct aml *aml, uint16_t first, uint16_t last)
{
	range(aml, 0x88, RANGE_BUS, 0, 2, first, last);
}

void aml_res_io_range(struct aml *aml, uint16_t first, uint16_t last)
{
	range(aml, 0x88, RANGE_IO, 3 /* whole range */, 2, first, last);
}

void aml_res_memory32_range(struct aml *aml, uint32_t first, uint32_t last)
{
	range(aml, 0x87, RANGE_MEMORY, 1 /* writable, not cached */, 4, first, last);
}

void aml_res_memory64_range(struct aml *aml, uint64_t first, uint64_t last)
{
	range(aml, 0x8a, RANGE_MEMORY, 1, 8, first, last);
}
