/* SPDX-License-Identifier: Apache-2.0 */
/* config_share.c - the directories that a VM shares with its host: which may be, and opening them. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/checked.h"
#include "daemon/config_internal.h"
#include "daemon/vhostconf.h"
#include "protocol/schema.h"

#define SHARE_TAG_MAX 31

/* File systems whose files are the kernel's levers, not anybody's data. */
static const long not_data[] = {
	PROC_SUPER_MAGIC, SYSFS_MAGIC, CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC,
	TRACEFS_MAGIC, SECURITYFS_MAGIC, SELINUX_MAGIC, DEVPTS_SUPER_MAGIC, BPF_FS_MAGIC,
	NSFS_MAGIC, BINDERFS_SUPER_MAGIC, PSTOREFS_MAGIC, EFIVARFS_MAGIC,
};

/* path is root or below it; both are absolute and real, without a slash at the end. */
static bool below(const char *path, const char *root)
{
	size_t n = strlen(root);

	return strcmp(root, "/") == 0 ||
	       (strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0'));
}

/* Where the open directory really is: asked of the descriptor, so that no symbolic link that is
 * changed meanwhile makes a difference. */
static int check_roots(int fd, char *const *roots, const char *field, const char *path,
		       struct rpc_error *error)
{
	char link[32], real[PATH_MAX];
	ssize_t n;

	if (!roots)
		return 0;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, real, sizeof(real) - 1);
	if (n < 0)
		return config_file_error(error, field, path, errno);
	real[n] = '\0';
	for (size_t i = 0; roots[i]; i++)
		if (below(real, roots[i]))
			return 0;
	if (!roots[0])
		return rpc_fail(error, RPC_INVALID_PARAMS, "not-allowed", field,
				"%s: %s: this vmxd shares no directory; start it with --share-root "
				"to name those that it may", field, path);
	return rpc_fail(error, RPC_INVALID_PARAMS, "not-allowed", field,
			"%s: %s: outside of what this vmxd may share (--share-root %s%s)", field,
			path, roots[0], roots[1] ? " and others" : "");
}

static int check_kind(int fd, const char *field, const char *path, struct rpc_error *error)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return config_file_error(error, field, path, errno);
	for (size_t i = 0; i < ARRAY_SIZE(not_data); i++)
		if ((long)fs.f_type == not_data[i])
			return rpc_fail(error, RPC_INVALID_PARAMS, "not-allowed", field,
					"%s: %s: a file system of the kernel's own, not of data",
					field, path);
	return 0;
}

static int open_checked(json_object *share, size_t index, char *const *roots, int *ret_fd,
			struct rpc_error *error)
{
	const char *path = json_get_str(share, "path", "");
	char field[40];
	int r;

	snprintf(field, sizeof(field), "shares[%zu].path", index);
	*ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (*ret_fd < 0 && errno == ENOTDIR)
		return rpc_fail(error, RPC_INVALID_PARAMS, "not-a-directory", field,
				"%s: %s: not a directory", field, path);
	if (*ret_fd < 0)
		return config_file_error(error, field, path, errno);
	r = check_roots(*ret_fd, roots, field, path, error);
	return r == 0 ? check_kind(*ret_fd, field, path, error) : r;
}

int config_open_share(json_object *config, size_t index, char *const *share_roots, int *ret_fd,
		      struct rpc_error *error)
{
	json_object *share = json_object_array_get_idx(json_get(config, "shares"), index);
	int r = open_checked(share, index, share_roots, ret_fd, error);

	if (r < 0 && *ret_fd >= 0)
		close(*ret_fd);
	return r;
}

static int check_tag(json_object *shares, size_t index, struct rpc_error *error)
{
	const char *tag = json_get_str(json_object_array_get_idx(shares, index), "tag", "");
	char field[40];

	snprintf(field, sizeof(field), "shares[%zu].tag", index);
	if (strlen(tag) > SHARE_TAG_MAX)
		return rpc_fail(error, RPC_INVALID_PARAMS, "too-long", field,
				"%s: at most %d characters", field, SHARE_TAG_MAX);
	for (size_t i = 0; i < index; i++) {
		json_object *other = json_object_array_get_idx(shares, i);

		if (strcmp(json_get_str(other, "tag", ""), tag) == 0)
			return rpc_fail(error, RPC_INVALID_PARAMS, "bad-value", field,
					"%s: \"%s\" is the tag of another share too", field, tag);
	}
	return 0;
}

int config_open_shares(json_object *config, char *const *roots, struct config_files *files,
		       struct rpc_error *error)
{
	json_object *shares = json_get(config, "shares");
	size_t n = shares ? json_object_array_length(shares) : 0, own = 0;
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		bool virtiofs = vhostconf_is_virtiofs(json_object_array_get_idx(shares, i));
		int fd = -1;

		r = check_tag(shares, i, error);
		if (r == 0)
			r = config_open_share(config, i, roots, &fd, error);
		if (r == 0 && !virtiofs)
			r = config_hand(files, "share", own++, fd, error);
		else if (r == 0)
			close(fd); /* virtiofsd gets another */
	}
	return r;
}
