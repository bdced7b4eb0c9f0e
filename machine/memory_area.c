/* SPDX-License-Identifier: Apache-2.0 */
/* memory_area.c - memory beside RAM, in blocks that devices plug and unplug. See memory.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/checked.h"
#include "machine/memory_internal.h"
#include "machine/pc.h"
#include "vmx-driver/vmx.h"

#define BITS 64u

static uint64_t blocks(const struct memory_area *a)
{
	return a->size / a->block;
}

static bool is_plugged(const struct memory_area *a, uint64_t block)
{
	uint64_t word = __atomic_load_n(&a->bitmap[block / BITS], __ATOMIC_ACQUIRE);

	return word >> block % BITS & 1;
}

static void mark(struct memory_area *a, uint64_t first, uint64_t n, bool plugged)
{
	a->plugged = plugged ? a->plugged + n : a->plugged - n;
	for (; n; first++, n--) {
		uint64_t *word = &a->bitmap[first / BITS], bit = 1ull << first % BITS;

		if (plugged)
			__atomic_fetch_or(word, bit, __ATOMIC_RELEASE);
		else
			__atomic_fetch_and(word, ~bit, __ATOMIC_RELEASE);
	}
}

uint64_t memory_area_plugged(const struct memory_area *a, uint64_t first, uint64_t n)
{
	uint64_t count = 0;

	if (!range_inside(first, n, blocks(a)))
		return 0;
	while (n--)
		count += is_plugged(a, first++);
	return count;
}

uint8_t *memory_area_find(const struct memory *memory, uint64_t gpa, uint64_t len,
			  const struct memory_area **ret_area)
{
	for (unsigned i = 0; i < memory->area_count; i++) {
		const struct memory_area *a = memory->area[i];
		uint64_t at = gpa - a->gpa;

		if (gpa < a->gpa || !range_inside(at, len, a->size))
			continue;
		for (uint64_t b = at / a->block; b <= (at + len - 1) / a->block; b++)
			if (!is_plugged(a, b))
				return NULL;
		*ret_area = a;
		return a->host + at;
	}
	return NULL;
}

/* Maps blocks together with their plugged neighbours, so that there are no more mappings than runs. */
static int map_run(struct memory_area *a, uint64_t first, uint64_t n)
{
	uint64_t end = first + n;

	if (!a->memory->vm)
		return 0;
	while (first && is_plugged(a, first - 1))
		first--;
	while (end < blocks(a) && is_plugged(a, end))
		end++;
	return vmx_vm_map(a->memory->vm, a->gpa + first * a->block, (end - first) * a->block,
			  a->host + first * a->block, VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC);
}

static int forget(struct memory_area *a, uint64_t first, uint64_t n)
{
	if (a->file)
		return 0;
	huge_gave(a->memory->huge, a->host + first * a->block, n * a->block);
	return madvise(a->host + first * a->block, n * a->block, MADV_REMOVE) < 0 ? -errno : 0;
}

int memory_area_plug(struct memory_area *a, uint64_t first, uint64_t n)
{
	int r;

	if (!n || !range_inside(first, n, blocks(a)))
		return -EINVAL;
	if (memory_area_plugged(a, first, n))
		return -EEXIST;
	/* Host I/O that was under way when it was unplugged may have left something there. */
	r = forget(a, first, n);
	if (r < 0)
		return r;
	r = map_run(a, first, n);
	if (r == 0)
		mark(a, first, n, true);
	return r;
}

int memory_area_unplug(struct memory_area *a, uint64_t first, uint64_t n)
{
	int r = 0;

	if (!n || !range_inside(first, n, blocks(a)))
		return -EINVAL;
	if (memory_area_plugged(a, first, n) != n)
		return -ENOENT;
	if (a->memory->vm)
		r = vmx_vm_unmap(a->memory->vm, a->gpa + first * a->block, n * a->block);
	if (r < 0)
		return r;
	mark(a, first, n, false);
	(void)forget(a, first, n); /* plugging insists */
	return 0;
}

int memory_area_unplug_all(struct memory_area *a)
{
	uint64_t first = 0, end;
	int r = 0;

	while (r == 0 && first < blocks(a)) {
		for (end = first; end < blocks(a) && is_plugged(a, end); end++)
			;
		if (end > first)
			r = memory_area_unplug(a, first, end - first);
		first = end + 1;
	}
	return r;
}

static struct memory_area *area_free(struct memory_area *a)
{
	if (!a)
		return NULL;
	if (a->memory->vm && a->plugged)
		(void)vmx_vm_unmap(a->memory->vm, a->gpa, a->size);
	fault_guard_remove(a->file);
	if (a->host)
		munmap(a->host, a->size);
	if (a->fd >= 0)
		close(a->fd);
	if (a->event_fd >= 0)
		close(a->event_fd);
	free(a->bitmap);
	free(a);
	return NULL;
}

void memory_areas_free(struct memory *memory)
{
	while (memory->area_count)
		area_free(memory->area[--memory->area_count]);
}

/* Without memory yet. */
static int area_new(struct memory *memory, uint64_t gpa, uint64_t size, uint64_t block,
		    struct memory_area **ret_area)
{
	struct memory_area *a;
	uint64_t end;

	if (memory->area_count == MEMORY_AREAS_MAX)
		return -ENOSPC;
	if (!size || !block || block % VMX_PAGE_SIZE || size % block || gpa % VMX_PAGE_SIZE ||
	    !checked_add(gpa, size, &end) || gpa < memory_areas_end(memory))
		return -EINVAL;
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	*a = (struct memory_area){ .memory = memory, .gpa = gpa, .size = size, .block = block,
				   .fd = -1, .event_fd = -1 };
	a->bitmap = calloc((size / block + BITS - 1) / BITS, sizeof(*a->bitmap));
	if (!a->bitmap) {
		area_free(a);
		return -ENOMEM;
	}
	*ret_area = a;
	return 0;
}

int memory_area_add(struct memory *memory, uint64_t gpa, uint64_t size, uint64_t block,
		    struct memory_area **ret_area)
{
	struct memory_area *a;
	int r = area_new(memory, gpa, size, block, &a);

	if (r < 0)
		return r;
	r = memory_map_own("guest-memory", size, &a->fd, &a->host);
	if (r < 0) {
		area_free(a);
		return r;
	}
	memory->area[memory->area_count++] = a;
	huge_add(memory->huge, a->host, size, a->fd, MEMORY_HUGE_LEAST, 0);
	*ret_area = a;
	return 0;
}

static int map_file(struct memory_area *a)
{
	void *host = mmap(NULL, a->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, a->fd,
			  0);

	if (host == MAP_FAILED)
		return -errno;
	a->host = host;
	(void)madvise(host, a->size, MADV_DONTDUMP);
	a->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return a->event_fd < 0 ? -errno
			       : fault_guard_add(host, a->size, a->event_fd, &a->file);
}

int memory_area_add_file(struct memory *memory, uint64_t gpa, uint64_t size, int fd,
			 struct memory_area **ret_area)
{
	struct memory_area *a;
	int r = area_new(memory, gpa, size, size, &a);

	if (r < 0)
		return r;
	a->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	r = a->fd < 0 ? -errno : map_file(a);
	if (r == 0)
		r = memory_area_plug(a, 0, 1);
	if (r < 0) {
		area_free(a);
		return r;
	}
	memory->area[memory->area_count++] = a;
	*ret_area = a;
	return 0;
}

int memory_area_event(const struct memory_area *a)
{
	return a->event_fd;
}

uint64_t memory_area_kept(const struct memory_area *a)
{
	return a->file ? fault_guard_kept(a->file) : a->size;
}

bool memory_area_mend(struct memory_area *a)
{
	uint64_t kept = memory_area_kept(a);
	off_t end;

	if (kept == a->size)
		return true;
	end = lseek(a->fd, 0, SEEK_END);
	if (end < 0 || (uint64_t)end < a->size ||
	    mmap(a->host + kept, a->size - kept, PROT_READ | PROT_WRITE,
		 MAP_FIXED | MAP_SHARED | MAP_NORESERVE, a->fd, (off_t)kept) == MAP_FAILED)
		return false;
	fault_guard_mended(a->file);
	return true;
}

uint64_t memory_areas_end(const struct memory *memory)
{
	const struct memory_area *last;

	if (!memory->area_count)
		return 0;
	last = memory->area[memory->area_count - 1];
	return last->gpa + last->size;
}

size_t memory_parts(const struct memory *memory, struct memory_part parts[MEMORY_PARTS_MAX])
{
	size_t n = 0;

	parts[n++] = (struct memory_part){ 0, memory->low, memory->host, memory->fd, 0 };
	if (memory->high)
		parts[n++] = (struct memory_part){ PC_HIGH_RAM, memory->high,
						   memory->host + memory->low, memory->fd, memory->low };
	for (unsigned i = 0; i < memory->area_count; i++) {
		const struct memory_area *a = memory->area[i];

		parts[n++] = (struct memory_part){ a->gpa, a->size, a->host, a->fd, 0 };
	}
	return n;
}
