/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory.h - guest RAM: a sealed memfd, and the only code that touches it for a device.
 *
 * RAM lies at [0, low) and, if there is more than PC_LOW_RAM_MAX of it, at [4 GiB, 4 GiB + high).
 * Devices can add areas of memory elsewhere, in blocks that come and go (memory_area_*()).
 * Every call takes guest-physical addresses, checks the whole range (overflow, hole, end) before it
 * touches anything, and reaches RAM (and plugged blocks) only: an address of a device is -EFAULT, so that a device can
 * never be re-entered through its own DMA. Every write tells the processors' engine.
 *
 * Guest memory changes under the reader at any time: read a structure once, check the copy, use
 * the copy.
 *
 * Threads: every function but create, attach and destroy may be called from any thread.
 * Errors: -EFAULT: not wholly inside RAM; -EINVAL: misaligned (atomic ones only).
 */
#ifndef MACHINE_MEMORY_H
#define MACHINE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct memory;
struct thread_hook;
struct vmx_vm;

struct memory_part { /* contiguous on both sides */
	uint64_t gpa, size;
	uint8_t *host;
	int fd;
	uint64_t offset; /* in fd */
};

/* Makes `size` bytes (multiple of 4096, not 0) of zeroed RAM, reserved lazily. The caller owns
 * *ret_memory. -EINVAL, -ENOMEM, or the errno of memfd_create()/mmap(). */
int memory_create(uint64_t size, struct memory **ret_memory);
/* Unmaps from the VM (if attached) and frees. NULL is fine. No vCPU runs. Returns NULL. */
struct memory *memory_destroy(struct memory *memory);
/* Maps all RAM into vm, which must outlive memory; from then on writes are reported to it. */
int memory_attach(struct memory *memory, struct vmx_vm *vm);

/* A thread gives huge pages to what is in use, here and of the engine's own, from now until the other
 * call or memory_destroy() (huge.h). While no vCPU runs; the VM lives on beyond the second. */
void memory_huge_start(struct memory *memory, const struct thread_hook *hook);
void memory_huge_stop(struct memory *memory);

uint64_t memory_size(const struct memory *memory);      /* all of it */
uint64_t memory_low_size(const struct memory *memory);  /* bytes at 0 */
uint64_t memory_high_size(const struct memory *memory); /* bytes at 4 GiB */
int memory_fd(const struct memory *memory);             /* the memfd; still owned by memory */

/* All that another process or the kernel needs for the guest's DMA: RAM, then the areas, whatever of
 * these is plugged. Returns how many. Does not change once the machine is made. */
#define MEMORY_PARTS_MAX 10u
size_t memory_parts(const struct memory *memory, struct memory_part parts[MEMORY_PARTS_MAX]);

/* --- areas -------------------------------------------------------------------------------------- */

#define MEMORY_AREAS_MAX 8u

struct memory_area;

/* Reserves [gpa, gpa + size) for blocks of `block` bytes (multiples of 4096), behind every other
 * area; nothing is plugged. Owned by memory. While the machine is being made. -EINVAL, -ENOSPC, or as of
 * memory_create(). */
int memory_area_add(struct memory *memory, uint64_t gpa, uint64_t size, uint64_t block,
		    struct memory_area **ret_area);
/* The same with one block, which is plugged, and which is the first `size` bytes of a file (fd: it
 * keeps a copy). What the file does not have any more reads as zeroes, and is lost (fault_guard.h). */
int memory_area_add_file(struct memory *memory, uint64_t gpa, uint64_t size, int fd,
			 struct memory_area **ret_area);
int memory_area_event(const struct memory_area *area); /* an eventfd that rings when something was lost */
uint64_t memory_area_kept(const struct memory_area *area); /* bytes, from its start, that are not lost */
/* Maps the file anew if it is long enough again. No thread accesses it. False: it is as it was. */
bool memory_area_mend(struct memory_area *area);
/* Blocks [first, first + n) become memory that reads as zeroes, or are taken from the guest and given
 * back to the host. One thread at a time, any; the processors may run. Errors change nothing: -EINVAL:
 * outside; -EEXIST, -ENOENT: some are plugged, not all are; -ENOMEM and others: the host cannot now. */
int memory_area_plug(struct memory_area *area, uint64_t first, uint64_t n);
int memory_area_unplug(struct memory_area *area, uint64_t first, uint64_t n);
/* Whatever is plugged, run by run: an error leaves the rest. */
int memory_area_unplug_all(struct memory_area *area);
/* How many of these blocks are plugged. */
uint64_t memory_area_plugged(const struct memory_area *area, uint64_t first, uint64_t n);
uint64_t memory_areas_end(const struct memory *memory); /* 0: there is none */

/* --- access ------------------------------------------------------------------------------------- */

/* True if [gpa, gpa+len) is wholly RAM. An empty range is, wherever it is. */
bool mem_valid(const struct memory *memory, uint64_t gpa, uint64_t len);
/* Copies; len 0 is fine. */
int mem_read(const struct memory *memory, uint64_t gpa, void *buf, size_t len);
int mem_write(struct memory *memory, uint64_t gpa, const void *buf, size_t len);
int mem_zero(struct memory *memory, uint64_t gpa, uint64_t len);

/* Forgets what whole pages hold: they read as zeroes, and take no memory of the host until they are
 * touched again. -EINVAL: not a multiple of 4096; else what madvise() says, and nothing changed. */
int mem_discard(struct memory *memory, uint64_t gpa, uint64_t len);

/* The host memory behind the range, for readv/writev-like system calls only. RAM is contiguous on
 * the host side of each part, so one iovec is always enough. Whoever lets the kernel write through
 * it calls mem_written() afterwards, with the bytes really written, before the guest is told. */
int mem_iov(struct memory *memory, uint64_t gpa, size_t len, struct iovec *ret_iov);
/* Reads from a file into RAM, as pread() does: how many bytes, 0 at its end. Meant for much at once.
 * -EFAULT where not all of [gpa, gpa+len) is RAM; else what pread() says. */
ssize_t mem_load(struct memory *memory, uint64_t gpa, int fd, uint64_t offset, size_t len);
/* The same by a copy, for a backend that has no system call to make: between buf and the bytes from
 * `skip` on of n entries. How many bytes, less than len where the entries end. */
size_t mem_iov_load(const struct iovec *iov, unsigned n, size_t skip, void *buf, size_t len);
size_t mem_iov_store(const struct iovec *iov, unsigned n, size_t skip, const void *buf, size_t len);
/* [gpa, gpa+len) was written through a mem_iov(). Ranges outside RAM are ignored. */
void mem_written(struct memory *memory, uint64_t gpa, uint64_t len);

/* Ring indices and flags: naturally aligned, never torn; load is acquire, store is release. */
int mem_load16(const struct memory *memory, uint64_t gpa, uint16_t *ret_value);
int mem_load32(const struct memory *memory, uint64_t gpa, uint32_t *ret_value);
int mem_store16(struct memory *memory, uint64_t gpa, uint16_t value);
int mem_store32(struct memory *memory, uint64_t gpa, uint32_t value);
/* Full fence: between storing used.idx and loading used_event / avail flags. */
static inline void mem_barrier(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#endif
