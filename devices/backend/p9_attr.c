/* SPDX-License-Identifier: Apache-2.0 */
/* p9_attr.c - attributes, extended ones too, and the file system's figures, see p9_internal.h. */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "devices/backend/p9_internal.h"

#define FS_TYPE 0x01021997u /* the protocol's own */
#define GOT_BASIC 0x7ffull  /* mode, nlink, uid, gid, rdev, atime, mtime, ctime, ino, size, blocks */
#define GOT_BTIME 0x800ull

enum { /* what setattr sets */
	SET_MODE = 1, SET_UID = 2, SET_GID = 4, SET_SIZE = 8, SET_ATIME = 0x10, SET_MTIME = 0x20,
	SET_CTIME = 0x40, SET_ATIME_TO = 0x80, SET_MTIME_TO = 0x100, SET_ALL = 0x1ff,
};

/* fid[4] -> type[4] bsize[4] blocks[8] bfree[8] bavail[8] files[8] ffree[8] fsid[8] namelen[4] */
int p9_do_statfs(struct p9_call *c)
{
	struct statfs fs;

	if (fstatfs(c->node[0]->fd, &fs) < 0)
		return -errno;
	p9_put32(&c->out, FS_TYPE);
	p9_put32(&c->out, (uint32_t)fs.f_bsize);
	p9_put64(&c->out, fs.f_blocks);
	p9_put64(&c->out, fs.f_bfree);
	p9_put64(&c->out, fs.f_bavail);
	p9_put64(&c->out, fs.f_files);
	p9_put64(&c->out, fs.f_ffree);
	p9_put64(&c->out, 0);
	p9_put32(&c->out, NAME_MAX);
	return 0;
}

static void put_time(struct p9_out *out, const struct statx_timestamp *t)
{
	p9_put64(out, (uint64_t)t->tv_sec);
	p9_put64(out, t->tv_nsec);
}

/* fid[4] mask[8] -> valid[8] qid[13] mode[4] uid[4] gid[4] nlink[8] rdev[8] size[8] blksize[8]
 * blocks[8] atime[16] mtime[16] ctime[16] btime[16] gen[8] data_version[8] */
int p9_do_getattr(struct p9_call *c)
{
	struct statx_timestamp none = { 0 };
	struct p9_qid qid;
	struct statx st;
	bool btime;

	if (statx(c->node[0]->fd, "", AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT,
		  STATX_BASIC_STATS | STATX_BTIME, &st) < 0)
		return -errno;
	btime = st.stx_mask & STATX_BTIME;
	p9_node_qid(c->node[0], &qid);
	p9_put64(&c->out, GOT_BASIC | (btime ? GOT_BTIME : 0));
	p9_put_qid(&c->out, &qid);
	p9_put32(&c->out, st.stx_mode);
	p9_put32(&c->out, st.stx_uid);
	p9_put32(&c->out, st.stx_gid);
	p9_put64(&c->out, st.stx_nlink);
	p9_put64(&c->out, makedev(st.stx_rdev_major, st.stx_rdev_minor));
	p9_put64(&c->out, st.stx_size);
	p9_put64(&c->out, st.stx_blksize);
	p9_put64(&c->out, st.stx_blocks);
	put_time(&c->out, &st.stx_atime);
	put_time(&c->out, &st.stx_mtime);
	put_time(&c->out, &st.stx_ctime);
	put_time(&c->out, btime ? &st.stx_btime : &none);
	p9_put64(&c->out, 0);
	p9_put64(&c->out, 0);
	return 0;
}

static int set_size(struct p9_call *c, uint64_t size)
{
	struct p9_node *node = c->node[0];
	int fd = p9_fid_fd(c->fid[0], P9_USE_FILE), r;

	if (size > INT64_MAX)
		return -EFBIG;
	if (node->kind != S_IFREG)
		return node->kind == S_IFDIR ? -EISDIR : -EINVAL;
	/* The open file may be writable where the name is not any more. */
	if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
		return 0;
	fd = p9_node_open(node, O_WRONLY);
	if (fd < 0)
		return fd;
	r = ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
	p9_fd_close(c->p9, fd);
	return r;
}

static int set_times(const struct p9_node *node, const uint64_t *n, uint32_t valid)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };
	static const uint32_t now[] = { SET_ATIME, SET_MTIME };
	static const uint32_t to[] = { SET_ATIME_TO, SET_MTIME_TO };

	for (unsigned i = 0; i < 2; i++) {
		if (valid & to[i] && n[2 * i + 1] >= 1000000000)
			return -EINVAL;
		if (valid & to[i])
			times[i] = (struct timespec){ (time_t)n[2 * i], (long)n[2 * i + 1] };
		else if (valid & now[i])
			times[i].tv_nsec = UTIME_NOW;
	}
	return utimensat(node->fd, "", times, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

/* fid[4] valid[4] mode[4] uid[4] gid[4] size[8] atime_sec[8] atime_nsec[8] mtime_sec[8] mtime_nsec[8]
 * Owners are as they are: see p9.h. */
int p9_do_setattr(struct p9_call *c)
{
	const uint64_t *n = c->args.n;
	uint32_t valid = (uint32_t)n[1];
	int r = valid & ~(uint32_t)SET_ALL ? -EINVAL : 0;

	if (r == 0 && valid & SET_MODE)
		r = p9_node_chmod(c->node[0], (uint32_t)n[2]);
	if (r == 0 && valid & SET_SIZE)
		r = set_size(c, n[5]);
	if (r == 0 && valid & (SET_ATIME | SET_MTIME))
		r = set_times(c->node[0], n + 6, valid);
	return r;
}

/* --- extended attributes ---------------------------------------------------------------------- */

/* Others are the host's own affair (security., system.posix_acl_) or its administrator's (trusted.). */
static bool ours(const char *name)
{
	return strncmp(name, "user.", 5) == 0 && name[5];
}

static struct p9_xattr *xattr_new(struct p9 *p9, uint32_t size, const char *name)
{
	struct p9_xattr *xattr;

	if (__atomic_add_fetch(&p9->xattr_bytes, size, __ATOMIC_RELAXED) > P9_XATTRS_MAX)
		xattr = NULL;
	else
		xattr = calloc(1, sizeof(*xattr) + size);
	if (!xattr) {
		__atomic_sub_fetch(&p9->xattr_bytes, size, __ATOMIC_RELAXED);
		return NULL;
	}
	xattr->size = size;
	snprintf(xattr->name, sizeof(xattr->name), "%s", name);
	return xattr;
}

void p9_xattr_free(struct p9 *p9, struct p9_xattr *xattr)
{
	if (!xattr)
		return;
	__atomic_sub_fetch(&p9->xattr_bytes, xattr->size, __ATOMIC_RELAXED);
	free(xattr);
}

/* Only the names that can be asked for; the new length. */
static size_t filter_list(uint8_t *list, size_t len)
{
	size_t kept = 0, n;

	for (size_t at = 0; at < len; at += n) {
		n = strnlen((char *)list + at, len - at) + 1;
		if (n > len - at || !ours((char *)list + at))
			continue;
		memmove(list + kept, list + at, n);
		kept += n;
	}
	return kept;
}

/* The value of an attribute, or the list of names, as it is now. */
static int xattr_fetch(struct p9_node *node, const char *name, uint8_t *buffer)
{
	int fd = p9_node_open(node, O_RDONLY), r; /* an O_PATH descriptor does not do here */
	ssize_t n;

	if (fd < 0)
		return fd;
	if (*name)
		n = fgetxattr(fd, name, buffer, P9_XATTR_MAX);
	else
		n = flistxattr(fd, (char *)buffer, P9_XATTR_MAX);
	r = n < 0 ? -errno : *name ? (int)n : (int)filter_list(buffer, (size_t)n);
	p9_fd_close(node->p9, fd);
	return r;
}

static int xattr_store(struct p9_node *node, const struct p9_xattr *xattr)
{
	int fd = p9_node_open(node, O_RDONLY), r;

	if (fd < 0)
		return fd;
	if (xattr->size)
		r = fsetxattr(fd, xattr->name, xattr->bytes, xattr->size, (int)xattr->flags);
	else
		r = fremovexattr(fd, xattr->name);
	r = r < 0 ? -errno : 0;
	p9_fd_close(node->p9, fd);
	return r;
}

/* fid[4] newfid[4] name[s] -> size[8]; newfid is read for the value, or the list if name is empty. */
int p9_do_xattrwalk(struct p9_call *c)
{
	struct p9_node *node = c->node[0], *unused;
	const char *name = c->args.s[0];
	uint32_t newfid = (uint32_t)c->args.n[1];
	struct p9_xattr *xattr = NULL;
	struct p9_fid *fid;
	uint8_t *buffer;
	int n;

	if ((*name && !ours(name)) || (node->kind != S_IFREG && node->kind != S_IFDIR))
		return -EOPNOTSUPP;
	buffer = malloc(P9_XATTR_MAX);
	n = buffer ? xattr_fetch(node, name, buffer) : -ENOMEM;
	if (n >= 0) {
		xattr = xattr_new(c->p9, (uint32_t)n, "");
		if (xattr)
			memcpy(xattr->bytes, buffer, (size_t)n);
		else
			n = -ENOMEM;
	}
	free(buffer);
	if (n < 0)
		return n;
	n = p9_fid_add(c, newfid, node);
	fid = n == 0 ? p9_fid_get(c->p9, newfid, &unused) : NULL;
	if (n == 0)
		n = fid ? p9_fid_use(fid, P9_USE_XATTR_READ, -1, NULL, xattr) : -EBADF;
	if (fid) {
		p9_node_unref(unused);
		p9_fid_put(fid);
	}
	if (n == 0)
		p9_put64(&c->out, xattr->size);
	else
		p9_xattr_free(c->p9, xattr);
	return n;
}

/* fid[4] name[s] size[8] flags[4]: what is then written to fid is set when fid is clunked; size 0
 * removes the attribute. */
int p9_do_xattrcreate(struct p9_call *c)
{
	struct p9_node *node = c->node[0];
	const char *name = c->args.s[0];
	struct p9_xattr *xattr;
	int r;

	if (!ours(name) || (node->kind != S_IFREG && node->kind != S_IFDIR))
		return -EOPNOTSUPP;
	if (strlen(name) > NAME_MAX)
		return -ERANGE;
	if (c->args.n[1] > P9_XATTR_MAX)
		return -E2BIG;
	if (c->args.n[2] & ~(uint64_t)(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	xattr = xattr_new(c->p9, (uint32_t)c->args.n[1], name);
	if (!xattr)
		return -ENOSPC;
	xattr->flags = (uint32_t)c->args.n[2];
	r = p9_fid_use(c->fid[0], P9_USE_XATTR_WRITE, -1, NULL, xattr);
	if (r < 0)
		p9_xattr_free(c->p9, xattr);
	return r;
}

int p9_xattr_finish(struct p9_fid *fid)
{
	struct p9_xattr *xattr = p9_fid_xattr(fid, P9_USE_XATTR_WRITE);
	int r = 0;

	if (!xattr)
		return 0;
	pthread_mutex_lock(&fid->lock);
	if (xattr->filled == xattr->size)
		r = xattr_store(fid->node, xattr);
	else
		r = -EINVAL; /* less was written than was said */
	pthread_mutex_unlock(&fid->lock);
	return r;
}
