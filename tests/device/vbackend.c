/* SPDX-License-Identifier: Apache-2.0 */
/* vbackend.c - see vbackend.h. The wire is read and written here by hand, not with vhost_wire.c. */
#include <config.h>

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/bytes.h"
#include "tests/device/vbackend.h"

#define F_PROTOCOL (1ull << VHOST_F_PROTOCOL_FEATURES)

int vb_open(struct vbackend *b, uint64_t features, uint64_t protocol, uint64_t queues)
{
	int pair[2];

	memset(b, 0, sizeof(*b));
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	b->sock = pair[0];
	b->request_fd = -1;
	b->features = features;
	b->protocol = protocol;
	b->queues = queues;
	for (unsigned i = 0; i < VB_QUEUES; i++)
		b->ring[i].kick_fd = b->ring[i].call_fd = -1;
	return pair[1];
}

static void set_fd(int *fd, int value)
{
	if (*fd >= 0)
		close(*fd);
	*fd = value;
}

static void unmap(struct vbackend *b)
{
	for (unsigned i = 0; i < b->region_count; i++)
		munmap(b->region[i].host, b->region[i].size);
	b->region_count = 0;
	for (unsigned i = 0; i < VB_QUEUES; i++)
		b->ring[i].desc = b->ring[i].avail = b->ring[i].used = NULL;
}

void vb_close(struct vbackend *b)
{
	vb_rest(b);
	unmap(b);
	for (unsigned i = 0; i < VB_QUEUES; i++) {
		set_fd(&b->ring[i].kick_fd, -1);
		set_fd(&b->ring[i].call_fd, -1);
	}
	set_fd(&b->request_fd, -1);
	set_fd(&b->sock, -1);
}

/* --- what it is told --------------------------------------------------------------------------- */

uint8_t *vb_memory(struct vbackend *b, uint64_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < b->region_count; i++) {
		struct vb_region *r = &b->region[i];

		if (gpa >= r->gpa && gpa - r->gpa < r->size && len <= r->size - (gpa - r->gpa))
			return r->host + (gpa - r->gpa);
	}
	return NULL;
}

static uint8_t *user_memory(struct vbackend *b, uint64_t user)
{
	for (unsigned i = 0; i < b->region_count; i++)
		if (user - b->region[i].user < b->region[i].size)
			return b->region[i].host + (user - b->region[i].user);
	return NULL;
}

static void set_memory(struct vbackend *b, const uint8_t *p, const int *fds, unsigned fd_count)
{
	unsigned n = get_le32(p);

	unmap(b);
	for (unsigned i = 0; i < n && i < fd_count && i < VB_REGIONS; i++) {
		const uint8_t *r = p + 8 + 32 * i;
		struct vb_region *to = &b->region[b->region_count++];

		*to = (struct vb_region){ get_le64(r), get_le64(r + 8), get_le64(r + 16), NULL };
		to->host = mmap(NULL, to->size, PROT_READ | PROT_WRITE, MAP_SHARED, fds[i],
				(off_t)get_le64(r + 24));
		if (to->host == MAP_FAILED)
			abort();
	}
}

static void set_address(struct vbackend *b, const uint8_t *p)
{
	struct vb_ring *r = &b->ring[get_le32(p) % VB_QUEUES];

	r->desc = user_memory(b, get_le64(p + 8));
	r->used = user_memory(b, get_le64(p + 16));
	r->avail = user_memory(b, get_le64(p + 24));
	if (!r->desc || !r->used || !r->avail)
		abort();
}

/* Fills the answer; its size, or 0: none but an acknowledgement. */
static uint32_t obey(struct vbackend *b, uint32_t request, const uint8_t *p, uint32_t size, int *fds,
		     unsigned fd_count, uint8_t *answer)
{
	struct vb_ring *r = &b->ring[size >= 4 ? get_le32(p) % VB_QUEUES : 0];

	switch (request) {
	case VHOST_GET_FEATURES:
		put_le64(answer, b->features);
		return 8;
	case VHOST_GET_PROTOCOL_FEATURES:
		put_le64(answer, b->protocol);
		return 8;
	case VHOST_GET_QUEUE_NUM:
		put_le64(answer, b->queues);
		return 8;
	case VHOST_GET_CONFIG:
		memcpy(answer, p, 12);
		memcpy(answer + 12, b->config, get_le32(p + 4));
		return 12 + get_le32(p + 4);
	case VHOST_GET_VRING_BASE:
		r->running = false;
		memcpy(answer, p, 4);
		put_le32(answer + 4, r->last_avail);
		return 8;
	case VHOST_SET_FEATURES:
		b->accepted = get_le64(p);
		break;
	case VHOST_SET_PROTOCOL_FEATURES:
		b->accepted_protocol = get_le64(p);
		break;
	case VHOST_SET_MEM_TABLE:
		set_memory(b, p, fds, fd_count);
		break;
	case VHOST_SET_VRING_NUM:
		r->size = get_le32(p + 4);
		break;
	case VHOST_SET_VRING_BASE:
		r->last_avail = (uint16_t)get_le32(p + 4);
		r->used_idx = r->last_avail;
		break;
	case VHOST_SET_VRING_ADDR:
		set_address(b, p);
		break;
	case VHOST_SET_VRING_ENABLE:
		r->enabled = get_le32(p + 4);
		break;
	case VHOST_SET_VRING_KICK:
		set_fd(&r->kick_fd, fds[0]);
		fds[0] = -1;
		r->running = true;
		break;
	case VHOST_SET_VRING_CALL:
		set_fd(&r->call_fd, fds[0]);
		fds[0] = -1;
		break;
	case VHOST_SET_BACKEND_REQ_FD:
		set_fd(&b->request_fd, fds[0]);
		fds[0] = -1;
		break;
	default:
		break;
	}
	return 0;
}

/* --- the socket -------------------------------------------------------------------------------- */

static void put_header(uint8_t *m, uint32_t request, uint32_t flags, uint32_t size)
{
	put_le32(m, request);
	put_le32(m + 4, flags);
	put_le32(m + 8, size);
}

static void send_all(struct vbackend *b, const uint8_t *m, size_t size)
{
	(void)!send(b->sock, m, size, MSG_NOSIGNAL);
}

/* m: header and payload of a good answer. */
static void answer_badly(struct vbackend *b, uint8_t *m, uint32_t size)
{
	switch (b->sin) {
	case VB_GOOD:
		break;
	case VB_SILENT:
		return;
	case VB_OTHER_REQUEST:
		put_le32(m, get_le32(m) + 1);
		break;
	case VB_NO_REPLY_FLAG:
		put_le32(m + 4, 1);
		break;
	case VB_SHORT:
	case VB_LONG:
		size = b->sin == VB_SHORT ? size - 4 : size + 4;
		put_le32(m + 8, size);
		break;
	case VB_HUGE:
		put_le32(m + 8, 1u << 30);
		break;
	case VB_VERSION:
		put_le32(m + 4, 6);
		break;
	case VB_REFUSE:
		memset(m + 12, 0, size);
		m[12] = 1;
		if (get_le32(m) == VHOST_GET_CONFIG)
			put_le32(m + 8, size = 0);
		break;
	case VB_TWICE:
		send_all(b, m, 12 + size);
		break;
	case VB_HALF:
		send_all(b, m, 9);
		set_fd(&b->sock, -1);
		return;
	case VB_CLOSE:
		set_fd(&b->sock, -1);
		return;
	case VB_ZERO:
	case VB_ONES:
		memset(m + 12, b->sin == VB_ZERO ? 0 : 0xff, size);
		break;
	}
	send_all(b, m, 12 + size);
}

static ssize_t receive(struct vbackend *b, uint8_t *header, int *fds, unsigned *ret_fds)
{
	char control[CMSG_SPACE(8 * sizeof(int))] __attribute__((aligned(8)));
	struct iovec iov = { header, 12 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			      .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(b->sock, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	*ret_fds = 0;
	if (c && c->cmsg_type == SCM_RIGHTS) {
		*ret_fds = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), *ret_fds * sizeof(int));
	}
	return n;
}

bool vb_step(struct vbackend *b)
{
	uint8_t header[12], payload[512] = { 0 }, answer[12 + 512] = { 0 };
	int fds[8] = { -1, -1, -1, -1, -1, -1, -1, -1 };
	unsigned fd_count;
	uint32_t request, size;

	if (b->sock < 0 || receive(b, header, fds, &fd_count) != 12)
		return false;
	request = get_le32(header);
	size = get_le32(header + 8);
	if (size > sizeof(payload) ||
	    (size && recv(b->sock, payload, size, MSG_WAITALL) != (ssize_t)size))
		abort();
	if (b->logged < VB_LOG)
		b->log[b->logged++] = request;
	size = obey(b, request, payload, size, fds, fd_count, answer + 12);
	if (!size && get_le32(header + 4) & 8)
		size = 8; /* zero: it was done */
	if (size) {
		put_header(answer, request, 1 | 4, size);
		if (b->sin != VB_GOOD && b->sin_at == request)
			answer_badly(b, answer, size);
		else
			send_all(b, answer, 12 + size);
	}
	for (unsigned i = 0; i < fd_count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return true;
}

static void *serve(void *opaque)
{
	struct vbackend *b = opaque;

	while (!__atomic_load_n(&b->stop, __ATOMIC_ACQUIRE)) {
		struct pollfd pfd = { .fd = b->sock, .events = POLLIN };

		(void)poll(&pfd, 1, 1);
		while (vb_step(b))
			;
	}
	return NULL;
}

void vb_serve(struct vbackend *b)
{
	b->stop = false;
	if (pthread_create(&b->thread, NULL, serve, b))
		abort();
	b->serving = true;
}

void vb_rest(struct vbackend *b)
{
	if (!b->serving)
		return;
	__atomic_store_n(&b->stop, true, __ATOMIC_RELEASE);
	pthread_join(b->thread, NULL);
	b->serving = false;
}

unsigned vb_count(const struct vbackend *b, uint32_t request)
{
	unsigned n = 0;

	for (unsigned i = 0; i < b->logged; i++)
		n += b->log[i] == request;
	return n;
}

bool vb_config_changed(struct vbackend *b, bool need_reply)
{
	uint8_t m[20];

	put_header(m, VHOST_BACKEND_CONFIG_CHANGE, need_reply ? 1 | 8 : 1, 0);
	return b->request_fd >= 0 && send(b->request_fd, m, 12, MSG_NOSIGNAL) == 12;
}

/* --- rings ------------------------------------------------------------------------------------- */

static void add_part(struct vb_chain *c, const uint8_t *desc)
{
	if (c->count == sizeof(c->part) / sizeof(c->part[0]))
		abort();
	c->part[c->count].gpa = get_le64(desc);
	c->part[c->count].len = get_le32(desc + 8);
	c->part[c->count++].write = get_le16(desc + 12) & 2;
}

bool vb_take(struct vbackend *b, unsigned queue, struct vb_chain *c)
{
	struct vb_ring *r = &b->ring[queue];
	const uint8_t *desc;
	uint16_t flags;

	c->count = 0;
	if (!r->running || !r->avail || get_le16(r->avail + 2) == r->last_avail)
		return false;
	c->head = get_le16(r->avail + 4 + 2 * (r->last_avail++ % r->size));
	desc = r->desc + 16 * c->head;
	if (get_le16(desc + 12) & 4) { /* indirect */
		unsigned n = get_le32(desc + 8) / 16;
		const uint8_t *table = vb_memory(b, get_le64(desc), get_le32(desc + 8));

		for (unsigned i = 0; i < n; i++)
			add_part(c, table + 16 * i);
		return true;
	}
	do {
		add_part(c, desc);
		flags = get_le16(desc + 12);
		desc = r->desc + 16 * get_le16(desc + 14);
	} while (flags & 1);
	return true;
}

void vb_give(struct vbackend *b, unsigned queue, uint32_t head, uint32_t written)
{
	struct vb_ring *r = &b->ring[queue];

	if (!r->used)
		return;
	put_le32(r->used + 4 + 8 * (r->used_idx % r->size), head);
	put_le32(r->used + 8 + 8 * (r->used_idx % r->size), written);
	r->used_idx++;
	__atomic_store_n((uint16_t *)(void *)(r->used + 2), r->used_idx, __ATOMIC_RELEASE);
}

void vb_call(struct vbackend *b, unsigned queue)
{
	if (b->ring[queue].call_fd >= 0)
		(void)eventfd_write(b->ring[queue].call_fd, 1);
}
