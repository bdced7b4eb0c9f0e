/* SPDX-License-Identifier: Apache-2.0 */
/* compare.c - do two outcomes of a case agree, and if not, in what. */
#include "tests/insn/insn.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
	DIFF_STATUS = 1, DIFF_VECTOR = 2, DIFF_ERROR = 4, DIFF_CR2 = 8, DIFF_RIP = 16, DIFF_FLAGS = 32,
	DIFF_GPR = 64, DIFF_X87 = 128, DIFF_MXCSR = 256, DIFF_VECTORS = 512, DIFF_MEMORY = 1024,
};

static const char *const diff_names[] = { "status", "vector", "error code", "cr2", "rip", "flags",
					  "registers", "x87", "mxcsr", "xmm/ymm", "memory" };
static const char *const gpr_names[] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
					 "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15" };

const char *gpr_name(unsigned i)
{
	return gpr_names[i];
}

static bool has_error_code(unsigned vector)
{
	return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17;
}

static bool is_memory_fault(unsigned vector)
{
	return vector >= 12 && vector <= 14;
}

#define NOT_USERS ((1ull << 47) - 4096) /* Linux gives the last page to nobody */

/* Which bits of a page fault's error code can agree. Linux reports addresses that can't be a program's as
 * present, and the guest has its own kernel there; CPL 0 differs in U by design. */
static uint32_t error_mask(unsigned cpl, const struct outcome *native)
{
	uint32_t mask = ~0u;

	if (native->vector == 14) {
		mask = 0x17;
		if (native->cr2 >= NOT_USERS)
			mask &= ~1u;
		if (cpl != 3)
			mask &= ~4u;
	}
	return mask;
}

/* A fault of an only instruction leaves all flags as they were; but it may be the next page's, where
 * the instruction went on: then it is done. */
static uint64_t flags_mask(const struct test_case *tc, const struct outcome *native)
{
	uint32_t undefined = native->vector == 3 ? 0 : tc->undefined_anywhere;

	if (native->vector == 3 || native->out.rip != tc->code_va)
		undefined |= tc->undefined;
	return FL_COMPARED & ~undefined;
}

uint32_t compare(const struct test_case *tc, unsigned cpl, const struct outcome *n,
		 const struct outcome *g)
{
	const unsigned gprs = tc->mode == MODE_64 ? 16 : 8, ymms = tc->mode == MODE_64 ? 16 : 8;
	const uint64_t mask = tc->mode == MODE_64 ? ~0ull : 0xffffffffull;
	uint32_t diff = 0;

	if (n->status != g->status)
		return DIFF_STATUS;
	if (n->status != RAN)
		return 0;
	if (tc->any_fault && is_memory_fault(n->vector) && is_memory_fault(g->vector))
		diff = 0;
	else if (n->vector != g->vector)
		diff |= DIFF_VECTOR;
	else if (has_error_code(n->vector) && ((n->error_code ^ g->error_code) & error_mask(cpl, n)))
		diff |= DIFF_ERROR;
	if (n->vector == 14 && g->vector == 14 && n->cr2 != g->cr2 && !tc->any_fault)
		diff |= DIFF_CR2;
	if ((n->out.rip ^ g->out.rip) & mask)
		diff |= DIFF_RIP;
	if ((n->out.rflags ^ g->out.rflags) & flags_mask(tc, n))
		diff |= DIFF_FLAGS;
	for (unsigned i = 0; i < gprs; i++) {
		if ((n->out.gpr[i] ^ g->out.gpr[i]) & mask)
			diff |= DIFF_GPR;
	}
	if (n->out.xs.fcw != g->out.xs.fcw || n->out.xs.fsw != g->out.xs.fsw ||
	    n->out.xs.ftw != g->out.xs.ftw ||
	    memcmp(n->out.xs.st, g->out.xs.st, sizeof(n->out.xs.st)) != 0)
		diff |= DIFF_X87;
	if (n->out.xs.mxcsr != g->out.xs.mxcsr)
		diff |= DIFF_MXCSR;
	if (memcmp(n->out.xs.ymm, g->out.xs.ymm, ymms * 32) != 0)
		diff |= DIFF_VECTORS;
	if (memcmp(n->mem, g->mem, MEM_SIZE) != 0 || memcmp(n->stack, g->stack, STACK_SIZE) != 0)
		diff |= DIFF_MEMORY;
	return diff;
}

void disassemble(const struct test_case *tc)
{
	const uint64_t end = tc->code_len;
	uint64_t at = 0;

	while (at < end) {
		ZydisDisassembledInstruction d;

		if (ZYAN_FAILED(ZydisDisassembleIntel(tc->mode == MODE_64 ?
							      ZYDIS_MACHINE_MODE_LONG_64 :
							      ZYDIS_MACHINE_MODE_LEGACY_32,
						      tc->code_va + at, tc->code + at, end - at, &d))) {
			printf("    %08" PRIx64 "  %02x ...\n", tc->code_va + at, tc->code[at]);
			return;
		}
		printf("    %08" PRIx64 "  ", tc->code_va + at);
		for (unsigned i = 0; i < d.info.length; i++)
			printf("%02x", tc->code[at + i]);
		printf("%*s%s\n", 24 - 2 * d.info.length > 1 ? 24 - 2 * d.info.length : 1, "", d.text);
		at += d.info.length;
	}
}

static void print_bytes(const char *what, const uint8_t *in, const uint8_t *n, const uint8_t *g,
			unsigned len)
{
	const uint8_t *const rows[] = { in, n, g };
	static const char *const names[] = { "before", "native", "guest" };

	for (unsigned r = 0; r < 3; r++) {
		if (!rows[r])
			continue;
		printf("    %-8s %-7s", r == 0 || (!in && r == 1) ? what : "", names[r]);
		for (unsigned i = len; i-- > 0;)
			printf("%02x%s", rows[r][i], i && i % 8 == 0 ? "_" : "");
		printf("\n");
	}
}

static void report_memory(uint64_t va, const uint8_t *n, const uint8_t *g, unsigned size)
{
	unsigned shown = 0;

	for (unsigned i = 0; i < size && shown < 6; i += 8) {
		char what[32];

		if (memcmp(n + i, g + i, 8) == 0)
			continue;
		snprintf(what, sizeof(what), "%08x", (unsigned)va + i);
		print_bytes(what, NULL, n + i, g + i, 8);
		shown++;
	}
}

static void report_registers(const struct test_case *tc, const struct outcome *n,
			     const struct outcome *g)
{
	for (unsigned i = 0; i < (tc->mode == MODE_64 ? 16u : 8u); i++) {
		if (n->out.gpr[i] != g->out.gpr[i])
			printf("    %-8s before %016" PRIx64 "  native %016" PRIx64
			       "  guest %016" PRIx64 "\n",
			       gpr_names[i], tc->in.gpr[i], n->out.gpr[i], g->out.gpr[i]);
	}
	if ((n->out.rflags ^ g->out.rflags) & flags_mask(tc, n))
		printf("    rflags   before %06" PRIx64 "  native %06" PRIx64 "  guest %06" PRIx64
		       "  (compared %06" PRIx64 ")\n",
		       tc->in.rflags, n->out.rflags, g->out.rflags, flags_mask(tc, n));
	for (unsigned i = 0; i < 16; i++) {
		char what[16];

		snprintf(what, sizeof(what), "ymm%u", i);
		if (memcmp(n->out.xs.ymm[i], g->out.xs.ymm[i], 32) != 0)
			print_bytes(what, tc->in.xs.ymm[i], n->out.xs.ymm[i], g->out.xs.ymm[i], 32);
		snprintf(what, sizeof(what), "st%u", i);
		if (i < 8 && memcmp(n->out.xs.st[i], g->out.xs.st[i], 16) != 0)
			print_bytes(what, tc->in.xs.st[i], n->out.xs.st[i], g->out.xs.st[i], 10);
	}
	if (n->out.xs.fcw != g->out.xs.fcw || n->out.xs.fsw != g->out.xs.fsw ||
	    n->out.xs.ftw != g->out.xs.ftw || n->out.xs.mxcsr != g->out.xs.mxcsr)
		printf("    fcw/fsw/ftw/mxcsr before %04x/%04x/%02x/%08x native %04x/%04x/%02x/%08x guest "
		       "%04x/%04x/%02x/%08x\n",
		       tc->in.xs.fcw, tc->in.xs.fsw, tc->in.xs.ftw, tc->in.xs.mxcsr, n->out.xs.fcw,
		       n->out.xs.fsw, n->out.xs.ftw, n->out.xs.mxcsr, g->out.xs.fcw, g->out.xs.fsw,
		       g->out.xs.ftw, g->out.xs.mxcsr);
}

static void print_end(const char *who, const struct outcome *o)
{
	static const char *const statuses[] = { "?", "ran", "hung", "died", "engine failed" };

	printf("    %-8s %s", who, statuses[o->status <= ENGINE_FAILED ? o->status : 0]);
	if (o->status == RAN) {
		printf(", vector %u at rip %016" PRIx64, o->vector, o->out.rip);
		if (has_error_code(o->vector))
			printf(", error code %#x", o->error_code);
		if (o->vector == 14)
			printf(", cr2 %016" PRIx64, o->cr2);
	} else if (o->why[0]) {
		printf(": %s", o->why);
	}
	printf("\n");
}

void report(const struct test_case *tc, unsigned cpl, const struct outcome *n,
	    const struct outcome *g, const char *how)
{
	const uint32_t diff = compare(tc, cpl, n, g);

	printf("%s %s, %s-bit, CPL %u, %s: --seed %" PRIu64 " --case %" PRIu64 "%s --mode %s: differ in",
	       diff ? "FAIL" : "same", tc->name, tc->mode == MODE_64 ? "64" : "32", cpl, how, tc->seed, tc->index,
	       tc->program ? " --kind program" : "", tc->mode == MODE_64 ? "64" : "32");
	for (unsigned i = 0; i < sizeof(diff_names) / sizeof(diff_names[0]); i++) {
		if (diff >> i & 1)
			printf(" [%s]", diff_names[i]);
	}
	printf("\n");
	if (!tc->program)
		disassemble(tc);
	print_end("native", n);
	print_end("guest", g);
	if (n->status == RAN && g->status == RAN) {
		report_registers(tc, n, g);
		report_memory(MEM_VA, n->mem, g->mem, MEM_SIZE);
		report_memory(STACK_VA, n->stack, g->stack, STACK_SIZE);
	}
}
