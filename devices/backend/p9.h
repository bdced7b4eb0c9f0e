/* SPDX-License-Identifier: Apache-2.0 */
/*
 * p9.h - a file server: one directory of the host, spoken to in 9P2000.L. It knows nothing of
 * virtio; whoever carries its messages (devices/virtio/p9.c) calls p9_serve() for each.
 *
 * The client is hostile. What keeps it inside the directory:
 *
 *  - Every file that it knows is an O_PATH descriptor (a node), found from the directory that was
 *    handed in, one name at a time, by openat2() with RESOLVE_BENEATH, NO_SYMLINKS, NO_MAGICLINKS
 *    and NO_XDEV. A symbolic link is never followed here, only read; a mount point below the
 *    directory is not entered (so not /proc either, however much of the host is shared). "..", which
 *    no kernel call ever sees, is the node that the walk came from.
 *  - A node is the file: what was checked (its kind) is what is opened, by way of our own
 *    descriptor's entry in /proc/self/fd. Nothing is looked up twice, so nothing can be swapped.
 *  - Only regular files and directories are ever opened. Devices cannot be made; FIFOs and sockets
 *    can (the guest's kernel uses them by itself) but not opened through here.
 *  - read-only is enforced here, for every message.
 *
 * Who owns what: the server acts as the user that its process runs as, and as nobody else. New files
 * belong to that user; a change of owner is accepted and does nothing; set-user-id and set-group-id
 * bits are dropped, so that no guest makes a program that runs as this user. What stat tells is the
 * host's truth. Of the extended attributes "user." only.
 *
 * Limits: descriptors (one per node, one more per open file), message size, bytes in extended
 * attributes under way. A client at a limit gets an error, and nobody else notices.
 *
 * System calls of a thread in p9_serve(), beyond read, write, close, memory and futexes (THREAD_SHARE
 * in daemon/sandbox_rules.c):
 *   openat2                     names, always below a node
 *   openat                      /proc/self/fd/N of an own node, to open it for reading or writing
 *   preadv pwritev              contents, straight from and to guest memory
 *   statx fstat fstatfs         attributes (O_PATH descriptors)
 *   getdents64 lseek            directories
 *   mkdirat mknodat symlinkat linkat unlinkat renameat2 readlinkat   names
 *   ftruncate fchmodat utimensat fsync fdatasync                     changes
 *   fgetxattr flistxattr fsetxattr fremovexattr                      "user." attributes
 *   fcntl F_OFD_SETLK F_OFD_GETLK F_GETFL                            locks
 */
#ifndef DEVICES_BACKEND_P9_H
#define DEVICES_BACKEND_P9_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#define P9_MSIZE_MAX (512u << 10) /* of any message */
#define P9_MSIZE_MIN 4096u
#define P9_HEADER 7u              /* size[4] type[1] tag[2] */
#define P9_REPLY_MIN 11u          /* of an error; less room for a reply makes no sense */
#define P9_IOVECS_MAX 256u

struct p9;

struct p9_options {
	int dir_fd;        /* directory, opened O_RDONLY or O_PATH; the server's after success */
	int proc_fd;       /* /proc/self/fd of this very process; borrowed, outlives the server */
	bool readonly;
	uint32_t fds_max;  /* descriptors that clients may take up; at least 16 */
};

/* One message and the room for its answer. */
struct p9_io {
	const struct p9_io_ops *ops;
	uint32_t request_bytes, reply_bytes; /* how much there is of each */
};

struct p9_io_ops {
	/* The caller keeps within request_bytes and reply_bytes. What is read may change under the
	 * reader: nothing is read twice. 0 or a negative errno. */
	int (*read)(struct p9_io *io, uint32_t offset, void *buf, uint32_t len);
	int (*write)(struct p9_io *io, uint32_t offset, const void *buf, uint32_t len);
	/* Host memory of a part of the request, or of the reply, for system calls: number of
	 * entries (at most P9_IOVECS_MAX), or a negative errno. */
	int (*iov)(struct p9_io *io, bool reply, uint32_t offset, uint32_t len, struct iovec *iov);
	/* The kernel wrote so much of the reply through it. */
	void (*written)(struct p9_io *io, uint32_t offset, uint32_t len);
};

/* -ENOTDIR, -ENOMEM, -EINVAL; or the errno of a look at the directory. */
int p9_create(const struct p9_options *options, struct p9 **ret_p9);
/* NULL is fine; returns NULL. Nothing is being served. */
struct p9 *p9_destroy(struct p9 *p9);
/* Forgets the client: all its files are closed. Nothing is being served. */
void p9_reset(struct p9 *p9);
/* Serves one message: may block for as long as the host's file system does. Any number of threads
 * at a time. Bytes of the reply (at least P9_REPLY_MIN), or -EPROTO: the message has no header, or
 * there is no room for an answer, and nothing was written. */
int p9_serve(struct p9 *p9, struct p9_io *io);

#endif
