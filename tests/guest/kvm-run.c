/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvm-run.c - a small user of /dev/kvm, static, for the inside of a guest: runs a 64-bit payload that
 * prints, touches memory that is not there, calls its hypervisor, computes, and halts.
 *
 * Prints a line "kvm-run: NAME: value" for what it measured and "kvm-run: ok" at the end; exit status 0
 * only if all came back right.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MEMORY (8u << 20)
#define TABLES 0x1000u  /* PML4, PDPT, PD */
#define CODE 0x10000u
#define REPORT 0x8000u
#define STACK 0x80000u
#define DATA (2u << 20)
#define DATA_WORDS (128u << 10) /* 1 MiB */
#define MMIO_GPA (16u << 20)    /* beyond MEMORY */
#define MMIO_MAGIC 0x1234567890abcdefull
#define PORT_TEXT 0x3f8
#define CALLS 20000u
#define ROUNDS 20u

struct report { /* what the payload says, at REPORT */
	uint64_t call_ticks, cpuid_ticks, mmio, sum, work_ticks;
};

/* --- the payload: position-independent, no libc, copied into the guest ---------------------- */

#define PAYLOAD __attribute__((section("payload"), used, noinline))

/* The stack is set up; the first argument comes in RDI as in C. */
__asm__(".pushsection payload, \"ax\"\n"
	".globl payload_entry\n"
	"payload_entry:\n"
	"	call payload_main\n"
	"1:	hlt\n"
	"	jmp 1b\n"
	".popsection\n");
extern const uint8_t payload_entry[], __start_payload[], __stop_payload[];
extern void payload_main(struct report *report);
extern uint64_t payload_work(uint64_t *data);

static inline uint64_t ticks(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence; rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}

PAYLOAD static uint64_t mix(uint64_t a, uint64_t b)
{
	a ^= b;
	a *= 0x9e3779b97f4a7c15ull;
	return a ^ a >> 29;
}

/* Loads, stores, calls and branches that depend on data. */
PAYLOAD uint64_t payload_work(uint64_t *data)
{
	uint64_t sum = 1;

	for (unsigned round = 0; round < ROUNDS; round++)
		for (unsigned i = 0; i < DATA_WORDS; i++) {
			uint64_t *at = &data[(i * 67 + round) % DATA_WORDS];

			if (*at & 1)
				sum = mix(sum, *at);
			else
				sum += *at >> 3;
			*at = sum + i;
		}
	return sum;
}

PAYLOAD static void put(char c)
{
	__asm__ volatile("outb %0, %1" : : "a"(c), "Nd"((uint16_t)PORT_TEXT));
}

PAYLOAD void payload_main(struct report *report)
{
	uint64_t start;

	put('L');
	put('2');
	put('\n');
	*(volatile uint64_t *)MMIO_GPA = MMIO_MAGIC;
	report->mmio = *(volatile uint64_t *)(MMIO_GPA + 8);
	start = ticks();
	for (unsigned i = 0; i < CALLS; i++) {
		uint64_t rax = 1000; /* no such hypercall */

		__asm__ volatile("vmcall" : "+a"(rax) : : "memory");
	}
	report->call_ticks = ticks() - start;
	start = ticks();
	for (unsigned i = 0; i < CALLS; i++) {
		uint32_t eax = 0, ebx, ecx = 0, edx;

		__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
	}
	report->cpuid_ticks = ticks() - start;
	start = ticks();
	report->sum = payload_work((uint64_t *)DATA);
	report->work_ticks = ticks() - start;
}

/* --- the monitor ---------------------------------------------------------------------------- */

struct vm {
	int kvm, vm, cpu;
	uint8_t *memory;
	struct kvm_run *run;
	size_t run_size;
	char text[16];
	size_t text_len;
	bool stored;
};

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...)
{
	int error = errno;
	va_list args;

	printf("kvm-run: FAIL: ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf(" (%s)\n", strerror(error));
	exit(1);
}

static int must_ioctl(int fd, unsigned long request, unsigned long arg, const char *what)
{
	int r = ioctl(fd, request, arg);

	if (r < 0)
		fail("%s", what);
	return r;
}
#define IOCTL(fd, request, arg) must_ioctl(fd, request, (unsigned long)(arg), #request)

static void fill_data(uint64_t *data)
{
	for (unsigned i = 0; i < DATA_WORDS; i++)
		data[i] = i * 0x2545f4914f6cdd1dull;
}

static void make(struct vm *vm)
{
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY };

	vm->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vm->kvm < 0)
		fail("/dev/kvm");
	if (IOCTL(vm->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		fail("API version");
	vm->vm = IOCTL(vm->kvm, KVM_CREATE_VM, 0);
	vm->memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (vm->memory == MAP_FAILED)
		fail("memory");
	region.userspace_addr = (uintptr_t)vm->memory;
	IOCTL(vm->vm, KVM_SET_USER_MEMORY_REGION, &region);
	vm->cpu = IOCTL(vm->vm, KVM_CREATE_VCPU, 0);
	vm->run_size = (size_t)IOCTL(vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	vm->run = mmap(NULL, vm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vm->cpu, 0);
	if (vm->run == MAP_FAILED)
		fail("kvm_run");
}

static void load(struct vm *vm)
{
	uint64_t *tables = (uint64_t *)(void *)(vm->memory + TABLES);
	struct kvm_sregs s;
	struct kvm_regs r = {
		.rip = CODE + (uint64_t)(payload_entry - __start_payload),
		.rsp = STACK, .rflags = 2, .rdi = REPORT,
	};

	tables[0] = TABLES + 0x1000 + 7;
	tables[512] = TABLES + 0x2000 + 7;
	for (uint64_t i = 0; i < 512; i++)
		tables[1024 + i] = i << 21 | 0x87;
	memcpy(vm->memory + CODE, __start_payload, (size_t)(__stop_payload - __start_payload));
	fill_data((uint64_t *)(void *)(vm->memory + DATA));
	IOCTL(vm->cpu, KVM_GET_SREGS, &s);
	s.cs.base = s.ss.base = s.ds.base = s.es.base = 0;
	s.cs.limit = s.ss.limit = s.ds.limit = s.es.limit = 0xffffffff;
	s.cs.selector = 8;
	s.ss.selector = s.ds.selector = s.es.selector = 16;
	s.cs.type = 11;
	s.ss.type = s.ds.type = s.es.type = 3;
	s.cs.present = s.ss.present = s.ds.present = s.es.present = 1;
	s.cs.s = s.ss.s = s.ds.s = s.es.s = 1;
	s.cs.dpl = s.ss.dpl = s.ds.dpl = s.es.dpl = 0;
	s.cs.g = s.ss.g = s.ds.g = s.es.g = 1;
	s.cs.l = 1;
	s.cs.db = 0;
	s.ss.db = s.ds.db = s.es.db = 1;
	s.cr3 = TABLES;
	s.cr4 = 0x20;
	s.cr0 = 0x80000011;
	s.efer = 0x500;
	IOCTL(vm->cpu, KVM_SET_SREGS, &s);
	IOCTL(vm->cpu, KVM_SET_REGS, &r);
}

static void on_port(struct vm *vm)
{
	const struct kvm_run *run = vm->run;

	if (run->io.port != PORT_TEXT || run->io.direction != KVM_EXIT_IO_OUT || run->io.size != 1)
		fail("port %#x", run->io.port);
	if (vm->text_len < sizeof(vm->text) - 1)
		vm->text[vm->text_len++] = *((const char *)run + run->io.data_offset);
}

static void on_mmio(struct vm *vm)
{
	static const uint64_t answer = ~MMIO_MAGIC;
	struct kvm_run *run = vm->run;
	uint64_t data;

	memcpy(&data, run->mmio.data, 8);
	if (run->mmio.len != 8)
		fail("memory-mapped access of %u bytes", run->mmio.len);
	if (run->mmio.is_write && run->mmio.phys_addr == MMIO_GPA && data == MMIO_MAGIC)
		vm->stored = true;
	else if (!run->mmio.is_write && run->mmio.phys_addr == MMIO_GPA + 8)
		memcpy(run->mmio.data, &answer, 8);
	else
		fail("memory-mapped access at %#llx", run->mmio.phys_addr);
}

static void run(struct vm *vm)
{
	for (;;) {
		if (ioctl(vm->cpu, KVM_RUN, 0) < 0 && errno != EINTR)
			fail("KVM_RUN");
		switch (vm->run->exit_reason) {
		case KVM_EXIT_IO:
			on_port(vm);
			break;
		case KVM_EXIT_MMIO:
			on_mmio(vm);
			break;
		case KVM_EXIT_HLT:
			return;
		case KVM_EXIT_FAIL_ENTRY:
			fail("entry failed, reason %#llx",
			     vm->run->fail_entry.hardware_entry_failure_reason);
		default:
			fail("exit %u, suberror %u", vm->run->exit_reason, vm->run->internal.suberror);
		}
	}
}

static double ticks_per_ns(void)
{
	struct timespec a, b;
	uint64_t start = ticks(), ns;

	clock_gettime(CLOCK_MONOTONIC, &a);
	do {
		clock_gettime(CLOCK_MONOTONIC, &b);
		ns = (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000u + (uint64_t)b.tv_nsec -
		     (uint64_t)a.tv_nsec;
	} while (ns < 100000000);
	return (double)(ticks() - start) / (double)ns;
}

int main(void)
{
	struct report *report;
	struct vm vm = { 0 };
	uint64_t *data = malloc(DATA_WORDS * 8), start, sum, here;
	double rate = ticks_per_ns();

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!data)
		return 1;
	make(&vm);
	load(&vm);
	run(&vm);
	report = (struct report *)(void *)(vm.memory + REPORT);
	if (strcmp(vm.text, "L2\n") || !vm.stored || report->mmio != ~MMIO_MAGIC)
		fail("text '%s', stored %d, loaded %#llx", vm.text, vm.stored,
		     (unsigned long long)report->mmio);
	fill_data(data);
	payload_work(data); /* once to have it translated */
	fill_data(data);
	start = ticks();
	sum = payload_work(data);
	here = ticks() - start;
	if (sum != report->sum)
		fail("the payload computed %#llx, not %#llx", (unsigned long long)report->sum,
		     (unsigned long long)sum);
	printf("kvm-run: hypercall ns: %.0f\n", (double)report->call_ticks / CALLS / rate);
	printf("kvm-run: cpuid ns: %.0f\n", (double)report->cpuid_ticks / CALLS / rate);
	printf("kvm-run: work us: %.0f here, %.0f in the guest\n", (double)here / rate / 1000,
	       (double)report->work_ticks / rate / 1000);
	printf("kvm-run: ok\n");
	return 0;
}
