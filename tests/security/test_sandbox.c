/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forbidden system calls die, in every kind of thread: each in a child process that builds the real
 * sandbox from the real table, starts a thread of that kind, and makes the call. The parent wants
 * SIGSYS, and the names of call and thread in the status file. What the table refuses instead must
 * come back with its error; what it allows for one kind only must die in the others.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/kvm.h>
#include <linux/vhost.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/checked.h"
#include "daemon/sandbox_rules.h"

#define CONTROL (1u << THREAD_CONTROL)
#define LOOP (1u << THREAD_LOOP)
#define SOFT (1u << THREAD_VCPU_SOFT)
#define HARD (1u << THREAD_VCPU_KVM)
#define BLOCK (1u << THREAD_BLOCK)
#define ALL ((1u << THREAD_KINDS) - 1)

static int passed, failed, skipped;
static int status_fd;
static char page[4096] __attribute__((aligned(4096)));

struct attempt {
	const char *name; /* of the call, as the report says it */
	long number;
	unsigned kinds;   /* that must die of it */
	long arg[6];
};

#define P(pointer) ((long)(uintptr_t)(pointer))

/* In classes: files, programs, processes, network, memory that is code, other processes, kernel. */
static const struct attempt attempts[] = {
	{ "open", SYS_open, ALL, { P("/etc/passwd"), O_RDONLY } },
	{ "openat2", SYS_openat2, ALL, { AT_FDCWD, P("/etc/passwd") } },
	{ "creat", SYS_creat, ALL, { P("/tmp/vmxd-sandbox-test"), 0600 } },
	{ "unlink", SYS_unlink, ALL, { P("/tmp/vmxd-sandbox-test") } },
	{ "rename", SYS_rename, ALL, { P("/tmp/a"), P("/tmp/b") } },
	{ "mkdir", SYS_mkdir, ALL, { P("/tmp/vmxd-sandbox-test") } },
	{ "chmod", SYS_chmod, ALL, { P("/etc/passwd"), 0666 } },
	{ "fchmod", SYS_fchmod, ALL, { 0, 0666 } },
	{ "readlink", SYS_readlink, ALL, { P("/proc/self/exe"), P(page), sizeof(page) } },
	{ "chdir", SYS_chdir, ALL, { P("/") } },
	{ "chroot", SYS_chroot, ALL, { P("/") } },
	{ "mount", SYS_mount, ALL, { P("none"), P("/"), P("tmpfs") } },
	{ "getdents64", SYS_getdents64, ALL, { 0, P(page), sizeof(page) } },
	{ "memfd_create", SYS_memfd_create, ALL, { P("x") } },
	{ "execve", SYS_execve, ALL, { P("/bin/true") } },
	{ "execveat", SYS_execveat, ALL, { AT_FDCWD, P("/bin/true") } },
	{ "fork", SYS_fork, ALL, { 0 } },
	{ "vfork", SYS_vfork, ALL, { 0 } },
	{ "clone", SYS_clone, ALL, { SIGCHLD } },
	{ "clone", SYS_clone, ALL, { CLONE_NEWUSER | SIGCHLD } },
	{ "clone3", SYS_clone3, ALL & ~CONTROL, { 0 } }, /* refused to CONTROL */
	{ "unshare", SYS_unshare, ALL, { CLONE_NEWUSER } },
	{ "setns", SYS_setns, ALL, { 0 } },
	{ "socket", SYS_socket, ALL, { 2, 1 } },
	{ "socketpair", SYS_socketpair, ALL & ~(CONTROL | LOOP), { AF_UNIX, SOCK_STREAM, 0, P(page) } },
	{ "socketpair", SYS_socketpair, ALL, { AF_INET, SOCK_STREAM, 0, P(page) } },
	{ "connect", SYS_connect, ALL, { 0 } },
	{ "bind", SYS_bind, ALL, { 0 } },
	{ "listen", SYS_listen, ALL, { 0 } },
	{ "accept4", SYS_accept4, ALL & ~(CONTROL | LOOP), { 0 } },
	{ "mmap", SYS_mmap, ALL, { 0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1 } },
	{ "mmap", SYS_mmap, ALL, { 0, 4096, PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1 } },
	{ "mprotect", SYS_mprotect, ALL, { P(page), sizeof(page), PROT_READ | PROT_EXEC } },
	{ "pkey_mprotect", SYS_pkey_mprotect, ALL, { P(page), sizeof(page), PROT_EXEC, -1 } },
	{ "mremap", SYS_mremap, ALL, { P(page), 4096, 4096, MREMAP_FIXED | MREMAP_MAYMOVE, P(page) } },
	{ "mremap", SYS_mremap, ALL & ~(SOFT | CONTROL), { P(page), 0, 4096, MREMAP_FIXED | MREMAP_MAYMOVE, 1 } },
	{ "ptrace", SYS_ptrace, ALL, { 0 } },
	{ "process_vm_writev", SYS_process_vm_writev, ALL, { 1 } },
	{ "kill", SYS_kill, ALL, { 1 } },
	{ "tkill", SYS_tkill, ALL, { 1 } },
	{ "tgkill", SYS_tgkill, ALL, { 1, 1 } },
	{ "pidfd_open", SYS_pidfd_open, ALL, { 1 } },
	{ "setuid", SYS_setuid, ALL, { 0 } },
	{ "capset", SYS_capset, ALL, { 0 } },
	{ "rt_sigaction", SYS_rt_sigaction, ALL & ~CONTROL, { SIGSYS } },
	{ "setrlimit", SYS_setrlimit, ALL, { 0 } },
	{ "prlimit64", SYS_prlimit64, ALL, { 0 } },
	{ "prctl", SYS_prctl, ALL, { PR_SET_DUMPABLE, 1 } },
	{ "seccomp", SYS_seccomp, ALL & ~CONTROL, { 1 } },
	{ "bpf", SYS_bpf, ALL, { 0 } },
	{ "perf_event_open", SYS_perf_event_open, ALL, { 0 } },
	{ "userfaultfd", SYS_userfaultfd, ALL, { 0 } },
	{ "keyctl", SYS_keyctl, ALL, { 0 } },
	{ "init_module", SYS_init_module, ALL, { 0 } },
	{ "kexec_load", SYS_kexec_load, ALL, { 0 } },
	{ "reboot", SYS_reboot, ALL, { 0 } },
	{ "ioctl", SYS_ioctl, ALL, { 0, TIOCSTI } },
	{ "ioctl", SYS_ioctl, ALL & ~HARD, { 0, KVM_RUN } },
	{ "ioctl", SYS_ioctl, ALL, { 0, KVM_CREATE_VM } },
	{ "ioctl", SYS_ioctl, SOFT | HARD, { 0, BLKDISCARD } },
	{ "ioctl", SYS_ioctl, ALL & ~CONTROL, { 0, VHOST_SET_OWNER } },
	{ "ioctl", SYS_ioctl, ALL, { 0, VHOST_SET_LOG_BASE } },
	{ "pwrite64", SYS_pwrite64, SOFT | HARD, { 0 } },
	{ "fallocate", SYS_fallocate, SOFT | HARD, { 0 } },
	{ "ftruncate", SYS_ftruncate, SOFT | HARD, { 0 } },
	{ "epoll_wait", SYS_epoll_wait, SOFT | HARD | BLOCK, { 0 } },
	{ "timer_create", SYS_timer_create, ALL, { 0 } },
	{ "timer_settime", SYS_timer_settime, ALL & ~SOFT, { 0 } },
	{ "fcntl", SYS_fcntl, ALL, { 0, F_SETOWN, 1 } },
	{ "number", 1000, ALL, { 0 } }, /* no call has it */
};

/* --- in the child ----------------------------------------------------------------------------- */

struct job {
	struct sandbox *sandbox;
	const struct attempt *attempt;
	long result;
};

static void begin(void *opaque, enum thread_kind kind)
{
	sandbox_thread(((struct job *)opaque)->sandbox, kind);
}

static void *make_call(void *opaque)
{
	struct job *job = opaque;
	const long *a = job->attempt->arg;

	job->result = syscall(job->attempt->number, a[0], a[1], a[2], a[3], a[4], a[5]);
	if (job->result < 0)
		job->result = -errno;
	return NULL;
}

/* Exit status: the errno that the call came back with, 0 for none; 250: no sandbox. */
static void __attribute__((noreturn)) child(enum thread_kind kind, const struct attempt *attempt)
{
	struct sandbox_options options = { .kvm = kind == THREAD_VCPU_KVM, .status_fd = status_fd };
	struct job job = { .attempt = attempt };
	struct thread_hook hook = { .begin = begin, .opaque = &job };
	char *error = NULL;
	pthread_t thread;

	if (sandbox_create(&options, &job.sandbox, &error) < 0) {
		printf("%s\n", error ? error : "no sandbox");
		fflush(stdout);
		_exit(250);
	}
	if (machine_thread_create(&thread, &hook, kind, "test", make_call, &job) < 0)
		_exit(251);
	pthread_join(thread, NULL);
	_exit(job.result < 0 ? (int)-job.result : 0);
}

/* The wait status; what is in the status file afterwards in text. */
static int run(enum thread_kind kind, const struct attempt *attempt, char *text, size_t size)
{
	int status = -1;
	ssize_t n;
	pid_t pid;

	if (ftruncate(status_fd, 0) < 0)
		return -1;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		int null = open("/dev/null", O_RDWR);

		dup2(null, 0); /* descriptor 0 of the attempts */
		dup2(null, 2);
		child(kind, attempt);
	}
	waitpid(pid, &status, 0);
	n = pread(status_fd, text, size - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	return status;
}

/* --- the checks ------------------------------------------------------------------------------- */

static void result(bool ok, const char *what, enum thread_kind kind, int status, const char *text)
{
	if (ok) {
		passed++;
		return;
	}
	failed++;
	printf("FAILED: %s in the %s thread: wait status 0x%x, report: %s\n", what,
	       sandbox_kind_name(kind), (unsigned)status, *text ? text : "none");
}

static void dies(const struct attempt *attempt, enum thread_kind kind)
{
	char text[2048], want[96];
	int status = run(kind, attempt, text, sizeof(text));

	snprintf(want, sizeof(want), "the %s thread tried the system call %s ",
		 sandbox_kind_name(kind), attempt->name);
	result(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS && strstr(text, want) &&
	       text[strlen(text) - 1] == '}', attempt->name, kind, status, text);
}

static void returns(const struct attempt *attempt, enum thread_kind kind, int want)
{
	char text[2048];
	int status = run(kind, attempt, text, sizeof(text));

	result(WIFEXITED(status) && WEXITSTATUS(status) == want, attempt->name, kind, status, text);
}

#ifdef __x86_64__
/* Through the 32-bit gate another table of numbers holds: 5 would be open(). */
static void *call_32(void *opaque)
{
	long nr = 20; /* getpid */

	(void)opaque;
	__asm__ volatile("int $0x80" : "+a"(nr) : : "memory", "r8", "r9", "r10", "r11");
	return NULL;
}

static void other_architecture(enum thread_kind kind)
{
	int status = -1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		struct sandbox_options options = { .status_fd = status_fd };
		struct job job = { 0 };
		struct thread_hook hook = { .begin = begin, .opaque = &job };
		char *error;
		pthread_t thread;

		if (sandbox_create(&options, &job.sandbox, &error) < 0 ||
		    machine_thread_create(&thread, &hook, kind, "test", call_32, NULL) < 0)
			_exit(250);
		pthread_join(thread, NULL);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	result(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "int 0x80", kind, status, "");
}
#endif

/* What was compiled when vmxd was built is what libseccomp makes of the rules here and now. */
static void same_program(enum thread_kind kind, bool kvm, bool shares)
{
	const struct sandbox_options options = { .kvm = kvm, .share_count = shares, .status_fd = 6,
						 .proc_fd = 11 };
	const uint32_t own[SANDBOX_OWNS] = { [SANDBOX_OWN_PID] = (uint32_t)getpid(),
					     [SANDBOX_OWN_STATUS_FD] = 6, [SANDBOX_OWN_PROC_FD] = 11 };
	struct sock_fprog made = { 0 }, compiled = { 0 };
	bool ok = sandbox_filter_make(&options, kind, &made) == 0 &&
		  sandbox_compile(kind, kvm, shares, own, &compiled) == 0 && made.len == compiled.len &&
		  !memcmp(made.filter, compiled.filter, made.len * sizeof(made.filter[0]));

	passed += ok;
	failed += !ok;
	if (!ok)
		printf("FAILED: the program of the %s thread (KVM %d, shares %d) is another one\n",
		       sandbox_kind_name(kind), kvm, shares);
	free(made.filter);
	free(compiled.filter);
}

int main(void)
{
	static const struct attempt openat = { "openat", SYS_openat, ALL, { AT_FDCWD, P("/sys") } };
	static const struct attempt clone3 = { "clone3", SYS_clone3, CONTROL, { 0 } };
	static const struct attempt getpid_call = { "getpid", SYS_getpid, ALL, { 0 } };
	static const struct attempt plain_map = { "mmap", SYS_mmap, ALL,
		{ 0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1 } };
	/* allowed, though not there */
	static const struct attempt second_map = { "mremap", SYS_mremap, SOFT | CONTROL,
		{ P(page), 0, 4096, MREMAP_FIXED | MREMAP_MAYMOVE, 1 } };
	char text[2048];
	int status;

	status_fd = memfd_create("status", 0);
	for (unsigned i = 0; i < THREAD_KINDS * 4; i++)
		same_program((enum thread_kind)(i / 4), i / 2 % 2, i % 2);
	status = run(THREAD_CONTROL, &getpid_call, text, sizeof(text));
	if (WIFEXITED(status) && WEXITSTATUS(status) == 250) {
		printf("skip: this host has no seccomp filters\n%d passed, %d failed, 1 skipped\n",
		       passed, failed);
		return failed ? 1 : 77;
	}
#ifdef VMXD_SANITIZERS
	printf("skip: the sanitizers of this build need calls that are forbidden otherwise\n"
	       "%d passed, %d failed, 1 skipped\n", passed, failed);
	return failed ? 1 : 77;
#endif
	for (unsigned k = 0; k < THREAD_KINDS; k++) {
		enum thread_kind kind = (enum thread_kind)k;

		returns(&getpid_call, kind, 0);
		returns(&plain_map, kind, 0);
		returns(&openat, kind, ENOENT);
		for (size_t i = 0; i < ARRAY_SIZE(attempts); i++)
			if (attempts[i].kinds & 1u << k)
				dies(&attempts[i], kind);
#ifdef __x86_64__
		other_architecture(kind);
#endif
	}
	returns(&clone3, THREAD_CONTROL, ENOSYS);
	returns(&second_map, THREAD_CONTROL, EINVAL);
	returns(&second_map, THREAD_VCPU_SOFT, EINVAL);
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed ? 1 : 0;
}
