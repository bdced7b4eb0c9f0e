/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pc.h - where things are in this PC: the one place for addresses, ports and interrupt numbers.
 * The ACPI tables, the boot protocols and the chips all take them from here.
 */
#ifndef MACHINE_PC_H
#define MACHINE_PC_H

/* --- memory map ------------------------------------------------------------------------------- */
#define PC_EBDA 0x9fc00ull             /* end of usable conventional memory */
#define PC_BIOS 0xe0000ull             /* ACPI tables live in 0xe0000..0xfffff */
#define PC_BIOS_END 0x100000ull
#define PC_LOW_RAM_MAX 0xc0000000ull   /* RAM below 4 GiB ends here at the latest */
#define PC_MMIO32 0xc0000000ull        /* 32-bit BARs */
#define PC_MMIO32_END 0xe0000000ull
#define PC_ECAM 0xe0000000ull          /* PCI Express config space, bus 0..255 */
#define PC_ECAM_SIZE 0x10000000ull
#define PC_ECAM_BUSES 256
#define PC_MMIO_DEVICES 0xfeb00000ull  /* devices that are not on PCI: a page each */
#define PC_MMIO_DEVICES_MAX 64
#define PC_IOAPIC 0xfec00000ull
#define PC_IOAPIC_SIZE 0x1000ull
#define PC_LAPIC 0xfee00000ull         /* the engine's */
#define PC_TEST_MEMORY 0xff000000u     /* of the test device */
#define PC_TEST_MEMORY_SIZE 0x10000u
#define PC_HIGH_RAM 0x100000000ull     /* the rest of RAM */
/* 64-bit BARs live in a window of this size above RAM: see machine_mmio64(). */
#define PC_MMIO64_SIZE 0x400000000ull  /* 16 GiB */

/* Memory of virtio-mem and virtio-pmem begins above it, at multiples of the largest block by which
 * Linux takes memory on. */
#define PC_AREA_ALIGN 0x80000000ull

/* --- ports ------------------------------------------------------------------------------------ */
#define PC_PORT_PIC1 0x20
#define PC_PORT_PIC2 0xa0
#define PC_PORT_PIT 0x40               /* 0x40..0x43 */
#define PC_PORT_NMI_SC 0x61            /* speaker gate, PIT channel 2 output */
#define PC_PORT_KBD 0x60               /* i8042 data */
#define PC_PORT_KBD_CMD 0x64           /* i8042 command and status */
#define PC_PORT_RTC 0x70               /* 0x70 index, 0x71 data */
#define PC_PORT_A 0x92                 /* fast A20 and fast reset */
#define PC_PORT_ELCR 0x4d0             /* 0x4d0, 0x4d1: edge/level of the two PICs */
#define PC_PORT_COM1 0x3f8
#define PC_PORT_DEBUG_EXIT 0xf4        /* 4 ports */
#define PC_PORT_TEST_LATCH 0xe0        /* 8 ports */
#define PC_PORT_TEST_LINES 0x2000      /* one for each interrupt line */
#define PC_PORT_PM 0x600               /* ACPI PM block, laid out as below */
#define PC_PM_EVT 0                    /* PM1a_STS 16 bits, PM1a_EN 16 bits at +2 */
#define PC_PM_CNT 4                    /* PM1a_CNT 16 bits */
#define PC_PM_TMR 8                    /* PM timer: 32 bits, 3.579545 MHz */
#define PC_PM_GPE 12                   /* GPE0: 16 bits status, 16 bits enable at +2 */
#define PC_PM_SIZE 16
#define PC_GPE_HOTPLUG 1
#define PC_PORT_HOTPLUG 0x620          /* PCI hot plug: 32 bits each, a bit a slot */
#define PC_HOTPLUG_UP 0                /* read clears: has a device that the guest does not know */
#define PC_HOTPLUG_DOWN 4              /* read clears: the guest shall let it go */
#define PC_HOTPLUG_EJECT 8             /* write: the guest has let it go */
#define PC_HOTPLUG_REFUSED 12          /* write: the guest could not let it go */
#define PC_HOTPLUG_SIZE 16
#define PC_PORT_PCI 0xcf8              /* 0xcf8..0xcff; owned by machine/pci.c, with 0xcf9 */
#define PC_PORT_RESET 0xcf9            /* reset control: bit 2 written while bit 1 is set */
#define PC_PCI_IO 0x1000               /* I/O BARs */
#define PC_PCI_IO_END 0x10000

/* --- interrupts ------------------------------------------------------------------------------- */
#define PC_IRQ_PIT 0                   /* IOAPIC pin 2 */
#define PC_IRQ_KBD 1
#define PC_IRQ_CASCADE 2
#define PC_IRQ_COM1 4
#define PC_IRQ_RTC 8
#define PC_IRQ_SCI 9                   /* level, active high on the wire that the chips drive */
#define PC_IRQ_PCI_PIC 10              /* INTx also reaches the PIC: 10 and 11 */
#define PC_IRQ_PCI_GSI 16              /* INTx at the IOAPIC: 16..19 */
#define PC_IRQ_PCI_GSI_COUNT 4
#define PC_ISA_IRQS 16
#define PC_IOAPIC_PINS 24
#define PC_IOAPIC_ID 0

/* --- ACPI ------------------------------------------------------------------------------------- */
#define PC_SLP_TYP_S5 5                /* PM1a_CNT bits 12..10, with SLP_EN (bit 13) */
#define PC_PM_TIMER_HZ 3579545u

#endif
