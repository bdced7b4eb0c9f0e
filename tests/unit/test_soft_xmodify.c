/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_soft_xmodify.c - one processor changes the code that another one runs (SDM 3A 8.1.3): the other runs
 * the old or the new code, never a mix, and after it has serialized only the new, in each way that the
 * engine can run a guest.
 *
 * The writer, processor 0, makes version after version; the reader calls the code and checks what it says.
 */
#include <unistd.h>

#include "common/checked.h"
#include "tests/unit/soft_modes.h"
#include "tests/unit/soft_second.h"

#define READER (CODE + 0x800)
#define BREAKPOINT (CODE + 0xf00)
#define LIMIT_MS 100u /* the writer makes no more versions then */

/* Shared between the processors, and what has these addresses below. */
#define VERSION "0x30000" /* all that is older has gone */
#define STOP "0x30008"    /* the writer should */
#define DONE "0x30010"    /* it has */
#define WRONG "0x30018"
#define SYNC "0x30020"    /* the reader should serialize; ACK: it has, for that SYNC */
#define ACK "0x30028"
#define TRAPS "0x30030"
#define CALLS "0x30038"

/* --- the writer ------------------------------------------------------------------------------------- */

/* R12D: the version. Each has been run, or could have been, before the next one is made. */
#define WRITER(code) \
	"xor %r12d,%r12d\n mov $2000,%ecx\n 1: cmpl $20," CALLS "\n jb 1b\n" \
	"2: inc %r12d\n" code "mov %r12d," VERSION "\n" \
	"mov " CALLS ",%edx\n 3: pause\n cmp %edx," CALLS "\n je 3b\n" \
	"cmpl $0," STOP "\n jne 4f\n dec %ecx\n jnz 2b\n 4: movl $1," DONE "\n hlt\n"
/* EAX: the version and its complement, so that a mix of two shows. */
#define VALUE "mov %r12d,%eax\n not %eax\n shl $16,%eax\n movzwl %r12w,%esi\n or %esi,%eax\n"
#define SYNC_ALL "incl " SYNC "\n mov " SYNC ",%edx\n 5: pause\n cmp %edx," ACK "\n jne 5b\n"

/* --- the reader ------------------------------------------------------------------------------------- */

/* R13D: the oldest version that may be seen; in `check` R14D: the newest. */
#define READ(look, call, check) \
	"mov $0x58000,%esp\n xor %r15d,%r15d\n 1: mov " SYNC ",%edx\n mov " VERSION ",%r13d\n" SERIALIZE look \
	"mov %edx," ACK "\n" call "mov " VERSION ",%r14d\n inc %r14d\n inc %r15d\n" check \
	"2: incl " CALLS "\n cmpl $0," DONE "\n je 1b\n hlt\n"
#define SERIALIZE "mov %cr2,%rsi\n mov %rsi,%cr2\n"
#define CALL(at) "mov $-1,%eax\n mov $" at ",%ebx\n call *%rbx\n"
/* EAX is no mix, and neither too old nor too new. */
#define CHECK_VALUE \
	"mov %eax,%esi\n shr $16,%esi\n xor %eax,%esi\n movzwl %si,%esi\n movzwl %ax,%eax\n" \
	"cmp $0xffff,%esi\n jne 7f\n cmp %r13d,%eax\n jb 7f\n cmp %r14d,%eax\n jbe 2f\n" \
	"7: movl $1," WRONG "\n mov %eax," WRONG "+4\n"

/* --- what is changed -------------------------------------------------------------------------------- */

/* An immediate, aligned: mov $value,%eax; ret. */
#define IMM_AT 0x21010u
PAYLOAD(imm_code, "nop\n nop\n nop\n mov $0xffff0000,%eax\n ret");
PAYLOAD(imm_writer, WRITER(VALUE "mov %eax,0x21014\n"));
PAYLOAD(imm_reader, READ("", CALL("0x21010"), CHECK_VALUE));

/* A jump, which goes to one of 16 places: eight bytes at once. */
#define JUMP_AT 0x21100u
PAYLOAD(jump_code, "jmp 1f\n .org payload_jump_code+0x100\n .set k,0\n"
		   "1: .rept 16\n mov $k,%eax\n ret\n .skip 10,0xcc\n .set k,k+1\n .endr");
PAYLOAD(jump_writer, WRITER("mov %r12d,%eax\n and $15,%eax\n shl $4,%eax\n add $0xfb,%eax\n shl $8,%rax\n"
			    "mov $0xe9,%al\n mov %rax,0x21100\n"));
PAYLOAD(jump_reader, READ("", CALL("0x21100"),
			  "sub %r13d,%eax\n and $15,%eax\n sub %r13d,%r14d\n cmp %r14d,%eax\n jbe 2f\n"
			  "movl $1," WRONG "\n"));

/* An instruction anywhere, over a line's or a page's end: INT3 first, then the rest, then the first byte,
 * the reader told in between. */
#define POKE(at, rest) \
	WRITER("movb $0xcc," at "\n" SYNC_ALL VALUE "mov %eax," rest "\n" SYNC_ALL "movb $0xb8," at "\n" SYNC_ALL)
#define LINE_AT 0x2133du
#define PAGE_AT 0x21ffdu
PAYLOAD(poke_code, "mov $0xffff0000,%eax\n ret");
PAYLOAD(line_writer, POKE("0x2133d", "0x2133e"));
PAYLOAD(page_writer, POKE("0x21ffd", "0x21ffe"));
#define NOT_TRAPPED "cmp $-1,%eax\n je 2f\n"
PAYLOAD(line_reader, READ("", CALL("0x2133d"), NOT_TRAPPED CHECK_VALUE));
PAYLOAD(page_reader, READ("", CALL("0x21ffd"), NOT_TRAPPED CHECK_VALUE));
/* Goes on behind the five bytes. */
PAYLOAD(breakpoint, "addq $4,(%rsp)\n incl " TRAPS "\n iretq");

/* The whole page: the other of two at that address, changed where it is not mapped. */
#define SWAP_A 0x100000u
#define SWAP_B 0x101000u
PAYLOAD(swap_writer, WRITER(VALUE "mov %r12d,%ebx\n and $1,%ebx\n shl $12,%ebx\n add $0x100000,%ebx\n"
				  "mov %eax,4(%rbx)\n or $3,%ebx\n mov %rbx,0x8008\n" SYNC_ALL));
PAYLOAD(swap_reader, READ("invlpg 0x201000\n", CALL("0x201000"), CHECK_VALUE));

/* Code that writes to its page, where the writer writes data too. */
#define MIXED_AT 0x23000u
PAYLOAD(mixed_code, "incl 0x23800\n mov $0xffff0000,%eax\n ret"); /* the immediate is at 8 */
PAYLOAD(mixed_writer, WRITER("incl 0x23840\n" VALUE "mov %eax,0x23008\n incl 0x23804\n"));
PAYLOAD(mixed_reader, READ("", CALL("0x23000"), "cmp %r15d,0x23800\n jne 7f\n" CHECK_VALUE));

/* A loop that ends only when its code is another. */
#define LOOP_AT 0x24003u
PAYLOAD(loop_code, "1: mov $0xffff0000,%eax\n cmp %eax,%edi\n je 1b\n ret");
PAYLOAD(loop_writer, "xor %r12d,%r12d\n mov $2000,%ecx\n 2: inc %r12d\n mov " CALLS ",%edx\n" VALUE
		     "mov %eax,0x24004\n mov %r12d," VERSION "\n 3: pause\n cmp %edx," CALLS "\n je 3b\n"
		     "cmpl $0," STOP "\n jne 4f\n dec %ecx\n jnz 2b\n 4: movl $1," DONE "\n inc %r12d\n" VALUE
		     "mov %eax,0x24004\n hlt\n");
PAYLOAD(loop_reader, "mov $0xffff0000,%edi\n"
	READ("", "cmpl $0," DONE "\n jne 2f\n" CALL("0x24003"), "mov %eax,%edi\n" CHECK_VALUE));

#define PART(name) payload_##name, payload_##name##_end
struct part {
	uint32_t at;
	const uint8_t *from, *to;
};

static const struct scenario {
	const char *name;
	struct part part[4]; /* writer, reader, code */
	bool traps;
} scenarios[] = {
	{ "an immediate", { { CODE, PART(imm_writer) }, { READER, PART(imm_reader) },
			  { IMM_AT, PART(imm_code) } }, false },
	{ "a jump", { { CODE, PART(jump_writer) }, { READER, PART(jump_reader) },
			  { JUMP_AT, PART(jump_code) } }, false },
	{ "over a line's end", { { CODE, PART(line_writer) }, { READER, PART(line_reader) },
				 { LINE_AT, PART(poke_code) } }, true },
	{ "over a page's end", { { CODE, PART(page_writer) }, { READER, PART(page_reader) },
				 { PAGE_AT, PART(poke_code) } }, true },
	{ "a page", { { CODE, PART(swap_writer) }, { READER, PART(swap_reader) }, { SWAP_A, PART(imm_code) },
		      { SWAP_B, PART(imm_code) } }, false },
	{ "code and data", { { CODE, PART(mixed_writer) }, { READER, PART(mixed_reader) },
			     { MIXED_AT, PART(mixed_code) } }, false },
	{ "a loop", { { CODE, PART(loop_writer) }, { READER, PART(loop_reader) },
			  { LOOP_AT, PART(loop_code) } }, false },
};

/* --- running ---------------------------------------------------------------------------------------- */

static uint32_t *shared(struct guest *g, const char *name)
{
	return (uint32_t *)(void *)(g->ram + strtoul(name, NULL, 0));
}

static void *stop_later(void *ram)
{
	struct guest g = { .ram = ram };

	for (unsigned ms = 0; ms < LIMIT_MS && !__atomic_load_n(shared(&g, DONE), __ATOMIC_RELAXED); ms++)
		usleep(1000);
	__atomic_store_n(shared(&g, STOP), 1, __ATOMIC_RELAXED);
	return NULL;
}

static void run(const struct scenario *sc)
{
	struct second reader;
	pthread_t stopper;
	struct guest g;

	soft_start(&g);
	for (unsigned i = 0; i < ARRAY_SIZE(sc->part) && sc->part[i].from; i++)
		memcpy(g.ram + sc->part[i].at, sc->part[i].from, (size_t)(sc->part[i].to - sc->part[i].from));
	LOAD(&g, BREAKPOINT, breakpoint);
	set_gate(&g, 3, BREAKPOINT, 0);
	set_pte(&g, 1, SWAP_A | PTE_RW);
	alarm(60); /* processors that do not see each other's code wait for ever */
	second_start(&reader, &g, READER);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&stopper, NULL, stop_later, g.ram), 0);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	pthread_join(reader.thread, NULL);
	pthread_join(stopper, NULL);
	alarm(0);
	CU_ASSERT_EQUAL(reader.result, VMX_EXIT_HALT);
	CU_ASSERT_EQUAL(*shared(&g, WRONG), 0);
	CU_ASSERT_TRUE(*shared(&g, VERSION) > 0);
	if (*shared(&g, WRONG))
		printf("\n    %s: wrong after %u versions\n", sc->name, *shared(&g, VERSION));
	if (!sc->traps)
		CU_ASSERT_EQUAL(*shared(&g, TRAPS), 0);
	guest_destroy(&g);
}

static void test_scenarios(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++)
		run(&scenarios[i]);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "code that another processor changes", test_scenarios },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(SOFT_SUITES(tests));
}
