/* SPDX-License-Identifier: Apache-2.0 */
/* netinput.h - what comes to a network card from its guest, and frames from anybody: for the fuzzers of
 * its two ways of moving packets. */
#ifndef TESTS_FUZZ_NETINPUT_H
#define TESTS_FUZZ_NETINPUT_H

#include "tests/fuzz/vfuzz.h"

#define NI_HEADER 12u
#define NI_PACKET_MAX (NI_HEADER + 4096u)

/* virtio-net's header of a frame of len bytes, with any offload. */
void ni_header(struct input *in, uint8_t *h, uint32_t len);
/* Ethernet, IPv4 or IPv6, TCP or UDP; lengths that are mostly right. Its length. */
uint32_t ni_frame(struct input *in, uint8_t *at);
/* The driver's: a packet to send, buffers to receive into, a command. */
void ni_send(struct vfuzz *f, unsigned queue);
void ni_buffers(struct vfuzz *f, unsigned queue);
void ni_command(struct vfuzz *f, unsigned queue);

#endif
