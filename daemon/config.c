/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/config_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "daemon/image_lock.h"
#include "daemon/plug.h"
#include "daemon/vhostconf.h"
#include "protocol/schema.h"

#define MIB ((uint64_t)1 << 20)

void config_close(struct config_files *files)
{
	if (files->kernel >= 0)
		close(files->kernel);
	if (files->initrd >= 0)
		close(files->initrd);
	for (size_t i = 0; i < files->disk_files; i++)
		close(files->disks[i]);
	for (size_t i = 0; i < files->handed_count; i++)
		close(files->handed[i].fd);
	files->kernel = files->initrd = -1;
	files->disk_files = files->handed_count = 0;
	net_ends_close(files->nets, files->net_count);
	files->net_count = 0;
}

int config_file_error(struct rpc_error *error, const char *field, const char *path, int err)
{
	const char *reason = err == ENOENT || err == ENOTDIR ? "no-such-file" :
			     err == EACCES || err == EPERM || err == EROFS ? "not-accessible" :
								 "not-usable";

	rpc_fail(error, RPC_INVALID_PARAMS, reason, field, "%s: %s: %s", field, path,
		 strerror(err));
	error->err = err;
	return -EINVAL;
}

/* O_NONBLOCK: a FIFO or a device must not hold up the daemon before it is refused. */
static int open_file(const char *path, int flags, bool block_too, const char *field, int *ret_fd,
		     struct rpc_error *error)
{
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0)
		return config_file_error(error, field, path, errno);
	if (fstat(fd, &st) < 0) {
		int err = errno;

		close(fd);
		return config_file_error(error, field, path, err);
	}
	if (!S_ISREG(st.st_mode) && !(block_too && S_ISBLK(st.st_mode))) {
		close(fd);
		return rpc_fail(error, RPC_INVALID_PARAMS, "not-a-file", field, "%s: %s: not a %s",
				field, path,
				block_too ? "regular file or block device" : "regular file");
	}
	*ret_fd = fd;
	return 0;
}

static bool has_multiboot(const unsigned char *head, size_t len)
{
	for (size_t i = 0; i + 12 <= len; i += 4)
		if (get_le32(head + i) == 0x1badb002 &&
		    (uint32_t)(get_le32(head + i) + get_le32(head + i + 4) +
			       get_le32(head + i + 8)) == 0)
			return true;
	return false;
}

/* A quick look, so that a mistaken path is told when the VM is made and not when it is started; the
 * machine's loader decides. */
static int check_kernel(int fd, const char *path, struct rpc_error *error)
{
	unsigned char head[8192];
	ssize_t n = pread(fd, head, sizeof(head), 0);

	if (n < 0)
		return config_file_error(error, "kernel", path, errno);
	if (n >= 0x206 && get_le16(head + 0x1fe) == 0xaa55 && memcmp(head + 0x202, "HdrS", 4) == 0)
		return 0;
	if (n >= 4 && memcmp(head, "\177ELF", 4) == 0)
		return 0;
	if (has_multiboot(head, (size_t)n))
		return 0;
	return rpc_fail(error, RPC_INVALID_PARAMS, "not-a-kernel", "kernel",
			"kernel: %s: not a bzImage, ELF or multiboot 1 image", path);
}

static int check_initrd(int fd, uint64_t memory, struct rpc_error *error)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return config_file_error(error, "initrd", "", errno);
	if ((uint64_t)st.st_size >= memory)
		return rpc_fail(error, RPC_INVALID_PARAMS, "does-not-fit", "initrd",
				"initrd: %" PRIu64 " bytes do not fit into %" PRIu64
				" bytes of memory", (uint64_t)st.st_size, memory);
	return 0;
}

/* The lock lives in the machine's copy of the descriptor, so it ends with the machine and not with the
 * daemon. */
static int lock_file(int fd, bool readonly, const char *field, const char *path,
		     struct rpc_error *error)
{
	if (image_lock(fd, readonly) == 0)
		return 0;
	return rpc_fail(error, RPC_BUSY, "disk-in-use", field,
			"%s: %s is in use by another VM or program", field, path);
}

static bool same_file(const struct stat *st, int fd)
{
	struct stat other;

	return fstat(fd, &other) == 0 && other.st_dev == st->st_dev && other.st_ino == st->st_ino;
}

/* The same file twice in one VM: as two disks, or as a disk and what it lies on. Locks would tell, but
 * only of what is written, and not when the VM is made. */
static int check_twice(const struct config_files *files, int fd, const char *field,
		       const char *path, struct rpc_error *error)
{
	bool twice = false;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return 0;
	for (size_t i = 0; i < files->disk_files; i++)
		twice |= same_file(&st, files->disks[i]);
	for (size_t i = 0; i < files->handed_count; i++)
		twice |= same_file(&st, files->handed[i].fd);
	if (!twice)
		return 0;
	return rpc_fail(error, RPC_INVALID_PARAMS, "file-twice", field,
			"%s: %s is in this VM already", field, path);
}

/* What is handed over must not be written by way of a mistake: flags says what the guest may. */
int config_open_image(const char *path, int flags, bool lock, const char *field,
		      const struct config_files *files, int *ret_fd, struct rpc_error *error)
{
	bool readonly = (flags & O_ACCMODE) == O_RDONLY;
	int fd = -1, r = open_file(path, flags, true, field, &fd, error);

	if (r < 0 && error->err == EINVAL && flags & O_DIRECT)
		return rpc_fail(error, RPC_INVALID_PARAMS, "not-supported", field,
				"%s: %s: its file system has no O_DIRECT: leave \"cache\": "
				"\"none\" out", field, path);
	if (r == 0 && !readonly)
		r = check_twice(files, fd, field, path, error);
	if (r == 0 && lock)
		r = lock_file(fd, readonly, field, path, error);
	if (r == 0)
		*ret_fd = fd;
	else if (fd >= 0)
		close(fd);
	return r;
}

static int open_disk_file(json_object *file, int flags, bool lock, const char *field,
			  struct config_files *files, struct rpc_error *error)
{
	int r = config_open_image(json_get_str(file, "path", ""), flags, lock, field, files,
				  &files->disks[files->disk_files], error);

	files->disk_files += r == 0;
	return r;
}

static int open_disk(json_object *disk, const char *name, bool lock, struct config_files *files,
		     struct rpc_error *error)
{
	json_object *backing = json_get(disk, "backing");
	size_t n = backing ? json_object_array_length(backing) : 0;
	int direct = strcmp(json_get_str(disk, "cache", "writeback"), "none") ? 0 : O_DIRECT;
	int access = json_get_bool(disk, "readonly", false) ? O_RDONLY : O_RDWR;
	char field[64];
	int r;

	snprintf(field, sizeof(field), "%s.path", name);
	if (n && strcmp(json_get_str(disk, "format", "raw"), "qcow2") != 0)
		return rpc_fail(error, RPC_INVALID_PARAMS, "bad-value", field,
				"%s.backing: only a qcow2 image lies on another one", name);
	r = open_disk_file(disk, access | direct, lock, field, files, error);
	for (size_t i = 0; i < n && i < CONFIG_BACKING_MAX && r == 0; i++) {
		json_object *file = json_object_array_get_idx(backing, i);

		snprintf(field, sizeof(field), "%s.backing[%zu].path", name, i);
		if (i + 1 < n && strcmp(json_get_str(file, "format", "raw"), "qcow2") != 0)
			return rpc_fail(error, RPC_INVALID_PARAMS, "bad-value", field,
					"%s: only a qcow2 image lies on another one", field);
		r = open_disk_file(file, O_RDONLY | direct, lock, field, files, error);
	}
	return r;
}

int config_open_disk(json_object *disk, const char *field, bool lock, struct config_files *ret,
		     struct rpc_error *error)
{
	int r;

	memset(ret, 0, sizeof(*ret));
	ret->kernel = ret->initrd = -1;
	r = open_disk(disk, field, lock, ret, error);
	if (r < 0)
		config_close(ret);
	return r;
}

static int open_disks(json_object *config, bool lock, struct config_files *files,
		      struct rpc_error *error)
{
	json_object *disks = json_get(config, "disks");
	size_t n = disks ? json_object_array_length(disks) : 0;
	int r = 0;

	for (size_t i = 0; i < n && i < CONFIG_DISKS_MAX && r == 0; i++) {
		char name[24];

		snprintf(name, sizeof(name), "disks[%zu]", i);
		r = open_disk(json_object_array_get_idx(disks, i), name, lock, files, error);
	}
	return r;
}

/* left: what the host has besides the VM's memory. */
static int check_mem(json_object *mem, uint64_t left, struct rpc_error *error)
{
	uint64_t block = json_get_size(mem, "block", CONFIG_MEM_BLOCK_DEFAULT);
	uint64_t size = json_get_size(mem, "size", 0), requested = json_get_size(mem, "requested", 0);

	if (block & (block - 1))
		return rpc_fail(error, RPC_INVALID_PARAMS, "bad-value", "mem.block",
				"mem.block: must be a power of two");
	if (size % block || requested % block)
		return rpc_fail(error, RPC_INVALID_PARAMS, "bad-value",
				size % block ? "mem.size" : "mem.requested",
				"mem.%s: must be a whole number of blocks of %" PRIu64 " MiB",
				size % block ? "size" : "requested", block / MIB);
	if (requested > size)
		return rpc_fail(error, RPC_INVALID_PARAMS, "out-of-range", "mem.requested",
				"mem.requested: more than mem.size");
	if (size > left)
		return rpc_fail(error, RPC_INVALID_PARAMS, "out-of-range", "mem.size",
				"mem.size: %" PRIu64 " MiB, but the host has %" PRIu64 " MiB besides "
				"the VM's memory", size / MIB, left / MIB);
	return 0;
}

static int check_values(json_object *config, uint64_t host_memory, struct rpc_error *error)
{
	uint64_t memory = json_get_size(config, "memory", CONFIG_MEMORY_DEFAULT);
	int r;

	if (memory % MIB)
		return rpc_fail(error, RPC_INVALID_PARAMS, "bad-value", "memory",
				"memory: must be a whole number of MiB");
	if (memory > host_memory)
		return rpc_fail(error, RPC_INVALID_PARAMS, "out-of-range", "memory",
				"memory: %" PRIu64 " MiB, but the host has %" PRIu64 " MiB",
				memory / MIB, host_memory / MIB);
	r = check_mem(json_get(config, "mem"), host_memory - memory, error);
	return r == 0 ? plug_check_ids(config, error) : r;
}

int config_open(json_object *config, uint64_t host_memory, char *const *share_roots, bool lock,
		struct config_files *ret, struct rpc_error *error)
{
	const char *kernel = json_get_str(config, "kernel", "");
	const char *initrd = json_get_str(config, "initrd", NULL);
	int r;

	memset(ret, 0, sizeof(*ret));
	ret->kernel = ret->initrd = -1;
	r = check_values(config, host_memory, error);
	if (r == 0)
		r = netconf_check(config, error);
	if (r == 0)
		r = vhostconf_check(config, error);
	if (r == 0)
		r = open_file(kernel, O_RDONLY, false, "kernel", &ret->kernel, error);
	if (r == 0)
		r = check_kernel(ret->kernel, kernel, error);
	if (r == 0 && initrd)
		r = open_file(initrd, O_RDONLY, false, "initrd", &ret->initrd, error);
	if (r == 0 && initrd)
		r = check_initrd(ret->initrd, json_get_size(config, "memory",
							    CONFIG_MEMORY_DEFAULT), error);
	if (r == 0)
		r = open_disks(config, lock, ret, error);
	if (r == 0)
		r = config_open_sockets(config, lock, ret, error);
	if (r == 0)
		r = config_open_shares(config, share_roots, ret, error);
	if (r == 0)
		r = config_open_pmem(config, lock, ret, error);
	if (r < 0)
		config_close(ret);
	return r;
}
