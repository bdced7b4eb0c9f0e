/* SPDX-License-Identifier: Apache-2.0 */
/*
 * block.h - what stands behind a disk: bytes at offsets, whatever the format.
 *
 * Calls block, so they are made on worker threads only, several at a time; only destroy is alone,
 * map and unmap are for the loop thread, and try_now for all. The caller has checked [offset, offset+len) against
 * size. 0 or a negative errno; anything short of the whole is an error (-EIO).
 *
 * System calls, for the sandbox:
 *   vCPUs (try_now): preadv2 pwritev2
 *   workers: preadv pwritev fdatasync fallocate ioctl(BLKDISCARD, BLKZEROOUT) futex
 *   main thread (resize): ftruncate lseek fdatasync pwritev preadv
 *   loop thread: io_uring_enter; the ring is set up by block_uring_create(), before the sandbox
 *   start-up (create): fcntl fstat statx lseek preadv pwritev fdatasync
 */
#ifndef DEVICES_BACKEND_BLOCK_H
#define DEVICES_BACKEND_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

struct block;

#define BLOCK_PIECES_MAX 260u /* of any vector */

struct block_map { /* where a range is, for whoever moves the bytes himself */
	int fd;
	uint64_t offset;
	uint64_t token; /* the backend's */
};

struct block_ops {
	/* *ret_done: bytes really read, also on an error. iov is spoilt. */
	int (*readv)(struct block *b, struct iovec *iov, unsigned n, uint64_t offset,
		     uint64_t *ret_done);
	int (*writev)(struct block *b, struct iovec *iov, unsigned n, uint64_t offset);
	/* The same for who must not wait, a processor: from or to what the host has in memory. Any
	 * error: readv or writev will do it, again, and say what is wrong; -EOPNOTSUPP: it is never
	 * of use to ask this again. iov is not spoilt. Any thread. NULL: -EOPNOTSUPP. */
	int (*try_now)(struct block *b, bool write, const struct iovec *iov, unsigned n,
		       uint64_t offset);
	int (*flush)(struct block *b);
	/* The content may be forgotten. A backend that can't does nothing. */
	int (*discard)(struct block *b, uint64_t offset, uint64_t len);
	/* unmap: may give the space back. */
	int (*write_zeroes)(struct block *b, uint64_t offset, uint64_t len, bool unmap);
	void (*destroy)(struct block *b);
	/* Makes it longer, or (size 0) takes the size that the file has got by other means.
	 * -ERANGE: shorter; -EROFS; -ENOTSUP: it can't be made longer here. Any one thread, beside
	 * the others. NULL: -ENOTSUP. */
	int (*resize)(struct block *b, uint64_t size);
	/* Where the whole of [offset, offset+len) lies in one file in one piece, for reading or for
	 * writing in place; the backend keeps it there until unmap(). Never waits. -EAGAIN: use
	 * readv or writev. Both may be NULL. */
	int (*map)(struct block *b, bool write, uint64_t offset, uint64_t len,
		   struct block_map *ret_map);
	void (*unmap)(struct block *b, const struct block_map *map);
};

struct block {
	const struct block_ops *ops;
	uint64_t size;      /* changes by resize() only; block_size() */
	bool readonly;
	bool growable;      /* writing behind the end makes it longer */
	uint32_t align;     /* of offset, length and memory for map(); 1: any */
	bool flush_by_fd;   /* flush() is an fdatasync() of what map() gives */
};

static inline uint64_t block_size(const struct block *b)
{
	return __atomic_load_n(&b->size, __ATOMIC_ACQUIRE);
}

/* A raw image: regular file or block device, opened for what readonly says; with O_DIRECT or
 * without. fd belongs to the block after success only. -EINVAL: another kind of file, or opened for
 * less. -ENOMEM. */
int block_raw_create(int fd, bool readonly, struct block **ret_block);

/* Destroys `was`, and makes in *lost (no memory of its own) one of its size where everything fails with
 * -EIO; returns lost. Nobody uses `was`. */
struct block *block_lost(struct block *lost, struct block *was);

/* NULL is fine; returns NULL. */
static inline struct block *block_destroy(struct block *b)
{
	if (b)
		b->ops->destroy(b);
	return NULL;
}

#endif
