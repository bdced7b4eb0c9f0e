/* SPDX-License-Identifier: Apache-2.0 */
/*
 * p9_name.c - messages about names in directories, see p9_internal.h. A call with a directory and one
 * name follows nothing at its end and passes nothing on its way, so it stays where the directory is.
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "devices/backend/p9_internal.h"

#define REMOVE_DIR 0x200u
#define CREATE_TRIES 4

/* --- finding ---------------------------------------------------------------------------------- */

/* fid[4] newfid[4] names -> nwqid[2] qids. All names, or those until one isn't there: then there is no
 * newfid, and only a first name that isn't there is an error. */
int p9_do_walk(struct p9_call *c)
{
	uint32_t newfid = (uint32_t)c->args.n[1];
	struct p9_node *node = p9_node_ref(c->node[0]), *next;
	struct p9_qid qids[P9_NAMES_MAX];
	unsigned n;
	int r = 0;

	for (n = 0; n < c->args.names; n++) {
		r = p9_node_walk(node, c->args.name[n], &next);
		if (r < 0)
			break;
		p9_node_unref(node);
		node = next;
		p9_node_qid(node, &qids[n]);
	}
	if (r < 0)
		r = n ? 0 : r;
	else if (newfid != c->fid[0]->number)
		r = p9_fid_add(c, newfid, node);
	else
		r = p9_fid_use(c->fid[0], P9_USE_NONE, -1, node, NULL);
	p9_node_unref(node);
	if (r < 0)
		return r;
	p9_put16(&c->out, (uint16_t)n);
	for (unsigned i = 0; i < n; i++)
		p9_put_qid(&c->out, &qids[i]);
	return 0;
}

/* fid[4] -> target[s] */
int p9_do_readlink(struct p9_call *c)
{
	char target[PATH_MAX];
	ssize_t n;

	if (c->node[0]->kind != S_IFLNK)
		return -EINVAL;
	n = readlinkat(c->node[0]->fd, "", target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	p9_put_string(&c->out, target);
	return 0;
}

/* --- making ----------------------------------------------------------------------------------- */

/* Opens dir/name as a file that is made if it isn't there; what is there already is looked at before
 * it is opened. Gives the descriptor and its node. */
static int create_file(struct p9_node *dir, const char *name, int flags, uint32_t mode,
		       struct p9_node **ret_node)
{
	struct p9 *p9 = dir->p9;
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC),
		.mode = 0600,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS |
			   RESOLVE_NO_XDEV,
	};
	long fd;
	int r;

	if (!p9_fd_take(p9))
		return -EMFILE;
	fd = syscall(SYS_openat2, dir->fd, name, &how, sizeof(how));
	if (fd < 0) {
		r = -errno;
		__atomic_sub_fetch(&p9->fds, 1, __ATOMIC_RELAXED);
		return r;
	}
	r = p9_node_of_file(dir, name, (int)fd, ret_node);
	if (r == 0) {
		(void)p9_node_chmod(*ret_node, mode); /* our umask is not the guest's */
		return (int)fd;
	}
	p9_fd_close(p9, (int)fd);
	return r;
}

static int open_file(struct p9_node *dir, const char *name, int flags, struct p9_node **ret_node)
{
	int r = p9_node_walk(dir, name, ret_node), fd;

	if (r < 0)
		return r;
	fd = (*ret_node)->kind == S_IFDIR ? -EISDIR : p9_node_open(*ret_node, flags);
	if (fd < 0)
		*ret_node = p9_node_unref(*ret_node);
	return fd;
}

/* fid[4] name[s] flags[4] mode[4] gid[4] -> qid[13] iounit[4]; fid becomes the file. */
int p9_do_lcreate(struct p9_call *c)
{
	int flags = p9_open_flags((uint32_t)c->args.n[1]) & ~O_DIRECTORY, fd = -EEXIST, r;
	uint32_t mode = (uint32_t)c->args.n[2];
	struct p9_node *node = NULL;
	struct p9_qid qid;

	/* Somebody else may remove and make it meanwhile, but not for ever. */
	for (int i = 0; i < CREATE_TRIES && fd < 0; i++) {
		fd = create_file(c->node[0], c->args.s[0], flags, mode, &node);
		if (fd != -EEXIST || flags & O_EXCL)
			break;
		fd = open_file(c->node[0], c->args.s[0], flags, &node);
		if (fd != -ENOENT)
			break;
	}
	if (fd < 0)
		return fd;
	r = p9_fid_use(c->fid[0], P9_USE_FILE, fd, node, NULL);
	if (r < 0) {
		p9_fd_close(c->p9, fd);
	} else {
		p9_node_qid(node, &qid);
		p9_put_qid(&c->out, &qid);
		p9_put32(&c->out, 0);
	}
	p9_node_unref(node);
	return r;
}

/* What was just made: its permissions (mode UINT32_MAX: has none) and its qid. */
static int finish_made(struct p9_call *c, uint32_t mode)
{
	struct p9_node *node;
	struct p9_qid qid;
	int r = p9_node_walk(c->node[0], c->args.s[0], &node);

	if (r < 0)
		return r;
	if (mode != UINT32_MAX)
		(void)p9_node_chmod(node, mode);
	p9_node_qid(node, &qid);
	p9_put_qid(&c->out, &qid);
	p9_node_unref(node);
	return 0;
}

/* dfid[4] name[s] target[s] gid[4] -> qid[13]. The target is text: nobody here follows it. */
int p9_do_symlink(struct p9_call *c)
{
	if (symlinkat(c->args.s[1], c->node[0]->fd, c->args.s[0]) < 0)
		return -errno;
	return finish_made(c, UINT32_MAX);
}

/* dfid[4] name[s] mode[4] major[4] minor[4] gid[4] -> qid[13] */
int p9_do_mknod(struct p9_call *c)
{
	uint32_t mode = (uint32_t)c->args.n[1];
	mode_t kind = mode & S_IFMT;

	if (kind != S_IFREG && kind != S_IFIFO && kind != S_IFSOCK && kind)
		return -EPERM; /* device nodes would be the host's devices */
	if (mknodat(c->node[0]->fd, c->args.s[0], (kind ? kind : S_IFREG) | 0600, 0) < 0)
		return -errno;
	return finish_made(c, mode);
}

/* dfid[4] name[s] mode[4] gid[4] -> qid[13] */
int p9_do_mkdir(struct p9_call *c)
{
	if (mkdirat(c->node[0]->fd, c->args.s[0], 0700) < 0)
		return -errno;
	return finish_made(c, (uint32_t)c->args.n[1]);
}

/* dfid[4] fid[4] name[s] */
int p9_do_link(struct p9_call *c)
{
	struct p9_node *node = c->node[1];

	if (node->kind == S_IFDIR)
		return -EPERM;
	/* By way of our descriptor: the file itself, wherever its name went. */
	if (linkat(c->p9->proc_fd, p9_node_path(node).text, c->node[0]->fd, c->args.s[0],
		   AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	return 0;
}

/* --- moving and removing ---------------------------------------------------------------------- */

/* olddirfid[4] oldname[s] newdirfid[4] newname[s] */
int p9_do_renameat(struct p9_call *c)
{
	if (renameat2(c->node[0]->fd, c->args.s[0], c->node[1]->fd, c->args.s[1], 0) < 0)
		return -errno;
	return 0;
}

/* dirfid[4] name[s] flags[4] */
int p9_do_unlinkat(struct p9_call *c)
{
	uint32_t flags = (uint32_t)c->args.n[1];

	if (flags & ~REMOVE_DIR)
		return -EINVAL;
	if (unlinkat(c->node[0]->fd, c->args.s[0], flags & REMOVE_DIR ? AT_REMOVEDIR : 0) < 0)
		return -errno;
	return 0;
}

/* The two below name a file by its fid, from before there were better messages: the name under which
 * it was found must still be the file's. */
static int check_name(const struct p9_node *node)
{
	struct stat st;

	if (!node->parent)
		return -EBUSY;
	if (fstatat(node->parent->fd, node->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return st.st_dev == node->dev && st.st_ino == node->ino ? 0 : -ESTALE;
}

/* fid[4] dfid[4] name[s] */
int p9_do_rename(struct p9_call *c)
{
	struct p9_node *node = c->node[0];
	int r = check_name(node);

	if (r == 0 &&
	    renameat2(node->parent->fd, node->name, c->node[1]->fd, c->args.s[0], 0) < 0)
		r = -errno;
	return r;
}

/* fid[4]; it is gone in any case. */
int p9_do_remove(struct p9_call *c)
{
	struct p9_node *node = c->node[0];
	int r = c->p9->readonly ? -EROFS : check_name(node);

	if (r == 0 &&
	    unlinkat(node->parent->fd, node->name, node->kind == S_IFDIR ? AT_REMOVEDIR : 0) < 0)
		r = -errno;
	p9_fid_remove(c->fid[0]);
	return r;
}
