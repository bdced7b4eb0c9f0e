/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pci.h - PCI: one root bus with config space by ports 0xcf8/0xcfc and by ECAM, type-0 devices,
 * BARs, capabilities, MSI-X, INTx.
 *
 * The core owns config space: a device describes itself once and gets calls for its BARs. It keeps
 * MSI-X tables (in a BAR of the device's choice), BAR moves, the command register and the status
 * bits. BARs are placed at creation as firmware would, with memory and I/O decoding on and bus
 * mastering off.
 *
 * Locks: one lock per pci for config space and placement, one per device for MSI-X and INTx. No
 * call from the core into a device is made with a lock held. pci_msix_* and pci_intx() may be
 * called with the device's own lock held; everything else not.
 *
 * Sections: "PCI" is PCI Local Bus 3.0; MSI-X is 6.8.2 there; ECAM is PCI Express Base 7.2.2.
 */
#ifndef MACHINE_PCI_H
#define MACHINE_PCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "machine/bus.h"

struct machine;
struct pci;
struct pci_dev;

#define PCI_BARS 6
#define PCI_SLOTS 32

enum pci_bar_kind { PCI_BAR_NONE, PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

struct pci_bar_info {
	enum pci_bar_kind kind; /* MEM64 takes this and the next slot: leave that NONE */
	bool prefetchable;
	uint64_t size;          /* power of two; memory >= 4096, I/O 4..256 */
	const struct bus_ops *ops; /* offsets within the BAR; not for the MSI-X table */
};

struct pci_dev_info { /* copied */
	const char *name; /* a literal */
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code; /* 24 bits: class, subclass, interface */
	uint8_t revision;
	bool intx;           /* has an interrupt pin (INTA) */
	struct pci_bar_info bar[PCI_BARS];
	unsigned msix_vectors; /* 0: no MSI-X; at most 2048 */
	unsigned msix_bar;     /* table at msix_offset, PBA right behind it, 4096-aligned, inside */
	uint32_t msix_offset;
	/* Config space hooks, may be NULL: before a read of, or after a write to, bytes that
	 * overlap a capability made by pci_add_capability(). Called without lock, on a vCPU thread;
	 * they may call pci_config_get/put(). */
	void (*config_read)(void *opaque, unsigned offset, unsigned size);
	void (*config_written)(void *opaque, unsigned offset, unsigned size);
};

/* The host bridge, 0xcf8..0xcff and the ECAM window. For machine_create(). */
int pci_create(struct machine *machine, struct pci **ret_pci);
struct pci *pci_destroy(struct pci *pci); /* NULL is fine; returns NULL */
void pci_reset(struct pci *pci);          /* config space as after creation; nothing runs */

/* Puts a device into a free slot, function 0. opaque goes to bar ops and hooks.
 * -EINVAL: description; -ENOSPC: no slot or no address space; -ENOMEM. */
int pci_dev_create(struct pci *pci, const struct pci_dev_info *info, void *opaque,
		   struct pci_dev **ret_dev);
struct pci_dev *pci_dev_destroy(struct pci_dev *dev); /* NULL is fine; returns NULL */
unsigned pci_dev_slot(const struct pci_dev *dev);
/* Which slots have a device, a bit each. Any thread. */
uint32_t pci_occupied(struct pci *pci);
/* Slots (a bit each) whose devices are going to be destroyed look empty from now on, and what they
 * decoded is free for others. Any thread. */
void pci_slots_hide(struct pci *pci, uint32_t slots);
/* Devices made from now on come as out of the box: no BAR set, nothing decoded, as the guest that
 * runs expects of one that is plugged in. The next reset places them as firmware would. */
void pci_hot_plug(struct pci *pci, bool hot);

/* Appends a capability: id, and `len` bytes that follow the two header bytes (id, next). wmask, of
 * the same length or NULL (all read-only), says which bits the guest may write. Returns its offset
 * in config space, or -ENOSPC. While the machine is being made. */
int pci_add_capability(struct pci_dev *dev, uint8_t id, const void *body, const void *wmask,
		       size_t len);
/* Raw config bytes (0..255), size 1, 2, 4; for capabilities that are more than memory. Any thread,
 * not with the device's lock held if the config hooks take it. */
uint32_t pci_config_get(struct pci_dev *dev, unsigned offset, unsigned size);
void pci_config_put(struct pci_dev *dev, unsigned offset, unsigned size, uint32_t value);

/* Command register: may the device read and write guest memory now? Any thread. */
bool pci_bus_master(const struct pci_dev *dev);
/* Where a BAR is decoded now, or ~0 if it is not. Any thread. */
uint64_t pci_bar_address(struct pci_dev *dev, unsigned bar);

/* A doorbell: writes of any size at exactly `offset` of a memory BAR add 1 to eventfd (not owned)
 * without leaving the engine. The core moves it with the BAR. Where the engine has none (tests, no
 * VM), the write reaches the BAR's handler instead, which must do the same work. While the machine
 * is being made, or any time later without the device's lock held. -EEXIST, -ENOMEM. */
int pci_bell_add(struct pci_dev *dev, unsigned bar, uint64_t offset, int eventfd);
int pci_bell_remove(struct pci_dev *dev, unsigned bar, uint64_t offset);

/* MSI-X. Enabled by the guest (and not only masked)? Then INTx is silent. */
bool pci_msix_enabled(const struct pci_dev *dev);
/* Sends vector's message, or notes it in the PBA while masked. Vectors outside are ignored; so is
 * everything while MSI-X is off. */
void pci_msix_notify(struct pci_dev *dev, unsigned vector);
/* Level of INTA. Silent while MSI-X is on or the command register's interrupt disable bit is set;
 * shown in the status register. */
void pci_intx(struct pci_dev *dev, bool level);

#endif
