/* SPDX-License-Identifier: Apache-2.0 */
/* traps.c - BELL, MEM and IO traps and their keys. */
#include "tests/contract/contract.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int bell(void)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	CHECK(fd >= 0);
	return fd;
}

static uint64_t rung(int fd)
{
	uint64_t n = 0;

	return read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

static void arguments(struct env *e)
{
	int fd = bell();

	env_vm(e);
	CHECK_EQ(vmx_vm_set_trap(e->vm, (enum vmx_trap_kind)9, 0, 1, -1, 0), -EINVAL);
	CHECK_EQ(vmx_vm_remove_trap(e->vm, (enum vmx_trap_kind)9, 0), -EINVAL);
	/* IO */
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_IO, 0x10, 0, -1, 0), -EINVAL);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_IO, 0x10, 1, fd, 0), -EINVAL);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_IO, 0xffff, 2, -1, 0), -ERANGE);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_IO, 0x10000, 1, -1, 0), -ERANGE);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_IO, 1, ~0ull, -1, 0), -ERANGE);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_IO, 0xffff, 1, -1, 0), 0);
	/* MEM */
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_MEM, HOLE, 0, -1, 0), -EINVAL);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_MEM, HOLE + 8, 4096, -1, 0), -EINVAL);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_MEM, HOLE, 100, -1, 0), -EINVAL);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_MEM, HOLE, 4096, fd, 0), -EINVAL);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_MEM, 1ull << 52, 4096, -1, 0), -ERANGE);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_MEM, 0xfee00000, 8192, -1, 0), -EINVAL);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_MEM, 0xfee00000, 4096, -1, 0), 0);
	/* BELL */
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_BELL, HOLE, 3, fd, 0), -EINVAL);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_BELL, HOLE, 16, fd, 0), -EINVAL);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_BELL, HOLE, 4, -1, 0), -EINVAL);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_BELL, HOLE, 4, 999, 0), -EBADF);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_BELL, 0x1000, 4, fd, 0), -EINVAL); /* RAM */
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_BELL, ~0ull, 4, fd, 0), -ERANGE);
}

static void exists(struct env *e)
{
	int fd = bell();

	env_vm(e);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_IO, 0x10, 8, -1, 1), 0);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_IO, 0x10, 8, -1, 2), -EEXIST);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_IO, 0x17, 4, -1, 2), -EEXIST);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_IO, 0x0f, 2, -1, 2), -EEXIST);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_IO, 0x18, 4, -1, 2), 0);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_MEM, HOLE, 8192, -1, 3), 0);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_MEM, HOLE + 4096, 4096, -1, 3), -EEXIST);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_BELL, HOLE, 4, fd, 4), 0); /* another kind */
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_BELL, HOLE, 4, fd, 4), -EEXIST);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_BELL, HOLE + 3, 1, fd, 4), -EEXIST);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_BELL, HOLE + 4, 0, fd, 4), 0);
	CHECK_EQ(vmx_vm_remove_trap(e->vm, VMX_TRAP_IO, 0x11), -ENOENT); /* starts at 0x10 */
	CHECK_EQ(vmx_vm_remove_trap(e->vm, VMX_TRAP_IO, 0x10), 0);
	CHECK_EQ(vmx_vm_remove_trap(e->vm, VMX_TRAP_IO, 0x10), -ENOENT);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_IO, 0x0f, 2, -1, 2), 0);
}

PAYLOAD(touch, ".code64\n"
	"mov $0x80000000, %edi\n"
	"1: out %al, $0x10\n out %al, $0x11\n in $0x18, %al\n"
	"mov %eax, (%rdi)\n mov 4092(%rdi), %eax\n mov 4096(%rdi), %al\n jmp 1b");

static uint64_t next_key(struct env *e, enum vmx_exit_reason reason)
{
	expect(e, reason);
	return reason == VMX_EXIT_IO ? e->exit.io.key : e->exit.mem.key;
}

static void keys(struct env *e)
{
	env_long_payload(e, touch);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_IO, 0x11, 8, -1, 0x1111222233334444), 0);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_MEM, HOLE, 4096, -1, ~0ull), 0);
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(next_key(e, VMX_EXIT_IO), 0);
		CHECK_EQ(next_key(e, VMX_EXIT_IO), 0x1111222233334444);
		CHECK_EQ(next_key(e, VMX_EXIT_IO), 0x1111222233334444);
		CHECK_EQ(next_key(e, VMX_EXIT_MEM), ~0ull);
		CHECK_EQ(next_key(e, VMX_EXIT_MEM), ~0ull);
		CHECK_EQ(next_key(e, VMX_EXIT_MEM), 0);
	}
	CHECK_EQ(vmx_vm_remove_trap(e->vm, VMX_TRAP_IO, 0x11), 0);
	CHECK_EQ(vmx_vm_remove_trap(e->vm, VMX_TRAP_MEM, HOLE), 0);
	CHECK_EQ(next_key(e, VMX_EXIT_IO), 0);
	CHECK_EQ(next_key(e, VMX_EXIT_IO), 0);
	CHECK_EQ(next_key(e, VMX_EXIT_IO), 0);
	CHECK_EQ(next_key(e, VMX_EXIT_MEM), 0);
}

PAYLOAD(ring, ".code64\n"
	"mov $0x80000000, %edi\n"
	"1: movl $7, (%rdi)\n movl $7, (%rdi)\n"           /* the exact size, twice */
	"movw $7, (%rdi)\n"                                /* another size: exits */
	"mov (%rdi), %eax\n"                               /* a read: exits */
	"movb $1, 16(%rdi)\n movw $1, 16(%rdi)\n movl $1, 16(%rdi)\n" /* any size */
	"movb $1, 17(%rdi)\n"                              /* another address: exits */
	"out %al, $0x10\n jmp 1b");

static void bells(struct env *e)
{
	int four = bell(), any = bell();

	env_long_payload(e, ring);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_BELL, HOLE, 4, four, 1), 0);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_BELL, HOLE + 16, 0, any, 2), 0);
	expect(e, VMX_EXIT_MEM);
	CHECK_EQ(e->exit.mem.size, 2);
	CHECK_EQ(rung(four), 2);
	expect(e, VMX_EXIT_MEM);
	CHECK_EQ(e->exit.mem.write, false);
	expect(e, VMX_EXIT_MEM);
	CHECK_EQ(e->exit.mem.gpa, HOLE + 17);
	CHECK_EQ(rung(any), 3);
	expect_out(e, 0x10);
	CHECK_EQ(rung(four), 0);
	CHECK_EQ(vmx_vm_remove_trap(e->vm, VMX_TRAP_BELL, HOLE), 0);
	expect(e, VMX_EXIT_MEM); /* now it is an access like any other */
	CHECK_EQ(e->exit.mem.size, 4);
	CHECK_EQ(rung(four), 0);
}

/* A full counter must not stop the processor. */
static void bell_full(struct env *e)
{
	int four = bell(), any = bell();
	uint64_t most = UINT64_MAX - 1;

	env_long_payload(e, ring);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_BELL, HOLE, 4, four, 1), 0);
	CHECK_EQ(vmx_vm_set_trap(e->vm, VMX_TRAP_BELL, HOLE + 16, 0, any, 2), 0);
	CHECK_EQ(write(four, &most, sizeof(most)), sizeof(most));
	expect(e, VMX_EXIT_MEM);
	CHECK_EQ(e->exit.mem.size, 2);
}

static const struct test tests[] = {
	{ "arguments", "Z2", arguments },
	{ "exists", "Z2", exists },
	{ "keys", "Z2 Z4", keys },
	{ "bells", "Z2", bells },
	{ "bell-full", "Z2", bell_full },
};
SUITE(traps, "traps");
