/* SPDX-License-Identifier: Apache-2.0 */
/*
 * native.c - cases on the processor underneath, in a child process.
 *
 * The child does everything inside one signal handler: a case ends in a signal (INT3 or a fault),
 * the handler writes down the interrupted context and puts the next case's registers into it;
 * returning from the signal runs that case. No libc there: the handler must not depend on anything
 * that a case could have changed. A child that dies or hangs is replaced.
 */
#include <config.h>

#include "tests/insn/insn.h"

#include <asm/prctl.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define SHARED_VA 0x3a5b5a000000ull /* no value of gen.c comes near */
#define XSAVE_MAX 4096u
#define AREAS (CODE_SIZE + MEM_SIZE + RO_SIZE + STACK_SIZE) /* in the file, in this order */

struct shared { /* at SHARED_VA in the child, the same memory in the parent */
	int32_t current; /* -1: not in a batch */
	uint32_t count;
	greg_t saved_gregs[NGREG];
	uint8_t saved_xsave[XSAVE_MAX];
	uint8_t templates[TEMPLATES][MEM_SIZE];
	struct test_case tc[CODE_SLOTS];
	struct outcome out[CODE_SLOTS];
};

struct native {
	pid_t child;
	int command, done; /* pipes */
	int fd;            /* memory of all that the child shares */
	struct shared *shared;
	uint8_t *code, *mem;
};

static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP };

/* --- both sides ------------------------------------------------------------------------------------ */

/* The standard XSAVE area: SDM volume 1, 13.4. */
void xstate_to_area(const struct xstate *xs, uint8_t *area)
{
	const uint64_t bv = 7;

	memset(area, 0, 576);
	memcpy(area, &xs->fcw, 2);
	memcpy(area + 2, &xs->fsw, 2);
	area[4] = xs->ftw;
	memcpy(area + 24, &xs->mxcsr, 4);
	memcpy(area + 512, &bv, 8);
	for (unsigned i = 0; i < 8; i++)
		memcpy(area + 32 + i * 16, xs->st[i], 10);
	for (unsigned i = 0; i < 16; i++) {
		memcpy(area + 160 + i * 16, xs->ymm[i], 16);
		memcpy(area + 576 + i * 16, xs->ymm[i] + 16, 16);
	}
}

void xstate_from_area(const uint8_t *area, struct xstate *xs)
{
	uint64_t bv;

	memset(xs, 0, sizeof(*xs));
	memcpy(&bv, area + 512, 8);
	xs->fcw = 0x37f;
	if (bv & 1) {
		memcpy(&xs->fcw, area, 2);
		memcpy(&xs->fsw, area + 2, 2);
		xs->ftw = area[4];
		for (unsigned i = 0; i < 8; i++)
			memcpy(xs->st[i], area + 32 + i * 16, 10);
	}
	/* XSAVE writes MXCSR whether SSE is in use or not. */
	memcpy(&xs->mxcsr, area + 24, 4);
	for (unsigned i = 0; i < 16; i++) {
		if (bv & 2)
			memcpy(xs->ymm[i], area + 160 + i * 16, 16);
		if (bv & 4)
			memcpy(xs->ymm[i] + 16, area + 576 + i * 16, 16);
	}
}

void place_memory(const struct test_case *tc, const uint8_t (*templates)[MEM_SIZE], uint8_t *mem)
{
	memcpy(mem, templates[tc->template], MEM_SIZE);
	for (unsigned i = 0; i < tc->patch_count; i++)
		memcpy(mem + (tc->patch[i].va - MEM_VA), tc->patch[i].bytes, tc->patch[i].len);
}

void place_stack(const struct test_case *tc, const uint8_t (*templates)[MEM_SIZE], uint8_t *stack)
{
	memcpy(stack, templates[(tc->template + 1) % TEMPLATES], STACK_SIZE);
}

void place_code(const struct test_case *tc, uint8_t *code_area)
{
	const uint32_t at = tc->code_va - (uint32_t)CODE_VA;
	const uint32_t len = at + tc->code_len <= CODE_SIZE ? tc->code_len : CODE_SIZE - at;

	memcpy(code_area + at, tc->program ? tc->program : tc->code, len);
}

/* --- the child ------------------------------------------------------------------------------------- */

static const uint8_t greg_of[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
				     REG_RSI, REG_RDI, REG_R8,	REG_R9,	 REG_R10, REG_R11,
				     REG_R12, REG_R13, REG_R14, REG_R15 };

static void capture(const ucontext_t *uc, struct outcome *out)
{
	const greg_t *g = uc->uc_mcontext.gregs;

	for (unsigned i = 0; i < 16; i++)
		out->out.gpr[i] = (uint64_t)g[greg_of[i]];
	out->out.rip = (uint64_t)g[REG_RIP];
	out->out.rflags = (uint64_t)g[REG_EFL];
	out->vector = (uint8_t)g[REG_TRAPNO];
	out->error_code = (uint32_t)g[REG_ERR];
	out->cr2 = (uint64_t)g[REG_CR2];
	xstate_from_area((const uint8_t *)uc->uc_mcontext.fpregs, &out->out.xs);
	if (out->out.rip - CODE_VA <= CODE_SIZE - sizeof(out->code))
		memcpy(out->code, (const void *)out->out.rip, sizeof(out->code));
	memcpy(out->mem, (const void *)MEM_VA, MEM_SIZE);
	memcpy(out->stack, (const void *)STACK_VA, STACK_SIZE);
	out->status = RAN;
}

static void install(ucontext_t *uc, const struct test_case *tc)
{
	greg_t *g = uc->uc_mcontext.gregs;
	uint8_t *area = (uint8_t *)uc->uc_mcontext.fpregs;
	uint8_t reserved[48];

	for (unsigned i = 0; i < 16; i++)
		g[greg_of[i]] = (greg_t)tc->in.gpr[i];
	g[REG_RIP] = (greg_t)tc->in.rip;
	g[REG_EFL] = (greg_t)tc->in.rflags;
	/* cs, gs, fs, ss: 16 bits each */
	g[REG_CSGSFS] = (greg_t)((uint64_t)(tc->mode == MODE_64 ? 0x33 : 0x23) | 0x2bull << 48);
	memcpy(reserved, area + 464, sizeof(reserved)); /* the kernel's own words */
	xstate_to_area(&tc->in.xs, area);
	memcpy(area + 464, reserved, sizeof(reserved));
}

static uint32_t xsave_size(const ucontext_t *uc)
{
	uint32_t size;

	memcpy(&size, (const uint8_t *)uc->uc_mcontext.fpregs + 464 + 16, 4);
	return size < XSAVE_MAX ? size : XSAVE_MAX;
}

__attribute__((no_stack_protector)) static void on_signal(int sig, siginfo_t *info, void *context)
{
	struct shared *sh = (struct shared *)SHARED_VA;
	ucontext_t *uc = context;

	(void)sig;
	(void)info;
	/* What the case set and neither signal nor sigreturn resets: AC (it would end this handler
	 * at its first misaligned access), NT, ID. */
	__asm__ volatile("lea -128(%%rsp), %%rsp; pushfq; andl %0, (%%rsp); popfq; lea 128(%%rsp), %%rsp"
			 ::"i"(~(int)(FL_AC | FL_NT | FL_ID)) : "memory", "cc");
	if (sh->current < 0) {
		memcpy(sh->saved_gregs, uc->uc_mcontext.gregs, sizeof(sh->saved_gregs));
		memcpy(sh->saved_xsave, uc->uc_mcontext.fpregs, xsave_size(uc));
	} else {
		capture(uc, &sh->out[sh->current]);
	}
	sh->current++;
	if (sh->current < (int32_t)sh->count) {
		const struct test_case *tc = &sh->tc[sh->current];

		place_memory(tc, sh->templates, (uint8_t *)MEM_VA);
		place_stack(tc, sh->templates, (uint8_t *)STACK_VA);
		install(uc, tc);
	} else {
		memcpy(uc->uc_mcontext.gregs, sh->saved_gregs, sizeof(sh->saved_gregs));
		memcpy(uc->uc_mcontext.fpregs, sh->saved_xsave, xsave_size(uc));
		sh->current = -1;
	}
	/* 32-bit code needs data segments; 64-bit code does not look at them. */
	__asm__ volatile("mov %0, %%ds; mov %0, %%es" ::"r"(0x2b) : "memory");
}

static void map_at(uint64_t va, size_t size, int fd, off_t offset, int prot)
{
	if (mmap((void *)va, size, prot, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, offset) ==
	    MAP_FAILED)
		_exit(3);
}

static size_t shared_size(void)
{
	return (sizeof(struct shared) + 4095) & ~(size_t)4095;
}

__attribute__((noreturn)) static void child(const struct native *n, int command, int done)
{
	struct shared *sh = (struct shared *)SHARED_VA;
	const stack_t stack = { .ss_sp = mmap(NULL, 65536, PROT_READ | PROT_WRITE,
					      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
				.ss_size = 65536 };
	struct sigaction sa = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	map_at(CODE_VA, CODE_SIZE, n->fd, 0, PROT_READ | PROT_WRITE | PROT_EXEC);
	map_at(MEM_VA, MEM_SIZE, n->fd, CODE_SIZE, PROT_READ | PROT_WRITE);
	map_at(ALIAS_VA, MEM_SIZE / 2, n->fd, CODE_SIZE + MEM_SIZE / 2, PROT_READ | PROT_WRITE);
	map_at(ALIAS_VA + MEM_SIZE / 2, MEM_SIZE / 2, n->fd, CODE_SIZE, PROT_READ | PROT_WRITE);
	map_at(RO_VA, RO_SIZE, n->fd, CODE_SIZE + MEM_SIZE, PROT_READ);
	map_at(STACK_VA, STACK_SIZE, n->fd, CODE_SIZE + MEM_SIZE + RO_SIZE, PROT_READ | PROT_WRITE);
	map_at(SHARED_VA, shared_size(), n->fd, AREAS, PROT_READ | PROT_WRITE);
	sigfillset(&sa.sa_mask);
	if (sigaltstack(&stack, NULL) < 0)
		_exit(3);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, NULL);
	syscall(SYS_arch_prctl, ARCH_SET_GS, GS_BASE);
	sh->current = -1;
	while (read(command, &c, 1) == 1) {
		__asm__ volatile("int3" ::: "memory");
		if (write(done, &c, 1) != 1)
			break;
	}
	_exit(0);
}

/* --- the parent ------------------------------------------------------------------------------------ */

static void stop_child(struct native *n)
{
	if (n->child > 0) {
		kill(n->child, SIGKILL);
		while (waitpid(n->child, NULL, 0) < 0 && errno == EINTR)
			;
		close(n->command);
		close(n->done);
	}
	n->child = 0;
}

static int start_child(struct native *n)
{
	int command[2], done[2];

	if (pipe(command) < 0)
		return -errno;
	if (pipe(done) < 0) {
		close(command[0]);
		close(command[1]);
		return -EMFILE;
	}
	n->child = fork();
	if (n->child == 0) {
		close(command[1]);
		close(done[0]);
		child(n, command[0], done[1]);
	}
	close(command[0]);
	close(done[1]);
	n->command = command[1];
	n->done = done[0];
	return n->child < 0 ? -errno : 0;
}

struct native *native_free(struct native *n)
{
	if (!n)
		return NULL;
	stop_child(n);
	if (n->shared)
		munmap(n->shared, shared_size());
	if (n->code)
		munmap(n->code, AREAS);
	close(n->fd);
	free(n);
	return NULL;
}

int native_new(struct native **ret, const uint8_t (*templates)[MEM_SIZE])
{
	struct native *n = calloc(1, sizeof(*n));
	void *p, *q;
	int r;

	if (!n)
		return -ENOMEM;
	n->fd = memfd_create("insn", MFD_CLOEXEC);
	if (n->fd < 0 || ftruncate(n->fd, (off_t)(AREAS + shared_size())) < 0)
		goto fail;
	p = mmap(NULL, AREAS, PROT_READ | PROT_WRITE, MAP_SHARED, n->fd, 0);
	q = mmap(NULL, shared_size(), PROT_READ | PROT_WRITE, MAP_SHARED, n->fd, AREAS);
	n->code = p == MAP_FAILED ? NULL : p;
	n->shared = q == MAP_FAILED ? NULL : q;
	if (!n->code || !n->shared)
		goto fail;
	n->mem = n->code + CODE_SIZE;
	memcpy(n->mem + MEM_SIZE, templates[0], RO_SIZE);
	memcpy(n->shared->templates, templates, sizeof(n->shared->templates));
	r = start_child(n);
	if (r < 0)
		goto fail;
	*ret = n;
	return 0;
fail:
	r = -errno;
	native_free(n);
	return r;
}

/* One run of the child over what is in shared; false if it died or hung. */
static bool run_child(struct native *n, bool *ret_hung)
{
	struct pollfd p = { .fd = n->done, .events = POLLIN };
	char c = 'r';

	*ret_hung = false;
	if (write(n->command, &c, 1) != 1)
		return false;
	if (poll(&p, 1, 4000) <= 0) {
		*ret_hung = true;
		return false;
	}
	return read(n->done, &c, 1) == 1;
}

int native_run(struct native *n, const struct test_case *tc, size_t count, struct outcome *out)
{
	struct shared *sh = n->shared;
	size_t done = 0;
	bool hung;
	int r;

	while (done < count) {
		const size_t now = count - done;

		memset(n->code, 0xcc, CODE_SIZE);
		for (size_t i = 0; i < now; i++)
			place_code(&tc[done + i], n->code);
		memcpy(sh->tc, tc + done, now * sizeof(*tc));
		memset(sh->out, 0, now * sizeof(*out));
		sh->count = (uint32_t)now;
		sh->current = -1;
		if (run_child(n, &hung)) {
			memcpy(out + done, sh->out, now * sizeof(*out));
			return 0;
		}
		if (sh->current >= 0) {
			const size_t bad = (size_t)sh->current;

			memcpy(out + done, sh->out, bad * sizeof(*out));
			memset(&out[done + bad], 0, sizeof(*out));
			out[done + bad].status = hung ? HUNG : DIED;
			done += bad + 1;
		} else {
			return -EIO;
		}
		stop_child(n);
		r = start_child(n);
		if (r < 0)
			return r;
	}
	return 0;
}
