/* SPDX-License-Identifier: Apache-2.0 */
/* memory.c - mappings: arguments, replacing, splitting, rights, dirty bits, changes under a guest. */
#include "tests/contract/contract.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "common/bytes.h"

#define RWX (VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC)
#define AT 0x40000000ull /* where tests map their own pages */
#define PAGE VMX_PAGE_SIZE

static uint8_t *pages(unsigned n)
{
	uint8_t *p = mmap(NULL, n * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(p != MAP_FAILED);
	for (unsigned i = 0; i < n; i++)
		memset(p + i * PAGE, 0x10 + (int)i, PAGE);
	return p;
}

static void map_arguments(struct env *e)
{
	uint8_t *p;

	env_vm(e);
	p = pages(2);
	CHECK_EQ(vmx_vm_map(e->vm, AT, 0, p, RWX), -EINVAL);
	CHECK_EQ(vmx_vm_map(e->vm, AT + 1, PAGE, p, RWX), -EINVAL);
	CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE + 8, p, RWX), -EINVAL);
	CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE, p + 16, RWX), -EINVAL);
	CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE, NULL, RWX), -EINVAL);
	CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE, p, 0), -EINVAL);
	CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE, p, VMX_MAP_WRITE), -EINVAL);
	CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE, p, RWX | 1u << 30), -EINVAL);
	CHECK_EQ(vmx_vm_map(e->vm, 0 - (uint64_t)PAGE, PAGE, p, RWX), -ERANGE);
	CHECK_EQ(vmx_vm_map(e->vm, 1ull << 52, PAGE, p, RWX), -ERANGE);
	CHECK_EQ(vmx_vm_map(e->vm, AT, 0 - (uint64_t)PAGE, p, RWX), -ERANGE);
	CHECK_EQ(vmx_vm_unmap(e->vm, AT, PAGE), -ENOENT);
	CHECK_EQ(vmx_vm_unmap(e->vm, AT, 0), -EINVAL);
	CHECK_EQ(vmx_vm_unmap(e->vm, AT + 1, PAGE), -EINVAL);
	CHECK_EQ(vmx_vm_unmap(e->vm, 1ull << 52, PAGE), -ERANGE);
	CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE, p, RWX), 0);
	CHECK_EQ(vmx_vm_unmap(e->vm, AT, PAGE), 0);
	CHECK_EQ(vmx_vm_unmap(e->vm, AT, PAGE), -ENOENT);
	CHECK_EQ(vmx_vm_written(e->vm, 1ull << 52, 1), -ERANGE);
	CHECK_EQ(vmx_vm_written(e->vm, ~0ull, 2), -ERANGE);
	CHECK_EQ(vmx_vm_written(e->vm, AT, 0), 0);
	CHECK_EQ(vmx_vm_written(e->vm, AT, PAGE), 0); /* nothing there: nothing to forget */
}

/* Reads a byte at each of the addresses in rsi's list: MEM exits tell what is unmapped. */
PAYLOAD(peek, ".code64\n"
	"1: mov (%rdi), %al\n out %al, $0x10\n add $4096, %rdi\n jmp 1b");

/* What a guest sees in page n from AT: its byte, or -1 where nothing is mapped. */
static int see(struct env *e, unsigned n)
{
	int r;

	set_reg(e, VMX_RIP, CODE);
	set_reg(e, VMX_RDI, AT + n * PAGE);
	CHECK_EQ(vmx_vcpu_resume(e->vcpu, &e->exit), 0);
	if (e->exit.reason == VMX_EXIT_MEM) {
		CHECK_EQ(e->exit.mem.gpa, AT + n * PAGE);
		e->exit.mem.buf[0] = 0;
		expect_out(e, 0x10);
		return -1;
	}
	CHECK_EQ(e->exit.reason, VMX_EXIT_IO);
	r = *(uint8_t *)e->exit.io.buf;
	return r;
}

static void map_replaces(struct env *e)
{
	uint8_t *a = pages(4), *b = pages(4);

	memset(b, 0x77, 4 * PAGE);
	env_long_payload(e, peek);
	CHECK_EQ(see(e, 0), -1);
	CHECK_EQ(vmx_vm_map(e->vm, AT, 4 * PAGE, a, RWX), 0);
	for (unsigned i = 0; i < 4; i++)
		CHECK_EQ(see(e, i), 0x10 + i);
	CHECK_EQ(see(e, 4), -1);
	CHECK_EQ(vmx_vm_map(e->vm, AT, 4 * PAGE, b, RWX), 0); /* all of it */
	CHECK_EQ(see(e, 0), 0x77);
	CHECK_EQ(see(e, 3), 0x77);
	CHECK_EQ(vmx_vm_map(e->vm, AT + PAGE, 2 * PAGE, a + PAGE, RWX), 0); /* the middle */
	CHECK_EQ(see(e, 0), 0x77);
	CHECK_EQ(see(e, 1), 0x11);
	CHECK_EQ(see(e, 2), 0x12);
	CHECK_EQ(see(e, 3), 0x77);
	CHECK_EQ(vmx_vm_map(e->vm, AT + 2 * PAGE, 3 * PAGE, a, RWX), 0); /* over an end */
	CHECK_EQ(see(e, 1), 0x11);
	CHECK_EQ(see(e, 2), 0x10);
	CHECK_EQ(see(e, 4), 0x12);
}

static void unmap_splits(struct env *e)
{
	uint8_t *a = pages(5);

	env_long_payload(e, peek);
	CHECK_EQ(vmx_vm_map(e->vm, AT, 5 * PAGE, a, RWX), 0);
	CHECK_EQ(see(e, 2), 0x12);
	CHECK_EQ(vmx_vm_unmap(e->vm, AT + 2 * PAGE, PAGE), 0);
	CHECK_EQ(see(e, 0), 0x10);
	CHECK_EQ(see(e, 1), 0x11);
	CHECK_EQ(see(e, 2), -1);
	CHECK_EQ(see(e, 3), 0x13);
	CHECK_EQ(see(e, 4), 0x14);
	/* Over both pieces and the hole. */
	CHECK_EQ(vmx_vm_unmap(e->vm, AT + PAGE, 3 * PAGE), 0);
	CHECK_EQ(see(e, 0), 0x10);
	CHECK_EQ(see(e, 1), -1);
	CHECK_EQ(see(e, 3), -1);
	CHECK_EQ(see(e, 4), 0x14);
}

PAYLOAD(poke, ".code64\n"
	"mov $0x40000000, %edi\n mov (%rdi), %al\n out %al, $0x10\n"
	"movb $0x5a, (%rdi)\n out %al, $0x11\n");

static void read_only(struct env *e)
{
	uint8_t *a = pages(1);

	env_long_payload(e, poke);
	CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE, a, VMX_MAP_READ | VMX_MAP_EXEC), 0);
	CHECK_EQ(expect_out(e, 0x10), 0x10);
	expect(e, VMX_EXIT_MEM);
	CHECK_EQ(e->exit.mem.write, true);
	CHECK_EQ(e->exit.mem.gpa, AT);
	CHECK_EQ(e->exit.mem.size, 1);
	CHECK_EQ(e->exit.mem.buf[0], 0x5a);
	expect_out(e, 0x11); /* it went on, and memory is as before */
	CHECK_EQ(a[0], 0x10);
}

PAYLOAD(call_there, ".code64\n mov $0x40000000, %edi\n call *%rdi\n out %al, $0x10\n");

static void no_exec(struct env *e)
{
	uint8_t *a = pages(1);
	int r;

	env_long_payload(e, call_there);
	r = vmx_vm_map(e->vm, AT, PAGE, a, VMX_MAP_READ | VMX_MAP_WRITE);
	if (r == -ENOTSUP && !e->soft)
		test_skip("KVM cannot take the right to execute away (-ENOTSUP, as vmx.h has it)");
	CHECK_EQ(r, 0);
	a[0] = 0xc3; /* ret */
	expect(e, VMX_EXIT_MEM);
	CHECK_EQ(e->exit.mem.exec, true);
	CHECK_EQ(e->exit.mem.gpa, AT);
	CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE, a, RWX), 0);
	expect_out(e, 0x10); /* the same instruction again, now with the right */
}

/* Writes a byte in page bl from AT, for ever. */
PAYLOAD(scatter, ".code64\n"
	"1: in $0x20, %al\n movzbl %al, %edi\n shl $12, %rdi\n add $0x40000000, %rdi\n"
	"movb $1, (%rdi)\n jmp 1b");

static void guest_writes(struct env *e, const char *list)
{
	for (;; list++) {
		expect(e, VMX_EXIT_IO);
		CHECK_EQ(e->exit.io.port, 0x20);
		if (!*list)
			break;
		*(uint8_t *)e->exit.io.buf = (uint8_t)(*list - '0');
	}
	*(uint8_t *)e->exit.io.buf = 8; /* what the next call begins with */
}

static uint64_t dirty(struct env *e, unsigned from, unsigned n)
{
	uint64_t map[2] = { 0, 0x5555 };

	CHECK_EQ(vmx_vm_dirty(e->vm, AT + from * PAGE, n * PAGE, map, 1), 0);
	CHECK_EQ(map[1], 0x5555);
	return map[0];
}

static void dirty_log(struct env *e)
{
	uint8_t *a = pages(9);

	env_long_payload(e, scatter);
	CHECK_EQ(vmx_vm_map(e->vm, AT, 9 * PAGE, a, RWX | VMX_MAP_TRACK_DIRTY), 0);
	guest_writes(e, "");
	guest_writes(e, "1377");
	CHECK_EQ(dirty(e, 0, 8), 1u << 1 | 1u << 3 | 1u << 7);
	CHECK_EQ(dirty(e, 0, 8), 0); /* read and clear */
	guest_writes(e, "35");      /* pages that were dirty before are seen again */
	CHECK_EQ(dirty(e, 3, 2), 1); /* a part, with its own bit 0 */
	CHECK_EQ(dirty(e, 0, 8), 1u << 5);
	guest_writes(e, "012");
	CHECK_EQ(vmx_vm_dirty(e->vm, AT, 8 * PAGE, NULL, 0), 0); /* clear only */
	CHECK_EQ(dirty(e, 0, 8), 0);
	CHECK_EQ(vmx_vm_written(e->vm, AT + 2 * PAGE - 1, 2), 0); /* the caller's own writes */
	CHECK_EQ(dirty(e, 0, 8), 1u << 1 | 1u << 2);
}

/* Splitting a mapping loses no dirty bit. */
static void dirty_split(struct env *e)
{
	uint8_t *a = pages(9);

	env_long_payload(e, scatter);
	CHECK_EQ(vmx_vm_map(e->vm, AT, 9 * PAGE, a, RWX | VMX_MAP_TRACK_DIRTY), 0);
	guest_writes(e, "");
	guest_writes(e, "0246");
	CHECK_EQ(vmx_vm_unmap(e->vm, AT + 3 * PAGE, PAGE), 0);
	CHECK_EQ(dirty(e, 0, 3), 5);
	CHECK_EQ(dirty(e, 4, 4), 5);
	guest_writes(e, "57");
	CHECK_EQ(vmx_vm_map(e->vm, AT + 3 * PAGE, PAGE, a, RWX | VMX_MAP_TRACK_DIRTY), 0);
	CHECK_EQ(dirty(e, 0, 8), 1u << 5 | 1u << 7); /* over three mappings */
}

static void dirty_arguments(struct env *e)
{
	uint64_t map[4] = { 0 };
	uint8_t *a = pages(4);

	env_vm(e);
	CHECK_EQ(vmx_vm_dirty(e->vm, 0, PAGE, map, 1), -ENOENT); /* RAM is not tracked */
	CHECK_EQ(vmx_vm_dirty(e->vm, AT, PAGE, map, 1), -ENOENT); /* nothing there */
	CHECK_EQ(vmx_vm_map(e->vm, AT, 4 * PAGE, a, RWX | VMX_MAP_TRACK_DIRTY), 0);
	CHECK_EQ(vmx_vm_dirty(e->vm, AT, 5 * PAGE, map, 1), -ENOENT); /* not wholly */
	CHECK_EQ(vmx_vm_dirty(e->vm, AT, 0, map, 1), -EINVAL);
	CHECK_EQ(vmx_vm_dirty(e->vm, AT + 8, PAGE, map, 1), -EINVAL);
	CHECK_EQ(vmx_vm_dirty(e->vm, AT, PAGE, NULL, 1), -EINVAL);
	CHECK_EQ(vmx_vm_dirty(e->vm, AT, 4 * PAGE, map, 0), -ENOBUFS);
	CHECK_EQ(vmx_vm_dirty(e->vm, AT, 4 * PAGE, map, 4), 0);
}

PAYLOAD(read_loop, ".code64\n"
	"mov $0x40000000, %edi\n 1: mov (%rdi), %al\n cmp $0x20, %al\n jb 1b\n"
	"mov 4096(%rdi), %bl\n out %al, $0x10\n jmp 1b");

static void *remap(void *arg)
{
	struct env *e = arg;
	uint8_t *p[2] = { pages(2), pages(2) };

	for (int i = 0; i < 40; i++) {
		memset(p[i & 1], i & 8, PAGE);
		CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE, p[i & 1], RWX), 0);
		/* On return nobody uses the old one: give it away. */
		CHECK_EQ(madvise(p[~i & 1], PAGE, MADV_DONTNEED), 0);
		sleep_ms(2);
	}
	p[0][0] = 0x33;
	CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE, p[0], RWX), 0);
	return NULL;
}

/* A mapping is replaced under a running guest: it never sees a hole, and then sees the new one. */
static void map_while_running(struct env *e)
{
	uint8_t *first = pages(2);
	pthread_t t;

	env_long_payload(e, read_loop);
	CHECK_EQ(vmx_vm_map(e->vm, AT, 2 * PAGE, first, RWX), 0);
	t = start(remap, e);
	CHECK_EQ(expect_out(e, 0x10), 0x33);
	CHECK_EQ(reg(e, VMX_RBX) & 0xff, 0x11); /* the rest of the first mapping stayed */
	join(t);
}

static void *unmap_later(void *arg)
{
	struct env *e = arg;

	sleep_ms(20);
	CHECK_EQ(vmx_vm_unmap(e->vm, AT, PAGE), 0);
	return NULL;
}

static void unmap_while_running(struct env *e)
{
	uint8_t *first = pages(1);
	pthread_t t;

	env_long_payload(e, read_loop);
	first[0] = 0;
	CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE, first, RWX), 0);
	t = start(unmap_later, e);
	expect(e, VMX_EXIT_MEM);
	CHECK_EQ(e->exit.mem.gpa, AT);
	join(t);
}

PAYLOAD(self, ".code64\n"
	"mov $0x40000000, %edi\n 1: call *%rdi\n out %al, $0x10\n jmp 1b");

static void put_code(struct env *e, uint8_t *page, uint8_t value)
{
	const uint8_t code[] = { 0xb0, value, 0xc3 }; /* mov $value, %al; ret */

	memcpy(page, code, sizeof(code));
	CHECK_EQ(vmx_vm_written(e->vm, AT, sizeof(code)), 0);
}

/* Code that the caller wrote anew, or mapped anew, is the code that runs. */
static void written_code(struct env *e)
{
	uint8_t *a = pages(1), *b = pages(1);

	env_long_payload(e, self);
	CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE, a, RWX), 0);
	put_code(e, a, 1);
	for (int i = 0; i < 5; i++)
		CHECK_EQ(expect_out(e, 0x10), 1);
	put_code(e, a, 2);
	CHECK_EQ(expect_out(e, 0x10), 2);
	put_code(e, b, 3);
	CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE, b, RWX), 0);
	CHECK_EQ(expect_out(e, 0x10), 3);
	CHECK_EQ(vmx_vm_map(e->vm, AT, PAGE, a, RWX), 0);
	CHECK_EQ(expect_out(e, 0x10), 2);
}

static const struct test tests[] = {
	{ "map-arguments", "Z1 W2", map_arguments },
	{ "map-replaces", "Z1 W2", map_replaces },
	{ "unmap-splits", "W2", unmap_splits },
	{ "read-only", "W2 W6", read_only },
	{ "no-exec", "W2", no_exec },
	{ "dirty-log", "W3", dirty_log },
	{ "dirty-split", "W2 W3", dirty_split },
	{ "dirty-arguments", "W3 W12", dirty_arguments },
	{ "map-while-running", "W2", map_while_running },
	{ "unmap-while-running", "W2", unmap_while_running },
	{ "written-code", "W2", written_code },
};
SUITE(memory, "memory");
