/* SPDX-License-Identifier: Apache-2.0 */
/*
 * example.c - a whole VMM with libvmx: a guest in real mode says hello at port 0x3f8 and halts.
 *
 *     cc example.c $(pkg-config --cflags --libs vmx)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <vmx.h>

#define RAM_BYTES 0x10000
#define CODE 0x1000

static const unsigned char code[] = {
	0xbe, 0x10, 0x10,       /*    mov si, message   */
	0xba, 0xf8, 0x03,       /*    mov dx, 0x3f8     */
	0xac,                   /* 1: lodsb             */
	0x84, 0xc0,             /*    test al, al       */
	0x74, 0x03,             /*    jz 2f             */
	0xee,                   /*    out dx, al        */
	0xeb, 0xf8,             /*    jmp 1b            */
	0xe6, 0xf4,             /* 2: out 0xf4, al      */
	'H',  'e',  'l',  'l',  'o', ' ', 'f', 'r', 'o', 'm', ' ', 't', 'h', 'e', ' ',
	'g',  'u',  'e',  's',  't', '\n', 0,
};

static void die(const char *what, int error)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-error));
	exit(1);
}

/* Everything but CS and RIP is as a processor has it after reset. */
static void set_start(struct vmx_vcpu *vcpu)
{
	const enum vmx_reg rip = VMX_RIP;
	const uint64_t start = CODE;
	struct vmx_sregs s;
	int r = vmx_vcpu_read_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s));

	if (r >= 0) {
		s.cs.base = 0;
		s.cs.selector = 0;
		r = vmx_vcpu_write_state(vcpu, VMX_STATE_SREGS, &s, sizeof(s));
	}
	if (r >= 0)
		r = vmx_vcpu_set_regs(vcpu, &rip, 1, &start);
	if (r < 0)
		die("registers", r);
}

int main(void)
{
	const struct vmx_vm_options options = { .size = sizeof(options) };
	struct vmx_vcpu *vcpu;
	struct vmx_exit exit;
	struct vmx_vm *vm;
	char *ram;
	int r;

	ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ram == MAP_FAILED)
		return 1;
	memcpy(ram + CODE, code, sizeof(code));
	r = vmx_vm_create(&options, &vm); /* the engine that vmx_probe() chooses */
	if (r < 0)
		die("vmx_vm_create", r);
	fprintf(stderr, "engine: %s\n", vmx_engine_name(vmx_vm_engine(vm)));
	r = vmx_vm_map(vm, 0, RAM_BYTES, ram, VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC);
	if (r < 0)
		die("vmx_vm_map", r);
	r = vmx_vcpu_create(vm, 0, &vcpu); /* belongs to this thread from here on */
	if (r < 0)
		die("vmx_vcpu_create", r);
	set_start(vcpu);
	while ((r = vmx_vcpu_resume(vcpu, &exit)) == 0 && exit.reason == VMX_EXIT_IO &&
	       exit.io.port != 0xf4)
		if (!exit.io.input)
			fwrite(exit.io.buf, exit.io.size, exit.io.count, stdout);
	if (r < 0)
		die("vmx_vcpu_resume", r);
	if (exit.reason != VMX_EXIT_IO)
		fprintf(stderr, "ended by %s\n", vmx_exit_reason_name(exit.reason));
	vmx_vcpu_destroy(vcpu);
	vmx_vm_destroy(vm);
	munmap(ram, RAM_BYTES);
	return exit.reason != VMX_EXIT_IO;
}
