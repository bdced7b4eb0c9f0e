/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aml.h - writes ACPI Machine Language (ACPI 6.4, chapter 20) into a buffer.
 *
 * Things with a length (scopes, devices, methods, packages, buffers) are opened and closed; the
 * length is filled in at the close. Running out of room is remembered, and checked once at the end
 * by aml_ok(). Names are four characters, padded with '_' by the caller.
 */
#ifndef MACHINE_AML_H
#define MACHINE_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AML_DEPTH 8

struct aml {
	uint8_t *buf;
	size_t size, len;
	size_t open[AML_DEPTH]; /* where the lengths go */
	unsigned depth;
	bool failed;
};

void aml_init(struct aml *aml, void *buf, size_t size);
bool aml_ok(const struct aml *aml); /* it fitted, and everything that was opened is closed */
void aml_bytes(struct aml *aml, const void *bytes, size_t n);
void aml_byte(struct aml *aml, uint8_t byte);
void aml_close(struct aml *aml); /* the innermost open thing */

void aml_integer(struct aml *aml, uint64_t value); /* shortest form */
void aml_eisa_id(struct aml *aml, const char *id); /* "PNP0A03" */
void aml_path(struct aml *aml, const char *name);  /* "_CRS" or "\\_SB_" */
void aml_name(struct aml *aml, const char *name);  /* Name(name, what follows) */
void aml_name_integer(struct aml *aml, const char *name, uint64_t value);
void aml_name_string(struct aml *aml, const char *name, const char *text);
void aml_name_eisa_id(struct aml *aml, const char *name, const char *id);
void aml_scope(struct aml *aml, const char *path);  /* open */
void aml_device(struct aml *aml, const char *name); /* open */
void aml_method(struct aml *aml, const char *name, unsigned args); /* open */
void aml_package(struct aml *aml, uint8_t elements); /* open */
void aml_if(struct aml *aml); /* open; the predicate follows */
/* space: 1 is ports (ACPI 19.6.100); offset and length in bytes. */
void aml_op_region(struct aml *aml, const char *name, uint8_t space, uint64_t offset, uint64_t len);
void aml_field(struct aml *aml, const char *region, uint8_t flags); /* open; units follow */
void aml_field_unit(struct aml *aml, const char *name, uint8_t bits); /* bits < 64 */

/* Resource templates (6.4): open, descriptors, close. Not nested. */
void aml_resources(struct aml *aml);
void aml_resources_close(struct aml *aml);
void aml_res_io(struct aml *aml, uint16_t base, uint8_t len);
void aml_res_irq(struct aml *aml, unsigned irq);
void aml_res_gsi(struct aml *aml, uint32_t gsi); /* level, active high, shared */
void aml_res_memory32(struct aml *aml, uint32_t base, uint32_t len);
/* What a bus passes on: ranges of bus numbers, ports and memory; last is inclusive. */
void aml_res_bus_range(struct aml *aml, uint16_t first, uint16_t last);
void aml_res_io_range(struct aml *aml, uint16_t first, uint16_t last);
void aml_res_memory32_range(struct aml *aml, uint32_t first, uint32_t last);
void aml_res_memory64_range(struct aml *aml, uint64_t first, uint64_t last);

#endif
