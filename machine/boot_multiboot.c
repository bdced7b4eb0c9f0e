/* SPDX-License-Identifier: Apache-2.0 */
/* boot_multiboot.c - Multiboot Specification 0.6.96: ELF images and flat ones with addresses. */
#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "machine/boot_internal.h"
#include "machine/memory.h"
#include "machine/pc.h"

#define SEARCH 8192
#define HEADER_MAGIC 0x1badb002u
#define BOOT_MAGIC 0x2badb002u
#define WANTS_VIDEO 0x00000004u
#define KNOWN_NEEDS 0x00000003u /* page-aligned modules, memory information */
#define MUST_MASK 0x0000ffffu
#define HAS_ADDRESSES 0x00010000u
#define HEADER_SIZE 12
#define HEADER_SIZE_ADDRESSES 32

struct mb_header {
	uint64_t offset; /* in the file */
	uint32_t flags;
	uint32_t header_addr, load_addr, load_end, bss_end, entry;
};

/* Returns 1 if there is none. */
static int find_header(struct boot *boot, struct mb_header *ret)
{
	size_t len = boot->kernel_size < SEARCH ? (size_t)boot->kernel_size : SEARCH;
	uint8_t head[SEARCH];
	int r = boot_read(boot, 0, head, len);

	if (r < 0)
		return r;
	for (size_t at = 0; range_inside(at, HEADER_SIZE, len); at += 4) {
		const uint8_t *p = head + at;

		if (get_le32(p) != HEADER_MAGIC ||
		    get_le32(p) + get_le32(p + 4) + get_le32(p + 8) != 0)
			continue;
		*ret = (struct mb_header){ .offset = at, .flags = get_le32(p + 4) };
		if (!(ret->flags & HAS_ADDRESSES))
			return 0;
		if (!range_inside(at, HEADER_SIZE_ADDRESSES, len))
			return boot_fail(boot, -ENOEXEC, "kernel: multiboot header cut short");
		ret->header_addr = get_le32(p + 12);
		ret->load_addr = get_le32(p + 16);
		ret->load_end = get_le32(p + 20);
		ret->bss_end = get_le32(p + 24);
		ret->entry = get_le32(p + 28);
		return 0;
	}
	return 1;
}

/* Specification 3.1.3: where in the file the image starts follows from header_addr. */
static int load_flat(struct boot *boot, const struct mb_header *header)
{
	uint64_t before, offset, size, end;

	if (!checked_sub((uint64_t)header->header_addr, (uint64_t)header->load_addr, &before) ||
	    !checked_sub(header->offset, before, &offset))
		return boot_fail(boot, -ENOEXEC, "kernel: multiboot load address above its header");
	size = boot->kernel_size - offset;
	if (header->load_end) {
		if (header->load_end < header->load_addr ||
		    header->load_end - header->load_addr > size)
			return boot_fail(boot, -ENOEXEC,
					 "kernel: multiboot load range outside the file");
		size = header->load_end - header->load_addr;
	}
	end = header->load_addr + size;
	if (header->bss_end > end)
		end = header->bss_end;
	if (!boot_may_hold(header->load_addr, end - header->load_addr))
		return boot_fail(boot, -ENOEXEC,
				 "kernel: multiboot load address 0x%x, where the boot loader is",
				 header->load_addr);
	if (end > memory_low_size(boot->memory))
		return boot_fail(boot, -EFBIG, "kernel: the multiboot image is outside memory");
	boot->kernel_end = end;
	if (mem_zero(boot->memory, header->load_addr + size, end - header->load_addr - size) < 0)
		return boot_fail(boot, -EFBIG, "kernel: the multiboot image is outside memory");
	return boot_copy(boot, boot->request->kernel_fd, "kernel", offset, header->load_addr, size);
}

#define INFO_MEMORY 0x001u
#define INFO_CMDLINE 0x004u
#define INFO_MODULES 0x008u
#define INFO_MMAP 0x040u
#define INFO_NAME 0x200u
#define INFO_SIZE 116
#define MODULES (BOOT_INFO + 0x80)
#define NAME (BOOT_INFO + 0xa0)
#define MMAP (BOOT_INFO + 0x100)

static void put_info(struct boot *boot)
{
	static const char name[] = "vmxd";
	struct boot_range ranges[BOOT_RANGES_MAX];
	size_t count = boot_memory_map(boot->memory, ranges);
	uint8_t info[INFO_SIZE] = { 0 }, module[16] = { 0 }, entry[24];
	uint32_t flags = INFO_MEMORY | INFO_CMDLINE | INFO_MMAP | INFO_NAME;

	put_le32(info + 4, PC_EBDA / 1024);
	put_le32(info + 8, (uint32_t)((memory_low_size(boot->memory) - PC_BIOS_END) / 1024));
	put_le32(info + 16, BOOT_CMDLINE);
	if (boot->initrd_size) {
		flags |= INFO_MODULES;
		put_le32(info + 20, 1);
		put_le32(info + 24, MODULES);
		put_le32(module, (uint32_t)boot->initrd);
		put_le32(module + 4, (uint32_t)(boot->initrd + boot->initrd_size));
		boot_put(boot, MODULES, module, sizeof(module));
	}
	put_le32(info + 44, (uint32_t)(count * sizeof(entry)));
	put_le32(info + 48, MMAP);
	put_le32(info + 64, NAME);
	put_le32(info, flags);
	boot_put(boot, BOOT_INFO, info, sizeof(info));
	boot_put(boot, NAME, name, sizeof(name));
	for (size_t i = 0; i < count; i++) {
		put_le32(entry, sizeof(entry) - 4);
		put_le64(entry + 4, ranges[i].addr);
		put_le64(entry + 12, ranges[i].size);
		put_le32(entry + 20, ranges[i].type);
		boot_put(boot, MMAP + i * sizeof(entry), entry, sizeof(entry));
	}
}

int boot_multiboot(struct boot *boot, struct boot_entry *ret_entry)
{
	struct mb_header header;
	struct boot_elf elf;
	uint64_t entry;
	int r = find_header(boot, &header);

	if (r)
		return r;
	if (header.flags & MUST_MASK & ~KNOWN_NEEDS)
		return boot_fail(boot, -ENOEXEC, header.flags & WANTS_VIDEO ?
				 "kernel: multiboot image that needs a video mode" :
				 "kernel: multiboot image with unknown needs");
	if (header.flags & HAS_ADDRESSES) {
		entry = header.entry;
		r = load_flat(boot, &header);
	} else {
		r = boot_elf_parse(boot, &elf);
		if (r > 0)
			return boot_fail(boot, -ENOEXEC,
					 "kernel: multiboot without addresses, and no ELF");
		entry = elf.entry;
		if (r >= 0)
			r = boot_elf_load(boot);
	}
	if (r >= 0 && (entry < BOOT_IMAGE_LOW || entry >= boot->kernel_end))
		r = boot_fail(boot, -ENOEXEC, "kernel: multiboot entry 0x%llx outside the image",
			      (unsigned long long)entry);
	if (r >= 0)
		r = boot_put_cmdline(boot, BOOT_CMDLINE_MAX);
	if (r >= 0)
		r = boot_load_initrd(boot, UINT32_MAX, false);
	if (r < 0)
		return r;
	put_info(boot);
	*ret_entry = (struct boot_entry){
		.protocol = "multiboot",
		.mode = BOOT_PROTECTED32,
		.rip = entry,
		.rsp = BOOT_STACK,
		.rax = BOOT_MAGIC,
		.rbx = BOOT_INFO,
	};
	return 0;
}
