/* SPDX-License-Identifier: Apache-2.0 */
/* Huge pages under guest memory and translated code, and what becomes of memory that is given back. */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/huge.h"
#include "machine/huge.h"
#include "machine/memory.h"
#include "tests/unit/unit.h"
#include "vmx-driver/vmx.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define MIB (1ull << 20)
#define RAM (16 * MIB)
#define MANY 256u /* pages of 512: enough in use */
#define FEW 64u
#define LEAST 32u
#define AHEAD 3u
#define WAIT_MS 30000u
#define LONG_MS 700u /* several looks of the thread */

/* KiB of the mapping at `host` that are huge pages. */
static long huge_kib(const void *host)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	bool inside = false;
	long kib = 0, n;
	char line[256];

	while (f && fgets(line, sizeof(line), f)) {
		uintptr_t from, to;

		if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
			inside = (uintptr_t)host >= from && (uintptr_t)host < to;
		else if (inside && sscanf(line, "ShmemPmdMapped: %ld", &n) == 1)
			kib = n;
	}
	if (f)
		fclose(f);
	return kib;
}

static long file_kib(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? -1 : (long)(st.st_blocks / 2);
}

static uint8_t *host_of(const struct memory *memory)
{
	struct memory_part parts[MEMORY_PARTS_MAX];

	memory_parts(memory, parts);
	return parts[0].host;
}

/* Touches n pages of each of the granules [first, end). */
static void touch(struct memory *memory, unsigned first, unsigned end, unsigned n)
{
	for (unsigned g = first; g < end; g++)
		for (unsigned i = 0; i < n; i++)
			CU_ASSERT(mem_write(memory, g * HUGE_SIZE + i * 4096ull, &i, sizeof(i)) == 0);
}

/* True once exactly so much of the mapping is huge; it has to be looked at to be mapped so. */
static bool becomes(const uint8_t *host, size_t size, long kib)
{
	for (unsigned ms = 0; ms < WAIT_MS; ms += 20) {
		for (size_t at = 0; at < size; at += HUGE_SIZE)
			(void)*(const volatile uint8_t *)(host + at);
		if (huge_kib(host) == kib)
			return true;
		usleep(20000);
	}
	return false;
}

static struct memory *make(uint64_t size)
{
	struct memory *memory = NULL;

	CU_ASSERT_FATAL(memory_create(size, &memory) == 0);
	CU_ASSERT((uintptr_t)host_of(memory) % HUGE_SIZE == 0);
	return memory;
}

static void test_in_use(void)
{
	struct memory *memory = make(RAM);
	unsigned value;

	touch(memory, 0, 3, MANY);
	touch(memory, 5, 6, 2); /* too few */
	memory_huge_start(memory, NULL);
	CU_ASSERT(becomes(host_of(memory), 3 * HUGE_SIZE, 6 * 1024));
	CU_ASSERT(file_kib(memory_fd(memory)) == 6 * 1024 + 8);
	touch(memory, 6, 7, MANY); /* the thread is still at it */
	CU_ASSERT(becomes(host_of(memory), 3 * HUGE_SIZE, 8 * 1024));
	for (unsigned i = 0; i < MANY; i++)
		CU_ASSERT(mem_read(memory, 6 * HUGE_SIZE + i * 4096ull, &value, sizeof(value)) == 0 && value == i);
	memory_destroy(memory);
}

/* True once the file has so much. */
static bool uses(int fd, long kib)
{
	for (unsigned ms = 0; ms < WAIT_MS && file_kib(fd) != kib; ms += 20)
		usleep(20000);
	return file_kib(fd) == kib;
}

/* The thread on a file of its own, for which huge pages are dear or never are. */
struct rig {
	struct huge *huge;
	uint8_t *host;
	int fd;
};

static struct rig rig_make(uint64_t dear_ns)
{
	struct rig rig = { .huge = huge_create(dear_ns), .fd = memfd_create("test", MFD_CLOEXEC) };

	CU_ASSERT_FATAL(rig.huge && rig.fd >= 0 && ftruncate(rig.fd, RAM) == 0);
	rig.host = huge_map(RAM, PROT_READ | PROT_WRITE, rig.fd);
	CU_ASSERT_FATAL(rig.host != NULL);
	huge_add(rig.huge, rig.host, RAM, rig.fd, LEAST, AHEAD);
	return rig;
}

static void rig_free(struct rig *rig)
{
	huge_destroy(rig->huge);
	munmap(rig->host, RAM);
	close(rig->fd);
}

static void rig_touch(const struct rig *rig, unsigned granule, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		rig->host[granule * HUGE_SIZE + i * 4096ull] = 1;
}

/* Memory that comes into use from address to address is huge before it is; not what was given back. */
static void test_ahead(void)
{
	struct rig rig = rig_make(UINT32_MAX);

	huge_gave(rig.huge, rig.host + 4 * HUGE_SIZE, HUGE_SIZE);
	huge_start(rig.huge, NULL);
	rig_touch(&rig, 0, FEW);
	CU_ASSERT(uses(rig.fd, 2 * 1024));
	rig_touch(&rig, 1, 1);
	CU_ASSERT(uses(rig.fd, 4 * 2 * 1024));
	rig_touch(&rig, 4, 1);
	usleep(LONG_MS * 1000);
	CU_ASSERT(file_kib(rig.fd) == 4 * 2 * 1024 + 4);
	rig_free(&rig);
}

/* Where that is dear it is so only when it is sure to be of use. */
static void test_dear(void)
{
	struct rig rig = rig_make(0);

	huge_start(rig.huge, NULL);
	rig_touch(&rig, 0, FEW);
	CU_ASSERT(uses(rig.fd, 2 * 1024));
	rig_touch(&rig, 1, 1);
	usleep(LONG_MS * 1000);
	CU_ASSERT(file_kib(rig.fd) == 2 * 1024 + 4);
	rig_touch(&rig, 1, FEW);
	CU_ASSERT(uses(rig.fd, 2 * 2 * 1024));
	CU_ASSERT(huge_now(rig.huge, rig.host + 4 * HUGE_SIZE, 3 * HUGE_SIZE) <= HUGE_SIZE);
	CU_ASSERT(file_kib(rig.fd) <= 3 * 2 * 1024);
	rig_free(&rig);
}

/* A hole for a page that the guest does without stays a hole until all of the 2 MiB is in use again. */
static void test_given_back(void)
{
	struct memory *memory = make(RAM);
	int fd = memory_fd(memory);

	touch(memory, 0, 2, MANY);
	memory_huge_start(memory, NULL);
	CU_ASSERT(becomes(host_of(memory), 2 * HUGE_SIZE, 4 * 1024));
	CU_ASSERT(mem_discard(memory, HUGE_SIZE, HUGE_SIZE) == 0);
	CU_ASSERT(file_kib(fd) == 2 * 1024);
	CU_ASSERT(mem_discard(memory, 7 * 4096, 4096) == 0);
	CU_ASSERT(file_kib(fd) == 2 * 1024 - 4);
	touch(memory, 3, 4, 1); /* there is something to see */
	usleep(LONG_MS * 1000);
	CU_ASSERT(file_kib(fd) == 2 * 1024);
	CU_ASSERT(huge_kib(host_of(memory)) == 0);
	touch(memory, 0, 1, 512);
	touch(memory, 1, 2, MANY);
	CU_ASSERT(becomes(host_of(memory), 2 * HUGE_SIZE, 4 * 1024));
	CU_ASSERT(file_kib(fd) == 4 * 1024 + 4);
	memory_destroy(memory);
}

static FILE *file_of(uint64_t size)
{
	FILE *f = tmpfile();

	CU_ASSERT_FATAL(f != NULL);
	for (uint64_t i = 0; i < size / sizeof(i); i++)
		fwrite(&i, sizeof(i), 1, f);
	fflush(f);
	return f;
}

/* Without the thread: no page is made twice. */
static void test_load(void)
{
	const uint64_t at = 3 * MIB, size = 6 * MIB; /* [4, 8) are whole */
	struct memory *memory = make(RAM);
	FILE *f = file_of(size);

	CU_ASSERT(mem_load(memory, at, fileno(f), 0, size) == (ssize_t)size);
	CU_ASSERT(huge_kib(host_of(memory)) >= 2 * 1024); /* all but the first only if it is not dear */
	for (uint64_t i = 0, value; i < size; i += 4096 - 8)
		CU_ASSERT(mem_read(memory, at + i, &value, 8) == 0 && value == i / 8);
	CU_ASSERT(file_kib(memory_fd(memory)) == 6 * 1024);
	fclose(f);
	memory_destroy(memory);
}

static void test_area(void)
{
	struct memory *memory = make(RAM);
	struct memory_area *area;
	struct memory_part parts[MEMORY_PARTS_MAX];
	const uint64_t gpa = 1ull << 33;
	uint64_t value = 1;

	CU_ASSERT_FATAL(memory_area_add(memory, gpa, 8 * MIB, HUGE_SIZE, &area) == 0);
	CU_ASSERT_FATAL(memory_parts(memory, parts) == 2);
	memory_huge_start(memory, NULL);
	CU_ASSERT(memory_area_plug(area, 1, 2) == 0);
	for (uint64_t i = 0; i < 2 * HUGE_SIZE; i += 4096)
		CU_ASSERT(mem_write(memory, gpa + HUGE_SIZE + i, &value, 8) == 0);
	CU_ASSERT(becomes(parts[1].host + HUGE_SIZE, 2 * HUGE_SIZE, 4 * 1024));
	CU_ASSERT(memory_area_unplug(area, 1, 1) == 0);
	CU_ASSERT(file_kib(parts[1].fd) == 2 * 1024);
	memory_destroy(memory);
}

struct writer {
	struct memory *memory;
	_Atomic bool stop;
	uint64_t rounds;
};

/* Each word of a page in each granule counts the rounds; a round that was lost would show. */
static void *writer_main(void *opaque)
{
	struct writer *w = opaque;

	while (!atomic_load(&w->stop)) {
		for (uint64_t at = 0; at < RAM; at += 64 * 1024) {
			uint64_t value = ~0ull;

			if (mem_read(w->memory, at, &value, 8) < 0 || value != w->rounds)
				return "a write was lost";
			value++;
			(void)mem_write(w->memory, at, &value, 8);
		}
		w->rounds++;
	}
	return NULL;
}

static void test_while_written(void)
{
	struct writer w = { .memory = make(RAM) };
	const uint64_t zero = 0;
	pthread_t thread;
	void *error;

	touch(w.memory, 0, RAM / HUGE_SIZE, 512);
	for (uint64_t at = 0; at < RAM; at += 64 * 1024)
		CU_ASSERT(mem_write(w.memory, at, &zero, 8) == 0);
	CU_ASSERT_FATAL(pthread_create(&thread, NULL, writer_main, &w) == 0);
	memory_huge_start(w.memory, NULL);
	CU_ASSERT(becomes(host_of(w.memory), RAM, RAM / 1024));
	atomic_store(&w.stop, true);
	pthread_join(thread, &error);
	CU_ASSERT(error == NULL && w.rounds > 0);
	memory_destroy(w.memory);
}

static void test_code(void)
{
	const struct vmx_vm_options options = { .size = sizeof(options), .engine = VMX_ENGINE_SOFT };
	struct memory *memory = make(RAM);
	struct vmx_memory code;
	struct vmx_vm *vm;

	CU_ASSERT_FATAL(vmx_vm_create(&options, &vm) == 0);
	CU_ASSERT_FATAL(vmx_vm_memory(vm, &code, 1) == 1);
	CU_ASSERT((uintptr_t)code.host % HUGE_SIZE == 0 && code.size >= 4 * HUGE_SIZE);
	CU_ASSERT_FATAL(memory_attach(memory, vm) == 0);
	/* As translations would, at its end, where none are. */
	memset((uint8_t *)code.host + 2 * HUGE_SIZE, 0xcc, HUGE_SIZE);
	memory_huge_start(memory, NULL);
	CU_ASSERT(becomes((uint8_t *)code.host + 2 * HUGE_SIZE, HUGE_SIZE, 2 * 1024));
	memory_huge_stop(memory);
	memory_destroy(memory);
	CU_ASSERT(vmx_vm_destroy(vm) == 0);
}

/* Where the host refuses, everything is as it would be without. */
static void test_refused(void)
{
	struct memory *memory;
	FILE *f = file_of(6 * MIB);
	uint64_t value = 0;

	CU_ASSERT_FATAL(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
	memory = make(5 * MIB); /* not a whole number of them, either */
	memory_huge_start(memory, NULL);
	touch(memory, 0, 2, 512);
	CU_ASSERT(mem_load(memory, 0, fileno(f), 0, 5 * MIB) == 5 * (ssize_t)MIB);
	usleep(LONG_MS * 1000);
	CU_ASSERT(mem_read(memory, 5 * MIB - 8, &value, 8) == 0 && value == 5 * MIB / 8 - 1);
	CU_ASSERT(huge_kib(host_of(memory)) == 0);
	CU_ASSERT(mem_discard(memory, 4 * MIB, MIB) == 0);
	CU_ASSERT(mem_discard(memory, 4096, 4096) == 0);
	CU_ASSERT(file_kib(memory_fd(memory)) == 4 * 1024 - 4);
	memory_destroy(memory);
	fclose(f);
	prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0);
}

static void test_map(void)
{
	static const size_t sizes[] = { 4096, MIB, HUGE_SIZE, HUGE_SIZE + 4096, 160 << 10, 64 * MIB };
	int fd = memfd_create("test", MFD_CLOEXEC);

	CU_ASSERT_FATAL(fd >= 0 && ftruncate(fd, 64 * MIB) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint8_t *p = huge_map(sizes[i], PROT_READ | PROT_WRITE, fd);

		CU_ASSERT_FATAL(p != NULL);
		CU_ASSERT(sizes[i] < HUGE_SIZE || (uintptr_t)p % HUGE_SIZE == 0);
		p[0] = p[sizes[i] - 1] = (uint8_t)i;
		CU_ASSERT(munmap(p, sizes[i]) == 0);
	}
	CU_ASSERT(huge_map(SIZE_MAX - 4096, PROT_READ, fd) == NULL && errno == ENOMEM);
	close(fd);
	CU_ASSERT(huge_map(4096, PROT_READ, -1) == NULL && errno == EBADF);
}

/* Can the kernel make huge pages of a memory file, and may it? */
static bool host_can(void)
{
	char text[64] = "";
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "re");
	int fd = memfd_create("probe", MFD_CLOEXEC);
	uint8_t *p = NULL;
	bool can = false;

	if (f && fgets(text, sizeof(text), f) && !strstr(text, "[never]") && fd >= 0 &&
	    ftruncate(fd, HUGE_SIZE) == 0)
		p = huge_map(HUGE_SIZE, PROT_READ | PROT_WRITE, fd);
	if (p) {
		memset(p, 1, HUGE_SIZE);
		can = madvise(p, HUGE_SIZE, MADV_COLLAPSE) == 0;
		munmap(p, HUGE_SIZE);
	}
	if (f)
		fclose(f);
	if (fd >= 0)
		close(fd);
	return can;
}

int main(void)
{
	CU_TestInfo always[] = {
		{ "aligned mappings", test_map },
		{ "a host that refuses", test_refused },
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo made[] = {
		{ "memory in use", test_in_use },
		{ "memory ahead", test_ahead },
		{ "where it is dear", test_dear },
		{ "memory given back", test_given_back },
		{ "loading a file", test_load },
		{ "an area of memory", test_area },
		{ "while it is written", test_while_written },
		{ "translated code", test_code },
		CU_TEST_INFO_NULL,
	};

	if (host_can())
		return UNIT_RUN(UNIT_SUITE("anywhere", always), UNIT_SUITE("huge pages", made));
	printf("skip: this kernel makes no huge pages of memory files (MADV_COLLAPSE), or may not\n");
	return UNIT_RUN_BUT(ARRAY_SIZE(made) - 1, UNIT_SUITE("anywhere", always));
}
