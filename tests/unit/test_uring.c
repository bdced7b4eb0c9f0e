/* SPDX-License-Identifier: Apache-2.0 */
/* Transfers by io_uring, and all that a ring of ours refuses: it must not be a way around the sandbox. */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/checked.h"
#include "devices/backend/uring.h"
#include "machine/loop.h"
#include "tests/unit/unit.h"

#define DEPTH 8u
#define FDS_MAX 256

static struct loop *loop;

/* The descriptor of a ring; -1: there is none. */
static int ring_fd(void)
{
	char name[32], target[64];

	for (int fd = 3; fd < FDS_MAX; fd++) {
		ssize_t len;

		snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
		len = readlink(name, target, sizeof(target) - 1);
		if (len > 0 && memmem(target, (size_t)len, "io_uring", 8))
			return fd;
	}
	return -1;
}

/* Another view of that ring: what lies where in it is as in any other of its size. */
static bool open_view(int fd, struct io_uring *ret)
{
	struct io_uring_params params = { .flags = IORING_SETUP_CLAMP };
	struct io_uring other;

	if (io_uring_queue_init_params(DEPTH, &other, &params) < 0)
		return false;
	io_uring_queue_exit(&other);
	memset(ret, 0, sizeof(*ret));
	return io_uring_queue_mmap(fd, &params, ret) == 0;
}

static void prepare(struct io_uring_sqe *sqe, unsigned op, unsigned flags)
{
	static struct sockaddr_storage nowhere = { .ss_family = AF_UNIX };
	static char byte;

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = (uint8_t)op;
	sqe->flags = (uint8_t)flags;
	sqe->fd = -1;
	switch (op) {
	case IORING_OP_OPENAT:
		io_uring_prep_openat(sqe, AT_FDCWD, "/", O_RDONLY, 0);
		break;
	case IORING_OP_CONNECT:
		io_uring_prep_connect(sqe, 0, (struct sockaddr *)&nowhere, sizeof(nowhere));
		break;
	case IORING_OP_SEND:
		io_uring_prep_send(sqe, 0, &byte, 1, 0);
		break;
	case IORING_OP_READ:
		io_uring_prep_read(sqe, 0, &byte, 0, 0);
		break;
	}
	sqe->flags = (uint8_t)flags;
}

static void test_refused(void)
{
	static const struct {
		unsigned op, flags;
	} cases[] = {
		{ IORING_OP_NOP, 0 },     { IORING_OP_OPENAT, 0 }, { IORING_OP_CONNECT, 0 },
		{ IORING_OP_SEND, 0 },    { IORING_OP_READ, 0 },   { IORING_OP_UNLINKAT, 0 },
		{ IORING_OP_SPLICE, 0 },  { IORING_OP_CLOSE, 0 },  { IORING_OP_FALLOCATE, 0 },
		{ IORING_OP_READV, IOSQE_FIXED_FILE },
	};
	struct io_uring view;
	struct io_uring_cqe *cqe;
	struct uring *u = NULL;
	int fd, files[1] = { 0 };

	CU_ASSERT_FATAL(uring_create(loop, DEPTH, NULL, NULL, &u) == 0);
	fd = ring_fd();
	CU_ASSERT_FATAL(fd >= 0 && open_view(fd, &view));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&view);

		CU_ASSERT(sqe != NULL);
		if (!sqe)
			break;
		prepare(sqe, cases[i].op, cases[i].flags);
		CU_ASSERT_EQUAL(io_uring_submit(&view), 1);
		CU_ASSERT_FATAL(io_uring_wait_cqe(&view, &cqe) == 0);
		CU_ASSERT_EQUAL(cqe->res, -EACCES);
		io_uring_cqe_seen(&view, cqe);
	}
	CU_ASSERT_EQUAL(io_uring_register_files(&view, files, 1), -EACCES);
	io_uring_queue_exit(&view);
	u = uring_destroy(u);
	CU_ASSERT_PTR_NULL(u);
}

struct step {
	struct uring_op op;
	int result;
	bool done;
};

static void on_done(struct uring_op *op, int result)
{
	struct step *s = (struct step *)op;

	s->result = result;
	s->done = true;
}

static unsigned batches;

static void on_batch(void *opaque)
{
	CU_ASSERT_PTR_EQUAL(opaque, &batches);
	batches++;
}

static void test_transfers(void)
{
	char out[3] = "abc", in[4] = "";
	struct iovec from = { out, sizeof(out) }, to = { in, 3 };
	struct step write = { .op.done = on_done }, sync = write, read = write, bad = write;
	int fd = memfd_create("image", MFD_CLOEXEC);
	struct uring *u = NULL;

	CU_ASSERT_FATAL(fd >= 0 && uring_create(loop, DEPTH, on_batch, &batches, &u) == 0);
	CU_ASSERT(uring_rw(u, &write.op, true, fd, &from, 1, 5));
	uring_submit(u);
	uring_wait(u);
	CU_ASSERT(write.done && write.result == 3);
	CU_ASSERT(uring_fdatasync(u, &sync.op, fd));
	CU_ASSERT(uring_rw(u, &read.op, false, fd, &to, 1, 5));
	CU_ASSERT(uring_rw(u, &bad.op, false, -1, &to, 1, 0));
	CU_ASSERT(!sync.done && !read.done);
	uring_submit(u);
	uring_wait(u);
	CU_ASSERT(sync.done && sync.result == 0);
	CU_ASSERT(read.done && read.result == 3 && strcmp(in, "abc") == 0);
	CU_ASSERT(bad.done && bad.result == -EBADF);
	CU_ASSERT(batches > 0);
	uring_destroy(u);
	close(fd);
}

static void test_depth(void)
{
	struct step steps[DEPTH + 1] = { 0 };
	int fd = memfd_create("image", MFD_CLOEXEC);
	struct uring *u = NULL;

	CU_ASSERT_FATAL(fd >= 0 && uring_create(loop, DEPTH, NULL, NULL, &u) == 0);
	for (unsigned i = 0; i <= DEPTH; i++) {
		steps[i].op.done = on_done;
		CU_ASSERT_EQUAL(uring_fdatasync(u, &steps[i].op, fd), i < DEPTH);
	}
	uring_destroy(u); /* waits for them */
	for (unsigned i = 0; i < DEPTH; i++)
		CU_ASSERT(steps[i].done && steps[i].result == 0);
	close(fd);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "transfers", test_transfers },
		{ "depth", test_depth },
		{ "what it refuses", test_refused },
		CU_TEST_INFO_NULL,
	};
	struct io_uring ring;
	int r = io_uring_queue_init(DEPTH, &ring, IORING_SETUP_R_DISABLED), result;

	if (r < 0) {
		printf("skip: this host has no io_uring for us: %s\n0 passed, 0 failed, 1 skipped\n",
		       strerror(-r));
		return 77;
	}
	io_uring_queue_exit(&ring);
	if (loop_create(NULL, &loop) < 0)
		return EXIT_FAILURE;
	result = UNIT_RUN(UNIT_SUITE("uring", tests));
	loop_destroy(loop);
	return result;
}
