/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_soft_system.c - a hostile guest on the software processor: system instructions with any
 * operands in any mode, over damaged descriptor tables, TSS and page tables. Whatever it does, it
 * ends as an exit; the engine neither crashes nor gives up (VMX_EXIT_INTERNAL).
 */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/input.h"
#include "tests/unit/sys_rig.h"

#define CODE_MAX 180u
#define EXITS_MAX 40u
#define LOOP_US 2000u /* a guest that loops is kicked */

static struct {
	pthread_once_t once;
	pthread_mutex_t lock;
	struct vmx_vcpu *vcpu;
} kicker = { .once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER };

static void *kick(void *unused)
{
	(void)unused;
	for (;;) {
		usleep(LOOP_US);
		pthread_mutex_lock(&kicker.lock);
		if (kicker.vcpu)
			vmx_vcpu_kick(kicker.vcpu);
		pthread_mutex_unlock(&kicker.lock);
	}
	return NULL;
}

static void start_kicker(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, kick, NULL))
		abort();
	pthread_detach(thread);
}

static void watch(struct vmx_vcpu *vcpu)
{
	pthread_mutex_lock(&kicker.lock);
	kicker.vcpu = vcpu;
	pthread_mutex_unlock(&kicker.lock);
}

/* Opcodes; what follows them comes from the input. */
static const char *const opcodes[] = {
	"\x0f\x01", "\x0f\x01", "\x0f\x20", "\x0f\x22", "\x0f\x21", "\x0f\x23", "\x0f\xae", "\x0f\xc7",
	"\x0f\x30", "\x0f\x32", "\x0f\xa2", "\xcf", "\xcb", "\xca", "\xcd", "\xcc", "\xce", "\xf1",
	"\xff", "\x9a", "\xea", "\x8e", "\x8c", "\x0f\x02", "\x0f\x03", "\x0f\x05", "\x0f\x07",
	"\x0f\x34", "\x0f\x35", "\x9d", "\x9c", "\xfa", "\xfb", "\x0f\x06", "\x0f\x08", "\xe4",
	"\xe6", "\xec", "\xee", "\x6c", "\x6e", "\x63", "\x62", "\xc4", "\xc5", "\x0f\xb2", "\x17",
	"\x1f", "\x07", "\x0f\xa1", "\xa4", "\xa5", "\xab", "\xc8", "\xc9", "\x0f\x38", "\x0f\x3a",
	"\x0f\xb1", "\xe0", "\xe3", "\xd7", "\x60", "\x61", "\xf0\x0f\xc1", "\xf3\xa4", "\xf3\xab",
	"\xf2\xae", "\xdd", "\xd9", "\xdf", "\x66", "\x67", "\x48", "\x2e", "\x41",
};

static unsigned make_code(struct input *in, uint8_t *code)
{
	static const uint8_t operands[] = { 0x03, 0x00, 0x18, 0xd0, 0xe0, 0x1b, 0x3b, 0x13 };
	unsigned n = 0;

	while (n < CODE_MAX && in->left) {
		const char *op = opcodes[pick(in, sizeof(opcodes) / sizeof(opcodes[0]))];

		while (*op)
			code[n++] = (uint8_t)*op++;
		for (unsigned i = pick(in, 4); i--;)
			code[n++] = rarely(in) ? input8(in) : operands[pick(in, sizeof(operands))];
	}
	return n;
}

static void damage(struct rig *r, struct input *in)
{
	static const uint32_t areas[] = {
		RIG_GDT, RIG_IDT, RIG_TSS, RIG_PML4, RIG_PDPT, RIG_PD, RIG_TSS2, RIG_STACK - 64,
	};

	for (unsigned i = pick(in, 10); i--;) {
		uint32_t area = areas[pick(in, sizeof(areas) / sizeof(areas[0]))];

		rig_put(r, area + input8(in), input8(in), 1);
	}
}

static void set_registers(struct rig *r, struct input *in)
{
	static const uint32_t cr4[] = { 0x40000, 0x200000, 0x100000, 0x10000, 0x800, 4, 8, 0x80 };
	uint64_t *gpr = &r->regs.rax;

	if (pick(in, 3) == 0)
		rig_user(r);
	for (unsigned i = pick(in, 4); i--;)
		r->sregs.cr4 |= cr4[pick(in, sizeof(cr4) / sizeof(cr4[0]))];
	if (pick(in, 2))
		r->sregs.xcr0 = 3;
	if (rarely(in))
		r->regs.rflags |= input32(in) & 0x254dd5;
	for (unsigned i = 0; i < 16; i++) {
		if (i == 4 && !rarely(in)) /* RSP */
			continue;
		switch (pick(in, 4)) {
		case 0:
			gpr[i] = input_edge(in);
			break;
		case 1:
			gpr[i] = RIG_DATA + input8(in) * 8u;
			break;
		case 2:
			gpr[i] = input8(in); /* a selector */
			break;
		default:
			gpr[i] = 0xc0000080 + pick(in, 8);
			break;
		}
	}
}

static void run(struct rig *r)
{
	for (unsigned i = 0; i < EXITS_MAX; i++) {
		struct vmx_exit *x = &r->exit;
		int rc = vmx_vcpu_resume(r->vcpu, x);

		if (rc == -ECANCELED)
			return;
		if (rc < 0 || x->reason == VMX_EXIT_INTERNAL || x->reason == VMX_EXIT_ENTRY_FAILED) {
			fprintf(stderr, "resume: %d, reason %d\n", rc, (int)x->reason);
			abort();
		}
		if (x->reason == VMX_EXIT_SHUTDOWN || (x->reason == VMX_EXIT_MEM && x->mem.exec))
			return;
		if (x->reason == VMX_EXIT_MEM && !x->mem.write)
			memset(x->mem.buf, 0x5a, x->mem.size);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	uint8_t code[CODE_MAX + 16];
	struct rig *r = rig_new((enum rig_mode)pick(&in, 3));
	unsigned n;

	if (!r)
		return 0;
	pthread_once(&kicker.once, start_kicker);
	damage(r, &in);
	set_registers(r, &in);
	n = make_code(&in, code);
	memcpy(r->ram + RIG_CODE, code, n);
	vmx_vm_written(r->vm, RIG_CODE, n);
	if (vmx_vcpu_write_state(r->vcpu, VMX_STATE_SREGS, &r->sregs, sizeof(r->sregs)) == 0 &&
	    vmx_vcpu_write_state(r->vcpu, VMX_STATE_REGS, &r->regs, sizeof(r->regs)) == 0) {
		watch(r->vcpu);
		run(r);
		watch(NULL);
	}
	rig_free(r);
	return 0;
}
