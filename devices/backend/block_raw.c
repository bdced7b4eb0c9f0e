/* SPDX-License-Identifier: Apache-2.0 */
/* block_raw.c - a raw image in a regular file or on a block device. See block.h. */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "devices/backend/block.h"

struct raw {
	struct block block;
	int fd;
	bool is_device;
};

static const uint8_t zeroes[65536]; /* source of written zeroes where the host can't make them */

/* Moves the start of the vector past `done` bytes. */
static void advance(struct iovec **iov, unsigned *n, size_t done)
{
	while (*n && done >= (*iov)->iov_len) {
		done -= (*iov)->iov_len;
		(*iov)++;
		(*n)--;
	}
	if (*n) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + done;
		(*iov)->iov_len -= done;
	}
}

/* The whole vector, whatever pieces the host makes of it. */
static int transfer(const struct raw *raw, bool write, struct iovec *iov, unsigned n,
		    uint64_t offset, uint64_t *ret_done)
{
	*ret_done = 0;
	while (n) {
		int some = n < IOV_MAX ? (int)n : IOV_MAX;
		off_t at = (off_t)(offset + *ret_done);
		ssize_t done = write ? pwritev(raw->fd, iov, some, at)
				     : preadv(raw->fd, iov, some, at);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		if (done == 0)
			return -EIO; /* somebody cut the file short */
		*ret_done += (uint64_t)done;
		advance(&iov, &n, (size_t)done);
	}
	return 0;
}

static int raw_readv(struct block *b, struct iovec *iov, unsigned n, uint64_t offset,
		     uint64_t *ret_done)
{
	return transfer((struct raw *)b, false, iov, n, offset, ret_done);
}

static int raw_writev(struct block *b, struct iovec *iov, unsigned n, uint64_t offset)
{
	uint64_t done;

	return transfer((struct raw *)b, true, iov, n, offset, &done);
}

static int raw_flush(struct block *b)
{
	return fdatasync(((struct raw *)b)->fd) < 0 ? -errno : 0;
}

static int raw_punch(const struct raw *raw, int mode, uint64_t offset, uint64_t len)
{
	int r;

	do
		r = fallocate(raw->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int raw_discard(struct block *b, uint64_t offset, uint64_t len)
{
	const struct raw *raw = (struct raw *)b;
	uint64_t range[2] = { offset, len };
	int r;

	if (raw->is_device)
		r = ioctl(raw->fd, BLKDISCARD, range) < 0 ? -errno : 0;
	else
		r = raw_punch(raw, FALLOC_FL_PUNCH_HOLE, offset, len);
	return r == -EOPNOTSUPP || r == -ENOTTY ? 0 : r; /* it was advice only */
}

static int raw_write_zeroes(struct block *b, uint64_t offset, uint64_t len, bool unmap)
{
	const struct raw *raw = (struct raw *)b;
	int r = -EOPNOTSUPP;

	if (unmap)
		r = raw_punch(raw, FALLOC_FL_PUNCH_HOLE, offset, len);
	if (r == -EOPNOTSUPP)
		r = raw_punch(raw, FALLOC_FL_ZERO_RANGE, offset, len);
	if (r != -EOPNOTSUPP)
		return r;
	for (r = 0; r == 0 && len;) {
		uint64_t some = len < sizeof(zeroes) ? len : sizeof(zeroes), done;
		/* the vector is not const, what it points at is only read */
		struct iovec iov = { (void *)(uintptr_t)zeroes, (size_t)some };

		r = transfer(raw, true, &iov, 1, offset, &done);
		offset += some;
		len -= some;
	}
	return r;
}

static void raw_destroy(struct block *b)
{
	struct raw *raw = (struct raw *)b;

	close(raw->fd);
	free(raw);
}

static const struct block_ops raw_ops = {
	.readv = raw_readv,
	.writev = raw_writev,
	.flush = raw_flush,
	.discard = raw_discard,
	.write_zeroes = raw_write_zeroes,
	.destroy = raw_destroy,
};

int block_raw_create(int fd, bool readonly, struct block **ret_block)
{
	int flags = fcntl(fd, F_GETFL);
	struct raw *raw;
	struct stat st;
	off_t end;

	if (flags < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return -EINVAL;
	if ((flags & O_ACCMODE) == O_WRONLY || (!readonly && (flags & O_ACCMODE) != O_RDWR) ||
	    flags & O_APPEND)
		return -EINVAL;
	end = lseek(fd, 0, SEEK_END);
	if (end < 0)
		return -errno;
	raw = calloc(1, sizeof(*raw));
	if (!raw)
		return -ENOMEM;
	raw->block = (struct block){ .ops = &raw_ops, .size = (uint64_t)end, .readonly = readonly };
	raw->fd = fd;
	raw->is_device = S_ISBLK(st.st_mode);
	*ret_block = &raw->block;
	return 0;
}
