/* SPDX-License-Identifier: Apache-2.0 */
/* p9_internal.h - shared by p9_*.c only. All integers on the wire are little-endian. */
#ifndef DEVICES_BACKEND_P9_INTERNAL_H
#define DEVICES_BACKEND_P9_INTERNAL_H

#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "devices/backend/p9.h"

#define P9_NOFID 0xffffffffu
#define P9_NOTAG 0xffffu
#define P9_NAMES_MAX 16u        /* of one walk */
#define P9_IN_MAX 8192u         /* of a message without its data: two paths and more fit */
#define P9_OUT_MAX 8192u        /* of a reply without data */
#define P9_XATTR_MAX 65536u     /* of one extended attribute, or of a list */
#define P9_XATTRS_MAX (4u << 20) /* bytes of them that a client may have under way */
#define P9_BUCKETS 1024u
#define P9_FDS_MIN 16u
#define P9_ACTIVE_MAX 64u       /* messages being served; more find no place for their tag */
#define P9_READ_HEADER (P9_HEADER + 4u)   /* count[4], then data */
#define P9_WRITE_HEADER (P9_HEADER + 16u) /* fid[4] offset[8] count[4], then data */

enum { /* types of requests; a reply's is one more */
	P9_RLERROR = 7,
	P9_STATFS = 8, P9_LOPEN = 12, P9_LCREATE = 14, P9_SYMLINK = 16, P9_MKNOD = 18,
	P9_RENAME = 20, P9_READLINK = 22, P9_GETATTR = 24, P9_SETATTR = 26, P9_XATTRWALK = 30,
	P9_XATTRCREATE = 32, P9_READDIR = 40, P9_FSYNC = 50, P9_LOCK = 52, P9_GETLOCK = 54,
	P9_LINK = 70, P9_MKDIR = 72, P9_RENAMEAT = 74, P9_UNLINKAT = 76,
	P9_VERSION = 100, P9_AUTH = 102, P9_ATTACH = 104, P9_FLUSH = 108, P9_WALK = 110,
	P9_READ = 116, P9_WRITE = 118, P9_CLUNK = 120, P9_REMOVE = 122,
};

struct p9_qid { /* what a file is: 13 bytes on the wire */
	uint8_t type;
	uint32_t version;
	uint64_t path;
};
enum { P9_QID_FILE = 0x00, P9_QID_SYMLINK = 0x02, P9_QID_DIR = 0x80 };

/* A file of the host, held by an O_PATH descriptor. Never changes; counted. */
struct p9_node {
	struct p9 *p9;
	unsigned refs;          /* atomic */
	int fd;
	mode_t kind;            /* S_IFMT bits */
	dev_t dev;
	ino_t ino;
	struct p9_node *parent; /* where the walk came from; NULL: what was attached */
	char name[];            /* in there, when it was found */
};

enum p9_fid_use { P9_USE_NONE, P9_USE_FILE, P9_USE_DIR, P9_USE_XATTR_READ, P9_USE_XATTR_WRITE };

/* The client's handle. Counted: the table has one reference, each message that uses it another. */
struct p9_fid {
	struct p9 *p9;
	struct p9_fid *next;   /* in its bucket; p9->lock */
	uint32_t number;
	unsigned refs;         /* p9->lock */
	pthread_mutex_t lock;  /* of what follows */
	struct p9_node *node;
	enum p9_fid_use use;   /* set once, after which fd and xattr stay */
	int fd;                /* USE_FILE, USE_DIR */
	struct p9_xattr *xattr;
};

struct p9_xattr {
	uint32_t size;    /* of bytes[] */
	uint32_t filled;  /* USE_XATTR_WRITE */
	uint32_t flags;   /* XATTR_CREATE, XATTR_REPLACE */
	char name[256];
	uint8_t bytes[];
};

struct p9_active { /* a message being served */
	bool used;
	uint16_t tag;
	uint64_t serial;
};

struct p9 {
	pthread_mutex_t lock;   /* fids, session, active */
	pthread_cond_t served;  /* an active message ended */
	int proc_fd;
	bool readonly;
	uint32_t fds_max, fds;  /* fds: atomic */
	uint32_t xattr_bytes;   /* atomic */
	uint32_t msize;         /* 0: no version was agreed on; p9->lock */
	uint64_t session;       /* one more with each Tversion and reset */
	uint64_t serial;        /* of messages */
	struct p9_node *root;
	struct p9_fid *bucket[P9_BUCKETS];
	struct p9_active active[P9_ACTIVE_MAX];
};

/* --- one message ------------------------------------------------------------------------------ */

#define P9_INTS_MAX 10u

struct p9_args { /* as the format in the table says, in order */
	uint64_t n[P9_INTS_MAX];
	const char *s[2];
	unsigned names;
	const char *name[P9_NAMES_MAX];
};

struct p9_out {
	size_t len; /* header included */
	bool full;  /* something did not fit */
	uint8_t bytes[P9_OUT_MAX];
};

struct p9_call {
	struct p9 *p9;
	struct p9_io *io;
	uint32_t size;       /* of the request, as it says; at most what there is */
	uint32_t room;       /* for the reply: within msize and within what the carrier has */
	uint64_t session, serial;
	struct p9_args args;
	struct p9_fid *fid[2];   /* of the format's F */
	struct p9_node *node[2]; /* theirs when the message came */
	struct p9_out out;
	uint32_t data;       /* bytes of the reply behind out, written already */
};

/* p9_codec.c. Turns the request's body into args. Formats: b w d q integers of 1 2 4 8 bytes, F a
 * fid that must exist (counts as an integer too), s a string, n a name (one component, not . or ..),
 * W a walk's names. -EPROTO: cut off or too long; -EINVAL, -ENAMETOOLONG, -ENOENT: a bad string. */
int p9_unpack(uint8_t *body, size_t len, const char *format, struct p9_args *ret_args);
void p9_put8(struct p9_out *out, uint8_t value);
void p9_put16(struct p9_out *out, uint16_t value);
void p9_put32(struct p9_out *out, uint32_t value);
void p9_put64(struct p9_out *out, uint64_t value);
void p9_put_qid(struct p9_out *out, const struct p9_qid *qid);
void p9_put_string(struct p9_out *out, const char *string);

/* p9_fid.c. Descriptors are counted: take one before it is opened, give it back after close. */
bool p9_fd_take(struct p9 *p9); /* false: the client has all it may have */
void p9_fd_close(struct p9 *p9, int fd); /* -1 is fine */
/* fd (O_PATH, taken) becomes a node; closed on an error. parent may be NULL, and is referenced. */
int p9_node_new(struct p9 *p9, int fd, struct p9_node *parent, const char *name,
		struct p9_node **ret_node);
/* The file of that name in dir, wherever it leads nowhere outside. */
int p9_node_walk(struct p9_node *dir, const char *name, struct p9_node **ret_node);
/* The node of a file that was opened already. */
int p9_node_of_file(struct p9_node *dir, const char *name, int fd, struct p9_node **ret_node);
struct p9_node *p9_node_ref(struct p9_node *node);
struct p9_node *p9_node_unref(struct p9_node *node); /* NULL is fine; returns NULL */
void p9_node_qid(const struct p9_node *node, struct p9_qid *ret_qid);
/* Opens a regular file or directory (-EOPNOTSUPP for others) anew; a taken descriptor. */
int p9_node_open(struct p9_node *node, int flags);
/* Sets permissions, without bits that lend this user's power. */
int p9_node_chmod(struct p9_node *node, uint32_t mode);
/* Its entry in /proc/self/fd, relative to p9->proc_fd. */
struct p9_path { char text[32]; };
struct p9_path p9_node_path(const struct p9_node *node);

/* A new fid on node (referenced). -EBADF: the number is taken, or the session is over. */
int p9_fid_add(struct p9_call *c, uint32_t number, struct p9_node *node);
struct p9_fid *p9_fid_get(struct p9 *p9, uint32_t number, struct p9_node **ret_node);
void p9_fid_put(struct p9_fid *fid); /* NULL is fine */
/* Takes it out of the table. */
void p9_fid_remove(struct p9_fid *fid);
void p9_fid_remove_all(struct p9 *p9);
/* Gives the fid its one use; takes fd, node (referenced anew; NULL: as it is) and xattr over after
 * success only. -EBUSY: it has one. */
int p9_fid_use(struct p9_fid *fid, enum p9_fid_use use, int fd, struct p9_node *node,
	       struct p9_xattr *xattr);
/* The descriptor it has been opened to, or -EBADF. Stays open while the fid is referenced. */
int p9_fid_fd(struct p9_fid *fid, enum p9_fid_use use);
/* Its extended attribute, if that is its use; stays while the fid is referenced. */
struct p9_xattr *p9_fid_xattr(struct p9_fid *fid, enum p9_fid_use use);

/* p9_file.c */
/* Flags of the protocol to our own; access mode, truncation, append and sync only. */
int p9_open_flags(uint32_t flags);
int p9_do_lopen(struct p9_call *c);
int p9_do_read(struct p9_call *c);
int p9_do_write(struct p9_call *c);
int p9_do_readdir(struct p9_call *c);
int p9_do_fsync(struct p9_call *c);
int p9_do_lock(struct p9_call *c);
int p9_do_getlock(struct p9_call *c);

/* p9_name.c */
int p9_do_walk(struct p9_call *c);
int p9_do_lcreate(struct p9_call *c);
int p9_do_symlink(struct p9_call *c);
int p9_do_mknod(struct p9_call *c);
int p9_do_mkdir(struct p9_call *c);
int p9_do_readlink(struct p9_call *c);
int p9_do_link(struct p9_call *c);
int p9_do_rename(struct p9_call *c);
int p9_do_renameat(struct p9_call *c);
int p9_do_unlinkat(struct p9_call *c);
int p9_do_remove(struct p9_call *c);

/* p9_attr.c */
int p9_do_statfs(struct p9_call *c);
int p9_do_getattr(struct p9_call *c);
int p9_do_setattr(struct p9_call *c);
int p9_do_xattrwalk(struct p9_call *c);
int p9_do_xattrcreate(struct p9_call *c);
/* An attribute that was written is set when its fid goes: from clunk. */
int p9_xattr_finish(struct p9_fid *fid);
void p9_xattr_free(struct p9 *p9, struct p9_xattr *xattr); /* NULL is fine */

#endif
