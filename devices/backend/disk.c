/* SPDX-License-Identifier: Apache-2.0 */
/* disk.c - see disk.h. */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "devices/backend/block.h"
#include "devices/backend/disk.h"
#include "devices/backend/qcow2.h"

static int open_raw(int fd, bool readonly, char *why, struct block **ret_block)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3), r = copy < 0 ? -errno : 0;

	if (r == 0)
		r = block_raw_create(copy, readonly, ret_block);
	if (r < 0) {
		snprintf(why, DISK_WHY_MAX, "%s", strerror(-r));
		if (copy >= 0)
			close(copy);
	}
	return r;
}

/* The last bytes could only be written by making the file longer. */
static int check_direct(const struct block *block, char *why)
{
	if (!block->growable || block->readonly || !(block->size % block->align))
		return 0;
	snprintf(why, DISK_WHY_MAX, "cache \"none\" needs a size that is a multiple of %" PRIu32
		 " bytes here, and it is %" PRIu64, block->align, block->size);
	return -EINVAL;
}

static int open_file(const struct disk_file *file, struct block *below, bool readonly, char *why,
		     struct block **ret_block)
{
	char reason[QCOW2_WHY_MAX];
	struct block *raw;
	int r = open_raw(file->fd, readonly, why, &raw);

	if (r < 0)
		return r;
	if (file->format == DISK_QCOW2) {
		r = block_qcow2_create(raw, below, readonly, reason, ret_block);
		if (r < 0)
			snprintf(why, DISK_WHY_MAX, "qcow2: %s", reason);
	} else if (below) {
		r = -EMLINK;
		snprintf(why, DISK_WHY_MAX, "a raw image has no backing file, and one is given");
	} else {
		r = check_direct(raw, why);
		*ret_block = raw;
	}
	if (r < 0)
		block_destroy(raw);
	return r;
}

int disk_open(const struct disk_image *image, char *why, struct block **ret_block)
{
	struct block *below = NULL, *block = NULL;
	char reason[DISK_WHY_MAX];

	if (!image->files || image->files > 1 + DISK_BACKING_MAX) {
		snprintf(why, DISK_WHY_MAX, "%zu files", image->files);
		return -EINVAL;
	}
	for (size_t i = image->files; i-- > 0;) {
		int r = open_file(&image->file[i], below, image->readonly || i, reason, &block);

		if (r < 0) {
			block_destroy(below);
			if (i)
				snprintf(why, DISK_WHY_MAX, "backing[%zu]: %.280s", i - 1, reason);
			else
				snprintf(why, DISK_WHY_MAX, "%s", reason);
			return r;
		}
		below = block;
	}
	*ret_block = below;
	return 0;
}
