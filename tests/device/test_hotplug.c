/* SPDX-License-Identifier: Apache-2.0 */
/* Hot plug: the registers that the DSDT works with, slots that are let go, a disk that is lost. */
#include <config.h>

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/checked.h"
#include "devices/chips.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/rng.h"
#include "machine/pc.h"
#include "machine/pci.h"
#include "tests/device/vdriver.h"

#define UP (PC_PORT_HOTPLUG + PC_HOTPLUG_UP)
#define DOWN (PC_PORT_HOTPLUG + PC_HOTPLUG_DOWN)
#define EJECT (PC_PORT_HOTPLUG + PC_HOTPLUG_EJECT)
#define REFUSED (PC_PORT_HOTPLUG + PC_HOTPLUG_REFUSED)
#define GPE_STATUS (PC_PORT_PM + PC_PM_GPE)
#define GPE (1u << PC_GPE_HOTPLUG)
#define MS 1000000ull

struct plug {
	struct device *pm, *hotplug;
	unsigned changes;
};

static void changed(void *opaque)
{
	((struct plug *)opaque)->changes++;
}

static void plug_open(struct rig *r, struct plug *p)
{
	struct acpi_hotplug_config config = { .changed = changed, .opaque = p };

	p->changes = 0;
	config.pm = p->pm = rig_add(r, &acpi_pm_class, NULL);
	p->hotplug = rig_add(r, &acpi_hotplug_class, &config);
}

static uint32_t status(struct rig *r)
{
	return rig_in(r, GPE_STATUS, 2) & GPE;
}

/* As Linux when it begins with ACPI. */
static void clear_status(struct rig *r)
{
	rig_out(r, GPE_STATUS, 2, 0xffff);
}

static void event_stays(struct rig *r)
{
	struct plug p;

	plug_open(r, &p);
	clear_status(r);
	CHECK_EQ(status(r), 0);
	acpi_hotplug_up(p.hotplug, 4);
	acpi_hotplug_down(p.hotplug, 31);
	CHECK_EQ(status(r), GPE);
	clear_status(r);
	CHECK_EQ(status(r), GPE); /* nobody has read it yet */
	CHECK_EQ(rig_in(r, UP, 4), 1u << 4);
	CHECK_EQ(rig_in(r, UP, 4), 0);
	clear_status(r);
	CHECK_EQ(status(r), GPE);
	CHECK_EQ(rig_in(r, DOWN, 2), 0); /* of the wrong width: reads nothing */
	CHECK_EQ(rig_in(r, DOWN, 4), 1u << 31);
	CHECK_EQ(status(r), GPE); /* latched */
	clear_status(r);
	CHECK_EQ(status(r), 0);
	acpi_hotplug_up(p.hotplug, 5);
	acpi_hotplug_empty(p.hotplug, 5);
	clear_status(r);
	CHECK_EQ(status(r), 0);
	CHECK_EQ(rig_in(r, UP, 4), 0);
}

static void asked_again(struct rig *r)
{
	struct plug p;

	plug_open(r, &p);
	acpi_hotplug_down(p.hotplug, 3);
	CHECK_EQ(rig_in(r, DOWN, 4), 1u << 3);
	rig_out(r, REFUSED, 4, 1u << 3 | 1u << 5); /* 5 was not asked for */
	clear_status(r);
	rig_advance(r, 400 * MS);
	CHECK_EQ(status(r), 0);
	rig_advance(r, 200 * MS);
	CHECK_EQ(status(r), GPE);
	CHECK_EQ(rig_in(r, DOWN, 4), 1u << 3);
	rig_advance(r, 5000 * MS); /* silence is no refusal */
	CHECK_EQ(rig_in(r, DOWN, 4), 0);
	rig_out(r, REFUSED, 4, 1u << 3);
	rig_out(r, EJECT, 4, 1u << 3); /* and then it did */
	rig_advance(r, 1000 * MS);
	CHECK_EQ(rig_in(r, DOWN, 4), 0);
	CHECK_EQ(acpi_hotplug_let_go(p.hotplug), 1u << 3);
}

static const struct virtio_rng_config rng_config;

static uint32_t vendor(struct rig *r, unsigned slot)
{
	return (uint32_t)rig_read(r, PC_ECAM + ((uint64_t)slot << 15), 4);
}

static void let_go(struct rig *r)
{
	struct plug p;
	struct vdriver d, other;
	struct device *rng;
	uint64_t bar;

	plug_open(r, &p);
	rng = rig_add(r, &virtio_rng_class, &rng_config);
	CHECK(vd_find(r, &d, 0x1044));
	bar = d.bar;
	rig_out(r, EJECT, 4, UINT32_MAX); /* of its own accord: it stays */
	CHECK(!acpi_hotplug_waits(p.hotplug) && !p.changes);
	CHECK_EQ(vendor(r, d.slot), 0x10441af4);
	acpi_hotplug_down(p.hotplug, d.slot);
	rig_out(r, EJECT, 2, 1u << d.slot);
	CHECK(!acpi_hotplug_waits(p.hotplug));
	rig_out(r, EJECT, 4, 1u << d.slot);
	CHECK(acpi_hotplug_waits(p.hotplug));
	CHECK_EQ(p.changes, 1);
	/* It is gone for the guest, and its addresses are free, though the device is there still. */
	CHECK_EQ(vendor(r, d.slot), 0xffffffff);
	CHECK_EQ(rig_read(r, bar + VC_NUMQ, 2), 0xffff);
	pci_hot_plug(r->machine->pci, true);
	rig_add(r, &virtio_rng_class, &rng_config);
	pci_hot_plug(r->machine->pci, false);
	other = (struct vdriver){ .rig = r, .slot = d.slot + 1 };
	CHECK_EQ(vendor(r, other.slot), 0x10441af4);
	vd_cfg_write(&other, 0x10, 4, (uint32_t)bar);
	vd_cfg_write(&other, 0x14, 4, (uint32_t)(bar >> 32));
	vd_cfg_write(&other, 0x04, 2, 6);
	CHECK_EQ(rig_read(r, bar + VC_NUMQ, 2), 1);
	CHECK_EQ(acpi_hotplug_let_go(p.hotplug), 1u << d.slot);
	device_destroy(rng);
	CHECK_EQ(rig_read(r, bar + VC_NUMQ, 2), 1);
}

static void reset(struct rig *r)
{
	struct plug p;
	struct vdriver d;
	struct device *rng;

	plug_open(r, &p);
	rng = rig_add(r, &virtio_rng_class, &rng_config);
	CHECK(vd_find(r, &d, 0x1044));
	acpi_hotplug_up(p.hotplug, 9);
	acpi_hotplug_down(p.hotplug, d.slot);
	machine_reset_devices(r->machine);
	CHECK_EQ(status(r), 0);
	CHECK_EQ(rig_in(r, UP, 4) | rig_in(r, DOWN, 4), 0);
	CHECK_EQ(vendor(r, d.slot), 0xffffffff); /* what was to go, the next kernel never sees */
	machine_reset_devices(r->machine);
	CHECK_EQ(vendor(r, d.slot), 0xffffffff);
	CHECK_EQ(acpi_hotplug_let_go(p.hotplug), 1u << d.slot);
	device_destroy(rng);
	rig_add(r, &virtio_rng_class, &rng_config);
	CHECK_EQ(vendor(r, d.slot), 0x10441af4);
}

/* --- a disk whose image is taken away ----------------------------------------------------------- */

static uint8_t disk_request(struct vdriver *d, uint32_t type)
{
	const uint32_t header[4] = { type };
	const uint8_t none = 0xee;
	uint8_t result;

	vd_store(d, VD_BUFFERS, header, sizeof(header));
	vd_store(d, VD_BUFFERS + 0x2000, &none, 1);
	vd_desc(d, 0, VD_BUFFERS, 16, VD_NEXT, 1);
	vd_desc(d, 1, VD_BUFFERS + 0x1000, 512, VD_NEXT | (type == 1 ? 0 : VD_WRITE), 2);
	vd_desc(d, 2, VD_BUFFERS + 0x2000, 1, VD_WRITE, 0);
	vd_push(d, 0);
	vd_kick(d, 0);
	CHECK(vd_wait(d, d->avail));
	vd_load(d, VD_BUFFERS + 0x2000, &result, 1);
	return result;
}

static void lost(struct rig *r)
{
	static const uint32_t types[] = { 0, 1, 4, 0 };
	struct virtio_blk_config config = { .queues = 1, .serial = "lost" };
	struct device *disk;
	struct vdriver d;
	int fd = memfd_create("disk", MFD_CLOEXEC);
	uint8_t byte = 0;

	CHECK(ftruncate(fd, 1 << 20) == 0);
	config.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	disk = rig_add(r, &virtio_blk_class, &config);
	CHECK(vd_find(r, &d, 0x1042));
	vd_start(&d, 1 << 9, 64);
	vd_store(&d, VD_BUFFERS + 0x1000, "x", 1);
	CHECK_EQ(disk_request(&d, 1), 0);
	disk->class->pause(disk);
	disk->class->lose(disk);
	CHECK(fcntl(config.fd, F_GETFD) < 0); /* the host has it back */
	disk->class->resume(disk);
	vd_store(&d, VD_BUFFERS + 0x1000, "y", 1);
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		CHECK_EQ(disk_request(&d, types[i]), 1); /* an error, but an answer */
	CHECK_EQ(disk_request(&d, 8), 0); /* its number is its own */
	vd_start(&d, 1 << 9, 64); /* another driver gets no further */
	CHECK_EQ(disk_request(&d, 0), 1);
	CHECK(pread(fd, &byte, 1, 0) == 1 && byte == 'x');
	close(fd);
}

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = {
		{ "event_stays", event_stays }, { "asked_again", asked_again },
		{ "let_go", let_go },           { "reset", reset },
		{ "lost", lost },
	};

	return rig_main("hotplug", cases, ARRAY_SIZE(cases), argc, argv);
}
