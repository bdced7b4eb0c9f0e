/* SPDX-License-Identifier: Apache-2.0 */
/* life.c - handles, arguments of create, the thread rule, reset. */
#include "tests/contract/contract.h"

#include <errno.h>
#include <string.h>

static void create_arguments(struct env *e)
{
	struct vmx_vm_options o = e->options;
	struct vmx_vm *vm = (struct vmx_vm *)1;

	CHECK_EQ(vmx_vm_create(NULL, &vm), -EINVAL);
	CHECK(vm == NULL);
	CHECK_EQ(vmx_vm_create(&o, NULL), -EINVAL);
	o.size = 0;
	CHECK_EQ(vmx_vm_create(&o, &vm), -EINVAL);
	o.size = 1u << 20;
	CHECK_EQ(vmx_vm_create(&o, &vm), -EINVAL);
	o = e->options;
	o.flags = 1u << 31;
	CHECK_EQ(vmx_vm_create(&o, &vm), -EINVAL);
	o = e->options;
	o.soft_debug = 1u << 31;
	CHECK_EQ(vmx_vm_create(&o, &vm), -EINVAL);
	o = e->options;
	o.engine = (enum vmx_engine)77;
	CHECK_EQ(vmx_vm_create(&o, &vm), -EINVAL);
	CHECK(vm == NULL);
}

/* Later versions append fields: unknown ones must be zero. */
static void create_newer_options(struct env *e)
{
	struct {
		struct vmx_vm_options o;
		uint64_t later[4];
	} newer = { .o = e->options };
	struct vmx_vm *vm;

	newer.o.size = sizeof(newer);
	newer.later[3] = 1;
	CHECK_EQ(vmx_vm_create(&newer.o, &vm), -EINVAL);
	newer.later[3] = 0;
	CHECK_EQ(vmx_vm_create(&newer.o, &vm), 0);
	CHECK_EQ(vmx_vm_destroy(vm), 0);
}

static void destroy_everything(struct env *e)
{
	CHECK_EQ(vmx_vm_destroy(NULL), 0);
	CHECK_EQ(vmx_vcpu_destroy(NULL), 0);
	for (int i = 0; i < 3; i++) {
		env_vcpu(e);
		CHECK_EQ(vmx_vm_engine(e->vm), e->options.engine);
		CHECK(vmx_vm_tsc_hz(e->vm) > 100000000);
		CHECK_EQ(vmx_vm_destroy(e->vm), -EBADFD); /* a vCPU is left */
		CHECK_EQ(vmx_vcpu_destroy(e->vcpu), 0);
		CHECK_EQ(vmx_vm_destroy(e->vm), 0);
	}
}

static void bad_handles(struct env *e)
{
	uint64_t zeros[512] = { 0 }, value;
	struct vmx_vm *vm = (struct vmx_vm *)zeros;
	struct vmx_vcpu *vcpu = (struct vmx_vcpu *)zeros;
	struct vmx_exit_options none = { 0, 0 };
	enum vmx_translate_result t;
	enum vmx_reg rax = VMX_RAX;
	size_t size;

	(void)e;
	for (int i = 0; i < 2; i++) {
		CHECK_EQ(vmx_vm_reset(vm), -EBADF);
		CHECK_EQ(vmx_vm_map(vm, 0, 4096, zeros, VMX_MAP_READ), -EBADF);
		CHECK_EQ(vmx_vm_unmap(vm, 0, 4096), -EBADF);
		CHECK_EQ(vmx_vm_dirty(vm, 0, 4096, NULL, 0), -EBADF);
		CHECK_EQ(vmx_vm_written(vm, 0, 4096), -EBADF);
		CHECK_EQ(vmx_vm_set_trap(vm, VMX_TRAP_IO, 0, 1, -1, 0), -EBADF);
		CHECK_EQ(vmx_vm_remove_trap(vm, VMX_TRAP_IO, 0), -EBADF);
		CHECK_EQ(vmx_vm_msi(vm, 0xfee00000, 0x30), -EBADF);
		CHECK_EQ(vmx_vm_ioapic_route(vm, 0, 0, 0, false), -EBADF);
		CHECK_EQ(vmx_vm_suspend_time(vm), -EBADF);
		CHECK_EQ(vmx_vm_resume_time(vm), -EBADF);
		CHECK_EQ(vmx_vm_set_exit_options(vm, &none, NULL), -EBADF);
		CHECK_EQ(vmx_vm_engine(vm), VMX_ENGINE_AUTO);
		CHECK_EQ(vmx_vm_tsc_hz(vm), 0);
		CHECK_EQ(vmx_vm_stats(vm, NULL, 0), 0);
		CHECK_EQ(vmx_vcpu_create(vm, 0, &(struct vmx_vcpu *){ NULL }), -EBADF);
		CHECK_EQ(vmx_vcpu_resume(vcpu, &(struct vmx_exit){ .reason = 0 }), -EBADF);
		CHECK_EQ(vmx_vcpu_kick(vcpu), -EBADF);
		CHECK_EQ(vmx_vcpu_interrupt(vcpu, VMX_INTERRUPT_NMI, 0), -EBADF);
		CHECK_EQ(vmx_vcpu_set_extint(vcpu, true), -EBADF);
		CHECK_EQ(vmx_vcpu_state_size(vcpu, VMX_STATE_REGS, &size), -EBADF);
		CHECK_EQ(vmx_vcpu_read_state(vcpu, VMX_STATE_REGS, &value, 8), -EBADF);
		CHECK_EQ(vmx_vcpu_write_state(vcpu, VMX_STATE_REGS, &value, 8), -EBADF);
		CHECK_EQ(vmx_vcpu_read_msr(vcpu, 0x10, &value), -EBADF);
		CHECK_EQ(vmx_vcpu_write_msr(vcpu, 0x10, 0), -EBADF);
		CHECK_EQ(vmx_vcpu_get_regs(vcpu, &rax, 1, &value), -EBADF);
		CHECK_EQ(vmx_vcpu_set_regs(vcpu, &rax, 1, &value), -EBADF);
		CHECK_EQ(vmx_vcpu_translate(vcpu, 0, 0, &t, &value), -EBADF);
		if (i)
			break;
		vm = NULL; /* and the same with NULL */
		vcpu = NULL;
	}
	vcpu = (struct vmx_vcpu *)zeros;
	CHECK_EQ(vmx_vm_destroy((struct vmx_vm *)zeros), -EBADF);
	CHECK_EQ(vmx_vcpu_destroy(vcpu), -EBADF);
}

static void *create_same_id(void *arg)
{
	struct env *e = arg;
	struct vmx_vcpu *vcpu;

	CHECK_EQ(vmx_vcpu_create(e->vm, 0, &vcpu), -EEXIST);
	CHECK(vcpu == NULL);
	CHECK_EQ(vmx_vcpu_create(e->vm, 1, &vcpu), 0);
	CHECK_EQ(vmx_vcpu_destroy(vcpu), 0);
	return NULL;
}

static void vcpu_ids(struct env *e)
{
	struct vmx_vcpu *vcpu;

	env_vm(e);
	CHECK_EQ(vmx_vcpu_create(e->vm, VMX_VCPUS_MAX, &vcpu), -EINVAL);
	CHECK_EQ(vmx_vcpu_create(e->vm, 0, NULL), -EINVAL);
	CHECK_EQ(vmx_vcpu_create(e->vm, 0, &e->vcpu), 0);
	join(start(create_same_id, e));
}

static void second_vcpu_on_thread(struct env *e)
{
	struct vmx_vm *other;
	struct vmx_vcpu *vcpu;

	env_vcpu(e);
	CHECK_EQ(vmx_vcpu_create(e->vm, 1, &vcpu), -EBADFD);
	CHECK_EQ(vmx_vm_create(&e->options, &other), 0);
	CHECK_EQ(vmx_vcpu_create(other, 0, &vcpu), -EBADFD);
	CHECK_EQ(vmx_vcpu_destroy(e->vcpu), 0);
	CHECK_EQ(vmx_vcpu_create(other, 0, &vcpu), 0);
	CHECK_EQ(vmx_vcpu_destroy(vcpu), 0);
	CHECK_EQ(vmx_vm_destroy(other), 0);
}

static void *from_other_thread(void *arg)
{
	struct env *e = arg;
	enum vmx_translate_result t;
	enum vmx_reg rax = VMX_RAX;
	struct vmx_regs regs = { .rflags = 2 };
	uint64_t value = 0;
	size_t size;

	CHECK_EQ(vmx_vcpu_resume(e->vcpu, &e->exit), -EBADFD);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_REGS, &regs, sizeof(regs)), -EBADFD);
	CHECK_EQ(vmx_vcpu_write_state(e->vcpu, VMX_STATE_REGS, &regs, sizeof(regs)), -EBADFD);
	CHECK_EQ(vmx_vcpu_get_regs(e->vcpu, &rax, 1, &value), -EBADFD);
	CHECK_EQ(vmx_vcpu_set_regs(e->vcpu, &rax, 1, &value), -EBADFD);
	CHECK_EQ(vmx_vcpu_read_msr(e->vcpu, 0x10, &value), -EBADFD);
	CHECK_EQ(vmx_vcpu_write_msr(e->vcpu, 0x10, value), -EBADFD);
	CHECK_EQ(vmx_vcpu_translate(e->vcpu, 0, 0, &t, &value), -EBADFD);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_EXTINT, 0x20), -EBADFD);
	CHECK_EQ(vmx_vcpu_destroy(e->vcpu), -EBADFD);
	/* Those that any thread may call. */
	CHECK_EQ(vmx_vcpu_state_size(e->vcpu, VMX_STATE_REGS, &size), 0);
	CHECK_EQ(size, sizeof(regs));
	CHECK_EQ(vmx_vcpu_set_extint(e->vcpu, false), 0);
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_FIXED, 0x55), 0);
	CHECK_EQ(vmx_vcpu_kick(e->vcpu), 0);
	return NULL;
}

static void wrong_thread(struct env *e)
{
	env_vcpu(e);
	join(start(from_other_thread, e));
	CHECK_EQ(vmx_vcpu_resume(e->vcpu, &e->exit), -ECANCELED);
}

static void *create_and_end(void *arg)
{
	struct env *e = arg;

	CHECK_EQ(vmx_vcpu_create(e->vm, 3, &e->vcpu), 0);
	return NULL;
}

static void destroy_after_owner(struct env *e)
{
	env_vm(e);
	join(start(create_and_end, e));
	CHECK_EQ(vmx_vcpu_destroy(e->vcpu), 0);
	CHECK_EQ(vmx_vm_destroy(e->vm), 0);
}

PAYLOAD(count_up, ".code16\n"
	"inc %bx\n mov %bl, %al\n out %al, $0x10\n jmp count_up");

static void create_again(struct env *e)
{
	for (int i = 0; i < 3; i++) {
		env_real_payload(e, count_up);
		CHECK_EQ(expect_out(e, 0x10), 1);
		CHECK_EQ(expect_out(e, 0x10), 2);
		CHECK_EQ(vmx_vcpu_destroy(e->vcpu), 0);
		CHECK_EQ(vmx_vcpu_create(e->vm, 0, &e->vcpu), 0);
		CHECK_EQ(reg(e, VMX_RBX), 0); /* nothing of the last one is left */
	}
}

static void check_initial(struct env *e)
{
	struct vmx_sregs s;
	uint32_t activity;

	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_SREGS, &s, sizeof(s)), 0);
	CHECK_EQ(s.cs.selector, 0xf000);
	CHECK_EQ(s.cs.base, 0xffff0000);
	CHECK_EQ(s.cr0, 0x60000010);
	CHECK_EQ(s.cr4, 0);
	CHECK_EQ(s.efer, 0);
	CHECK_EQ(s.xcr0, 1);
	CHECK_EQ(s.idtr.limit, 0xffff);
	CHECK_EQ(s.apic_base, 0xfee00900); /* enabled, boot processor */
	CHECK_EQ(reg(e, VMX_RIP), 0xfff0);
	CHECK_EQ(reg(e, VMX_RFLAGS), 2);
	CHECK_EQ(vmx_vcpu_read_state(e->vcpu, VMX_STATE_ACTIVITY, &activity, 4), 0);
	CHECK_EQ(activity, VMX_ACTIVE);
}

static void initial_state(struct env *e)
{
	env_vcpu(e);
	check_initial(e);
}

static void reset(struct env *e)
{
	env_real_payload(e, count_up);
	for (int i = 1; i < 5; i++)
		CHECK_EQ(expect_out(e, 0x10), i);
	e->ram[0x5000] = 0xa5;
	CHECK_EQ(vmx_vcpu_interrupt(e->vcpu, VMX_INTERRUPT_NMI, 0), 0);
	CHECK_EQ(vmx_vcpu_kick(e->vcpu), 0);
	CHECK_EQ(vmx_vm_reset(e->vm), 0);
	check_initial(e);
	CHECK_EQ(reg(e, VMX_RBX), 0);
	CHECK_EQ(e->ram[0x5000], 0xa5);
	flat_real(e->vcpu);
	put_regs(e->vcpu, CODE, 0x8000);
	CHECK_EQ(expect_out(e, 0x10), 1); /* neither the kick nor the NMI is left */
}

PAYLOAD(spin, ".code16\n jmp spin");

struct runner {
	struct env *e;
	_Atomic bool running;
	int result;
};

static void *run_until_kicked(void *arg)
{
	struct runner *r = arg;

	env_real_payload(r->e, spin);
	r->running = true;
	r->result = vmx_vcpu_resume(r->e->vcpu, &r->e->exit);
	CHECK_EQ(vmx_vcpu_destroy(r->e->vcpu), 0);
	return NULL;
}

static void setup_while_running(struct env *e)
{
	struct vmx_exit_options none = { 0, 0 };
	struct runner r = { .e = e };
	pthread_t t;

	/* That thread makes the VM, too. */
	t = start(run_until_kicked, &r);
	while (!r.running)
		sleep_ms(1);
	sleep_ms(50);
	CHECK_EQ(vmx_vm_reset(e->vm), -EBADFD);
	CHECK_EQ(vmx_vm_suspend_time(e->vm), -EBADFD);
	CHECK_EQ(vmx_vm_resume_time(e->vm), -EBADFD);
	CHECK_EQ(vmx_vm_set_exit_options(e->vm, &none, NULL), -EBADFD);
	CHECK_EQ(vmx_vm_destroy(e->vm), -EBADFD);
	CHECK_EQ(vmx_vcpu_destroy(e->vcpu), -EBADFD);
	CHECK_EQ(vmx_vcpu_kick(e->vcpu), 0);
	join(t);
	CHECK_EQ(r.result, -ECANCELED);
	CHECK_EQ(vmx_vm_destroy(e->vm), 0);
}

static void names(struct env *e)
{
	CHECK(!strcmp(vmx_engine_name(e->options.engine), e->soft ? "soft" : "kvm"));
	CHECK(!strcmp(vmx_engine_name((enum vmx_engine)99), "unknown"));
	CHECK(!strcmp(vmx_exit_reason_name(VMX_EXIT_DEBUG), "debug"));
	CHECK(!strcmp(vmx_exit_reason_name((enum vmx_exit_reason)99), "unknown"));
}

static const struct test tests[] = {
	{ "create-arguments", "Z1", create_arguments },
	{ "create-newer-options", "Z1", create_newer_options },
	{ "destroy-everything", "Z1 W1", destroy_everything },
	{ "bad-handles", "Z8", bad_handles },
	{ "vcpu-ids", "Z3", vcpu_ids },
	{ "second-vcpu-on-thread", "Z3", second_vcpu_on_thread },
	{ "wrong-thread", "Z3 Z5 Z7", wrong_thread },
	{ "destroy-after-owner", "Z3", destroy_after_owner },
	{ "create-again", "W1", create_again },
	{ "initial-state", "W7", initial_state },
	{ "reset", "W11", reset },
	{ "setup-while-running", "Z3 W10", setup_while_running },
	{ "names", "W5", names },
};
SUITE(life, "life");
