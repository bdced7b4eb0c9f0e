/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pv.c - what guests that know KVM are offered: its CPUID leaves, kvmclock, hypercalls (the kernel's
 * Documentation/virt/kvm/x86/{cpuid,msr,hypercalls}.rst). GENERAL.
 *
 * kvmclock counts from the VM's creation at the TSC's own rate, which is constant, so its page
 * changes only when a guest moves a TSC.
 */
#include "vmx-driver/soft/pv.h"

#include <sys/syscall.h>
#include <time.h>

#include "vmx-driver/soft/lapic.h"
#include "vmx-driver/soft/sys.h"

#define NSEC_PER_SEC 1000000000u

enum { /* leaf 0x40000001 EAX */
	PV_CLOCK_OLD = 1u << 0, PV_NO_IO_DELAY = 1u << 1, PV_CLOCK = 1u << 3,
	PV_SEND_IPI = 1u << 11, PV_CLOCK_STABLE = 1u << 24,
};
enum { /* KVM_HC_* and what they return */
	CALL_VAPIC_POLL_IRQ = 1, CALL_SEND_IPI = 10,
	CALL_EPERM = -1, CALL_EINVAL = -22, CALL_ENOSYS = -1000,
};
enum { PV_ENABLE = 1, TIME_STABLE = 1 };

struct pv_time { /* pvclock_vcpu_time_info */
	uint32_t version, pad; /* odd while it is being written */
	uint64_t tsc, ns;      /* the clock said ns at that TSC */
	uint32_t mul;          /* ns = ticks * mul >> 32, after ticks <<= shift */
	int8_t shift;
	uint8_t flags, pad2[2];
};
struct pv_wall { /* pvclock_wall_clock: when the clock said 0 */
	uint32_t version, sec, nsec;
};

uint32_t soft_pv_features(bool nested)
{
	/* In VMX root operation VMCALL is no hypercall, so none that a kernel could rely on. */
	return PV_CLOCK_OLD | PV_NO_IO_DELAY | PV_CLOCK | PV_CLOCK_STABLE |
	       (nested ? 0u : (uint32_t)PV_SEND_IPI);
}

/* --- clock ---------------------------------------------------------------------------------- */

/* Guest memory; what is no RAM takes nothing. */
static void put(struct soft_vcpu *v, uint64_t gpa, const void *from, unsigned n)
{
	const uint8_t *bytes = from;

	for (unsigned i = 0; i < n; i++) {
		uint8_t *p = soft_gpa_ptr(v, gpa + i, true);

		if (p)
			*p = bytes[i];
	}
	for (unsigned part; n; gpa += part, n -= part) { /* no more than two pages */
		part = (unsigned)(4096 - (gpa & 4095));
		part = part < n ? part : n;
		if (soft_code_overlaps(soft_vm_of(v), gpa, part))
			soft_code_written(soft_vm_of(v), v, gpa, part);
	}
}

static uint32_t version_at(struct soft_vcpu *v, uint64_t gpa)
{
	const uint8_t *p = soft_gpa_ptr(v, gpa, false);

	return p ? __atomic_load_n((const uint32_t *)(const void *)p, __ATOMIC_RELAXED) : 0;
}

/* The rate as a fraction of 2^32 below 1, and a shift before it. */
static void rate(uint64_t hz, struct pv_time *t)
{
	uint64_t scaled = NSEC_PER_SEC;

	while (scaled >= hz) { /* slower than 1 GHz */
		hz <<= 1;
		t->shift++;
	}
	t->mul = (uint32_t)((scaled << 32) / hz);
}

static uint64_t own_offset(const struct soft_vcpu *v)
{
	return v->tsc_offset - v->vmx.tsc_offset;
}

static void write_time(struct soft_vcpu *v)
{
	const struct soft_vm *vm = soft_vm_of(v);
	uint64_t gpa = v->pv_time & ~(uint64_t)PV_ENABLE;
	struct pv_time t = { .version = (version_at(v, gpa) + 1) | 1 };

	if (!(v->pv_time & PV_ENABLE))
		return;
	t.tsc = own_offset(v) - vm->tsc_offset;
	t.flags = atomic_load(&vm->tsc_split) ? 0 : TIME_STABLE;
	rate(vm->tsc_hz, &t);
	put(v, gpa, &t.version, sizeof(t.version));
	put(v, gpa, &t, sizeof(t));
	t.version++;
	put(v, gpa, &t.version, sizeof(t.version));
}

void soft_pv_tsc_moved(struct soft_vcpu *v)
{
	struct soft_vm *vm = soft_vm_of(v);

	if (own_offset(v) != vm->tsc_offset && !atomic_exchange(&vm->tsc_split, true)) {
		soft_lock(&vm->apic_lock);
		for (unsigned i = 0; i < VMX_VCPUS_MAX; i++) {
			uint64_t at = vm->vcpus[i] ? vm->vcpus[i]->pv_time : 0;
			uint8_t none = 0;

			if (at & PV_ENABLE)
				put(v, (at & ~(uint64_t)PV_ENABLE) + offsetof(struct pv_time, flags),
				    &none, 1);
		}
		soft_unlock(&vm->apic_lock);
	}
	write_time(v);
}

static void write_wall(struct soft_vcpu *v, uint64_t gpa)
{
	const struct soft_vm *vm = soft_vm_of(v);
	struct pv_wall w = { .version = (version_at(v, gpa) | 1) + 1 };
	struct pv_time t = { 0 };
	struct timespec now = { 0, 0 };
	long ret = SYS_clock_gettime;
	uint64_t since;

	/* The system call itself keeps vector registers; a libc wrapper promises nothing. */
	__asm__ volatile("syscall" : "+a"(ret) : "D"((long)CLOCK_REALTIME), "S"(&now)
			 : "rcx", "r11", "memory");
	rate(vm->tsc_hz, &t);
	since = (__builtin_ia32_rdtsc() + vm->tsc_offset) << t.shift;
	since = (since >> 32) * t.mul + ((since & UINT32_MAX) * t.mul >> 32);
	since = (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec - since;
	w.sec = (uint32_t)(since / NSEC_PER_SEC);
	w.nsec = (uint32_t)(since % NSEC_PER_SEC);
	put(v, gpa, &w, sizeof(w));
}

bool soft_pv_read_msr(const struct soft_vcpu *v, uint32_t index, uint64_t *ret_value)
{
	switch (index) {
	case MSR_PV_WALL_OLD:
	case MSR_PV_WALL:
		*ret_value = soft_vm_of(v)->pv_wall;
		return true;
	case MSR_PV_TIME_OLD:
	case MSR_PV_TIME:
		*ret_value = v->pv_time;
		return true;
	default:
		return false;
	}
}

bool soft_pv_write_msr(struct soft_vcpu *v, uint32_t index, uint64_t value)
{
	switch (index) {
	case MSR_PV_WALL_OLD:
	case MSR_PV_WALL:
		soft_vm_of(v)->pv_wall = value;
		write_wall(v, value);
		return true;
	case MSR_PV_TIME_OLD:
	case MSR_PV_TIME:
		v->pv_time = value;
		write_time(v);
		return true;
	default:
		return false;
	}
}

/* --- hypercalls ----------------------------------------------------------------------------- */

/* bits[0] and [1]: APIC ids from `first` on. The number of processors that it went to. */
static int64_t send_ipi(struct soft_vcpu *v, const uint64_t bits[2], unsigned word_bits,
			uint64_t first, uint64_t icr)
{
	struct soft_message m = { .vector = (uint8_t)icr, .mode = icr >> 8 & 7 };
	int64_t sent = 0;

	if ((icr & (1u << 11 | 3u << 18)) || (m.mode != APIC_NMI && m.mode != APIC_FIXED))
		return CALL_EINVAL;
	for (unsigned i = 0; i < 2 * word_bits && first + i < VMX_VCPUS_MAX; i++) {
		m.dest = (uint32_t)(first + i);
		if ((bits[i / word_bits] >> i % word_bits & 1) && soft_vm_of(v)->vcpus[m.dest]) {
			soft_apic_send(soft_vm_of(v), &m);
			sent++;
		}
	}
	return sent;
}

int soft_pv_hypercall(struct soft_vcpu *v)
{
	bool wide = sys_code64(v);
	uint64_t mask = wide ? ~0ull : UINT32_MAX;
	const uint64_t bits[2] = { v->gpr[SOFT_RBX] & mask, v->gpr[SOFT_RCX] & mask };
	int64_t result;

	switch (v->cpl ? ~0ull : v->gpr[SOFT_RAX] & mask) {
	case ~0ull:
		result = v->cpl ? CALL_EPERM : CALL_ENOSYS;
		break;
	case CALL_VAPIC_POLL_IRQ:
		result = 0;
		break;
	case CALL_SEND_IPI:
		result = send_ipi(v, bits, wide ? 64 : 32, v->gpr[SOFT_RDX] & mask,
				  v->gpr[SOFT_RSI] & mask);
		break;
	default:
		result = CALL_ENOSYS;
		break;
	}
	v->gpr[SOFT_RAX] = (uint64_t)result & mask;
	return sys_done(v);
}
