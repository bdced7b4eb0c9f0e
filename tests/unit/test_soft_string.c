/* SPDX-License-Identifier: Apache-2.0 */
/*
 * String instructions and vector accesses by lane. The processor that runs the test is the oracle: the
 * same bytes are executed on a copy of the memory.
 */
#include <string.h>
#include <sys/mman.h>

#include "tests/unit/soft_rig.h"
#include "tests/unit/unit.h"

#define WINDOW 0x3000u /* RIG_DATA .. + WINDOW is compared */

struct regs {
	uint64_t rax, rcx, rsi, rdi, flags;
};

static uint64_t random_state = 0x9e3779b97f4a7c15ull;
static uint64_t rnd(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* Runs the bytes natively with DF as in regs->flags. */
static void run_native(const uint8_t *bytes, size_t n, struct regs *regs)
{
	uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		abort();
	memcpy(page, bytes, n);
	page[n] = 0xc3;
	__asm__ volatile("push %4\n\tpopfq\n\tcall *%5\n\tpushfq\n\tpop %4\n\tcld"
			 : "+a"(regs->rax), "+c"(regs->rcx), "+S"(regs->rsi), "+D"(regs->rdi),
			   "+r"(regs->flags)
			 : "r"(page)
			 : "memory", "cc");
	munmap(page, 4096);
}

static struct regs regs_of(const struct rig *r, uint64_t base)
{
	return (struct regs){
		.rax = r->v.gpr[SOFT_RAX],
		.rcx = r->v.gpr[SOFT_RCX],
		.rsi = r->v.gpr[SOFT_RSI] + base,
		.rdi = r->v.gpr[SOFT_RDI] + base,
		.flags = soft_get_rflags(&r->v),
	};
}

/* Steps until the instruction completed. */
static int run_soft(struct rig *r, size_t n)
{
	int rc;

	do
		rc = rig_step(r, 0);
	while (rc == SOFT_AGAIN || (rc == SOFT_OK && r->v.rip == RIG_CODE));
	CU_ASSERT_EQUAL(r->v.rip, RIG_CODE + (rc == SOFT_OK ? n : 0));
	return rc;
}

static void test_against_processor(void)
{
	static const uint8_t opcodes[] = { 0xa4, 0xa6, 0xaa, 0xac, 0xae };
	static uint8_t copy[WINDOW];
	struct rig *r = rig_new(CODE_64);
	unsigned wrong = 0, full = 0;

	for (unsigned i = 0; i < 20000; i++) {
		uint8_t bytes[4];
		size_t n = 0;
		uint64_t count, size, at, base;
		struct regs want, got;

		if (rnd() % 4)
			bytes[n++] = rnd() % 2 ? 0xf2 : 0xf3;
		size = 1u << rnd() % 4;
		if (size == 2)
			bytes[n++] = 0x66;
		if (size == 8)
			bytes[n++] = 0x48;
		if (size == 2 && n == 2) { /* prefixes in either order */
			uint8_t t = bytes[0];

			bytes[0] = bytes[1];
			bytes[1] = t;
		}
		bytes[n++] = opcodes[rnd() % 5] | (size > 1);
		for (unsigned k = 0; k < WINDOW; k++) /* few values: comparisons go on for a while */
			*rig_at(r, RIG_DATA + k) = rnd() % 200 ? 0x5a : (uint8_t)rnd();
		memcpy(copy, rig_at(r, RIG_DATA), WINDOW);
		count = rnd() % 3 ? rnd() % 40 : rnd() % (0x1000 / size);
		soft_set_rflags(&r->v, (rnd() & FL_ARITH) | (rnd() % 3 ? 0 : FL_DF));
		at = 0x1000;
		r->v.gpr[SOFT_RAX] = rnd() % 2 ? rnd() : 0x5a5a5a5a5a5a5a5aull;
		r->v.gpr[SOFT_RCX] = count;
		r->v.gpr[SOFT_RSI] = RIG_DATA + at + rnd() % 0x1000;
		r->v.gpr[SOFT_RDI] = rnd() % 2 ? RIG_DATA + at + rnd() % 0x1000 :
						 r->v.gpr[SOFT_RSI] + rnd() % 64 - 32;
		r->no_ptr = rnd() % 8 == 0;
		/* all three pages are plain, but sometimes each piece must end early */
		atomic_store(&r->v.exit_req, rnd() % 4 ? 0 : SOFT_REQ_KICK);
		base = (uint64_t)(uintptr_t)copy - RIG_DATA;
		want = regs_of(r, base);
		rig_code(r, bytes, n);
		run_native(bytes, n, &want);
		run_soft(r, n);
		got = regs_of(r, base);
		full += count > 100;
		if (got.rax != want.rax || got.rcx != want.rcx || got.rsi != want.rsi ||
		    got.rdi != want.rdi ||
		    ((got.flags ^ want.flags) & (FL_ARITH | FL_DF)) != 0 ||
		    memcmp(copy, rig_at(r, RIG_DATA), WINDOW) != 0) {
			if (!wrong++)
				printf("\n  first difference: opcode %02x size %u count %llu\n",
				       bytes[n - 1], (unsigned)size, (unsigned long long)count);
		}
	}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_TRUE(full > 1000);
	rig_free(r);
}

static void test_faults(void)
{
	struct rig *r = rig_new(CODE_64);
	static const uint8_t movsq[] = { 0xf3, 0x48, 0xa5 }, stosb[] = { 0xf3, 0xaa };

	rig_code(r, movsq, 3); /* source runs into the missing page, in the middle of an element */
	r->v.gpr[SOFT_RCX] = 100;
	r->v.gpr[SOFT_RSI] = RIG_MISSING - 20;
	r->v.gpr[SOFT_RDI] = RIG_DATA;
	CU_ASSERT_EQUAL(run_soft(r, 3), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.cr2, RIG_MISSING);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RCX], 98);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSI], RIG_MISSING - 4);
	r->missing = false; /* and goes on */
	CU_ASSERT_EQUAL(run_soft(r, 3), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RCX], 0);
	r->missing = true;
	rig_code(r, stosb, 2); /* downwards: the fault's address is the element's */
	soft_set_rflags(&r->v, FL_DF);
	r->v.gpr[SOFT_RCX] = 100;
	r->v.gpr[SOFT_RDI] = RIG_MISSING + 0x1000 + 2;
	CU_ASSERT_EQUAL(run_soft(r, 2), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.cr2, RIG_MISSING + 0xfff);
	CU_ASSERT_EQUAL(r->v.exc.error, 2);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RCX], 97);
	rig_free(r);
}

static void test_code_page(void)
{
	struct rig *r = rig_new(CODE_64);
	static const uint8_t movsb[] = { 0xf3, 0xa4 }, stosd[] = { 0xf3, 0xab };

	memset(rig_at(r, RIG_DATA), 0x11, 0x1000);
	rig_code(r, movsb, 2);
	r->v.gpr[SOFT_RCX] = 0x800;
	r->v.gpr[SOFT_RSI] = RIG_DATA;
	r->v.gpr[SOFT_RDI] = RIG_CODED + 0x100;
	CU_ASSERT_EQUAL(run_soft(r, 2), SOFT_OK);
	CU_ASSERT_EQUAL(r->code_writes, 1);
	CU_ASSERT_EQUAL(memcmp(rig_at(r, RIG_CODED + 0x100), rig_at(r, RIG_DATA), 0x800), 0);
	rig_code(r, stosd, 2);
	soft_set_rflags(&r->v, FL_DF);
	r->v.gpr[SOFT_RAX] = 0x44332211;
	r->v.gpr[SOFT_RCX] = 100;
	r->v.gpr[SOFT_RDI] = RIG_CODED + 0x600;
	CU_ASSERT_EQUAL(run_soft(r, 2), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RDI], RIG_CODED + 0x600 - 400);
	CU_ASSERT_EQUAL(*(uint32_t *)(void *)rig_at(r, RIG_CODED + 0x600), 0x44332211);
	CU_ASSERT_EQUAL(*(uint32_t *)(void *)rig_at(r, RIG_CODED + 0x604), 0x11111111);
	CU_ASSERT_EQUAL(*(uint32_t *)(void *)rig_at(r, RIG_CODED + 0x604 - 400), 0x44332211);
	CU_ASSERT_EQUAL(*(uint32_t *)(void *)rig_at(r, RIG_CODED + 0x600 - 400), 0x11111111);
	rig_free(r);
}

static void test_widths(void)
{
	struct rig *r = rig_new(CODE_64);
	static const uint8_t stosb32[] = { 0xf3, 0x67, 0xaa }, movsb[] = { 0xf3, 0xa4 };

	rig_code(r, stosb32, 3); /* 32-bit count and index: the upper halves are cleared */
	r->v.gpr[SOFT_RCX] = 0xffffffff00000010ull;
	r->v.gpr[SOFT_RDI] = 0xffffffff00000000ull | RIG_DATA;
	CU_ASSERT_EQUAL(run_soft(r, 3), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RCX], 0);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RDI], RIG_DATA + 16);
	rig_code(r, movsb, 2);
	r->v.gpr[SOFT_RSI] = 0x0000900000000000ull; /* not canonical, but nothing to move */
	CU_ASSERT_EQUAL(run_soft(r, 2), SOFT_OK);
	rig_free(r);
	r = rig_new(CODE_16); /* indices wrap at 64 KiB */
	memset(rig_at(r, RIG_RAM + 0xff00), 0x77, 0x100);
	r->v.gpr[SOFT_RCX] = 0xaaaa0200;
	r->v.gpr[SOFT_RSI] = 0x2000;
	r->v.gpr[SOFT_RDI] = 0xbbbbff00;
	memset(rig_at(r, RIG_RAM + 0x2000), 0x33, 0x200);
	rig_code(r, movsb, 2);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RCX], 0xaaaa0000);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RDI], 0xbbbb0100);
	CU_ASSERT_EQUAL(*rig_at(r, RIG_RAM + 0xffff), 0x33);
	CU_ASSERT_EQUAL(*rig_at(r, RIG_RAM + 0xff), 0x33);
	CU_ASSERT_EQUAL(*rig_at(r, RIG_RAM + 0x100), 0);
	rig_free(r);
}

static void test_ports(void)
{
	struct rig *r = rig_new(CODE_64);
	static const uint8_t insw[] = { 0xf3, 0x66, 0x6d }, outsb[] = { 0x6e };

	rig_code(r, insw, 3);
	r->v.gpr[SOFT_RDX] = 0x1f0;
	r->v.gpr[SOFT_RCX] = 3;
	r->v.gpr[SOFT_RDI] = RIG_DATA;
	CU_ASSERT_EQUAL(rig_step(r, 0x1234), SOFT_OK);
	CU_ASSERT_EQUAL(r->exits, 3);
	CU_ASSERT_EQUAL(memcmp(rig_at(r, RIG_DATA), "\x34\x12\x34\x12\x34\x12\0", 7), 0);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RCX], 0);
	r->v.gpr[SOFT_RCX] = 2; /* the destination is checked before the port is read */
	r->v.gpr[SOFT_RDI] = RIG_MISSING;
	rig_code(r, insw, 3);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_PF);
	CU_ASSERT_EQUAL(r->exits, 3);
	rig_code(r, outsb, 1);
	r->v.gpr[SOFT_RSI] = RIG_DATA;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(r->exits, 4);
	CU_ASSERT_EQUAL(r->v.exit_request.rflags, 0x34);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RSI], RIG_DATA + 1);
	r->v.gpr[SOFT_RDX] = 0x666;
	rig_code(r, outsb, 1);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.vector, EXC_GP);
	rig_free(r);
}

static void test_device(void)
{
	struct rig *r = rig_new(CODE_64);
	static const uint8_t movsd[] = { 0xf3, 0xa5 };

	rig_code(r, movsd, 2); /* from a device to a device: each access once, in order */
	r->v.gpr[SOFT_RCX] = 3;
	r->v.gpr[SOFT_RSI] = RIG_DEVICE;
	r->v.gpr[SOFT_RDI] = RIG_DEVICE + 0x800;
	CU_ASSERT_EQUAL(rig_step(r, 0xcafe), SOFT_OK);
	CU_ASSERT_EQUAL(r->exits, 6);
	CU_ASSERT_EQUAL(r->v.exit_request.rflags, 0xcafe);
	CU_ASSERT_EQUAL(r->v.gpr[SOFT_RCX], 0);
	rig_free(r);
}

/* --- vectors -------------------------------------------------------------------------------- */
static void set_ymm(struct rig *r, unsigned i, const void *val)
{
	memcpy(r->xsave + 160 + 16 * i, val, 16);
	memcpy(r->xsave + 576 + 16 * i, (const uint8_t *)val + 16, 16);
}
static void get_ymm(const struct rig *r, unsigned i, void *val)
{
	memcpy(val, r->xsave + 160 + 16 * i, 16);
	memcpy((uint8_t *)val + 16, r->xsave + 576 + 16 * i, 16);
}

static void test_gather(void)
{
	struct rig *r = rig_new(CODE_64);
	static const uint8_t dps[] = { 0xc4, 0xe2, 0x75, 0x92, 0x04, 0x93 }; /* ymm0,[rbx+ymm2*4],ymm1 */
	static const uint8_t qps[] = { 0xc4, 0xe2, 0x75, 0x93, 0x04, 0x93 }; /* xmm0, ymm2, xmm1 */
	int32_t index[8] = { 0, 5, -1, 7, 100, 3, 2, 1 };
	int64_t index64[4] = { 3, -2, 0, 1 };
	uint32_t mask[8] = { 1u << 31, 1u << 31, 1u << 31, 0, ~0u, 0x7fffffff, 1u << 31, 1u << 31 };
	uint32_t out[8], old[8];

	for (uint32_t i = 0; i < 0x400; i++)
		memcpy(rig_at(r, RIG_MISSING - 0x1000 + 4 * i), &i, 4);
	memset(old, 0xee, sizeof(old));
	r->v.gpr[SOFT_RBX] = RIG_MISSING - 0x800; /* element 0x200 */
	set_ymm(r, 0, old);
	set_ymm(r, 1, mask);
	set_ymm(r, 2, index);
	rig_code(r, dps, 6);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	get_ymm(r, 0, out);
	for (unsigned i = 0; i < 8; i++)
		CU_ASSERT_EQUAL(out[i], mask[i] >> 31 ? 0x200u + (uint32_t)index[i] : 0xeeeeeeee);
	get_ymm(r, 1, out);
	for (unsigned i = 0; i < 8; i++)
		CU_ASSERT_EQUAL(out[i], 0);
	/* element 4 faults: 0..3 are done, their masks cleared */
	index[4] = 0x200;
	set_ymm(r, 0, old);
	set_ymm(r, 1, mask);
	set_ymm(r, 2, index);
	rig_code(r, dps, 6);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.cr2, RIG_MISSING);
	get_ymm(r, 0, out);
	CU_ASSERT_EQUAL(out[2], 0x1ff);
	CU_ASSERT_EQUAL(out[4], 0xeeeeeeee);
	CU_ASSERT_EQUAL(out[6], 0xeeeeeeee);
	get_ymm(r, 1, out);
	CU_ASSERT_EQUAL(out[0], 0);
	CU_ASSERT_EQUAL(out[4], ~0u);
	CU_ASSERT_EQUAL(out[7], 1u << 31);
	/* quadword indices: four elements, the rest of the register is cleared */
	memset(mask, 0xff, sizeof(mask));
	set_ymm(r, 0, old);
	set_ymm(r, 1, mask);
	set_ymm(r, 2, index64);
	rig_code(r, qps, 6);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	get_ymm(r, 0, out);
	for (unsigned i = 0; i < 8; i++)
		CU_ASSERT_EQUAL(out[i], i < 4 ? 0x200u + (uint32_t)index64[i] : 0);
	rig_free(r);
}

static void test_masked(void)
{
	struct rig *r = rig_new(CODE_64);
	static const uint8_t dqu[] = { 0x66, 0x0f, 0xf7, 0xc1 }, q[] = { 0x0f, 0xf7, 0xc1 },
			     store[] = { 0xc4, 0xe2, 0x75, 0x8e, 0x03 },
			     load[] = { 0xc4, 0xe2, 0x75, 0x8c, 0x03 };
	uint8_t data[32], mask[32];
	uint32_t lanes[8] = { 0 };

	for (unsigned i = 0; i < 32; i++)
		data[i] = (uint8_t)(i + 1);
	memset(mask, 0, sizeof(mask));
	mask[0] = mask[3] = 0x80;
	mask[15] = 0xff;
	mask[7] = 0x7f;
	set_ymm(r, 0, data);
	set_ymm(r, 1, mask);
	/* the last byte's place is missing: nothing is stored, whatever the mask says */
	r->v.gpr[SOFT_RDI] = RIG_MISSING - 15;
	rig_code(r, dqu, 4);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.cr2, RIG_MISSING);
	CU_ASSERT_EQUAL(*rig_at(r, RIG_MISSING - 15), 0);
	r->v.gpr[SOFT_RDI] = RIG_MISSING - 16;
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(memcmp(rig_at(r, RIG_MISSING - 16), "\1\0\0\4\0\0\0\0", 8), 0);
	CU_ASSERT_EQUAL(*rig_at(r, RIG_MISSING - 1), 16);
	/* MASKMOVQ with the x87 stack top at 5: MM0 is ST(3) then */
	r->xsave[3] = 5 << 3;
	memset(r->xsave + 32, 0, 128);
	memcpy(r->xsave + 32 + 16 * 3, "ABCDEFGH", 8);
	memcpy(r->xsave + 32 + 16 * 4, "\x80\0\0\0\0\0\0\x80", 8);
	r->v.gpr[SOFT_RDI] = RIG_DATA;
	rig_code(r, q, 3);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(memcmp(rig_at(r, RIG_DATA), "A\0\0\0\0\0\0H", 8), 0);
	CU_ASSERT_EQUAL(r->xsave[3] & 0x38, 0);
	CU_ASSERT_EQUAL(r->xsave[4], 0xff);
	CU_ASSERT_EQUAL(memcmp(r->xsave + 32, "ABCDEFGH", 8), 0);
	/* VPMASKMOVD store over the edge: only lanes that are on are looked at */
	lanes[1] = lanes[2] = 1u << 31;
	set_ymm(r, 1, lanes);
	r->v.gpr[SOFT_RBX] = RIG_MISSING - 12;
	memcpy(rig_at(r, RIG_MISSING - 12), "abcdefghijkl", 12);
	rig_code(r, store, 5);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	CU_ASSERT_EQUAL(memcmp(rig_at(r, RIG_MISSING - 12), "abcd\5\6\7\10\11\12\13\14", 12), 0);
	rig_code(r, load, 5);
	memset(data, 0xee, sizeof(data));
	set_ymm(r, 0, data);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_OK);
	get_ymm(r, 0, data);
	CU_ASSERT_EQUAL(memcmp(data, "\0\0\0\0\5\6\7\10\11\12\13\14\0\0\0\0", 16), 0);
	lanes[3] = 1u << 31;
	set_ymm(r, 1, lanes);
	rig_code(r, load, 5);
	CU_ASSERT_EQUAL(rig_step(r, 0), SOFT_EXCEPTION);
	CU_ASSERT_EQUAL(r->v.exc.cr2, RIG_MISSING);
	rig_free(r);
}

int main(void)
{
	static CU_TestInfo strings[] = {
		{ "against the processor", test_against_processor },
		{ "faults", test_faults },
		{ "page with code", test_code_page },
		{ "address widths", test_widths },
		{ "ports", test_ports },
		{ "devices", test_device },
		CU_TEST_INFO_NULL,
	};
	static CU_TestInfo vectors[] = {
		{ "gather", test_gather },
		{ "masked moves", test_masked },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(
		UNIT_SUITE("strings", strings),
		UNIT_SUITE("vectors", vectors));
}
