/* SPDX-License-Identifier: Apache-2.0 */
/* blkdriver.h - a disk of known content and its driver's requests, over PCI or as rig.mmio says. */
#ifndef TESTS_DEVICE_BLKDRIVER_H
#define TESTS_DEVICE_BLKDRIVER_H

#include "devices/virtio/blk.h"
#include "tests/device/vdriver.h"

#define DISK_SECTORS 2048u
#define HEADER(n) (VD_BUFFERS + (n) * 0x2000ull)
#define STATUS(n) (HEADER(n) + 0x10)
#define DATA(n) (HEADER(n) + 0x1000)

enum { T_IN = 0, T_OUT = 1, T_FLUSH = 4, T_ID = 8, T_DISCARD = 11, T_ZEROES = 13 };

struct disk {
	struct vdriver d;
	struct device *dev;
	int fd; /* our own copy */
};

#define BD_MMIO_BASE 0xd0000000ull
#define BD_MMIO_LINE 5u

/* Makes the device, on PCI or in config->place as r->mmio says, and finds it. */
void bd_add(struct rig *r, struct disk *k, struct virtio_blk_config *config);
/* Sector n is full of n % 255 + 1. */
void bd_open(struct rig *r, struct disk *k, bool readonly);
void bd_put_header(struct vdriver *d, unsigned slot, uint32_t type, uint64_t sector);
/* Three descriptors from 3*slot: header, data (to or from the device), status. */
void bd_put(struct vdriver *d, unsigned slot, uint32_t type, uint64_t sector, uint32_t len, bool data_in);
uint8_t bd_status(struct vdriver *d, unsigned slot);
/* One request from start to end; its status byte, 0xff if it never came back. */
uint8_t bd_request(struct vdriver *d, uint32_t type, uint64_t sector, uint32_t len, bool in);

/* Writes, but does not push, what is right at descriptor 0: see the code. */
void bd_good_chain(struct vdriver *d);

#endif
