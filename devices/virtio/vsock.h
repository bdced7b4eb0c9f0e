/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock.h - virtio-vsock (virtio 1.2, 5.10): stream sockets between the guest and programs on the
 * host, which see unix sockets.
 *
 * From the host: a program connects to the VM's listening socket, says "CONNECT PORT\n" and, once
 * the guest has accepted, reads "OK HOSTPORT\n"; from then on the bytes are the guest's. If there is
 * no listener it reads the end of the file. From the guest: a connection to CID 2, port P, is
 * carried out by the device's owner, which opens what is behind that port and hands it in.
 *
 * Bounds, whatever guest and peers do: VIRTIO_VSOCK_CONNECTIONS_MAX connections, each with at most
 * VIRTIO_VSOCK_BUFFER bytes that the guest sent and the host has not read. The other way nothing is
 * kept at all: what the guest gives no credit for stays in the socket.
 */
#ifndef DEVICES_VIRTIO_VSOCK_H
#define DEVICES_VIRTIO_VSOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "devices/virtio/transport.h"
#include "machine/device.h"

#define VIRTIO_VSOCK_CONNECTIONS_MAX 256u
#define VIRTIO_VSOCK_BUFFER 131072u
#define VIRTIO_VSOCK_CID_MIN 3u          /* 0 to 2 have a meaning of their own (5.10.4) */
#define VIRTIO_VSOCK_CID_MAX 0xfffffffeu

struct virtio_vsock_config {
	uint64_t cid;       /* the guest's: CID_MIN..CID_MAX */
	int listen_fd;      /* listening unix stream socket, non-blocking; the device's after success.
			     * -1: nobody connects from the host */
	/* The guest wants to connect: virtio_vsock_wanted() has something. The device is locked, so it
	 * only notes it. NULL: every such connection is refused. */
	void (*wanted)(void *opaque);
	void *opaque;
	struct virtio_place place;
};

extern const struct device_class virtio_vsock_class;

/* A connection that the guest wants: true, and its port on the host. One at a time: there is no other
 * before this one was answered with its id, or given up by the guest. Any thread. */
bool virtio_vsock_wanted(struct device *dev, uint32_t *ret_id, uint32_t *ret_port);
/* The answer: a connected stream socket, the device's from now on in any case, or a negative errno. Any
 * thread. */
void virtio_vsock_answer(struct device *dev, uint32_t id, int fd);

#endif
