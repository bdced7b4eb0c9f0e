/* SPDX-License-Identifier: Apache-2.0 */
/* XSAVE and its relatives on the software processor. */
#include <setjmp.h>
#include <signal.h>
#include <string.h>

#include "tests/unit/sys_rig.h"
#include "tests/unit/unit.h"

CODE64(save_restore,
       "mov $3, %eax; xor %edx, %edx; xor %ecx, %ecx; xsetbv\n"
       "mov $0x1122334455667788, %rdi; movq %rdi, %xmm3; mov $3, %eax; xsave (%rbx)\n"
       "pxor %xmm3, %xmm3; xrstor (%rbx); movq %xmm3, %rsi\n"
       "fxsave 1024(%rbx); pxor %xmm3, %xmm3; fxrstor 1024(%rbx); movq %xmm3, %rdi\n"
       "xsavec 2048(%rbx); pxor %xmm3, %xmm3; xrstor 2048(%rbx); movq %xmm3, %rbp")
CODE64(save_misaligned, "mov $3, %eax; xor %edx, %edx; xsave 16(%rbx)")
CODE64(restore_any, "mov $3, %eax; xor %edx, %edx; xrstor (%rbx)")
CODE64(restore_cross, "mov $3, %eax; xor %edx, %edx; lea 0xf00(%rbx), %rbx; xsave (%rbx); xrstor (%rbx)")

static void test_xsave(void)
{
	struct rig *r = rig_new(RIG_64);

	r->sregs.cr4 |= 0x40000;
	CU_ASSERT_EQUAL(RUN(r, save_restore), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rsi, 0x1122334455667788);
	CU_ASSERT_EQUAL(r->regs.rdi, 0x1122334455667788);
	CU_ASSERT_EQUAL(r->regs.rbp, 0x1122334455667788);
	CU_ASSERT_EQUAL(rig_get(r, RIG_DATA + 160 + 48, 8), 0x1122334455667788);
	CU_ASSERT_EQUAL(rig_get(r, RIG_DATA + 512, 8) & 2, 2);
	rig_free(r);
	r = rig_new(RIG_64);
	r->sregs.cr4 |= 0x40000;
	CU_ASSERT_EQUAL(RUN(r, save_misaligned), 13);
	rig_free(r);
	for (unsigned i = 0; i < 4; i++) {
		static const struct {
			unsigned offset;
			uint32_t value;
		} bad[] = { { 24, 0xffff0000 }, { 512, 0x10 }, { 520, 1 }, { 528, 1 } };

		r = rig_new(RIG_64);
		r->sregs.cr4 |= 0x40000;
		rig_put(r, RIG_DATA + 24, 0x1f80, 4);
		rig_put(r, RIG_DATA + bad[i].offset, bad[i].value, 4);
		r->sregs.xcr0 = 3;
		CU_ASSERT_EQUAL(RUN(r, restore_any), 13);
		rig_free(r);
	}
	r = rig_new(RIG_64);
	r->sregs.cr4 |= 0x40000;
	r->sregs.cr0 |= 8;
	CU_ASSERT_EQUAL(RUN(r, restore_any), 7);
	rig_free(r);
	r = rig_new(RIG_64);
	r->sregs.cr4 |= 0x40000;
	r->sregs.xcr0 = 3;
	CU_ASSERT_EQUAL(RUN(r, restore_cross), RIG_DONE);
	rig_free(r);
}

CODE64(supervisor, "mov $3, %eax; xor %edx, %edx; xor %ecx, %ecx; xsetbv\n"
		   "mov $0x1122334455667788, %rdi; movq %rdi, %xmm3; mov $3, %eax\n"
		   "xsavec (%rbx); xsaves 1024(%rbx); pxor %xmm3, %xmm3; xrstors 1024(%rbx)\n"
		   "movq %xmm3, %rdi; mov $0xda0, %ecx; rdmsr; mov %eax, %esi; wrmsr\n"
		   "mov $0xd, %eax; mov $1, %ecx; push %rbx; cpuid; mov %ebx, %ebp; pop %rbx")
CODE64(supervisor_state, "mov $0xda0, %ecx; mov $0x100, %eax; xor %edx, %edx; wrmsr")
CODE64(restore_standard, "mov $3, %eax; xor %edx, %edx; xsave (%rbx); xrstors (%rbx)")
CODE64(save_user, "mov $3, %eax; xor %edx, %edx; xsaves (%rbx)")
CODE64(restore_user, "mov $3, %eax; xor %edx, %edx; xrstors (%rbx)")

/* XSAVES without supervisor components writes what XSAVEC does, which the host executes. */
static void test_xsaves(void)
{
	struct rig *r = rig_new(RIG_64);

	r->sregs.cr4 |= 0x40000;
	CU_ASSERT_EQUAL(RUN(r, supervisor), RIG_DONE);
	CU_ASSERT_EQUAL(r->regs.rdi, 0x1122334455667788);
	CU_ASSERT_EQUAL(r->regs.rsi, 0);
	CU_ASSERT_EQUAL(r->regs.rbp, 576);
	CU_ASSERT_EQUAL(r->regs.rax & 0xa, 0xa);
	CU_ASSERT_EQUAL(r->regs.rcx | r->regs.rdx, 0);
	CU_ASSERT_EQUAL(rig_get(r, RIG_DATA + 1024 + 520, 8), 1ull << 63 | 3);
	for (unsigned i = 0; i < 576; i += 8)
		CU_ASSERT_EQUAL(rig_get(r, RIG_DATA + i, 8), rig_get(r, RIG_DATA + 1024 + i, 8));
	rig_free(r);
	r = rig_new(RIG_64);
	CU_ASSERT_EQUAL(RUN(r, supervisor_state), 13);
	rig_free(r);
	r = rig_new(RIG_64);
	r->sregs.cr4 |= 0x40000;
	r->sregs.xcr0 = 3;
	CU_ASSERT_EQUAL(RUN(r, restore_standard), 13);
	rig_free(r);
	r = rig_new(RIG_64);
	rig_user(r);
	r->sregs.cr4 |= 0x40000;
	r->sregs.xcr0 = 3;
	CU_ASSERT_EQUAL(RUN(r, save_user), 13);
	rig_free(r);
	r = rig_new(RIG_64);
	rig_user(r);
	r->sregs.cr4 |= 0x40000;
	r->sregs.xcr0 = 3;
	CU_ASSERT_EQUAL(RUN(r, restore_user), 13);
	rig_free(r);
}

/* The host's processor as the oracle of which areas XRSTOR refuses. */
static sigjmp_buf refused;

static void on_segv(int sig)
{
	(void)sig;
	siglongjmp(refused, 1);
}

static bool host_refuses(const uint8_t *image, uint32_t mask)
{
	static uint8_t area[1024] __attribute__((aligned(64))), saved[4096] __attribute__((aligned(64)));
	struct sigaction action = { .sa_handler = on_segv }, old;
	bool bad;

	memcpy(area, image, sizeof(area));
	__asm__ volatile("xsave (%0)" : : "r"(saved), "a"(7), "d"(0) : "memory");
	sigaction(SIGSEGV, &action, &old);
	bad = sigsetjmp(refused, 1) != 0;
	if (!bad)
		__asm__ volatile("xrstor (%0)" : : "r"(area), "a"(mask), "d"(0) : "memory");
	__asm__ volatile("xrstor (%0)" : : "r"(saved), "a"(7), "d"(0) : "memory");
	sigaction(SIGSEGV, &old, NULL);
	return bad;
}

CODE64(restore_mask, "xor %edx, %edx; xrstor (%rbx)")

static void test_xrstor_areas(void)
{
	uint64_t seed = 12345, bv[2];
	uint32_t lo, hi;

	if (!__builtin_cpu_supports("avx"))
		return; /* the guest would have fewer components as well */
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	for (unsigned i = 0; i < 400; i++) {
		struct rig *r = rig_new(RIG_64);
		uint8_t image[1024] = { 0 };
		uint32_t mask, host;
		int vector;

		for (unsigned bits = 0; bits < 1 + i % 5; bits++) {
			static const uint16_t words[] = { 512, 512, 520, 520, 528, 568, 24 };
			unsigned at, bit;

			seed = seed * 6364136223846793005u + 1442695040888963407u;
			at = words[(seed >> 33) % 7];
			bit = (seed >> 40) % (at == 24 ? 32 : 64);
			if (at <= 520 && at >= 512 && (seed >> 50) % 4)
				bit = (seed >> 52) % 4 == 3 ? 63 : (seed >> 52) % 4;
			image[at + bit / 8] |= (uint8_t)(1u << (bit % 8));
		}
		/* Components that only the host has are not to be compared. */
		memcpy(bv, image + 512, sizeof(bv));
		bv[0] &= ~((lo & ~7u) | (uint64_t)hi << 32);
		bv[1] &= ~((lo & ~7u) | (uint64_t)hi << 32);
		memcpy(image + 512, bv, sizeof(bv));
		mask = (seed >> 60) & 7;
		r->sregs.cr4 |= 0x40000;
		r->sregs.xcr0 = 7;
		memcpy(r->ram + RIG_DATA, image, sizeof(image));
		r->regs.rax = mask;
		vector = RUN(r, restore_mask);
		host = host_refuses(image, mask);
		if ((vector == 13) != host)
			printf("\n  area %u: vector %d, host %s; bv %#llx %#llx mask %u mxcsr %#x\n", i,
			       vector, host ? "refuses" : "takes it",
			       (unsigned long long)rig_get(r, RIG_DATA + 512, 8),
			       (unsigned long long)rig_get(r, RIG_DATA + 520, 8), mask,
			       (unsigned)rig_get(r, RIG_DATA + 24, 4));
		CU_ASSERT(vector == 13 || vector == RIG_DONE);
		CU_ASSERT_EQUAL(vector == 13, host);
		rig_free(r);
	}
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "XSAVE and relatives", test_xsave },
		{ "XSAVES", test_xsaves },
		{ "XRSTOR refuses what the host's refuses", test_xrstor_areas },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("extended state", tests));
}
