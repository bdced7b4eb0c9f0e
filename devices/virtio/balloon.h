/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balloon.h - virtio-balloon (virtio 1.2, 5.5): the guest gives memory back that it does not need,
 * when it is asked to (inflate) and by itself (free page reporting), and tells how it uses the rest.
 *
 * What it gives back reads as zeroes afterwards, and is the host's until the guest touches it again;
 * it may do so at any time: this is no limit for a guest that does not want to keep to it.
 */
#ifndef DEVICES_VIRTIO_BALLOON_H
#define DEVICES_VIRTIO_BALLOON_H

#include <stdint.h>

#include "devices/virtio/transport.h"
#include "machine/device.h"

struct virtio_balloon_config {
	struct virtio_place place;
};

extern const struct device_class virtio_balloon_class;

enum { /* statistics (5.5.6.3) */
	BALLOON_SWAP_IN, BALLOON_SWAP_OUT, BALLOON_MAJOR_FAULTS, BALLOON_MINOR_FAULTS,
	BALLOON_FREE, BALLOON_TOTAL, BALLOON_AVAILABLE, BALLOON_CACHES,
	BALLOON_HUGE_ALLOCATIONS, BALLOON_HUGE_FAILURES,
	BALLOON_STATS,
};

struct virtio_balloon_info {
	bool driver;               /* the guest has one */
	uint64_t target, actual;   /* bytes in the balloon: as wanted, as the guest says */
	uint64_t returned;         /* bytes given back so far, reported ones too */
	uint32_t valid;            /* bit n: stat[n] was told */
	uint64_t stat[BALLOON_STATS]; /* faults are counts, the rest bytes */
	uint64_t told_ns;          /* when, machine time */
};

/* How much the guest should give back, a multiple of 4096. Any thread. */
void virtio_balloon_set(struct device *dev, uint64_t bytes);
/* The latest; asks the guest to tell anew, which takes it a moment. Any thread. */
void virtio_balloon_info(struct device *dev, struct virtio_balloon_info *ret_info);

#endif
