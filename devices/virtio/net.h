/* SPDX-License-Identifier: Apache-2.0 */
/* net.h - virtio-net (virtio 1.2, 5.1) with several pairs of queues and a control queue. */
#ifndef DEVICES_VIRTIO_NET_H
#define DEVICES_VIRTIO_NET_H

#include "devices/virtio/net_config.h"
#include "machine/device.h"

extern const struct device_class virtio_net_class;

/* Puts another peer behind the card, of the kind it was made with: the cable is plugged in again.
 * fds are the device's after success. Errors as of net_backend_create(), -EINVAL also for one that
 * can do less. Any thread but the loop's. */
int virtio_net_attach(struct device *device, const int *fds, unsigned count);
/* Closes its descriptors, where the device has copies. */
void virtio_net_config_close(const struct virtio_net_config *config);
void virtio_net_info(struct device *device, struct virtio_net_info *ret_info); /* any thread */

#endif
