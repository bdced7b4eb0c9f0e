/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory, the host's TSC, buses and interrupt wires. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/tsc.h"
#include "machine/bus.h"
#include "machine/irq.h"
#include "machine/memory.h"
#include "machine/pc.h"
#include "tests/unit/unit.h"

#define MIB (1ull << 20)
#define GIB (1ull << 30)

/* --- memory ----------------------------------------------------------------------------------- */

static void test_memory_ranges(void)
{
	static const struct {
		uint64_t gpa, len;
		bool ok;
	} cases[] = {
		{ 0, 1, true },
		{ 0, 3 * GIB, true },
		{ 0, 3 * GIB + 1, false },
		{ 3 * GIB - 1, 1, true },
		{ 3 * GIB - 1, 2, false },
		{ 3 * GIB, 1, false },           /* the hole */
		{ PC_IOAPIC, 4, false },
		{ 4 * GIB - 1, 2, false },
		{ 4 * GIB, 1, true },
		{ 4 * GIB, 1 * GIB, true },
		{ 4 * GIB, 1 * GIB + 1, false },
		{ 5 * GIB - 1, 1, true },
		{ 5 * GIB, 1, false },
		{ UINT64_MAX, 1, false },
		{ UINT64_MAX - 3, 8, false },    /* wraps to 4 */
		{ 4096, UINT64_MAX, false },
		{ 3 * GIB - 4096, 1 * GIB + 8192, false }, /* both ends are RAM */
		{ UINT64_MAX, 0, true },         /* nothing is everywhere */
	};
	struct memory *memory;

	CU_ASSERT_FATAL(memory_create(4 * GIB, &memory) == 0);
	CU_ASSERT(memory_low_size(memory) == 3 * GIB);
	CU_ASSERT(memory_high_size(memory) == 1 * GIB);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct iovec iov;

		CU_ASSERT(mem_valid(memory, cases[i].gpa, cases[i].len) == cases[i].ok);
		CU_ASSERT(mem_iov(memory, cases[i].gpa, cases[i].len, &iov) ==
			  (cases[i].ok ? 0 : -EFAULT));
	}
	memory_destroy(memory);
}

static void test_memory_access(void)
{
	uint8_t in[6000], out[6000];
	struct memory *memory;
	uint16_t v16;
	uint32_t v32;

	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i * 7);
	CU_ASSERT_FATAL(memory_create(4 * GIB, &memory) == 0);
	CU_ASSERT(mem_write(memory, 5 * GIB - sizeof(in), in, sizeof(in)) == 0);
	CU_ASSERT(mem_read(memory, 5 * GIB - sizeof(in), out, sizeof(out)) == 0);
	CU_ASSERT(!memcmp(in, out, sizeof(in)));
	/* A refused write writes nothing, not even the part that would fit. */
	CU_ASSERT(mem_write(memory, 3 * GIB - 100, in, sizeof(in)) == -EFAULT);
	CU_ASSERT(mem_read(memory, 3 * GIB - 100, out, 100) == 0);
	for (int i = 0; i < 100; i++)
		CU_ASSERT(out[i] == 0);
	CU_ASSERT(mem_store16(memory, 0x1001, 1) == -EINVAL);
	CU_ASSERT(mem_store32(memory, 0x1002, 1) == -EINVAL);
	CU_ASSERT(mem_store16(memory, PC_LOW_RAM_MAX, 1) == -EFAULT);
	CU_ASSERT(mem_load32(memory, PC_LOW_RAM_MAX, &v32) == -EFAULT);
	CU_ASSERT(mem_store32(memory, 0x1004, 0x12345678) == 0);
	CU_ASSERT(mem_load16(memory, 0x1006, &v16) == 0 && v16 == 0x1234);
	CU_ASSERT(mem_load32(memory, 0x1004, &v32) == 0 && v32 == 0x12345678);
	CU_ASSERT(mem_zero(memory, 0x1004, 4) == 0);
	CU_ASSERT(mem_load32(memory, 0x1004, &v32) == 0 && v32 == 0);
	memory_destroy(memory);
}

static void test_memory_create(void)
{
	struct memory *memory;
	int seals;

	CU_ASSERT(memory_create(0, &memory) == -EINVAL);
	CU_ASSERT(memory_create(4097, &memory) == -EINVAL);
	CU_ASSERT(memory_create(1ull << 63, &memory) == -EINVAL);
	CU_ASSERT(memory_create(1ull << 60, &memory) < 0);
	/* Far more than the host has: only reserved. */
	CU_ASSERT_FATAL(memory_create(256 * GIB, &memory) == 0);
	CU_ASSERT(ftruncate(memory_fd(memory), 4096) < 0 && errno == EPERM);
	seals = fcntl(memory_fd(memory), F_GET_SEALS);
	CU_ASSERT((seals & (F_SEAL_SHRINK | F_SEAL_GROW)) == (F_SEAL_SHRINK | F_SEAL_GROW));
	memory_destroy(memory);
	CU_ASSERT(memory_destroy(NULL) == NULL);
}

/* A file that reads back itself: byte n is n * 7. */
static void test_memory_load(void)
{
	enum { SIZE = 70001 };
	static uint8_t bytes[SIZE], back[SIZE];
	static const struct {
		uint64_t gpa, offset, len;
		ssize_t result;
	} cases[] = {
		{ 0x1000, 0, SIZE, SIZE },
		{ 0x30001, 4097, 5000, 5000 },       /* on no page on either side */
		{ 4 * GIB + 5, 1, 60000, 60000 },    /* the second part of RAM */
		{ 0x1000, SIZE, 1, 0 },              /* nothing there */
		{ 0x1000, 0, 0, 0 },
		{ 3 * GIB - 1, 0, 2, -EFAULT },
		{ PC_IOAPIC, 0, 4, -EFAULT },
		{ 0x1000, UINT64_MAX, 4, -EFAULT },
	};
	struct memory *memory;
	int fd = memfd_create("file", MFD_CLOEXEC);

	for (unsigned i = 0; i < SIZE; i++)
		bytes[i] = (uint8_t)(i * 7);
	CU_ASSERT_FATAL(fd >= 0 && write(fd, bytes, SIZE) == SIZE);
	CU_ASSERT_FATAL(memory_create(4 * GIB, &memory) == 0);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ssize_t n = mem_load(memory, cases[i].gpa, fd, cases[i].offset, cases[i].len);

		CU_ASSERT(n == cases[i].result);
		if (n <= 0)
			continue;
		CU_ASSERT(mem_read(memory, cases[i].gpa, back, (size_t)n) == 0);
		CU_ASSERT(!memcmp(back, bytes + cases[i].offset, (size_t)n));
		CU_ASSERT(mem_read(memory, cases[i].gpa + (uint64_t)n, back, 8) == 0);
		CU_ASSERT(!memcmp(back, "\0\0\0\0\0\0\0", 8));
		CU_ASSERT(mem_zero(memory, cases[i].gpa, (uint64_t)n) == 0);
	}
	/* What the file no longer has does not come, and nobody dies of it. */
	CU_ASSERT(ftruncate(fd, 5000) == 0);
	CU_ASSERT(mem_load(memory, 0x1000, fd, 0, SIZE) >= 5000);
	CU_ASSERT(mem_read(memory, 0x1000, back, 5000) == 0 && !memcmp(back, bytes, 5000));
	CU_ASSERT(mem_load(memory, 0x1000, fd, 8192, SIZE) == 0);
	close(fd);
	CU_ASSERT(mem_load(memory, 0x1000, fd, 0, 4) == -EBADF);
	memory_destroy(memory);
}

/* --- the host's TSC --------------------------------------------------------------------------- */

static bool about(uint64_t a, uint64_t b)
{
	uint64_t apart = a > b ? a - b : b - a;

	return a && apart < b / 2000; /* a busy host: real ones differ by a few ppm */
}

static void test_tsc(void)
{
	uint64_t hz = tsc_hz(NULL), least = UINT64_MAX;
	struct tsc_sample since, spoilt;

	tsc_sample(&since);
	usleep(20000);
	for (int i = 0; i < 5; i++) {
		uint64_t start = clock_monotonic_ns(), took;

		CU_ASSERT(about(tsc_hz(&since), hz));
		took = clock_monotonic_ns() - start;
		least = took < least ? took : least;
	}
	CU_ASSERT(least < 4000000); /* nobody waited */
	spoilt = since;
	spoilt.tsc -= since.tsc / 2; /* as if it had been reset when the host woke up */
	spoilt.suspended_ns -= NSEC_PER_SEC;
	CU_ASSERT(about(tsc_hz(&spoilt), hz));
	spoilt = since;
	spoilt.tsc = UINT64_MAX;
	CU_ASSERT(about(tsc_hz(&spoilt), hz));
	spoilt = since;
	spoilt.raw_ns = UINT64_MAX;
	CU_ASSERT(about(tsc_hz(&spoilt), hz));
	tsc_sample(&since);
	CU_ASSERT(about(tsc_hz(&since), hz)); /* too young */
}

/* --- bus -------------------------------------------------------------------------------------- */

struct probe {
	unsigned reads, writes, last_size;
	uint64_t last_offset, last_val, answer;
	char trace[128];
};

static void probe_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	struct probe *p = opaque;
	size_t n = strlen(p->trace);

	CU_ASSERT(*val == UINT64_MAX);
	p->reads++;
	p->last_offset = offset;
	p->last_size = size;
	snprintf(p->trace + n, sizeof(p->trace) - n, "%x:%u ", (unsigned)offset, size);
	*val = p->answer + offset;
}

static void probe_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	struct probe *p = opaque;
	size_t n = strlen(p->trace);

	p->writes++;
	p->last_offset = offset;
	p->last_size = size;
	p->last_val = val;
	snprintf(p->trace + n, sizeof(p->trace) - n, "%x:%u=%llx ", (unsigned)offset, size,
		 (unsigned long long)val);
}

static const struct bus_ops any_ops = { .read = probe_read, .write = probe_write };
static const struct bus_ops byte_ops = { .read = probe_read, .write = probe_write, .max_size = 1 };
static const struct bus_ops dword_ops = { .read = probe_read,
					  .write = probe_write,
					  .max_size = 4 };

static void test_bus_overlap(void)
{
	struct bus *bus = bus_create(0x10000);
	struct probe p = { 0 };

	CU_ASSERT(bus_add(bus, 0x100, 0, &any_ops, &p, "t") == -EINVAL);
	CU_ASSERT(bus_add(bus, 0xffff, 2, &any_ops, &p, "t") == -EINVAL);
	CU_ASSERT(bus_add(bus, 0x10000, 1, &any_ops, &p, "t") == -EINVAL);
	CU_ASSERT(bus_add(bus, UINT64_MAX, 2, &any_ops, &p, "t") == -EINVAL);
	CU_ASSERT(bus_add(bus, 0x100, 0x10, &any_ops, &p, "t") == 0);
	CU_ASSERT(bus_add(bus, 0x100, 0x10, &any_ops, &p, "t") == -EEXIST);
	CU_ASSERT(bus_add(bus, 0xf8, 9, &any_ops, &p, "t") == -EEXIST);
	CU_ASSERT(bus_add(bus, 0x10f, 1, &any_ops, &p, "t") == -EEXIST);
	CU_ASSERT(bus_add(bus, 0, 0x10000, &any_ops, &p, "t") == -EEXIST);
	CU_ASSERT(bus_add(bus, 0x110, 1, &any_ops, &p, "t") == 0);
	CU_ASSERT(bus_add(bus, 0xff, 1, &any_ops, &p, "t") == 0);
	CU_ASSERT(bus_remove(bus, 0x101, &p) == -ENOENT);
	CU_ASSERT(bus_remove(bus, 0x100, bus) == -ENOENT); /* somebody else's */
	CU_ASSERT(bus_remove(bus, 0x100, &p) == 0);
	CU_ASSERT(bus_add(bus, 0x100, 0x11, &any_ops, &p, "t") == -EEXIST);
	CU_ASSERT(bus_add(bus, 0x108, 8, &any_ops, &p, "t") == 0);
	bus_destroy(bus);
}

static void test_bus_split(void)
{
	static const struct {
		const struct bus_ops *ops;
		uint64_t addr; /* range is 0x100..0x10f */
		unsigned size;
		uint64_t val;
		const char *trace;
	} cases[] = {
		{ &any_ops, 0x100, 8, 0x1122334455667788, "0:8=1122334455667788 " },
		{ &any_ops, 0x102, 4, 0x11223344, "2:2=3344 4:2=1122 " },
		{ &any_ops, 0x101, 4, 0x11223344, "1:1=44 2:2=2233 4:1=11 " },
		{ &any_ops, 0x104, 3, 0x112233, "4:2=2233 6:1=11 " },
		{ &byte_ops, 0x100, 2, 0x1122, "0:1=22 1:1=11 " },
		{ &dword_ops, 0x108, 8, 0x1122334455667788, "8:4=55667788 c:4=11223344 " },
		{ &any_ops, 0x10e, 4, 0x11223344, "e:2=3344 " },    /* end of the range */
		{ &any_ops, 0xfe, 4, 0x11223344, "0:2=1122 " },     /* begin of it */
		{ &any_ops, 0x110, 4, 0x11223344, "" },
		{ &any_ops, 0x100, 1, 0xff, "0:1=ff " },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct bus *bus = bus_create(0x10000);
		struct probe p = { 0 };

		bus_add(bus, 0x100, 0x10, cases[i].ops, &p, "t");
		bus_write(bus, cases[i].addr, cases[i].size, cases[i].val);
		CU_ASSERT_STRING_EQUAL(p.trace, cases[i].trace);
		bus_destroy(bus);
	}
}

static void test_bus_read(void)
{
	struct bus *bus = bus_create(0x10000);
	struct probe p = { .answer = 0x40 };
	uint64_t val;

	bus_read(bus, 0x50, 4, &val);
	CU_ASSERT(val == 0xffffffff);
	bus_read(bus, 0x50, 8, &val);
	CU_ASSERT(val == UINT64_MAX);
	bus_add(bus, 0x100, 4, &byte_ops, &p, "t");
	bus_read(bus, 0x100, 4, &val);
	CU_ASSERT(val == 0x43424140);
	bus_read(bus, 0xff, 2, &val); /* half of it is nobody's */
	CU_ASSERT(val == 0x40ff);
	bus_read(bus, 0x103, 4, &val);
	CU_ASSERT(val == 0xffffff43);
	bus_read(bus, 0xffff, 4, &val); /* past the end of the space, no wrap to port 0 */
	CU_ASSERT(val == 0xffffffff);
	p.answer = 0xabcd00; /* more than was asked for is cut off */
	bus_read(bus, 0x100, 1, &val);
	CU_ASSERT(val == 0);
	bus_destroy(bus);
	bus = bus_create(0);
	CU_ASSERT(bus_add(bus, UINT64_MAX - 7, 8, &any_ops, &p, "t") == 0);
	bus_write(bus, UINT64_MAX, 1, 5);
	CU_ASSERT(p.last_offset == 7 && p.last_val == 5);
	bus_destroy(bus);
}

/* A range that moves about while another thread uses the bus. */
static void *bus_mover(void *opaque)
{
	struct bus *bus = ((void **)opaque)[0];
	struct probe *p = ((void **)opaque)[1];

	for (int i = 0; i < 20000; i++) {
		(void)bus_add(bus, 0x1000 + (i % 7) * 0x100, 0x100, &dword_ops, p, "moving");
		(void)bus_remove(bus, 0x1000 + (i % 7) * 0x100, p);
	}
	return NULL;
}

static void quiet_read(void *opaque, uint64_t offset, unsigned size, uint64_t *val)
{
	(void)opaque, (void)offset, (void)size;
	*val = 0x5a;
}

static void quiet_write(void *opaque, uint64_t offset, unsigned size, uint64_t val)
{
	(void)opaque, (void)offset, (void)size, (void)val;
}

static void test_bus_move(void)
{
	static const struct bus_ops fixed = { .read = quiet_read, .write = quiet_write };
	struct bus *bus = bus_create(0x10000);
	struct probe p = { 0 };
	void *args[] = { bus, &p };
	pthread_t thread;
	uint64_t val;
	int bad = 0;

	bus_add(bus, 0x2000, 0x10, &fixed, NULL, "fixed");
	pthread_create(&thread, NULL, bus_mover, args);
	for (int i = 0; i < 20000; i++) {
		bus_read(bus, 0x2000, 1, &val);
		bad += val != 0x5a;
	}
	pthread_join(thread, NULL);
	CU_ASSERT(bad == 0);
	bus_destroy(bus);
}

/* --- interrupt wires -------------------------------------------------------------------------- */

struct wires {
	char trace[256];
	uint64_t address;
	uint32_t data;
};

static void note(struct wires *w, const char *what, unsigned n, bool level)
{
	size_t used = strlen(w->trace);

	snprintf(w->trace + used, sizeof(w->trace) - used, "%s%u%c ", what, n, level ? '+' : '-');
}

static void pic_set(void *opaque, unsigned input, bool level)
{
	note(opaque, "pic", input, level);
}

static int pic_ack(void *opaque)
{
	(void)opaque;
	return 0x31;
}

static void ioapic_set(void *opaque, unsigned pin, bool level)
{
	note(opaque, "io", pin, level);
}

static void ioapic_eoi(void *opaque, uint8_t vector)
{
	note(opaque, "eoi", vector, true);
}

static int sink_msi(void *opaque, uint64_t address, uint32_t data)
{
	struct wires *w = opaque;

	w->address = address;
	w->data = data;
	return 0;
}

static void sink_intr(void *opaque, bool level)
{
	note(opaque, "intr", 0, level);
}

static void sink_route(void *opaque, unsigned pin, uint64_t address, uint32_t data, bool enabled)
{
	(void)address, (void)data;
	note(opaque, "route", pin, enabled);
}

static const struct pic_ops pic_ops = { .set = pic_set, .ack = pic_ack };
static const struct ioapic_ops ioapic_ops = { .set = ioapic_set, .eoi = ioapic_eoi };
static const struct irq_sink sink = { .msi = sink_msi, .intr = sink_intr, .route = sink_route };

static void test_irq_fanout(void)
{
	static const struct {
		unsigned line;
		const char *trace;
	} cases[] = {
		{ 0, "pic0+ io2+ " }, { 1, "pic1+ io1+ " }, { 2, "" },
		{ 9, "pic9+ io9+ " }, { 15, "pic15+ io15+ " }, { 16, "io16+ " },
		{ 23, "io23+ " },     { 24, "" },          { UINT32_MAX, "" },
	};
	struct irqs *irqs = irqs_create();

	irq_set(irqs, 4, true); /* no chips yet: nothing happens */
	CU_ASSERT(irq_ack(irqs) == -ENOENT);
	irq_eoi(irqs, 0x30);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wires w = { 0 };

		irqs_attach_pic(irqs, &pic_ops, &w);
		irqs_attach_ioapic(irqs, &ioapic_ops, &w);
		irq_set(irqs, cases[i].line, true);
		CU_ASSERT_STRING_EQUAL(w.trace, cases[i].trace);
	}
	irqs_destroy(irqs);
}

static void test_irq_sink(void)
{
	struct irqs *irqs = irqs_create();
	struct wires w = { 0 };

	CU_ASSERT(irq_msi(irqs, 0xfee00000, 0x41) == 0);
	irqs_attach_sink(irqs, &sink, &w);
	irqs_attach_pic(irqs, &pic_ops, &w);
	irqs_attach_ioapic(irqs, &ioapic_ops, &w);
	CU_ASSERT(irq_msi(irqs, 0xfee01000, 0x41) == 0 && w.address == 0xfee01000 &&
		  w.data == 0x41);
	CU_ASSERT(irq_msi(irqs, 0xfedfffff, 1) == -EINVAL);
	CU_ASSERT(irq_msi(irqs, 0xfef00000, 1) == -EINVAL);
	CU_ASSERT(irq_msi(irqs, 0x1fee00000, 1) == -EINVAL);
	CU_ASSERT(w.data == 0x41);
	irq_intr(irqs, true);
	irq_route(irqs, 23, 0xfee00000, 0x31, true);
	irq_route(irqs, 24, 0xfee00000, 0x31, true);
	irq_eoi(irqs, 0x31);
	CU_ASSERT_STRING_EQUAL(w.trace, "intr0+ route23+ eoi49+ ");
	CU_ASSERT(irq_ack(irqs) == 0x31);
	irqs_destroy(irqs);
}

int main(void)
{
	CU_TestInfo memory[] = {
		{ "ranges: hole, ends, wrap", test_memory_ranges },
		{ "access and atomics", test_memory_access },
		{ "creation and seals", test_memory_create },
		{ "from a file", test_memory_load },
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo tsc[] = {
		{ "measured since, or anew", test_tsc },
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo bus[] = {
		{ "overlap refused", test_bus_overlap },
		{ "accesses split for their handlers", test_bus_split },
		{ "reads, unmapped and cut", test_bus_read },
		{ "a range moves while another is used", test_bus_move },
		CU_TEST_INFO_NULL,
	};
	CU_TestInfo irq[] = {
		{ "fan-out to PIC and IOAPIC", test_irq_fanout },
		{ "MSI, INTR, EOI, routes", test_irq_sink },
		CU_TEST_INFO_NULL,
	};

	return UNIT_RUN(
		UNIT_SUITE("memory", memory),
		UNIT_SUITE("tsc", tsc),
		UNIT_SUITE("bus", bus),
		UNIT_SUITE("irq", irq));
}
