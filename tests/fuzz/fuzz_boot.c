/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Boot images: a valid one of a kind that the input chooses, with some fields changed. Whatever is
 * in it, loading ends with an entry inside RAM or with one sentence.
 */
#include <config.h>

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "machine/boot.h"
#include "machine/memory.h"
#include "tests/fuzz/input.h"

#define IMAGE_SIZE 0x3000u
#define NOTE_OFFSET 0x300u
#define CODE_OFFSET 0x1000u
#define RAM (8u << 20)

static void put_bzimage(uint8_t *b)
{
	b[0x1f1] = 3;
	put_le16(b + 0x1fe, 0xaa55);
	put_le16(b + 0x200, 0x66eb);
	memcpy(b + 0x202, "HdrS", 4);
	put_le16(b + 0x206, 0x20f);
	b[0x211] = 1;
	put_le32(b + 0x22c, 0x7fffffff);
	put_le32(b + 0x230, 0x100000);
	b[0x234] = 1;
	put_le16(b + 0x236, 3);
	put_le32(b + 0x238, 2047);
	put_le64(b + 0x258, 0x200000);
	put_le32(b + 0x260, 0x10000);
}

static void put_notes(uint8_t *b)
{
	put_le32(b, 4);
	put_le32(b + 4, 4);
	put_le32(b + 8, 18);
	memcpy(b + 12, "Xen", 4);
	put_le32(b + 16, 0x200000);
}

static void put_elf64(uint8_t *b)
{
	Elf64_Ehdr h = { .e_ident = ELFMAG "\2\1\1", .e_type = ET_EXEC, .e_machine = EM_X86_64,
			 .e_entry = 0x200010, .e_phoff = sizeof(h),
			 .e_phentsize = sizeof(Elf64_Phdr), .e_phnum = 2 };
	Elf64_Phdr p[2] = { { .p_type = PT_LOAD, .p_offset = CODE_OFFSET, .p_paddr = 0x200000,
			      .p_filesz = 0x1000, .p_memsz = 0x2000 },
			    { .p_type = PT_NOTE, .p_offset = NOTE_OFFSET, .p_filesz = 20 } };

	memcpy(b, &h, sizeof(h));
	memcpy(b + sizeof(h), p, sizeof(p));
	put_notes(b + NOTE_OFFSET);
}

static void put_elf32(uint8_t *b)
{
	Elf32_Ehdr h = { .e_ident = ELFMAG "\1\1\1", .e_type = ET_EXEC, .e_machine = EM_386,
			 .e_entry = 0x200010, .e_phoff = sizeof(h),
			 .e_phentsize = sizeof(Elf32_Phdr), .e_phnum = 2 };
	Elf32_Phdr p[2] = { { .p_type = PT_LOAD, .p_offset = CODE_OFFSET, .p_paddr = 0x200000,
			      .p_filesz = 0x1000, .p_memsz = 0x2000 },
			    { .p_type = PT_NOTE, .p_offset = NOTE_OFFSET, .p_filesz = 20 } };

	memcpy(b, &h, sizeof(h));
	memcpy(b + sizeof(h), p, sizeof(p));
	put_notes(b + NOTE_OFFSET);
}

static void put_multiboot(uint8_t *b)
{
	uint32_t h[8] = { 0x1badb002, 0x10003, 0, 0x200000, 0x200000, 0, 0x204000, 0x200020 };

	h[2] = -(h[0] + h[1]);
	memcpy(b + 0x80, h, sizeof(h));
}

/* The field at a place where fields are, or any byte of the headers. */
static void change(struct input *in, uint8_t *b, unsigned kind)
{
	static const uint16_t places[][12] = {
		{ 0x1f1, 0x1fe, 0x202, 0x206, 0x211, 0x22c, 0x230, 0x234, 0x236, 0x238, 0x258,
		  0x260 },
		{ 4, 16, 18, 24, 32, 54, 56, 64, 72, 88, 96, 104 },
		{ 4, 16, 18, 24, 28, 42, 44, 52, 56, 64, 68, 72 },
		{ 0x80, 0x84, 0x88, 0x8c, 0x90, 0x94, 0x98, 0x9c, 0xa0, 0xa4, 0, 4 },
	};
	static const uint8_t sizes[] = { 1, 2, 4, 8 };
	unsigned at = rarely(in) ? input16(in) % 0x400 : places[kind][pick(in, 12)];
	uint64_t value = rarely(in) ? input64(in) : input_edge(in);

	if (pick(in, 4) == 0)
		at = NOTE_OFFSET + pick(in, 20);
	memcpy(b + at, &value, sizes[pick(in, 4)]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const kinds[])(uint8_t *) = { put_bzimage, put_elf64, put_elf32,
						    put_multiboot };
	struct input in = { data, size };
	unsigned kind = pick(&in, 4), changes = pick(&in, 4);
	struct boot_request request = { .initrd_fd = -1, .cmdline = "words", .rsdp = 0xe0000 };
	uint8_t *image = calloc(1, IMAGE_SIZE);
	size_t len = rarely(&in) ? input16(&in) % IMAGE_SIZE : IMAGE_SIZE;
	struct boot_entry entry;
	struct memory *memory;
	char *error;
	int r;

	if (!image || memory_create(RAM, &memory) < 0)
		abort();
	kinds[kind](image);
	for (unsigned i = 0; i < changes; i++)
		change(&in, image, kind);
	request.kernel_fd = memfd_create("kernel", MFD_CLOEXEC);
	if (request.kernel_fd < 0 || write(request.kernel_fd, image, len) != (ssize_t)len)
		abort();
	if (pick(&in, 2)) {
		request.initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
		if (request.initrd_fd < 0 ||
		    ftruncate(request.initrd_fd, (off_t)(input_edge(&in) & 0xffffff)))
			abort();
	}
	r = boot_load(memory, &request, &entry, &error);
	if (r > 0 || (r == 0) != !error || (r == 0 && !mem_valid(memory, entry.rip, 1)) ||
	    (error && !strchr(error, ':')))
		abort();
	if (!changes && len == IMAGE_SIZE && request.initrd_fd < 0 && r < 0)
		abort(); /* untouched, it loads */
	free(error);
	free(image);
	close(request.kernel_fd);
	if (request.initrd_fd >= 0)
		close(request.initrd_fd);
	memory_destroy(memory);
	return 0;
}
