/* SPDX-License-Identifier: Apache-2.0 */
/* cpuid.c - the CPUID table of a guest on KVM: what the kernel supports, and who each vCPU is. */
#include "vmx-driver/kvm/kvm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SPARE_ENTRIES 2u /* for leaves that the kernel does not offer */

static struct kvm_cpuid_entry2 *find(struct kvm_cpuid2 *cpuid, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == leaf &&
		    (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || e->index == subleaf))
			return e;
	}
	return NULL;
}

static int fetch_supported(struct kvm_vm *k, struct kvm_cpuid2 **ret)
{
	for (uint32_t n = 128; n <= 4096; n *= 2) {
		struct kvm_cpuid2 *c;
		int r;

		c = calloc(1, sizeof(*c) + (n + SPARE_ENTRIES) * sizeof(c->entries[0]));
		if (!c)
			return -ENOMEM;
		c->nent = n;
		r = kvm_ioctl(k->dev_fd, KVM_GET_SUPPORTED_CPUID, c);
		if (r >= 0) {
			*ret = c;
			return 0;
		}
		free(c);
		if (r != -E2BIG)
			return r;
	}
	return -E2BIG;
}

/* One thread, one core, one package a vCPU: how many there will be is not known yet. */
static void single_topology(struct kvm_cpuid2 *c)
{
	for (uint32_t i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[i];

		switch (e->function) {
		case 1:
			e->edx &= ~(1u << 28); /* HTT */
			e->ebx = (e->ebx & ~0x00ff0000u) | 1u << 16;
			break;
		case 4:
			e->eax &= ~0xffffc000u;
			break;
		case 0xb:
		case 0x1f:
			e->eax = e->ebx = 0;
			e->ecx = e->index & 0xff;
			break;
		case 0x80000001:
			e->ecx &= ~(1u << 1 | 1u << 22); /* CmpLegacy, topology extensions */
			break;
		case 0x80000008:
			e->ecx = 0;
			break;
		case 0x8000001d:
			e->eax &= ~0x03ffc000u;
			break;
		default:
			break;
		}
	}
}

int kvm_cpuid_new(struct kvm_vm *k, struct kvm_cpuid2 **ret)
{
	struct kvm_cpuid_entry2 *e;
	struct kvm_cpuid2 *c;
	bool nested = k->vm.options.flags & VMX_VM_NESTED;
	int r = fetch_supported(k, &c);

	if (r < 0)
		return r;
	e = find(c, 1, 0);
	if (!e || (nested && !(e->ecx & 1u << 5))) {
		free(c);
		return -ENOTSUP;
	}
	if (!nested)
		e->ecx &= ~(1u << 5); /* VMX */
	e->ecx |= 1u << 31 | 1u << 21; /* a hypervisor is present; x2APIC, which the kernel keeps */
	if (k->have_tsc_deadline)
		e->ecx |= 1u << 24;
	e = find(c, 0x80000001, 0);
	if (e)
		e->ecx &= ~(1u << 2); /* SVM: nested virtualization is VMX or nothing */
	e = find(c, 0x80000008, 0);
	k->vm.phys_bits = e && (e->eax & 0xff) >= 36 && (e->eax & 0xff) <= 52 ? e->eax & 0xff : 36;
	single_topology(c);
	*ret = c;
	return 0;
}

void kvm_cpuid_set_id(struct kvm_cpuid2 *c, uint32_t apic_id)
{
	for (uint32_t i = 0; i < c->nent; i++) {
		struct kvm_cpuid_entry2 *e = &c->entries[i];

		if (e->function == 1)
			e->ebx = (e->ebx & 0x00ffffff) | apic_id << 24;
		else if (e->function == 0xb || e->function == 0x1f)
			e->edx = apic_id;
		else if (e->function == 0x8000001e)
			e->eax = apic_id;
	}
}

static struct kvm_cpuid_entry2 *find_or_add(struct kvm_cpuid2 *c, uint32_t leaf)
{
	struct kvm_cpuid_entry2 *e = find(c, leaf, 0);

	if (!e) {
		e = &c->entries[c->nent++];
		memset(e, 0, sizeof(*e));
		e->function = leaf;
	}
	return e;
}

void kvm_cpuid_set_tsc(struct kvm_cpuid2 *c, uint64_t tsc_hz)
{
	struct kvm_cpuid_entry2 *e = find(c, 0, 0);
	bool intel = e && e->ebx == 0x756e6547; /* "Genu": AMD defines no leaf 0x15 */

	if (!tsc_hz)
		return;
	if (intel && e->eax >= 0x15) {
		/* The kernel's APIC timer counts at 1 GHz, so that is the crystal. */
		e = find_or_add(c, 0x15);
		e->eax = 1000000;
		e->ebx = (uint32_t)(tsc_hz / 1000);
		e->ecx = 1000000000;
	}
	e = find(c, 0x40000000, 0);
	if (!e)
		return;
	if (e->eax < 0x40000010)
		e->eax = 0x40000010;
	e = find_or_add(c, 0x40000010);
	e->eax = (uint32_t)(tsc_hz / 1000);
	e->ebx = 1000000; /* APIC timer, kHz */
}
