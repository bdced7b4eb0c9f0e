/* SPDX-License-Identifier: Apache-2.0 */
/* moves.h - what fuzzers of virtio devices do to the machine around them, each choice from the input. */
#ifndef TESTS_FUZZ_MOVES_H
#define TESTS_FUZZ_MOVES_H

#include "tests/device/vdriver.h"
#include "tests/fuzz/input.h"

/* Reads or writes `size` bytes at that offset of the BAR, or of the MMIO registers, that wrap. */
void move_poke(struct vdriver *d, struct input *in, uint64_t offset, unsigned size);
/* Reads or writes the PCI configuration. */
void move_config(struct vdriver *d, struct input *in);
/* Pauses the devices, or lets them go on. */
void move_hold(struct rig *rig, bool *held);

#endif
