/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slirp_sandbox.c - what is left to vmxd-slirp: internet sockets, and reading the resolver's
 * configuration, which libslirp looks at whenever the guest asks for a name.
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/landlock.h>
#include <seccomp.h>

#include "common/checked.h"
#include "daemon/slirp.h"

#define NOBODY 65534

/* --- files ------------------------------------------------------------------------------------ */

static int allow_reading(int ruleset, const char *dir)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE,
		.parent_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC),
	};
	long r;

	if (rule.parent_fd < 0)
		return 0; /* not there, so not needed */
	r = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	close(rule.parent_fd);
	return r < 0 ? -errno : 0;
}

/* Directories, not the file: it is replaced when the host's network changes. */
static int allow_resolver(int ruleset)
{
	char path[PATH_MAX], *slash;
	int r = allow_reading(ruleset, "/etc");

	if (r < 0 || !realpath("/etc/resolv.conf", path))
		return r;
	slash = strrchr(path, '/');
	*slash = '\0';
	return allow_reading(ruleset, *path ? path : "/");
}

static int confine_files(void)
{
	struct landlock_ruleset_attr attr = {
		.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1, /* all of the first ABI */
	};
	int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0), r;

	if (ruleset < 0) /* not in this kernel: the filter allows reading only, as it is */
		return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -errno;
	r = allow_resolver(ruleset);
	if (r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		r = -errno;
	close(ruleset);
	return r;
}

/* --- privileges ------------------------------------------------------------------------------- */

static int drop_privileges(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { { 0 } };
	struct rlimit no_core = { 0, 0 };

	/* Another user than root where that is possible; without a capability in any case. */
	if (geteuid() == 0 && setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0)
		(void)!setresuid(NOBODY, NOBODY, NOBODY);
	if (syscall(SYS_capset, &header, none) < 0)
		return -errno;
	if (setrlimit(RLIMIT_CORE, &no_core) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return -errno;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

/* --- system calls ----------------------------------------------------------------------------- */

static const int calls[] = {
	/* its packets, the sockets of the guest's connections */
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv),
	SCMP_SYS(writev), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(sendto), SCMP_SYS(sendmsg),
	SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(accept), SCMP_SYS(accept4),
	SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt),
	SCMP_SYS(shutdown), SCMP_SYS(close),
	/* the resolver's configuration */
	SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(stat), SCMP_SYS(lseek),
	/* time, memory, its end */
	SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(brk),
	SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(futex), SCMP_SYS(getrandom),
	SCMP_SYS(restart_syscall), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(tgkill), SCMP_SYS(exit_group), SCMP_SYS(exit),
};

static const struct {
	int call;
	struct scmp_arg_cmp arg;
} conditions[] = {
	{ SCMP_SYS(socket), { 0, SCMP_CMP_EQ, AF_INET, 0 } },
	{ SCMP_SYS(socket), { 0, SCMP_CMP_EQ, AF_INET6, 0 } },
	{ SCMP_SYS(fcntl), { 1, SCMP_CMP_EQ, F_GETFL, 0 } },
	{ SCMP_SYS(fcntl), { 1, SCMP_CMP_EQ, F_SETFL, 0 } },
	{ SCMP_SYS(fcntl), { 1, SCMP_CMP_EQ, F_GETFD, 0 } },
	{ SCMP_SYS(fcntl), { 1, SCMP_CMP_EQ, F_SETFD, 0 } },
	{ SCMP_SYS(ioctl), { 1, SCMP_CMP_EQ, 0x541b /* FIONREAD */, 0 } },
	{ SCMP_SYS(ioctl), { 1, SCMP_CMP_EQ, 0x5421 /* FIONBIO */, 0 } },
	{ SCMP_SYS(openat), { 2, SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY } },
	{ SCMP_SYS(mmap), { 2, SCMP_CMP_MASKED_EQ, 4 /* PROT_EXEC */, 0 } },
	{ SCMP_SYS(mprotect), { 2, SCMP_CMP_MASKED_EQ, 4, 0 } },
};

/* Other sockets: what wants them lives without. */
static const struct scmp_arg_cmp refused_sockets[] = {
	{ 0, SCMP_CMP_LT, AF_INET, 0 },
	{ 0, SCMP_CMP_GT, AF_INET6, 0 },
};

static int confine_calls(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = ctx ? 0 : -ENOMEM;

	for (size_t i = 0; i < ARRAY_SIZE(refused_sockets) && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
				     refused_sockets[i]);
	for (size_t i = 0; i < ARRAY_SIZE(calls) && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
	for (size_t i = 0; i < ARRAY_SIZE(conditions) && r == 0; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, conditions[i].call, 1, conditions[i].arg);
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}

int slirp_confine(void)
{
	int r = drop_privileges();

	(void)syscall(SYS_close_range, 0, 1, 0);
	if (r == 0)
		r = confine_files();
	return r == 0 ? confine_calls() : r;
}
