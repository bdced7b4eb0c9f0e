/* SPDX-License-Identifier: Apache-2.0 */
/* p9.h - virtio-9p (9P over virtio, device type 9): a shared directory, served by
 * devices/backend/p9.h. */
#ifndef DEVICES_VIRTIO_P9_H
#define DEVICES_VIRTIO_P9_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/transport.h"
#include "machine/device.h"

#define VIRTIO_P9_TAG_MAX 31u /* what Linux takes */

struct virtio_p9_config {
	int dir_fd;        /* the directory; the device's after success */
	int proc_fd;       /* /proc/self/fd; borrowed, outlives the device */
	bool readonly;
	struct virtio_place place;
	bool on_loop;      /* tests: no threads, messages are served on the loop thread */
	uint32_t fds_max;  /* descriptors that the guest may take up */
	char tag[VIRTIO_P9_TAG_MAX + 1]; /* what the guest mounts; not empty */
};

extern const struct device_class virtio_p9_class;

#endif
