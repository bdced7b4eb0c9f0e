/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.c - runs guest code on each engine, and chooses one.
 *
 * That /dev/kvm opens proves nothing, so every engine must wake from HLT, write a port, write to
 * memory that is not there, run 64-bit code, and run a loop fast enough. Each engine is tried on a
 * thread of its own; the caller's thread watches the clock, kicks the guest at the end of the timed
 * loop and whenever it is late, and leaves a thread behind that does not even come back then.
 */
#include "vmx-driver/engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/clock.h"

#define RAM_BYTES 0x10000u
#define CODE_REAL 0x1000u
#define CODE_LONG 0x1800u
#define CODE_LOOP 0x1900u
#define HANDLER 0x1100u
#define PML4 0x2000u
#define VECTOR 0x30u
#define PORT 0x10
#define NOWHERE 0xb8000u /* behind our RAM */

#define NSEC_PER_MSEC 1000000ull
#define LOOP_NS (20 * NSEC_PER_MSEC)
#define LOOP_TURNS 50 /* a second */
#define LATE_NS (2000 * NSEC_PER_MSEC) /* then it is kicked, */
#define GONE_NS (4000 * NSEC_PER_MSEC) /* and then given up */
#define LOOP_INSNS 4u
/* No processor of the last decades with hardware virtualization is slower; a KVM that emulates is
 * a hundred times slower. */
#define HARDWARE_INSNS_PER_SECOND 50000000ull

/* sti; hlt; mov al,0x5a; out PORT,al; mov ax,NOWHERE>>4; mov ds,ax; mov byte [0],0xa5; hlt */
static const uint8_t code_real[] = { 0xfb, 0xf4, 0xb0, 0x5a, 0xe6, PORT, 0xb8, 0x00, 0xb8,
				     0x8e, 0xd8, 0xc6, 0x06, 0x00, 0x00, 0xa5, 0xf4 };
/* inc bp; iret */
static const uint8_t code_handler[] = { 0x45, 0xcf };
/* movabs rax,0x1122334455667788; bswap rax; out PORT,al; hlt */
static const uint8_t code_long[] = { 0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22,
				     0x11, 0x48, 0x0f, 0xc8, 0xe6, PORT, 0xf4 };
/* 1: add rax,rcx; xor rbx,rax; dec rcx; jnz 1b; hlt */
static const uint8_t code_loop[] = { 0x48, 0x01, 0xc8, 0x48, 0x31, 0xc3,
				     0x48, 0xff, 0xc9, 0x75, 0xf5, 0xf4 };

struct job { /* shared by the engine's thread and the watching one; freed by the last */
	enum vmx_engine engine;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned users;
	bool done;
	bool late;
	uint64_t kick_at;      /* 0: not yet */
	struct vmx_vcpu *vcpu; /* while it lives */
	char log[160];         /* the engine's last word */
	struct vmx_probe_result result;

	/* the engine's thread only */
	struct vmx_vm *vm;
	uint8_t *ram;
	struct vmx_exit exit;
};

static void keep_line(void *opaque, int level, const char *line)
{
	struct job *j = opaque;

	if (level <= 4)
		snprintf(j->log, sizeof(j->log), "%s", line);
}

static int refuse(struct job *j, const char *why)
{
	snprintf(j->result.why, sizeof(j->result.why), "%s", why);
	return -EIO;
}

static void job_put(struct job *j)
{
	bool last;

	pthread_mutex_lock(&j->lock);
	last = --j->users == 0;
	pthread_mutex_unlock(&j->lock);
	if (!last)
		return;
	pthread_cond_destroy(&j->changed);
	pthread_mutex_destroy(&j->lock);
	free(j);
}

static bool is_late(struct job *j)
{
	bool late;

	pthread_mutex_lock(&j->lock);
	late = j->late;
	pthread_mutex_unlock(&j->lock);
	return late;
}

/* Resumes until an exit of that reason; what else comes is a failure of `step`. */
static int expect(struct job *j, struct vmx_vcpu *vcpu, enum vmx_exit_reason reason,
		  const char *step)
{
	int r = vmx_vcpu_resume(vcpu, &j->exit);

	if (r == -ECANCELED && is_late(j))
		snprintf(j->result.why, sizeof(j->result.why), "%s does not end", step);
	else if (r < 0)
		snprintf(j->result.why, sizeof(j->result.why), "%s fails: %s", step, strerror(-r));
	else if (j->exit.reason != reason)
		snprintf(j->result.why, sizeof(j->result.why), "%s ends with the exit %s", step,
			 vmx_exit_reason_name(j->exit.reason));
	else
		return 0;
	return -EIO;
}

static int start_at(struct vmx_vcpu *vcpu, uint64_t rip, uint64_t rcx)
{
	const struct vmx_regs regs = { .rip = rip, .rsp = 0x8000, .rflags = 2, .rcx = rcx };

	return vmx_vcpu_write_state(vcpu, VMX_STATE_REGS, &regs, sizeof(regs));
}

static int to_real_mode(struct vmx_vcpu *vcpu)
{
	uint8_t lapic[1024];
	struct vmx_sregs s;
	int r = vmx_vcpu_read_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s));

	if (r < 0)
		return r;
	s.cs.base = 0;
	s.cs.selector = 0;
	r = vmx_vcpu_write_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s));
	if (r >= 0)
		r = vmx_vcpu_read_state(vcpu, VMX_STATE_LAPIC, lapic, sizeof(lapic));
	if (r < 0)
		return r;
	put_le32(lapic + 0xf0, 0x1ff); /* enabled by software */
	return vmx_vcpu_write_state(vcpu, VMX_STATE_LAPIC, lapic, sizeof(lapic));
}

static int try_real_mode(struct job *j, struct vmx_vcpu *vcpu)
{
	int r = to_real_mode(vcpu);

	if (r >= 0)
		r = start_at(vcpu, CODE_REAL, 0);
	if (r >= 0)
		r = vmx_vcpu_interrupt(vcpu, VMX_INTERRUPT_FIXED, VECTOR);
	if (r < 0)
		return refuse(j, "the processor's state cannot be set");
	r = expect(j, vcpu, VMX_EXIT_IO, "an interrupt that wakes a HLT, and a port write");
	if (r < 0)
		return r;
	if (j->exit.io.port != PORT || j->exit.io.size != 1 || *(uint8_t *)j->exit.io.buf != 0x5a)
		return refuse(j, "a port write arrives wrong");
	r = expect(j, vcpu, VMX_EXIT_MEM, "a memory-mapped write");
	if (r < 0)
		return r;
	if (j->exit.mem.gpa != NOWHERE || !j->exit.mem.write || j->exit.mem.size != 1 ||
	    j->exit.mem.buf[0] != 0xa5)
		return refuse(j, "a memory-mapped write arrives wrong");
	return 0;
}

static struct vmx_segment flat(uint16_t selector, uint16_t attributes)
{
	return (struct vmx_segment){ .selector = selector, .limit = 0xffffffff,
				     .attributes = attributes };
}

static int to_long_mode(struct vmx_vcpu *vcpu)
{
	struct vmx_sregs s;
	int r = vmx_vcpu_read_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s));

	if (r < 0)
		return r;
	s.cs = flat(0x08, 0xa09b);
	s.ds = s.es = s.fs = s.gs = s.ss = flat(0x10, 0xc093);
	s.tr = (struct vmx_segment){ .selector = 0x18, .limit = 0x67, .attributes = 0x8b };
	s.ldtr = (struct vmx_segment){ .unusable = true };
	s.cr0 = 0x80000033;
	s.cr3 = PML4;
	s.cr4 = 0x620;
	s.efer = 0x500;
	return vmx_vcpu_write_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s));
}

static int try_long_mode(struct job *j, struct vmx_vcpu *vcpu)
{
	int r = to_long_mode(vcpu);

	if (r >= 0)
		r = start_at(vcpu, CODE_LONG, 0);
	if (r < 0)
		return refuse(j, "64-bit mode cannot be set");
	r = expect(j, vcpu, VMX_EXIT_IO, "64-bit code");
	if (r < 0)
		return r;
	return *(uint8_t *)j->exit.io.buf == 0x11 ? 0 : refuse(j, "64-bit code computes wrong");
}

/* One turn of LOOP_NS: its time in ns into *TIME; *LEFT is the loop counter before, then after. */
static int run_loop(struct job *j, struct vmx_vcpu *vcpu, uint64_t *time, uint64_t *left)
{
	struct vmx_regs regs;
	uint64_t t = clock_monotonic_ns();
	int r;

	pthread_mutex_lock(&j->lock);
	j->kick_at = t + LOOP_NS;
	pthread_cond_broadcast(&j->changed);
	pthread_mutex_unlock(&j->lock);
	r = vmx_vcpu_resume(vcpu, &j->exit);
	t = clock_monotonic_ns() - t;
	if (r != -ECANCELED)
		return refuse(j, "a loop cannot be interrupted by a kick");
	r = vmx_vcpu_read_state(vcpu, VMX_STATE_REGS, &regs, sizeof(regs));
	if (r < 0 || regs.rcx > *left)
		return refuse(j, "registers are wrong after a loop");
	*time = t;
	*left = regs.rcx;
	return 0;
}

static int time_loop(struct job *j, struct vmx_vcpu *vcpu)
{
	const uint64_t first = 1ull << 62;
	uint64_t left = first;
	uint64_t t = 0;
	int r = start_at(vcpu, CODE_LOOP, first);

	if (r < 0)
		return refuse(j, "registers cannot be set");
	/* On a busy host the kick may come before the thread had its first turn. */
	for (int turn = 0; r == 0 && left == first && turn < LOOP_TURNS; turn++)
		r = run_loop(j, vcpu, &t, &left);
	if (r < 0)
		return r;
	if (left == first)
		return refuse(j, "a loop does not begin");
	j->result.insns_per_second =
		(uint64_t)((double)(first - left) * LOOP_INSNS * 1e9 / (double)(t ? t : 1));
	return 0;
}

static int make_ram(struct job *j)
{
	j->ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (j->ram == MAP_FAILED) {
		j->ram = NULL;
		return -ENOMEM;
	}
	memcpy(j->ram + CODE_REAL, code_real, sizeof(code_real));
	memcpy(j->ram + HANDLER, code_handler, sizeof(code_handler));
	memcpy(j->ram + CODE_LONG, code_long, sizeof(code_long));
	memcpy(j->ram + CODE_LOOP, code_loop, sizeof(code_loop));
	put_le32(j->ram + VECTOR * 4, HANDLER);
	put_le64(j->ram + PML4, (PML4 + 0x1000) | 3);
	put_le64(j->ram + PML4 + 0x1000, (PML4 + 0x2000) | 3);
	put_le64(j->ram + PML4 + 0x2000, 0x83); /* 2 MiB, identity */
	return vmx_vm_map(j->vm, 0, RAM_BYTES, j->ram, VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC);
}

static void ask_options(struct job *j)
{
	const struct vmx_exit_options all = {
		.optional = VMX_OPT_MSR | VMX_OPT_CPUID | VMX_OPT_EXCEPTION | VMX_OPT_RDTSC |
			    VMX_OPT_HYPERCALL | VMX_OPT_HALT,
		.exception_bitmap = 0xfffffffb,
	};
	const struct vmx_exit_options none = { 0, 0 };

	if (vmx_vm_set_exit_options(j->vm, &all, &j->result.missing_options) >= 0)
		vmx_vm_set_exit_options(j->vm, &none, NULL);
}

static int run_steps(struct job *j)
{
	struct vmx_vcpu *vcpu;
	int r = vmx_vcpu_create(j->vm, 0, &vcpu);

	if (r < 0)
		return refuse(j, "no processor can be made");
	pthread_mutex_lock(&j->lock);
	j->vcpu = vcpu;
	pthread_mutex_unlock(&j->lock);
	r = try_real_mode(j, vcpu);
	if (r >= 0)
		r = try_long_mode(j, vcpu);
	if (r >= 0)
		r = time_loop(j, vcpu);
	pthread_mutex_lock(&j->lock);
	j->vcpu = NULL;
	pthread_mutex_unlock(&j->lock);
	vmx_vcpu_destroy(vcpu);
	return r;
}

static void explain_missing(struct job *j, int error)
{
	struct vmx_probe_result *res = &j->result;

	if (j->engine != VMX_ENGINE_KVM) {
		snprintf(res->why, sizeof(res->why), "it cannot start here: %.120s",
			 j->log[0] ? j->log : strerror(-error));
	} else if (error == -EACCES) {
		snprintf(res->why, sizeof(res->why), "no permission to open /dev/kvm");
		snprintf(res->advice, sizeof(res->advice),
			 "add the user to the group that owns /dev/kvm (usually kvm), or run as root");
	} else if (access("/dev/kvm", F_OK) < 0) {
		snprintf(res->why, sizeof(res->why), "this host has no /dev/kvm");
		snprintf(res->advice, sizeof(res->advice),
			 "where the processor has VT-x or AMD-V: enable it in the firmware (in a cloud: "
			 "nested virtualization) and load kvm_intel or kvm_amd");
	} else {
		snprintf(res->why, sizeof(res->why), "/dev/kvm is there, but: %.120s",
			 j->log[0] ? j->log : strerror(-error));
	}
}

static void judge(struct job *j)
{
	struct vmx_probe_result *res = &j->result;
	double millions = (double)res->insns_per_second / 1e6;

	if (j->engine == VMX_ENGINE_KVM && res->insns_per_second < HARDWARE_INSNS_PER_SECOND) {
		snprintf(res->why, sizeof(res->why),
			 "this KVM emulates: %.1f million instructions a second, where hardware does "
			 "thousands of millions", millions);
		snprintf(res->advice, sizeof(res->advice),
			 "use the software engine here; for hardware speed the host must pass "
			 "virtualization on to this machine");
		return;
	}
	res->usable = true;
	snprintf(res->why, sizeof(res->why),
		 "guest code runs correctly at %.0f million instructions a second", millions);
}

static void *engine_thread(void *arg)
{
	struct job *j = arg;
	const struct vmx_vm_options options = {
		.size = sizeof(options), .engine = j->engine, .log = keep_line, .log_opaque = j,
	};
	int r = vmx_vm_create(&options, &j->vm);

	if (r < 0) {
		explain_missing(j, r);
	} else {
		ask_options(j);
		r = make_ram(j);
		if (r < 0)
			refuse(j, "memory cannot be mapped");
		else if (run_steps(j) >= 0)
			judge(j);
		vmx_vm_destroy(j->vm);
		if (j->ram)
			munmap(j->ram, RAM_BYTES);
	}
	pthread_mutex_lock(&j->lock);
	j->done = true;
	pthread_cond_broadcast(&j->changed);
	pthread_mutex_unlock(&j->lock);
	job_put(j);
	return NULL;
}

static void wait_until(struct job *j, uint64_t ns)
{
	const struct timespec t = { .tv_sec = (time_t)(ns / NSEC_PER_SEC),
				    .tv_nsec = (long)(ns % NSEC_PER_SEC) };

	pthread_cond_clockwait(&j->changed, &j->lock, CLOCK_MONOTONIC, &t);
}

/* The watching thread: until the engine's is done, or gone. j->lock held. */
static void watch(struct job *j)
{
	uint64_t start = clock_monotonic_ns(), now = start;

	while (!j->done && now < start + GONE_NS) {
		uint64_t next = j->late ? start + GONE_NS : start + LATE_NS;

		if (j->kick_at && j->kick_at < next)
			next = j->kick_at;
		if (now >= next) {
			j->late |= now >= start + LATE_NS;
			j->kick_at = 0;
			if (j->vcpu)
				vmx_vcpu_kick(j->vcpu);
		} else {
			wait_until(j, next);
		}
		now = clock_monotonic_ns();
	}
}

static int probe_engine(enum vmx_engine engine, struct vmx_probe_result *ret)
{
	struct job *j = calloc(1, sizeof(*j));
	pthread_t thread;
	bool done;
	int r;

	memset(ret, 0, sizeof(*ret));
	if (!j)
		return -ENOMEM;
	j->engine = engine;
	j->users = 2;
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->changed, NULL);
	r = pthread_create(&thread, NULL, engine_thread, j);
	if (r) {
		j->users = 1;
		job_put(j);
		return -r;
	}
	pthread_mutex_lock(&j->lock);
	watch(j);
	done = j->done;
	if (done)
		*ret = j->result;
	pthread_mutex_unlock(&j->lock);
	if (done) {
		pthread_join(thread, NULL);
	} else {
		snprintf(ret->why, sizeof(ret->why), "it does not answer");
		pthread_detach(thread);
	}
	job_put(j);
	return 0;
}

static void choose(struct vmx_probe *p)
{
	if (p->kvm.usable) {
		p->choice = VMX_ENGINE_KVM;
		snprintf(p->why, sizeof(p->why), "hardware virtualization: %s", p->kvm.why);
	} else if (p->soft.usable) {
		p->choice = VMX_ENGINE_SOFT;
		snprintf(p->why, sizeof(p->why), "software processor, since KVM is not usable: %.150s",
			 p->kvm.why);
	} else {
		p->choice = VMX_ENGINE_AUTO;
		snprintf(p->why, sizeof(p->why), "no engine runs here; soft: %s", p->soft.why);
	}
}

int vmx_probe(struct vmx_probe *ret_probe)
{
	int r;

	if (!ret_probe)
		return -EINVAL;
	memset(ret_probe, 0, sizeof(*ret_probe));
	r = probe_engine(VMX_ENGINE_KVM, &ret_probe->kvm);
	if (r >= 0)
		r = probe_engine(VMX_ENGINE_SOFT, &ret_probe->soft);
	if (r < 0)
		return r;
	choose(ret_probe);
	return 0;
}
