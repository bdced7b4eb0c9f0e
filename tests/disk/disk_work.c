/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk-work - works on disk images through devices/backend, for disks.py.
 *
 *   open FILE... ro|rw             opens a chain (top first, "raw:"  or "qcow2:" before each)
 *   read OUT FILE...               its whole content
 *   random MODEL SEED OPS THREADS FILE...
 *                                  works at random, the same to
 *                                  the raw file MODEL; what is read must be what the model has.
 *                                  Prints how many were over at once (try_now)
 *   crash OUT SEED OPS STOP FILE   the same in one thread, on a host that stops at its STOP-th call
 *                                  and loses any part of what it was not told to sync; OUT is what is
 *                                  left. Prints "whole" if the end came first.
 *   grow SIZE FILE...
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "devices/backend/block.h"
#include "devices/backend/iov.h"
#include "devices/backend/qcow2.h"

#define BYTES_MAX (256u << 10)

static _Noreturn void die(const char *what, int r)
{
	fprintf(stderr, "%s: %s\n", what, strerror(-r));
	exit(3);
}

static struct block *open_raw(const char *path, bool readonly)
{
	bool direct = getenv("DISK_WORK_DIRECT");
	int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | (direct ? O_DIRECT : 0));
	struct block *block;
	int r = fd < 0 ? -errno : block_raw_create(fd, readonly, &block);

	if (r < 0)
		die(path, r);
	return block;
}

/* files: top first. Only the top one is written. */
static struct block *open_chain(char **files, int n, bool readonly)
{
	struct block *below = NULL, *block;
	char why[QCOW2_WHY_MAX];

	for (int i = n - 1; i >= 0; i--) {
		bool ro = readonly || i;
		const char *colon = strchr(files[i], ':');
		int r;

		if (!colon)
			die(files[i], -EINVAL);
		block = open_raw(colon + 1, ro);
		if (strncmp(files[i], "qcow2:", 6) == 0) {
			struct block *file = block;

			r = block_qcow2_create(file, below, ro, why, &block);
			if (r < 0) {
				printf("refused: %s: %s\n", strerror(-r), why);
				block_destroy(file);
				block_destroy(below);
				exit(1);
			}
		}
		below = block;
	}
	return below;
}

/* --- work at random -------------------------------------------------------------------------- */

struct job {
	struct block *block;
	int model; /* -1: none */
	uint64_t seed, from, step;
	unsigned ops;
	pthread_mutex_t *lock; /* NULL: one thread has it all */
	unsigned wrong;
	unsigned now[2]; /* reads and writes that were over at once */
};

static uint64_t next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static void fill(uint8_t *buf, size_t len, uint64_t *s)
{
	uint64_t x = next(s);

	for (size_t i = 0; i < len; i++)
		buf[i] = (uint8_t)(x >> 8 * (i % 7)) ^ (uint8_t)(i >> 9);
}

/* Every other one is first tried without waiting, as a vCPU does. */
static int transfer(struct job *j, bool write, struct iovec *iov, unsigned n, uint64_t offset)
{
	const struct block_ops *ops = j->block->ops;
	uint64_t done;

	if (ops->try_now && next(&j->seed) >> 13 & 1 && ops->try_now(j->block, write, iov, n, offset) == 0) {
		j->now[write]++;
		return 0;
	}
	return write ? ops->writev(j->block, iov, n, offset) : ops->readv(j->block, iov, n, offset, &done);
}

static int do_write(struct job *j, uint8_t *buf, uint64_t offset, size_t len)
{
	size_t half = len / 512 / 2 * 512;
	struct iovec iov[3] = { { buf, half }, { buf + half, 0 }, { buf + half, len - half } };

	fill(buf, len, &j->seed);
	if (j->model >= 0 && pwrite(j->model, buf, len, (off_t)offset) != (ssize_t)len)
		die("model", -errno);
	return transfer(j, true, iov, 3, offset);
}

static int do_read(struct job *j, uint8_t *buf, uint64_t offset, size_t len)
{
	uint8_t *want = malloc(len);
	struct iovec iov = { buf, len };
	int r;

	memset(buf, 0xee, len);
	r = transfer(j, false, &iov, 1, offset);
	if (r == 0 && j->model >= 0) {
		if (pread(j->model, want, len, (off_t)offset) != (ssize_t)len)
			die("model", -EIO);
		if (memcmp(buf, want, len)) {
			fprintf(stderr, "wrong bytes in %zu at %" PRIu64 "\n", len, offset);
			j->wrong++;
		}
	}
	free(want);
	return r;
}

static int do_zeroes(struct job *j, uint8_t *buf, uint64_t offset, size_t len, bool unmap)
{
	memset(buf, 0, len);
	if (j->model >= 0 && pwrite(j->model, buf, len, (off_t)offset) != (ssize_t)len)
		die("model", -errno);
	return j->block->ops->write_zeroes(j->block, offset, len, unmap);
}

/* The content is anything afterwards: so it is written again. */
static int do_discard(struct job *j, uint8_t *buf, uint64_t offset, size_t len)
{
	int r = j->block->ops->discard(j->block, offset, len);

	return r < 0 ? r : do_write(j, buf, offset, len);
}

static int one(struct job *j, uint8_t *buf)
{
	uint64_t sectors = j->block->size / 512, x = next(&j->seed), offset, zone = j->step * 64;
	size_t len = (next(&j->seed) % (x & 7 ? 60 : BYTES_MAX / 512) + 1) * 512;

	offset = next(&j->seed) % sectors;
	if (j->step > 1) { /* zones of 32 KiB in turn: neighbours share clusters */
		offset = offset / zone * zone + j->from * 64;
		len = (len / 512 > 64 ? 64 : len / 512) * 512;
		if (offset >= sectors)
			return 0;
	}
	if (offset + len / 512 > sectors)
		len = (sectors - offset) * 512;
	offset *= 512;
	switch (x >> 8 & 15) {
	case 0 ... 6:
		return do_write(j, buf, offset, len);
	case 7 ... 10:
		return do_read(j, buf, offset, len);
	case 11:
		return do_zeroes(j, buf, offset, len, false);
	case 12:
		return do_zeroes(j, buf, offset, len, true);
	case 13:
		return do_discard(j, buf, offset, len);
	default:
		return x >> 12 & 3 ? 0 : j->block->ops->flush(j->block);
	}
}

static void *work(void *opaque)
{
	struct job *j = opaque;
	uint8_t *buf = malloc(BYTES_MAX);

	for (unsigned i = 0; i < j->ops; i++) {
		int r = one(j, buf);

		if (r < 0)
			die("operation", r);
	}
	free(buf);
	return NULL;
}

static int random_work(const char *model, uint64_t seed, unsigned ops, unsigned threads,
		       char **files, int n)
{
	struct block *block = open_chain(files, n, false);
	int fd = open(model, O_RDWR);
	struct job jobs[8];
	pthread_t thread[8];
	unsigned wrong = 0, now[2] = { 0 };

	if (fd < 0 || threads > 8)
		die(model, -errno);
	for (unsigned i = 0; i < threads; i++) {
		jobs[i] = (struct job){ .block = block, .model = fd, .from = i, .step = threads,
					.seed = seed * 1000003 + i + 1, .ops = ops };
		pthread_create(&thread[i], NULL, work, &jobs[i]);
	}
	for (unsigned i = 0; i < threads; i++) {
		pthread_join(thread[i], NULL);
		wrong += jobs[i].wrong;
		now[0] += jobs[i].now[0];
		now[1] += jobs[i].now[1];
	}
	printf("at once: %u reads, %u writes\n", now[0], now[1]);
	block_destroy(block);
	close(fd);
	return wrong != 0;
}

/* --- a host that stops ----------------------------------------------------------------------- */

#define SECTOR 512u

struct lost { /* a sector that was written and not synced */
	uint64_t sector;
	uint8_t data[SECTOR];
};

struct mortal {
	struct block block;
	const char *out;
	uint8_t *synced, *now; /* MORTAL_MAX bytes each */
	size_t size;
	uint64_t seed;
	unsigned left; /* calls to live */
	struct lost *lost;
	size_t lost_n, lost_room;
};
#define MORTAL_MAX (64u << 20)

/* Each sector that was not synced is as any of its writes left it. */
static _Noreturn void stop(struct mortal *m)
{
	int fd = open(m->out, O_RDWR | O_CREAT | O_TRUNC, 0600);

	for (size_t i = 0; i < m->lost_n; i++)
		if (next(&m->seed) >> 20 & 1)
			memcpy(m->synced + m->lost[i].sector * SECTOR, m->lost[i].data, SECTOR);
	if (fd < 0 || write(fd, m->synced, m->size) != (ssize_t)m->size)
		die(m->out, -errno);
	exit(0);
}

static void live(struct mortal *m)
{
	if (!m->left--)
		stop(m);
}

static int mortal_readv(struct block *b, struct iovec *iov, unsigned n, uint64_t offset,
			uint64_t *ret_done)
{
	struct mortal *m = (struct mortal *)b;

	*ret_done = 0;
	for (unsigned i = 0; i < n; i++) {
		if (offset + *ret_done + iov[i].iov_len > m->size)
			return -EIO;
		memcpy(iov[i].iov_base, m->now + offset + *ret_done, iov[i].iov_len);
		*ret_done += iov[i].iov_len;
	}
	return 0;
}

static void lose(struct mortal *m, uint64_t sector)
{
	if (m->lost_n == m->lost_room) {
		m->lost_room = m->lost_room ? m->lost_room * 2 : 1024;
		m->lost = realloc(m->lost, m->lost_room * sizeof(*m->lost));
	}
	m->lost[m->lost_n].sector = sector;
	memcpy(m->lost[m->lost_n++].data, m->now + sector * SECTOR, SECTOR);
}

static int mortal_writev(struct block *b, struct iovec *iov, unsigned n, uint64_t offset)
{
	struct mortal *m = (struct mortal *)b;
	uint64_t at = offset;

	live(m);
	for (unsigned i = 0; i < n; i++) {
		if (at + iov[i].iov_len > MORTAL_MAX)
			return -ENOSPC;
		memcpy(m->now + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	if (at > m->size)
		m->size = (at + SECTOR - 1) / SECTOR * SECTOR;
	for (uint64_t s = offset / SECTOR; s * SECTOR < at; s++)
		lose(m, s);
	return 0;
}

static int mortal_flush(struct block *b)
{
	struct mortal *m = (struct mortal *)b;

	live(m);
	memcpy(m->synced, m->now, m->size);
	m->lost_n = 0;
	return 0;
}

static int mortal_discard(struct block *b, uint64_t offset, uint64_t len)
{
	struct mortal *m = (struct mortal *)b;

	live(m);
	memset(m->now + offset, 0, len);
	for (uint64_t s = offset / SECTOR; s * SECTOR < offset + len; s++)
		lose(m, s);
	return 0;
}

static int mortal_zeroes(struct block *b, uint64_t offset, uint64_t len, bool unmap)
{
	(void)unmap;
	return mortal_discard(b, offset, len);
}

static void mortal_destroy(struct block *b)
{
	struct mortal *m = (struct mortal *)b;

	free(m->synced);
	free(m->now);
	free(m->lost);
	free(m);
}

static const struct block_ops mortal_ops = {
	.readv = mortal_readv, .writev = mortal_writev, .flush = mortal_flush,
	.discard = mortal_discard, .write_zeroes = mortal_zeroes, .destroy = mortal_destroy,
};

static int crash(const char *out, uint64_t seed, unsigned ops, unsigned stop_at, const char *path)
{
	struct mortal *m = calloc(1, sizeof(*m));
	struct block *block;
	struct job job = { .model = -1, .seed = seed * 7919 + 1, .step = 1, .ops = ops };
	char why[QCOW2_WHY_MAX];
	int fd = open(path, O_RDONLY), r;
	ssize_t n;

	m->synced = calloc(1, MORTAL_MAX);
	m->now = calloc(1, MORTAL_MAX);
	n = pread(fd, m->now, MORTAL_MAX, 0);
	if (n <= 0)
		die(path, -errno);
	close(fd);
	m->block = (struct block){ .ops = &mortal_ops, .size = (uint64_t)n, .growable = true };
	m->size = ((size_t)n + SECTOR - 1) / SECTOR * SECTOR;
	m->out = out;
	m->seed = seed + stop_at * 77777u + 1;
	m->left = stop_at;
	memcpy(m->synced, m->now, m->size);
	r = block_qcow2_create(&m->block, NULL, false, why, &block);
	if (r < 0)
		die(why, r);
	job.block = block;
	work(&job);
	block_destroy(block);
	puts("whole");
	return 0;
}

/* --- the rest -------------------------------------------------------------------------------- */

static int read_to(const char *out, char **files, int n)
{
	struct block *block = open_chain(files, n, true);
	int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	uint8_t *buf = malloc(BYTES_MAX);
	int r = 0;

	for (uint64_t at = 0; at < block->size && r == 0; at += BYTES_MAX) {
		size_t some = block->size - at < BYTES_MAX ? block->size - at : BYTES_MAX;
		struct iovec iov = { buf, some };
		uint64_t done;

		r = block->ops->readv(block, &iov, 1, at, &done);
		if (r < 0)
			printf("at %" PRIu64 ": %s\n", at, strerror(-r));
		else if (write(fd, buf, some) != (ssize_t)some)
			die(out, -errno);
	}
	free(buf);
	close(fd);
	block_destroy(block);
	return r < 0;
}

static int grow(uint64_t size, char **files, int n)
{
	struct block *block = open_chain(files, n, false);
	int r = block->ops->resize(block, size);

	if (r < 0)
		printf("refused: %s\n", strerror(-r));
	block_destroy(block);
	return r < 0;
}

int main(int argc, char **argv)
{
	if (argc > 3 && !strcmp(argv[1], "open")) {
		block_destroy(open_chain(argv + 2, argc - 3, !strcmp(argv[argc - 1], "ro")));
		return 0;
	}
	if (argc > 3 && !strcmp(argv[1], "read"))
		return read_to(argv[2], argv + 3, argc - 3);
	if (argc > 3 && !strcmp(argv[1], "grow"))
		return grow(strtoull(argv[2], NULL, 0), argv + 3, argc - 3);
	if (argc > 6 && !strcmp(argv[1], "random"))
		return random_work(argv[2], strtoull(argv[3], NULL, 0), (unsigned)atoi(argv[4]),
				   (unsigned)atoi(argv[5]), argv + 6, argc - 6);
	if (argc == 7 && !strcmp(argv[1], "crash"))
		return crash(argv[2], strtoull(argv[3], NULL, 0), (unsigned)atoi(argv[4]),
			     (unsigned)atoi(argv[5]), argv[6]);
	fputs("disk-work: see its first lines\n", stderr);
	return 2;
}
