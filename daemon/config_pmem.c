/* SPDX-License-Identifier: Apache-2.0 */
/* config_pmem.c - files that a VM has as persistent memory: which may be, and opening them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "daemon/config_internal.h"
#include "devices/virtio/pmem.h"

static int check_size(int fd, const char *field, const char *path, struct rpc_error *error)
{
	off_t size = lseek(fd, 0, SEEK_END);

	if (size < 0)
		return config_file_error(error, field, path, errno);
	if (size == 0 || (unsigned long long)size % VIRTIO_PMEM_ALIGN)
		return rpc_fail(error, RPC_INVALID_PARAMS, "bad-value", field,
				"%s: %s: has %lld bytes; it must be a multiple of 2 MiB, and not empty: "
				"\"truncate --size=%%2M\" makes it so", field, path, (long long)size);
	return 0;
}

int config_open_pmem(json_object *config, bool lock, struct config_files *files,
		     struct rpc_error *error)
{
	json_object *list = json_get(config, "pmem");
	size_t n = list ? json_object_array_length(list) : 0;
	int r = 0;

	for (size_t i = 0; i < n && r == 0; i++) {
		const char *path = json_get_str(json_object_array_get_idx(list, i), "path", "");
		char field[40];
		int fd = -1;

		snprintf(field, sizeof(field), "pmem[%zu].path", i);
		r = config_open_image(path, O_RDWR, lock, field, files, &fd, error);
		if (r == 0)
			r = check_size(fd, field, path, error);
		if (r == 0)
			r = config_hand(files, "pmem", i, fd, error);
		else if (fd >= 0)
			close(fd);
	}
	return r;
}
