/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faults.c - memory, mappings and ioctls that fail at call N, for every N: each call of vmx.h then
 * gives an error or does its work, nothing crashes, and no descriptor stays open.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vmx-driver/vmx.h"

enum what { FAIL_MEMORY, FAIL_MMAP, FAIL_IOCTL, WHATS };

static const char *const names[] = { "memory", "mmap", "ioctl" };

/* The wrappers cannot be handed a context, so these are the test's own globals. */
static _Atomic int fail_at[WHATS]; /* counts down; fails when it reaches 0; below: never */
static _Atomic bool failed_one;

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);

static bool fails(enum what what)
{
	if (fail_at[what] <= 0 || atomic_fetch_sub(&fail_at[what], 1) != 1)
		return false;
	failed_one = true;
	return true;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails(FAIL_MEMORY) ? NULL : __real_calloc(n, size);
}

void *__wrap_malloc(size_t size)
{
	return fails(FAIL_MEMORY) ? NULL : __real_malloc(size);
}

void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	if (fails(FAIL_MMAP)) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return __real_mmap(addr, len, prot, flags, fd, offset);
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (fails(FAIL_IOCTL)) {
		errno = EIO;
		return -1;
	}
	return __real_ioctl(fd, request, arg);
}

static unsigned open_files(void)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/fd");

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

/* mov al,0x42; out 0x10,al; jmp back */
static const uint8_t code[] = { 0xb0, 0x42, 0xe6, 0x10, 0xeb, 0xfa };

static void use_vcpu(struct vmx_vm *vm, struct vmx_vcpu *vcpu)
{
	const enum vmx_reg rip = VMX_RIP;
	const uint64_t start = 0x1000;
	uint8_t lapic[1024];
	struct vmx_events events;
	struct vmx_exit exit;
	struct vmx_sregs s;
	uint64_t gpa;
	enum vmx_translate_result result;

	if (vmx_vcpu_read_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s)) < 0)
		return;
	s.cs.base = 0;
	s.cs.selector = 0;
	vmx_vcpu_write_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s));
	vmx_vcpu_set_regs(vcpu, &rip, 1, &start);
	if (vmx_vcpu_read_state(vcpu, VMX_STATE_LAPIC, lapic, sizeof(lapic)) >= 0)
		vmx_vcpu_write_state(vcpu, VMX_STATE_LAPIC, lapic, sizeof(lapic));
	if (vmx_vcpu_read_state(vcpu, VMX_STATE_EVENTS, &events, sizeof(events)) >= 0)
		vmx_vcpu_write_state(vcpu, VMX_STATE_EVENTS, &events, sizeof(events));
	vmx_vcpu_translate(vcpu, 0x1000, VMX_TRANSLATE_READ, &result, &gpa);
	vmx_vcpu_interrupt(vcpu, VMX_INTERRUPT_NMI, 0);
	vmx_vcpu_set_extint(vcpu, true);
	vmx_vm_reset(vm);
	if (vmx_vcpu_read_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s)) < 0)
		return;
	s.cs.base = 0;
	s.cs.selector = 0;
	if (vmx_vcpu_write_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s)) < 0 ||
	    vmx_vcpu_set_regs(vcpu, &rip, 1, &start) < 0)
		return;
	if (vmx_vcpu_resume(vcpu, &exit) == 0 && exit.reason == VMX_EXIT_IO)
		vmx_vcpu_resume(vcpu, &exit);
	vmx_vm_suspend_time(vm);
	vmx_vm_resume_time(vm);
}

/* True: it got to its end. */
static bool scenario(enum vmx_engine engine, uint8_t *ram)
{
	const struct vmx_vm_options o = { .size = sizeof(o), .engine = engine };
	const uint32_t all = VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC | VMX_MAP_TRACK_DIRTY;
	struct vmx_vcpu *vcpu = NULL;
	struct vmx_vm *vm;
	uint64_t map;

	if (vmx_vm_create(&o, &vm) < 0)
		return false;
	vmx_vm_map(vm, 0, 0x10000, ram, all);
	vmx_vm_map(vm, 0x4000, 0x2000, ram + 0x8000, all);
	vmx_vm_unmap(vm, 0x6000, 0x1000);
	vmx_vm_dirty(vm, 0, 0x4000, &map, 1);
	vmx_vm_written(vm, 0, 0x10000);
	vmx_vm_set_trap(vm, VMX_TRAP_IO, 0x10, 1, -1, 1);
	vmx_vm_ioapic_route(vm, 3, 0xfee00000, 0x33, true);
	vmx_vm_msi(vm, 0xfee00000, 0x33);
	if (vmx_vcpu_create(vm, 0, &vcpu) >= 0)
		use_vcpu(vm, vcpu);
	if (vmx_vcpu_destroy(vcpu) < 0 || vmx_vm_destroy(vm) < 0)
		abort();
	return true;
}

/* One run in a child, so that a hang or a crash is seen as such. 0: nothing was left to fail;
 * 1: fine; else bad. */
static int run_at(enum vmx_engine engine, enum what what, int n, uint8_t *ram)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		unsigned before = open_files();

		alarm(120);
		fail_at[what] = n;
		scenario(engine, ram);
		fail_at[what] = 0;
		_exit(open_files() != before ? 3 : failed_one ? 1 : 0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 2;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(void)
{
	static const enum vmx_engine engines[] = { VMX_ENGINE_KVM, VMX_ENGINE_SOFT };
	unsigned passed = 0, failed = 0, skipped = 0;
	uint8_t *ram = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ram == MAP_FAILED)
		return 1;
	memcpy(ram + 0x1000, code, sizeof(code));
	for (size_t i = 0; i < 2; i++) {
		if (!scenario(engines[i], ram)) {
			printf("%s: not on this machine: skip\n", vmx_engine_name(engines[i]));
			skipped++;
			continue;
		}
		for (int w = 0; w < WHATS; w++) {
			int n = 1, r = 1;

			for (; r && n < 1000; n++) {
				r = run_at(engines[i], (enum what)w, n, ram);
				passed += r == 1;
				failed += r > 1;
				if (r > 1)
					printf("FAIL: %s, %s number %d: %s %d\n",
					       vmx_engine_name(engines[i]), names[w], n,
					       r == 3 ? "descriptors stay open" : "ended with", r);
			}
			printf("%s: %s failed at each of %d calls\n", vmx_engine_name(engines[i]),
			       names[w], n - 2);
		}
	}
	printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
	return failed ? 1 : 0;
}
