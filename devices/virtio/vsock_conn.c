/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock_conn.c - connections, and their host side. See vsock_internal.h for the states.
 *
 * The sockets are watched edge-triggered, once for all: a connection remembers that it is readable
 * until a read says otherwise, so neither a guest without credit nor a slow reader makes the loop
 * spin, and no call is needed to change what is waited for.
 */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "devices/virtio/vsock_internal.h"

#define GREETING_NS (10 * NSEC_PER_SEC) /* to say CONNECT */
#define ANSWER_NS (10 * NSEC_PER_SEC)   /* for the guest, or the owner, to answer */
#define DRAIN_NS (30 * NSEC_PER_SEC)    /* for the host to read something */
#define TICK_NS NSEC_PER_SEC
#define GREETING_MAX 32u
#define FIRST_PORT 0x40000000u          /* of connections that come from the host */
#define READ_MAX 65536u                 /* in one packet */

/* --- life ------------------------------------------------------------------------------------- */

static unsigned bucket(uint32_t guest_port, uint32_t host_port)
{
	return (guest_port ^ host_port * 31) % VSOCK_BUCKETS;
}

struct vsock_conn *vsock_conn_new(struct virtio_vsock *s, enum vsock_state state)
{
	struct vsock_conn *c = s->count < VIRTIO_VSOCK_CONNECTIONS_MAX ? calloc(1, sizeof(*c)) : NULL;

	if (!c)
		return NULL;
	c->vsock = s;
	c->state = state;
	c->fd = -1;
	c->id = ++s->last_id ? s->last_id : ++s->last_id;
	c->out.size = VIRTIO_VSOCK_BUFFER;
	TAILQ_INSERT_TAIL(&s->conns, c, link);
	s->count++;
	return c;
}

void vsock_conn_know(struct vsock_conn *c, uint32_t guest_port, uint32_t host_port)
{
	c->guest_port = guest_port;
	c->host_port = host_port;
	c->known = true;
	LIST_INSERT_HEAD(&c->vsock->known[bucket(guest_port, host_port)], c, bucket);
}

static void forget(struct vsock_conn *c)
{
	if (c->known)
		LIST_REMOVE(c, bucket);
	c->known = false;
	if (c->ready)
		TAILQ_REMOVE(&c->vsock->ready, c, ready_link);
	c->ready = false;
}

struct vsock_conn *vsock_conn_find(struct virtio_vsock *s, uint32_t guest_port,
				   uint32_t host_port)
{
	struct vsock_conn *c;

	LIST_FOREACH(c, &s->known[bucket(guest_port, host_port)], bucket)
		if (c->guest_port == guest_port && c->host_port == host_port)
			break;
	return c;
}

static void kill_conn(struct vsock_conn *c)
{
	struct virtio_vsock *s = c->vsock;

	if (c->state == VSOCK_DEAD)
		return;
	forget(c);
	c->state = VSOCK_DEAD;
	TAILQ_REMOVE(&s->conns, c, link);
	TAILQ_INSERT_TAIL(&s->dead, c, link);
	loop_post_call(s->dev.machine->loop, &s->post);
}

void vsock_conn_kill_all(struct virtio_vsock *s)
{
	struct vsock_conn *c;

	while ((c = TAILQ_FIRST(&s->conns)))
		kill_conn(c);
}

void vsock_conn_abort(struct vsock_conn *c)
{
	if (c->known && !(c->tell & 1u << VSOCK_REQUEST)) /* else it never heard of it */
		vsock_push_reset(c->vsock, VSOCK_HOST_CID, c->host_port, c->guest_port,
				 VSOCK_STREAM);
	kill_conn(c);
}

void vsock_sweep(struct virtio_vsock *s)
{
	struct vsock_queue dead;
	struct vsock_conn *c;
	unsigned n = 0;

	TAILQ_INIT(&dead);
	pthread_mutex_lock(&s->virtio.lock);
	TAILQ_CONCAT(&dead, &s->dead, link);
	pthread_mutex_unlock(&s->virtio.lock);
	while ((c = TAILQ_FIRST(&dead))) {
		TAILQ_REMOVE(&dead, c, link);
		loop_remove(c->watch);
		if (c->fd >= 0)
			close(c->fd);
		free(c->out.bytes);
		free(c);
		n++;
	}
	pthread_mutex_lock(&s->virtio.lock);
	s->count -= n;
	pthread_mutex_unlock(&s->virtio.lock);
}

void vsock_conn_deadline(struct vsock_conn *c, uint64_t ns)
{
	struct virtio_vsock *s = c->vsock;
	uint64_t now = timers_now(s->dev.machine->timers);

	c->deadline = now + ns;
	if (!timer_armed(&s->tick))
		(void)timer_arm(&s->tick, now + TICK_NS); /* no memory: the next one tries again */
}

void vsock_tick(void *opaque, uint64_t now)
{
	struct virtio_vsock *s = opaque;
	struct vsock_conn *c, *next;
	bool more = false;

	pthread_mutex_lock(&s->virtio.lock);
	for (c = TAILQ_FIRST(&s->conns); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->deadline && now >= c->deadline)
			vsock_conn_abort(c);
		else
			more |= c->deadline != 0;
	}
	if (s->asked && now >= s->asked_until) {
		s->asked = 0;
		s->wanted(s->opaque);
	}
	if (more || s->asked)
		(void)timer_arm(&s->tick, now + TICK_NS);
	vsock_serve(s);
	pthread_mutex_unlock(&s->virtio.lock);
}

/* --- what there is for the guest -------------------------------------------------------------- */

uint32_t vsock_conn_credit(const struct vsock_conn *c)
{
	uint32_t on_the_way = c->sent - c->guest_forwarded;

	return on_the_way < c->guest_buffer ? c->guest_buffer - on_the_way : 0;
}

void vsock_conn_touch(struct vsock_conn *c)
{
	bool data = c->state == VSOCK_OPEN && c->readable && !(c->host_done & VSOCK_NO_SEND) &&
		    !(c->guest_done & VSOCK_NO_RECEIVE);
	uint32_t credit = vsock_conn_credit(c);

	if (c->ready || c->state == VSOCK_DEAD || c->state == VSOCK_DRAINING)
		return;
	if (credit) {
		c->begged = false;
	} else if (data && !c->begged) {
		c->begged = true;
		c->tell |= 1u << VSOCK_CREDIT_REQUEST;
	}
	if (!c->tell && !(c->state == VSOCK_OPEN && c->host_done & ~c->told_done) &&
	    !(data && credit))
		return;
	c->ready = true;
	TAILQ_INSERT_TAIL(&c->vsock->ready, c, ready_link);
}

uint32_t vsock_conn_fill(struct vsock_conn *c)
{
	const struct virtq_chain *chain = &c->vsock->chain;
	const struct virtq *ring = &c->vsock->virtio.queue[VSOCK_QUEUE_RX].ring;
	uint32_t len = chain->in_bytes - VSOCK_HEADER, credit = vsock_conn_credit(c);
	struct iovec iov[VIRTQ_SEGMENTS_MAX];
	struct msghdr message = { .msg_iov = iov };
	ssize_t got;
	int n;

	len = len < credit ? len : credit;
	len = len < READ_MAX ? len : READ_MAX;
	if (!len || !c->readable || c->state != VSOCK_OPEN || c->host_done & VSOCK_NO_SEND ||
	    c->guest_done & VSOCK_NO_RECEIVE)
		return 0;
	n = virtq_iov(ring, chain, true, VSOCK_HEADER, len, iov, VIRTQ_SEGMENTS_MAX);
	if (n < 0)
		return 0;
	message.msg_iovlen = (size_t)n;
	do
		got = recvmsg(c->fd, &message, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	if (got > 0) {
		virtq_iov_written(ring, chain, VSOCK_HEADER, (uint64_t)got);
		c->sent += (uint32_t)got;
		return (uint32_t)got;
	}
	c->readable = false;
	if (got == 0)
		c->host_done |= VSOCK_NO_SEND;
	else if (errno != EAGAIN && errno != EWOULDBLOCK)
		c->host_done = VSOCK_NEITHER;
	return 0;
}

/* --- what there is for the host --------------------------------------------------------------- */

/* Something has changed: what follows from it. */
static void settle(struct vsock_conn *c)
{
	if (c->host_done & VSOCK_NO_RECEIVE) { /* nobody reads this any more */
		c->forwarded += (uint32_t)c->out.count;
		fifo_drop(&c->out, c->out.count);
	}
	if (!c->out.count && c->guest_done & VSOCK_NO_SEND && !c->shut) {
		c->shut = true;
		(void)shutdown(c->fd, SHUT_WR);
	}
	if (!c->out.count && (c->state == VSOCK_DRAINING || c->guest_done == VSOCK_NEITHER))
		vsock_conn_abort(c);
	else if (c->forwarded - c->told_forwarded >= VIRTIO_VSOCK_BUFFER / 4)
		c->tell |= 1u << VSOCK_CREDIT_UPDATE;
}

/* Bytes that the socket took: 0 if it is full, or nobody reads any more. */
static size_t send_some(struct vsock_conn *c, struct iovec *iov, unsigned n)
{
	struct msghdr message = { .msg_iov = iov, .msg_iovlen = n };
	ssize_t done;

	do
		done = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (done < 0 && errno == EINTR);
	if (done >= 0)
		return (size_t)done;
	if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS)
		c->host_done |= VSOCK_NO_RECEIVE;
	return 0;
}

static void flush(struct vsock_conn *c)
{
	uint32_t before = c->forwarded;

	while (c->out.count) {
		uint8_t *bytes;
		size_t n = fifo_front(&c->out, &bytes);
		struct iovec iov = { bytes, n };

		n = send_some(c, &iov, 1);
		if (!n)
			break;
		fifo_drop(&c->out, n);
		c->forwarded += (uint32_t)n;
	}
	if (c->forwarded != before && c->guest_done == VSOCK_NEITHER)
		vsock_conn_deadline(c, DRAIN_NS);
	settle(c);
}

/* Keeps bytes [at, len) of the chain's data for later. */
static bool keep(struct vsock_conn *c, uint32_t at, uint32_t len)
{
	struct virtio_vsock *s = c->vsock;
	const struct virtq *ring = &s->virtio.queue[VSOCK_QUEUE_TX].ring;

	if (at < len && !c->out.bytes)
		c->out.bytes = malloc(c->out.size);
	while (at < len && c->out.bytes) {
		uint8_t *to;
		size_t n = fifo_back(&c->out, &to);

		n = n < len - at ? n : len - at;
		if (virtq_copy_out(ring, &s->chain, VSOCK_HEADER + at, to, n) < 0)
			break;
		c->out.count += n;
		at += (uint32_t)n;
	}
	return at == len;
}

void vsock_conn_take(struct vsock_conn *c, uint32_t len)
{
	struct virtio_vsock *s = c->vsock;
	const struct virtq *ring = &s->virtio.queue[VSOCK_QUEUE_TX].ring;
	struct iovec iov[VIRTQ_SEGMENTS_MAX];
	uint32_t done = 0;
	int n;

	if (c->guest_done & VSOCK_NO_SEND || len > fifo_room(&c->out)) {
		vsock_conn_abort(c);
		return;
	}
	c->received += len;
	if (len && !c->out.count && !(c->host_done & VSOCK_NO_RECEIVE)) {
		n = virtq_iov(ring, &s->chain, false, VSOCK_HEADER, len, iov, VIRTQ_SEGMENTS_MAX);
		done = n > 0 ? (uint32_t)send_some(c, iov, (unsigned)n) : 0;
	}
	if (c->host_done & VSOCK_NO_RECEIVE)
		done = len;
	c->forwarded += done;
	if (keep(c, done, len))
		settle(c);
	else
		vsock_conn_abort(c);
}

void vsock_conn_shutdown(struct vsock_conn *c, unsigned flags)
{
	c->guest_done |= flags & VSOCK_NEITHER;
	if (c->guest_done & VSOCK_NO_RECEIVE)
		(void)shutdown(c->fd, SHUT_RD); /* who writes on is told so */
	if (c->guest_done == VSOCK_NEITHER)
		vsock_conn_deadline(c, DRAIN_NS);
	settle(c);
}

void vsock_conn_reset(struct vsock_conn *c)
{
	/* Linux waits some seconds for the end of a connection that it has closed, and resets it then:
	 * what it sent is not lost by that. */
	if (c->state != VSOCK_OPEN || !(c->guest_done & VSOCK_NO_SEND) || !c->out.count) {
		kill_conn(c);
		return;
	}
	forget(c);
	c->tell = 0;
	c->guest_done = VSOCK_NEITHER;
	c->state = VSOCK_DRAINING;
	vsock_conn_deadline(c, DRAIN_NS);
}

/* --- the socket ------------------------------------------------------------------------------- */

/* The number behind "CONNECT "; false: it is none, or no port. */
static bool parse_port(const char *text, uint32_t *ret)
{
	uint64_t port = 0;
	const char *p = text;

	while (*p >= '0' && *p <= '9' && p - text < 10)
		port = port * 10 + (uint64_t)(*p++ - '0');
	*ret = (uint32_t)port;
	return p > text && !*p && port < UINT32_MAX; /* the last one means any */
}

static uint32_t free_port(struct virtio_vsock *s, uint32_t guest_port)
{
	do {
		if (++s->last_port < FIRST_PORT || s->last_port >= 2 * FIRST_PORT)
			s->last_port = FIRST_PORT;
	} while (vsock_conn_find(s, guest_port, s->last_port));
	return s->last_port;
}

/* What was not said yet waits; what comes behind the line is the guest's, so it stays in the socket. */
static void greet(struct vsock_conn *c)
{
	static const char word[] = "CONNECT ";
	char line[GREETING_MAX + 1];
	ssize_t n = recv(c->fd, line, GREETING_MAX, MSG_PEEK | MSG_DONTWAIT);
	char *end = n > 0 ? memchr(line, '\n', (size_t)n) : NULL;
	uint32_t port;

	if (!end && (n < 0 ? errno == EAGAIN || errno == EINTR : n && n < (ssize_t)GREETING_MAX))
		return;
	if (end) {
		n = end + 1 - line;
		*end = '\0';
	}
	if (!end || strncmp(line, word, strlen(word)) || !parse_port(line + strlen(word), &port) ||
	    recv(c->fd, line, (size_t)n, MSG_DONTWAIT) != n || !virtio_running(&c->vsock->virtio)) {
		kill_conn(c);
		return;
	}
	vsock_conn_know(c, port, free_port(c->vsock, port));
	c->state = VSOCK_ASKING;
	c->tell = 1u << VSOCK_REQUEST;
	vsock_conn_deadline(c, ANSWER_NS);
}

void vsock_conn_accepted(struct vsock_conn *c)
{
	char line[32];
	int n = snprintf(line, sizeof(line), "OK %u\n", c->host_port);

	if (send(c->fd, line, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL) != n) {
		vsock_conn_abort(c);
		return;
	}
	c->state = VSOCK_OPEN;
	c->deadline = 0;
	c->readable = true;
}

static void looked_at(struct vsock_conn *c, uint32_t events)
{
	if (events & EPOLLHUP) {
		c->host_done |= VSOCK_NO_RECEIVE;
		if (c->guest_done & VSOCK_NO_RECEIVE)
			c->host_done |= VSOCK_NO_SEND;
	}
	c->readable = true; /* a read tells */
	switch (c->state) {
	case VSOCK_GREETING:
		greet(c);
		break;
	case VSOCK_ASKING:
		if (events & EPOLLHUP)
			vsock_conn_abort(c);
		break;
	case VSOCK_OPEN:
	case VSOCK_DRAINING:
		flush(c);
		break;
	case VSOCK_DIALLING:
	case VSOCK_DEAD:
		break;
	}
	vsock_conn_touch(c);
}

static void conn_event(void *opaque, uint32_t events)
{
	struct vsock_conn *c = opaque;
	struct virtio_vsock *s = c->vsock;

	pthread_mutex_lock(&s->virtio.lock);
	looked_at(c, events);
	vsock_serve(s);
	pthread_mutex_unlock(&s->virtio.lock);
}

void vsock_conn_retry_all(struct virtio_vsock *s)
{
	struct vsock_conn *c, *next;

	for (c = TAILQ_FIRST(&s->conns); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->watch)
			looked_at(c, 0);
	}
}

static int watch(struct vsock_conn *c)
{
	return loop_add(c->vsock->dev.machine->loop, c->fd,
			EPOLLIN | EPOLLOUT | EPOLLRDHUP | (uint32_t)EPOLLET, conn_event, c, &c->watch);
}

void vsock_host_connects(void *opaque, uint32_t events)
{
	struct virtio_vsock *s = opaque;
	int fd = accept4(s->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct vsock_conn *c = NULL;

	(void)events;
	if (fd < 0)
		return;
	pthread_mutex_lock(&s->virtio.lock);
	if (virtio_running(&s->virtio)) /* else there is nobody to connect to */
		c = vsock_conn_new(s, VSOCK_GREETING);
	if (c) {
		c->fd = fd;
		vsock_conn_deadline(c, GREETING_NS);
		if (watch(c) < 0)
			kill_conn(c);
	}
	pthread_mutex_unlock(&s->virtio.lock);
	if (!c)
		close(fd);
}

/* --- connections of the guest ----------------------------------------------------------------- */

bool virtio_vsock_wanted(struct device *dev, uint32_t *ret_id, uint32_t *ret_port)
{
	struct virtio_vsock *s = (struct virtio_vsock *)dev;
	struct vsock_conn *c = NULL;

	pthread_mutex_lock(&s->virtio.lock);
	if (!s->asked)
		TAILQ_FOREACH(c, &s->conns, link)
			if (c->state == VSOCK_DIALLING && c->fd < 0)
				break;
	if (c) {
		*ret_id = s->asked = c->id;
		*ret_port = c->host_port;
		s->asked_until = timers_now(dev->machine->timers) + ANSWER_NS;
	}
	pthread_mutex_unlock(&s->virtio.lock);
	return c;
}

void virtio_vsock_answer(struct device *dev, uint32_t id, int fd)
{
	struct virtio_vsock *s = (struct virtio_vsock *)dev;
	struct vsock_conn *c = NULL;

	pthread_mutex_lock(&s->virtio.lock);
	if (s->asked == id)
		s->asked = 0;
	TAILQ_FOREACH(c, &s->conns, link)
		if (c->state == VSOCK_DIALLING && c->fd < 0 && c->id == id)
			break;
	if (c && fd >= 0)
		c->fd = fd;
	else if (c)
		vsock_conn_abort(c);
	loop_post_call(dev->machine->loop, &s->post);
	pthread_mutex_unlock(&s->virtio.lock);
	if (!c && fd >= 0)
		close(fd);
}

void vsock_posted(void *opaque)
{
	struct virtio_vsock *s = opaque;
	struct vsock_conn *c, *next;
	bool more = false;

	vsock_sweep(s);
	pthread_mutex_lock(&s->virtio.lock);
	for (c = TAILQ_FIRST(&s->conns); c; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->state != VSOCK_DIALLING)
			continue;
		more |= c->fd < 0;
		if (c->fd < 0)
			continue;
		c->state = VSOCK_OPEN;
		c->deadline = 0;
		c->tell = 1u << VSOCK_RESPONSE;
		if (watch(c) < 0)
			vsock_conn_abort(c);
		vsock_conn_touch(c);
	}
	if (more && !s->asked)
		s->wanted(s->opaque);
	vsock_serve(s);
	pthread_mutex_unlock(&s->virtio.lock);
}
