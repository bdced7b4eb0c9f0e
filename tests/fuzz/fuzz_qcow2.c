/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A qcow2 image: the first byte says how it is opened, the next 32 what is done with it, the rest is
 * the file. Whatever it holds, it is refused or behaves; and what is refused is not touched.
 */
#include <config.h>

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "devices/backend/block.h"
#include "devices/backend/qcow2.h"
#include "tests/fuzz/input.h"

#define ACTIONS 32u
#define FILE_MAX (256u << 10)
#define BUFFER (64u << 10)

static void act(struct block *block, uint8_t action, uint8_t *buf)
{
	uint64_t sectors = block->size / 512, at, len = (action & 31u) + 1u, done;
	struct iovec iov = { buf, 0 };

	if (!sectors)
		return;
	at = (action * 2654435761u >> 7) % sectors;
	len = (len > sectors - at ? sectors - at : len) * 512;
	iov.iov_len = len;
	at *= 512;
	switch (action >> 5) {
	case 0:
	case 1:
		if (action >> 5 || block->ops->try_now(block, false, &iov, 1, at) < 0)
			(void)block->ops->readv(block, &iov, 1, at, &done);
		break;
	case 2:
	case 3:
		if (!block->readonly && (!(action & 32u) || block->ops->try_now(block, true, &iov, 1, at) < 0))
			(void)block->ops->writev(block, &iov, 1, at);
		break;
	case 4:
		if (!block->readonly)
			(void)block->ops->write_zeroes(block, at, len, action & 1u);
		break;
	case 5:
		if (!block->readonly)
			(void)block->ops->discard(block, at, len);
		break;
	case 6:
		(void)block->ops->flush(block);
		break;
	default:
		if (block->size < 1u << 30)
			(void)block->ops->resize(block, block->size + 512u * len);
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t buf[BUFFER], after[FILE_MAX];
	char why[QCOW2_WHY_MAX];
	struct block *raw, *block;
	bool readonly;
	size_t len;
	int fd;

	if (size < 1 + ACTIONS || size - 1 - ACTIONS > FILE_MAX)
		return 0;
	readonly = data[0] & 1;
	len = size - 1 - ACTIONS;
	fd = memfd_create("fuzz", MFD_CLOEXEC);
	if (fd < 0 || write(fd, data + 1 + ACTIONS, len) != (ssize_t)len ||
	    block_raw_create(fd, readonly, &raw) < 0)
		abort();
	if (block_qcow2_create(raw, NULL, readonly, why, &block) < 0) {
		if (!why[0] || pread(fd, after, FILE_MAX, 0) != (ssize_t)len ||
		    memcmp(after, data + 1 + ACTIONS, len))
			abort();
		block_destroy(raw);
		return 0;
	}
	for (unsigned i = 0; i < ACTIONS; i++)
		act(block, data[1 + i], buf);
	block_destroy(block);
	return 0;
}
