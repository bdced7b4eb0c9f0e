/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_peer.c - see vhost_peer.h. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/backend/vhost_peer.h"
#include "machine/device.h"
#include "machine/loop.h"

#define MS 1000000ull
#define PROTOCOL_WANTED \
	(1ull << VHOST_PROTOCOL_MQ | 1ull << VHOST_PROTOCOL_REPLY_ACK | \
	 1ull << VHOST_PROTOCOL_BACKEND_REQ | 1ull << VHOST_PROTOCOL_CONFIG)
/* Where guest memory begins in the address space that vring addresses are in. The protocol has it be
 * this process's own; any will do, and a peer need not learn where ours has its memory. */
#define USER_BASE (1ull << 44)

uint64_t vhost_user_address(uint64_t gpa)
{
	return gpa + USER_BASE;
}

/* --- scripts ---------------------------------------------------------------------------------- */

struct vhost_step {
	uint32_t request; /* 0: the end of the script */
	bool each;        /* for each vring */
	/* Without an answer of its own a message is acknowledged, if that was negotiated. */
	bool (*when)(const struct vhost_peer *p);           /* NULL: always */
	void (*fill)(struct vhost_peer *p, struct vhost_message *m); /* NULL: no payload */
	/* The answer; false: refused, the peer is dropped already. */
	bool (*take)(struct vhost_peer *p, const struct vhost_message *m);
};

static bool has_protocol(const struct vhost_peer *p, unsigned bit)
{
	return p->protocol >> bit & 1;
}

static bool when_protocol(const struct vhost_peer *p)
{
	return p->features >> VHOST_F_PROTOCOL_FEATURES & 1;
}

static bool when_mq(const struct vhost_peer *p)
{
	return has_protocol(p, VHOST_PROTOCOL_MQ);
}

static bool when_requests(const struct vhost_peer *p)
{
	return has_protocol(p, VHOST_PROTOCOL_BACKEND_REQ) && p->config_size;
}

static bool when_config(const struct vhost_peer *p)
{
	return has_protocol(p, VHOST_PROTOCOL_CONFIG) && p->config_size;
}

/* A reply that is one number. */
static bool take_number(struct vhost_peer *p, const struct vhost_message *m, uint64_t *ret)
{
	if (m->size != 8) {
		vhost_peer_drop(p, "it answered %s with %u bytes, not 8",
				vhost_request_name(m->request), m->size);
		return false;
	}
	*ret = get_le64(m->payload);
	return true;
}

static bool take_features(struct vhost_peer *p, const struct vhost_message *m)
{
	return take_number(p, m, &p->features);
}

static bool take_protocol(struct vhost_peer *p, const struct vhost_message *m)
{
	uint64_t offered;

	if (!take_number(p, m, &offered))
		return false;
	p->protocol = offered & PROTOCOL_WANTED;
	if (!p->config_size) /* nothing that it could tell of */
		p->protocol &= ~(1ull << VHOST_PROTOCOL_BACKEND_REQ | 1ull << VHOST_PROTOCOL_CONFIG);
	return true;
}

static bool take_queue_num(struct vhost_peer *p, const struct vhost_message *m)
{
	uint64_t queues;

	if (!take_number(p, m, &queues))
		return false;
	if (!queues || queues > 0x8000) {
		vhost_peer_drop(p, "it has %llu queues", (unsigned long long)queues);
		return false;
	}
	p->queues = (unsigned)queues;
	return true;
}

static bool take_config(struct vhost_peer *p, const struct vhost_message *m)
{
	if (m->size != VHOST_CONFIG_HEADER + p->config_size || get_le32(m->payload) != 0 ||
	    get_le32(m->payload + 4) != p->config_size) {
		vhost_peer_drop(p, "it did not tell its configuration space of %zu bytes",
				p->config_size);
		return false;
	}
	memcpy(p->config, m->payload + VHOST_CONFIG_HEADER, p->config_size);
	return true;
}

static bool take_base(struct vhost_peer *p, const struct vhost_message *m)
{
	if (m->size != 8 || get_le32(m->payload) != p->queue) {
		vhost_peer_drop(p, "it answered GET_VRING_BASE of queue %u for another one", p->queue);
		return false;
	}
	return true; /* where it stopped: we know what it has not given back */
}

/* Only to hear that it has come so far. */
static bool take_sync(struct vhost_peer *p, const struct vhost_message *m)
{
	uint64_t features;

	return take_number(p, m, &features);
}

static void fill_protocol(struct vhost_peer *p, struct vhost_message *m)
{
	vhost_put64(m, p->protocol);
}

static void fill_request_fd(struct vhost_peer *p, struct vhost_message *m)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return; /* no descriptor: the peer refuses that */
	p->request_fd = pair[0];
	m->fds[m->fd_count++] = pair[1];
}

static void fill_config(struct vhost_peer *p, struct vhost_message *m)
{
	vhost_put32(m, 0);
	vhost_put32(m, (uint32_t)p->config_size);
	vhost_put32(m, 0);
	memset(m->payload + m->size, 0, p->config_size);
	m->size += (uint32_t)p->config_size;
}

static void fill_features(struct vhost_peer *p, struct vhost_message *m)
{
	vhost_put64(m, p->setup.features | (when_protocol(p) ? 1ull << VHOST_F_PROTOCOL_FEATURES : 0));
}

static void fill_memory(struct vhost_peer *p, struct vhost_message *m)
{
	vhost_put32(m, p->setup.regions);
	vhost_put32(m, 0);
	for (unsigned i = 0; i < p->setup.regions; i++) {
		const struct vhost_region *r = &p->setup.region[i];

		vhost_put64(m, r->gpa);
		vhost_put64(m, r->size);
		vhost_put64(m, vhost_user_address(r->gpa));
		vhost_put64(m, r->offset);
		m->fds[m->fd_count++] = r->fd;
	}
}

static void fill_state(struct vhost_peer *p, struct vhost_message *m, uint32_t value)
{
	vhost_put32(m, p->queue);
	vhost_put32(m, value);
}

static void fill_num(struct vhost_peer *p, struct vhost_message *m)
{
	fill_state(p, m, p->setup.vring[p->queue].size);
}

static void fill_zero(struct vhost_peer *p, struct vhost_message *m)
{
	fill_state(p, m, 0);
}

static void fill_enable(struct vhost_peer *p, struct vhost_message *m)
{
	fill_state(p, m, 1);
}

static void fill_address(struct vhost_peer *p, struct vhost_message *m)
{
	const struct vhost_vring *v = &p->setup.vring[p->queue];

	fill_state(p, m, 0); /* no logging */
	vhost_put64(m, vhost_user_address(v->desc));
	vhost_put64(m, vhost_user_address(v->used));
	vhost_put64(m, vhost_user_address(v->avail));
	vhost_put64(m, 0);
}

static void fill_kick(struct vhost_peer *p, struct vhost_message *m)
{
	vhost_put64(m, p->queue);
	m->fds[m->fd_count++] = p->setup.vring[p->queue].kick_fd;
}

static void fill_call(struct vhost_peer *p, struct vhost_message *m)
{
	vhost_put64(m, p->queue);
	m->fds[m->fd_count++] = p->setup.vring[p->queue].call_fd;
}

static const struct vhost_step greeting[] = {
	{ VHOST_GET_FEATURES, false, NULL, NULL, take_features },
	{ VHOST_GET_PROTOCOL_FEATURES, false, when_protocol, NULL, take_protocol },
	{ VHOST_SET_PROTOCOL_FEATURES, false, when_protocol, fill_protocol, NULL },
	{ VHOST_GET_QUEUE_NUM, false, when_mq, NULL, take_queue_num },
	{ VHOST_SET_BACKEND_REQ_FD, false, when_requests, fill_request_fd, NULL },
	{ VHOST_SET_OWNER, false, NULL, NULL, NULL },
	{ VHOST_GET_CONFIG, false, when_config, fill_config, take_config },
	{ 0 },
}, starting[] = {
	{ VHOST_SET_FEATURES, false, NULL, fill_features, NULL },
	{ VHOST_SET_MEM_TABLE, false, NULL, fill_memory, NULL },
	{ VHOST_SET_VRING_NUM, true, NULL, fill_num, NULL },
	{ VHOST_SET_VRING_BASE, true, NULL, fill_zero, NULL },
	{ VHOST_SET_VRING_ADDR, true, NULL, fill_address, NULL },
	{ VHOST_SET_VRING_CALL, true, NULL, fill_call, NULL },
	{ VHOST_SET_VRING_KICK, true, NULL, fill_kick, NULL },
	{ VHOST_SET_VRING_ENABLE, true, when_protocol, fill_enable, NULL },
	{ VHOST_GET_FEATURES, false, NULL, NULL, take_sync },
	{ 0 },
}, stopping[] = {
	{ VHOST_GET_VRING_BASE, true, NULL, fill_zero, take_base },
	{ 0 },
}, rereading[] = {
	{ VHOST_GET_CONFIG, false, when_config, fill_config, take_config },
	{ 0 },
};

/* --- running one ------------------------------------------------------------------------------ */

static void begin(struct vhost_peer *p, const struct vhost_step *script, enum vhost_phase now,
		  enum vhost_phase next);

static void close_all(struct vhost_peer *p)
{
	p->watch = loop_remove(p->watch);
	p->request_watch = loop_remove(p->request_watch);
	if (p->fd >= 0)
		close(p->fd);
	if (p->request_fd >= 0)
		close(p->request_fd);
	p->fd = p->request_fd = -1;
	p->reader.got = p->request_reader.got = 0;
	p->step = NULL;
	p->waiting = p->reread = false;
	timer_cancel(&p->timer);
}

void vhost_peer_drop(struct vhost_peer *p, const char *fmt, ...)
{
	va_list ap;

	if (p->phase == VHOST_GONE)
		return;
	va_start(ap, fmt);
	vsnprintf(p->why, sizeof(p->why), fmt, ap);
	va_end(ap);
	close_all(p);
	p->phase = VHOST_GONE;
	p->ops->changed(p->opaque);
}

static void want_events(struct vhost_peer *p, uint32_t events)
{
	if (p->watch)
		(void)loop_modify(p->watch, events);
}

static bool expects_answer(const struct vhost_peer *p)
{
	/* The features that say so are in force only after the message that sets them. */
	return p->step->take || (has_protocol(p, VHOST_PROTOCOL_REPLY_ACK) &&
				 p->step->request != VHOST_SET_PROTOCOL_FEATURES);
}

/* The step is through, or is none for this peer: the next one. */
static void next_step(struct vhost_peer *p)
{
	if (p->step->each && ++p->queue < p->setup.vrings)
		return;
	p->queue = 0;
	p->step++;
}

static bool step_applies(const struct vhost_peer *p)
{
	return !(p->step->when && !p->step->when(p)) && !(p->step->each && !p->setup.vrings);
}

static void script_done(struct vhost_peer *p)
{
	bool changed = p->phase != p->next;

	p->step = NULL;
	p->phase = p->next;
	timer_cancel(&p->timer);
	if (changed)
		p->ops->changed(p->opaque);
	else
		p->ops->config(p->opaque);
	if (!p->step && p->reread && (p->phase == VHOST_IDLE || p->phase == VHOST_RUNNING)) {
		p->reread = false;
		begin(p, rereading, p->phase, p->phase);
	}
}

static void watch_requests(struct vhost_peer *p);

/* One message on its way. False: not now, or never. */
static bool send_step(struct vhost_peer *p)
{
	struct vhost_message m = { .request = p->step->request };
	int r;

	if (p->step->fill)
		p->step->fill(p, &m);
	m.need_reply = !p->step->take && expects_answer(p);
	r = vhost_wire_send(p->fd, &m);
	if (p->step->request == VHOST_SET_BACKEND_REQ_FD) { /* the only one that is not kept */
		for (unsigned i = 0; i < m.fd_count; i++)
			close(m.fds[i]);
		if (r < 0 && p->request_fd >= 0) {
			close(p->request_fd);
			p->request_fd = -1;
		}
		watch_requests(p);
	}
	if (r == -EAGAIN)
		want_events(p, EPOLLIN | EPOLLOUT);
	else if (r < 0)
		vhost_peer_drop(p, "%s could not be sent: %s",
				vhost_request_name(p->step->request), strerror(-r));
	return r == 0;
}

static void arm(struct vhost_peer *p)
{
	struct timers *timers = p->machine->timers;

	(void)timer_arm(&p->timer, timers_now(timers) + VHOST_REPLY_MS * MS);
}

/* Says all that can be said before the next answer. */
static void advance(struct vhost_peer *p)
{
	while (p->step && !p->waiting) {
		if (!p->step->request) {
			script_done(p);
			return;
		}
		if (!step_applies(p)) {
			p->queue = p->setup.vrings;
			next_step(p);
			continue;
		}
		if (!send_step(p))
			return;
		if (expects_answer(p)) {
			p->waiting = true;
			arm(p);
		} else {
			next_step(p);
		}
	}
}

static void begin(struct vhost_peer *p, const struct vhost_step *script, enum vhost_phase now,
		  enum vhost_phase next)
{
	p->phase = now;
	p->next = next;
	p->step = script;
	p->queue = 0;
	p->waiting = false;
	arm(p);
	advance(p);
}

/* --- what comes ------------------------------------------------------------------------------- */

/* False: it is gone. */
static bool take_answer(struct vhost_peer *p, const struct vhost_message *m)
{
	uint64_t refused;

	if (!p->waiting) {
		vhost_peer_drop(p, "it sent a message (%u) that nobody had asked for", m->request);
		return false;
	}
	if (m->request != p->step->request || !m->reply) {
		vhost_peer_drop(p, "it answered %s with another message (%u%s)",
				vhost_request_name(p->step->request), m->request,
				m->reply ? "" : ", no reply");
		return false;
	}
	if (p->step->take) {
		if (!p->step->take(p, m))
			return false;
	} else if (!take_number(p, m, &refused)) {
		return false;
	} else if (refused) {
		vhost_peer_drop(p, "it refused %s", vhost_request_name(m->request));
		return false;
	}
	p->waiting = false;
	next_step(p);
	return true;
}

static void receive(struct vhost_peer *p)
{
	struct vhost_message m;
	int r;

	while (p->fd >= 0 && (r = vhost_wire_receive(p->fd, &p->reader, &m)) != 0) {
		if (r == -EPROTO) {
			vhost_peer_drop(p, "it sent what is no message of vhost-user");
		} else if (r < 0) {
			vhost_peer_drop(p, r == -EPIPE ? "it closed the connection"
						       : "the connection broke: %s", strerror(-r));
		} else if (take_answer(p, &m)) {
			advance(p);
			continue;
		}
		return;
	}
}

static void on_event(void *opaque, uint32_t events)
{
	struct vhost_peer *p = opaque;

	if (events & EPOLLOUT) {
		want_events(p, EPOLLIN);
		advance(p);
	}
	receive(p);
}

static void on_timeout(void *opaque, uint64_t now)
{
	struct vhost_peer *p = opaque;

	(void)now;
	if (p->step)
		vhost_peer_drop(p, "it did not answer %s within %u seconds",
				vhost_request_name(p->step->request), VHOST_REPLY_MS / 1000);
}

/* --- the peer's own requests ------------------------------------------------------------------- */

static bool answer_request(struct vhost_peer *p, const struct vhost_message *m)
{
	struct vhost_message answer = { .request = m->request, .reply = true };

	vhost_put64(&answer, m->request != VHOST_BACKEND_CONFIG_CHANGE);
	return vhost_wire_send(p->request_fd, &answer) == 0;
}

/* A socket that is in disorder costs only itself: nothing that the guest was promised comes by it. */
static void on_request(void *opaque, uint32_t events)
{
	struct vhost_peer *p = opaque;
	struct vhost_message m;
	int r;

	(void)events;
	r = vhost_wire_receive(p->request_fd, &p->request_reader, &m);
	if (r == 0)
		return;
	if (r < 0 || m.reply || (m.need_reply && !answer_request(p, &m))) {
		p->request_watch = loop_remove(p->request_watch);
		close(p->request_fd);
		p->request_fd = -1;
		return;
	}
	if (m.request != VHOST_BACKEND_CONFIG_CHANGE || !when_config(p))
		return;
	p->reread = true;
	if (!p->step && (p->phase == VHOST_IDLE || p->phase == VHOST_RUNNING)) {
		p->reread = false;
		begin(p, rereading, p->phase, p->phase);
	}
}

static void watch_requests(struct vhost_peer *p)
{
	if (p->request_fd >= 0 && !p->request_watch &&
	    loop_add(p->machine->loop, p->request_fd, EPOLLIN, on_request, p,
		     &p->request_watch) < 0) {
		close(p->request_fd);
		p->request_fd = -1;
	}
}

/* --- life ------------------------------------------------------------------------------------- */

void vhost_peer_init(struct vhost_peer *p, struct machine *machine,
		     const struct vhost_peer_ops *ops, void *opaque, size_t config_size)
{
	assert(config_size <= VHOST_CONFIG_MAX);
	*p = (struct vhost_peer){ .machine = machine, .ops = ops, .opaque = opaque,
				  .config_size = config_size, .fd = -1, .request_fd = -1 };
	timer_init(&p->timer, machine->timers, on_timeout, p);
}

void vhost_peer_fini(struct vhost_peer *p)
{
	if (!p->machine)
		return;
	close_all(p);
	timer_fini(&p->timer);
}

int vhost_peer_connect(struct vhost_peer *p, int fd)
{
	int r;

	assert(p->phase == VHOST_GONE && p->fd < 0);
	r = loop_add(p->machine->loop, fd, EPOLLIN, on_event, p, &p->watch);
	if (r < 0)
		return r;
	p->fd = fd;
	p->features = p->protocol = 0;
	p->queues = 1; /* says the protocol, of one that does not tell */
	p->why[0] = '\0';
	begin(p, greeting, VHOST_GREETING, VHOST_IDLE);
	return 0;
}

void vhost_peer_start(struct vhost_peer *p)
{
	assert(p->phase == VHOST_IDLE && !p->step);
	assert(p->setup.regions <= VHOST_USER_REGIONS_MAX && p->setup.vrings <= VHOST_QUEUES_MAX);
	begin(p, starting, VHOST_STARTING, VHOST_RUNNING);
}

void vhost_peer_stop(struct vhost_peer *p)
{
	assert(p->phase == VHOST_RUNNING && !p->step);
	begin(p, stopping, VHOST_STOPPING, VHOST_IDLE);
}

bool vhost_peer_busy(const struct vhost_peer *p)
{
	return p->step;
}

static int64_t host_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void vhost_peer_wait(struct vhost_peer *p, int ms)
{
	int64_t until = host_ms() + ms;

	while (p->step) {
		int64_t left = until - host_ms();
		struct pollfd pfd = { .fd = p->fd, .events = p->waiting ? POLLIN : POLLIN | POLLOUT };

		if (left <= 0) {
			on_timeout(p, 0);
			return;
		}
		if (poll(&pfd, 1, (int)left) > 0)
			on_event(p, pfd.revents & POLLOUT ? EPOLLOUT : EPOLLIN);
	}
}
