/* SPDX-License-Identifier: Apache-2.0 */
/* vdriver.h - a virtio driver for tests: well-behaved by default, every rule breakable. */
#ifndef TESTS_DEVICE_VDRIVER_H
#define TESTS_DEVICE_VDRIVER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/device/rig.h"

#define VD_DESC(q) (0x10000ull + (q) * 0x10000ull)
#define VD_AVAIL(q) (VD_DESC(q) + 0x8000)
#define VD_USED(q) (VD_DESC(q) + 0xa000)
#define VD_BUFFERS 0x100000ull

enum { VD_NEXT = 1, VD_WRITE = 2, VD_INDIRECT = 4 };
enum { /* offsets of the common configuration */
	VC_DFSEL = 0x00, VC_DF = 0x04, VC_GFSEL = 0x08, VC_GF = 0x0c, VC_CVEC = 0x10,
	VC_NUMQ = 0x12, VC_STATUS = 0x14, VC_GEN = 0x15, VC_QSEL = 0x16, VC_QSIZE = 0x18,
	VC_QVEC = 0x1a, VC_QENABLE = 0x1c, VC_QNOTIFY = 0x1e, VC_QDESC = 0x20, VC_QDRIVER = 0x28,
	VC_QDEVICE = 0x30, VC_QRESET = 0x3a,
};
#define VF_INDIRECT (1ull << 28)
#define VF_EVENT_IDX (1ull << 29)
#define VF_VERSION_1 (1ull << 32)
#define VF_PACKED (1ull << 34)
#define VF_IN_ORDER (1ull << 35)
#define VF_RING_RESET (1ull << 40)
/* What the core offers for every device. */
#define VF_CORE (VF_INDIRECT | VF_EVENT_IDX | VF_VERSION_1 | VF_PACKED | VF_RING_RESET)

#define VD_QUEUES 8u
#define VD_USED_LOG 512u

/*
 * Packed rings: descriptors are still written with vd_desc(), into a table of the driver's own that
 * the device does not see; vd_push() copies the chain from `head` on into the ring, with the head
 * as buffer id. What comes back is logged, so that vd_used() works as for the split format.
 */
#define VD_SHADOW(q) (VD_DESC(q) + 0x4000)
#define VD_SLOT(q, n) (VD_DESC(q) + 16ull * (n))

struct vd_ring { /* what the driver knows of one queue */
	uint16_t avail;             /* chains pushed */
	uint16_t slot;              /* packed: where the next goes */
	bool wrap;
	uint16_t used, used_slot;   /* packed: chains that came back; where the next one will */
	bool used_wrap;
	uint16_t slots[1024];       /* packed: of the chain with this id */
	struct {
		uint32_t id, len;
	} log[VD_USED_LOG];
};

struct vdriver {
	struct rig *rig;
	uint64_t mmio;        /* base of its registers, or 0: PCI */
	unsigned slot;
	uint64_t bar, common, isr, config, notify;
	uint32_t notify_step;
	uint32_t config_length;
	unsigned window;      /* config offset of the PCI access capability */
	unsigned msix;        /* of the MSI-X capability */
	uint16_t queue_size;
	unsigned queue;       /* that the verbs below mean */
	uint16_t avail;       /* our index of it */
	bool packed;          /* was negotiated */
	struct vd_ring ring[VD_QUEUES]; /* avail: of those that are not `queue` */
};

uint64_t vd_cfg_read(struct vdriver *d, unsigned offset, unsigned size);
void vd_cfg_write(struct vdriver *d, unsigned offset, unsigned size, uint32_t value);
/* A device with MMIO registers instead: the same verbs, the same VC_* names. */
bool vd_find_mmio(struct rig *rig, struct vdriver *d, uint64_t base, uint32_t device_id);
/* Finds the device on PCI by its id (0x1042: block), its capabilities, and turns it on. */
bool vd_find(struct rig *rig, struct vdriver *d, uint16_t device_id);
uint64_t vd_get(struct vdriver *d, unsigned offset, unsigned size);
void vd_set(struct vdriver *d, unsigned offset, unsigned size, uint64_t value);
/* An address of a queue (VC_QDESC, VC_QDRIVER, VC_QDEVICE), in two writes. */
void vd_set_address(struct vdriver *d, unsigned offset, uint64_t gpa);
uint64_t vd_features(struct vdriver *d);
/* From after a reset up to FEATURES_OK. */
void vd_accept(struct vdriver *d, uint64_t features);
/* Reset, up to FEATURES_OK; the status afterwards. */
uint8_t vd_negotiate(struct vdriver *d, uint64_t features);
void vd_queue(struct vdriver *d, unsigned queue, uint16_t size);
/* All of it with one queue, or `queues` of them, and DRIVER_OK. */
void vd_start(struct vdriver *d, uint64_t features, uint16_t size);
void vd_start_queues(struct vdriver *d, uint64_t features, uint16_t size, unsigned queues);
/* MSI-X on: vector n of the table sends data 0x40 + n; config changes 0, queue 0 vector 1. */
void vd_msix(struct vdriver *d, unsigned vectors);

void vd_desc_at(struct vdriver *d, uint64_t table, unsigned index, uint64_t gpa, uint32_t len,
		uint16_t flags, uint16_t next);
void vd_desc(struct vdriver *d, unsigned index, uint64_t gpa, uint32_t len, uint16_t flags,
	     uint16_t next);
void vd_select(struct vdriver *d, unsigned queue); /* 0 after the start */
void vd_push(struct vdriver *d, uint16_t head); /* not kicked */
/* Packed: one descriptor straight into the ring, at the next slot. */
void vd_slot(struct vdriver *d, uint64_t gpa, uint32_t len, uint16_t id, uint16_t flags);
/* After the queue alone was set up again: the driver's view of it as at the start. */
void vd_restart_ring(struct vdriver *d, unsigned queue);
void vd_kick(struct vdriver *d, unsigned queue);
uint16_t vd_used_idx(struct vdriver *d);
/* Waits until n chains came back since the start; false: they don't. */
bool vd_wait(struct vdriver *d, uint16_t n);
void vd_used(struct vdriver *d, uint16_t index, uint32_t *ret_id, uint32_t *ret_len);
bool vd_wait_status(struct vdriver *d, uint8_t mask, uint8_t value);

void vd_store(struct vdriver *d, uint64_t gpa, const void *bytes, size_t len);
void vd_load(struct vdriver *d, uint64_t gpa, void *bytes, size_t len);
void vd_store16(struct vdriver *d, uint64_t gpa, uint16_t value);
uint16_t vd_load16(struct vdriver *d, uint64_t gpa);

/*
 * Another processor that writes into descriptors, rings and headers all the time: 16 bits at
 * gpa + (a random number & mask) of one of `where`. What a device reads, it reads once; the
 * sanitizers see to the rest.
 */
struct vd_flipper {
	struct {
		uint64_t gpa;
		uint32_t mask;
	} where[4];
	struct rig *rig;
	pthread_t thread;
	atomic_bool stop;
};

void vd_flip_start(struct vd_flipper *f, struct rig *rig); /* f->where is set */
void vd_flip_stop(struct vd_flipper *f);

#endif
