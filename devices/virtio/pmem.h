/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pmem.h - virtio-pmem (virtio 1.2, 5.19): a file that the guest has as memory, and a queue by which it
 * asks for what it wrote to be on the file's disk.
 *
 * The guest's processors read and write the file's pages themselves; nobody is told. A flush is an
 * fdatasync() on a thread of the device's, one for all requests that have come until it begins. If the
 * file gets shorter meanwhile, or its disk fails, the machine pauses, flushes fail from then on, and what is
 * lost reads as zeroes; a reset of the machine looks whether the file is whole again.
 *
 * There is no read-only kind: the device has no way to say so to its driver.
 *
 * System calls: worker: fdatasync; start-up: lseek fallocate mmap; reset: lseek mmap.
 */
#ifndef DEVICES_VIRTIO_PMEM_H
#define DEVICES_VIRTIO_PMEM_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/transport.h"
#include "machine/device.h"

#define VIRTIO_PMEM_ALIGN (2ull << 20) /* of its size: Linux takes whole sections only */

struct virtio_pmem_config {
	struct virtio_place place;
	int fd;       /* regular file or block device, open for reading and writing */
	bool on_loop; /* flush on the loop thread: for tests that want an order */
	char name[24]; /* for messages: "pmem[0]" */
};

/* create(): -EINVAL: the size is no multiple of VIRTIO_PMEM_ALIGN; -ENOSPC and others of fallocate(): its
 * file system has no room for the whole of a sparse file. */
extern const struct device_class virtio_pmem_class;

#endif
