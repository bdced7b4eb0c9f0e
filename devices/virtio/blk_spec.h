/* SPDX-License-Identifier: Apache-2.0 */
/* blk_spec.h - numbers of block devices, whoever does their work (virtio 1.2, 5.2). */
#ifndef DEVICES_VIRTIO_BLK_SPEC_H
#define DEVICES_VIRTIO_BLK_SPEC_H

enum { /* features (5.2.3) */
	BLK_F_SIZE_MAX = 1, BLK_F_SEG_MAX = 2, BLK_F_GEOMETRY = 4, BLK_F_RO = 5, BLK_F_BLK_SIZE = 6,
	BLK_F_FLUSH = 9, BLK_F_TOPOLOGY = 10, BLK_F_MQ = 12, BLK_F_DISCARD = 13,
	BLK_F_WRITE_ZEROES = 14,
};

#endif
