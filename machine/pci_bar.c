/* SPDX-License-Identifier: Apache-2.0 */
/* pci_bar.c - base address registers: placement, decoding, doorbells that move along. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/log.h"
#include "machine/device.h"
#include "machine/pci_internal.h"
#include "vmx-driver/vmx.h"

static void bar_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct bar *bar = opaque;
	struct pci_dev *dev = bar->dev;

	if (dev->info.msix_vectors && bar->index == dev->info.msix_bar &&
	    pci_msix_read(dev, offset, size, val))
		return;
	bar->info.ops->read(dev->opaque, offset, size, val);
}

static void bar_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct bar *bar = opaque;
	struct pci_dev *dev = bar->dev;

	if (dev->info.msix_vectors && bar->index == dev->info.msix_bar &&
	    pci_msix_write(dev, offset, size, val))
		return;
	bar->info.ops->write(dev->opaque, offset, size, val);
}

static struct bus *bar_bus(const struct bar *bar)
{
	struct machine *machine = bar->dev->pci->machine;

	return bar->info.kind == PCI_BAR_IO ? machine->ports : machine->mmio;
}

/* --- doorbells -------------------------------------------------------------------------------- */

static void bell_set(struct bar *bar, struct bell *bell)
{
	struct vmx_vm *vm = bar->dev->pci->machine->vm;

	if (vm && bar->address != BAR_UNMAPPED && !bell->rung_by_engine)
		bell->rung_by_engine = vmx_vm_set_trap(vm, VMX_TRAP_BELL,
						       bar->address + bell->offset, 0,
						       bell->eventfd, 0) == 0;
}

static void bell_clear(struct bar *bar, struct bell *bell)
{
	struct vmx_vm *vm = bar->dev->pci->machine->vm;

	if (bell->rung_by_engine)
		(void)vmx_vm_remove_trap(vm, VMX_TRAP_BELL, bar->address + bell->offset);
	bell->rung_by_engine = false;
}

int pci_bell_add(struct pci_dev *dev, unsigned bar_index, uint64_t offset, int eventfd)
{
	struct bar *bar = &dev->bar[bar_index];
	struct bell *bell, *other;
	int r = 0;

	assert(bar_index < PCI_BARS && bar->info.kind != PCI_BAR_IO &&
	       offset < bar->info.size);
	bell = calloc(1, sizeof(*bell));
	if (!bell)
		return -ENOMEM;
	*bell = (struct bell){ .offset = offset, .eventfd = eventfd };
	pthread_mutex_lock(&dev->pci->lock);
	for (other = bar->bells; other && other->offset != offset; other = other->next)
		;
	if (other) {
		r = -EEXIST;
	} else {
		bell->next = bar->bells;
		bar->bells = bell;
		bell_set(bar, bell);
	}
	pthread_mutex_unlock(&dev->pci->lock);
	if (r < 0)
		free(bell);
	return r;
}

int pci_bell_remove(struct pci_dev *dev, unsigned bar_index, uint64_t offset)
{
	struct bar *bar = &dev->bar[bar_index];
	struct bell **at, *bell;

	assert(bar_index < PCI_BARS);
	pthread_mutex_lock(&dev->pci->lock);
	for (at = &bar->bells; *at && (*at)->offset != offset; at = &(*at)->next)
		;
	bell = *at;
	if (bell) {
		bell_clear(bar, bell);
		*at = bell->next;
	}
	pthread_mutex_unlock(&dev->pci->lock);
	free(bell);
	return bell ? 0 : -ENOENT;
}

/* --- decoding --------------------------------------------------------------------------------- */

/* Where the registers want the BAR, or BAR_UNMAPPED. */
static uint64_t wanted(const struct bar *bar)
{
	const struct pci_dev *dev = bar->dev;
	const uint8_t *reg = dev->config + CFG_BAR0 + bar->index * 4;
	uint16_t command = get_le16(dev->config + CFG_COMMAND);
	uint64_t address, end;

	switch (bar->info.kind) {
	case PCI_BAR_IO:
		if (!(command & COMMAND_IO))
			return BAR_UNMAPPED;
		address = get_le32(reg) & ~3u;
		return address && address + bar->info.size <= 0x10000 ? address : BAR_UNMAPPED;
	case PCI_BAR_MEM32:
		address = get_le32(reg) & ~15u;
		break;
	case PCI_BAR_MEM64:
		address = get_le64(reg) & ~15ull;
		break;
	default:
		return BAR_UNMAPPED;
	}
	if (!(command & COMMAND_MEMORY) || !address ||
	    !checked_add(address, bar->info.size, &end) ||
	    (bar->info.kind == PCI_BAR_MEM32 && end > 0x100000000ull))
		return BAR_UNMAPPED;
	return address;
}

static void bar_unmap(struct bar *bar)
{
	if (bar->address == BAR_UNMAPPED)
		return;
	for (struct bell *bell = bar->bells; bell; bell = bell->next)
		bell_clear(bar, bell);
	(void)bus_remove(bar_bus(bar), bar->address, bar);
	bar->address = BAR_UNMAPPED;
}

/* An address that is taken (by another BAR, the IOAPIC, ...) leaves this one unmapped: first come,
 * first served, until the other moves away. */
static void bar_map(struct bar *bar, uint64_t address)
{
	if (bus_add(bar_bus(bar), address, bar->info.size, &bar->ops, bar, bar->dev->info.name) < 0)
		return;
	bar->address = address;
	for (struct bell *bell = bar->bells; bell; bell = bell->next)
		bell_set(bar, bell);
}

void pci_bars_update(struct pci *pci)
{
	for (int pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < PCI_SLOTS * PCI_BARS; i++) {
			struct pci_dev *dev = pci->slot[i / PCI_BARS];
			struct bar *bar;
			uint64_t want;

			if (!dev || dev->info.bar[i % PCI_BARS].kind == PCI_BAR_NONE)
				continue;
			bar = &dev->bar[i % PCI_BARS];
			want = wanted(bar);
			if (pass == 0 && want != bar->address)
				bar_unmap(bar);
			else if (pass == 1 && want != BAR_UNMAPPED && bar->address == BAR_UNMAPPED)
				bar_map(bar, want);
		}
	}
}

/* --- creation --------------------------------------------------------------------------------- */

/* Where what lives in [address, address + size) of that kind of space ends; 0: nothing does. */
static uint64_t occupied(const struct pci *pci, const struct bar *new, uint64_t address)
{
	for (unsigned i = 0; i < PCI_SLOTS * PCI_BARS; i++) {
		const struct pci_dev *dev = pci->slot[i / PCI_BARS];
		const struct bar *bar = dev ? &dev->bar[i % PCI_BARS] : NULL;

		if (bar && bar->info.kind != PCI_BAR_NONE &&
		    (bar->info.kind == PCI_BAR_IO) == (new->info.kind == PCI_BAR_IO) &&
		    range_overlaps(bar->home, bar->info.size, address, new->info.size))
			return bar->home + bar->info.size;
	}
	for (unsigned i = 0; i < new->index; i++) { /* of the same device, which has no slot yet */
		const struct bar *bar = &new->dev->bar[i];

		if (bar->info.kind != PCI_BAR_NONE &&
		    (bar->info.kind == PCI_BAR_IO) == (new->info.kind == PCI_BAR_IO) &&
		    range_overlaps(bar->home, bar->info.size, address, new->info.size))
			return bar->home + bar->info.size;
	}
	return 0;
}

/* The first free place in [from, end), aligned to its size. */
static int place(struct bar *bar, uint64_t from, uint64_t end)
{
	uint64_t size = bar->info.size, address = from, taken;

	do {
		if (!checked_add(address, size - 1, &address))
			return -ENOSPC;
		address &= ~(size - 1);
		if (address > end || size > end - address)
			return -ENOSPC;
		taken = occupied(bar->dev->pci, bar, address);
		if (taken)
			address = taken;
	} while (taken);
	bar->home = address;
	return 0;
}

static int bar_place(struct bar *bar)
{
	uint64_t mmio64 = machine_mmio64(bar->dev->pci->machine);

	switch (bar->info.kind) {
	case PCI_BAR_IO:
		return place(bar, PC_PCI_IO, PC_PCI_IO_END);
	case PCI_BAR_MEM32:
		return place(bar, PC_MMIO32, PC_MMIO32_END);
	default:
		return place(bar, mmio64, mmio64 + PC_MMIO64_SIZE);
	}
}

static int bar_init(struct bar *bar)
{
	struct pci_dev *dev = bar->dev;
	uint8_t *reg = dev->config + CFG_BAR0 + bar->index * 4;
	uint8_t *mask = dev->wmask + CFG_BAR0 + bar->index * 4;
	uint32_t type = bar->info.prefetchable ? 8 : 0;
	uint64_t address;
	int r = bar_place(bar);

	if (r < 0)
		return r;
	address = bar->home;
	switch (bar->info.kind) {
	case PCI_BAR_IO:
		put_le32(reg, (uint32_t)address | 1);
		put_le32(mask, (uint32_t) ~(bar->info.size - 1) & ~3u);
		break;
	case PCI_BAR_MEM32:
		put_le32(reg, (uint32_t)address | type);
		put_le32(mask, (uint32_t) ~(bar->info.size - 1));
		break;
	default:
		put_le64(reg, address | type | 4);
		put_le64(mask, ~(bar->info.size - 1));
		break;
	}
	return 0;
}

int pci_bars_init(struct pci_dev *dev)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct bar *bar = &dev->bar[i];
		int r;

		bar->dev = dev;
		bar->index = i;
		bar->info = dev->info.bar[i];
		bar->address = BAR_UNMAPPED;
		if (bar->info.kind == PCI_BAR_NONE)
			continue;
		bar->ops = (struct bus_ops){ .read = bar_read,
					     .write = bar_write,
					     .max_size = bar->info.ops->max_size };
		r = bar_init(bar);
		if (r < 0)
			return r;
	}
	return 0;
}

void pci_bars_fini(struct pci_dev *dev)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct bar *bar = &dev->bar[i];
		struct bell *bell;

		bar_unmap(bar);
		while ((bell = bar->bells)) {
			bar->bells = bell->next;
			free(bell);
		}
	}
}

uint64_t pci_bar_address(struct pci_dev *dev, unsigned bar)
{
	uint64_t address;

	assert(bar < PCI_BARS);
	pthread_mutex_lock(&dev->pci->lock);
	address = dev->bar[bar].address;
	pthread_mutex_unlock(&dev->pci->lock);
	return address;
}
