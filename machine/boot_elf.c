/* SPDX-License-Identifier: Apache-2.0 */
/* boot_elf.c - ELF executables: headers, segments, and the PVH entry with its start info. */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "machine/boot_internal.h"
#include "machine/memory.h"

#define PHDRS_MAX 64
#define NOTES_MAX 65536u
#define NOTE_PHYS32_ENTRY 18

/* Both classes, as the wider one. Returns 1 if it is no executable for x86. */
static int read_header(struct boot *boot, Elf64_Ehdr *ret)
{
	Elf32_Ehdr narrow;
	int r;

	if (boot->kernel_size < sizeof(*ret))
		return 1;
	r = boot_read(boot, 0, ret, sizeof(*ret));
	if (r < 0)
		return r;
	if (memcmp(ret->e_ident, ELFMAG, SELFMAG) || ret->e_ident[EI_DATA] != ELFDATA2LSB)
		return 1;
	if (ret->e_ident[EI_CLASS] == ELFCLASS32) {
		memcpy(&narrow, ret, sizeof(narrow));
		ret->e_type = narrow.e_type;
		ret->e_machine = narrow.e_machine;
		ret->e_entry = narrow.e_entry;
		ret->e_phoff = narrow.e_phoff;
		ret->e_phentsize = narrow.e_phentsize;
		ret->e_phnum = narrow.e_phnum;
	} else if (ret->e_ident[EI_CLASS] != ELFCLASS64) {
		return 1;
	}
	if (ret->e_machine != EM_386 && ret->e_machine != EM_X86_64)
		return boot_fail(boot, -ENOEXEC, "kernel: an ELF file for another processor");
	if (ret->e_type != ET_EXEC && ret->e_type != ET_DYN)
		return boot_fail(boot, -ENOEXEC, "kernel: an ELF file that is not executable");
	if (!ret->e_phnum || ret->e_phnum > PHDRS_MAX)
		return boot_fail(boot, -ENOEXEC, "kernel: an ELF file with %u program headers",
				 ret->e_phnum);
	return 0;
}

static int read_segment(struct boot *boot, const Elf64_Ehdr *header, unsigned i, Elf64_Phdr *ret)
{
	bool wide = header->e_ident[EI_CLASS] == ELFCLASS64;
	size_t size = wide ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
	Elf32_Phdr narrow;
	uint64_t at;
	int r;

	if (header->e_phentsize < size)
		return boot_fail(boot, -ENOEXEC, "kernel: ELF program headers too short");
	if (!checked_add(header->e_phoff, (uint64_t)i * header->e_phentsize, &at))
		return boot_fail(boot, -ENOEXEC, "kernel: ELF program headers outside the file");
	if (wide)
		return boot_read(boot, at, ret, sizeof(*ret));
	r = boot_read(boot, at, &narrow, sizeof(narrow));
	if (r < 0)
		return r;
	*ret = (Elf64_Phdr){
		.p_type = narrow.p_type,
		.p_offset = narrow.p_offset,
		.p_paddr = narrow.p_paddr,
		.p_filesz = narrow.p_filesz,
		.p_memsz = narrow.p_memsz,
		.p_align = narrow.p_align,
	};
	return 0;
}

/* Looks for the PVH entry in one PT_NOTE segment. */
static int read_notes(struct boot *boot, const Elf64_Phdr *segment, struct boot_elf *elf)
{
	const uint64_t align = segment->p_align == 8 ? 8 : 4;
	uint64_t at = 0, name, desc, next;
	uint8_t head[12], bytes[8];
	int r;

	if (segment->p_filesz > NOTES_MAX)
		return boot_fail(boot, -ENOEXEC, "kernel: ELF notes of %llu bytes",
				 (unsigned long long)segment->p_filesz);
	if (!range_inside(segment->p_offset, segment->p_filesz, boot->kernel_size))
		return boot_fail(boot, -ENOEXEC, "kernel: ELF notes outside the file");
	while (range_inside(at, sizeof(head), segment->p_filesz)) {
		uint64_t namesz, descsz;

		r = boot_read(boot, segment->p_offset + at, head, sizeof(head));
		if (r < 0)
			return r;
		namesz = get_le32(head);
		descsz = get_le32(head + 4);
		name = at + sizeof(head);
		desc = (name + namesz + align - 1) & ~(align - 1);
		next = (desc + descsz + align - 1) & ~(align - 1);
		if (desc + descsz > segment->p_filesz)
			return 0; /* cut short: nothing more to be had */
		if (get_le32(head + 8) == NOTE_PHYS32_ENTRY && namesz == 4 &&
		    (descsz == 4 || descsz == 8)) {
			r = boot_read(boot, segment->p_offset + name, bytes, 4);
			if (r < 0)
				return r;
			if (!memcmp(bytes, "Xen", 4)) {
				memset(bytes, 0, sizeof(bytes));
				r = boot_read(boot, segment->p_offset + desc, bytes, descsz);
				if (r < 0)
					return r;
				elf->has_pvh = true;
				elf->pvh_entry = get_le64(bytes);
				return 0;
			}
		}
		at = next;
	}
	return 0;
}

int boot_elf_parse(struct boot *boot, struct boot_elf *ret_elf)
{
	Elf64_Ehdr header;
	int r = read_header(boot, &header);

	if (r)
		return r;
	*ret_elf = (struct boot_elf){ .entry = header.e_entry };
	for (unsigned i = 0; i < header.e_phnum && !ret_elf->has_pvh; i++) {
		Elf64_Phdr segment;

		r = read_segment(boot, &header, i, &segment);
		if (r >= 0 && segment.p_type == PT_NOTE)
			r = read_notes(boot, &segment, ret_elf);
		if (r < 0)
			return r;
	}
	return 0;
}

static int load_segment(struct boot *boot, const Elf64_Phdr *segment)
{
	uint64_t end, bss = segment->p_memsz - segment->p_filesz;
	int r;

	if (segment->p_filesz > segment->p_memsz)
		return boot_fail(boot, -ENOEXEC, "kernel: an ELF segment longer in the file");
	if (!range_inside(segment->p_offset, segment->p_filesz, boot->kernel_size))
		return boot_fail(boot, -ENOEXEC, "kernel: an ELF segment outside the file");
	if (!boot_may_hold(segment->p_paddr, segment->p_memsz))
		return boot_fail(boot, -ENOEXEC,
				 "kernel: an ELF segment at 0x%llx, where the boot loader is",
				 (unsigned long long)segment->p_paddr);
	if (!checked_add(segment->p_paddr, segment->p_memsz, &end) ||
	    end > memory_low_size(boot->memory))
		return boot_fail(boot, -EFBIG,
				 "kernel: an ELF segment of %llu bytes at 0x%llx is outside memory",
				 (unsigned long long)segment->p_memsz,
				 (unsigned long long)segment->p_paddr);
	r = boot_copy(boot, boot->request->kernel_fd, "kernel", segment->p_offset,
		      segment->p_paddr, segment->p_filesz);
	if (r >= 0 && mem_zero(boot->memory, segment->p_paddr + segment->p_filesz, bss) < 0)
		r = boot_fail(boot, -EFBIG, "kernel: an ELF segment outside memory");
	if (end > boot->kernel_end)
		boot->kernel_end = end;
	return r;
}

int boot_elf_load(struct boot *boot)
{
	uint64_t total = 0;
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	unsigned loaded = 0;
	int r = read_header(boot, &header);

	if (r)
		return r < 0 ? r : -ENOEXEC;
	for (unsigned i = 0; i < header.e_phnum; i++) {
		r = read_segment(boot, &header, i, &segment);
		if (r < 0)
			return r;
		if (segment.p_type != PT_LOAD || !segment.p_memsz)
			continue;
		/* Many segments over one another would only cost time. */
		if (!checked_add(total, segment.p_memsz, &total) ||
		    total > memory_low_size(boot->memory))
			return boot_fail(boot, -EFBIG,
					 "kernel: its ELF segments are larger than guest memory");
		r = load_segment(boot, &segment);
		if (r < 0)
			return r;
		loaded++;
	}
	if (!loaded)
		return boot_fail(boot, -ENOEXEC, "kernel: an ELF file with nothing to load");
	return 0;
}

/* --- PVH (Xen public/arch-x86/hvm/start_info.h, version 1) ------------------------------------ */

#define START_INFO_MAGIC 0x336ec578u
#define START_INFO_SIZE 56
#define MODLIST (BOOT_INFO + 0x80)
#define MEMMAP (BOOT_INFO + 0x100)

static void put_start_info(struct boot *boot)
{
	struct boot_range ranges[BOOT_RANGES_MAX];
	size_t count = boot_memory_map(boot->memory, ranges);
	uint8_t info[START_INFO_SIZE] = { 0 }, module[32] = { 0 }, entry[24] = { 0 };

	put_le32(info, START_INFO_MAGIC);
	put_le32(info + 4, 1); /* version */
	put_le32(info + 12, boot->initrd_size ? 1 : 0);
	put_le64(info + 16, boot->initrd_size ? MODLIST : 0);
	put_le64(info + 24, BOOT_CMDLINE);
	put_le64(info + 32, boot->request->rsdp);
	put_le64(info + 40, MEMMAP);
	put_le32(info + 48, (uint32_t)count);
	boot_put(boot, BOOT_INFO, info, sizeof(info));
	put_le64(module, boot->initrd);
	put_le64(module + 8, boot->initrd_size);
	boot_put(boot, MODLIST, module, sizeof(module));
	for (size_t i = 0; i < count; i++) {
		put_le64(entry, ranges[i].addr);
		put_le64(entry + 8, ranges[i].size);
		put_le32(entry + 16, ranges[i].type);
		boot_put(boot, MEMMAP + i * sizeof(entry), entry, sizeof(entry));
	}
}

int boot_pvh(struct boot *boot, struct boot_entry *ret_entry)
{
	struct boot_elf elf;
	int r = boot_elf_parse(boot, &elf);

	if (r)
		return r;
	if (!elf.has_pvh)
		return 1;
	r = boot_elf_load(boot);
	if (r >= 0 && (elf.pvh_entry < BOOT_IMAGE_LOW || elf.pvh_entry >= boot->kernel_end))
		r = boot_fail(boot, -ENOEXEC, "kernel: PVH entry 0x%llx outside the image",
			      (unsigned long long)elf.pvh_entry);
	if (r >= 0)
		r = boot_put_cmdline(boot, BOOT_CMDLINE_MAX);
	if (r >= 0)
		r = boot_load_initrd(boot, UINT32_MAX, false);
	if (r < 0)
		return r;
	put_start_info(boot);
	*ret_entry = (struct boot_entry){
		.protocol = "pvh",
		.mode = BOOT_PROTECTED32,
		.rip = elf.pvh_entry,
		.rsp = BOOT_STACK,
		.rbx = BOOT_INFO,
	};
	return 0;
}
