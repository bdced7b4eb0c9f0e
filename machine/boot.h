/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot.h - puts a kernel into guest memory as a boot loader would, and a processor at its entry.
 *
 * Three protocols, told apart by what the image says of itself:
 *   bzImage    Linux, 64-bit entry or, of 32-bit kernels, the 32-bit one (Documentation/arch/x86/boot.rst,
 *              1.1 .. 1.14)
 *   PVH        ELF with the note XEN_ELFNOTE_PHYS32_ENTRY (Xen docs/misc/pvh.pandoc)
 *   multiboot  version 1: ELF, or a flat image with addresses in its header
 *
 * The image is not trusted: every number in it is checked, and what is refused is refused with one
 * sentence. Nothing here runs on a vCPU thread but boot_enter().
 */
#ifndef MACHINE_BOOT_H
#define MACHINE_BOOT_H

#include <stddef.h>
#include <stdint.h>

struct memory;
struct vmx_vcpu;

struct boot_request {
	int kernel_fd; /* a regular file, read with pread(); not owned */
	int initrd_fd; /* -1: none */
	const char *cmdline; /* NULL: empty */
	uint64_t rsdp;       /* guest address of the ACPI root pointer, 0: none */
};

enum boot_mode {
	BOOT_LONG64,      /* paging on, first 4 GiB identity-mapped */
	BOOT_PROTECTED32, /* flat, paging off */
};

struct boot_entry { /* the boot processor's first state; registers not named are 0 */
	const char *protocol; /* "bzimage", "pvh", "multiboot" */
	enum boot_mode mode;
	uint64_t rip, rsp, rax, rbx, rsi;
};

/* Loads everything into memory (which keeps whatever else it held) and fills *ret_entry.
 * On an error *ret_error is a sentence that begins with the field it is about ("kernel: ...",
 * "initrd: ...", "cmdline: ..."); the caller frees it (NULL if even that found no memory).
 * -ENOEXEC: no kernel of a known kind, or a broken one; -EFBIG: kernel or initrd does not fit;
 * -EINVAL: cmdline too long, not a regular file; -EIO and others from reading. */
int boot_load(struct memory *memory, const struct boot_request *request,
	      struct boot_entry *ret_entry, char **ret_error);

/* Sets the vCPU's registers. Its owner thread; it has just been created or reset. */
int boot_enter(const struct boot_entry *entry, struct vmx_vcpu *vcpu);

/* One range of the machine's memory map, types as in E820: 1 RAM, 2 reserved. */
struct boot_range {
	uint64_t addr, size;
	uint32_t type;
};
#define BOOT_RANGES_MAX 8
/* Fills ranges (BOOT_RANGES_MAX of them) in rising order, returns how many. */
size_t boot_memory_map(const struct memory *memory, struct boot_range *ranges);

#endif
