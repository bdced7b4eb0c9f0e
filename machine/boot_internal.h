/* SPDX-License-Identifier: Apache-2.0 */
/* boot_internal.h - shared by the boot_*.c files only. */
#ifndef MACHINE_BOOT_INTERNAL_H
#define MACHINE_BOOT_INTERNAL_H

#include <stdbool.h>
#include <sys/types.h>

#include "machine/boot.h"

/*
 * Low memory: our own tables in the first pages and at the top. Between them, and from 1 MiB on, an
 * ELF or multiboot image may want to be.
 */
#define BOOT_GDT 0x500u
#define BOOT_INFO 0x1000u         /* PVH start info or multiboot information, with its tables */
#define BOOT_STACK 0x1ff0u
#define BOOT_ZERO_PAGE 0x2000u
#define BOOT_PAGE_TABLES 0x3000u  /* six pages; bzImage only */
#define BOOT_IMAGE_LOW 0x3000u
#define BOOT_CMDLINE 0x90000u
#define BOOT_CMDLINE_MAX 0xefffu  /* bytes without the NUL */
#define BOOT_IMAGE_LOW_END BOOT_CMDLINE
#define BOOT_IMAGE_MIN 0x100000u

struct boot {
	struct memory *memory;
	const struct boot_request *request;
	const char *cmdline; /* never NULL */
	size_t cmdline_len;
	uint64_t kernel_size;  /* of the file */
	uint64_t initrd_size;  /* 0: none */
	uint64_t kernel_end;   /* first guest address above the loaded kernel */
	uint64_t initrd;       /* where it was put */
	char why[200];
};

/* Notes the sentence, returns r. */
int boot_fail(struct boot *boot, int r, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Exactly len bytes of the kernel file, or -ENOEXEC with a sentence. */
int boot_read(struct boot *boot, uint64_t offset, void *buf, size_t len);
/* May an image occupy [addr, addr+size)? False if it is below 1 MiB and not where it may be.
 * Whether it is inside RAM is for the caller. */
bool boot_may_hold(uint64_t addr, uint64_t size);
/* File to guest memory, the range already checked against RAM by the caller or refused here. */
int boot_copy(struct boot *boot, int fd, const char *field, uint64_t offset, uint64_t gpa,
	      uint64_t len);
/* Writes one of our own structures; low memory is always there. */
void boot_put(struct boot *boot, uint64_t gpa, const void *buf, size_t len);
/* Command line with NUL at BOOT_CMDLINE; max is what the kernel takes. */
int boot_put_cmdline(struct boot *boot, uint64_t max);
/* Loads the initrd, if any, as high as possible in [boot->kernel_end, last], below 4 GiB, or above
 * if `high` and there is no room below. Sets boot->initrd. -EFBIG. */
int boot_load_initrd(struct boot *boot, uint64_t last, bool high);

/* GDT, and for BOOT_LONG64 the page tables (boot_entry.c). */
void boot_put_tables(struct memory *memory, enum boot_mode mode);

/* Each of these returns 1 if the image is not of its kind. */
int boot_bzimage(struct boot *boot, struct boot_entry *ret_entry);
int boot_pvh(struct boot *boot, struct boot_entry *ret_entry);
int boot_multiboot(struct boot *boot, struct boot_entry *ret_entry);

struct boot_elf { /* what both of the ELF users need */
	uint64_t entry;
	bool has_pvh;
	uint64_t pvh_entry;
};
/* Reads the headers; 1 if it is no x86 ELF executable. */
int boot_elf_parse(struct boot *boot, struct boot_elf *ret_elf);
/* Loads the PT_LOAD segments at their physical addresses, sets boot->kernel_end. */
int boot_elf_load(struct boot *boot);

#endif
