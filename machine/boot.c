/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/boot.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/checked.h"
#include "machine/boot_internal.h"
#include "machine/memory.h"
#include "machine/pc.h"

#define PAGE 4096u

int boot_fail(struct boot *boot, int r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(boot->why, sizeof(boot->why), fmt, ap);
	va_end(ap);
	return r;
}

int boot_read(struct boot *boot, uint64_t offset, void *buf, size_t len)
{
	size_t done = 0;

	if (!range_inside(offset, len, boot->kernel_size))
		return boot_fail(boot, -ENOEXEC, "kernel: the file ends too early");
	while (done < len) {
		ssize_t n = pread(boot->request->kernel_fd, (char *)buf + done, len - done,
				  (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return boot_fail(boot, -errno, "kernel: cannot be read: %s",
					 strerror(errno));
		if (n == 0)
			return boot_fail(boot, -ENOEXEC, "kernel: the file ends too early");
		done += (size_t)n;
	}
	return 0;
}

bool boot_may_hold(uint64_t addr, uint64_t size)
{
	return addr >= BOOT_IMAGE_MIN ||
	       (addr >= BOOT_IMAGE_LOW &&
		range_inside(addr - BOOT_IMAGE_LOW, size, BOOT_IMAGE_LOW_END - BOOT_IMAGE_LOW));
}

int boot_copy(struct boot *boot, int fd, const char *field, uint64_t offset, uint64_t gpa,
	      uint64_t len)
{
	uint64_t done = 0;

	while (done < len) {
		size_t chunk = len - done < (1u << 30) ? (size_t)(len - done) : 1u << 30;
		ssize_t n = mem_load(boot->memory, gpa + done, fd, offset + done, chunk);

		if (n == -EINTR)
			continue;
		if (n == -EFAULT)
			return boot_fail(boot, -EFBIG, "%s: does not fit into guest memory", field);
		if (n < 0)
			return boot_fail(boot, (int)n, "%s: cannot be read: %s", field,
					 strerror((int)-n));
		if (n == 0)
			return boot_fail(boot, -ENOEXEC, "%s: the file ends too early", field);
		done += (uint64_t)n;
	}
	return 0;
}

void boot_put(struct boot *boot, uint64_t gpa, const void *buf, size_t len)
{
	/* Our own tables, at addresses below 640 KiB: memory is never that small. */
	if (mem_write(boot->memory, gpa, buf, len) < 0)
		abort();
}

int boot_put_cmdline(struct boot *boot, uint64_t max)
{
	if (max > BOOT_CMDLINE_MAX)
		max = BOOT_CMDLINE_MAX;
	if (boot->cmdline_len > max)
		return boot_fail(boot, -EINVAL,
				 "cmdline: %zu bytes, this kernel takes at most %llu",
				 boot->cmdline_len, (unsigned long long)max);
	boot_put(boot, BOOT_CMDLINE, boot->cmdline, boot->cmdline_len + 1);
	return 0;
}

/* The highest page-aligned place for len bytes in [low, end), or false. */
static bool place_high(uint64_t low, uint64_t end, uint64_t len, uint64_t *ret)
{
	uint64_t at;

	if (!checked_sub(end, len, &at))
		return false;
	at &= ~(uint64_t)(PAGE - 1);
	*ret = at;
	return at >= low;
}

int boot_load_initrd(struct boot *boot, uint64_t last, bool high)
{
	uint64_t low = boot->kernel_end > BOOT_IMAGE_MIN ? boot->kernel_end : BOOT_IMAGE_MIN;
	uint64_t end = memory_low_size(boot->memory);
	uint64_t high_size = memory_high_size(boot->memory);

	if (!boot->initrd_size)
		return 0;
	low = (low + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	if (last < end - 1)
		end = last + 1;
	if (!place_high(low, end, boot->initrd_size, &boot->initrd) &&
	    !(high && high_size &&
	      place_high(PC_HIGH_RAM, PC_HIGH_RAM + high_size, boot->initrd_size, &boot->initrd)))
		return boot_fail(boot, -EFBIG,
				 "initrd: %llu bytes do not fit into memory beside the kernel",
				 (unsigned long long)boot->initrd_size);
	return boot_copy(boot, boot->request->initrd_fd, "initrd", 0, boot->initrd,
			 boot->initrd_size);
}

size_t boot_memory_map(const struct memory *memory, struct boot_range *ranges)
{
	uint64_t low = memory_low_size(memory), high = memory_high_size(memory);
	size_t n = 0;

	ranges[n++] = (struct boot_range){ 0, PC_EBDA, 1 };
	ranges[n++] = (struct boot_range){ PC_EBDA, 0xa0000 - PC_EBDA, 2 };
	ranges[n++] = (struct boot_range){ PC_BIOS, PC_BIOS_END - PC_BIOS, 2 };
	ranges[n++] = (struct boot_range){ PC_BIOS_END, low - PC_BIOS_END, 1 };
	ranges[n++] = (struct boot_range){ PC_ECAM, PC_ECAM_SIZE, 2 };
	ranges[n++] = (struct boot_range){ PC_IOAPIC, PC_IOAPIC_SIZE, 2 };
	if (high)
		ranges[n++] = (struct boot_range){ PC_HIGH_RAM, high, 1 };
	return n;
}

static int file_size(struct boot *boot, int fd, const char *field, uint64_t *ret_size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return boot_fail(boot, -errno, "%s: %s", field, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return boot_fail(boot, -EINVAL, "%s: not a regular file", field);
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

/* What a PC has at its reset vector. Jumping there (ljmp $0xf000, $0xfff0) is an old way to ask for
 * a reset, and there is no firmware to answer: do it by the reset control register. */
static void put_reset_vector(struct boot *boot)
{
	static const uint8_t code[] = {
		0xba, 0xf9, 0x0c, /* mov $0xcf9, %dx */
		0xb0, 0x06, 0xee, /* mov $6, %al; out %al, %dx */
		0xf4, 0xeb, 0xfd, /* hlt; jmp . - 1 */
	};

	boot_put(boot, PC_BIOS_END - 16, code, sizeof(code));
}

static int load(struct boot *boot, struct boot_entry *ret_entry)
{
	int (*const protocols[])(struct boot *, struct boot_entry *) = {
		boot_bzimage,
		boot_pvh,
		boot_multiboot,
	};
	int r;

	r = file_size(boot, boot->request->kernel_fd, "kernel", &boot->kernel_size);
	if (r >= 0 && boot->request->initrd_fd >= 0)
		r = file_size(boot, boot->request->initrd_fd, "initrd", &boot->initrd_size);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		r = protocols[i](boot, ret_entry);
		if (r == 0) {
			boot_put_tables(boot->memory, ret_entry->mode);
			put_reset_vector(boot);
		}
		if (r <= 0)
			return r;
	}
	return boot_fail(boot, -ENOEXEC, "kernel: not a bzImage, PVH ELF or multiboot image");
}

int boot_load(struct memory *memory, const struct boot_request *request,
	      struct boot_entry *ret_entry, char **ret_error)
{
	struct boot boot = {
		.memory = memory,
		.request = request,
		.cmdline = request->cmdline ? request->cmdline : "",
	};
	int r;

	*ret_error = NULL;
	boot.cmdline_len = strlen(boot.cmdline);
	if (memory_low_size(memory) < 2 * BOOT_IMAGE_MIN)
		r = boot_fail(&boot, -EFBIG, "memory: too small to load a kernel");
	else
		r = load(&boot, ret_entry);
	if (r < 0)
		*ret_error = strdup(boot.why);
	return r;
}
