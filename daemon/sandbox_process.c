/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_process.c - the first stage: what the whole process gives up while it has one thread. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/checked.h"
#include "daemon/sandbox_internal.h"

/* --- limits ----------------------------------------------------------------------------------- */

static const struct {
	int what;
	rlim_t limit;
} limits[] = {
	{ RLIMIT_CORE, 0 },      /* a core file would hold the guest's registers */
	{ RLIMIT_MSGQUEUE, 0 },
	{ RLIMIT_RTPRIO, 0 },
	{ RLIMIT_LOCKS, 0 },
	{ RLIMIT_NOFILE, 4096 }, /* a peer that sends descriptors ends here */
};

#define FILES_PER_SHARE 8192 /* files that its guest knows cost a descriptor each */

static int set_limits(const struct sandbox_options *options)
{
	for (size_t i = 0; i < ARRAY_SIZE(limits); i++) {
		struct rlimit old, new = { limits[i].limit, limits[i].limit };

		if (limits[i].what == RLIMIT_NOFILE)
			new.rlim_cur = new.rlim_max += FILES_PER_SHARE * options->share_count;
		if (getrlimit((__rlimit_resource_t)limits[i].what, &old) < 0)
			return -errno;
		if (old.rlim_max <= new.rlim_max) /* never more than it was */
			new.rlim_max = old.rlim_max;
		if (old.rlim_cur <= new.rlim_cur)
			new.rlim_cur = old.rlim_cur;
		if (setrlimit((__rlimit_resource_t)limits[i].what, &new) < 0)
			return -errno;
	}
	return 0;
}

/* --- an empty root ---------------------------------------------------------------------------- */

static int write_map(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* Only root that has it may be root in a user namespace too (user_namespaces(7)). */
static bool may_map(unsigned uid)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = { { 0, 0, 0 }, { 0, 0, 0 } };

	return uid != 0 || (syscall(SYS_capget, &header, caps) == 0 &&
			    caps[0].effective >> CAP_SETFCAP & 1);
}

/* A user namespace gives an ordinary user the right to mount, in it. The user stays the same one, or
 * the process would not know its own daemon by its credentials. */
static int enter_user_namespace(void)
{
	unsigned uid = geteuid(), gid = getegid();
	char text[40];
	int r;

	/* Later is too late: who is in one that has no map is nobody, and not even his files' owner. */
	if (!may_map(uid))
		return -EPERM;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		return -errno;
	snprintf(text, sizeof(text), "%u %u 1\n", uid, uid);
	r = write_map("/proc/self/uid_map", text);
	if (r < 0)
		return r;
	(void)write_map("/proc/self/setgroups", "deny"); /* older kernels have no such file */
	snprintf(text, sizeof(text), "%u %u 1\n", gid, gid);
	return write_map("/proc/self/gid_map", text);
}

/* Any directory can carry the new root until it is the root. */
static const char *const carriers[] = { "/tmp", "/run", "/var", "/usr" };

static int pivot(void)
{
	const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	int r = -ENOENT;

	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(carriers); i++) {
		if (mount("vmxd-empty", carriers[i], "tmpfs", flags, "size=4k,nr_inodes=2,mode=0555") < 0) {
			r = -errno;
			continue;
		}
		if (chdir(carriers[i]) < 0)
			return -errno;
		/* The old root lands on top of the new one, and is taken off there. */
		if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
		    chdir("/") < 0)
			return -errno;
		(void)mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL);
		return 0;
	}
	return r;
}

static void empty_root(struct sandbox_process *ret)
{
	const char *how = "mount namespace", *what = "unshare";
	int r = unshare(CLONE_NEWNS) < 0 ? -errno : 0;

	if (r == -EPERM) {
		how = "user and mount namespace";
		r = enter_user_namespace();
	}
	if (r == 0) {
		what = "pivot_root";
		r = pivot();
	}
	ret->empty_root = r == 0;
	if (r == -EPERM && !may_map(geteuid()))
		snprintf(ret->root_why, sizeof(ret->root_why),
			 "root without CAP_SETFCAP and CAP_SYS_ADMIN can make no namespace for it");
	else if (r == 0)
		snprintf(ret->root_why, sizeof(ret->root_why), "%s", how);
	else
		snprintf(ret->root_why, sizeof(ret->root_why), "%s: %s: %s", how, what, strerror(-r));
}

/* --- Landlock --------------------------------------------------------------------------------- */

/* As of ABI 6; headers of the build host may be older. */
struct landlock_attr {
	uint64_t handled_access_fs;
	uint64_t handled_access_net; /* since 4 */
	uint64_t scoped;             /* since 6 */
};

static const struct {
	int abi;
	unsigned fs_rights; /* bits from 0 on */
	bool tcp, scopes;
} landlock_abis[] = {
	{ 6, 16, true, true },  { 5, 16, true, false },  { 4, 15, true, false },
	{ 3, 15, false, false }, { 2, 14, false, false }, { 1, 13, false, false },
};

/* Of LANDLOCK_ACCESS_FS_*: what serving a shared directory takes. Not among them: executing, and
 * making device files. */
enum {
	LL_WRITE_FILE = 1 << 1, LL_READ_FILE = 1 << 2, LL_READ_DIR = 1 << 3, LL_REMOVE_DIR = 1 << 4,
	LL_REMOVE_FILE = 1 << 5, LL_MAKE_DIR = 1 << 7, LL_MAKE_REG = 1 << 8, LL_MAKE_SOCK = 1 << 9,
	LL_MAKE_FIFO = 1 << 10, LL_MAKE_SYM = 1 << 12, LL_REFER = 1 << 13, LL_TRUNCATE = 1 << 14,
};
#define LL_SHARE_READ ((uint64_t)(LL_READ_FILE | LL_READ_DIR))
#define LL_SHARE_WRITE ((uint64_t)(LL_WRITE_FILE | LL_REMOVE_DIR | LL_REMOVE_FILE | LL_MAKE_DIR | \
				   LL_MAKE_REG | LL_MAKE_SOCK | LL_MAKE_FIFO | LL_MAKE_SYM | \
				   LL_REFER | LL_TRUNCATE))

struct landlock_beneath { /* struct landlock_path_beneath_attr */
	uint64_t allowed_access;
	int32_t parent_fd;
} __attribute__((packed));

static int landlock_shares(int ruleset, uint64_t handled, const struct sandbox_options *options)
{
	for (size_t i = 0; i < options->share_count; i++) {
		uint64_t access = LL_SHARE_READ | (options->shares[i].readonly ? 0 : LL_SHARE_WRITE);
		struct landlock_beneath rule = { access & handled, options->shares[i].fd };

		if (syscall(SYS_landlock_add_rule, ruleset, 1 /* ..._PATH_BENEATH */, &rule, 0) < 0)
			return -errno;
	}
	return 0;
}

/* All of what a ruleset handles is denied, for good, but for shared directories. */
static void landlock(const struct sandbox_options *options, struct sandbox_process *ret)
{
	struct landlock_attr attr = { 0 };
	size_t size, i = 0;
	int fd, abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, 1u /* ..._VERSION */);

	if (abi < 1)
		return;
	while (landlock_abis[i].abi > abi)
		i++;
	attr.handled_access_fs = (1ull << landlock_abis[i].fs_rights) - 1;
	attr.handled_access_net = landlock_abis[i].tcp ? 3 : 0; /* bind, connect */
	attr.scoped = landlock_abis[i].scopes ? 3 : 0;          /* abstract sockets, signals */
	size = landlock_abis[i].scopes ? 24 : landlock_abis[i].tcp ? 16 : 8;
	fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (fd < 0)
		return;
	if (landlock_shares(fd, attr.handled_access_fs, options) == 0 &&
	    syscall(SYS_landlock_restrict_self, fd, 0) == 0) {
		ret->landlock = abi;
		ret->landlock_tcp = landlock_abis[i].tcp;
	}
	close(fd);
}

/* --- capabilities ----------------------------------------------------------------------------- */

static int drop_capabilities(struct sandbox_process *ret)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { { 0, 0, 0 }, { 0, 0, 0 } };
	bool bounded = true;

	(void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	/* Who has no capability may not take any from the bounding set either: with no new
	 * privileges that set means nothing then. */
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		if (prctl(PR_CAPBSET_DROP, cap) < 0)
			bounded = false;
	if (syscall(SYS_capset, &header, none) < 0)
		return -errno;
	ret->no_capabilities = bounded;
	return 0;
}

int sandbox_process_enter(const struct sandbox_options *options, struct sandbox_process *ret)
{
	int r;

	*ret = (struct sandbox_process){ 0 };
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	r = set_limits(options);
	if (r < 0)
		return r;
	empty_root(ret);
	landlock(options, ret); /* after the mounts, which it forbids */
	return drop_capabilities(ret);
}
