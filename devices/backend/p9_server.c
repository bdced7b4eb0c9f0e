/* SPDX-License-Identifier: Apache-2.0 */
/*
 * p9_server.c - the table of messages, and what belongs to the connection: version, attach, flush,
 * clunk. See p9.h.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/backend/p9_internal.h"

#define DIALECT "9P2000.L"

/* --- the connection --------------------------------------------------------------------------- */

static uint64_t end_session(struct p9 *p9, uint32_t msize)
{
	uint64_t session;

	pthread_mutex_lock(&p9->lock);
	session = ++p9->session;
	p9->msize = msize;
	pthread_mutex_unlock(&p9->lock);
	p9_fid_remove_all(p9);
	return session;
}

/* msize[4] version[s]: everything before it is forgotten. */
static int do_version(struct p9_call *c)
{
	uint32_t msize = (uint32_t)c->args.n[0];
	bool known = strncmp(c->args.s[0], DIALECT, strlen(DIALECT)) == 0;

	if (msize > P9_MSIZE_MAX)
		msize = P9_MSIZE_MAX;
	if (msize < P9_MSIZE_MIN)
		return -EMSGSIZE;
	(void)end_session(c->p9, known ? msize : 0);
	p9_put32(&c->out, msize);
	p9_put_string(&c->out, known ? DIALECT : "unknown");
	return 0;
}

static int do_auth(struct p9_call *c)
{
	(void)c;
	return -EOPNOTSUPP; /* the guest is let in by having the device */
}

/* fid[4] afid[4] uname[s] aname[s] n_uname[4]: who the guest says it is makes no difference. */
static int do_attach(struct p9_call *c)
{
	const char *where = c->args.s[1];
	struct p9_qid qid;
	int r;

	if (c->args.n[1] != P9_NOFID)
		return -EINVAL;
	if (strcmp(where, "") != 0 && strcmp(where, "/") != 0)
		return -ENOENT;
	r = p9_fid_add(c, (uint32_t)c->args.n[0], c->p9->root);
	if (r < 0)
		return r;
	p9_node_qid(c->p9->root, &qid);
	p9_put_qid(&c->out, &qid);
	return 0;
}

static bool is_active(const struct p9 *p9, uint16_t tag, uint64_t before)
{
	for (unsigned i = 0; i < P9_ACTIVE_MAX; i++)
		if (p9->active[i].used && p9->active[i].tag == tag && p9->active[i].serial < before)
			return true;
	return false;
}

/* oldtag[2]: answered when that message has been. Nothing here waits for ever, so nothing needs to be
 * cancelled; only older messages are waited for, so two never wait for each other. */
static int do_flush(struct p9_call *c)
{
	struct p9 *p9 = c->p9;

	pthread_mutex_lock(&p9->lock);
	while (is_active(p9, (uint16_t)c->args.n[0], c->serial))
		pthread_cond_wait(&p9->served, &p9->lock);
	pthread_mutex_unlock(&p9->lock);
	return 0;
}

/* fid[4] */
static int do_clunk(struct p9_call *c)
{
	int r = p9_xattr_finish(c->fid[0]);

	p9_fid_remove(c->fid[0]);
	return r;
}

/* --- messages --------------------------------------------------------------------------------- */

enum { CHANGES = 1 }; /* refused when read-only */

static const struct message {
	uint8_t type;
	uint8_t flags;
	const char *format; /* p9_unpack() */
	int (*serve)(struct p9_call *c);
} messages[] = {
	{ P9_STATFS, 0, "F", p9_do_statfs },
	{ P9_LOPEN, 0, "Fd", p9_do_lopen },
	{ P9_LCREATE, CHANGES, "Fnddd", p9_do_lcreate },
	{ P9_SYMLINK, CHANGES, "Fnsd", p9_do_symlink },
	{ P9_MKNOD, CHANGES, "Fndddd", p9_do_mknod },
	{ P9_RENAME, CHANGES, "FFn", p9_do_rename },
	{ P9_READLINK, 0, "F", p9_do_readlink },
	{ P9_GETATTR, 0, "Fq", p9_do_getattr },
	{ P9_SETATTR, CHANGES, "Fddddqqqqq", p9_do_setattr },
	{ P9_XATTRWALK, 0, "Fds", p9_do_xattrwalk },
	{ P9_XATTRCREATE, CHANGES, "Fsqd", p9_do_xattrcreate },
	{ P9_READDIR, 0, "Fqd", p9_do_readdir },
	{ P9_FSYNC, 0, "F", p9_do_fsync },
	{ P9_LOCK, 0, "Fbdqqds", p9_do_lock },
	{ P9_GETLOCK, 0, "Fbqqds", p9_do_getlock },
	{ P9_LINK, CHANGES, "FFn", p9_do_link },
	{ P9_MKDIR, CHANGES, "Fndd", p9_do_mkdir },
	{ P9_RENAMEAT, CHANGES, "FnFn", p9_do_renameat },
	{ P9_UNLINKAT, CHANGES, "Fnd", p9_do_unlinkat },
	{ P9_VERSION, 0, "ds", do_version },
	{ P9_AUTH, 0, "", do_auth },
	{ P9_ATTACH, 0, "ddssd", do_attach },
	{ P9_FLUSH, 0, "w", do_flush },
	{ P9_WALK, 0, "FdW", p9_do_walk },
	{ P9_READ, 0, "Fqd", p9_do_read },
	{ P9_WRITE, 0, "Fqd", p9_do_write },
	{ P9_CLUNK, 0, "F", do_clunk },
	{ P9_REMOVE, 0, "F", p9_do_remove }, /* takes the fid also when it may not change */
};

static const struct message *find_message(uint8_t type)
{
	for (size_t i = 0; i < ARRAY_SIZE(messages); i++)
		if (messages[i].type == type)
			return &messages[i];
	return NULL;
}

/* References to the fids that the message names. */
static int get_fids(struct p9_call *c, const char *format)
{
	unsigned ints = 0, fids = 0;

	for (; *format; format++) {
		if (*format == 'F') {
			uint32_t number = (uint32_t)c->args.n[ints];

			assert(fids < ARRAY_SIZE(c->fid));
			c->fid[fids] = p9_fid_get(c->p9, number, &c->node[fids]);
			if (!c->fid[fids++])
				return -EBADF;
		}
		ints += !strchr("snW", *format);
	}
	return 0;
}

static int serve(struct p9_call *c, uint8_t type)
{
	const struct message *message = find_message(type);
	uint8_t in[P9_IN_MAX];
	uint32_t len = c->size - P9_HEADER;
	int r;

	if (!message)
		return -EOPNOTSUPP;
	if (type != P9_VERSION && !c->room)
		return -EPROTO; /* no version was agreed on */
	len = len < sizeof(in) ? len : (uint32_t)sizeof(in);
	if (type == P9_WRITE && len > P9_WRITE_HEADER - P9_HEADER)
		len = P9_WRITE_HEADER - P9_HEADER; /* its data are read where they go */
	r = c->io->ops->read(c->io, P9_HEADER, in, len);
	if (r == 0)
		r = p9_unpack(in, len, message->format, &c->args);
	if (r == 0 && message->flags & CHANGES && c->p9->readonly)
		r = -EROFS;
	if (r == 0)
		r = get_fids(c, message->format);
	return r < 0 ? r : message->serve(c);
}

/* --- in and out ------------------------------------------------------------------------------- */

/* The message has a number from now on, and flushes of its tag wait for it. */
static struct p9_active *begin(struct p9_call *c, uint16_t tag, uint32_t *ret_msize)
{
	struct p9 *p9 = c->p9;
	struct p9_active *active = NULL;

	pthread_mutex_lock(&p9->lock);
	c->serial = p9->serial++;
	c->session = p9->session;
	*ret_msize = p9->msize;
	for (unsigned i = 0; i < P9_ACTIVE_MAX && !active; i++)
		if (!p9->active[i].used)
			active = &p9->active[i];
	if (active)
		*active = (struct p9_active){ true, tag, c->serial };
	pthread_mutex_unlock(&p9->lock);
	return active;
}

static void end(struct p9 *p9, struct p9_active *active)
{
	if (!active)
		return;
	pthread_mutex_lock(&p9->lock);
	active->used = false;
	pthread_cond_broadcast(&p9->served);
	pthread_mutex_unlock(&p9->lock);
}

static int answer(struct p9_call *c, uint8_t type, uint16_t tag, int result)
{
	uint32_t room = c->room ? c->room : P9_REPLY_MIN;
	int r;

	if (result == 0 && (c->out.full || c->out.len + c->data > room))
		result = -EMSGSIZE;
	if (result < 0) {
		c->out.len = P9_HEADER;
		c->out.full = false;
		c->data = 0;
		type = P9_RLERROR - 1;
		p9_put32(&c->out, (uint32_t)-result);
	}
	put_le32(c->out.bytes, (uint32_t)c->out.len + c->data);
	c->out.bytes[4] = (uint8_t)(type + 1);
	put_le16(c->out.bytes + 5, tag);
	r = c->io->ops->write(c->io, 0, c->out.bytes, (uint32_t)c->out.len);
	return r < 0 ? r : (int)(c->out.len + c->data);
}

int p9_serve(struct p9 *p9, struct p9_io *io)
{
	struct p9_call c;
	struct p9_active *active;
	uint8_t header[P9_HEADER];
	uint32_t msize;
	uint16_t tag;
	int r;

	if (io->request_bytes < P9_HEADER || io->reply_bytes < P9_REPLY_MIN ||
	    io->ops->read(io, 0, header, sizeof(header)) < 0)
		return -EPROTO;
	memset(&c, 0, offsetof(struct p9_call, out));
	c.out.len = P9_HEADER;
	c.out.full = false;
	c.data = 0;
	c.p9 = p9;
	c.io = io;
	c.size = get_le32(header);
	tag = get_le16(header + 5);
	active = begin(&c, tag, &msize);
	if (header[4] == P9_VERSION)
		msize = P9_MSIZE_MIN;
	c.room = msize < io->reply_bytes ? msize : io->reply_bytes;
	if (c.size < P9_HEADER || c.size > io->request_bytes || (msize && c.size > msize))
		r = -EPROTO;
	else
		r = serve(&c, header[4]);
	for (unsigned i = 0; i < ARRAY_SIZE(c.fid); i++) {
		p9_node_unref(c.node[i]);
		p9_fid_put(c.fid[i]);
	}
	r = answer(&c, header[4], tag, r);
	end(p9, active);
	return r;
}

/* --- life ------------------------------------------------------------------------------------- */

int p9_create(const struct p9_options *options, struct p9 **ret_p9)
{
	struct p9 *p9;
	struct stat st;

	if (options->fds_max < P9_FDS_MIN)
		return -EINVAL;
	if (fstat(options->dir_fd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	p9 = calloc(1, sizeof(*p9));
	if (!p9)
		return -ENOMEM;
	pthread_mutex_init(&p9->lock, NULL);
	pthread_cond_init(&p9->served, NULL);
	p9->readonly = options->readonly;
	p9->fds_max = options->fds_max;
	p9->proc_fd = options->proc_fd;
	/* Not by p9_node_new(), which closes the descriptor when it fails. */
	p9->fds = 1;
	p9->root = malloc(sizeof(*p9->root) + 1);
	if (!p9->root) {
		p9_destroy(p9);
		return -ENOMEM;
	}
	*p9->root = (struct p9_node){ .p9 = p9, .refs = 1, .fd = options->dir_fd, .kind = S_IFDIR,
				      .dev = st.st_dev, .ino = st.st_ino };
	p9->root->name[0] = '\0';
	*ret_p9 = p9;
	return 0;
}

void p9_reset(struct p9 *p9)
{
	(void)end_session(p9, 0);
}

struct p9 *p9_destroy(struct p9 *p9)
{
	if (!p9)
		return NULL;
	p9_reset(p9);
	p9_node_unref(p9->root);
	pthread_cond_destroy(&p9->served);
	pthread_mutex_destroy(&p9->lock);
	free(p9);
	return NULL;
}
