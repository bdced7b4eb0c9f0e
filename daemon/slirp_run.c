/* SPDX-License-Identifier: Apache-2.0 */
/* slirp_run.c - packets between the socket and libslirp. See slirp.h. */
#include <config.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <time.h>

#include <slirp/libslirp.h>

#include "common/address.h"
#include "common/clock.h"
#include "daemon/slirp.h"
#include "devices/backend/net.h"
#include "devices/backend/net_frame.h"

#define BATCH 64u                         /* packets from the guest in one turn */
#define BACKLOG_MAX ((size_t)8 << 20)     /* bytes for the guest that wait; more are dropped */
#define POLLS_MAX 4096u
#define OFFLOADS \
	(NET_OFFLOAD_CSUM | NET_OFFLOAD_TSO4 | NET_OFFLOAD_TSO6 | NET_OFFLOAD_ECN)

struct waiting { /* a packet that the socket had no room for */
	TAILQ_ENTRY(waiting) link;
	size_t len;
	uint8_t bytes[];
};

struct deadline { /* a timer of libslirp's */
	LIST_ENTRY(deadline) link;
	SlirpTimerId id;
	void *opaque;
	int64_t at_ms; /* -1: not set */
};

struct user_net {
	Slirp *slirp;
	bool ended;
	size_t backlog;
	TAILQ_HEAD(, waiting) waiting;
	LIST_HEAD(, deadline) deadlines;
	unsigned poll_count;
	struct pollfd polls[POLLS_MAX]; /* [0]: the socket */
	uint8_t packet[NET_PACKET_MAX];
};

/* --- to the guest ----------------------------------------------------------------------------- */

/* Bytes sent; 0: no room. */
static ssize_t put(struct user_net *n, const struct iovec *iov, unsigned count)
{
	struct msghdr message = { .msg_iov = (struct iovec *)iov, .msg_iovlen = count };
	ssize_t done;

	do
		done = sendmsg(SLIRP_FD, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (done < 0 && errno == EINTR);
	if (done >= 0)
		return done;
	if (errno == EAGAIN || errno == ENOBUFS)
		return 0;
	n->ended = true;
	return -1;
}

static void flush(struct user_net *n)
{
	struct waiting *w;

	while ((w = TAILQ_FIRST(&n->waiting))) {
		struct iovec iov = { w->bytes, w->len };

		if (put(n, &iov, 1) <= 0)
			return;
		TAILQ_REMOVE(&n->waiting, w, link);
		n->backlog -= w->len;
		free(w);
	}
}

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
	/* libslirp computed the sums itself: the guest need not. */
	uint8_t header[NET_HEADER] = { NET_HDR_F_DATA_VALID };
	struct iovec iov[2] = { { header, sizeof(header) }, { (void *)(uintptr_t)buf, len } };
	struct user_net *n = opaque;
	struct waiting *w;

	if (len < NET_FRAME_MIN || len > NET_FRAME_MAX)
		return (ssize_t)len;
	if (TAILQ_EMPTY(&n->waiting) && put(n, iov, 2))
		return (ssize_t)len;
	if (n->ended || n->backlog + len > BACKLOG_MAX)
		return (ssize_t)len; /* lost, as on any wire */
	w = malloc(sizeof(*w) + sizeof(header) + len);
	if (!w)
		return (ssize_t)len;
	w->len = sizeof(header) + len;
	memcpy(w->bytes, header, sizeof(header));
	memcpy(w->bytes + sizeof(header), buf, len);
	TAILQ_INSERT_TAIL(&n->waiting, w, link);
	n->backlog += w->len;
	return (ssize_t)len;
}

/* --- from the guest --------------------------------------------------------------------------- */

/* The VM's process checked the header; it is checked again, for it may not be itself any more. */
static void take(struct user_net *n, size_t len)
{
	uint8_t *frame = n->packet + NET_HEADER;
	struct net_header h;

	if (len < NET_HEADER + NET_FRAME_MIN)
		return;
	len -= NET_HEADER;
	net_header_get(&h, n->packet);
	if (!net_header_check(&h, len, OFFLOADS))
		return;
	/* A segment that is to be cut is one long segment to libslirp, which passes bytes on. */
	net_checksum_complete(&h, frame, len);
	slirp_input(n->slirp, frame, (int)len);
}

static void read_guest(struct user_net *n)
{
	for (unsigned i = 0; i < BATCH && !n->ended; i++) {
		ssize_t got = recv(SLIRP_FD, n->packet, sizeof(n->packet), MSG_DONTWAIT);

		if (got > 0)
			take(n, (size_t)got);
		else if (got == 0 || (errno != EAGAIN && errno != EINTR))
			n->ended = true; /* the VM has ended */
		else
			return;
	}
}

/* --- what libslirp asks for -------------------------------------------------------------------- */

static void guest_error(const char *msg, void *opaque)
{
	(void)msg, (void)opaque; /* the guest's own affair, and its way to fill a log */
}

static int64_t clock_ns(void *opaque)
{
	(void)opaque;
	return (int64_t)clock_monotonic_ns();
}

static void *timer_make(SlirpTimerId id, void *cb_opaque, void *opaque)
{
	struct user_net *n = opaque;
	struct deadline *d = calloc(1, sizeof(*d));

	if (!d)
		abort(); /* libslirp takes no for no answer */
	*d = (struct deadline){ .id = id, .opaque = cb_opaque, .at_ms = -1 };
	LIST_INSERT_HEAD(&n->deadlines, d, link);
	return d;
}

static void timer_drop(void *timer, void *opaque)
{
	struct deadline *d = timer;

	(void)opaque;
	LIST_REMOVE(d, link);
	free(d);
}

static void timer_set(void *timer, int64_t expire_ms, void *opaque)
{
	(void)opaque;
	((struct deadline *)timer)->at_ms = expire_ms;
}

static void nothing_fd(int fd, void *opaque)
{
	(void)fd, (void)opaque;
}

static void nothing(void *opaque)
{
	(void)opaque;
}

static const SlirpCb callbacks = {
	.send_packet = send_packet,
	.guest_error = guest_error,
	.clock_get_ns = clock_ns,
	.timer_free = timer_drop,
	.timer_mod = timer_set,
	.register_poll_fd = nothing_fd,
	.unregister_poll_fd = nothing_fd,
	.notify = nothing,
	.timer_new_opaque = timer_make,
};

static const struct {
	int slirp;
	short poll;
} event_bits[] = {
	{ SLIRP_POLL_IN, POLLIN },   { SLIRP_POLL_OUT, POLLOUT }, { SLIRP_POLL_PRI, POLLPRI },
	{ SLIRP_POLL_ERR, POLLERR }, { SLIRP_POLL_HUP, POLLHUP },
};

static int add_poll(int fd, int events, void *opaque)
{
	struct user_net *n = opaque;
	struct pollfd *p = &n->polls[n->poll_count];

	if (n->poll_count == POLLS_MAX)
		return -1;
	*p = (struct pollfd){ .fd = fd };
	for (size_t i = 0; i < sizeof(event_bits) / sizeof(event_bits[0]); i++)
		if (events & event_bits[i].slirp)
			p->events |= event_bits[i].poll;
	return (int)n->poll_count++;
}

static int get_revents(int index, void *opaque)
{
	const struct user_net *n = opaque;
	int events = 0;

	if (index < 0 || (unsigned)index >= n->poll_count)
		return 0;
	for (size_t i = 0; i < sizeof(event_bits) / sizeof(event_bits[0]); i++)
		if (n->polls[index].revents & event_bits[i].poll)
			events |= event_bits[i].slirp;
	return events;
}

/* --- serving ---------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
	return (int64_t)(clock_monotonic_ns() / 1000000);
}

static void run_timers(struct user_net *n)
{
	struct deadline *d, *next;
	int64_t now = now_ms();

	for (d = LIST_FIRST(&n->deadlines); d; d = next) {
		next = LIST_NEXT(d, link);
		if (d->at_ms >= 0 && d->at_ms <= now) {
			d->at_ms = -1;
			slirp_handle_timer(n->slirp, d->id, d->opaque);
		}
	}
}

static int wait_ms(const struct user_net *n, uint32_t timeout)
{
	int64_t wait = timeout, now = now_ms();
	const struct deadline *d;

	LIST_FOREACH(d, &n->deadlines, link)
		if (d->at_ms >= 0 && d->at_ms - now < wait)
			wait = d->at_ms > now ? d->at_ms - now : 0;
	return wait > 1000000 ? 1000000 : (int)wait;
}

static void turn(struct user_net *n)
{
	uint32_t timeout = UINT32_MAX;
	bool full = !TAILQ_EMPTY(&n->waiting);
	int r;

	n->poll_count = 1;
	n->polls[0] = (struct pollfd){ .fd = SLIRP_FD, .events = (short)(POLLIN | (full ? POLLOUT : 0)) };
	/* While the guest does not take what is there, nothing more is read for it. */
	if (!full)
		slirp_pollfds_fill(n->slirp, &timeout, add_poll, n);
	r = poll(n->polls, n->poll_count, wait_ms(n, timeout));
	if (r < 0 && errno != EINTR) {
		n->ended = true;
		return;
	}
	if (!full)
		slirp_pollfds_poll(n->slirp, r < 0, get_revents, n);
	if (r > 0 && n->polls[0].revents & POLLOUT)
		flush(n);
	if (r > 0 && n->polls[0].revents & (POLLIN | POLLHUP | POLLERR))
		read_guest(n);
	run_timers(n);
}

static Slirp *make(struct user_net *n, const struct slirp_options *o)
{
	SlirpConfig config = {
		.version = 4,
		.in_enabled = true,
		.vnetwork.s_addr = htonl(0x0a000200),   /* 10.0.2.0/24 */
		.vnetmask.s_addr = htonl(0xffffff00),
		.vhost.s_addr = htonl(0x0a000202),
		.vdhcp_start.s_addr = htonl(0x0a00020f),
		.vnameserver.s_addr = htonl(0x0a000203),
		.in6_enabled = o->ipv6,
		.vprefix_len = 64,
		.if_mtu = o->mtu,
		.if_mru = o->mtu,
		.disable_host_loopback = !o->host_access,
	};

	inet_pton(AF_INET6, "fec0::", &config.vprefix_addr6);
	inet_pton(AF_INET6, "fec0::2", &config.vhost6);
	inet_pton(AF_INET6, "fec0::3", &config.vnameserver6);
	return slirp_new(&config, &callbacks, n);
}

static int publish(struct user_net *n, const struct slirp_port *port)
{
	bool v6 = port->at.ss_family == AF_INET6;
	char address[INET6_ADDRSTRLEN] = "?", number[8] = "?";
	struct sockaddr_storage guest;
	socklen_t len;
	int err;

	/* Whom DHCP gave the first address; of IPv6, the first that was heard of. */
	len = address_parse(v6 ? "::" : "0.0.0.0", port->guest, &guest);
	if (slirp_add_hostxfwd(n->slirp, (const struct sockaddr *)&port->at, port->at_len,
			       (const struct sockaddr *)&guest, len,
			       (port->udp ? SLIRP_HOSTFWD_UDP : 0) |
			       (v6 ? SLIRP_HOSTFWD_V6ONLY : 0)) == 0)
		return 0;
	err = errno;
	(void)getnameinfo((const struct sockaddr *)&port->at, port->at_len, address, sizeof(address),
			  number, sizeof(number), NI_NUMERICHOST | NI_NUMERICSERV);
	fprintf(stderr, "vmxd-slirp: %s port %s of %s cannot be had: %s\n",
		port->udp ? "UDP" : "TCP", number, address, strerror(err));
	return -err;
}

int slirp_run(const struct slirp_options *options)
{
	struct user_net *n = calloc(1, sizeof(*n));
	int r = n ? 0 : -ENOMEM;

	if (n) {
		TAILQ_INIT(&n->waiting);
		LIST_INIT(&n->deadlines);
		n->slirp = make(n, options);
		r = n->slirp ? 0 : -ENOMEM;
	}
	for (size_t i = 0; r == 0 && i < options->publish_count; i++)
		r = publish(n, &options->publish[i]);
	if (r == 0) {
		r = slirp_confine();
		if (r < 0)
			fprintf(stderr, "vmxd-slirp: no sandbox: %s\n", strerror(-r));
	}
	while (r == 0 && !n->ended)
		turn(n);
	if (n && n->slirp)
		slirp_cleanup(n->slirp);
	while (n && !TAILQ_EMPTY(&n->waiting)) {
		struct waiting *w = TAILQ_FIRST(&n->waiting);

		TAILQ_REMOVE(&n->waiting, w, link);
		free(w);
	}
	free(n);
	return r < 0;
}
