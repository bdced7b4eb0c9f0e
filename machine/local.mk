# SPDX-License-Identifier: Apache-2.0
# machine
noinst_LTLIBRARIES += libmachine.la
libmachine_la_SOURCES = \
	machine/acpi.c machine/acpi.h machine/acpi_hotplug.c machine/aml.c machine/aml.h \
	machine/boot.c machine/boot.h machine/boot_internal.h \
	machine/boot_bzimage.c machine/boot_elf.c machine/boot_entry.c machine/boot_multiboot.c \
	machine/bus.c machine/bus.h \
	machine/device.h machine/machine.c \
	machine/fault_guard.c machine/fault_guard.h \
	machine/huge.c machine/huge.h \
	machine/irq.c machine/irq.h \
	machine/lifecycle.c machine/lifecycle.h \
	machine/loop.c machine/loop.h \
	machine/memory.c machine/memory.h machine/memory_area.c machine/memory_internal.h \
	machine/pc.h \
	machine/pci.c machine/pci_bar.c machine/pci_msix.c machine/pci.h machine/pci_internal.h \
	machine/thread.c machine/thread.h \
	machine/timer.c machine/timer.h \
	machine/vcpu.c machine/vcpu.h
libmachine_la_LIBADD = libvmxdriver.la -lpthread
