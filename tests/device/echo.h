/* SPDX-License-Identifier: Apache-2.0 */
/*
 * echo.h - a virtio device that gives back what it got, at once or when it is told, over both
 * transports and both ring formats (rig.mmio, rig.packed); and a driver's exchanges with it.
 */
#ifndef TESTS_DEVICE_ECHO_H
#define TESTS_DEVICE_ECHO_H

#include "devices/virtio/core.h"
#include "tests/device/vdriver.h"

#define ECHO_MMIO 0xd0000000ull          /* its registers, over that transport */
#define ECHO_HELD_MAX 64u
#define ECHO_TABLE 0x90000ull            /* for indirect descriptors */
#define ECHO_OUT(n) (VD_BUFFERS + (n) * 0x100ull) /* buffers: what the device reads */
#define ECHO_IN(n) (VD_BUFFERS + 0x80000ull + (n) * 0x100ull)

struct echo {
	struct device dev;
	struct virtio virtio;
	struct virtio_pci *pci;
	struct virtio_mmio *mmio;
	bool hold;              /* what comes is held until echo_release() */
	unsigned helds, queue_resets;
	struct {
		unsigned queue;
		struct virtq_chain chain;
	} held[ECHO_HELD_MAX];
};

struct echo_bench {
	struct rig *rig;
	struct vdriver d;
	struct echo *e;
};

/* Adds the device and finds it. */
void echo_open(struct rig *r, struct echo_bench *b);
/* The features, and those that the case's ring format needs. */
uint64_t echo_with(struct echo_bench *b, uint64_t features);
/* Both queues, with rings of `size`, up to DRIVER_OK. */
void echo_start(struct echo_bench *b, uint64_t features, uint16_t size);
/* Gives back the i-th of those held. */
void echo_release(struct echo *e, unsigned i);

/* `len` bytes that follow from the seed into ECHO_OUT(slot); ECHO_IN(slot) is cleared. */
void echo_fill(struct echo_bench *b, unsigned slot, uint8_t seed, uint32_t len);
/* Just those are in ECHO_IN(slot). */
bool echo_came_back(struct echo_bench *b, unsigned slot, uint8_t seed, uint32_t len);
/* A chain of `pieces` parts to read and one to write, from descriptor `first` on. */
void echo_chain(struct echo_bench *b, uint16_t first, unsigned slot, uint32_t len,
		unsigned pieces);
/* The plainest one, at descriptor 0. */
void echo_good(struct echo_bench *b);
/* Waits for every chain that was pushed; false: they don't come. */
bool echo_all_back(struct echo_bench *b);
/* Interrupt pending? Taken back, if so. */
bool echo_take_interrupt(struct echo_bench *b);
/* One exchange; works whatever came before. */
void echo_must_work(struct echo_bench *b);

#endif
