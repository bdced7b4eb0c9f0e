/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest-io.c - what a guest does to a disk for the benchmarks; static, past the guest's page cache.
 *
 *   guest-io DEVICE SECONDS VERB...
 *
 *   read, write   sequential, 1 MiB at a time, round and round
 *   rand1         4 KiB from anywhere, one at a time
 *   rand32        the same, 32 at a time (Linux AIO)
 *   flush         4 KiB written and flushed
 *
 * Each prints "step VERB" when it begins, and "result VERB OPERATIONS BYTES SECONDS" at its end.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BIG (1u << 20)
#define SMALL 4096u
#define DEPTH 32

struct disk {
	int fd;
	uint64_t size;
	double seconds;
	uint32_t random;
	char *buf; /* DEPTH * SMALL or BIG bytes, whichever is more */
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static off_t anywhere(struct disk *d)
{
	d->random ^= d->random << 13;
	d->random ^= d->random >> 17;
	d->random ^= d->random << 5;
	return (off_t)(d->random % (d->size / SMALL) * SMALL);
}

/* Operations done, or -1. */
static long stream(struct disk *d, int write)
{
	double end = now() + d->seconds;
	uint64_t at = 0;
	long n = 0;

	for (; now() < end; n++, at = at + 2 * BIG > d->size ? 0 : at + BIG) {
		ssize_t done = write ? pwrite(d->fd, d->buf, BIG, (off_t)at)
				     : pread(d->fd, d->buf, BIG, (off_t)at);

		if (done != BIG)
			return -1;
	}
	return n;
}

static long run_read(struct disk *d)
{
	return stream(d, 0);
}

static long run_write(struct disk *d)
{
	return stream(d, 1);
}

static long run_rand1(struct disk *d)
{
	double end = now() + d->seconds;
	long n = 0;

	for (; now() < end; n++)
		if (pread(d->fd, d->buf, SMALL, anywhere(d)) != SMALL)
			return -1;
	return n;
}

static long run_flush(struct disk *d)
{
	double end = now() + d->seconds;
	long n = 0;

	for (; now() < end; n++)
		if (pwrite(d->fd, d->buf, SMALL, anywhere(d)) != SMALL || fdatasync(d->fd) < 0)
			return -1;
	return n;
}

static int submit(struct disk *d, aio_context_t ctx, struct iocb *io)
{
	io->aio_offset = anywhere(d);
	return syscall(SYS_io_submit, ctx, 1L, &io) == 1;
}

static long run_rand32(struct disk *d)
{
	double end = now() + d->seconds;
	struct iocb io[DEPTH] = { 0 };
	struct io_event event[DEPTH];
	aio_context_t ctx = 0;
	long n = 0, got, flying = 0;

	if (syscall(SYS_io_setup, (long)DEPTH, &ctx) < 0)
		return -1;
	for (int i = 0; i < DEPTH; i++, flying++) {
		io[i].aio_lio_opcode = IOCB_CMD_PREAD;
		io[i].aio_fildes = (uint32_t)d->fd;
		io[i].aio_buf = (uintptr_t)(d->buf + (size_t)i * SMALL);
		io[i].aio_nbytes = SMALL;
		io[i].aio_data = (uintptr_t)&io[i];
		if (!submit(d, ctx, &io[i]))
			return -1;
	}
	while (flying) {
		got = syscall(SYS_io_getevents, ctx, 1L, (long)DEPTH, event, NULL);
		if (got < 0 && errno == EINTR)
			continue;
		for (long i = 0; i < got; i++, n++) {
			if (event[i].res != SMALL)
				return -1;
			if (now() >= end)
				flying--;
			else if (!submit(d, ctx, (struct iocb *)(uintptr_t)event[i].data))
				return -1;
		}
		if (got < 0)
			return -1;
	}
	syscall(SYS_io_destroy, ctx);
	return n;
}

static const struct {
	const char *name;
	long (*run)(struct disk *d);
	unsigned bytes; /* an operation */
} verbs[] = {
	{ "read", run_read, BIG },      { "write", run_write, BIG },    { "rand1", run_rand1, SMALL },
	{ "rand32", run_rand32, SMALL }, { "flush", run_flush, SMALL },
};

static int run(struct disk *d, const char *name)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		double start;
		long n;

		if (strcmp(verbs[i].name, name) != 0)
			continue;
		printf("step %s\n", name);
		start = now();
		n = verbs[i].run(d);
		if (n < 0) {
			perror(name);
			return 1;
		}
		printf("result %s %ld %.0f %.4f\n", name, n, (double)n * verbs[i].bytes, now() - start);
		return 0;
	}
	fprintf(stderr, "guest-io: what is %s?\n", name);
	return 2;
}

int main(int argc, char **argv)
{
	struct disk d = { .random = 4711 };
	int r = 0;

	if (argc < 4) {
		fputs("usage: guest-io DEVICE SECONDS VERB...\n", stderr);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	d.fd = open(argv[1], O_RDWR | O_DIRECT);
	d.seconds = atof(argv[2]);
	if (d.fd < 0 || posix_memalign((void **)&d.buf, SMALL, BIG)) {
		perror(argv[1]);
		return 1;
	}
	memset(d.buf, 0x5a, BIG);
	d.size = (uint64_t)lseek(d.fd, 0, SEEK_END);
	for (int i = 3; i < argc && r == 0; i++)
		r = run(&d, argv[i]);
	return r;
}
