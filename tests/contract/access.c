/* SPDX-License-Identifier: Apache-2.0 */
/* access.c - accesses that are wide, cross a border, or come in strings; memory beyond 4 GiB. */
#include "tests/contract/contract.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "common/bytes.h"

#define RWX (VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC)

/* Collects the bytes of write exits until `n` came, from gpa upwards or in any order. */
static void collect(struct env *e, uint64_t gpa, size_t n, uint8_t *bytes)
{
	uint64_t seen = 0;

	while (seen != (n == 64 ? ~0ull : (1ull << n) - 1)) {
		expect(e, VMX_EXIT_MEM);
		CHECK_EQ(e->exit.mem.write, true);
		CHECK(e->exit.mem.size >= 1 && e->exit.mem.size <= 8);
		CHECK(e->exit.mem.gpa >= gpa && e->exit.mem.gpa + e->exit.mem.size <= gpa + n);
		for (unsigned i = 0; i < e->exit.mem.size; i++) {
			size_t at = e->exit.mem.gpa - gpa + i;

			CHECK_EQ(seen >> at & 1, 0); /* each byte once */
			seen |= 1ull << at;
			bytes[at] = e->exit.mem.buf[i];
		}
	}
}

/* Answers read exits of [gpa, gpa+n) with byte i = first + i, until all were read. */
static void provide(struct env *e, uint64_t gpa, size_t n, uint8_t first)
{
	uint64_t seen = 0;

	while (seen != (1ull << n) - 1) {
		expect(e, VMX_EXIT_MEM);
		CHECK_EQ(e->exit.mem.write, false);
		CHECK(e->exit.mem.gpa >= gpa && e->exit.mem.gpa + e->exit.mem.size <= gpa + n);
		for (unsigned i = 0; i < e->exit.mem.size; i++) {
			size_t at = e->exit.mem.gpa - gpa + i;

			seen |= 1ull << at;
			e->exit.mem.buf[i] = (uint8_t)(first + at);
		}
	}
}

PAYLOAD(wide, ".code64\n"
	"mov $0x80000000, %edi\n movdqu 0x5000, %xmm1\n movdqu %xmm1, (%rdi)\n out %al, $0x10\n"
	"movdqu 64(%rdi), %xmm2\n movdqu %xmm2, 0x5010\n out %al, $0x11\n");

static void sixteen_bytes(struct env *e)
{
	uint8_t bytes[16];

	env_long_payload(e, wide);
	for (unsigned i = 0; i < 16; i++)
		e->ram[0x5000 + i] = (uint8_t)(0x60 + i);
	collect(e, HOLE, 16, bytes);
	CHECK(!memcmp(bytes, e->ram + 0x5000, 16));
	expect_out(e, 0x10);
	provide(e, HOLE + 64, 16, 0x90);
	expect_out(e, 0x11);
	for (unsigned i = 0; i < 16; i++)
		CHECK_EQ(e->ram[0x5010 + i], 0x90 + i);
}

PAYLOAD(cross, ".code64\n"
	"mov $0x80000ffc, %edi\n mov $0x1122334455667788, %rax\n mov %rax, (%rdi)\n"
	"out %al, $0x10\n mov (%rdi), %rbx\n out %al, $0x11\n");

static void page_border(struct env *e)
{
	uint8_t bytes[8];

	env_long_payload(e, cross);
	collect(e, HOLE + 0xffc, 8, bytes);
	CHECK_EQ(get_le64(bytes), 0x1122334455667788);
	expect_out(e, 0x10);
	provide(e, HOLE + 0xffc, 8, 1);
	expect_out(e, 0x11);
	CHECK_EQ(reg(e, VMX_RBX), 0x0807060504030201);
}

PAYLOAD(ram_end, ".code64\n"
	"mov $0x3ffffc, %edi\n mov $0x1122334455667788, %rax\n mov %rax, (%rdi)\n"
	"out %al, $0x10\n mov (%rdi), %rbx\n out %al, $0x11\n");

/* Half in RAM, half where nothing is. */
static void ram_border(struct env *e)
{
	uint8_t bytes[4];

	env_long_payload(e, ram_end);
	collect(e, RAM_SIZE, 4, bytes);
	CHECK_EQ(get_le32(bytes), 0x11223344);
	expect_out(e, 0x10);
	CHECK_EQ(get_le32(e->ram + RAM_SIZE - 4), 0x55667788);
	provide(e, RAM_SIZE, 4, 0xa1);
	expect_out(e, 0x11);
	CHECK_EQ(reg(e, VMX_RBX), 0xa4a3a2a155667788);
}

PAYLOAD(strings, ".code64\n"
	"cld\n mov $0x5000, %esi\n mov $0x80000000, %edi\n mov $20, %ecx\n rep movsb\n"
	"out %al, $0x10\n"
	"mov $0x80000100, %esi\n mov $0x6000, %edi\n mov $5, %ecx\n rep movsl\n out %al, $0x11\n"
	"mov $0x44332211, %eax\n mov $0x80000200, %edi\n mov $4, %ecx\n rep stosl\n"
	"out %al, $0x12\n");

static void string_instructions(struct env *e)
{
	uint8_t bytes[20];

	env_long_payload(e, strings);
	for (unsigned i = 0; i < 20; i++)
		e->ram[0x5000 + i] = (uint8_t)(3 * i);
	collect(e, HOLE, 20, bytes);
	CHECK(!memcmp(bytes, e->ram + 0x5000, 20));
	expect_out(e, 0x10);
	CHECK_EQ(reg(e, VMX_RCX), 0);
	CHECK_EQ(reg(e, VMX_RDI), HOLE + 20);
	provide(e, HOLE + 0x100, 20, 0x20);
	expect_out(e, 0x11);
	for (unsigned i = 0; i < 20; i++)
		CHECK_EQ(e->ram[0x6000 + i], 0x20 + i);
	collect(e, HOLE + 0x200, 16, bytes);
	for (unsigned i = 0; i < 16; i++)
		CHECK_EQ(bytes[i], 0x11 * (i % 4 + 1));
	expect_out(e, 0x12);
}

PAYLOAD(locked, ".code64\n"
	"mov $0x80000000, %edi\n mov $5, %eax\n lock xadd %eax, (%rdi)\n out %al, $0x10\n"
	"mov $9, %ecx\n xchg %ecx, (%rdi)\n out %al, $0x11\n");

static void locked_access(struct env *e)
{
	uint8_t bytes[4];

	env_long_payload(e, locked);
	provide(e, HOLE, 4, 1);
	collect(e, HOLE, 4, bytes);
	CHECK_EQ(get_le32(bytes), 0x04030201 + 5);
	CHECK_EQ(expect_out(e, 0x10), 1);
	provide(e, HOLE, 4, 0x30);
	collect(e, HOLE, 4, bytes);
	CHECK_EQ(get_le32(bytes), 9);
	expect_out(e, 0x11);
	CHECK_EQ(reg(e, VMX_RCX), 0x33323130);
}

PAYLOAD(high, ".code64\n"
	"mov $0x140000000, %rdi\n mov (%rdi), %eax\n movl $0x55, 4(%rdi)\n out %al, $0x10\n"
	"mov $0x140200000, %rdi\n mov %al, (%rdi)\n out %al, $0x11\n");

static void beyond_4g(struct env *e)
{
	const uint64_t at = 0x140000000;
	uint8_t *p = mmap(NULL, 0x200000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	env_long_payload(e, high);
	put_le64(e->ram + 0x11000 + 5 * 8, 0x30000 | 7); /* the sixth GiB */
	put_le64(e->ram + 0x30000, at | 0x87);
	put_le64(e->ram + 0x30008, (at + 0x200000) | 0x87);
	CHECK_EQ(vmx_vm_written(e->vm, 0, RAM_SIZE), 0);
	CHECK_EQ(vmx_vm_map(e->vm, at, 0x200000, p, RWX), 0);
	p[0] = 0x99;
	CHECK_EQ(expect_out(e, 0x10), 0x99);
	CHECK_EQ(p[4], 0x55);
	expect(e, VMX_EXIT_MEM);
	CHECK_EQ(e->exit.mem.gpa, at + 0x200000);
	expect_out(e, 0x11);
}

PAYLOAD(walk, ".code64\n"
	"mov $0x40000000, %edi\n mov $256, %ecx\n xor %eax, %eax\n"
	"1: add (%rdi), %eax\n add $0x2000, %rdi\n dec %ecx\n jnz 1b\n out %al, $0x10\n");

/* Hundreds of mappings, and then all of them away at once. */
static void many_mappings(struct env *e)
{
	uint32_t sum = 0;
	uint8_t *p = mmap(NULL, 256 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	env_long_payload(e, walk);
	for (unsigned i = 0; i < 256; i++) {
		unsigned n = i * 37 % 256; /* not in order */

		put_le32(p + n * 4096, n * 1000);
		sum += n * 1000;
		CHECK_EQ(vmx_vm_map(e->vm, 0x40000000 + n * 0x2000, 4096, p + n * 4096, RWX), 0);
	}
	expect_out(e, 0x10);
	CHECK_EQ(reg(e, VMX_RAX) & 0xffffffff, sum);
	CHECK_EQ(vmx_vm_unmap(e->vm, 0x40000000, 0x200000), 0);
	CHECK_EQ(vmx_vm_unmap(e->vm, 0x40000000, 0x200000), -ENOENT);
	set_reg(e, VMX_RIP, CODE);
	expect(e, VMX_EXIT_MEM);
	CHECK_EQ(e->exit.mem.gpa, 0x40000000);
}

static const struct test tests[] = {
	{ "sixteen-bytes", "W6 K", sixteen_bytes },
	{ "page-border", "W6 K", page_border },
	{ "ram-border", "W2 W6", ram_border },
	{ "string-instructions", "W6", string_instructions },
	{ "locked-access", "W6", locked_access },
	{ "beyond-4g", "Z1 W2", beyond_4g },
	{ "many-mappings", "Z1 W2", many_mappings },
};
SUITE(access, "access");
