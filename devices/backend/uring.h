/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uring.h - transfers by io_uring: no thread waits for them. A ring can read and write vectors and
 * flush, and refuses all else, so that it is no way around the sandbox. Linux 5.10.
 *
 * System calls, for the sandbox: io_uring_setup, mmap and io_uring_register when it is made; then
 * io_uring_enter on the loop thread. All of it on the loop thread, but create and destroy.
 */
#ifndef DEVICES_BACKEND_URING_H
#define DEVICES_BACKEND_URING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

struct loop;
struct uring;

struct uring_op { /* embed it */
	/* result: bytes, or a negative errno. May begin others. */
	void (*done)(struct uring_op *op, int result);
};

/* depth: operations at a time. batch (may be NULL) is called after each row of done calls.
 * An error: the host has none, or does not allow it; the caller knows another way. */
int uring_create(struct loop *loop, unsigned depth, void (*batch)(void *opaque), void *opaque,
		 struct uring **ret_uring);
/* Waits for what is in flight. NULL is fine; returns NULL. */
struct uring *uring_destroy(struct uring *u);

/* Begin with uring_submit(). iov and what it points at stay until done. False: depth is reached. */
bool uring_rw(struct uring *u, struct uring_op *op, bool write, int fd, const struct iovec *iov,
	      unsigned n, uint64_t offset);
bool uring_fdatasync(struct uring *u, struct uring_op *op, int fd);
/* Begins them all, and calls done for what is complete already. */
void uring_submit(struct uring *u);
/* Until nothing is in flight; NULL is fine. Also while the loop is held. */
void uring_wait(struct uring *u);

#endif
