/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_peer.c - the connection to a vhost-user back-end: its phases, and the scripts that run. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "devices/backend/vhost_script.h"
#include "machine/device.h"
#include "machine/loop.h"

#define MS 1000000ull

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
	return p->step->take || (vhost_peer_speaks(p, VHOST_PROTOCOL_REPLY_ACK) &&
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

/* Asks for the configuration space that changed, if nothing else is being said. */
static void reread(struct vhost_peer *p)
{
	if (p->step || !p->reread || (p->phase != VHOST_IDLE && p->phase != VHOST_RUNNING))
		return;
	p->reread = false;
	begin(p, vhost_rereading, p->phase, p->phase);
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
	reread(p);
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
	} else if (!vhost_take_number(p, m, &refused)) {
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

/* --- the peer's own requests ------------------------------------------------------------------ */

static bool answer_request(struct vhost_peer *p, const struct vhost_message *m)
{
	struct vhost_message answer = { .request = m->request, .reply = true };

	vhost_put64(&answer, m->request != VHOST_BACKEND_CONFIG_CHANGE);
	return vhost_wire_send(p->request_fd, &answer) == 0;
}

/* A socket that is in disorder costs only itself: nothing that the guest was promised comes by
 * it. */
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
	if (m.request != VHOST_BACKEND_CONFIG_CHANGE || !vhost_has_config(p))
		return;
	p->reread = true;
	reread(p);
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
	begin(p, vhost_greeting, VHOST_GREETING, VHOST_IDLE);
	return 0;
}

void vhost_peer_start(struct vhost_peer *p)
{
	assert(p->phase == VHOST_IDLE && !p->step);
	assert(p->setup.regions <= VHOST_USER_REGIONS_MAX && p->setup.vrings <= VHOST_QUEUES_MAX);
	begin(p, vhost_starting, VHOST_STARTING, VHOST_RUNNING);
}

void vhost_peer_stop(struct vhost_peer *p)
{
	assert(p->phase == VHOST_RUNNING && !p->step);
	begin(p, vhost_stopping, VHOST_STOPPING, VHOST_IDLE);
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
