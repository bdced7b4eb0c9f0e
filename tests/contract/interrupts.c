/* SPDX-License-Identifier: Apache-2.0 */
/* interrupts.c - the local APIC, MSIs, NMI, INIT/SIPI, the PIC's wire, and end of interrupt. */
#include "tests/contract/contract.h"

#include <errno.h>
#include <string.h>

#include "common/bytes.h"

static void arguments(struct env *e)
{
	env_vcpu(e);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_FIXED, 15), -ERANGE);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_FIXED, 256), -ERANGE);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_SIPI, 256), -ERANGE);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_EXTINT, 256), -ERANGE);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_NMI, 1), -ERANGE);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, (enum vmx_interrupt_type)50, 0), -EINVAL);
	CHECK_EQ(vmx_vm_msi(e->vm, 0xfed00000, 0x30), -EINVAL);
	CHECK_EQ(vmx_vm_msi(e->vm, 0x1fee00000, 0x30), -EINVAL);
	CHECK_EQ(vmx_vm_msi(e->vm, 0xfee3f000, 0x30), 0); /* nobody there: as on a bus */
	CHECK_EQ(vmx_vm_ioapic_route(e->vm, 24, 0xfee00000, 0x30, true), -ERANGE);
	CHECK_EQ(vmx_vm_ioapic_route(e->vm, 0, 0x1000, 0x30, true), -EINVAL);
	CHECK_EQ(vmx_vm_ioapic_route(e->vm, 23, 0xfee00000, 0x30, true), 0);
	CHECK_EQ(vmx_vm_ioapic_route(e->vm, 23, 0, 0, false), 0);
}

/* Real mode: sleeps once; the handler at +0x40 says so at port 0x20, after its return port 0x10. */
PAYLOAD(sleeper, ".code16\n"
	"sti\n hlt\n 1: out %al, $0x10\n jmp 1b\n"
	".org sleeper + 0x40\n out %al, $0x20\n iret\n");

static void *inject_later(void *arg)
{
	struct env *e = arg;

	sleep_ms(30);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_FIXED, 0x30), 0);
	return NULL;
}

static void fixed_wakes_halt(struct env *e)
{
	pthread_t t;

	env_real_payload(e, sleeper);
	set_ivt(e, 0x30, CODE + 0x40);
	enable_lapic(e->vcpu);
	t = start(inject_later, e);
	expect_out(e, 0x20);
	expect_out(e, 0x10);
	join(t);
}

PAYLOAD(later, ".code16\n"
	"cli\n out %al, $0x10\n out %al, $0x11\n sti\n nop\n nop\n out %al, $0x12\n"
	".org later + 0x40\n out %al, $0x20\n iret\n");

/* Pending across resume until the guest can take it, however often it was asked for (one bit). */
static void fixed_stays_pending(struct env *e)
{
	env_real_payload(e, later);
	need_hardware(e, "it looks for interrupts only at exits");
	set_ivt(e, 0x30, CODE + 0x40);
	enable_lapic(e->vcpu);
	expect_out(e, 0x10);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_FIXED, 0x30), 0);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_FIXED, 0x30), 0);
	expect_out(e, 0x11);
	CHECK_EQ(vmx_vcpu_kick(e->vcpu), 0);
	CHECK_EQ(vmx_vcpu_resume(e->vcpu, &e->exit), -ECANCELED);
	expect_out(e, 0x20);
	expect_out(e, 0x12);
}

/* 64-bit mode; the handler acknowledges at the APIC. */
PAYLOAD(long_sleeper, ".code64\n"
	"sti\n hlt\n 1: out %al, $0x10\n jmp 1b\n"
	".org long_sleeper + 0x40\n push %rax\n mov 8(%rsp), %eax\n out %al, $0x20\n"
	"mov $0xfee000b0, %eax\n movl $0, (%rax)\n pop %rax\n iretq\n");

static void msi_long_mode(struct env *e)
{
	env_long_payload(e, long_sleeper);
	set_gate(e, 0x41, CODE + 0x40);
	enable_lapic(e->vcpu);
	for (int i = 0; i < 3; i++) { /* again and again: EOI works */
		CHECK_EQ(vmx_vm_msi(e->vm, 0xfee00000, 0x41), 0);
		CHECK_EQ(expect_out(e, 0x20), i ? 4 : 2); /* low byte of RIP */
		expect_out(e, 0x10);
	}
}

static void msi_logical_and_lowest(struct env *e)
{
	uint8_t page[1024];

	env_long_payload(e, long_sleeper);
	set_gate(e, 0x42, CODE + 0x40);
	enable_lapic(e->vcpu);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_LAPIC, page, sizeof(page)), 0);
	put_le32(page + 0xd0, 0x02000000); /* logical id */
	put_le32(page + 0xe0, 0xffffffff); /* flat */
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_LAPIC, page, sizeof(page)), 0);
	CHECK_EQ(vmx_vm_msi(e->vm, 0xfee0100c, 0x142), 0); /* logical 1, not us */
	CHECK_EQ(vmx_vm_msi(e->vm, 0xfee0200c, 0x142), 0); /* lowest priority, logical 2 */
	expect_out(e, 0x20);
	expect_out(e, 0x10);
	CHECK_EQ(vmx_vcpu_kick(e->vcpu), 0);
	CHECK_EQ(vmx_vcpu_resume(e->vcpu, &e->exit), -ECANCELED); /* and no second one */
}

/* A higher vector goes first; the lower one waits for the EOI. */
PAYLOAD(priorities, ".code64\n"
	"out %al, $0x10\n sti\n nop\n out %al, $0x11\n hlt\n"
	".org priorities + 0x40\n out %al, $0x35\n jmp 1f\n"
	".org priorities + 0x60\n out %al, $0x85\n"
	"1: mov $0xfee000b0, %eax\n movl $0, (%rax)\n iretq\n");

static void priority(struct env *e)
{
	env_long_payload(e, priorities);
	need_hardware(e, "it looks for interrupts only at exits");
	set_gate(e, 0x35, CODE + 0x40);
	set_gate(e, 0x85, CODE + 0x60);
	enable_lapic(e->vcpu);
	expect_out(e, 0x10);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_FIXED, 0x35), 0);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_FIXED, 0x85), 0);
	expect_out(e, 0x85);
	expect_out(e, 0x35);
	expect_out(e, 0x11);
}

/* APIC disabled by software: FIXED goes nowhere. */
static void disabled_apic(struct env *e)
{
	env_real_payload(e, later);
	set_ivt(e, 0x30, CODE + 0x40);
	expect_out(e, 0x10);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_FIXED, 0x30), 0);
	expect_out(e, 0x11);
	expect_out(e, 0x12);
}

/* On a busy host the first NMI may come before the HLT, which would then wait for ever: the handler
 * returns behind it. */
PAYLOAD(nmi_code, ".code16\n"
	"cli\n hlt\n 1: out %al, $0x10\n jmp 1b\n"
	".org nmi_code + 0x40\n out %al, $0x22\n out %al, $0x23\n"
	"push %bp\n mov %sp, %bp\n cmpw $0x1000 + 1b - nmi_code, 2(%bp)\n jae 2f\n"
	"movw $0x1000 + 1b - nmi_code, 2(%bp)\n 2: pop %bp\n iret\n");
_Static_assert(CODE == 0x1000, "nmi_code knows where it is");

static void *nmi_later(void *arg)
{
	struct env *e = arg;

	sleep_ms(30);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_NMI, 0), 0);
	return NULL;
}

/* Wakes although IF is clear; a second one inside the handler waits for IRET. */
static void nmi(struct env *e)
{
	pthread_t t;

	env_real_payload(e, nmi_code);
	need_hardware(e, "it looks for interrupts only at exits");
	set_ivt(e, 2, CODE + 0x40);
	t = start(nmi_later, e);
	expect_out(e, 0x22);
	join(t);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_NMI, 0), 0);
	expect_out(e, 0x23);
	expect_out(e, 0x22);
	expect_out(e, 0x23);
	expect_out(e, 0x10);
}

static void lint1(struct env *e)
{
	uint8_t page[1024];
	pthread_t t;

	env_real_payload(e, nmi_code);
	set_ivt(e, 2, CODE + 0x40);
	enable_lapic(e->vcpu);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_LAPIC, page, sizeof(page)), 0);
	put_le32(page + 0x360, 0x10400); /* NMI, masked */
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_LAPIC, page, sizeof(page)), 0);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_LINT1, 0), 0);
	t = start(nmi_later, e); /* another way to wake it, if the first (rightly) does not */
	expect_out(e, 0x22);
	expect_out(e, 0x23);
	expect_out(e, 0x10); /* just one of the two came through */
	join(t);
	put_le32(page + 0x360, 0x400); /* unmasked */
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_LAPIC, page, sizeof(page)), 0);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_LINT1, 0), 0);
	expect_out(e, 0x22);
	expect_out(e, 0x23);
	expect_out(e, 0x10);
}

/* After reset the APIC is off and LINT0 passes the PIC's interrupts through. */
static void extint_halted(struct env *e)
{
	env_real_payload(e, sleeper);
	set_ivt(e, 0x08, CODE + 0x40);
	for (int i = 0; i < 3; i++) {
		CHECK_EQ(vmx_vcpu_set_extint(e->vcpu, true), 0);
		expect(e, VMX_EXIT_EXTINT);
		CHECK_EQ(vmx_vcpu_set_extint(e->vcpu, false), 0); /* as a PIC does at INTA */
		CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_EXTINT, 0x08), 0);
		expect_out(e, 0x20);
		expect_out(e, 0x10);
	}
}

static void *raise_later(void *arg)
{
	struct env *e = arg;

	sleep_ms(30);
	CHECK_EQ(vmx_vcpu_set_extint(e->vcpu, true), 0);
	return NULL;
}

static void extint_wakes(struct env *e)
{
	pthread_t t;

	env_real_payload(e, sleeper);
	set_ivt(e, 0x08, CODE + 0x40);
	t = start(raise_later, e);
	expect(e, VMX_EXIT_EXTINT);
	join(t);
	/* Lowering the line is an answer as well. */
	CHECK_EQ(vmx_vcpu_set_extint(e->vcpu, false), 0);
	t = start(raise_later, e);
	expect(e, VMX_EXIT_EXTINT);
	join(t);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_EXTINT, 0x08), 0);
	CHECK_EQ(vmx_vcpu_set_extint(e->vcpu, false), 0);
	expect_out(e, 0x20);
	expect_out(e, 0x10);
}

/* The line stays up while the guest cannot take it; no exit before STI and its shadow. */
static void extint_waits(struct env *e)
{
	env_real_payload(e, later);
	need_hardware(e, "it looks for interrupts only at exits");
	set_ivt(e, 0x08, CODE + 0x40);
	CHECK_EQ(vmx_vcpu_set_extint(e->vcpu, true), 0);
	expect_out(e, 0x10);
	expect_out(e, 0x11);
	expect(e, VMX_EXIT_EXTINT);
	CHECK_EQ(e->exit.rip, CODE + 7); /* after STI's shadow: behind the first NOP */
	CHECK_EQ(vmx_vcpu_set_extint(e->vcpu, false), 0);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_EXTINT, 0x08), 0);
	expect_out(e, 0x20);
	expect_out(e, 0x12);
}

/* LINT0 masked in the APIC: the PIC is not heard. */
static void extint_masked(struct env *e)
{
	uint8_t page[1024];

	env_real_payload(e, later);
	set_ivt(e, 0x08, CODE + 0x40);
	enable_lapic(e->vcpu);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_LAPIC, page, sizeof(page)), 0);
	put_le32(page + 0x350, 0x10700);
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_LAPIC, page, sizeof(page)), 0);
	CHECK_EQ(vmx_vcpu_set_extint(e->vcpu, true), 0);
	expect_out(e, 0x10);
	expect_out(e, 0x11);
	expect_out(e, 0x12);
}

static void eoi_exit(struct env *e)
{
	env_long_payload(e, long_sleeper);
	set_gate(e, 0x51, CODE + 0x40);
	enable_lapic(e->vcpu);
	CHECK_EQ(vmx_vm_ioapic_route(e->vm, 9, 0xfee00000, 0x8051, true), 0); /* level */
	CHECK_EQ(vmx_vm_msi(e->vm, 0xfee00000, 0xc051), 0); /* level, assert */
	expect_out(e, 0x20);
	expect(e, VMX_EXIT_APIC_EOI);
	CHECK_EQ(e->exit.eoi.vector, 0x51);
	expect_out(e, 0x10);
	/* An edge-triggered one tells nobody. */
	CHECK_EQ(vmx_vm_ioapic_route(e->vm, 9, 0xfee00000, 0x51, true), 0);
	CHECK_EQ(vmx_vm_msi(e->vm, 0xfee00000, 0x51), 0);
	expect_out(e, 0x20);
	expect_out(e, 0x10);
}

PAYLOAD(ap_code, ".code16\n mov $0x77, %al\n mov %cs, %bx\n out %al, $0x30\n 1: hlt\n jmp 1b");

struct ap {
	struct env *e;
	struct vmx_vcpu *vcpu;
	_Atomic int stage;
	uint8_t value;
	uint64_t cs;
};

static void *ap_thread(void *arg)
{
	struct ap *a = arg;
	struct env mine = *a->e;
	uint32_t activity = 99;
	uint8_t page[1024];

	CHECK_EQ(vmx_vcpu_create(a->e->vm, 1, &a->vcpu), 0);
	CHECK_EQ(vmx_vcpu_read_state(a->vcpu, VMX_STATE_ACTIVITY, &activity, 4), 0);
	CHECK_EQ(activity, VMX_WAIT_FOR_SIPI);
	CHECK_EQ(vmx_vcpu_read_state(a->vcpu, VMX_STATE_LAPIC, page, sizeof(page)), 0);
	CHECK_EQ(get_le32(page + 0x20), 1u << 24);
	mine.vcpu = a->vcpu;
	a->stage = 1;
	a->value = expect_out(&mine, 0x30);
	a->cs = mine.exit.cs_selector;
	CHECK_EQ(mine.exit.cs_base, 0x1000);
	a->stage = 2;
	CHECK_EQ(vmx_vcpu_resume(a->vcpu, &mine.exit), -ECANCELED);
	CHECK_EQ(vmx_vcpu_destroy(a->vcpu), 0);
	return NULL;
}

static void init_sipi(struct env *e)
{
	struct ap a = { .e = e };
	pthread_t t;

	env_real_payload(e, ap_code);
	t = start(ap_thread, &a);
	while (a.stage != 1)
		sleep_ms(1);
	sleep_ms(20);
	CHECK_EQ(a.stage, 1); /* it waits */
	CHECK_EQ(vmx_vcpu_interrupt(a.vcpu, VMX_INTERRUPT_INIT, 0), 0);
	sleep_ms(10);
	CHECK_EQ(a.stage, 1);
	CHECK_EQ(vmx_vcpu_interrupt(a.vcpu, VMX_INTERRUPT_SIPI, CODE >> 12), 0);
	while (a.stage != 2)
		sleep_ms(1);
	CHECK_EQ(a.value, 0x77);
	CHECK_EQ(a.cs, 0x100);
	CHECK_EQ(vmx_vcpu_kick(a.vcpu), 0);
	join(t);
}

/* The same by the guest's own ICR: vCPU 0 wakes vCPU 1. */
PAYLOAD(bsp_code, ".code64\n"
	"mov $0xfee00300, %edi\n movl $0x01000000, 16(%rdi)\n movl $0x4500, (%rdi)\n"
	"out %al, $0x10\n"
	"movl $0x01000000, 16(%rdi)\n movl $0x4602, (%rdi)\n out %al, $0x11\n 1: hlt\n jmp 1b");

PAYLOAD(ap_target, ".code16\n mov $0x66, %al\n out %al, $0x30\n 1: hlt\n jmp 1b");

static void *ap_by_icr(void *arg)
{
	struct ap *a = arg;
	struct env mine = *a->e;

	CHECK_EQ(vmx_vcpu_create(a->e->vm, 1, &a->vcpu), 0);
	mine.vcpu = a->vcpu;
	a->stage = 1;
	a->value = expect_out(&mine, 0x30);
	a->stage = 2;
	CHECK_EQ(vmx_vcpu_destroy(a->vcpu), 0);
	return NULL;
}

static void init_sipi_by_guest(struct env *e)
{
	struct ap a = { .e = e };
	pthread_t t;

	env_long_payload(e, bsp_code);
	memcpy(e->ram + 0x2000, ap_target, (size_t)(ap_target_end - ap_target));
	CHECK_EQ(vmx_vm_written(e->vm, 0x2000, 64), 0);
	enable_lapic(e->vcpu);
	t = start(ap_by_icr, &a);
	while (a.stage != 1)
		sleep_ms(1);
	expect_out(e, 0x10);
	sleep_ms(10);
	expect_out(e, 0x11);
	join(t);
	CHECK_EQ(a.value, 0x66);
}

/* INIT on a running boot processor: it starts at the reset vector, where nothing is. */
PAYLOAD(spin, ".code16\n out %al, $0x10\n 1: jmp 1b");

static void *init_later(void *arg)
{
	struct env *e = arg;

	sleep_ms(30);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_INIT, 0), 0);
	return NULL;
}

static void init_resets(struct env *e)
{
	pthread_t t;

	env_real_payload(e, spin);
	expect_out(e, 0x10);
	t = start(init_later, e);
	expect(e, VMX_EXIT_MEM);
	join(t);
	CHECK_EQ(e->exit.mem.exec, true);
	CHECK_EQ(e->exit.mem.gpa, 0xfffffff0);
	CHECK_EQ(reg(e, VMX_RIP), 0xfff0);
	CHECK_EQ(reg(e, VMX_CR0) & 1, 0);
}

static const struct test tests[] = {
	{ "arguments", "Z7 W8", arguments },
	{ "fixed-wakes-halt", "Z7 W8", fixed_wakes_halt },
	{ "fixed-stays-pending", "Z7 Z5", fixed_stays_pending },
	{ "msi-long-mode", "W8", msi_long_mode },
	{ "msi-logical-and-lowest", "W8", msi_logical_and_lowest },
	{ "priority", "W8", priority },
	{ "disabled-apic", "W8", disabled_apic },
	{ "nmi", "W8 Z7", nmi },
	{ "lint1", "W8", lint1 },
	{ "extint-halted", "W5 W8", extint_halted },
	{ "extint-wakes", "W5 W8 Z7", extint_wakes },
	{ "extint-waits", "W5 W8", extint_waits },
	{ "extint-masked", "W8", extint_masked },
	{ "eoi-exit", "W5", eoi_exit },
	{ "init-sipi", "W8 Z4", init_sipi },
	{ "init-sipi-by-guest", "W8", init_sipi_by_guest },
	{ "init-resets", "W8", init_resets },
};
SUITE(interrupts, "interrupts");
