/* SPDX-License-Identifier: Apache-2.0 */
/* p9_fid.c - nodes (files of the host) and fids (the client's handles), see p9_internal.h. */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/backend/p9_internal.h"

/* --- descriptors ------------------------------------------------------------------------------ */

bool p9_fd_take(struct p9 *p9)
{
	if (__atomic_add_fetch(&p9->fds, 1, __ATOMIC_RELAXED) <= p9->fds_max)
		return true;
	__atomic_sub_fetch(&p9->fds, 1, __ATOMIC_RELAXED);
	return false;
}

void p9_fd_close(struct p9 *p9, int fd)
{
	if (fd < 0)
		return;
	close(fd);
	__atomic_sub_fetch(&p9->fds, 1, __ATOMIC_RELAXED);
}

/* Counts what the call opens: errno as a negative number. */
static int open_counted(struct p9 *p9, int dir_fd, const char *path, const struct open_how *how)
{
	long fd;

	if (!p9_fd_take(p9))
		return -EMFILE;
	fd = how->resolve ? syscall(SYS_openat2, dir_fd, path, how, sizeof(*how))
			  : openat(dir_fd, path, (int)how->flags);
	if (fd >= 0)
		return (int)fd;
	__atomic_sub_fetch(&p9->fds, 1, __ATOMIC_RELAXED);
	return -errno;
}

/* --- nodes ------------------------------------------------------------------------------------ */

int p9_node_new(struct p9 *p9, int fd, struct p9_node *parent, const char *name,
		struct p9_node **ret_node)
{
	size_t size = strlen(name) + 1;
	struct p9_node *node = malloc(sizeof(*node) + size);
	struct stat st;
	int r = node ? 0 : -ENOMEM;

	if (r == 0 && fstat(fd, &st) < 0)
		r = -errno;
	if (r < 0) {
		free(node);
		p9_fd_close(p9, fd);
		return r;
	}
	*node = (struct p9_node){ .p9 = p9, .refs = 1, .fd = fd, .kind = st.st_mode & S_IFMT,
				  .dev = st.st_dev, .ino = st.st_ino };
	node->parent = parent ? p9_node_ref(parent) : NULL;
	memcpy(node->name, name, size);
	*ret_node = node;
	return 0;
}

int p9_node_walk(struct p9_node *dir, const char *name, struct p9_node **ret_node)
{
	/* With O_PATH and O_NOFOLLOW a symbolic link at the end is what is opened, not an error. */
	const struct open_how how = {
		.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
			   RESOLVE_NO_XDEV,
	};
	int fd;

	if (strcmp(name, "..") == 0) {
		*ret_node = p9_node_ref(dir->parent ? dir->parent : dir);
		return 0;
	}
	if (dir->kind != S_IFDIR)
		return -ENOTDIR;
	fd = open_counted(dir->p9, dir->fd, name, &how);
	return fd < 0 ? fd : p9_node_new(dir->p9, fd, dir, name, ret_node);
}

struct p9_node *p9_node_ref(struct p9_node *node)
{
	__atomic_add_fetch(&node->refs, 1, __ATOMIC_RELAXED);
	return node;
}

struct p9_node *p9_node_unref(struct p9_node *node)
{
	while (node && __atomic_sub_fetch(&node->refs, 1, __ATOMIC_ACQ_REL) == 0) {
		struct p9_node *parent = node->parent;

		p9_fd_close(node->p9, node->fd);
		free(node);
		node = parent;
	}
	return NULL;
}

/* Inode numbers are unique within a file system only, and one mount may show several (btrfs). */
static uint64_t qid_path(const struct p9_node *node)
{
	uint64_t other = node->dev ^ node->p9->root->dev;

	return node->ino ^ other * 0x9e3779b97f4a7c15ull;
}

void p9_node_qid(const struct p9_node *node, struct p9_qid *ret_qid)
{
	ret_qid->type = node->kind == S_IFDIR ? P9_QID_DIR :
			node->kind == S_IFLNK ? P9_QID_SYMLINK : P9_QID_FILE;
	ret_qid->version = 0; /* no cache of ours depends on it */
	ret_qid->path = qid_path(node);
}

static struct p9_path fd_path(int fd)
{
	struct p9_path path;

	snprintf(path.text, sizeof(path.text), "%d", fd);
	return path;
}

struct p9_path p9_node_path(const struct p9_node *node)
{
	return fd_path(node->fd);
}

int p9_node_open(struct p9_node *node, int flags)
{
	const struct open_how how = {
		.flags = (uint64_t)(unsigned)flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
	};

	if (node->kind != S_IFREG && node->kind != S_IFDIR)
		return node->kind == S_IFLNK ? -ELOOP : -EOPNOTSUPP;
	return open_counted(node->p9, node->p9->proc_fd, p9_node_path(node).text, &how);
}

int p9_node_of_file(struct p9_node *dir, const char *name, int fd, struct p9_node **ret_node)
{
	const struct open_how how = { .flags = O_PATH | O_CLOEXEC };
	int path_fd = open_counted(dir->p9, dir->p9->proc_fd, fd_path(fd).text, &how);

	return path_fd < 0 ? path_fd : p9_node_new(dir->p9, path_fd, dir, name, ret_node);
}

int p9_node_chmod(struct p9_node *node, uint32_t mode)
{
	mode &= node->kind == S_IFDIR ? 01777 : 0777;
	if (node->kind == S_IFLNK)
		return -EOPNOTSUPP;
	return fchmodat(node->p9->proc_fd, p9_node_path(node).text, mode, 0) < 0 ? -errno : 0;
}

/* --- fids ------------------------------------------------------------------------------------- */

static struct p9_fid **slot_of(struct p9 *p9, uint32_t number)
{
	struct p9_fid **slot = &p9->bucket[number % P9_BUCKETS];

	while (*slot && (*slot)->number != number)
		slot = &(*slot)->next;
	return slot;
}

int p9_fid_add(struct p9_call *c, uint32_t number, struct p9_node *node)
{
	struct p9 *p9 = c->p9;
	struct p9_fid *fid = calloc(1, sizeof(*fid)), **slot;
	bool fine;

	if (!fid)
		return -ENOMEM;
	*fid = (struct p9_fid){ .p9 = p9, .number = number, .refs = 1, .fd = -1 };
	pthread_mutex_init(&fid->lock, NULL);
	pthread_mutex_lock(&p9->lock);
	slot = slot_of(p9, number);
	fine = number != P9_NOFID && !*slot && c->session == p9->session;
	if (fine) {
		fid->node = p9_node_ref(node);
		*slot = fid;
	}
	pthread_mutex_unlock(&p9->lock);
	if (!fine) {
		pthread_mutex_destroy(&fid->lock);
		free(fid);
	}
	return fine ? 0 : -EBADF;
}

struct p9_fid *p9_fid_get(struct p9 *p9, uint32_t number, struct p9_node **ret_node)
{
	struct p9_fid *fid;

	pthread_mutex_lock(&p9->lock);
	fid = *slot_of(p9, number);
	if (fid)
		fid->refs++;
	pthread_mutex_unlock(&p9->lock);
	if (!fid)
		return NULL;
	pthread_mutex_lock(&fid->lock);
	*ret_node = p9_node_ref(fid->node);
	pthread_mutex_unlock(&fid->lock);
	return fid;
}

void p9_fid_put(struct p9_fid *fid)
{
	struct p9 *p9 = fid ? fid->p9 : NULL;
	bool last;

	if (!fid)
		return;
	pthread_mutex_lock(&p9->lock);
	last = --fid->refs == 0;
	pthread_mutex_unlock(&p9->lock);
	if (!last)
		return;
	p9_fd_close(p9, fid->fd);
	p9_node_unref(fid->node);
	p9_xattr_free(p9, fid->xattr);
	pthread_mutex_destroy(&fid->lock);
	free(fid);
}

void p9_fid_remove(struct p9_fid *fid)
{
	struct p9 *p9 = fid->p9;
	struct p9_fid **slot;
	bool mine;

	pthread_mutex_lock(&p9->lock);
	slot = slot_of(p9, fid->number);
	mine = *slot == fid; /* else somebody was faster, and the number may be another's */
	if (mine)
		*slot = fid->next;
	pthread_mutex_unlock(&p9->lock);
	if (mine)
		p9_fid_put(fid);
}

void p9_fid_remove_all(struct p9 *p9)
{
	for (unsigned i = 0; i < P9_BUCKETS; i++) {
		struct p9_fid *list;

		pthread_mutex_lock(&p9->lock);
		list = p9->bucket[i];
		p9->bucket[i] = NULL;
		pthread_mutex_unlock(&p9->lock);
		while (list) {
			struct p9_fid *next = list->next;

			p9_fid_put(list);
			list = next;
		}
	}
}

int p9_fid_use(struct p9_fid *fid, enum p9_fid_use use, int fd, struct p9_node *node,
	       struct p9_xattr *xattr)
{
	struct p9_node *old = NULL;
	bool fine;

	pthread_mutex_lock(&fid->lock);
	fine = fid->use == P9_USE_NONE;
	if (fine) {
		fid->use = use;
		fid->fd = fd;
		fid->xattr = xattr;
		if (node) {
			old = fid->node;
			fid->node = p9_node_ref(node);
		}
	}
	pthread_mutex_unlock(&fid->lock);
	p9_node_unref(old);
	return fine ? 0 : -EBUSY;
}

int p9_fid_fd(struct p9_fid *fid, enum p9_fid_use use)
{
	int fd;

	pthread_mutex_lock(&fid->lock);
	fd = fid->use == use ? fid->fd : -EBADF;
	pthread_mutex_unlock(&fid->lock);
	return fd;
}

struct p9_xattr *p9_fid_xattr(struct p9_fid *fid, enum p9_fid_use use)
{
	struct p9_xattr *xattr;

	pthread_mutex_lock(&fid->lock);
	xattr = fid->use == use ? fid->xattr : NULL;
	pthread_mutex_unlock(&fid->lock);
	return xattr;
}
