/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_lock.c - open-file-description locks on bytes that stand for rights, as in QEMU's file-posix
 * driver: a shared lock on byte 100 + n says "I use right n", one on byte 200 + n "nobody else shall
 * use it". Locks are taken first and looked for second, so that of two who come together at least one
 * sees the other. Nothing is at these offsets but by chance: locks are not data.
 */
#include <config.h>

#include "daemon/image_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { RIGHT_READ = 0, RIGHT_WRITE = 1, RIGHT_RESIZE = 3, RIGHTS = 4 };
enum { BYTE_USED = 100, BYTE_DENIED = 200 };

#define RIGHT(n) (1u << (n))
#define CHANGING (RIGHT(RIGHT_WRITE) | RIGHT(RIGHT_RESIZE))

static int lock_byte(int fd, int command, short type, int byte)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	if (fcntl(fd, command, &lock) < 0)
		return -errno;
	return command == F_OFD_GETLK && lock.l_type != F_UNLCK ? -EAGAIN : 0;
}

static int each(int fd, unsigned rights, int base, int command, short type)
{
	int r = 0;

	for (int n = 0; n < RIGHTS && r == 0; n++)
		if (rights & RIGHT(n))
			r = lock_byte(fd, command, type, base + n);
	return r;
}

int image_lock(int fd, bool readonly)
{
	unsigned used = RIGHT(RIGHT_READ) | (readonly ? 0 : CHANGING), denied = CHANGING;
	int r = each(fd, used, BYTE_USED, F_OFD_SETLK, F_RDLCK);

	if (r == 0)
		r = each(fd, denied, BYTE_DENIED, F_OFD_SETLK, F_RDLCK);
	/* A test for an exclusive lock finds every lock of others. */
	if (r == 0)
		r = each(fd, used, BYTE_DENIED, F_OFD_GETLK, F_WRLCK);
	if (r == 0)
		r = each(fd, denied, BYTE_USED, F_OFD_GETLK, F_WRLCK);
	return r == -EAGAIN || r == -EACCES ? -EBUSY : 0;
}
