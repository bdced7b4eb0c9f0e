/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 16-bit code in the soft engine against the processor underneath.
 *
 * Both sides run one generated instruction, followed by INT3s, in a 64 KiB code and data segment at
 * RIG_BASE at CPL 3: here through segments of the local descriptor table, there in a guest in
 * protected mode without paging. The guest's exceptions exit to us.
 */
#include <config.h>

#include <Zydis/Zydis.h>
#include <asm/ldt.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/unit/unit.h"
#include "vmx-driver/vmx.h"

#define RIG_BASE 0x10000u
#define RIG_SIZE 0x10000u
#define DATA_FROM 0x4000u
#define DATA_TO 0xe000u /* all else is INT3 */
#define SEL_CODE 0x0fu  /* LDT entry 1, RPL 3 */
#define SEL_DATA 0x17u
#define FLAGS_KEPT 0xcd5u
#ifdef VMXD_SANITIZERS /* siglongjmp() reads all of /proc/self/maps there, for each case */
#define CASES 1000u
#else
#define CASES 30000u
#endif

struct regs16 {
	uint64_t gpr[8]; /* encoding order */
	uint64_t ip, flags;
	unsigned vector, error;
};

struct rig16 {
	struct vmx_vm *vm;
	struct vmx_vcpu *vcpu;
	struct vmx_exit exit;
	uint8_t *guest, *host; /* RIG_BASE in each */
	uint8_t image[RIG_SIZE];
	ZydisDecoder decoder;
};

static uint64_t rnd(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* --- the processor underneath --------------------------------------------------------------- */
static sigjmp_buf back; /* a signal handler can get at nothing else */
static struct regs16 caught;

static void on_signal(int sig, siginfo_t *info, void *context)
{
	const greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
	static const int order[8] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX,
				      REG_RSP, REG_RBP, REG_RSI, REG_RDI };

	(void)sig;
	(void)info;
	for (unsigned i = 0; i < 8; i++)
		caught.gpr[i] = (uint64_t)g[order[i]];
	caught.ip = (uint64_t)g[REG_RIP];
	caught.flags = (uint64_t)g[REG_EFL];
	caught.vector = (unsigned)g[REG_TRAPNO];
	caught.error = (unsigned)g[REG_ERR];
	siglongjmp(back, 1);
}

static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP };
#define SIGNALS (sizeof(signals) / sizeof(signals[0]))

static bool native_setup(struct rig16 *r)
{
	static uint8_t stack[65536];
	struct user_desc d = { .entry_number = 1, .base_addr = RIG_BASE, .limit = 0xffff,
			       .contents = MODIFY_LDT_CONTENTS_CODE };
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };
	void *at;

	if (syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)) != 0)
		return false;
	d.entry_number = 2;
	d.contents = MODIFY_LDT_CONTENTS_DATA;
	if (syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)) != 0)
		return false;
	at = mmap((void *)(uintptr_t)RIG_BASE, RIG_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (at == MAP_FAILED)
		return false;
	r->host = at;
	return sigaltstack(&alternate, NULL) == 0;
}

static void native_enter(const struct regs16 *in)
{
	if (sigsetjmp(back, 1) == 0) {
		__asm__ volatile("lea -128(%%rsp), %%rsp\n\t" /* the red zone */
				 "mov %w[data], %%ds\n\tmov %w[data], %%es\n\t"
				 "push %q[data]\n\tpush 32(%%rax)\n\tpush 72(%%rax)\n\t"
				 "push %q[code]\n\tpush 64(%%rax)\n\t"
				 "mov 8(%%rax), %%rcx\n\tmov 16(%%rax), %%rdx\n\t"
				 "mov 24(%%rax), %%rbx\n\tmov 40(%%rax), %%rbp\n\t"
				 "mov 48(%%rax), %%rsi\n\tmov 56(%%rax), %%rdi\n\t"
				 "mov (%%rax), %%rax\n\tiretq"
				 :
				 : "a"(in->gpr), [data] "r"((uint64_t)SEL_DATA),
				   [code] "r"((uint64_t)SEL_CODE)
				 : "memory");
		__builtin_unreachable();
	}
}

/* The engine has handlers of its own for these signals. */
static void native_run(const struct regs16 *in, struct regs16 *out)
{
	struct sigaction ours = { .sa_sigaction = on_signal,
				  .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
	struct sigaction saved[SIGNALS];

	for (size_t i = 0; i < SIGNALS; i++)
		sigaction(signals[i], &ours, &saved[i]);
	native_enter(in);
	for (size_t i = 0; i < SIGNALS; i++)
		sigaction(signals[i], &saved[i], NULL);
	*out = caught;
}

/* --- the guest ------------------------------------------------------------------------------ */
static bool guest_setup(struct rig16 *r, uint32_t debug)
{
	struct vmx_vm_options options = { .size = sizeof(options), .engine = VMX_ENGINE_SOFT,
					  .soft_debug = debug };
	struct vmx_exit_options exits = { .optional = VMX_OPT_EXCEPTION, .exception_bitmap = ~0u };
	const struct vmx_segment data = { .base = RIG_BASE, .limit = 0xffff, .selector = SEL_DATA,
					  .attributes = 0xf3 };
	struct vmx_sregs s;
	void *ram = mmap(NULL, 2 * RIG_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			 0);

	if (ram == MAP_FAILED)
		return false;
	r->guest = (uint8_t *)ram + RIG_BASE;
	if (vmx_vm_create(&options, &r->vm) < 0 ||
	    vmx_vm_map(r->vm, 0, 2 * RIG_SIZE, ram, VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC) < 0 ||
	    vmx_vm_set_exit_options(r->vm, &exits, NULL) < 0 ||
	    vmx_vcpu_create(r->vm, 0, &r->vcpu) < 0 ||
	    vmx_vcpu_read_state(r->vcpu, VMX_STATE_SREGS, &s, sizeof(s)) < 0)
		return false;
	s.cr0 = 0x11;
	s.ds = s.es = s.ss = data;
	s.fs = s.gs = (struct vmx_segment){ .unusable = true };
	s.cs = data;
	s.cs.selector = SEL_CODE;
	s.cs.attributes = 0xfb;
	return vmx_vcpu_write_state(r->vcpu, VMX_STATE_SREGS, &s, sizeof(s)) == 0;
}

static void guest_free(struct rig16 *r)
{
	vmx_vcpu_destroy(r->vcpu);
	vmx_vm_destroy(r->vm);
	r->vcpu = NULL;
	r->vm = NULL;
	munmap(r->guest - RIG_BASE, 2 * RIG_SIZE);
}

static bool guest_run(struct rig16 *r, const struct regs16 *in, struct regs16 *out)
{
	struct vmx_regs regs = { .rax = in->gpr[0], .rcx = in->gpr[1], .rdx = in->gpr[2],
				 .rbx = in->gpr[3], .rsp = in->gpr[4], .rbp = in->gpr[5],
				 .rsi = in->gpr[6], .rdi = in->gpr[7], .rip = in->ip,
				 .rflags = in->flags };

	if (vmx_vcpu_write_state(r->vcpu, VMX_STATE_REGS, &regs, sizeof(regs)) < 0 ||
	    vmx_vm_written(r->vm, RIG_BASE, RIG_SIZE) < 0 ||
	    vmx_vcpu_resume(r->vcpu, &r->exit) < 0 || r->exit.reason != VMX_EXIT_EXCEPTION ||
	    vmx_vcpu_read_state(r->vcpu, VMX_STATE_REGS, &regs, sizeof(regs)) < 0)
		return false;
	memcpy(out->gpr, &regs, sizeof(out->gpr));
	out->ip = regs.rip;
	out->flags = regs.rflags;
	out->vector = r->exit.exception.vector;
	out->error = r->exit.exception.has_error_code ? r->exit.exception.error_code : 0;
	r->exit.exception.swallow = true; /* what the next resume says about it */
	if (out->vector == 3 && r->guest[out->ip & 0xffff] == 0xcc)
		out->ip++; /* native: after INT3 */
	return true;
}

/* --- generation ----------------------------------------------------------------------------- */
static bool near_target_ok(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op,
			   uint64_t ip)
{
	uint64_t target;

	if (op->type != ZYDIS_OPERAND_TYPE_IMMEDIATE || zi->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return false;
	target = ip + zi->length + op->imm.value.u;
	target &= zi->operand_width == 16 ? 0xffffu : 0xffffffffu;
	if (target > 0xffff)
		return true;
	return (target < DATA_FROM - 16 || target >= DATA_TO) &&
	       (target < ip || target >= ip + zi->length);
}

/* Do its operands leave what both sides have and nothing else? */
static bool comparable(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op)
{
	for (unsigned i = 0; i < zi->operand_count; i++) {
		ZydisRegisterClass class;

		/* IRET to a 16-bit stack leaves the upper half of ESP alone: not comparable. */
		if (op[i].visibility != ZYDIS_OPERAND_VISIBILITY_HIDDEN &&
		    ((op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		      op[i].reg.value == ZYDIS_REGISTER_ESP) ||
		     (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		      (op[i].mem.base == ZYDIS_REGISTER_ESP))))
			return false;
		if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (op[i].mem.segment == ZYDIS_REGISTER_FS || op[i].mem.segment == ZYDIS_REGISTER_GS))
			return false;
		if (op[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		class = ZydisRegisterGetClass(op[i].reg.value);
		if (class == ZYDIS_REGCLASS_MMX || class == ZYDIS_REGCLASS_XMM ||
		    class == ZYDIS_REGCLASS_YMM || class == ZYDIS_REGCLASS_CONTROL ||
		    class == ZYDIS_REGCLASS_DEBUG ||
		    (class == ZYDIS_REGCLASS_SEGMENT &&
		     (op[i].actions & ZYDIS_OPERAND_ACTION_MASK_WRITE)))
			return false;
	}
	return true;
}

static bool wanted(const ZydisDecodedInstruction *zi, const ZydisDecodedOperand *op, uint64_t ip)
{
	if (!comparable(zi, op) || zi->mnemonic == ZYDIS_MNEMONIC_PUSHAD ||
	    (zi->mnemonic == ZYDIS_MNEMONIC_ENTER && zi->operand_width == 32))
		return false;
	/* Some processors let F2 and F3 choose the condition of LOOPcc. */
	if (zi->mnemonic == ZYDIS_MNEMONIC_LOOPE || zi->mnemonic == ZYDIS_MNEMONIC_LOOPNE)
		for (unsigned i = 0; i < zi->raw.prefix_count; i++)
			if (zi->raw.prefixes[i].value == 0xf2 || zi->raw.prefixes[i].value == 0xf3)
				return false;
	switch (zi->meta.category) {
	case ZYDIS_CATEGORY_ADOX_ADCX:
	case ZYDIS_CATEGORY_BINARY:
	case ZYDIS_CATEGORY_BITBYTE:
	case ZYDIS_CATEGORY_BMI1:
	case ZYDIS_CATEGORY_BMI2:
	case ZYDIS_CATEGORY_CMOV:
	case ZYDIS_CATEGORY_DATAXFER:
	case ZYDIS_CATEGORY_DECIMAL:
	case ZYDIS_CATEGORY_LOGICAL:
	case ZYDIS_CATEGORY_PUSH:
	case ZYDIS_CATEGORY_ROTATE:
	case ZYDIS_CATEGORY_SEMAPHORE:
	case ZYDIS_CATEGORY_SETCC:
	case ZYDIS_CATEGORY_SHIFT:
	case ZYDIS_CATEGORY_STRINGOP:
		return true;
	case ZYDIS_CATEGORY_CONVERT:
		return zi->meta.isa_ext == ZYDIS_ISA_EXT_BASE;
	case ZYDIS_CATEGORY_POP:
		return zi->mnemonic != ZYDIS_MNEMONIC_POPF && zi->mnemonic != ZYDIS_MNEMONIC_POPFD;
	case ZYDIS_CATEGORY_FLAGOP:
		return zi->mnemonic != ZYDIS_MNEMONIC_CLI && zi->mnemonic != ZYDIS_MNEMONIC_STI;
	case ZYDIS_CATEGORY_COND_BR:
	case ZYDIS_CATEGORY_UNCOND_BR:
	case ZYDIS_CATEGORY_CALL:
		return zi->meta.isa_ext == ZYDIS_ISA_EXT_BASE && near_target_ok(zi, &op[0], ip);
	default:
		return zi->mnemonic == ZYDIS_MNEMONIC_LEA || zi->mnemonic == ZYDIS_MNEMONIC_XLAT ||
		       zi->mnemonic == ZYDIS_MNEMONIC_ENTER ||
		       zi->mnemonic == ZYDIS_MNEMONIC_LEAVE || zi->mnemonic == ZYDIS_MNEMONIC_BOUND ||
		       zi->mnemonic == ZYDIS_MNEMONIC_NOP;
	}
}

/* An instruction at ip; returns its length. */
static unsigned generate(struct rig16 *r, uint64_t *seed, uint64_t ip, uint8_t bytes[15],
			 ZydisDecodedInstruction *zi, ZydisDecodedOperand *op)
{
	static const uint8_t prefixes[] = { 0x66, 0x67, 0x26, 0x2e, 0x36, 0x3e, 0xf0, 0xf2, 0xf3 };

	for (;;) {
		unsigned n = 0;

		for (unsigned i = 0; i < sizeof(prefixes); i++)
			if (rnd(seed) % (i < 2 ? 4 : 24) == 0)
				bytes[n++] = prefixes[i];
		if (rnd(seed) % 3 == 0)
			bytes[n++] = 0x0f;
		while (n < 15)
			bytes[n++] = (uint8_t)rnd(seed);
		if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&r->decoder, bytes, 15, zi, op)) &&
		    wanted(zi, op, ip))
			return zi->length;
	}
}

static void random_registers(uint64_t *seed, struct regs16 *in)
{
	for (unsigned i = 0; i < 8; i++) {
		in->gpr[i] = rnd(seed) & 0xffffffff;
		if (rnd(seed) % 4)
			in->gpr[i] = DATA_FROM + rnd(seed) % (DATA_TO - DATA_FROM);
		else if (rnd(seed) % 4 == 0)
			in->gpr[i] = 0xfff0 + rnd(seed) % 24;
	}
	in->gpr[4] = rnd(seed) % 8 ? (DATA_FROM + 0x1000 + rnd(seed) % 0x8000) & ~1ull :
				     rnd(seed) % 40;
	in->flags = 0x202 | (rnd(seed) & 0xcd5);
}

static bool same(const struct regs16 *a, const struct regs16 *b, uint64_t flag_mask)
{
	for (unsigned i = 0; i < 8; i++)
		if (((a->gpr[i] ^ b->gpr[i]) & (i == 4 ? 0xffffu : 0xffffffffu)) != 0)
			return false;
	return a->ip == b->ip && a->vector == b->vector && a->error == b->error &&
	       ((a->flags ^ b->flags) & flag_mask) == 0;
}

static void print_difference(const uint8_t *bytes, unsigned n, const ZydisDecodedInstruction *zi,
			     const struct regs16 *in, const struct regs16 *want,
			     const struct regs16 *got)
{
	const struct regs16 *all[] = { in, want, got };
	static const char *const names[] = { "before", "native", "guest" };

	printf("\n  %s:", ZydisMnemonicGetString(zi->mnemonic));
	for (unsigned i = 0; i < n; i++)
		printf(" %02x", bytes[i]);
	for (unsigned k = 0; k < 3; k++) {
		printf("\n    %s vector %u(%x) ip %llx fl %llx", names[k], all[k]->vector,
		       all[k]->error, (unsigned long long)all[k]->ip,
		       (unsigned long long)all[k]->flags);
		for (unsigned i = 0; i < 8; i++)
			printf(" %llx", (unsigned long long)all[k]->gpr[i]);
	}
	printf("\n");
}

static uint64_t undefined_flags(const ZydisDecodedInstruction *zi)
{
	return zi->cpu_flags ? zi->cpu_flags->undefined : 0;
}

static void run_cases(struct rig16 *r, unsigned count, unsigned *wrong, unsigned *ended)
{
	uint64_t seed = 0x1234567855aa1122ull;
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];

	for (unsigned i = 0; i < count; i++) {
		struct regs16 in = { .vector = 0 }, want, got;
		uint8_t bytes[15];
		unsigned n, shown = *wrong;
		bool differ;

		in.ip = 0x100 + rnd(&seed) % 0x3d00;
		n = generate(r, &seed, in.ip, bytes, &zi, op);
		random_registers(&seed, &in);
		if (zi.meta.category == ZYDIS_CATEGORY_STRINGOP)
			in.gpr[1] = rnd(&seed) % 48;
		if (rnd(&seed) % 64 == 0 && zi.meta.branch_type == ZYDIS_BRANCH_TYPE_NONE)
			in.ip = 0xffff - rnd(&seed) % n;
		memset(r->image, 0xcc, sizeof(r->image));
		for (unsigned k = DATA_FROM; k < DATA_TO; k += 8) {
			uint64_t val = rnd(&seed);

			memcpy(r->image + k, &val, 8);
		}
		for (unsigned k = 0; k < n && in.ip + k < RIG_SIZE; k++)
			r->image[in.ip + k] = bytes[k];
		memcpy(r->host, r->image, RIG_SIZE);
		memcpy(r->guest, r->image, RIG_SIZE);
		native_run(&in, &want);
		differ = !guest_run(r, &in, &got) ||
			 !same(&want, &got, FLAGS_KEPT & ~undefined_flags(&zi)) ||
			 memcmp(r->host, r->guest, RIG_SIZE) != 0;
		*wrong += differ;
		*ended += want.vector == 3;
		if (differ && shown < 10)
			print_difference(bytes, n, &zi, &in, &want, &got);
	}
}

static void test_mode(uint32_t debug)
{
	static struct rig16 r; /* large */
	unsigned wrong = 0, ended = 0;

	if (!r.host)
		CU_ASSERT_FATAL(native_setup(&r));
	CU_ASSERT_FATAL(ZYAN_SUCCESS(ZydisDecoderInit(&r.decoder, ZYDIS_MACHINE_MODE_LEGACY_16,
						      ZYDIS_STACK_WIDTH_16)));
	CU_ASSERT_FATAL(guest_setup(&r, debug));
	run_cases(&r, CASES, &wrong, &ended);
	guest_free(&r);
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_TRUE(ended > CASES / 2); /* most of them must not just fault */
}

static void test_stepper(void)
{
	test_mode(VMX_SOFT_STEP_ONLY);
}

static void test_default(void)
{
	test_mode(0);
}

int main(void)
{
	struct user_desc none = { .entry_number = 3, .read_exec_only = 1, .seg_not_present = 1 };
	static CU_TestInfo tests[] = {
		{ "stepper", test_stepper },
		{ "default", test_default },
		CU_TEST_INFO_NULL,
	};

	if (syscall(SYS_modify_ldt, 0x11, &none, sizeof(none)) != 0) {
		printf("no local descriptor table here: %s\n0 passed, 0 failed, 2 skipped\n",
		       strerror(errno));
		return 77;
	}
	return UNIT_RUN(UNIT_SUITE("16-bit code", tests));
}
