/* SPDX-License-Identifier: Apache-2.0 */
/* cpuid_guest.c - the CPUID instruction: the VM's table and what depends on the vCPU. GENERAL. */
#include "vmx-driver/soft/sys.h"

static const struct soft_cpuid_leaf *find(const struct soft_cpuid *c, uint32_t leaf,
					  uint32_t subleaf)
{
	for (unsigned i = 0; i < c->count; i++)
		if (c->leaf[i].leaf == leaf && c->leaf[i].subleaf == subleaf)
			return &c->leaf[i];
	return NULL;
}

static bool has_subleaves(uint32_t leaf)
{
	return leaf == 4 || leaf == 7 || leaf == 0xb || leaf == 0xd;
}

static unsigned vcpu_count(const struct soft_vcpu *v)
{
	unsigned n = 0;

	for (unsigned i = 0; i < VMX_VCPUS_MAX; i++)
		n += v->v.vm->vcpus[i] != NULL;
	return n ? n : 1;
}

static uint32_t enabled_size(uint64_t xcr0)
{
	return (xcr0 & 4) ? 832 : 576;
}

static void at_run_time(struct soft_vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	switch (leaf) {
	case 1:
		out[1] |= (uint32_t)v->v.id << 24;
		if (v->cr4 & CR4_OSXSAVE)
			out[2] |= 1u << 27;
		if (!(v->apic_base & (1u << 11)))
			out[3] &= ~(1u << 9);
		break;
	case 0xb:
		out[3] = v->v.id;
		if (subleaf == 1)
			out[1] = vcpu_count(v);
		else if (subleaf > 1)
			out[2] = subleaf & 0xff;
		break;
	case 0xd:
		if (subleaf <= 1 && sys_cpuid(v)->xcr0)
			out[1] = enabled_size(v->xcr0);
		break;
	case 0x80000001u:
		if (!sys_code64(v))
			out[3] &= ~(1u << 11); /* SYSCALL */
		break;
	default:
		break;
	}
}

void soft_cpuid(struct soft_vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	const struct soft_cpuid *c = sys_cpuid(v);
	const struct soft_cpuid_leaf *l;
	uint32_t class = leaf & 0xf0000000u;

	/* A basic or extended leaf that is too high gives the highest basic leaf. */
	if (class != 0x40000000u) {
		l = find(c, class == 0x80000000u ? class : 0, 0);
		if (!l || leaf > l->reg[0]) {
			l = find(c, 0, 0);
			leaf = l ? l->reg[0] : 0;
		}
	}
	l = find(c, leaf, has_subleaves(leaf) ? subleaf : 0);
	for (unsigned i = 0; i < 4; i++)
		out[i] = l ? l->reg[i] : 0;
	at_run_time(v, leaf, subleaf, out);
}
