/* SPDX-License-Identifier: Apache-2.0 */
/* pci_msix.c - MSI-X tables with masking and pending bits (PCI 6.8.2), and INTx on shared lines. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "machine/device.h"
#include "machine/irq.h"
#include "machine/pci_internal.h"

#define ENTRY_CONTROL 12

static uint32_t table_size(const struct pci_dev *dev)
{
	return dev->info.msix_vectors * MSIX_ENTRY;
}

static uint32_t pba_size(const struct pci_dev *dev)
{
	return (dev->info.msix_vectors + 63) / 64 * 8;
}

/* Entries are masked after reset (PCI 6.8.2.9). */
static void table_clear(struct pci_dev *dev)
{
	memset(dev->msix_table, 0, table_size(dev));
	for (unsigned v = 0; v < dev->info.msix_vectors; v++)
		put_le32(dev->msix_table + v * MSIX_ENTRY + ENTRY_CONTROL, MSIX_ENTRY_MASKED);
	memset(dev->msix_pending, 0, pba_size(dev));
}

int pci_msix_init(struct pci_dev *dev)
{
	static const uint8_t wmask[10] = { 0x00, 0xc0 };
	unsigned n = dev->info.msix_vectors;
	uint8_t body[10];
	int r;

	if (!n)
		return 0;
	dev->msix_table = calloc(n, MSIX_ENTRY);
	dev->msix_pending = calloc(1, pba_size(dev));
	if (!dev->msix_table || !dev->msix_pending)
		return -ENOMEM;
	table_clear(dev);
	dev->pba_offset = dev->info.msix_offset + table_size(dev);
	put_le16(body, (uint16_t)(n - 1));
	put_le32(body + 2, dev->info.msix_offset | dev->info.msix_bar);
	put_le32(body + 6, dev->pba_offset | dev->info.msix_bar);
	r = pci_add_capability(dev, CAP_MSIX, body, wmask, sizeof(body));
	if (r < 0)
		return r;
	dev->msix_cap = (unsigned)r;
	return 0;
}

void pci_msix_fini(struct pci_dev *dev)
{
	free(dev->msix_table);
	free(dev->msix_pending);
}

/* --- vectors, under dev->lock ----------------------------------------------------------------- */

static void send(struct pci_dev *dev, unsigned v)
{
	const uint8_t *entry = dev->msix_table + v * MSIX_ENTRY;

	dev->msix_pending[v / 64] &= ~(1ull << v % 64);
	/* A guest may program any address; only those of the APICs mean something here. */
	(void)irq_msi(dev->pci->machine->irqs, get_le64(entry), get_le32(entry + 8));
}

static bool masked(const struct pci_dev *dev, unsigned v)
{
	return dev->msix_mask_all ||
	       (get_le32(dev->msix_table + v * MSIX_ENTRY + ENTRY_CONTROL) & MSIX_ENTRY_MASKED);
}

static void send_pending(struct pci_dev *dev, unsigned first, unsigned count)
{
	if (!atomic_load(&dev->msix_enabled))
		return;
	for (unsigned v = first; v < first + count; v++)
		if ((dev->msix_pending[v / 64] & (1ull << v % 64)) && !masked(dev, v))
			send(dev, v);
}

bool pci_msix_enabled(const struct pci_dev *dev)
{
	return atomic_load(&dev->msix_enabled);
}

void pci_msix_notify(struct pci_dev *dev, unsigned vector)
{
	if (vector >= dev->info.msix_vectors)
		return;
	pthread_mutex_lock(&dev->lock);
	if (atomic_load(&dev->msix_enabled)) {
		if (masked(dev, vector))
			dev->msix_pending[vector / 64] |= 1ull << vector % 64;
		else
			send(dev, vector);
	}
	pthread_mutex_unlock(&dev->lock);
}

/* --- table and PBA in the BAR ----------------------------------------------------------------- */

bool pci_msix_read(struct pci_dev *dev, uint64_t offset, unsigned size, uint64_t *val)
{
	uint8_t bytes[8] = { 0 };
	const uint8_t *from;

	if (range_inside(offset - dev->info.msix_offset, size, table_size(dev)))
		from = dev->msix_table + (offset - dev->info.msix_offset);
	else if (range_inside(offset - dev->pba_offset, size, pba_size(dev)))
		from = (const uint8_t *)dev->msix_pending + (offset - dev->pba_offset);
	else
		return false;
	if (size < 4) /* only whole and double words are defined */
		return true;
	pthread_mutex_lock(&dev->lock);
	memcpy(bytes, from, size);
	pthread_mutex_unlock(&dev->lock);
	*val = get_le64(bytes);
	return true;
}

bool pci_msix_write(struct pci_dev *dev, uint64_t offset, unsigned size, uint64_t val)
{
	uint64_t at = offset - dev->info.msix_offset;
	uint8_t bytes[8];

	if (range_inside(offset - dev->pba_offset, size, pba_size(dev)))
		return true; /* read-only */
	if (!range_inside(at, size, table_size(dev)))
		return false;
	if (size < 4)
		return true;
	put_le64(bytes, val);
	pthread_mutex_lock(&dev->lock);
	for (unsigned done = 0; done < size; done += 4) {
		uint32_t word = get_le32(bytes + done);

		if ((at + done) % MSIX_ENTRY == ENTRY_CONTROL)
			word &= MSIX_ENTRY_MASKED;
		else if ((at + done) % MSIX_ENTRY == 0)
			word &= ~3u;
		put_le32(dev->msix_table + at + done, word);
	}
	send_pending(dev, (unsigned)(at / MSIX_ENTRY), 1);
	pthread_mutex_unlock(&dev->lock);
	return true;
}

/* --- INTx ------------------------------------------------------------------------------------- */

/* Adds or takes away one asserting device; the wire follows its count. */
static void count(struct irqs *irqs, unsigned *n, bool up,
		  void (*set)(struct irqs *, unsigned, bool), unsigned wire)
{
	if (up ? (*n)++ == 0 : --*n == 0)
		set(irqs, wire, up);
}

/* Makes the wires show what the device's registers say. dev->lock held. */
static void intx_update(struct pci_dev *dev)
{
	struct pci *pci = dev->pci;
	struct irqs *irqs = pci->machine->irqs;
	bool show = dev->intx_level && !dev->intx_off && !atomic_load(&dev->msix_enabled);
	unsigned line = dev->slot % PC_IRQ_PCI_GSI_COUNT;

	if (show == dev->intx_shown)
		return;
	dev->intx_shown = show;
	pthread_mutex_lock(&pci->intx_lock);
	count(irqs, &pci->intx_gsi[line], show, irq_set_ioapic, PC_IRQ_PCI_GSI + line);
	count(irqs, &pci->intx_pic[line & 1], show, irq_set_pic, PC_IRQ_PCI_PIC + (line & 1));
	pthread_mutex_unlock(&pci->intx_lock);
}

void pci_intx(struct pci_dev *dev, bool level)
{
	if (!dev->info.intx)
		return;
	pthread_mutex_lock(&dev->lock);
	dev->intx_level = level;
	intx_update(dev);
	pthread_mutex_unlock(&dev->lock);
}

bool pci_intx_asserted(struct pci_dev *dev)
{
	bool level;

	pthread_mutex_lock(&dev->lock);
	level = dev->intx_level && !atomic_load(&dev->msix_enabled);
	pthread_mutex_unlock(&dev->lock);
	return level;
}

void pci_msix_config_changed(struct pci_dev *dev, uint16_t control, uint16_t command)
{
	pthread_mutex_lock(&dev->lock);
	atomic_store(&dev->msix_enabled, dev->msix_cap && (control & MSIX_ENABLE));
	dev->msix_mask_all = control & MSIX_MASK_ALL;
	dev->intx_off = command & COMMAND_INTX_OFF;
	intx_update(dev);
	send_pending(dev, 0, dev->info.msix_vectors);
	pthread_mutex_unlock(&dev->lock);
}

void pci_msix_reset(struct pci_dev *dev)
{
	pthread_mutex_lock(&dev->lock);
	if (dev->info.msix_vectors)
		table_clear(dev);
	dev->intx_level = false;
	intx_update(dev);
	pthread_mutex_unlock(&dev->lock);
}
