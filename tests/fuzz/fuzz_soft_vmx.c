/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_soft_vmx.c - a hostile hypervisor on the software processor: VMCSs that are mostly right, random
 * extended page tables, random code in the guest and VMX instructions anywhere, while another thread
 * writes over the VMCS, the tables and the lists of MSRs as another processor would. Whatever
 * happens, it ends as an exit; the engine neither crashes nor hangs nor gives up (VMX_EXIT_INTERNAL).
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/fuzz/input.h"
#include "tests/unit/soft_guest.h"

#define VMXON 0x60000u
#define VMCS 0x61000u
#define POINTERS 0x62000u
#define WRITES 0x63000u    /* {encoding, value}... ~0: VMWRITEs before the launch */
#define WRITES_2 0x65000u  /* ... and before each VMRESUME */
#define AREA 0x67000u      /* bitmaps, MSR areas, virtual APIC, APIC access: a page each */
#define AREA_PAGES 6u
#define EPT 0x70000u
#define EPT_PAGES 4u
#define L2_CODE 0x80000u
#define L2_STACK 0x90000u
#define EXITS_MAX 60u
#define SLICE_US 1500u
#define SLICES_MAX 20u

static struct {
	pthread_once_t once;
	pthread_mutex_t lock;
	struct guest g;
	bool running;
	_Atomic bool scribble;
} rig = { .once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER };

static uint64_t next(uint64_t *x)
{
	*x = *x * 6364136223846793005ull + 1442695040888963407ull;
	return *x >> 20;
}

/* The other processor, and who gets a guest out of its loops. */
static void *other(void *unused)
{
	static const uint32_t pages[] = { VMCS, VMXON, EPT, EPT + 0x1000, EPT + 0x3000, AREA,
					  AREA + 0x1000, AREA + 0x2000, PML4, PT0 };
	uint64_t x = 1;

	(void)unused;
	for (;;) {
		usleep(SLICE_US);
		pthread_mutex_lock(&rig.lock);
		if (rig.running)
			vmx_vcpu_kick(rig.g.cpu);
		for (unsigned i = 0; rig.scribble && i < 40; i++) {
			uint32_t page = pages[next(&x) % (sizeof(pages) / sizeof(pages[0]))];
			uint64_t *at = q(&rig.g, page) + next(&x) % 512;

			__atomic_store_n(at, *at ^ 1ull << next(&x) % 64, __ATOMIC_RELAXED);
		}
		pthread_mutex_unlock(&rig.lock);
	}
	return NULL;
}

static void make(void)
{
	pthread_t thread;

	if (guest_create_flags(&rig.g, 0, VMX_VM_NESTED) < 0 ||
	    pthread_create(&thread, NULL, other, NULL))
		abort();
	pthread_detach(thread);
}

/* The hypervisor. Its end is HLT. */
PAYLOAD(hypervisor, "vmxon 0x62000\n jbe 9f\n vmclear 0x62008\n jbe 9f\n vmptrld 0x62008\n jbe 9f\n"
		    "mov $0x63000,%esi\n"
		    "1: lodsq\n cmp $-1,%rax\n je 2f\n mov %rax,%rbx\n lodsq\n vmwrite %rax,%rbx\n jmp 1b\n"
		    "2: mov $12,%r15d\n vmlaunch\n 9: hlt\n");
/* Where VM exits lead. */
PAYLOAD(after_exit, "dec %r15d\n js 9f\n mov $0x65000,%esi\n"
		    "4: lodsq\n cmp $-1,%rax\n je 5f\n mov %rax,%rbx\n lodsq\n vmwrite %rax,%rbx\n jmp 4b\n"
		    "5: mov $0x681e,%ebx\n vmread %rbx,%rax\n mov $0x440c,%ebx\n vmread %rbx,%rcx\n"
		    "add %rcx,%rax\n mov $0x681e,%ebx\n vmwrite %rax,%rbx\n vmresume\n 9: hlt\n");
#define HOST_RIP (CODE + 0x100u)

struct field {
	uint16_t encoding;
	uint64_t value;
};
/* A VMCS that enters. Controls: what must be 1 in the TRUE words, MSR and I/O bitmaps. */
static const struct field base[] = {
	{ 0x0000, 1 }, { 0x2000, AREA }, { 0x2002, AREA }, { 0x2004, AREA }, { 0x2006, AREA + 0x1000 },
	{ 0x2008, AREA + 0x2000 }, { 0x200a, AREA + 0x2000 }, { 0x2012, AREA + 0x3000 },
	{ 0x2014, AREA + 0x4000 }, { 0x201a, EPT | 0x5e }, { 0x2800, ~0ull }, { 0x4000, 0x16 },
	{ 0x4002, 0x84006172 }, { 0x4004, 0 }, { 0x400a, 0 }, { 0x400c, 0x36dfb | 1 << 9 },
	{ 0x400e, 0 }, { 0x4010, 0 }, { 0x4012, 0x11fb | 1 << 9 }, { 0x4014, 0 }, { 0x4016, 0 },
	{ 0x401c, 0 }, { 0x401e, 0x22 /* EPT, VPID */ }, { 0x6000, 0 }, { 0x6002, 0x2000 },
	{ 0x6004, 0 }, { 0x6006, 0 },
	{ 0x0c00, 0x10 }, { 0x0c02, 8 }, { 0x0c04, 0x10 }, { 0x0c06, 0x10 }, { 0x0c08, 0x10 },
	{ 0x0c0a, 0x10 }, { 0x0c0c, 0x30 }, { 0x6c00, 0x80010033 }, { 0x6c02, PML4 },
	{ 0x6c04, 0x26a0 }, { 0x6c0a, TSS }, { 0x6c0c, GDT }, { 0x6c0e, IDT }, { 0x6c14, STACK },
	{ 0x6c16, HOST_RIP },
	{ 0x0800, 0x10 }, { 0x0802, 8 }, { 0x0804, 0x10 }, { 0x0806, 0x10 }, { 0x0808, 0x10 },
	{ 0x080a, 0x10 }, { 0x080c, 0 }, { 0x080e, 0x30 },
	{ 0x4800, ~0u }, { 0x4802, ~0u }, { 0x4804, ~0u }, { 0x4806, ~0u }, { 0x4808, ~0u },
	{ 0x480a, ~0u }, { 0x480c, 0 }, { 0x480e, 0x67 }, { 0x4810, 0x3f }, { 0x4812, 0xfff },
	{ 0x4814, 0xc093 }, { 0x4816, 0xa09b }, { 0x4818, 0xc093 }, { 0x481a, 0xc093 },
	{ 0x481c, 0xc093 }, { 0x481e, 0xc093 }, { 0x4820, 0x10000 }, { 0x4822, 0x8b },
	{ 0x4824, 0 }, { 0x4826, 0 }, { 0x482e, 5000 }, { 0x6800, 0x80010033 }, { 0x6802, PML4 },
	{ 0x6804, 0x26a0 }, { 0x6806, 0 }, { 0x6808, 0 }, { 0x680a, 0 }, { 0x680c, 0 },
	{ 0x680e, 0 }, { 0x6810, 0 }, { 0x6812, 0 }, { 0x6814, TSS }, { 0x6816, GDT },
	{ 0x6818, IDT }, { 0x681a, 0x400 }, { 0x681c, L2_STACK }, { 0x681e, L2_CODE },
	{ 0x6820, 2 }, { 0x6822, 0 },
	/* virtual interrupts, posted ones, the log of dirty pages, bitmaps of a shadow VMCS */
	{ 0x0002, 0x40 }, { 0x0810, 0x30 }, { 0x0812, 511 }, { 0x200e, AREA + 0x2000 },
	{ 0x2016, AREA + 0x3000 }, { 0x201c, 0 }, { 0x201e, 0 }, { 0x2020, 0 }, { 0x2022, 0 },
	{ 0x2026, AREA }, { 0x2028, AREA }, { 0x202c, ~0ull },
};
#define BASE_COUNT (sizeof(base) / sizeof(base[0]))

static uint64_t odd_value(struct input *in, uint64_t good)
{
	switch (pick(in, 6)) {
	case 0: return good ^ 1ull << pick(in, 64);
	case 1: return good ^ input32(in);
	case 2: return input64(in);
	case 3: return good + (uint64_t)pick(in, 16) - 8;
	case 4: return (uint64_t)pick(in, 16) << pick(in, 48);
	default: return ~0ull << pick(in, 64);
	}
}

static uint16_t random_encoding(struct input *in)
{
	if (rarely(in))
		return input16(in);
	return base[pick(in, BASE_COUNT)].encoding;
}

static void fill_vmcs(struct input *in)
{
	uint64_t *at = q(&rig.g, WRITES);
	/* execution controls that are offered, each now and then */
	uint32_t pin = input32(in) & input32(in) & 0xe9, proc = input32(in) & input32(in);
	uint32_t proc2 = input32(in) & input32(in) & 0x1253ff;

	for (unsigned i = 0; i < BASE_COUNT; i++) {
		uint64_t value = base[i].value;

		if (base[i].encoding == 0x4000)
			value |= pin;
		else if (base[i].encoding == 0x4002)
			value |= proc & 0x7ffffffe;
		else if (base[i].encoding == 0x401e)
			value |= proc2;
		else if (base[i].encoding == 0x400c) /* acknowledge: posted interrupts want it */
			value |= (pin & 0x80) << 8;
		*at++ = base[i].encoding;
		*at++ = rarely(in) && rarely(in) ? odd_value(in, value) : value;
	}
	for (unsigned n = pick(in, 4); n; n--) {
		unsigned i = pick(in, BASE_COUNT);

		*at++ = base[i].encoding;
		*at++ = odd_value(in, base[i].value);
	}
	*at = ~0ull;
	at = q(&rig.g, WRITES_2);
	for (unsigned n = pick(in, 4); n; n--) {
		*at++ = random_encoding(in);
		*at++ = odd_value(in, 0);
	}
	*at = ~0ull;
}

/* Identity, with holes, rights and bits of all sorts. */
static void fill_ept(struct input *in)
{
	uint64_t *pt = q(&rig.g, EPT + 0x3000);

	q(&rig.g, EPT)[0] = (EPT + 0x1000) | 7;
	q(&rig.g, EPT + 0x1000)[0] = (EPT + 0x2000) | 7;
	q(&rig.g, EPT + 0x2000)[0] = (EPT + 0x3000) | 7;
	q(&rig.g, EPT + 0x2000)[1] = 0x200000 | 0xb7;
	for (unsigned i = 0; i < 512; i++)
		pt[i] = (uint64_t)i << 12 | 0x37;
	for (unsigned n = pick(in, 8); n; n--)
		pt[input16(in) % 512] ^= 1ull << pick(in, 64);
	if (rarely(in))
		q(&rig.g, EPT + (pick(in, 3) << 12))[pick(in, 2)] ^= 1ull << pick(in, 64);
}

static const char *const opcodes[] = {
	"\x0f\x01\xc1", "\x0f\x01\xc2", "\x0f\x01\xc3", "\x0f\x01\xc4", "\x0f\x01\xd4", "\x0f\xa2",
	"\x0f\x30", "\x0f\x32", "\x0f\x20", "\x0f\x22", "\x0f\x31", "\x0f\x01\xf9", "\x0f\x09", "\xf4",
	"\xe4", "\xe6", "\xec", "\xee", "\x6c", "\x6e", "\xf3\x90", "\xfa", "\xfb", "\xcd", "\xcf",
	"\x0f\x01", "\x0f\x78", "\x0f\x79", "\x0f\xc7", "\x66\x0f\xc7", "\xf3\x0f\xc7",
	"\x66\x0f\x38\x80", "\x66\x0f\x38\x81", "\x66\x0f\x38\x82", "\x0f\x23", "\x0f\x21", "\x8e",
	"\x0f\x00", "\x48\x89", "\x48\x8b", "\xf3\xa4", "\xa3", "\xa1", "\xff", "\x0f\x0b", "\xcc",
};

static void fill_code(struct input *in)
{
	uint8_t *at = rig.g.ram + L2_CODE;
	unsigned n = 4 + pick(in, 24);

	/* RAX RBX RCX RDX RSI RDI: addresses that are there, then whatever follows */
	for (unsigned i = 0; i < 6; i++) {
		static const uint8_t moves[] = { 0xb8, 0xbb, 0xb9, 0xba, 0xbe, 0xbf };
		uint32_t value = rarely(in) ? input32(in) : AREA + pick(in, 64) * 0x10u * 0x1000 / 64;

		*at++ = moves[i];
		memcpy(at, &value, 4);
		at += 4;
	}
	while (n--) {
		const char *op = opcodes[pick(in, sizeof(opcodes) / sizeof(opcodes[0]))];

		for (; *op; op++)
			*at++ = (uint8_t)*op;
		for (unsigned i = pick(in, 4); i; i--)
			*at++ = input8(in);
	}
	*at++ = 0x0f; /* VMCALL, for ever */
	*at++ = 0x01;
	*at++ = 0xc1;
	*at++ = 0xeb;
	*at = 0xfb;
}

static void prepare(struct input *in)
{
	static const uint32_t revision_of = 0x480;
	struct vmx_sregs s;
	uint64_t basic = 0;

	memset(rig.g.ram, 0, RAM_SIZE);
	(void)vmx_vm_reset(rig.g.vm);
	guest_tables(&rig.g);
	(void)guest_long_mode(&rig.g);
	(void)vmx_vcpu_read_state(rig.g.cpu, VMX_STATE_SREGS, &s, sizeof(s));
	s.cr4 |= 1u << 13;
	if (vmx_vcpu_write_state(rig.g.cpu, VMX_STATE_SREGS, &s, sizeof(s)) < 0 ||
	    vmx_vcpu_read_msr(rig.g.cpu, revision_of, &basic) < 0)
		abort();
	LOAD(&rig.g, CODE, hypervisor);
	LOAD(&rig.g, HOST_RIP, after_exit);
	*(uint32_t *)(void *)(rig.g.ram + VMXON) = (uint32_t)basic;
	*(uint32_t *)(void *)(rig.g.ram + VMCS) = (uint32_t)basic;
	q(&rig.g, POINTERS)[0] = rarely(in) ? input64(in) : VMXON;
	q(&rig.g, POINTERS)[1] = rarely(in) ? input64(in) : VMCS;
	for (unsigned n = pick(in, 32); n; n--)
		rig.g.ram[AREA + input16(in) % (AREA_PAGES * 4096)] = input8(in);
	fill_vmcs(in);
	fill_ept(in);
	fill_code(in);
	vmx_vm_written(rig.g.vm, 0, RAM_SIZE);
}

static void run(void)
{
	unsigned slices = 0;

	for (unsigned n = 0; n < EXITS_MAX; n++) {
		struct vmx_exit *x = &rig.g.exit;
		int r = vmx_vcpu_resume(rig.g.cpu, x);

		if (r == -ECANCELED && ++slices < SLICES_MAX)
			continue;
		if (r < 0)
			return;
		if (x->reason == VMX_EXIT_INTERNAL) {
			fprintf(stderr, "internal: %s\n", x->internal.text);
			abort();
		}
		if (x->reason == VMX_EXIT_IO || x->reason == VMX_EXIT_MEM ||
		    x->reason == VMX_EXIT_APIC_EOI || x->reason == VMX_EXIT_EXTINT)
			continue;
		return; /* halted, shut down */
	}
}

static void one(const uint8_t *data, size_t size)
{
	struct input in = { data, size };

	prepare(&in);
	pthread_mutex_lock(&rig.lock);
	rig.running = true;
	rig.scribble = rarely(&in) || pick(&in, 4) == 1;
	pthread_mutex_unlock(&rig.lock);
	run();
	pthread_mutex_lock(&rig.lock);
	rig.scribble = false;
	rig.running = false;
	pthread_mutex_unlock(&rig.lock);
}

/* The input of zeros breaks nothing: the guest runs and exits as often as its host likes. */
static void start(void)
{
	make();
	one(NULL, 0);
	if ((uint32_t)guest_reg(&rig.g, VMX_R15) != UINT32_MAX) {
		fprintf(stderr, "the base VMCS does not work: RIP %#llx, error or reason left %#llx\n",
			(unsigned long long)guest_reg(&rig.g, VMX_RIP),
			(unsigned long long)guest_reg(&rig.g, VMX_R15));
		abort();
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	pthread_once(&rig.once, start);
	one(data, size);
	return 0;
}
