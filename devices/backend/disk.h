/* SPDX-License-Identifier: Apache-2.0 */
/* disk.h - from descriptors to a disk: formats, and what lies beneath. */
#ifndef DEVICES_BACKEND_DISK_H
#define DEVICES_BACKEND_DISK_H

#include <stdbool.h>
#include <stddef.h>

struct block;

#define DISK_BACKING_MAX 8u
#define DISK_WHY_MAX 320u

enum disk_format { DISK_RAW, DISK_QCOW2 };

struct disk_file {
	int fd;
	enum disk_format format; /* as somebody said: never guessed */
};

struct disk_image {
	struct disk_file file[1 + DISK_BACKING_MAX]; /* the image, and what it lies on, in order */
	size_t files;                                /* 1..; only qcow2 lies on something */
	bool readonly;                               /* what lies beneath always is */
};

/* Opens it, on copies of the descriptors, which stay the caller's. An error leaves the files
 * untouched; why: a sentence, DISK_WHY_MAX bytes. Errors as of block_raw_create() and
 * block_qcow2_create(). Reads metadata: not on the loop thread. */
int disk_open(const struct disk_image *image, char *why, struct block **ret_block);

#endif
