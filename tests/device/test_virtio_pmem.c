/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-pmem: a file as memory, flushes, files that are wrong or get shorter, drivers that lie. */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/virtio/pmem.h"
#include "devices/virtio/rng.h"
#include "machine/memory.h"
#include "tests/device/vdriver.h"

#define MIB (1ull << 20)
#define SIZE (4 * MIB)
#define NEEDS_RESET 0x40
#define UNTOUCHED 0xeeeeeeeeu

struct pmem {
	struct vdriver d;
	struct device *dev;
	int fd; /* our own view of the file */
	uint64_t start;
	char reason[32], why[256]; /* the last stall */
	unsigned stalls;
};

static int new_file(uint64_t size)
{
	char path[] = "/tmp/vmxd-pmem.XXXXXX";
	int fd = mkstemp(path);

	CHECK(fd >= 0 && unlink(path) == 0 && ftruncate(fd, (off_t)size) == 0);
	return fd;
}

static void on_stall(void *opaque, const char *reason, const char *why)
{
	struct pmem *p = opaque;

	p->stalls++;
	snprintf(p->reason, sizeof(p->reason), "%s", reason);
	snprintf(p->why, sizeof(p->why), "%s", why);
}

static uint64_t cfg(struct pmem *p, unsigned offset)
{
	return rig_read(p->d.rig, p->d.config + offset, 4) |
	       rig_read(p->d.rig, p->d.config + offset + 4, 4) << 32;
}

static void pmem_open(struct rig *r, struct pmem *p, bool on_loop)
{
	struct virtio_pmem_config config = { .on_loop = on_loop, .name = "pmem[7]" };

	memset(p, 0, sizeof(*p));
	p->fd = new_file(SIZE);
	config.fd = dup(p->fd);
	p->dev = rig_add(r, &virtio_pmem_class, &config);
	r->machine->stall = on_stall;
	r->machine->request_opaque = p;
	CHECK(vd_find(r, &p->d, 0x1040 + 27));
	CHECK_EQ(vd_features(&p->d), VF_CORE);
	CHECK_EQ(vd_get(&p->d, VC_NUMQ, 2), 1);
	vd_start(&p->d, VF_INDIRECT, 64);
	p->start = cfg(p, 0);
}

/* What the stall writes to is on this stack. */
static void pmem_close(struct pmem *p)
{
	p->d.rig->machine->stall = NULL;
	close(p->fd);
}

/* Puts request n into the ring, in descriptors of its own. */
static void put_flush(struct pmem *p, unsigned n, uint32_t type)
{
	uint64_t at = VD_BUFFERS + 16ull * n;
	uint8_t raw[8];

	put_le32(raw, type);
	put_le32(raw + 4, UNTOUCHED);
	vd_store(&p->d, at, raw, sizeof(raw));
	vd_desc(&p->d, 2 * n, at, 4, VD_NEXT, (uint16_t)(2 * n + 1));
	vd_desc(&p->d, 2 * n + 1, at + 4, 4, VD_WRITE, 0);
	vd_push(&p->d, (uint16_t)(2 * n));
}

static uint32_t answer_of(struct pmem *p, unsigned n)
{
	uint8_t raw[4];

	vd_load(&p->d, VD_BUFFERS + 16ull * n + 4, raw, sizeof(raw));
	return get_le32(raw);
}

static uint32_t flush(struct pmem *p)
{
	put_flush(p, 0, 0);
	vd_kick(&p->d, 0);
	CHECK(vd_wait(&p->d, p->d.avail));
	return answer_of(p, 0);
}

static uint8_t file_byte(struct pmem *p, off_t at)
{
	uint8_t byte = 0xff;

	CHECK(pread(p->fd, &byte, 1, at) == 1);
	return byte;
}

static void memory(struct rig *r)
{
	static const uint8_t byte = 0x42;
	struct memory *m = r->machine->memory;
	struct pmem p;
	struct stat st;
	uint8_t got;

	pmem_open(r, &p, false);
	CHECK_EQ(p.start % (2ull << 30), 0);
	CHECK_EQ(cfg(&p, 8), SIZE);
	CHECK(fstat(p.fd, &st) == 0 && (uint64_t)st.st_blocks * 512 >= SIZE); /* no hole is left */
	CHECK(mem_valid(m, p.start, SIZE));
	CHECK(!mem_valid(m, p.start - 1, 2) && !mem_valid(m, p.start + SIZE - 1, 2));
	CHECK_EQ(mem_write(m, p.start + SIZE - 1, &byte, 1), 0);
	CHECK_EQ(file_byte(&p, (off_t)SIZE - 1), 0x42);
	CHECK(pwrite(p.fd, "x", 1, 5000) == 1); /* both ways */
	CHECK_EQ(mem_read(m, p.start + 5000, &got, 1), 0);
	CHECK_EQ(got, 'x');
	CHECK_EQ(mem_discard(m, p.start, 4096), -EFAULT); /* a balloon makes no holes in it */
	CHECK_EQ(flush(&p), 0);
	machine_reset_devices(r->machine); /* what is in it stays */
	CHECK_EQ(mem_read(m, p.start + 5000, &got, 1), 0);
	CHECK_EQ(got, 'x');
	pmem_close(&p);
}

/* Many at once; those that come while one is under way are answered as well. */
static void flushes(struct rig *r)
{
	struct pmem p;

	pmem_open(r, &p, false);
	for (unsigned round = 0; round < 8; round++) {
		for (unsigned n = 0; n < 32; n++) {
			put_flush(&p, n, 0);
			if (n % 5 == 0)
				vd_kick(&p.d, 0);
		}
		vd_kick(&p.d, 0);
		CHECK(vd_wait(&p.d, p.d.avail));
		for (unsigned n = 0; n < 32; n++)
			CHECK_EQ(answer_of(&p, n), 0);
	}
	pmem_close(&p);
}

/* Nothing is answered before it is done, and nobody waits for it but the driver. */
static void order(struct rig *r)
{
	struct pmem p;

	pmem_open(r, &p, true);
	put_flush(&p, 0, 0);
	put_flush(&p, 1, 7); /* no such request */
	vd_kick(&p.d, 0);
	rig_turn(r);
	CHECK(vd_wait(&p.d, 2));
	CHECK_EQ(answer_of(&p, 0), 0);
	CHECK_EQ(answer_of(&p, 1), 1);
	put_flush(&p, 2, 0);
	vd_kick(&p.d, 0);
	vd_set(&p.d, VC_STATUS, 1, 0); /* reset before it was looked at */
	rig_turn(r);
	CHECK_EQ(vd_get(&p.d, VC_STATUS, 1), 0);
	CHECK_EQ(answer_of(&p, 2), UNTOUCHED);
	vd_start(&p.d, 0, 64);
	put_flush(&p, 0, 0);
	vd_kick(&p.d, 0);
	machine_pause_devices(r->machine);
	machine_resume_devices(r->machine);
	CHECK(vd_wait(&p.d, 1));
	machine_reset_devices(r->machine);
	pmem_close(&p);
}

static void wrong_sizes(struct rig *r)
{
	static const struct {
		uint32_t out, in;
	} sizes[] = { { 3, 4 }, { 4, 3 }, { 0, 8 }, { 8, 0 } };
	struct pmem p;

	pmem_open(r, &p, false);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		vd_start(&p.d, 0, 64);
		if (sizes[i].out)
			vd_desc(&p.d, 0, VD_BUFFERS, sizes[i].out, sizes[i].in ? VD_NEXT : 0, 1);
		if (sizes[i].in)
			vd_desc(&p.d, sizes[i].out ? 1 : 0, VD_BUFFERS + 64, sizes[i].in, VD_WRITE, 0);
		vd_push(&p.d, 0);
		vd_kick(&p.d, 0);
		CHECK(vd_wait_status(&p.d, NEEDS_RESET, NEEDS_RESET));
	}
	vd_start(&p.d, 0, 64);
	CHECK_EQ(flush(&p), 0);
	pmem_close(&p);
}

/* The file gets shorter under the machine, twice; a whole one mends it at a reset. */
static void shorter(struct rig *r)
{
	struct memory *m = r->machine->memory;
	uint8_t page[4096], got;
	struct pmem p;

	pmem_open(r, &p, false);
	memset(page, 0x33, sizeof(page));
	for (uint64_t at = 0; at < SIZE; at += sizeof(page))
		CHECK_EQ(mem_write(m, p.start + at, page, sizeof(page)), 0);
	CHECK_EQ(flush(&p), 0);
	CHECK(ftruncate(p.fd, 3 * MIB) == 0);
	CHECK_EQ(mem_read(m, p.start + 3 * MIB - 1, &got, 1), 0);
	CHECK_EQ(got, 0x33);
	CHECK_EQ(p.stalls, 0);
	CHECK_EQ(mem_read(m, p.start + 3 * MIB + 9000, &got, 1), 0);
	CHECK_EQ(got, 0);
	rig_turn(r);
	CHECK_EQ(p.stalls, 1);
	CHECK(!strcmp(p.reason, "file-lost") && strstr(p.why, "pmem[7]") && strstr(p.why, "3153920"));
	CHECK_EQ(mem_write(m, p.start + 3 * MIB + 9000, page, 10), 0); /* nobody's, but it stays */
	CHECK(ftruncate(p.fd, MIB) == 0);
	CHECK_EQ(mem_write(m, p.start + MIB, page, sizeof(page)), 0);
	CHECK_EQ(mem_read(m, p.start + 3 * MIB + 9000, &got, 1), 0);
	CHECK_EQ(got, 0x33);
	rig_turn(r);
	CHECK_EQ(p.stalls, 2);
	CHECK_EQ(flush(&p), 1);
	machine_reset_devices(r->machine); /* it is as it was, and says so again */
	CHECK_EQ(p.stalls, 3);
	CHECK(ftruncate(p.fd, SIZE) == 0);
	machine_reset_devices(r->machine);
	CHECK_EQ(p.stalls, 3);
	CHECK(vd_find(r, &p.d, 0x1040 + 27));
	vd_start(&p.d, 0, 64);
	CHECK_EQ(flush(&p), 0);
	CHECK_EQ(mem_read(m, p.start + 3 * MIB + 9000, &got, 1), 0);
	CHECK_EQ(got, 0);
	CHECK_EQ(mem_write(m, p.start + 2 * MIB, page, 1), 0);
	CHECK_EQ(file_byte(&p, 2 * MIB), 0x33);
	pmem_close(&p);
}

/* Other devices put their data there. */
static void dma(struct rig *r)
{
	static const struct virtio_rng_config rng;
	struct vdriver other = { 0 };
	struct pmem p;
	unsigned zeroes = 0;

	pmem_open(r, &p, false);
	rig_add(r, &virtio_rng_class, &rng);
	CHECK(vd_find(r, &other, 0x1044));
	vd_start(&other, 0, 16);
	vd_desc(&other, 0, p.start + 4096, 64, VD_WRITE, 0);
	vd_push(&other, 0);
	vd_kick(&other, 0);
	CHECK(vd_wait(&other, 1));
	for (off_t i = 0; i < 64; i++)
		zeroes += file_byte(&p, 4096 + i) == 0;
	CHECK(zeroes < 16);
	pmem_close(&p);
}

static void bad_files(struct rig *r)
{
	static const uint64_t sizes[] = { 0, 4096, SIZE - 1, SIZE + 4096, SIZE + MIB };
	struct virtio_pmem_config config = { 0 };
	int fds[2];

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		config.fd = new_file(sizes[i]);
		CHECK_EQ(device_create(r->machine, &virtio_pmem_class, &config, NULL), -EINVAL);
		CHECK(fcntl(config.fd, F_GETFD) >= 0); /* it is the caller's still */
		close(config.fd);
	}
	config.fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	CHECK(device_create(r->machine, &virtio_pmem_class, &config, NULL) < 0);
	close(config.fd);
	CHECK(pipe(fds) == 0);
	config.fd = fds[0];
	CHECK_EQ(device_create(r->machine, &virtio_pmem_class, &config, NULL), -ESPIPE);
	close(fds[0]);
	close(fds[1]);
	config.fd = memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING); /* refuses to be mapped */
	CHECK(ftruncate(config.fd, SIZE) == 0 && fcntl(config.fd, F_ADD_SEALS, F_SEAL_WRITE) == 0);
	CHECK_EQ(device_create(r->machine, &virtio_pmem_class, &config, NULL), -EPERM);
	close(config.fd);
	CHECK_EQ(memory_areas_end(r->machine->memory), 0);
}

int main(int argc, char **argv)
{
	static const struct rig_case cases[] = {
		{ "memory", memory },
		{ "flushes", flushes },
		{ "order", order },
		{ "requests of wrong sizes", wrong_sizes },
		{ "a file that gets shorter", shorter },
		{ "DMA", dma },
		{ "bad files", bad_files },
	};

	return rig_main("virtio-pmem", cases, ARRAY_SIZE(cases), argc, argv);
}
