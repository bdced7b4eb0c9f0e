/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_setup.h - what one who works on queues in a device's place is told when he starts: a vhost-user
 * back-end (vhost_peer.h) or the host's kernel (vhost_kernel.h). */
#ifndef DEVICES_BACKEND_VHOST_SETUP_H
#define DEVICES_BACKEND_VHOST_SETUP_H

#include <stdint.h>

#define VHOST_QUEUES_MAX 16u
#define VHOST_REGIONS_MAX 11u

struct vhost_region { /* of memory that he works in */
	uint64_t gpa, size, offset; /* offset: in fd */
	int fd;                     /* still the caller's */
	uint8_t *host;              /* where this process has it */
};

struct vhost_vring {
	uint16_t size;
	uint64_t desc, avail, used; /* guest-physical, inside a region */
	int kick_fd, call_fd;       /* still the caller's, open until he stopped */
};

struct vhost_setup {
	uint64_t features;
	unsigned regions, vrings;
	struct vhost_region region[VHOST_REGIONS_MAX];
	struct vhost_vring vring[VHOST_QUEUES_MAX];
};

#endif
