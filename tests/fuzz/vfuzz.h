/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vfuzz.h - what every fuzzer of a virtio device does: transport, features, rings and chains that are
 * mostly right, registers, resets, pauses, and memory that changes right after the device read it.
 */
#ifndef TESTS_FUZZ_VFUZZ_H
#define TESTS_FUZZ_VFUZZ_H

#include "devices/virtio/transport.h"
#include "tests/device/vdriver.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/spoil.h"

#define VF_SIZE 16u /* of each ring */

struct vfuzz {
	struct rig rig;
	struct vdriver d;
	struct input in;
	uint64_t features;  /* of the type, that a driver negotiates now and then */
	uint16_t device_id; /* virtio's */
	unsigned queues;    /* at most VD_QUEUES */
	bool held;
	bool hostile;       /* memory changes behind each read */
	struct spoiler spoiler;
	uint64_t next;      /* guest memory for the next chain's bytes */
};

/* Begins: kind of transport and of guest from the input. *place: where the device is to be. */
void vf_open(struct vfuzz *f, const uint8_t *data, size_t size, struct virtio_place *place);
/* Makes the device, finds it, starts the driver. */
struct device *vf_add(struct vfuzz *f, const struct device_class *class, const void *config);
void vf_start(struct vfuzz *f);
/* One chain into a queue: `out` to read, in_len bytes to write to, in one to four pieces, maybe indirect,
 * rarely broken. */
void vf_push(struct vfuzz *f, unsigned queue, const void *out, uint32_t out_len, uint32_t in_len);
/* Something that any driver, or the machine, may do. */
void vf_step(struct vfuzz *f);
/* Until the input is used up, one of the target's own deeds after the other; where it has none (NULL),
 * vf_step(). */
typedef void vf_deed(void *opaque);
#define VF_DEEDS 8u
void vf_run(struct vfuzz *f, vf_deed *const deeds[VF_DEEDS], void *opaque);
/* After whatever happened: the machine is reset, the driver starts, without violations from here on. */
void vf_again(struct vfuzz *f);
/* vf_again() was called: the next `n` chains of that queue must come back; aborts. */
void vf_must_come_back(struct vfuzz *f, unsigned queue, uint16_t n);
void vf_close(struct vfuzz *f);

#endif
