/* SPDX-License-Identifier: Apache-2.0 */
/* regs.c - registers by name, any subset in one call, on top of read_state/write_state; and which
 * values no processor can have (W7). */
#include "vmx-driver/engine.h"

#include <errno.h>

#include "common/checked.h"

#define CR0_PE 1ull
#define CR0_NW (1ull << 29)
#define CR0_CD (1ull << 30)
#define CR0_PG (1ull << 31)
#define CR4_PAE (1ull << 5)
#define CR4_LA57 (1ull << 12)
#define CR4_PCIDE (1ull << 17)
#define RFLAGS_VM (1ull << 17)
#define SEG_S (1u << 4)
#define SEG_P (1u << 7)
#define SEG_L (1u << 13)
#define EFER_LME (1ull << 8)
#define EFER_LMA (1ull << 10)
#define EFER_KNOWN 0x20fd01ull /* SCE LME LMA NXE SVME LMSLE FFXSR TCE AIBRSE */

static bool segment_possible(const struct vmx_segment *s)
{
	return s->unusable || !(s->attributes & 0x0f00);
}

/* What the architecture itself rules out; what a certain processor lacks is the engine's to say. */
static bool sregs_possible(const struct vmx_sregs *s)
{
	const struct vmx_segment *segments[] = { &s->es, &s->cs, &s->ss, &s->ds,
						 &s->fs, &s->gs, &s->ldtr, &s->tr };
	bool long_mode = (s->efer & EFER_LME) && (s->cr0 & CR0_PG);

	for (size_t i = 0; i < ARRAY_SIZE(segments); i++)
		if (!segment_possible(segments[i]))
			return false;
	if (s->cr0 >> 32 || ((s->cr0 & CR0_PG) && !(s->cr0 & CR0_PE)) ||
	    ((s->cr0 & CR0_NW) && !(s->cr0 & CR0_CD)))
		return false;
	if ((s->efer & ~EFER_KNOWN) || !(s->efer & EFER_LMA) != !long_mode)
		return false;
	if (long_mode && !(s->cr4 & CR4_PAE))
		return false;
	if ((s->cr4 & CR4_PCIDE) && !long_mode)
		return false;
	return !(s->cr4 >> 33) && s->cr8 <= 15 && (s->xcr0 & 1);
}

const char *vmx_entry_possible(const struct vmx_regs *regs, const struct vmx_sregs *s)
{
	bool protected = s->cr0 & CR0_PE, vm86 = regs->rflags & RFLAGS_VM;
	bool code64 = (s->efer & EFER_LMA) && (s->cs.attributes & SEG_L);
	unsigned bits = s->cr4 & CR4_LA57 ? 57 : 48;

	if (vm86 && !protected)
		return "RFLAGS.VM is set without CR0.PE";
	if (vm86 && (s->efer & EFER_LMA))
		return "RFLAGS.VM is set in long mode";
	if (protected && !vm86 &&
	    (s->cs.unusable || (s->cs.attributes & (SEG_S | SEG_P)) != (SEG_S | SEG_P)))
		return "CS is no present segment";
	if (!code64 && regs->rip >> 32)
		return "RIP is beyond 32 bits outside 64-bit mode";
	if (code64 && (uint64_t)((int64_t)(regs->rip << (64 - bits)) >> (64 - bits)) != regs->rip)
		return "RIP is not canonical";
	return NULL;
}

bool vmx_state_possible(enum vmx_state_kind kind, const void *buf)
{
	switch (kind) {
	case VMX_STATE_REGS:
		return !(((const struct vmx_regs *)buf)->rflags >> 22);
	case VMX_STATE_SREGS:
		return sregs_possible(buf);
	case VMX_STATE_ACTIVITY:
		return *(const uint32_t *)buf <= VMX_SHUTDOWN_STATE;
	default:
		return true;
	}
}

struct named_state { /* the three kinds that hold named registers */
	struct vmx_regs regs;
	struct vmx_sregs sregs;
	struct vmx_debugregs debug;
};

static const struct {
	enum vmx_state_kind kind;
	size_t offset, size;
} kinds[] = {
	/* In the order of writing: what is refused most likely comes first. */
	{ VMX_STATE_SREGS, offsetof(struct named_state, sregs), sizeof(struct vmx_sregs) },
	{ VMX_STATE_DEBUGREGS, offsetof(struct named_state, debug), sizeof(struct vmx_debugregs) },
	{ VMX_STATE_REGS, offsetof(struct named_state, regs), sizeof(struct vmx_regs) },
};

#define R(name, field) [name] = { VMX_STATE_REGS, offsetof(struct named_state, regs.field) }
#define S(name, field) [name] = { VMX_STATE_SREGS, offsetof(struct named_state, sregs.field) }
#define D(name, field) [name] = { VMX_STATE_DEBUGREGS, offsetof(struct named_state, debug.field) }

static const struct {
	enum vmx_state_kind kind;
	size_t offset;
} registers[VMX_REG_COUNT] = {
	R(VMX_RAX, rax), R(VMX_RCX, rcx), R(VMX_RDX, rdx), R(VMX_RBX, rbx),
	R(VMX_RSP, rsp), R(VMX_RBP, rbp), R(VMX_RSI, rsi), R(VMX_RDI, rdi),
	R(VMX_R8, r8), R(VMX_R9, r9), R(VMX_R10, r10), R(VMX_R11, r11),
	R(VMX_R12, r12), R(VMX_R13, r13), R(VMX_R14, r14), R(VMX_R15, r15),
	R(VMX_RIP, rip), R(VMX_RFLAGS, rflags),
	S(VMX_CR0, cr0), S(VMX_CR2, cr2), S(VMX_CR3, cr3), S(VMX_CR4, cr4), S(VMX_CR8, cr8),
	S(VMX_EFER, efer), S(VMX_XCR0, xcr0), S(VMX_APIC_BASE, apic_base),
	D(VMX_DR0, dr[0]), D(VMX_DR1, dr[1]), D(VMX_DR2, dr[2]), D(VMX_DR3, dr[3]),
	D(VMX_DR6, dr6), D(VMX_DR7, dr7),
};

static uint64_t *slot_of(struct named_state *st, enum vmx_reg name)
{
	return (uint64_t *)((char *)st + registers[name].offset);
}

/* Which kinds the names need, as bits; 0 names are fine. */
static int kinds_of(const enum vmx_reg *names, size_t n, uint32_t *ret)
{
	*ret = 0;
	for (size_t i = 0; i < n; i++) {
		if ((unsigned)names[i] >= VMX_REG_COUNT)
			return -EINVAL;
		*ret |= 1u << registers[names[i]].kind;
	}
	return 0;
}

static int load(struct vmx_vcpu *vcpu, struct named_state *st, uint32_t mask)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		int r;

		if (!(mask & 1u << kinds[i].kind))
			continue;
		r = vmx_vcpu_read_state(vcpu, kinds[i].kind, (char *)st + kinds[i].offset,
					kinds[i].size);
		if (r < 0)
			return r;
	}
	return 0;
}

static int store(struct vmx_vcpu *vcpu, const struct named_state *st, uint32_t mask,
		 uint32_t *ret_done)
{
	*ret_done = 0;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		int r;

		if (!(mask & 1u << kinds[i].kind))
			continue;
		r = vmx_vcpu_write_state(vcpu, kinds[i].kind, (const char *)st + kinds[i].offset,
					 kinds[i].size);
		if (r < 0)
			return r;
		*ret_done |= 1u << kinds[i].kind;
	}
	return 0;
}

/* The handle is checked even when n is 0. */
static int check(struct vmx_vcpu *vcpu, const void *names, size_t n, const void *values)
{
	size_t size;
	int r = vmx_vcpu_state_size(vcpu, VMX_STATE_REGS, &size);

	if (r < 0)
		return r;
	return n && (!names || !values) ? -EINVAL : 0;
}

int vmx_vcpu_get_regs(struct vmx_vcpu *vcpu, const enum vmx_reg *names, size_t n, uint64_t *values)
{
	struct named_state st;
	uint32_t mask;
	int r = check(vcpu, names, n, values);

	if (r >= 0)
		r = kinds_of(names, n, &mask);
	if (r >= 0)
		r = load(vcpu, &st, mask);
	for (size_t i = 0; r >= 0 && i < n; i++)
		values[i] = *slot_of(&st, names[i]);
	return r;
}

int vmx_vcpu_set_regs(struct vmx_vcpu *vcpu, const enum vmx_reg *names, size_t n,
		      const uint64_t *values)
{
	struct named_state st, before;
	uint32_t mask, done;
	int r = check(vcpu, names, n, values);

	if (r >= 0)
		r = kinds_of(names, n, &mask);
	if (r >= 0)
		r = load(vcpu, &st, mask);
	if (r < 0)
		return r;
	before = st;
	for (size_t i = 0; i < n; i++)
		*slot_of(&st, names[i]) = values[i];
	r = store(vcpu, &st, mask, &done);
	if (r < 0) /* all or nothing */
		store(vcpu, &before, done, &mask);
	return r;
}
