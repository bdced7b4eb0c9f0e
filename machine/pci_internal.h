/* SPDX-License-Identifier: Apache-2.0 */
/* pci_internal.h - shared by pci.c (bus and config space), pci_bar.c and pci_msix.c only. */
#ifndef MACHINE_PCI_INTERNAL_H
#define MACHINE_PCI_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "machine/pc.h"
#include "machine/pci.h"

/* Config space offsets (PCI 6.1). */
#define CFG_VENDOR 0x00
#define CFG_DEVICE 0x02
#define CFG_COMMAND 0x04
#define CFG_STATUS 0x06
#define CFG_REVISION 0x08
#define CFG_CLASS 0x09
#define CFG_BAR0 0x10
#define CFG_SUBSYSTEM_VENDOR 0x2c
#define CFG_SUBSYSTEM 0x2e
#define CFG_CAPABILITIES 0x34
#define CFG_IRQ_LINE 0x3c
#define CFG_IRQ_PIN 0x3d
#define CFG_CAP_FIRST 0x40
#define CFG_SIZE 256

#define COMMAND_IO 0x0001
#define COMMAND_MEMORY 0x0002
#define COMMAND_MASTER 0x0004
#define COMMAND_INTX_OFF 0x0400
#define STATUS_INTX 0x0008
#define STATUS_CAPABILITIES 0x0010

#define CAP_MSIX 0x11
#define MSIX_ENABLE 0x8000
#define MSIX_MASK_ALL 0x4000
#define MSIX_ENTRY 16
#define MSIX_ENTRY_MASKED 1u
#define MSIX_VECTORS_MAX 2048

#define BAR_UNMAPPED UINT64_MAX

struct bell {
	struct bell *next;
	uint64_t offset;
	int eventfd;
	bool rung_by_engine; /* a trap is set at the BAR's present address */
};

struct bar {
	struct pci_dev *dev;
	unsigned index;
	struct pci_bar_info info;
	struct bus_ops ops; /* ours, with the device's max_size */
	uint64_t address;   /* on the bus, or BAR_UNMAPPED */
	uint64_t home;      /* where a reset puts it: no two overlap */
	struct bell *bells;
};

struct pci_dev {
	struct pci *pci;
	struct pci_dev_info info;
	void *opaque;
	unsigned slot;
	uint8_t config[CFG_SIZE], initial[CFG_SIZE], wmask[CFG_SIZE];
	uint8_t hooked[CFG_SIZE / 8]; /* bytes of capabilities that the hooks want to hear of */
	size_t cap_end, cap_last;     /* where the next goes; where the last one's next byte is */
	_Atomic uint16_t command;     /* copy for pci_bus_master() */
	struct bar bar[PCI_BARS];

	/* MSI-X and INTx. */
	pthread_mutex_t lock;
	unsigned msix_cap; /* offset; 0: none */
	_Atomic bool msix_enabled;
	bool msix_mask_all, intx_off, intx_level, intx_shown;
	uint8_t *msix_table;
	uint64_t *msix_pending;
	uint32_t pba_offset;
};

struct pci {
	struct machine *machine;
	pthread_mutex_t lock;    /* config space, placement, the slots */
	uint32_t address;        /* latch at 0xcf8 */
	uint8_t reset_control;   /* 0xcf9 */
	struct pci_dev *slot[PCI_SLOTS];
	unsigned last_slot;      /* that was given */
	bool hot;                /* see pci_hot_plug() */
	uint32_t hidden;         /* see pci_slots_hide() */
	struct pci_dev *host_bridge;
	pthread_mutex_t intx_lock; /* the counts; taken with a device's lock held */
	unsigned intx_gsi[PC_IRQ_PCI_GSI_COUNT], intx_pic[2];
};

/* pci_bar.c; the bus lock held */
int pci_bars_init(struct pci_dev *dev);
void pci_bars_fini(struct pci_dev *dev);
void pci_bars_update(struct pci *pci); /* after config writes: unmaps and maps what changed */
/* pci_msix.c */
int pci_msix_init(struct pci_dev *dev);
void pci_msix_fini(struct pci_dev *dev);
void pci_msix_reset(struct pci_dev *dev);
/* Message control, or the command register, was written. */
void pci_msix_config_changed(struct pci_dev *dev, uint16_t control, uint16_t command);
bool pci_msix_read(struct pci_dev *dev, uint64_t offset, unsigned size, uint64_t *val);
bool pci_msix_write(struct pci_dev *dev, uint64_t offset, unsigned size, uint64_t val);
/* Shown in the status register. */
bool pci_intx_asserted(struct pci_dev *dev);

#endif
