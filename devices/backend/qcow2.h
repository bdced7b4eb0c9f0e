/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2.h - a disk image in QEMU's format (docs/interop/qcow2.txt), versions 2 and 3. */
#ifndef DEVICES_BACKEND_QCOW2_H
#define DEVICES_BACKEND_QCOW2_H

#include <stdbool.h>
#include <stddef.h>

struct block;

#define QCOW2_WHY_MAX 256u

/*
 * Opens the image in `file`; `backing` (NULL: none) is what it lies on top of. Both belong to the
 * block after success only. The image's own word about a backing file is never followed: it must
 * have one exactly if `backing` is given.
 *
 * An image to be written is checked as a whole first: every reference to every cluster against the
 * reference counts, so that nothing which is in use can ever be given out or overlaps. A read-only
 * one is checked as it is read. An image that is refused is not touched.
 *
 * -EINVAL: not such an image, or broken; -ENOTSUP: it needs what is not here; -EROFS: it may only be
 * read (dirty, corrupt); -EMLINK: backing file there and not given, or the other way round;
 * -ENOMEM; or an error of reading. why: a sentence, QCOW2_WHY_MAX bytes. Not on the loop thread: it
 * reads the metadata.
 */
int block_qcow2_create(struct block *file, struct block *backing, bool readonly, char *why,
		       struct block **ret_block);

#endif
