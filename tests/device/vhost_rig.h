/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_rig.h - a vhost-user disk on a rig, with a back-end of ours behind it. */
#ifndef TESTS_DEVICE_VHOST_RIG_H
#define TESTS_DEVICE_VHOST_RIG_H

#include "devices/virtio/vhost_user.h"
#include "tests/device/vbackend.h"
#include "tests/device/vdriver.h"

#define F(n) (1ull << (n))
#define BLK_FLUSH 9
#define BLK_MQ 12
#define BASE_FEATURES (F(32) | F(VHOST_F_PROTOCOL_FEATURES) | F(28))
#define PROTOCOLS (F(VHOST_PROTOCOL_MQ) | F(VHOST_PROTOCOL_REPLY_ACK) | \
		   F(VHOST_PROTOCOL_BACKEND_REQ) | F(VHOST_PROTOCOL_CONFIG) | F(1) | F(12))
#define DATA 0x180000ull /* where chains of the tests have their buffers */

struct disk {
	struct rig *rig;
	struct vdriver d;
	struct vbackend b, b2; /* b2: the next one */
	struct device *dev;
	char why[VHOST_WHY_MAX];
};

extern const struct vhost_user_config vhost_disk; /* two queues of 64 */

/* k->b is a good disk's back-end; the front-end's end of its socket is returned. */
int disk_backend(struct disk *k);
int disk_make(struct rig *r, struct disk *k, struct vhost_user_config config);
/* A device whose back-end answers by steps of the test's. */
void disk_open(struct rig *r, struct disk *k, const struct vhost_user_config *config);
/* Turns loop and back-end until neither has anything. */
void disk_settle(struct disk *k);
void disk_start(struct disk *k, uint64_t features);
/* vhost_disk, and its driver at work. */
void disk_open_started(struct rig *r, struct disk *k, uint64_t features);
/* A read of 512 bytes in descriptors 3n.. of queue 0: header, data, status; not kicked. */
void disk_push(struct disk *k, unsigned n);
void disk_reads(struct disk *k, unsigned n); /* n of them, kicked and settled */
struct vhost_user_info disk_info(struct disk *k);
bool disk_why(struct disk *k, const char *text);
/* Another back-end, b2, as the daemon would bring it. */
void disk_next(struct disk *k);
/* That one is b from now on. */
void disk_take_over(struct disk *k);
void disk_end(struct disk *k); /* its back-ends have hung up: destroying does not wait for them */
/* Two reads, done in the other order, and seen by the guest and the engine as they must be. The test
 * links with --wrap=mem_written. */
void disk_passes(struct disk *k);
/* How many ranges the engine was told since, while a driver is set (NULL: stop). */
void told_start(struct vdriver *d);
unsigned told_ranges(void);

#endif
