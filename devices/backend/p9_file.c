/* SPDX-License-Identifier: Apache-2.0 */
/* p9_file.c - opening, contents, directories and locks, see p9_internal.h. */
#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/backend/p9_internal.h"

#define DIRENTS_BYTES 32768u
#define ENTRY_BYTES 24u /* qid[13] offset[8] type[1] and the name's length[2] */

enum { /* open flags of the protocol: Linux's generic ones, whatever the processor */
	L_WRONLY = 1, L_RDWR = 2, L_EXCL = 0200, L_TRUNC = 01000, L_APPEND = 02000,
	L_DSYNC = 010000, L_DIRECTORY = 0200000, L_SYNC = 04000000,
};
enum { LOCK_RDLCK = 0, LOCK_WRLCK = 1, LOCK_UNLCK = 2 };
enum { LOCK_SUCCESS = 0, LOCK_BLOCKED = 1 };

/* Left out on purpose: O_DIRECT (guest buffers are not aligned), O_NONBLOCK and O_NOATIME (ours to
 * decide), O_CREAT (lcreate's), O_TMPFILE (a name is needed). */
int p9_open_flags(uint32_t flags)
{
	static const struct {
		uint32_t theirs;
		int ours;
	} table[] = {
		{ L_EXCL, O_EXCL }, { L_TRUNC, O_TRUNC }, { L_APPEND, O_APPEND },
		{ L_DSYNC, O_DSYNC }, { L_DIRECTORY, O_DIRECTORY }, { L_SYNC, O_SYNC },
	};
	int ours = flags & L_RDWR ? O_RDWR : flags & L_WRONLY ? O_WRONLY : O_RDONLY;

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if ((flags & table[i].theirs) == table[i].theirs)
			ours |= table[i].ours;
	return ours;
}

/* fid[4] flags[4] -> qid[13] iounit[4] */
int p9_do_lopen(struct p9_call *c)
{
	struct p9_node *node = c->node[0];
	int flags = p9_open_flags((uint32_t)c->args.n[1]) & ~O_EXCL, fd, r;
	bool directory = node->kind == S_IFDIR;
	struct p9_qid qid;

	if (c->p9->readonly && ((flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC))
		return -EROFS;
	fd = p9_node_open(node, flags);
	if (fd < 0)
		return fd;
	r = p9_fid_use(c->fid[0], directory ? P9_USE_DIR : P9_USE_FILE, fd, NULL, NULL);
	if (r < 0) {
		p9_fd_close(c->p9, fd);
		return r;
	}
	p9_node_qid(node, &qid);
	p9_put_qid(&c->out, &qid);
	p9_put32(&c->out, 0);
	return 0;
}

/* --- contents --------------------------------------------------------------------------------- */

static int read_xattr(struct p9_call *c, const struct p9_xattr *xattr, uint64_t offset,
		      uint32_t count)
{
	if (offset >= xattr->size)
		count = 0;
	else if (count > xattr->size - offset)
		count = xattr->size - (uint32_t)offset;
	p9_put32(&c->out, count);
	c->data = count;
	return count ? c->io->ops->write(c->io, P9_READ_HEADER, xattr->bytes + offset, count) : 0;
}

/* fid[4] offset[8] count[4] -> count[4] data[count], straight into the guest's buffers. */
int p9_do_read(struct p9_call *c)
{
	uint64_t offset = c->args.n[1];
	uint32_t count = (uint32_t)c->args.n[2];
	struct iovec iov[P9_IOVECS_MAX];
	const struct p9_xattr *xattr;
	ssize_t done;
	int fd, n;

	if (count > c->room - P9_READ_HEADER)
		count = c->room - P9_READ_HEADER;
	xattr = p9_fid_xattr(c->fid[0], P9_USE_XATTR_READ);
	if (xattr)
		return read_xattr(c, xattr, offset, count);
	fd = p9_fid_fd(c->fid[0], P9_USE_FILE);
	if (fd < 0)
		return fd;
	if (offset > INT64_MAX)
		return -EINVAL;
	n = c->io->ops->iov(c->io, true, P9_READ_HEADER, count, iov);
	if (n < 0)
		return n;
	done = preadv(fd, iov, n, (off_t)offset);
	if (done < 0)
		return -errno;
	c->io->ops->written(c->io, P9_READ_HEADER, (uint32_t)done);
	p9_put32(&c->out, (uint32_t)done);
	c->data = (uint32_t)done;
	return 0;
}

static int write_xattr(struct p9_call *c, struct p9_xattr *xattr, uint64_t offset, uint32_t count)
{
	struct p9_fid *fid = c->fid[0];
	int r;

	pthread_mutex_lock(&fid->lock);
	if (offset != xattr->filled || count > xattr->size - xattr->filled)
		r = -ENOSPC; /* in order, and no more than was said */
	else
		r = c->io->ops->read(c->io, P9_WRITE_HEADER, xattr->bytes + offset, count);
	if (r == 0)
		xattr->filled += count;
	pthread_mutex_unlock(&fid->lock);
	if (r == 0)
		p9_put32(&c->out, count);
	return r;
}

/* fid[4] offset[8] count[4] data[count] -> count[4] */
int p9_do_write(struct p9_call *c)
{
	uint64_t offset = c->args.n[1];
	uint32_t count = (uint32_t)c->args.n[2];
	struct iovec iov[P9_IOVECS_MAX];
	struct p9_xattr *xattr;
	ssize_t done;
	int fd, n;

	if (c->size < P9_WRITE_HEADER || count > c->size - P9_WRITE_HEADER)
		return -EPROTO;
	xattr = p9_fid_xattr(c->fid[0], P9_USE_XATTR_WRITE);
	if (xattr)
		return write_xattr(c, xattr, offset, count);
	fd = p9_fid_fd(c->fid[0], P9_USE_FILE);
	if (fd < 0)
		return fd;
	if (c->p9->readonly)
		return -EROFS;
	if (offset > INT64_MAX)
		return -EFBIG;
	n = c->io->ops->iov(c->io, false, P9_WRITE_HEADER, count, iov);
	if (n < 0)
		return n;
	done = pwritev(fd, iov, n, (off_t)offset);
	if (done < 0)
		return -errno;
	p9_put32(&c->out, (uint32_t)done);
	return 0;
}

/* fid[4] datasync[4]; the last one is missing in messages of old clients. */
int p9_do_fsync(struct p9_call *c)
{
	uint8_t word[4] = { 0 };
	int fd = p9_fid_fd(c->fid[0], P9_USE_FILE), r;

	if (fd < 0)
		fd = p9_fid_fd(c->fid[0], P9_USE_DIR);
	if (fd < 0)
		return fd;
	if (c->size >= P9_HEADER + 8) {
		r = c->io->ops->read(c->io, P9_HEADER + 4, word, sizeof(word));
		if (r < 0)
			return r;
	}
	r = get_le32(word) ? fdatasync(fd) : fsync(fd);
	return r < 0 ? -errno : 0;
}

/* --- directories ------------------------------------------------------------------------------ */

static size_t put_entry(uint8_t *at, const struct dirent64 *entry)
{
	size_t len = strlen(entry->d_name);
	uint8_t type = entry->d_type == DT_DIR ? P9_QID_DIR :
		       entry->d_type == DT_LNK ? P9_QID_SYMLINK : P9_QID_FILE;

	at[0] = type;
	put_le32(at + 1, 0);
	put_le64(at + 5, entry->d_ino);
	put_le64(at + 13, (uint64_t)entry->d_off);
	at[21] = entry->d_type;
	put_le16(at + 22, (uint16_t)len);
	memcpy(at + ENTRY_BYTES, entry->d_name, len);
	return ENTRY_BYTES + len;
}

/* Entries from `offset` on, as many as the host gives at once and as fit; bytes of the reply. */
static int read_entries(int fd, uint64_t offset, uint8_t *dirents, uint8_t *reply, uint32_t room)
{
	uint32_t len = 0;
	ssize_t n;

	if (lseek(fd, (off_t)offset, SEEK_SET) < 0)
		return -errno;
	n = getdents64(fd, dirents, DIRENTS_BYTES);
	if (n < 0)
		return -errno;
	for (ssize_t i = 0; i < n;) {
		const struct dirent64 *entry = (void *)(dirents + i);

		if (ENTRY_BYTES + strlen(entry->d_name) > room - len)
			break;
		len += (uint32_t)put_entry(reply + len, entry);
		i += entry->d_reclen;
	}
	return n && !len ? -EINVAL : (int)len; /* nothing would mean the end */
}

/* fid[4] offset[8] count[4] -> count[4] data[count] */
int p9_do_readdir(struct p9_call *c)
{
	struct p9_fid *fid = c->fid[0];
	uint32_t count = (uint32_t)c->args.n[2];
	uint8_t *buffer;
	int fd = p9_fid_fd(fid, P9_USE_DIR), len;

	if (fd < 0)
		return c->node[0]->kind != S_IFDIR ? -ENOTDIR : fd;
	if (count > c->room - P9_READ_HEADER)
		count = c->room - P9_READ_HEADER;
	count = count < DIRENTS_BYTES ? count : DIRENTS_BYTES;
	buffer = malloc(DIRENTS_BYTES + count);
	if (!buffer)
		return -ENOMEM;
	pthread_mutex_lock(&fid->lock); /* of the place where the descriptor stands */
	len = read_entries(fd, c->args.n[1], buffer, buffer + DIRENTS_BYTES, count);
	pthread_mutex_unlock(&fid->lock);
	if (len > 0) {
		int r = c->io->ops->write(c->io, P9_READ_HEADER, buffer + DIRENTS_BYTES,
					  (uint32_t)len);

		len = r < 0 ? r : len;
	}
	free(buffer);
	if (len < 0)
		return len;
	p9_put32(&c->out, (uint32_t)len);
	c->data = (uint32_t)len;
	return 0;
}

/* --- locks ------------------------------------------------------------------------------------ */

static int lock_of(uint64_t type, uint64_t start, uint64_t length, struct flock *ret)
{
	static const short types[] = { F_RDLCK, F_WRLCK, F_UNLCK };

	if (type >= ARRAY_SIZE(types) || start > INT64_MAX || length > INT64_MAX)
		return -EINVAL;
	*ret = (struct flock){ .l_type = types[type], .l_whence = SEEK_SET,
			       .l_start = (off_t)start, .l_len = (off_t)length };
	return 0;
}

/* An open file's lock needs the file open for what it locks; a guest's flock() does not. Such a lock
 * is known to the guest's own kernel only. */
static bool guest_only(int fd, const struct flock *lock)
{
	int mode = fcntl(fd, F_GETFL) & O_ACCMODE;

	return (lock->l_type == F_WRLCK && mode == O_RDONLY) ||
	       (lock->l_type == F_RDLCK && mode == O_WRONLY);
}

/* fid[4] type[1] flags[4] start[8] length[8] proc_id[4] client_id[s] -> status[1]. Never waits here:
 * the guest asks again. */
int p9_do_lock(struct p9_call *c)
{
	int fd = p9_fid_fd(c->fid[0], P9_USE_FILE), r;
	uint8_t status = LOCK_SUCCESS;
	struct flock lock;

	if (fd < 0)
		return fd;
	r = lock_of(c->args.n[1], c->args.n[3], c->args.n[4], &lock);
	if (r < 0)
		return r;
	if (!guest_only(fd, &lock) && fcntl(fd, F_OFD_SETLK, &lock) < 0) {
		if (errno != EAGAIN && errno != EACCES)
			return -errno;
		status = LOCK_BLOCKED;
	}
	p9_put8(&c->out, status);
	return 0;
}

/* fid[4] type[1] start[8] length[8] proc_id[4] client_id[s] -> the same without fid */
int p9_do_getlock(struct p9_call *c)
{
	int fd = p9_fid_fd(c->fid[0], P9_USE_FILE), r;
	struct flock lock;

	if (fd < 0)
		return fd;
	r = lock_of(c->args.n[1], c->args.n[2], c->args.n[3], &lock);
	if (r < 0)
		return r;
	if (lock.l_type == F_UNLCK)
		return -EINVAL;
	if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
		return -errno;
	p9_put8(&c->out, lock.l_type == F_UNLCK ? LOCK_UNLCK :
			 lock.l_type == F_WRLCK ? LOCK_WRLCK : LOCK_RDLCK);
	p9_put64(&c->out, (uint64_t)lock.l_start);
	p9_put64(&c->out, (uint64_t)lock.l_len);
	p9_put32(&c->out, (uint32_t)c->args.n[4]);
	p9_put_string(&c->out, c->args.s[0]);
	return 0;
}
