/* SPDX-License-Identifier: Apache-2.0 */
/* test_soft_runs.c - accesses that find a run of pages in one entry (runs.c), which are mapped a second time
 * for that (alias.c), and everything that must end such a run. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/soft_guest.h"
#include "tests/unit/unit.h"

#define AREA 0x210000u /* PT1 entries from FIRST on */
#define FIRST 16u
#define PAGES 32u
#define PAGE 4096u
#define FRAMES 0x140000u /* what they lead to, in another order */
#define OTHERS 0x180000u /* PAGES more frames */
#define TABLES 0x1c0000u
#define FAULTED (CODE + 0xf000)
#define TURNS (100u * PAGES)
#define APART (128u << 20) /* SOFT_ALIAS_PAGES */

/* r12: base; the offset r13 goes on by rdx under the mask r14; ecx times. Each access is one instruction. */
#define TURN "1: lea (%r12,%r13),%rsi\n call 2f\n add %rdx,%r13\n and %r14,%r13\n dec %ecx\n jnz 1b\n hlt\n"
PAYLOAD(loads, TURN "2: mov (%rsi),%rax\n add %rax,%rbx\n ret");
PAYLOAD(stores, TURN "2: mov %rbx,(%rsi)\n ret");
PAYLOAD(indexed, TURN "2: mov (%r12,%r13),%rax\n add %rax,%rbx\n ret");
PAYLOAD(groups, TURN "2: mov (%rsi),%rax\n add 8(%rsi),%rax\n mov %rax,16(%rsi)\n add %rax,%rbx\n ret");
PAYLOAD(invlpg, "invlpg (%rsi)\n hlt");
PAYLOAD(set_cr3, "mov %rsi,%cr3\n hlt");
PAYLOAD(call, "call *%rsi\n hlt");
PAYLOAD(edge_1, TURN "2: movb (%rsi),%al\n ret");
PAYLOAD(edge_2, TURN "2: movw (%rsi),%ax\n ret");
PAYLOAD(edge_4, TURN "2: movl (%rsi),%eax\n ret");
PAYLOAD(edge_8, TURN "2: movq (%rsi),%rax\n ret");
PAYLOAD(edge_16, TURN "2: movups (%rsi),%xmm0\n ret");
PAYLOAD(edge_24, TURN "2: mov (%rsi),%rax\n add 16(%rsi),%rax\n ret");
PAYLOAD(edge_w1, TURN "2: movb %al,(%rsi)\n ret");
PAYLOAD(edge_w8, TURN "2: movq %rax,(%rsi)\n ret");

static uint64_t frame(unsigned page)
{
	return FRAMES + (page * 11 + 3) % PAGES * PAGE;
}

static void set_page(struct guest *g, unsigned page, uint64_t entry)
{
	set_pte(g, FIRST + page, entry);
}

/* Each page holds its number + 1, at 0 and at 8. */
static void create(struct guest *g)
{
	if (guest_create(g, VMX_SOFT_RUNS) < 0)
		CU_FAIL_FATAL("guest_create");
	g->ram[FAULTED] = 0xf4;
	set_gate(g, 14, FAULTED, 0);
	for (unsigned i = 0; i < PAGES; i++) {
		set_page(g, i, frame(i) | PTE_RW);
		*q(g, frame(i)) = *q(g, frame(i) + 8) = i + 1;
		*q(g, OTHERS + i * PAGE) = 1000 + i;
	}
}

/* Each payload has its own place, so that what was translated stays. */
static uint64_t load(struct guest *g, const uint8_t *from, const uint8_t *to)
{
	uint64_t at = CODE + ((uintptr_t)from & 0x7fff);

	if (memcmp(g->ram + at, from, (size_t)(to - from)) != 0) {
		memcpy(g->ram + at, from, (size_t)(to - from));
		CU_ASSERT_EQUAL(vmx_vm_written(g->vm, at, (size_t)(to - from)), 0);
	}
	return at;
}

static void go(struct guest *g, const uint8_t *from, const uint8_t *to)
{
	guest_set_reg(g, VMX_RIP, load(g, from, to));
	guest_set_reg(g, VMX_RSP, STACK);
	CU_ASSERT_EQUAL(guest_resume(g), VMX_EXIT_HALT);
}
#define GO(g, name) go(g, payload_##name, payload_##name##_end)

static void set_turns(struct guest *g, uint64_t base, unsigned pages, unsigned turns)
{
	guest_set_reg(g, VMX_R12, base);
	guest_set_reg(g, VMX_R13, 0);
	guest_set_reg(g, VMX_R14, (uint64_t)pages * PAGE - 1);
	guest_set_reg(g, VMX_RDX, 7 * PAGE);
	guest_set_reg(g, VMX_RCX, turns);
	guest_set_reg(g, VMX_RBX, 0);
}
#define ALL(g, name) (set_turns(g, AREA, PAGES, TURNS), GO(g, name), guest_reg(g, VMX_RBX))

static void invalidate(struct guest *g, unsigned page)
{
	guest_set_reg(g, VMX_RSI, AREA + page * PAGE);
	GO(g, invlpg);
}

#define SUM ((uint64_t)TURNS / PAGES * (PAGES * (PAGES + 1) / 2))

static void check_stored(struct guest *g, uint64_t value)
{
	for (unsigned i = 0; i < PAGES; i++)
		CU_ASSERT_EQUAL(*q(g, frame(i)), value);
}

/* Each page is missed once or twice, and then no more. */
static void test_hits(void)
{
	struct guest g;
	uint64_t runs;

	create(&g);
	CU_ASSERT_EQUAL(ALL(&g, loads), SUM);
	runs = guest_stat(&g, "tlb_runs");
	CU_ASSERT_TRUE(runs >= 1 && runs < 10 * PAGES);
	CU_ASSERT_TRUE(guest_stat(&g, "tlb_alias_pages") >= PAGES);
	CU_ASSERT_EQUAL(ALL(&g, indexed), SUM);
	CU_ASSERT_TRUE(guest_stat(&g, "tlb_runs") < runs + 10 * PAGES);
	guest_destroy(&g);
}

/* Of memory that cannot be mapped twice, a run is what lies together by itself. */
static void test_natural(void)
{
	const uint32_t flags = VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC;
	struct guest g;
	uint64_t runs;

	create(&g);
	CU_ASSERT_EQUAL(vmx_vm_map(g.vm, 0, RAM_SIZE, g.ram, flags), 0);
	CU_ASSERT_EQUAL(ALL(&g, loads), SUM);
	runs = guest_stat(&g, "tlb_runs");
	CU_ASSERT_TRUE(runs > TURNS / 2);
	for (unsigned i = 0; i < PAGES; i++)
		set_page(&g, i, (OTHERS + i * PAGE) | PTE_RW);
	guest_set_reg(&g, VMX_RSI, PML4);
	GO(&g, set_cr3);
	CU_ASSERT_EQUAL(ALL(&g, loads), TURNS / PAGES * (1000 * PAGES + PAGES * (PAGES - 1) / 2));
	CU_ASSERT_TRUE(guest_stat(&g, "tlb_runs") < runs + 10 * PAGES);
	CU_ASSERT_EQUAL(guest_stat(&g, "tlb_alias_pages"), 0);
	guest_destroy(&g);
}

static void test_invlpg(void)
{
	struct guest g;

	create(&g);
	CU_ASSERT_EQUAL(ALL(&g, loads), SUM);
	for (unsigned i = 0; i < PAGES; i++) {
		set_page(&g, i, (OTHERS + i * PAGE) | PTE_RW);
		invalidate(&g, i);
		CU_ASSERT_EQUAL(ALL(&g, loads), SUM + TURNS / PAGES * (1000 + i - (i + 1)));
		set_page(&g, i, frame(i) | PTE_RW);
		invalidate(&g, i);
	}
	CU_ASSERT_EQUAL(ALL(&g, loads), SUM);
	CU_ASSERT_EQUAL(ALL(&g, groups), 2 * SUM);
	guest_destroy(&g);
}

/* Another address space, with other frames at the same addresses. */
static void test_cr3(void)
{
	struct guest g;

	create(&g);
	memcpy(g.ram + TABLES, g.ram + PML4, PAGE);
	memcpy(g.ram + TABLES + 0x1000, g.ram + PDPT, PAGE);
	memcpy(g.ram + TABLES + 0x2000, g.ram + PD, PAGE);
	*q(&g, TABLES) = (TABLES + 0x1000) | 7;
	*q(&g, TABLES + 0x1000) = (TABLES + 0x2000) | 7;
	q(&g, TABLES + 0x2000)[1] = (TABLES + 0x3000) | 7;
	for (unsigned i = 0; i < PAGES; i++)
		q(&g, TABLES + 0x3000)[FIRST + i] = (OTHERS + i * PAGE) | PTE_RW;
	for (unsigned k = 0; k < 3; k++) {
		CU_ASSERT_EQUAL(ALL(&g, loads), SUM);
		guest_set_reg(&g, VMX_RSI, TABLES);
		GO(&g, set_cr3);
		CU_ASSERT_EQUAL(ALL(&g, loads), TURNS / PAGES * (1000 * PAGES + PAGES * (PAGES - 1) / 2));
		guest_set_reg(&g, VMX_RSI, PML4);
		GO(&g, set_cr3);
	}
	guest_destroy(&g);
}

static uint64_t cr2(struct guest *g)
{
	struct vmx_sregs s = { 0 };

	CU_ASSERT_EQUAL(vmx_vcpu_read_state(g->cpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	return s.cr2;
}

static void test_read_only(void)
{
	const unsigned page = 14; /* the second that is gone to */
	struct guest g;

	create(&g);
	set_turns(&g, AREA, PAGES, TURNS);
	guest_set_reg(&g, VMX_RBX, 5);
	GO(&g, stores);
	check_stored(&g, 5);
	set_page(&g, page, frame(page) | 1);
	invalidate(&g, page);
	set_turns(&g, AREA, PAGES, TURNS);
	guest_set_reg(&g, VMX_RBX, 6);
	GO(&g, stores);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RIP), FAULTED + 1);
	CU_ASSERT_EQUAL(cr2(&g), AREA + page * PAGE);
	CU_ASSERT_EQUAL(*q(&g, frame(0)), 6);
	CU_ASSERT_EQUAL(*q(&g, frame(page)), 5);
	guest_destroy(&g);
}

/* A page of which nobody knows that it was written to is in no run for writes. */
static void test_dirty_bit(void)
{
	const unsigned page = 9;
	struct guest g;

	create(&g);
	CU_ASSERT_EQUAL(ALL(&g, loads), SUM);
	for (unsigned i = 0; i < PAGES; i++) {
		if (i == page)
			continue;
		set_turns(&g, AREA + i * PAGE, 1, 3);
		GO(&g, stores);
	}
	CU_ASSERT_EQUAL(q(&g, PT1)[FIRST + page] & 0x60, 0x20);
	CU_ASSERT_EQUAL(q(&g, PT1)[FIRST + page + 1] & 0x60, 0x60);
	set_turns(&g, AREA, PAGES, TURNS);
	GO(&g, stores);
	CU_ASSERT_EQUAL(q(&g, PT1)[FIRST + page] & 0x60, 0x60);
	guest_destroy(&g);
}

/* The bitmap of pages that were written to, cleared while runs for writes are there. */
static void test_dirty_map(void)
{
	uint64_t bits[RAM_SIZE / PAGE / 64];
	struct guest g;

	create(&g);
	for (unsigned k = 0; k < 3; k++) {
		uint64_t gpa = k == 1 ? frame(3) : 0, size = k == 1 ? PAGE : RAM_SIZE;

		set_turns(&g, AREA, PAGES, TURNS);
		GO(&g, stores);
		CU_ASSERT_EQUAL(vmx_vm_dirty(g.vm, gpa, size, bits, sizeof(bits) / 8), 0);
		for (unsigned i = 0; i < PAGES; i++)
			if (!k)
				CU_ASSERT_TRUE(bits[frame(i) / PAGE / 64] >> frame(i) / PAGE % 64 & 1);
		if (k)
			CU_ASSERT_TRUE(bits[k == 1 ? 0 : frame(3) / PAGE / 64] >>
				       (k == 1 ? 0 : frame(3) / PAGE % 64) & 1);
	}
	guest_destroy(&g);
}

/* mov $n,%eax; ret, in a page that runs for writes had. */
static void test_code(void)
{
	const unsigned page = 14;
	struct guest g;

	create(&g);
	for (unsigned k = 1; k < 4; k++) {
		set_turns(&g, AREA, PAGES, TURNS);
		guest_set_reg(&g, VMX_RBX, 0xc300000000b8 | (uint64_t)k << 8);
		GO(&g, stores);
		guest_set_reg(&g, VMX_RSI, AREA + page * PAGE);
		GO(&g, call);
		CU_ASSERT_EQUAL(guest_reg(&g, VMX_RAX), k);
	}
	guest_destroy(&g);
}

/* An access that ends with the run is in it; one that begins before or ends behind it faults there. */
static void check_edge(struct guest *g, unsigned size, const uint8_t *from, const uint8_t *to)
{
	const uint64_t first = AREA, end = AREA + PAGES * PAGE;
	const struct { uint64_t at, fault; } rows[] = {
		{ first, 0 }, { end - size, 0 }, { end - size - 1, 0 }, { first + PAGE - 1, 0 },
		{ end, end }, { first - 1, first - 1 },
		{ end - size + 1, end }, { end - 1, size > 1 ? end : 0 },
		{ first - size + 1, size > 1 ? first - size + 1 : 0 }, { end + 100 * PAGE, end + 100 * PAGE },
	};

	set_turns(g, AREA, PAGES, TURNS);
	go(g, from, to);
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		set_turns(g, rows[i].at, 1, 3);
		guest_set_reg(g, VMX_R14, 0);
		go(g, from, to);
		CU_ASSERT_EQUAL(guest_reg(g, VMX_RIP) == FAULTED + 1, rows[i].fault != 0);
		if (!rows[i].fault)
			continue;
		/* of a group its first access that does fault */
		if (size == 24 && rows[i].at < end && rows[i].at >= first)
			CU_ASSERT_TRUE(cr2(g) >= end && cr2(g) < end + 16)
		else
			CU_ASSERT_EQUAL(cr2(g), rows[i].fault);
	}
}

static void test_edges(void)
{
	struct guest g;

	create(&g);
#define EDGE(size, name) check_edge(&g, size, payload_##name, payload_##name##_end)
	EDGE(1, edge_1);
	EDGE(2, edge_2);
	EDGE(4, edge_4);
	EDGE(8, edge_8);
	EDGE(16, edge_16);
	EDGE(24, edge_24);
	EDGE(1, edge_w1);
	EDGE(8, edge_w8);
	guest_destroy(&g);
}

/* n pages from there on, which lead to the frames again and again. */
static void map_many(struct guest *g, uint64_t from, unsigned n, unsigned first_table)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t la = from + (uint64_t)i * PAGE, table = TABLES + (first_table + i / 512 + 1) * PAGE;

		if (la >> 21 != (from + (uint64_t)i / 512 * 512 * PAGE) >> 21)
			table += PAGE;
		q(g, PD)[la >> 21] = table | 7;
		q(g, table)[la >> 12 & 511] = frame(i % PAGES) | PTE_RW;
	}
}

/* Across what lies apart in the area of second mappings; two pages for one place there. */
static void test_area(void)
{
	struct guest g;

	create(&g);
	map_many(&g, APART - PAGES / 2 * PAGE, PAGES, 0);
	set_turns(&g, APART - PAGES / 2 * PAGE, PAGES, TURNS);
	GO(&g, loads);
	CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), SUM);
	map_many(&g, APART + AREA, PAGES, 4);
	for (unsigned i = 0; i < PAGES; i++)
		q(&g, TABLES + 5 * PAGE)[FIRST + i] = (OTHERS + i * PAGE) | PTE_RW;
	for (unsigned k = 0; k < 3; k++) {
		CU_ASSERT_EQUAL(ALL(&g, loads), SUM);
		set_turns(&g, AREA, PAGES, PAGES);
		guest_set_reg(&g, VMX_R12, AREA);
		guest_set_reg(&g, VMX_R14, APART);
		guest_set_reg(&g, VMX_RDX, APART);
		GO(&g, loads); /* the first page here and there */
		CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), PAGES / 2 * (1 + 1000));
		set_turns(&g, APART + AREA, PAGES, TURNS);
		GO(&g, loads);
		CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), TURNS / PAGES * (1000 * PAGES + PAGES * (PAGES - 1) / 2));
	}
	guest_destroy(&g);
}

/* The entry that is made anew is itself one of those that are forgotten, as a page of the old run has to give
 * its place to one of the new run. */
static void test_own_place(void)
{
	struct guest g;

	create(&g);
	CU_ASSERT_EQUAL(ALL(&g, indexed), SUM);
	map_many(&g, APART + AREA, PAGES, 0);
	set_turns(&g, APART + AREA + 8 * PAGE, 8, TURNS);
	GO(&g, loads);
	set_page(&g, 0, 0);
	invalidate(&g, 0);
	for (unsigned page = 2; page-- > 0;) {
		set_turns(&g, AREA + page * PAGE, 1, 1);
		GO(&g, loads);
		CU_ASSERT_EQUAL(guest_reg(&g, VMX_RIP) == FAULTED + 1, page == 0);
	}
	guest_destroy(&g);
}

/* More pages than are mapped at a time: others lose their places. */
static void test_many(void)
{
	enum { MANY = 4096 };
	struct guest g;

	create(&g);
	map_many(&g, 0x10000000, MANY, 0);
	for (unsigned k = 0; k < 2; k++) {
		set_turns(&g, 0x10000000, MANY, MANY);
		GO(&g, loads);
		CU_ASSERT_EQUAL(guest_reg(&g, VMX_RBX), MANY / PAGES * (PAGES * (PAGES + 1) / 2));
	}
	CU_ASSERT_EQUAL(ALL(&g, loads), SUM);
	guest_destroy(&g);
}

/* Other memory at a guest-physical address, and none. */
static void test_slots(void)
{
	const uint32_t flags = VMX_MAP_READ | VMX_MAP_WRITE;
	uint8_t *other = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct guest g;

	CU_ASSERT_PTR_NOT_EQUAL_FATAL(other, MAP_FAILED);
	create(&g);
	memcpy(other, &(uint64_t){ 500 }, 8);
	CU_ASSERT_EQUAL(ALL(&g, loads), SUM);
	for (unsigned k = 0; k < 2; k++) {
		CU_ASSERT_EQUAL(vmx_vm_map(g.vm, frame(2), PAGE, other, flags | (k ? VMX_MAP_SHARED : 0)), 0);
		CU_ASSERT_EQUAL(ALL(&g, loads), SUM + TURNS / PAGES * (500 - 3));
	}
	CU_ASSERT_EQUAL(vmx_vm_map(g.vm, frame(2), PAGE, g.ram + frame(2), flags | VMX_MAP_SHARED), 0);
	CU_ASSERT_EQUAL(ALL(&g, loads), SUM);
	memset(other, 0, 8);
	CU_ASSERT_EQUAL(vmx_vm_unmap(g.vm, frame(2), PAGE), 0);
	set_turns(&g, AREA + 2 * PAGE, 1, 1);
	guest_set_reg(&g, VMX_RIP, load(&g, payload_loads, payload_loads_end));
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_MEM);
	CU_ASSERT_EQUAL(g.exit.mem.gpa, frame(2));
	guest_destroy(&g);
	munmap(other, PAGE);
}

/* As of a process that has no more mappings to spend: mmap() over another mapping fails from here on; but not
 * that of a sanitizer, whose memory is to be used. */
static bool refuse_fixed(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PROT_NONE, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[3])),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_FIXED, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

/* What a guest reads of memory that took the host address of other memory, whose second mapping stayed. */
static uint64_t read_anew(void)
{
	const uint32_t flags = VMX_MAP_READ | VMX_MAP_WRITE;
	const int prot = PROT_READ | PROT_WRITE, how = MAP_SHARED | MAP_ANONYMOUS;
	uint8_t *other = mmap(NULL, PAGE, prot, how, -1, 0), *anew = mmap(NULL, PAGE, prot, how, -1, 0);
	struct guest g;

	create(&g);
	if (other == MAP_FAILED || anew == MAP_FAILED || ALL(&g, loads) != SUM)
		return 0;
	if (!refuse_fixed()) {
		puts("no seccomp here: mmap() does not fail");
		fflush(stdout);
		_exit(0);
	}
	memcpy(anew, &(uint64_t){ 700 }, 8);
	if (vmx_vm_map(g.vm, frame(2), PAGE, other, flags) < 0 ||
	    mremap(anew, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, g.ram + frame(2)) != g.ram + frame(2) ||
	    vmx_vm_map(g.vm, frame(2), PAGE, g.ram + frame(2), flags | VMX_MAP_SHARED) < 0)
		return 0;
	return ALL(&g, loads);
}

static void test_mapping_stays(void)
{
	int status = 0;
	pid_t child;

	fflush(NULL);
	child = fork();
	if (child == 0)
		_exit(read_anew() == SUM + TURNS / PAGES * (700 - 3) ? 0 : 1);
	CU_ASSERT_TRUE(child > 0 && waitpid(child, &status, 0) == child);
	CU_ASSERT_EQUAL(status, 0);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "pages in any order are found by one entry", test_hits },
		{ "of memory that is mapped once", test_natural },
		{ "INVLPG of each of its pages", test_invlpg },
		{ "another address space", test_cr3 },
		{ "a page that becomes read-only", test_read_only },
		{ "a page whose D bit is not set", test_dirty_bit },
		{ "the bitmap of dirty pages is cleared", test_dirty_map },
		{ "a page that becomes code", test_code },
		{ "the edges of a run, by size", test_edges },
		{ "the edges of the area, and two pages for one place", test_area },
		{ "a place in the area that is taken from the run that is made anew", test_own_place },
		{ "more pages than there is room for", test_many },
		{ "memory slots that change", test_slots },
		{ "a second mapping that cannot be taken away", test_mapping_stays },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(UNIT_SUITE("runs of pages", tests));
}
