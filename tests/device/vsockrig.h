/* SPDX-License-Identifier: Apache-2.0 */
/* vsockrig.h - a virtio-vsock on a rig, its driver, and programs of the host that connect to it. */
#ifndef TESTS_DEVICE_VSOCKRIG_H
#define TESTS_DEVICE_VSOCKRIG_H

#include <sys/socket.h>
#include <sys/un.h>

#include "tests/device/vdriver.h"
#include "tests/device/vsockclient.h"

#define VS_SLOTS 16u
#define VS_SLOT_BYTES 4096u
#define VS_IN(n) (VD_BUFFERS + (n) * (uint64_t)VS_SLOT_BYTES)
#define VS_OUT (VD_BUFFERS + 0x80000ull)

struct vs {
	struct vdriver d;
	struct device *dev;
	int listen_fd;
	struct sockaddr_un address;
	socklen_t address_len;
	unsigned wanted;    /* calls of it */
	uint16_t read;      /* packets that the guest has read */
	uint32_t forwarded; /* what it says of itself */
	uint32_t alloc;
	struct vsock_packet p; /* the last one read, and its data */
	uint8_t data[VS_SLOT_BYTES];
};

/* That slot of VS_IN() to queue 0, with `len` bytes. */
void vs_give(struct vs *s, unsigned slot, uint32_t len);
/* Negotiates and starts, with all buffers in queue 0 or none. */
void vs_start(struct vs *s, bool buffers);
void vs_open(struct rig *r, struct vs *s);
void vs_open_started(struct rig *r, struct vs *s);

/* --- the guest -------------------------------------------------------------------------------- */

/* A packet with `bytes` of data behind it, whatever its header says; waits until it was taken. */
void vs_put_raw(struct vs *s, const struct vsock_packet *p, const void *data, uint32_t bytes);
/* What a good driver sends of its stream between those ports. */
struct vsock_packet vs_packet(struct vs *s, uint16_t op, uint32_t guest_port, uint32_t host_port);
void vs_put(struct vs *s, uint16_t op, uint32_t guest_port, uint32_t host_port);
void vs_put_data(struct vs *s, uint32_t guest_port, uint32_t host_port, const void *data,
		 uint32_t len);
void vs_put_shutdown(struct vs *s, uint32_t guest_port, uint32_t host_port, uint32_t flags);
/* The op of the next packet for the guest, 0: there is none. Its buffer is given again. */
unsigned vs_next(struct vs *s);
/* The same, but for news of credit. */
unsigned vs_next_but_credit(struct vs *s);

/* --- the host --------------------------------------------------------------------------------- */

/* A program of the host connects. */
int vs_dial(struct vs *s);
int vs_dial_and_say(struct vs *s, const char *text);
/* That is all there is to read. */
void vs_says(struct rig *r, int fd, const char *text);
/* It reads the end of its stream. */
void vs_at_end(struct rig *r, int fd);
/* Nothing to read, and no end. */
void vs_silent(struct rig *r, int fd);
/* A stream that the host began, to guest port `port`; *ret_host: its port on the host. */
int vs_open_from_host(struct vs *s, uint32_t port, uint32_t *ret_host);
/* One that the guest began; the host's end. Its socket towards the host holds little. */
int vs_open_from_guest(struct vs *s, uint32_t guest_port, uint32_t host_port);
/* Sends until the device has `want` bytes in its buffer; returns what was sent in all. */
uint32_t vs_fill_up(struct vs *s, uint32_t guest_port, uint32_t host_port, uint32_t want);
/* All that the host can read now; checks it. */
size_t vs_drain(struct rig *r, int fd, size_t at);

#endif
