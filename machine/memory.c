/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/memory_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/huge.h"
#include "machine/pc.h"
#include "vmx-driver/vmx.h"

int memory_map_own(const char *name, uint64_t size, int *ret_fd, uint8_t **ret_host)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), r;
	uint8_t *host;

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)size) < 0)
		goto fail;
	/* Nobody who gets this descriptor can make our accesses SIGBUS. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		goto fail;
	host = huge_map(size, PROT_READ | PROT_WRITE, fd);
	if (!host)
		goto fail;
	/* Both only help: no guest memory in core files, huge pages where the host has them by itself. */
	(void)madvise(host, size, MADV_DONTDUMP);
	(void)madvise(host, size, MADV_HUGEPAGE);
	*ret_fd = fd;
	*ret_host = host;
	return 0;
fail:
	r = -errno;
	close(fd);
	return r;
}

int memory_create(uint64_t size, struct memory **ret_memory)
{
	struct memory *memory;
	int r;

	if (!size || size % VMX_PAGE_SIZE || size > INT64_MAX)
		return -EINVAL;
	memory = calloc(1, sizeof(*memory));
	if (!memory)
		return -ENOMEM;
	memory->size = size;
	memory->low = size < PC_LOW_RAM_MAX ? size : PC_LOW_RAM_MAX;
	memory->high = size - memory->low;
	memory->fd = -1;
	r = memory_map_own("guest-ram", size, &memory->fd, &memory->host);
	if (r < 0) {
		memory_destroy(memory);
		return r;
	}
	memory->huge = huge_create(HUGE_DEAR_NS);
	huge_add(memory->huge, memory->host, size, memory->fd, MEMORY_HUGE_LEAST,
		 MEMORY_HUGE_AHEAD);
	*ret_memory = memory;
	return 0;
}

struct memory *memory_destroy(struct memory *memory)
{
	if (!memory)
		return NULL;
	huge_destroy(memory->huge);
	memory_areas_free(memory);
	if (memory->vm) {
		(void)vmx_vm_unmap(memory->vm, 0, memory->low);
		if (memory->high)
			(void)vmx_vm_unmap(memory->vm, PC_HIGH_RAM, memory->high);
	}
	if (memory->host)
		munmap(memory->host, memory->size);
	if (memory->fd >= 0)
		close(memory->fd);
	free(memory);
	return NULL;
}

int memory_attach(struct memory *memory, struct vmx_vm *vm)
{
	const uint32_t flags = VMX_MAP_READ | VMX_MAP_WRITE | VMX_MAP_EXEC | VMX_MAP_SHARED;
	int r;

	r = vmx_vm_map(vm, 0, memory->low, memory->host, flags);
	if (r < 0)
		return r;
	if (memory->high) {
		r = vmx_vm_map(vm, PC_HIGH_RAM, memory->high, memory->host + memory->low, flags);
		if (r < 0) {
			(void)vmx_vm_unmap(vm, 0, memory->low);
			return r;
		}
	}
	memory->vm = vm;
	return 0;
}

void memory_huge_start(struct memory *memory, const struct thread_hook *hook)
{
	struct vmx_memory own[2];
	size_t n = memory->vm ? vmx_vm_memory(memory->vm, own, ARRAY_SIZE(own)) : 0;

	for (size_t i = 0; i < n && i < ARRAY_SIZE(own); i++)
		huge_add(memory->huge, own[i].host, own[i].size, own[i].fd, own[i].least,
			 MEMORY_HUGE_AHEAD_CODE);
	huge_start(memory->huge, hook);
}

void memory_huge_stop(struct memory *memory)
{
	huge_stop(memory->huge);
}

uint64_t memory_size(const struct memory *memory)
{
	return memory->size;
}

uint64_t memory_low_size(const struct memory *memory)
{
	return memory->low;
}

uint64_t memory_high_size(const struct memory *memory)
{
	return memory->high;
}

int memory_fd(const struct memory *memory)
{
	return memory->fd;
}

/* The host address of a range that is wholly RAM, or NULL. The one place that makes pointers. */
static uint8_t *find(const struct memory *memory, uint64_t gpa, uint64_t len)
{
	const struct memory_area *area;

	if (range_inside(gpa, len, memory->low))
		return memory->host + gpa;
	if (gpa >= PC_HIGH_RAM && range_inside(gpa - PC_HIGH_RAM, len, memory->high))
		return memory->host + memory->low + (gpa - PC_HIGH_RAM);
	return len ? memory_area_find(memory, gpa, len, &area) : NULL;
}

bool mem_valid(const struct memory *memory, uint64_t gpa, uint64_t len)
{
	return !len || find(memory, gpa, len);
}

int mem_read(const struct memory *memory, uint64_t gpa, void *buf, size_t len)
{
	const uint8_t *p;

	if (!len)
		return 0;
	p = find(memory, gpa, len);
	if (!p)
		return -EFAULT;
	memcpy(buf, p, len);
	return 0;
}

static void written(struct memory *memory, uint64_t gpa, uint64_t len)
{
	if (memory->vm && len)
		(void)vmx_vm_written(memory->vm, gpa, len);
}

int mem_write(struct memory *memory, uint64_t gpa, const void *buf, size_t len)
{
	uint8_t *p;

	if (!len)
		return 0;
	p = find(memory, gpa, len);
	if (!p)
		return -EFAULT;
	memcpy(p, buf, len);
	written(memory, gpa, len);
	return 0;
}

int mem_zero(struct memory *memory, uint64_t gpa, uint64_t len)
{
	uint8_t *p;

	if (!len)
		return 0;
	p = find(memory, gpa, len);
	if (!p)
		return -EFAULT;
	memset(p, 0, len);
	written(memory, gpa, len);
	return 0;
}

/* A file's bytes by way of its page cache. Nothing is zeroed first and no page faulted in, as it is where
 * a file is read into memory that nobody touched: half the time of that. */
static ssize_t load_mapped(int to, uint64_t at, int fd, uint64_t offset, size_t len)
{
	size_t skip = offset % VMX_PAGE_SIZE;
	struct stat st;
	uint8_t *file;
	ssize_t n;

	if (fstat(fd, &st) < 0 || !range_inside(offset, len, (uint64_t)st.st_size))
		return -1;
	file = mmap(NULL, skip + len, PROT_READ, MAP_SHARED, fd, (off_t)(offset - skip));
	if (file == MAP_FAILED)
		return -1;
	n = pwrite(to, file + skip, len, (off_t)at); /* EFAULT if the file was cut: no SIGBUS here */
	munmap(file, skip + len);
	return n;
}

/* As pread() to p, host memory of guest memory that is not in huge pages. */
static ssize_t load_small(const struct memory *memory, uint8_t *p, int fd, uint64_t offset, size_t len)
{
	ssize_t n = -1;

	if (p >= memory->host && p < memory->host + memory->size)
		n = load_mapped(memory->fd, (uint64_t)(p - memory->host), fd, offset, len);
	return n < 0 ? pread(fd, p, len, (off_t)offset) : n;
}

ssize_t mem_load(struct memory *memory, uint64_t gpa, int fd, uint64_t offset, size_t len)
{
	uint8_t *p = find(memory, gpa, len);
	ssize_t n = 0, more = 0;
	size_t huge;

	if (!len)
		return 0;
	if (!p || offset > INT64_MAX - len)
		return -EFAULT;
	/* Huge pages are there already, and are filled at once: a file in memory is, page by page. */
	huge = (size_t)huge_now(memory->huge, p, len);
	if (huge)
		n = pread(fd, p, huge, (off_t)offset);
	if (n >= 0 && (size_t)n == huge && huge < len)
		more = load_small(memory, p + huge, fd, offset + huge, len - huge);
	if (more < 0 && n == 0)
		n = more;
	if (n < 0)
		return -errno;
	n += more > 0 ? more : 0; /* an error behind something read is the next call's */
	written(memory, gpa, (uint64_t)n);
	return n;
}

int mem_discard(struct memory *memory, uint64_t gpa, uint64_t len)
{
	const struct memory_area *area = NULL;
	uint8_t *p;

	if ((gpa | len) % VMX_PAGE_SIZE)
		return -EINVAL;
	if (!len)
		return 0;
	p = find(memory, gpa, len);
	if (!p || (memory_area_find(memory, gpa, len, &area) && area->file))
		return -EFAULT;
	huge_gave(memory->huge, p, len);
	/* A hole in the memfd: every mapping of it reads zeroes there. */
	if (madvise(p, len, MADV_REMOVE) < 0)
		return -errno;
	written(memory, gpa, len); /* code that was translated from there is void */
	return 0;
}

int mem_iov(struct memory *memory, uint64_t gpa, size_t len, struct iovec *ret_iov)
{
	uint8_t *p = find(memory, gpa, len);

	if (!p) {
		if (len)
			return -EFAULT;
		p = memory->host; /* never touched: len is 0 */
	}
	*ret_iov = (struct iovec){ .iov_base = p, .iov_len = len };
	return 0;
}

/* The next piece of at most len bytes, `skip` bytes on; NULL at the end. */
static uint8_t *iov_piece(const struct iovec **iov, unsigned *n, size_t *skip, size_t *len)
{
	uint8_t *p;

	while (*n && *skip >= (*iov)->iov_len) {
		*skip -= (*iov)->iov_len;
		++*iov;
		--*n;
	}
	if (!*n || !*len)
		return NULL;
	p = (uint8_t *)(*iov)->iov_base + *skip;
	if (*len > (*iov)->iov_len - *skip)
		*len = (*iov)->iov_len - *skip;
	return p;
}

size_t mem_iov_load(const struct iovec *iov, unsigned n, size_t skip, void *buf, size_t len)
{
	const uint8_t *from;
	size_t done = 0, part = len;

	while ((from = iov_piece(&iov, &n, &skip, &part))) {
		memcpy((uint8_t *)buf + done, from, part);
		done += part;
		skip += part;
		part = len - done;
	}
	return done;
}

size_t mem_iov_store(const struct iovec *iov, unsigned n, size_t skip, const void *buf, size_t len)
{
	uint8_t *to;
	size_t done = 0, part = len;

	while ((to = iov_piece(&iov, &n, &skip, &part))) {
		memcpy(to, (const uint8_t *)buf + done, part);
		done += part;
		skip += part;
		part = len - done;
	}
	return done;
}

void mem_written(struct memory *memory, uint64_t gpa, uint64_t len)
{
	if (len && find(memory, gpa, len))
		written(memory, gpa, len);
}

static int find_aligned(const struct memory *memory, uint64_t gpa, unsigned size, void **ret)
{
	if (gpa % size)
		return -EINVAL;
	*ret = find(memory, gpa, size);
	return *ret ? 0 : -EFAULT;
}

int mem_load16(const struct memory *memory, uint64_t gpa, uint16_t *ret_value)
{
	void *p;
	int r = find_aligned(memory, gpa, sizeof(*ret_value), &p);

	if (r < 0)
		return r;
	*ret_value = __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE);
	return 0;
}

int mem_load32(const struct memory *memory, uint64_t gpa, uint32_t *ret_value)
{
	void *p;
	int r = find_aligned(memory, gpa, sizeof(*ret_value), &p);

	if (r < 0)
		return r;
	*ret_value = __atomic_load_n((const uint32_t *)p, __ATOMIC_ACQUIRE);
	return 0;
}

int mem_store16(struct memory *memory, uint64_t gpa, uint16_t value)
{
	void *p;
	int r = find_aligned(memory, gpa, sizeof(value), &p);

	if (r < 0)
		return r;
	__atomic_store_n((uint16_t *)p, value, __ATOMIC_RELEASE);
	written(memory, gpa, sizeof(value));
	return 0;
}

int mem_store32(struct memory *memory, uint64_t gpa, uint32_t value)
{
	void *p;
	int r = find_aligned(memory, gpa, sizeof(value), &p);

	if (r < 0)
		return r;
	__atomic_store_n((uint32_t *)p, value, __ATOMIC_RELEASE);
	written(memory, gpa, sizeof(value));
	return 0;
}
