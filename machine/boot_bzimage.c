/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot_bzimage.c - Linux by the 64-bit boot protocol, or, where the kernel is of 32 bits, by the 32-bit
 * one: what the setup header says, the zero page.
 */
#include <errno.h>
#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "machine/boot_internal.h"
#include "machine/memory.h"
#include "machine/pc.h"

/* Offsets in the file and, the same, in the zero page (boot.rst, "The Real-Mode Kernel Header"). */
#define HDR_START 0x1f1
#define HDR_SETUP_SECTS 0x1f1
#define HDR_VIDEO_MODE 0x1fa
#define HDR_JUMP_LEN 0x201
#define HDR_MAGIC 0x202
#define HDR_VERSION 0x206
#define HDR_LOADER 0x210
#define HDR_LOADFLAGS 0x211
#define HDR_CODE32 0x214
#define HDR_INITRD 0x218
#define HDR_INITRD_SIZE 0x21c
#define HDR_CMDLINE 0x228
#define HDR_INITRD_MAX 0x22c
#define HDR_ALIGNMENT 0x230
#define HDR_RELOCATABLE 0x234
#define HDR_XLOADFLAGS 0x236
#define HDR_CMDLINE_SIZE 0x238
#define HDR_PREF_ADDRESS 0x258
#define HDR_INIT_SIZE 0x260
#define HDR_END_MAX 0x290 /* the next field of the zero page */
/* Offsets in the zero page only (boot_params). */
#define ZP_RSDP 0x070
#define ZP_INITRD_HIGH 0x0c0
#define ZP_INITRD_SIZE_HIGH 0x0c4
#define ZP_E820_COUNT 0x1e8
#define ZP_E820 0x2d0

#define LOADED_HIGH 0x01
#define XLF_KERNEL_64 0x0001
#define XLF_ABOVE_4G 0x0002
#define ENTRY_64 0x200

struct bzimage {
	uint16_t version, xloadflags;
	uint64_t payload;   /* offset in the file of the protected-mode part */
	uint64_t alignment, preferred, init_size;
	uint64_t initrd_max, cmdline_size;
	bool relocatable, wide; /* wide: has a 64-bit entry */
};

static int parse(struct boot *boot, const uint8_t *head, struct bzimage *ret)
{
	unsigned sects = head[HDR_SETUP_SECTS] ? head[HDR_SETUP_SECTS] : 4;

	*ret = (struct bzimage){
		.version = get_le16(head + HDR_VERSION),
		.payload = (sects + 1) * 512ull,
		.alignment = get_le32(head + HDR_ALIGNMENT),
		.preferred = get_le64(head + HDR_PREF_ADDRESS),
		.init_size = get_le32(head + HDR_INIT_SIZE),
		.initrd_max = get_le32(head + HDR_INITRD_MAX),
		.cmdline_size = get_le32(head + HDR_CMDLINE_SIZE),
		.relocatable = head[HDR_RELOCATABLE],
		.xloadflags = get_le16(head + HDR_XLOADFLAGS),
	};
	if (ret->version < 0x20c)
		return boot_fail(boot, -ENOEXEC,
				 "kernel: boot protocol %u.%02u is too old, 2.12 is needed",
				 ret->version >> 8, ret->version & 0xff);
	if (!(head[HDR_LOADFLAGS] & LOADED_HIGH))
		return boot_fail(boot, -ENOEXEC, "kernel: a zImage; a bzImage is needed");
	if (!ret->alignment || (ret->alignment & (ret->alignment - 1)))
		return boot_fail(boot, -ENOEXEC, "kernel: alignment 0x%llx is no power of two",
				 (unsigned long long)ret->alignment);
	ret->wide = ret->xloadflags & XLF_KERNEL_64;
	if (ret->payload + (ret->wide ? ENTRY_64 : 0) >= boot->kernel_size)
		return boot_fail(boot, -ENOEXEC, "kernel: the file ends in its setup part");
	return 0;
}

/*
 * At its preferred address or, if that is none of ours and it can be moved, as low as its alignment lets
 * it. Never below the preferred one: that is the lowest address to which a 64-bit Linux unpacks itself,
 * wherever it was loaded, so with too little memory there it would die before its first word.
 */
static int place(struct boot *boot, const struct bzimage *image, uint64_t *ret_load)
{
	uint64_t payload = boot->kernel_size - image->payload;
	uint64_t need = image->init_size > payload ? image->init_size : payload;
	uint64_t low = memory_low_size(boot->memory);
	uint64_t load = image->preferred;

	if (load < BOOT_IMAGE_MIN && image->relocatable)
		load = (BOOT_IMAGE_MIN + image->alignment - 1) & ~(image->alignment - 1);
	if (load < BOOT_IMAGE_MIN || load >= PC_HIGH_RAM)
		return boot_fail(boot, -EFBIG, "kernel: wants to be at 0x%llx",
				 (unsigned long long)load);
	if (!range_inside(load, need, low))
		return boot_fail(boot, -EFBIG,
				 "kernel: needs %llu MiB of guest memory, and %llu are there",
				 (unsigned long long)(load + need + 0xfffff) >> 20,
				 (unsigned long long)low >> 20);
	*ret_load = load;
	boot->kernel_end = load + need;
	return 0;
}

static void put_zero_page(struct boot *boot, const uint8_t *head, uint64_t load)
{
	struct boot_range ranges[BOOT_RANGES_MAX];
	size_t count = boot_memory_map(boot->memory, ranges);
	size_t end = HDR_MAGIC + head[HDR_JUMP_LEN];
	uint8_t zp[4096] = { 0 };

	if (end > HDR_END_MAX)
		end = HDR_END_MAX;
	memcpy(zp + HDR_START, head + HDR_START, end > HDR_START ? end - HDR_START : 0);
	put_le16(zp + HDR_VIDEO_MODE, 0xffff); /* "normal" */
	zp[HDR_LOADER] = 0xff;                 /* no assigned number */
	put_le32(zp + HDR_CODE32, (uint32_t)load);
	put_le32(zp + HDR_CMDLINE, BOOT_CMDLINE);
	put_le32(zp + HDR_INITRD, (uint32_t)boot->initrd);
	put_le32(zp + HDR_INITRD_SIZE, (uint32_t)boot->initrd_size);
	put_le32(zp + ZP_INITRD_HIGH, (uint32_t)(boot->initrd >> 32));
	put_le32(zp + ZP_INITRD_SIZE_HIGH, (uint32_t)(boot->initrd_size >> 32));
	put_le64(zp + ZP_RSDP, boot->request->rsdp);
	zp[ZP_E820_COUNT] = (uint8_t)count;
	for (size_t i = 0; i < count; i++) {
		put_le64(zp + ZP_E820 + i * 20, ranges[i].addr);
		put_le64(zp + ZP_E820 + i * 20 + 8, ranges[i].size);
		put_le32(zp + ZP_E820 + i * 20 + 16, ranges[i].type);
	}
	boot_put(boot, BOOT_ZERO_PAGE, zp, sizeof(zp));
}

int boot_bzimage(struct boot *boot, struct boot_entry *ret_entry)
{
	uint8_t head[HDR_END_MAX];
	struct bzimage image;
	uint64_t load = 0;
	int r;

	if (boot->kernel_size < sizeof(head))
		return 1;
	r = boot_read(boot, 0, head, sizeof(head));
	if (r < 0)
		return r;
	if (memcmp(head + HDR_MAGIC, "HdrS", 4) || get_le16(head + 0x1fe) != 0xaa55)
		return 1;
	r = parse(boot, head, &image);
	if (r >= 0)
		r = place(boot, &image, &load);
	if (r >= 0)
		r = boot_copy(boot, boot->request->kernel_fd, "kernel", image.payload, load,
			      boot->kernel_size - image.payload);
	if (r >= 0)
		r = boot_put_cmdline(boot, image.cmdline_size);
	if (r >= 0)
		r = boot_load_initrd(boot, image.initrd_max, image.xloadflags & XLF_ABOVE_4G);
	if (r < 0)
		return r;
	put_zero_page(boot, head, load);
	*ret_entry = (struct boot_entry){
		.protocol = "bzimage",
		.mode = image.wide ? BOOT_LONG64 : BOOT_PROTECTED32,
		.rip = image.wide ? load + ENTRY_64 : load,
		.rsp = BOOT_STACK,
		.rsi = BOOT_ZERO_PAGE,
	};
	return 0;
}
