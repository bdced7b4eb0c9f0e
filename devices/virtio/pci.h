/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pci.h - virtio over PCI (virtio 1.2, 4.1; modern only): offsets turned into the core's calls.
 *
 * One 32 KiB memory BAR: common configuration, ISR, device configuration, notifications (one 4-byte
 * cell per queue, a doorbell each), and the MSI-X table with a vector per queue and one for
 * configuration changes. INTx where the guest does not turn MSI-X on.
 */
#ifndef DEVICES_VIRTIO_PCI_H
#define DEVICES_VIRTIO_PCI_H

#include <stdint.h>

struct virtio;
struct virtio_pci;

/* Puts v (initialised, and living longer) into the next PCI slot. class_code: 24 bits. -ENOMEM,
 * -ENOSPC. While the machine is being made. */
int virtio_pci_create(struct virtio *v, uint32_t class_code, struct virtio_pci **ret_pci);
/* Resets v (waits for what is in flight) and detaches from it; before virtio_fini(). NULL is fine;
 * returns NULL. No vCPU runs. */
struct virtio_pci *virtio_pci_destroy(struct virtio_pci *p);

/* For tests: where the parts are in BAR 0. */
enum {
	VIRTIO_PCI_COMMON = 0x0000,
	VIRTIO_PCI_ISR = 0x1000,
	VIRTIO_PCI_CONFIG = 0x2000,
	VIRTIO_PCI_NOTIFY = 0x3000,
	VIRTIO_PCI_MSIX = 0x4000,
	VIRTIO_PCI_BAR_SIZE = 0x8000,
	VIRTIO_PCI_PART = 0x1000, /* size of each */
	VIRTIO_PCI_NOTIFY_STEP = 4,
};

#endif
