/* SPDX-License-Identifier: Apache-2.0 */
/* uring.c - see uring.h. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/checked.h"
#include "devices/backend/uring.h"
#include "machine/loop.h"

struct uring {
	struct io_uring ring;
	bool made;
	unsigned depth, in_flight, prepared;
	int event_fd;
	struct loop_watch *watch;
	void (*batch)(void *opaque);
	void *opaque;
};

/* Calls done for what is complete; true if there was something. */
static bool reap(struct uring *u)
{
	struct io_uring_cqe *cqe;
	bool some = false;

	while (io_uring_peek_cqe(&u->ring, &cqe) == 0) {
		struct uring_op *op = io_uring_cqe_get_data(cqe);
		int result = cqe->res;

		io_uring_cqe_seen(&u->ring, cqe);
		u->in_flight--;
		some = true;
		op->done(op, result);
	}
	if (some && u->batch)
		u->batch(u->opaque);
	return some;
}

static void completed(void *opaque, uint32_t events)
{
	struct uring *u = opaque;
	eventfd_t count;

	(void)events;
	(void)eventfd_read(u->event_fd, &count);
	(void)reap(u);
	if (u->prepared)
		uring_submit(u);
}

static struct io_uring_sqe *next_sqe(struct uring *u, struct uring_op *op)
{
	struct io_uring_sqe *sqe = u->in_flight < u->depth ? io_uring_get_sqe(&u->ring) : NULL;

	if (!sqe)
		return NULL;
	io_uring_sqe_set_data(sqe, op);
	u->in_flight++;
	u->prepared++;
	return sqe;
}

bool uring_rw(struct uring *u, struct uring_op *op, bool write, int fd, const struct iovec *iov,
	      unsigned n, uint64_t offset)
{
	struct io_uring_sqe *sqe = next_sqe(u, op);

	if (!sqe)
		return false;
	if (write)
		io_uring_prep_writev(sqe, fd, iov, n, offset);
	else
		io_uring_prep_readv(sqe, fd, iov, n, offset);
	io_uring_sqe_set_data(sqe, op); /* prep clears it in older versions */
	return true;
}

bool uring_fdatasync(struct uring *u, struct uring_op *op, int fd)
{
	struct io_uring_sqe *sqe = next_sqe(u, op);

	if (!sqe)
		return false;
	io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
	io_uring_sqe_set_data(sqe, op);
	return true;
}

void uring_submit(struct uring *u)
{
	/* What completes at once is reaped below: the bell need not ring for it. */
	(void)io_uring_cq_eventfd_toggle(&u->ring, false);
	while (u->prepared) {
		int n = io_uring_submit(&u->ring);

		if (n > 0)
			u->prepared -= (unsigned)n < u->prepared ? (unsigned)n : u->prepared;
		else if (n == -EAGAIN || n == -EBUSY || n == -EINTR) /* short of memory: make room */
			(void)reap(u);
		else
			break; /* the ring is in order: there is no other error */
	}
	(void)reap(u);
	(void)io_uring_cq_eventfd_toggle(&u->ring, true);
	(void)reap(u); /* what came before the bell was on again */
}

void uring_wait(struct uring *u)
{
	while (u && u->in_flight) {
		struct io_uring_cqe *cqe;

		uring_submit(u);
		if (u->in_flight)
			(void)io_uring_wait_cqe(&u->ring, &cqe);
		(void)reap(u);
	}
}

/* liburing 2.3 declares functions for these, and does not export them. */
static int ring_register(const struct io_uring *ring, unsigned what, const void *arg, unsigned n)
{
	return syscall(SYS_io_uring_register, ring->ring_fd, what, arg, n) < 0 ? -errno : 0;
}

/* The kernel does on a ring what no filter sees. This one moves bytes of files that are open and
 * flushes them, and never learns anything else. From here on it works. */
static int confine(const struct io_uring *ring)
{
	static const struct io_uring_restriction allowed[] = {
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_FSYNC },
	};
	int r = ring_register(ring, IORING_REGISTER_RESTRICTIONS, allowed, ARRAY_SIZE(allowed));

	return r < 0 ? r : ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

int uring_create(struct loop *loop, unsigned depth, void (*batch)(void *opaque), void *opaque,
		 struct uring **ret_uring)
{
	struct uring *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return -ENOMEM;
	u->depth = depth;
	u->batch = batch;
	u->opaque = opaque;
	u->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	r = u->event_fd < 0 ? -errno :
		io_uring_queue_init(depth, &u->ring, IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED);
	u->made = r == 0;
	if (r == 0) /* without it the vector would have to stay as it is for longer */
		r = u->ring.features & IORING_FEAT_NODROP ? 0 : -ENOSYS;
	if (r == 0)
		r = io_uring_register_eventfd(&u->ring, u->event_fd);
	if (r == 0)
		r = confine(&u->ring);
	if (r == 0)
		r = loop_add(loop, u->event_fd, EPOLLIN, completed, u, &u->watch);
	if (r < 0) {
		uring_destroy(u);
		return r;
	}
	*ret_uring = u;
	return 0;
}

struct uring *uring_destroy(struct uring *u)
{
	if (!u)
		return NULL;
	uring_wait(u);
	loop_remove(u->watch);
	if (u->made)
		io_uring_queue_exit(&u->ring);
	if (u->event_fd >= 0)
		close(u->event_fd);
	free(u);
	return NULL;
}
