/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/pci.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "common/log.h"
#include "machine/device.h"
#include "machine/pci_internal.h"

/* --- config space ----------------------------------------------------------------------------- */

static uint32_t get(const uint8_t *bytes, unsigned offset, unsigned size)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < size; i++)
		value |= (uint32_t)bytes[offset + i] << i * 8;
	return value;
}

static void put(uint8_t *bytes, unsigned offset, unsigned size, uint32_t value)
{
	for (unsigned i = 0; i < size; i++)
		bytes[offset + i] = (uint8_t)(value >> i * 8);
}

static bool hooked(const struct pci_dev *dev, unsigned offset, unsigned size)
{
	for (unsigned i = offset; i < offset + size; i++)
		if (dev->hooked[i / 8] & (1u << i % 8))
			return true;
	return false;
}

/* offset+size <= 256, naturally aligned; no lock held. */
static uint32_t config_read(struct pci_dev *dev, unsigned offset, unsigned size)
{
	struct pci *pci = dev->pci;
	uint32_t value;

	if (dev->info.config_read && hooked(dev, offset, size))
		dev->info.config_read(dev->opaque, offset, size);
	pthread_mutex_lock(&pci->lock);
	put(dev->config, CFG_STATUS, 1,
	    (get(dev->config, CFG_STATUS, 1) & ~STATUS_INTX) |
		    (pci_intx_asserted(dev) ? STATUS_INTX : 0));
	value = get(dev->config, offset, size);
	pthread_mutex_unlock(&pci->lock);
	return value;
}

/* What follows from the registers: decoding, MSI-X, INTx. The bus lock held. */
static void apply(struct pci_dev *dev)
{
	uint16_t command = (uint16_t)get(dev->config, CFG_COMMAND, 2);
	uint16_t control =
		dev->msix_cap ? (uint16_t)get(dev->config, dev->msix_cap + 2, 2) : (uint16_t)0;

	atomic_store_explicit(&dev->command, command, memory_order_release);
	pci_bars_update(dev->pci);
	pci_msix_config_changed(dev, control, command);
}

static void config_write(struct pci_dev *dev, unsigned offset, unsigned size, uint32_t value)
{
	struct pci *pci = dev->pci;

	pthread_mutex_lock(&pci->lock);
	for (unsigned i = 0; i < size; i++) {
		uint8_t mask = dev->wmask[offset + i], byte = (uint8_t)(value >> i * 8);

		dev->config[offset + i] =
			(uint8_t)((dev->config[offset + i] & ~mask) | (byte & mask));
	}
	if (offset < CFG_CAP_FIRST || (dev->msix_cap && offset + size > dev->msix_cap &&
				       offset < dev->msix_cap + 4))
		apply(dev);
	pthread_mutex_unlock(&pci->lock);
	if (dev->info.config_written && hooked(dev, offset, size))
		dev->info.config_written(dev->opaque, offset, size);
}

uint32_t pci_config_get(struct pci_dev *dev, unsigned offset, unsigned size)
{
	uint32_t value;

	assert(size <= 4 && range_inside(offset, size, CFG_SIZE));
	pthread_mutex_lock(&dev->pci->lock);
	value = get(dev->config, offset, size);
	pthread_mutex_unlock(&dev->pci->lock);
	return value;
}

void pci_config_put(struct pci_dev *dev, unsigned offset, unsigned size, uint32_t value)
{
	assert(size <= 4 && offset >= CFG_CAP_FIRST && range_inside(offset, size, CFG_SIZE));
	pthread_mutex_lock(&dev->pci->lock);
	put(dev->config, offset, size, value);
	pthread_mutex_unlock(&dev->pci->lock);
}

int pci_add_capability(struct pci_dev *dev, uint8_t id, const void *body, const void *wmask,
		       size_t len)
{
	size_t at = dev->cap_end;
	bool hooks = dev->info.config_read || dev->info.config_written;

	if (len > CFG_SIZE - 2 || !range_inside(at, len + 2, CFG_SIZE))
		return -ENOSPC;
	pthread_mutex_lock(&dev->pci->lock);
	for (int i = 0; i < 2; i++) {
		uint8_t *config = i ? dev->initial : dev->config;

		config[at] = id;
		config[at + 1] = 0;
		memcpy(&config[at + 2], body, len);
		config[dev->cap_last] = (uint8_t)at;
		config[CFG_STATUS] |= STATUS_CAPABILITIES;
	}
	if (wmask)
		memcpy(&dev->wmask[at + 2], wmask, len);
	for (size_t i = at; hooks && id != CAP_MSIX && i < at + 2 + len; i++)
		dev->hooked[i / 8] |= (uint8_t)(1u << i % 8);
	dev->cap_last = at + 1;
	dev->cap_end = (at + 2 + len + 3) & ~(size_t)3;
	pthread_mutex_unlock(&dev->pci->lock);
	return (int)at;
}

bool pci_bus_master(const struct pci_dev *dev)
{
	return atomic_load_explicit(&dev->command, memory_order_acquire) & COMMAND_MASTER;
}

/* --- devices ---------------------------------------------------------------------------------- */

static bool info_valid(const struct pci_dev_info *info)
{
	uint64_t table = (uint64_t)info->msix_vectors * MSIX_ENTRY;
	const struct pci_bar_info *bar;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		bar = &info->bar[i];
		if (bar->kind == PCI_BAR_NONE)
			continue;
		if (!bar->size || (bar->size & (bar->size - 1)) || !bar->ops)
			return false;
		if (bar->kind == PCI_BAR_IO ? bar->size < 4 || bar->size > 256 : bar->size < 4096)
			return false;
		if (bar->kind == PCI_BAR_MEM32 && bar->size > PC_MMIO32_END - PC_MMIO32)
			return false;
		if (bar->kind == PCI_BAR_MEM64 && (i + 1 == PCI_BARS ||
						   info->bar[i + 1].kind != PCI_BAR_NONE))
			return false;
	}
	if (!info->msix_vectors)
		return true;
	if (info->msix_vectors > MSIX_VECTORS_MAX || info->msix_bar >= PCI_BARS ||
	    info->msix_offset % 4096)
		return false;
	bar = &info->bar[info->msix_bar];
	table += (info->msix_vectors + 63) / 64 * 8;
	return (bar->kind == PCI_BAR_MEM32 || bar->kind == PCI_BAR_MEM64) &&
	       range_inside(info->msix_offset, table, bar->size);
}

static void config_init(struct pci_dev *dev)
{
	const struct pci_dev_info *info = &dev->info;
	uint8_t *c = dev->config;

	put_le16(c + CFG_VENDOR, info->vendor);
	put_le16(c + CFG_DEVICE, info->device);
	put_le16(c + CFG_COMMAND, COMMAND_IO | COMMAND_MEMORY);
	put_le16(dev->wmask + CFG_COMMAND,
		 COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | COMMAND_INTX_OFF);
	c[CFG_REVISION] = info->revision;
	put(c, CFG_CLASS, 3, info->class_code);
	put_le16(c + CFG_SUBSYSTEM_VENDOR, info->subsystem_vendor);
	put_le16(c + CFG_SUBSYSTEM, info->subsystem);
	if (info->intx) {
		c[CFG_IRQ_PIN] = 1;
		c[CFG_IRQ_LINE] = (uint8_t)(PC_IRQ_PCI_PIC + (dev->slot & 1));
	}
	dev->wmask[CFG_IRQ_LINE] = 0xff;
	dev->wmask[0x0c] = 0xff; /* cache line size: kept, unused */
	dev->cap_end = CFG_CAP_FIRST;
	dev->cap_last = CFG_CAPABILITIES;
}

/* The first one; while the guest runs the one that was not used for longest, as it may still have a
 * request for another in its queues that is about what was there before. */
static int free_slot(struct pci *pci)
{
	unsigned from = pci->hot ? pci->last_slot + 1 : 0;

	for (unsigned i = 0; i < PCI_SLOTS; i++) {
		unsigned slot = (from + i) % PCI_SLOTS;

		if (pci->slot[slot])
			continue;
		pci->last_slot = slot;
		return (int)slot;
	}
	return -ENOSPC;
}

int pci_dev_create(struct pci *pci, const struct pci_dev_info *info, void *opaque,
		   struct pci_dev **ret_dev)
{
	struct pci_dev *dev;
	int r;

	if (!info_valid(info))
		return -EINVAL;
	dev = calloc(1, sizeof(*dev));
	if (!dev)
		return -ENOMEM;
	pthread_mutex_init(&dev->lock, NULL);
	dev->pci = pci;
	dev->info = *info;
	dev->opaque = opaque;
	pthread_mutex_lock(&pci->lock);
	r = free_slot(pci);
	if (r >= 0) {
		dev->slot = (unsigned)r;
		config_init(dev);
		r = pci_bars_init(dev);
	}
	pthread_mutex_unlock(&pci->lock);
	if (r >= 0)
		r = pci_msix_init(dev);
	if (r < 0) {
		pci_msix_fini(dev);
		pthread_mutex_destroy(&dev->lock);
		free(dev);
		return r;
	}
	memcpy(dev->initial, dev->config, CFG_SIZE);
	pthread_mutex_lock(&pci->lock);
	if (pci->hot) {
		memset(dev->config + CFG_BAR0, 0, PCI_BARS * 4);
		for (unsigned i = 0; i < PCI_BARS; i++) /* the bits that tell the kind stay */
			if (info->bar[i].kind != PCI_BAR_NONE)
				dev->config[CFG_BAR0 + i * 4] =
					dev->initial[CFG_BAR0 + i * 4] &
					(info->bar[i].kind == PCI_BAR_IO ? 0x03 : 0x0f);
		put_le16(dev->config + CFG_COMMAND, 0);
	}
	pci->slot[dev->slot] = dev;
	apply(dev);
	pthread_mutex_unlock(&pci->lock);
	*ret_dev = dev;
	return 0;
}

struct pci_dev *pci_dev_destroy(struct pci_dev *dev)
{
	struct pci *pci;

	if (!dev)
		return NULL;
	pci = dev->pci;
	pci_intx(dev, false);
	pthread_mutex_lock(&pci->lock);
	pci_bars_fini(dev);
	pci->slot[dev->slot] = NULL;
	pci->hidden &= ~(1u << dev->slot);
	pthread_mutex_unlock(&pci->lock);
	pci_msix_fini(dev);
	pthread_mutex_destroy(&dev->lock);
	free(dev);
	return NULL;
}

void pci_hot_plug(struct pci *pci, bool hot)
{
	pthread_mutex_lock(&pci->lock);
	pci->hot = hot;
	pthread_mutex_unlock(&pci->lock);
}

void pci_slots_hide(struct pci *pci, uint32_t slots)
{
	pthread_mutex_lock(&pci->lock);
	pci->hidden |= slots;
	for (unsigned i = 0; i < PCI_SLOTS; i++) {
		if (!pci->slot[i] || !(slots >> i & 1))
			continue;
		put_le16(pci->slot[i]->config + CFG_COMMAND, 0);
		apply(pci->slot[i]);
	}
	pthread_mutex_unlock(&pci->lock);
}

uint32_t pci_occupied(struct pci *pci)
{
	uint32_t slots = 0;

	pthread_mutex_lock(&pci->lock);
	for (unsigned i = 0; i < PCI_SLOTS; i++)
		slots |= (uint32_t)(pci->slot[i] != NULL) << i;
	pthread_mutex_unlock(&pci->lock);
	return slots;
}

unsigned pci_dev_slot(const struct pci_dev *dev)
{
	return dev->slot;
}

/* --- the two ways in -------------------------------------------------------------------------- */

static struct pci_dev *find(struct pci *pci, unsigned bus, unsigned devfn)
{
	struct pci_dev *dev = NULL;

	pthread_mutex_lock(&pci->lock);
	if (bus == 0 && (devfn & 7) == 0 && !(pci->hidden >> (devfn >> 3) & 1))
		dev = pci->slot[devfn >> 3];
	pthread_mutex_unlock(&pci->lock);
	return dev; /* devices go only while no processor runs */
}

static void space_read(struct pci *pci, unsigned bus, unsigned devfn, unsigned offset,
		       unsigned size, uint64_t *val)
{
	struct pci_dev *dev = find(pci, bus, devfn);

	if (dev) /* no extended capabilities: zero, as ECAM wants it */
		*val = offset < CFG_SIZE ? config_read(dev, offset, size) : 0;
}

static void space_write(struct pci *pci, unsigned bus, unsigned devfn, unsigned offset,
			unsigned size, uint32_t val)
{
	struct pci_dev *dev = find(pci, bus, devfn);

	if (dev && offset < CFG_SIZE)
		config_write(dev, offset, size, val);
}

static void ecam_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	space_read(opaque, (unsigned)(offset >> 20), (offset >> 12) & 0xff, offset & 0xfff, size,
		   val);
}

static void ecam_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	space_write(opaque, (unsigned)(offset >> 20), (offset >> 12) & 0xff, offset & 0xfff, size,
		    (uint32_t)val);
}

static const struct bus_ops ecam_ops = { .read = ecam_read, .write = ecam_write, .max_size = 4 };

/* Ports 0xcf8..0xcff: mechanism #1 (PCI 3.2.2.3.2), and the reset control register at 0xcf9. */
#define ADDRESS_ENABLE 0x80000000u
#define RESET_OFFSET (PC_PORT_RESET - PC_PORT_PCI)

static uint32_t latch(struct pci *pci, uint8_t *ret_reset)
{
	uint32_t address;

	pthread_mutex_lock(&pci->lock);
	address = pci->address;
	if (ret_reset)
		*ret_reset = pci->reset_control;
	pthread_mutex_unlock(&pci->lock);
	return address;
}

static void port_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct pci *pci = opaque;
	uint8_t reset;
	uint32_t address = latch(pci, &reset);

	if (offset == RESET_OFFSET && size == 1)
		*val = reset;
	else if (offset == 0 && size == 4)
		*val = address;
	else if (offset >= 4 && (address & ADDRESS_ENABLE))
		space_read(pci, (address >> 16) & 0xff, (address >> 8) & 0xff,
			   (address & 0xfc) | (offset & 3), size, val);
}

static void reset_control(struct pci *pci, uint8_t val)
{
	bool reset;

	pthread_mutex_lock(&pci->lock);
	reset = val & 4;
	pci->reset_control = val & 0x0a;
	pthread_mutex_unlock(&pci->lock);
	if (reset)
		machine_request(pci->machine, MACHINE_REQUEST_RESET, 0);
}

static void port_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct pci *pci = opaque;
	uint32_t address;

	if (offset == RESET_OFFSET && size == 1) {
		reset_control(pci, (uint8_t)val);
	} else if (offset == 0 && size == 4) {
		pthread_mutex_lock(&pci->lock);
		pci->address = (uint32_t)val & 0x80fffffcu;
		pthread_mutex_unlock(&pci->lock);
	} else if (offset >= 4) {
		address = latch(pci, NULL);
		if (address & ADDRESS_ENABLE)
			space_write(pci, (address >> 16) & 0xff, (address >> 8) & 0xff,
				    (address & 0xfc) | (offset & 3), size, (uint32_t)val);
	}
}

static const struct bus_ops port_ops = { .read = port_read, .write = port_write, .max_size = 4 };

int pci_create(struct machine *machine, struct pci **ret_pci)
{
	static const struct pci_dev_info host_bridge = {
		.name = "host-bridge",
		.vendor = 0x1b36, /* a generic PCI Express host bridge */
		.device = 0x0008,
		.class_code = 0x060000,
	};
	struct pci *pci = calloc(1, sizeof(*pci));
	int r;

	if (!pci)
		return -ENOMEM;
	pthread_mutex_init(&pci->lock, NULL);
	pthread_mutex_init(&pci->intx_lock, NULL);
	pci->machine = machine;
	r = bus_add(machine->ports, PC_PORT_PCI, 8, &port_ops, pci, "pci-config");
	if (r >= 0)
		r = bus_add(machine->mmio, PC_ECAM, PC_ECAM_SIZE, &ecam_ops, pci, "pci-ecam");
	if (r >= 0)
		r = pci_dev_create(pci, &host_bridge, NULL, &pci->host_bridge);
	if (r < 0) {
		pci_destroy(pci);
		return r;
	}
	*ret_pci = pci;
	return 0;
}

struct pci *pci_destroy(struct pci *pci)
{
	if (!pci)
		return NULL;
	pci_dev_destroy(pci->host_bridge);
	for (unsigned i = 0; i < PCI_SLOTS; i++)
		assert(!pci->slot[i]);
	(void)bus_remove(pci->machine->mmio, PC_ECAM, pci);
	(void)bus_remove(pci->machine->ports, PC_PORT_PCI, pci);
	pthread_mutex_destroy(&pci->intx_lock);
	pthread_mutex_destroy(&pci->lock);
	free(pci);
	return NULL;
}

void pci_reset(struct pci *pci)
{
	pthread_mutex_lock(&pci->lock);
	pci->address = 0;
	pci->reset_control = 0;
	for (unsigned i = 0; i < PCI_SLOTS; i++) {
		if (!pci->slot[i])
			continue;
		memcpy(pci->slot[i]->config, pci->slot[i]->initial, CFG_SIZE);
		if (pci->hidden >> i & 1)
			put_le16(pci->slot[i]->config + CFG_COMMAND, 0);
	}
	for (unsigned i = 0; i < PCI_SLOTS; i++) {
		if (!pci->slot[i])
			continue;
		pci_msix_reset(pci->slot[i]);
		apply(pci->slot[i]);
	}
	pthread_mutex_unlock(&pci->lock);
}
