/* SPDX-License-Identifier: Apache-2.0 */
/* Boot protocols from images made here, good and broken. */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "machine/boot.h"
#include "machine/memory.h"
#include "machine/pc.h"
#include "tests/unit/unit.h"

#define MIB (1ull << 20)
#define IMAGE_MAX 0x4000

struct image {
	uint8_t bytes[IMAGE_MAX];
	size_t len;
};

struct load {
	struct memory *memory;
	struct boot_entry entry;
	char *error;
	int result;
};

static int file_of(const void *bytes, size_t len)
{
	int fd = memfd_create("image", MFD_CLOEXEC);

	CU_ASSERT_FATAL(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
	return fd;
}

static void load_open(struct load *load, const struct image *image, uint64_t memory,
		      size_t initrd_len, const char *cmdline)
{
	struct boot_request request = { .initrd_fd = -1, .cmdline = cmdline, .rsdp = PC_BIOS };

	request.kernel_fd = file_of(image->bytes, image->len);
	if (initrd_len) {
		request.initrd_fd = memfd_create("initrd", MFD_CLOEXEC);
		CU_ASSERT_FATAL(ftruncate(request.initrd_fd, (off_t)initrd_len) == 0);
		CU_ASSERT_FATAL(pwrite(request.initrd_fd, "first", 5, 0) == 5);
		CU_ASSERT_FATAL(pwrite(request.initrd_fd, "last", 4, (off_t)initrd_len - 4) == 4);
	}
	CU_ASSERT_FATAL(memory_create(memory, &load->memory) == 0);
	load->result = boot_load(load->memory, &request, &load->entry, &load->error);
	close(request.kernel_fd);
	if (request.initrd_fd >= 0)
		close(request.initrd_fd);
}

static void load_close(struct load *load)
{
	free(load->error);
	memory_destroy(load->memory);
}

static uint64_t peek(const struct load *load, uint64_t gpa, unsigned size)
{
	uint64_t v = 0;

	CU_ASSERT(mem_read(load->memory, gpa, &v, size) == 0);
	return v;
}

/* --- bzImage ---------------------------------------------------------------------------------- */

static void make_bzimage(struct image *image)
{
	uint8_t *b = image->bytes;

	memset(image, 0, sizeof(*image));
	image->len = 0x2000;
	b[0x1f1] = 3; /* four sectors of setup */
	put_le16(b + 0x1fe, 0xaa55);
	put_le16(b + 0x200, 0x66eb);
	memcpy(b + 0x202, "HdrS", 4);
	put_le16(b + 0x206, 0x20f);
	b[0x211] = 1;
	put_le32(b + 0x22c, 0x7fffffff);
	put_le32(b + 0x230, 0x200000);
	b[0x234] = 1;
	put_le16(b + 0x236, 3);
	put_le32(b + 0x238, 2047);
	put_le64(b + 0x258, 0x1000000);
	put_le32(b + 0x260, 0x800000);
	for (size_t i = 0x800; i < image->len; i++)
		b[i] = (uint8_t)(i * 13);
}

static void test_bzimage(void)
{
	struct image image;
	struct load l;
	uint8_t back[0x1800];
	uint64_t initrd;

	make_bzimage(&image);
	load_open(&l, &image, 64 * MIB, 100000, "console=ttyS0");
	CU_ASSERT_FATAL(l.result == 0);
	CU_ASSERT_STRING_EQUAL(l.entry.protocol, "bzimage");
	CU_ASSERT(l.entry.mode == BOOT_LONG64 && l.entry.rip == 0x1000200);
	CU_ASSERT(mem_read(l.memory, 0x1000000, back, sizeof(back)) == 0);
	CU_ASSERT(!memcmp(back, image.bytes + 0x800, sizeof(back)));
	CU_ASSERT(peek(&l, l.entry.rsi + 0x202, 4) == 0x53726448);
	CU_ASSERT(peek(&l, l.entry.rsi + 0x210, 1) == 0xff);
	CU_ASSERT(peek(&l, l.entry.rsi + 0x70, 8) == PC_BIOS);
	/* "console=" */
	CU_ASSERT(peek(&l, peek(&l, l.entry.rsi + 0x228, 4), 8) == 0x3d656c6f736e6f63);
	initrd = peek(&l, l.entry.rsi + 0x218, 4);
	CU_ASSERT(peek(&l, l.entry.rsi + 0x21c, 4) == 100000);
	CU_ASSERT(initrd % 4096 == 0 && initrd >= 0x1800000 && initrd + 100000 <= 64 * MIB);
	CU_ASSERT(peek(&l, initrd, 5) == 0x7473726966 && peek(&l, initrd + 99996, 4) == 0x7473616c);
	/* Memory map: sorted, no overlap, all of RAM but the hole below 1 MiB. */
	{
		unsigned n = (unsigned)peek(&l, l.entry.rsi + 0x1e8, 1);
		uint64_t end = 0, ram = 0;

		for (unsigned i = 0; i < n; i++) {
			uint64_t at = l.entry.rsi + 0x2d0 + i * 20, addr = peek(&l, at, 8);

			CU_ASSERT(addr >= end);
			end = addr + peek(&l, at + 8, 8);
			ram += peek(&l, at + 16, 4) == 1 ? peek(&l, at + 8, 8) : 0;
		}
		CU_ASSERT(ram == 63 * MIB + PC_EBDA);
	}
	/* The first 4 GiB are mapped one to one. */
	for (uint64_t va = 0; va < 4096 * MIB; va += 1022 * MIB) {
		uint64_t e = peek(&l, 0x3000 + (va >> 39) * 8, 8);

		e = peek(&l, (e & ~0xfffull) + (va >> 30 & 511) * 8, 8);
		e = peek(&l, (e & ~0xfffull) + (va >> 21 & 511) * 8, 8);
		CU_ASSERT(e == ((va & ~0x1fffffull) | 0x83));
	}
	load_close(&l);
}

/* A 32-bit kernel begins where it is loaded, without paging; its initrd is below 4 GiB. */
static void test_bzimage32(void)
{
	struct image image;
	struct load l;

	make_bzimage(&image);
	put_le16(image.bytes + 0x236, 0);
	load_open(&l, &image, 64 * MIB, 100000, "console=ttyS0");
	CU_ASSERT_FATAL(l.result == 0);
	CU_ASSERT(l.entry.mode == BOOT_PROTECTED32 && l.entry.rip == 0x1000000);
	CU_ASSERT(!l.entry.rbx && peek(&l, l.entry.rsi + 0x202, 4) == 0x53726448);
	CU_ASSERT(peek(&l, l.entry.rsi + 0x214, 4) == 0x1000000);
	CU_ASSERT(peek(&l, l.entry.rsi + 0xc0, 4) == 0);
	CU_ASSERT(peek(&l, peek(&l, l.entry.rsi + 0x218, 4), 5) == 0x7473726966);
	load_close(&l);
}

static void test_bzimage_places(void)
{
	struct image image;
	struct load l;

	/* Does not fit at its preferred address, from which a Linux does not go down: refused. */
	make_bzimage(&image);
	load_open(&l, &image, 20 * MIB, 0, NULL);
	CU_ASSERT(l.result == -EFBIG && !strcmp(l.error, "kernel: needs 24 MiB of guest memory, "
							"and 20 are there"));
	load_close(&l);
	/* None that is ours: moved. */
	put_le64(image.bytes + 0x258, 0);
	load_open(&l, &image, 20 * MIB, 0, NULL);
	CU_ASSERT(l.result == 0 && l.entry.rip == 0x200200);
	CU_ASSERT(peek(&l, l.entry.rsi + 0x218, 8) == 0);
	load_close(&l);
	/* Not below initrd_addr_max: above 4 GiB if the kernel takes it there. */
	make_bzimage(&image);
	put_le32(image.bytes + 0x22c, 0x1ffffff);
	load_open(&l, &image, 5000 * MIB, 100 * MIB, NULL);
	CU_ASSERT(l.result == 0);
	CU_ASSERT(peek(&l, l.entry.rsi + 0xc0, 4) == 1 && peek(&l, l.entry.rsi + 0xc4, 4) == 0);
	CU_ASSERT(peek(&l, peek(&l, l.entry.rsi + 0x218, 4) | 1ull << 32, 5) == 0x7473726966);
	load_close(&l);
	put_le16(image.bytes + 0x236, 1);
	load_open(&l, &image, 5000 * MIB, 100 * MIB, NULL);
	CU_ASSERT(l.result == -EFBIG && !strncmp(l.error, "initrd: ", 8));
	load_close(&l);
	/* The bound itself is kept. */
	load_open(&l, &image, 5000 * MIB, MIB, NULL);
	CU_ASSERT(l.result == 0 && peek(&l, l.entry.rsi + 0x218, 4) + MIB == 0x2000000);
	load_close(&l);
}

static const struct bad_bzimage {
	unsigned offset, size;
	uint64_t value;
	int result;
	const char *error; /* how it begins */
} bad_bzimages[] = {
	{ 0x206, 2, 0x20b, -ENOEXEC, "kernel: boot protocol 2.11" },
	{ 0x211, 1, 0, -ENOEXEC, "kernel: a zImage" },
	{ 0x230, 4, 0, -ENOEXEC, "kernel: alignment" },
	{ 0x230, 4, 0x3000, -ENOEXEC, "kernel: alignment" },
	{ 0x1f1, 1, 255, -ENOEXEC, "kernel: the file ends in its setup" },
	{ 0x260, 4, 0xffffffff, -EFBIG, "kernel: needs 4112 MiB of guest memory, and 64 are" },
	{ 0x202, 4, 0, -ENOEXEC, "kernel: not a bzImage, PVH ELF or multiboot image" },
	{ 0x1fe, 2, 0, -ENOEXEC, "kernel: not a bzImage" },
	{ 0x238, 4, 5, -EINVAL, "cmdline: 13 bytes, this kernel takes at most 5" },
};

static void test_bzimage_bad(void)
{
	struct image image;
	struct load l;

	for (size_t i = 0; i < sizeof(bad_bzimages) / sizeof(bad_bzimages[0]); i++) {
		const struct bad_bzimage *bad = &bad_bzimages[i];

		make_bzimage(&image);
		memcpy(image.bytes + bad->offset, &bad->value, bad->size);
		load_open(&l, &image, 64 * MIB, 0, "console=ttyS0");
		CU_ASSERT(l.result == bad->result);
		CU_ASSERT(l.error && !strncmp(l.error, bad->error, strlen(bad->error)));
		load_close(&l);
	}
	make_bzimage(&image);
	put_le64(image.bytes + 0x258, 0xfffffffffffff000);
	load_open(&l, &image, 64 * MIB, 0, NULL);
	CU_ASSERT(l.result == -EFBIG && !strncmp(l.error, "kernel: wants to be at 0xf", 26));
	load_close(&l);
	put_le64(image.bytes + 0x258, 0); /* and cannot be moved */
	image.bytes[0x234] = 0;
	load_open(&l, &image, 64 * MIB, 0, NULL);
	CU_ASSERT(l.result == -EFBIG && !strcmp(l.error, "kernel: wants to be at 0x0"));
	load_close(&l);
	make_bzimage(&image);
	load_open(&l, &image, 64 * MIB, 64 * MIB, NULL);
	CU_ASSERT(l.result == -EFBIG && !strncmp(l.error, "initrd: 67108864 bytes", 22));
	load_close(&l);
}

static void test_cut_short(void)
{
	struct image image;
	struct load l;

	/* Every length that ends in the headers is refused, and says why. */
	for (size_t len = 0; len <= 0xa00; len += 16) {
		make_bzimage(&image);
		image.len = len;
		load_open(&l, &image, 64 * MIB, 0, NULL);
		CU_ASSERT(l.result == -ENOEXEC && l.error);
		load_close(&l);
	}
}

static void test_not_files(void)
{
	struct boot_request request = { .initrd_fd = -1 };
	struct boot_entry entry;
	struct memory *memory = NULL;
	char *error;
	int fds[2];

	CU_ASSERT_FATAL(pipe(fds) == 0 && memory_create(64 * MIB, &memory) == 0);
	request.kernel_fd = fds[0];
	CU_ASSERT(boot_load(memory, &request, &entry, &error) == -EINVAL);
	CU_ASSERT_STRING_EQUAL(error, "kernel: not a regular file");
	free(error);
	close(fds[0]);
	close(fds[1]);
	CU_ASSERT(boot_load(memory, &request, &entry, &error) == -EBADF);
	free(error);
	memory_destroy(memory);
}

/* --- ELF -------------------------------------------------------------------------------------- */

#define ELF_CODE 0x1000
#define ELF_NOTE 0x200

/* One segment at 2 MiB with some bss, one note with the PVH entry. */
static void make_elf(struct image *image, bool note)
{
	Elf64_Ehdr *h = (Elf64_Ehdr *)image->bytes;
	Elf64_Phdr *p = (Elf64_Phdr *)(image->bytes + sizeof(*h));
	uint32_t *n = (uint32_t *)(image->bytes + ELF_NOTE);

	memset(image, 0, sizeof(*image));
	image->len = 0x2000;
	memcpy(h->e_ident, ELFMAG, SELFMAG);
	h->e_ident[EI_CLASS] = ELFCLASS64;
	h->e_ident[EI_DATA] = ELFDATA2LSB;
	h->e_type = ET_EXEC;
	h->e_machine = EM_X86_64;
	h->e_entry = 0x200100;
	h->e_phoff = sizeof(*h);
	h->e_phentsize = sizeof(*p);
	h->e_phnum = 2;
	p[0] = (Elf64_Phdr){ .p_type = PT_LOAD, .p_offset = ELF_CODE, .p_paddr = 0x200000,
			     .p_vaddr = 0xffffffff80200000, .p_filesz = 0x1000, .p_memsz = 0x3000 };
	p[1] = (Elf64_Phdr){ .p_type = PT_NOTE, .p_offset = ELF_NOTE,
			     .p_filesz = note ? 44 : 0, .p_align = 4 };
	n[0] = 4; /* somebody else's first */
	n[1] = 4;
	n[2] = 1;
	memcpy(&n[3], "GNU", 4);
	n[5] = 4;
	n[6] = 8;
	n[7] = 18;
	memcpy(&n[8], "Xen", 4);
	n[9] = 0x200040;
	memset(image->bytes + ELF_CODE, 0x90, 0x1000);
}

static void test_pvh(void)
{
	struct image image;
	struct load l;
	uint64_t module;

	make_elf(&image, true);
	load_open(&l, &image, 64 * MIB, 5000, "hello");
	CU_ASSERT_FATAL(l.result == 0);
	CU_ASSERT_STRING_EQUAL(l.entry.protocol, "pvh");
	CU_ASSERT(l.entry.mode == BOOT_PROTECTED32 && l.entry.rip == 0x200040);
	CU_ASSERT(peek(&l, 0x200ffc, 4) == 0x90909090 && peek(&l, 0x201000, 8) == 0);
	CU_ASSERT(peek(&l, l.entry.rbx, 4) == 0x336ec578 && peek(&l, l.entry.rbx + 4, 4) == 1);
	CU_ASSERT(peek(&l, l.entry.rbx + 12, 4) == 1);
	module = peek(&l, l.entry.rbx + 16, 8);
	CU_ASSERT(peek(&l, module + 8, 8) == 5000);
	CU_ASSERT(peek(&l, peek(&l, module, 8), 5) == 0x7473726966);
	CU_ASSERT(peek(&l, peek(&l, l.entry.rbx + 24, 8), 6) == 0x6f6c6c6568);
	CU_ASSERT(peek(&l, l.entry.rbx + 32, 8) == PC_BIOS);
	CU_ASSERT(peek(&l, l.entry.rbx + 48, 4) == 6);
	load_close(&l);
}

/* The bss is zeroed even where something was (a guest reset loads again). */
static void test_bss(void)
{
	struct boot_request request = { .initrd_fd = -1 };
	struct boot_entry entry;
	struct memory *memory;
	struct image image;
	uint32_t v = 0;
	char *error;

	make_elf(&image, true);
	request.kernel_fd = file_of(image.bytes, image.len);
	CU_ASSERT_FATAL(memory_create(64 * MIB, &memory) == 0);
	for (int i = 0; i < 2; i++) {
		CU_ASSERT(mem_store32(memory, 0x202ffc, 0x12345678) == 0);
		CU_ASSERT(mem_store32(memory, 0x200000, 0x12345678) == 0);
		CU_ASSERT(boot_load(memory, &request, &entry, &error) == 0);
		CU_ASSERT(mem_load32(memory, 0x202ffc, &v) == 0 && v == 0);
		CU_ASSERT(mem_load32(memory, 0x200000, &v) == 0 && v == 0x90909090);
	}
	memory_destroy(memory);
	close(request.kernel_fd);
}

static void test_elf_bad(void)
{
	static const struct {
		unsigned offset, size;
		uint64_t value;
		int result;
		const char *error;
	} cases[] = {
#define HDR(field) offsetof(Elf64_Ehdr, field), sizeof(((Elf64_Ehdr *)0)->field)
#define SEG(field) \
	sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, field), sizeof(((Elf64_Phdr *)0)->field)
#define NOTE(field)                                                           \
	sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + offsetof(Elf64_Phdr, field), \
		sizeof(((Elf64_Phdr *)0)->field)
		{ EI_CLASS, 1, 7, -ENOEXEC, "kernel: not a" },
		{ EI_DATA, 1, ELFDATA2MSB, -ENOEXEC, "kernel: not a" },
		{ HDR(e_machine), EM_AARCH64, -ENOEXEC, "kernel: an ELF file for another" },
		{ HDR(e_type), ET_REL, -ENOEXEC, "kernel: an ELF file that is not exec" },
		{ HDR(e_phnum), 0, -ENOEXEC, "kernel: an ELF file with 0" },
		{ HDR(e_phnum), 0xffff, -ENOEXEC, "kernel: an ELF file with 65535" },
		{ HDR(e_phentsize), 8, -ENOEXEC, "kernel: ELF program headers too short" },
		{ HDR(e_phoff), UINT64_MAX, -ENOEXEC, "kernel: " },
		{ HDR(e_phoff), 0x1ff0, -ENOEXEC, "kernel: the file ends" },
		{ SEG(p_offset), 0x1800, -ENOEXEC, "kernel: an ELF segment outside the file" },
		{ SEG(p_offset), UINT64_MAX, -ENOEXEC, "kernel: an ELF segment outside the file" },
		{ SEG(p_filesz), 0x4000, -ENOEXEC, "kernel: an ELF segment longer" },
		{ SEG(p_memsz), 1ull << 40, -EFBIG, "kernel: its ELF segments" },
		{ SEG(p_memsz), UINT64_MAX, -EFBIG, "kernel: its ELF segments" },
		{ SEG(p_memsz), 63 * MIB, -EFBIG, "kernel: an ELF segment of 66060288" },
		{ SEG(p_paddr), 0xff000, -ENOEXEC, "kernel: an ELF segment at 0xff000" },
		{ SEG(p_paddr), 0x2000, -ENOEXEC, "kernel: an ELF segment at 0x2000" },
		{ SEG(p_paddr), 0x8e000, -ENOEXEC, "kernel: an ELF segment at 0x8e000" },
		{ SEG(p_paddr), 0x8d000, -ENOEXEC, "kernel: PVH entry 0x200040 outside" },
		{ SEG(p_paddr), PC_ECAM, -EFBIG, "kernel: an ELF segment of" },
		{ SEG(p_paddr), UINT64_MAX - 0xfff, -EFBIG, "kernel: an ELF segment of" },
		{ SEG(p_type), PT_NULL, -ENOEXEC, "kernel: an ELF file with nothing" },
		{ NOTE(p_offset), 0x1ff0, -ENOEXEC, "kernel: ELF notes outside" },
		{ NOTE(p_filesz), 1 << 20, -ENOEXEC, "kernel: ELF notes of 1048576" },
		{ NOTE(p_filesz), 30, -ENOEXEC, "kernel: not a" },
		{ ELF_NOTE, 4, 0xffffffff, -ENOEXEC, "kernel: not a" },
		{ ELF_NOTE + 32, 4, 0x41414141, -ENOEXEC, "kernel: not a" },
		{ ELF_NOTE + 36, 4, 0x1000, -ENOEXEC, "kernel: PVH entry 0x1000" },
		{ ELF_NOTE + 40, 4, 1, -ENOEXEC, "kernel: PVH entry 0x100200040" },
	};
	struct image image;
	struct load l;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		make_elf(&image, true);
		memcpy(image.bytes + cases[i].offset, &cases[i].value, cases[i].size);
		load_open(&l, &image, 64 * MIB, 0, NULL);
		if (l.result != cases[i].result || !l.error ||
		    strncmp(l.error, cases[i].error, strlen(cases[i].error)))
			printf("case %zu: %d, %s\n", i, l.result, l.error ? l.error : "-");
		CU_ASSERT(l.result == cases[i].result);
		CU_ASSERT(l.error && !strncmp(l.error, cases[i].error, strlen(cases[i].error)));
		load_close(&l);
	}
}

/* --- multiboot -------------------------------------------------------------------------------- */

static void make_flat(struct image *image)
{
	uint32_t *h = (uint32_t *)(image->bytes + 0x100);

	memset(image, 0, sizeof(*image));
	image->len = 0x1000;
	h[0] = 0x1badb002;
	h[1] = 0x10003;
	h[2] = -(h[0] + h[1]);
	h[3] = 0x400100; /* header_addr: the image begins 0x80 before it */
	h[4] = 0x400080;
	h[5] = 0x400880;
	h[6] = 0x402000;
	h[7] = 0x400200;
	memset(image->bytes + 0x120, 0x55, image->len - 0x120);
}

static void test_multiboot_flat(void)
{
	static const struct {
		unsigned index;
		uint32_t value;
		int result;
		const char *error;
	} cases[] = {
		{ 1, 0x10004, -ENOEXEC, "kernel: multiboot image that needs a video" },
		{ 1, 0x18003, -ENOEXEC, "kernel: multiboot image with unknown needs" },
		{ 1, 0x3, -ENOEXEC, "kernel: multiboot without addresses" },
		{ 2, 0, -ENOEXEC, "kernel: not a" },
		{ 4, 0x400101, -ENOEXEC, "kernel: multiboot load address above" },
		{ 3, 0x400200, -ENOEXEC, "kernel: multiboot load address above" },
		{ 5, 0x400000, -ENOEXEC, "kernel: multiboot load range" },
		{ 5, 0x500000, -ENOEXEC, "kernel: multiboot load range" },
		{ 6, 0xf0000000, -EFBIG, "kernel: the multiboot image is outside" },
		{ 7, 0x403000, -ENOEXEC, "kernel: multiboot entry" },
	};
	struct image image;
	struct load l;

	make_flat(&image);
	load_open(&l, &image, 64 * MIB, 1000, "words");
	CU_ASSERT_FATAL(l.result == 0);
	CU_ASSERT_STRING_EQUAL(l.entry.protocol, "multiboot");
	CU_ASSERT(l.entry.rip == 0x400200 && l.entry.rax == 0x2badb002);
	CU_ASSERT(peek(&l, 0x40087f, 2) == 0x55 && peek(&l, 0x400100, 4) == 0x1badb002);
	CU_ASSERT(peek(&l, l.entry.rbx, 4) == 0x24d && peek(&l, l.entry.rbx + 4, 4) == 639);
	CU_ASSERT(peek(&l, l.entry.rbx + 8, 4) == 63 * 1024);
	load_close(&l);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint32_t *h = (uint32_t *)(image.bytes + 0x100);

		make_flat(&image);
		h[cases[i].index] = cases[i].value;
		if (cases[i].index == 1)
			h[2] = -(h[0] + h[1]);
		load_open(&l, &image, 64 * MIB, 0, NULL);
		CU_ASSERT(l.result == cases[i].result);
		CU_ASSERT(l.error && !strncmp(l.error, cases[i].error, strlen(cases[i].error)));
		load_close(&l);
	}
	/* Header at the very end of the search range, addresses cut off. */
	memset(&image, 0, sizeof(image));
	image.len = 8192;
	put_le32(image.bytes + 8192 - 12, 0x1badb002);
	put_le32(image.bytes + 8192 - 8, 0x10000);
	put_le32(image.bytes + 8192 - 4, -(0x1badb002u + 0x10000u));
	load_open(&l, &image, 64 * MIB, 0, NULL);
	CU_ASSERT(l.result == -ENOEXEC);
	load_close(&l);
}

static void test_multiboot_elf(void)
{
	struct image image;
	struct load l;
	uint32_t *h = (uint32_t *)(image.bytes + 0x300);

	make_elf(&image, false);
	h[0] = 0x1badb002;
	h[1] = 3;
	h[2] = -(h[0] + h[1]);
	load_open(&l, &image, 64 * MIB, 0, NULL);
	CU_ASSERT(l.result == 0 && l.entry.rip == 0x200100);
	CU_ASSERT_STRING_EQUAL(l.entry.protocol, "multiboot");
	load_close(&l);
}

/* --- mutations -------------------------------------------------------------------------------- */

/* A few bytes of a good image changed at random: any result is right that is one. */
static void test_mutations(void)
{
	uint64_t seed = 2463534242;
	struct image image;
	struct load l;
	unsigned good = 0;

	for (unsigned i = 0; i < 1500; i++) {
		switch (i % 4) {
		case 0: make_bzimage(&image); break;
		case 1: make_elf(&image, true); break;
		case 2: make_elf(&image, false); break;
		default: make_flat(&image); break;
		}
		for (unsigned n = 0; n < 1 + i % 5; n++) {
			static const uint8_t values[] = { 0, 1, 0x7f, 0x80, 0xff };
			unsigned at;

			seed = seed * 6364136223846793005ull + 1442695040888963407ull;
			at = (unsigned)(seed >> 33) % (i % 4 == 1 ? 0x240 : 0x2a0);
			image.bytes[at] = seed >> 20 & 1 ? values[(seed >> 24) % 5] :
							  (uint8_t)(seed >> 56);
		}
		load_open(&l, &image, 32 * MIB, i % 3 ? 0 : 70000, "x");
		CU_ASSERT(l.result == 0 ? !l.error : l.result < 0 && l.error);
		if (l.result == 0) {
			good++;
			CU_ASSERT(mem_valid(l.memory, l.entry.rip, 1));
		}
		load_close(&l);
	}
	CU_ASSERT(good > 300);
}

int main(void)
{
	CU_TestInfo bzimage[] = {
		{ "loaded", test_bzimage },
		{ "of 32 bits", test_bzimage32 },
		{ "places of kernel and initrd", test_bzimage_places },
		{ "broken headers", test_bzimage_bad },
		{ "cut short", test_cut_short },
		{ "no regular files", test_not_files },
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo elf[] = {
		{ "PVH loaded", test_pvh },
		{ "bss cleared", test_bss },
		{ "broken headers", test_elf_bad },
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo multiboot[] = {
		{ "flat, good and broken", test_multiboot_flat },
		{ "ELF", test_multiboot_elf },
		{ "mutations of all kinds", test_mutations },
		CU_TEST_INFO_NULL,
	};

	return UNIT_RUN(
		UNIT_SUITE("bzImage", bzimage),
		UNIT_SUITE("ELF", elf),
		UNIT_SUITE("multiboot", multiboot));
}
