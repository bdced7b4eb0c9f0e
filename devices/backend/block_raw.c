/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block_raw.c - a raw image in a regular file or on a block device. See block.h.
 *
 * With O_DIRECT the host wants offsets, lengths and addresses in multiples of its own. What is not
 * goes through a buffer that is; the rest of a block that is written in part is read first, one
 * such write at a time.
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "devices/backend/block.h"
#include "devices/backend/iov.h"

#define BOUNCE_MAX (1u << 20)
#define ALIGN_UNKNOWN 4096u

struct raw {
	struct block block;
	int fd;
	bool is_device;
	int write_flags; /* of raw_try_now(); atomic */
	pthread_mutex_t partial; /* one write of a part of a block at a time */
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

/* --- what O_DIRECT does not take as it is ---------------------------------------------------- */

static bool is_aligned(const struct raw *raw, const struct iovec *iov, unsigned n, uint64_t offset)
{
	uint64_t bits = offset;

	for (unsigned i = 0; i < n; i++)
		bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
	return !(bits & (raw->block.align - 1));
}

/* Reads whole blocks; behind the end of the file there are zeroes. */
static int read_blocks(const struct raw *raw, uint8_t *buf, uint64_t offset, size_t len,
		       size_t *ret_got)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(raw->fd, buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		done += (size_t)n;
		if (n == 0 || (size_t)n & (raw->block.align - 1))
			break; /* the end */
	}
	memset(buf + done, 0, len - done);
	*ret_got = done;
	return 0;
}

static int bounce_read(const struct raw *raw, uint8_t *buf, struct iov_cursor *to, uint64_t offset,
		       size_t len, uint64_t *ret_done)
{
	uint64_t start = offset & ~(raw->block.align - 1ull);
	size_t skip = (size_t)(offset - start), got, there;
	size_t whole = (skip + len + raw->block.align - 1) & ~(raw->block.align - (size_t)1);
	int r = read_blocks(raw, buf, start, whole, &got);

	if (r < 0)
		return r;
	there = got <= skip ? 0 : got - skip < len ? got - skip : len;
	iov_copy_in(to, buf + skip, there);
	*ret_done += there;
	return there == len ? 0 : -EIO;
}

static int bounce_write(struct raw *raw, uint8_t *buf, struct iov_cursor *from, uint64_t offset,
			size_t len)
{
	size_t align = raw->block.align, got;
	uint64_t start = offset & ~(align - 1ull), done;
	size_t skip = (size_t)(offset - start), whole = (skip + len + align - 1) & ~(align - 1);
	bool partial = skip || whole != skip + len;
	struct iovec iov = { buf, whole };
	int r = 0;

	if (partial)
		pthread_mutex_lock(&raw->partial);
	if (skip)
		r = read_blocks(raw, buf, start, align, &got);
	if (r == 0 && whole != skip + len && (whole > align || !skip))
		r = read_blocks(raw, buf + whole - align, start + whole - align, align, &got);
	iov_copy_out(from, buf + skip, len);
	if (r == 0)
		r = transfer(raw, true, &iov, 1, start, &done);
	if (partial)
		pthread_mutex_unlock(&raw->partial);
	return r;
}

static int bounce(struct raw *raw, bool write, const struct iovec *iov, unsigned n,
		  uint64_t offset, uint64_t *ret_done)
{
	struct iov_cursor cursor = { iov, n, 0 };
	size_t align = raw->block.align;
	uint64_t len = 0, done, some;
	void *buf;
	int r = 0;

	*ret_done = 0;
	for (unsigned i = 0; i < n; i++)
		len += iov[i].iov_len;
	if (posix_memalign(&buf, align, BOUNCE_MAX + 2 * align))
		return -ENOMEM;
	for (done = 0; done < len && r == 0; done += some) {
		some = len - done < BOUNCE_MAX ? len - done : BOUNCE_MAX;
		if (write)
			r = bounce_write(raw, buf, &cursor, offset + done, (size_t)some);
		else
			r = bounce_read(raw, buf, &cursor, offset + done, (size_t)some, ret_done);
	}
	free(buf);
	return r;
}

/* --- the operations -------------------------------------------------------------------------- */

static int raw_readv(struct block *b, struct iovec *iov, unsigned n, uint64_t offset,
		     uint64_t *ret_done)
{
	struct raw *raw = (struct raw *)b;

	if (!is_aligned(raw, iov, n, offset))
		return bounce(raw, false, iov, n, offset, ret_done);
	return transfer(raw, false, iov, n, offset, ret_done);
}

static int raw_writev(struct block *b, struct iovec *iov, unsigned n, uint64_t offset)
{
	struct raw *raw = (struct raw *)b;
	uint64_t done;

	if (!is_aligned(raw, iov, n, offset))
		return bounce(raw, true, iov, n, offset, &done);
	return transfer(raw, true, iov, n, offset, &done);
}

/* A file system that cannot say whether a write would wait (ext4) is asked to do it all the same:
 * into its cache, as any other write. */
static int raw_try_now(struct block *b, bool write, const struct iovec *iov, unsigned n,
		       uint64_t offset)
{
	struct raw *raw = (struct raw *)b;
	int flags = write ? __atomic_load_n(&raw->write_flags, __ATOMIC_RELAXED) : RWF_NOWAIT;
	uint64_t len = 0;
	ssize_t done;

	if (b->align != 1)
		return -EOPNOTSUPP; /* O_DIRECT */
	for (unsigned i = 0; i < n; i++)
		len += iov[i].iov_len;
	done = write ? pwritev2(raw->fd, iov, (int)n, (off_t)offset, flags)
		     : preadv2(raw->fd, iov, (int)n, (off_t)offset, flags);
	if (done < 0 && write && flags && errno == EOPNOTSUPP) {
		__atomic_store_n(&raw->write_flags, 0, __ATOMIC_RELAXED);
		return raw_try_now(b, write, iov, n, offset);
	}
	if (done < 0)
		return -errno;
	return (uint64_t)done == len ? 0 : -EAGAIN;
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
		uint64_t some = len < sizeof(zeroes) ? len : sizeof(zeroes);
		/* the vector is not const, what it points at is only read */
		struct iovec iov = { (void *)(uintptr_t)zeroes, (size_t)some };

		r = raw_writev(b, &iov, 1, offset);
		offset += some;
		len -= some;
	}
	return r;
}

static int raw_resize(struct block *b, uint64_t size)
{
	struct raw *raw = (struct raw *)b;
	off_t end = lseek(raw->fd, 0, SEEK_END);

	if (end < 0)
		return -errno;
	if (!size)
		size = (uint64_t)end;
	if (size < block_size(b))
		return -ERANGE;
	if (size > (uint64_t)end) {
		if (b->readonly)
			return -EROFS;
		if (raw->is_device)
			return -ENOTSUP;
		if (size > INT64_MAX)
			return -EFBIG;
		if (ftruncate(raw->fd, (off_t)size) < 0)
			return -errno;
	}
	__atomic_store_n(&b->size, size, __ATOMIC_RELEASE);
	return 0;
}

static int raw_map(struct block *b, bool write, uint64_t offset, uint64_t len,
		   struct block_map *ret_map)
{
	(void)write, (void)len;
	*ret_map = (struct block_map){ ((struct raw *)b)->fd, offset, 0 };
	return 0;
}

static void raw_unmap(struct block *b, const struct block_map *map)
{
	(void)b, (void)map;
}

static void raw_destroy(struct block *b)
{
	struct raw *raw = (struct raw *)b;

	close(raw->fd);
	pthread_mutex_destroy(&raw->partial);
	free(raw);
}

static const struct block_ops raw_ops = {
	.readv = raw_readv,
	.writev = raw_writev,
	.try_now = raw_try_now,
	.flush = raw_flush,
	.discard = raw_discard,
	.write_zeroes = raw_write_zeroes,
	.destroy = raw_destroy,
	.resize = raw_resize,
	.map = raw_map,
	.unmap = raw_unmap,
};

/* What O_DIRECT asks for here: the kernel says it since 6.1, else a page is enough everywhere. */
static uint32_t direct_align(int fd)
{
	uint32_t align = ALIGN_UNKNOWN;
#ifdef STATX_DIOALIGN
	struct statx sx;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) == 0 &&
	    sx.stx_mask & STATX_DIOALIGN && sx.stx_dio_offset_align) {
		align = sx.stx_dio_offset_align > sx.stx_dio_mem_align ? sx.stx_dio_offset_align :
									 sx.stx_dio_mem_align;
	}
#else
	(void)fd;
#endif
	return align && !(align & (align - 1)) && align <= BOUNCE_MAX ? align : ALIGN_UNKNOWN;
}

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
	raw->block = (struct block){ .ops = &raw_ops, .size = (uint64_t)end, .readonly = readonly,
				     .growable = S_ISREG(st.st_mode), .flush_by_fd = true,
				     .align = flags & O_DIRECT ? direct_align(fd) : 1 };
	raw->fd = fd;
	raw->is_device = S_ISBLK(st.st_mode);
	raw->write_flags = RWF_NOWAIT;
	pthread_mutex_init(&raw->partial, NULL);
	*ret_block = &raw->block;
	return 0;
}
