/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_user.c - see vhost_user.h. */
#include <config.h>

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/clock.h"
#include "common/log.h"
#include "devices/virtio/vhost_internal.h"
#include "machine/memory.h"

#define QUEUE_SIZE_DEFAULT 256u
#define GREETING_MS 5000   /* creation waits so long */
#define DRAIN_MS 2000      /* a pause waits so long for requests that the peer has */
#define STOP_MS 5000
#define END_MS 1000        /* and the device's end for the peer to stop */
#define BIT(n) (1ull << (n))

static struct vhost_user *vhost_of(struct virtio *v)
{
	return (struct vhost_user *)((char *)v - offsetof(struct vhost_user, virtio));
}

/* --- events -------------------------------------------------------------------------------------- */

/* May chains go to the peer? */
static bool at_work(const struct vhost_user *d)
{
	return d->active && d->peer.phase == VHOST_RUNNING;
}

static void vu_kick(struct virtio *v, unsigned queue)
{
	struct vhost_user *d = vhost_of(v);

	pthread_mutex_lock(&v->lock);
	if (!d->paused && at_work(d))
		vhost_queue_feed(&d->queues.queue[queue]);
	pthread_mutex_unlock(&v->lock);
}

/* The peer is done with something. Loop thread, or where that stands still. */
static void called(struct vhost_queue *q)
{
	struct vhost_user *d = vhost_of(q->all->virtio);
	const char *what = NULL;

	pthread_mutex_lock(&d->virtio.lock);
	if (d->active && d->peer.phase != VHOST_STARTING) {
		what = vhost_queue_collect(q);
		if (!what && !d->paused && at_work(d))
			vhost_queue_feed(q);
	}
	pthread_mutex_unlock(&d->virtio.lock);
	if (what)
		vhost_peer_drop(&d->peer, "%s", what);
}

static void vu_started(struct virtio *v)
{
	loop_post_call(v->machine->loop, &vhost_of(v)->sync);
}

static void vu_stopped(struct virtio *v)
{
	struct vhost_user *d = vhost_of(v);

	d->epoch++;
	if (d->active)
		loop_post_call(v->machine->loop, &d->sync);
}

static void vu_resetting(struct virtio *v)
{
	struct vhost_user *d = vhost_of(v);

	if (d->active)
		loop_post_call(v->machine->loop, &d->sync);
	else
		vhost_queues_abandon(&d->queues);
}

/* --- the peer: loop thread, or where that stands still --------------------------------------------- */

static uint64_t needed(const struct vhost_user *d)
{
	return d->features | BIT(VIRTIO_F_VERSION_1) |
	       (d->indirect ? BIT(VIRTIO_F_INDIRECT_DESC) : 0);
}

static void start_peer(struct vhost_user *d)
{
	struct vhost_setup *s = &d->peer.setup;

	pthread_mutex_lock(&d->virtio.lock);
	s->features = (d->virtio.accepted & d->features) | BIT(VIRTIO_F_VERSION_1) |
		      (d->indirect ? BIT(VIRTIO_F_INDIRECT_DESC) : 0);
	d->active = true;
	d->running_epoch = d->epoch;
	vhost_queues_restart(&d->queues, s);
	pthread_mutex_unlock(&d->virtio.lock);
	if (s->regions > VHOST_USER_REGIONS_MAX)
		vhost_peer_drop(&d->peer, "the guest's memory is in %u parts, more than a peer takes",
				s->regions);
	else
		vhost_peer_start(&d->peer);
}

/* Brings the peer to where the guest is. */
static void sync_peer(void *opaque)
{
	struct vhost_user *d = opaque;
	struct virtio *v = &d->virtio;
	bool running, fresh;
	int fd;

	if (d->paused)
		return;
	pthread_mutex_lock(&v->lock);
	fd = d->new_fd;
	d->new_fd = -1;
	running = virtio_running(v);
	fresh = d->running_epoch == d->epoch;
	pthread_mutex_unlock(&v->lock);
	if (fd >= 0) {
		vhost_peer_drop(&d->peer, "another one came in its place");
		if (vhost_peer_connect(&d->peer, fd) < 0)
			close(fd);
	}
	if (vhost_peer_busy(&d->peer))
		return;
	if (d->peer.phase == VHOST_IDLE && running)
		start_peer(d);
	else if (d->peer.phase == VHOST_RUNNING && (!running || !fresh))
		vhost_peer_stop(&d->peer);
}

/* Why this peer will not do; NULL: it will. */
static const char *unfit(const struct vhost_user *d, char *why, size_t size)
{
	const struct vhost_peer *p = &d->peer;
	uint64_t missing = needed(d) & ~p->features;

	if (missing) {
		snprintf(why, size, "it lacks features 0x%llx", (unsigned long long)missing);
		return why;
	}
	if (d->type->peer_config && !(p->protocol >> VHOST_PROTOCOL_CONFIG & 1))
		return "it has no configuration space (protocol feature CONFIG)";
	/* One that does not tell has as many as its kind of device must have. */
	if (p->protocol >> VHOST_PROTOCOL_MQ & 1 &&
	    p->queues < (d->made && d->conf.kind != VHOST_KIND_NET ? d->queue_count
								    : d->type->queues_min)) {
		snprintf(why, size, "it has %u queues, too few", p->queues);
		return why;
	}
	return NULL;
}

/* The guest reads the peer's part anew. v->lock held. */
static void update_config(struct vhost_user *d)
{
	uint8_t space[VIRTIO_CONFIG_MAX] = { 0 };
	size_t size = d->type->config(d, space);

	if (memcmp(space, d->virtio.config, size) == 0)
		return;
	memcpy(d->virtio.config, space, size);
	virtio_config_changed(&d->virtio);
}

static void peer_config(void *opaque)
{
	struct vhost_user *d = opaque;

	pthread_mutex_lock(&d->virtio.lock);
	if (d->type->peer_config)
		update_config(d);
	pthread_mutex_unlock(&d->virtio.lock);
	sync_peer(d);
}

/* Takes down whether there is a peer. v->lock held. True: that is news. */
static bool note(struct vhost_user *d, bool up)
{
	bool same_why = strcmp(d->info.why, d->peer.why) == 0;

	if (up == d->info.up && (up || same_why))
		return false;
	snprintf(d->info.why, sizeof(d->info.why), "%s", d->peer.why);
	d->info.changes++;
	if (up != d->info.up && d->type->link)
		d->type->link(d, up);
	d->info.up = up;
	return true;
}

static void peer_changed(void *opaque)
{
	struct vhost_user *d = opaque;
	struct virtio *v = &d->virtio;
	enum vhost_phase phase = d->peer.phase;
	char text[VHOST_WHY_MAX];
	const char *why;
	bool news;

	if (!d->made)
		return;
	why = phase == VHOST_IDLE ? unfit(d, text, sizeof(text)) : NULL;
	if (why) {
		vhost_peer_drop(&d->peer, "%s", why);
		return;
	}
	pthread_mutex_lock(&v->lock);
	if (phase == VHOST_RUNNING) {
		vhost_queues_kick(&d->queues);
	} else {
		if (d->active) /* what it was done with still counts */
			(void)vhost_queues_collect(&d->queues);
		d->active = false;
		if (v->resetting)
			vhost_queues_abandon(&d->queues);
		if (phase == VHOST_IDLE && d->type->peer_config)
			update_config(d);
	}
	news = note(d, phase != VHOST_GONE);
	pthread_mutex_unlock(&v->lock);
	if (news && d->conf.changed)
		d->conf.changed(d->conf.opaque);
	sync_peer(d);
}

static const struct vhost_peer_ops peer_ops = { peer_changed, peer_config };

void vhost_user_attach(struct device *device, int fd)
{
	struct vhost_user *d = (struct vhost_user *)device;
	int old;

	pthread_mutex_lock(&d->virtio.lock);
	old = d->new_fd;
	d->new_fd = fd;
	pthread_mutex_unlock(&d->virtio.lock);
	if (old >= 0)
		close(old);
	loop_post_call(device->machine->loop, &d->sync);
}

void vhost_user_info(struct device *device, struct vhost_user_info *ret_info)
{
	struct vhost_user *d = (struct vhost_user *)device;

	pthread_mutex_lock(&d->virtio.lock);
	*ret_info = d->info;
	pthread_mutex_unlock(&d->virtio.lock);
}

/* --- standing still ------------------------------------------------------------------------------ */

static bool drained(struct vhost_user *d)
{
	bool is;

	pthread_mutex_lock(&d->virtio.lock);
	is = d->virtio.in_flight == d->virtio.parked;
	pthread_mutex_unlock(&d->virtio.lock);
	return is;
}

/* Waits until the peer is done with what it has, at most ms of the host's time. */
static void drain(struct vhost_user *d, unsigned ms)
{
	uint64_t until = clock_monotonic_ns() + ms * 1000000ull;
	struct pollfd fds[VHOST_QUEUES_MAX];

	while (d->peer.phase == VHOST_RUNNING && !drained(d)) {
		uint64_t now = clock_monotonic_ns();

		if (now >= until)
			return;
		for (unsigned i = 0; i < d->queues.count; i++)
			fds[i] = (struct pollfd){ .fd = d->queues.queue[i].call_fd,
						  .events = POLLIN };
		if (poll(fds, d->queues.count, (int)((until - now) / 1000000) + 1) <= 0)
			return;
		for (unsigned i = 0; i < d->queues.count; i++)
			if (fds[i].revents)
				vhost_queue_poll(&d->queues.queue[i]);
	}
}

/* From here on the peer touches nothing, and the loop's events change nothing. */
static void quiesce(struct vhost_user *d, unsigned drain_ms, int stop_ms)
{
	d->paused = true;
	vhost_peer_wait(&d->peer, stop_ms);
	if (drain_ms)
		drain(d, drain_ms);
	if (d->peer.phase != VHOST_RUNNING)
		return;
	vhost_peer_stop(&d->peer);
	vhost_peer_wait(&d->peer, stop_ms);
}

static void park_rest(struct vhost_user *d, bool yes)
{
	pthread_mutex_lock(&d->virtio.lock);
	vhost_queues_park(&d->queues, yes);
	pthread_mutex_unlock(&d->virtio.lock);
}

static void vu_pause(struct device *dev)
{
	struct vhost_user *d = (struct vhost_user *)dev;

	quiesce(d, DRAIN_MS, STOP_MS);
	park_rest(d, true);
}

static void vu_resume(struct device *dev)
{
	struct vhost_user *d = (struct vhost_user *)dev;

	park_rest(d, false);
	d->paused = false;
	loop_post_call(dev->machine->loop, &d->sync);
}

static void vu_reset(struct device *dev)
{
	struct vhost_user *d = (struct vhost_user *)dev;
	bool paused = d->paused;

	quiesce(d, 0, STOP_MS);
	virtio_reset_wait(&d->virtio);
	d->paused = paused;
	loop_post_call(dev->machine->loop, &d->sync);
}

/* --- life ---------------------------------------------------------------------------------------- */

static void vu_destroy(struct device *dev)
{
	struct vhost_user *d = (struct vhost_user *)dev;

	if (!d)
		return;
	d->conf.changed = NULL;
	quiesce(d, 0, END_MS);
	vhost_peer_fini(&d->peer);
	if (d->virtio.machine) {
		pthread_mutex_lock(&d->virtio.lock);
		d->active = false;
		pthread_mutex_unlock(&d->virtio.lock);
	}
	virtio_disconnect(&d->virtio);
	loop_cancel_call(dev->machine->loop, &d->sync);
	virtio_fini(&d->virtio);
	vhost_queues_close(&d->queues);
	if (d->new_fd >= 0)
		close(d->new_fd);
	free(d);
}

static int make_queues(struct vhost_user *d)
{
	d->queues.parks = d->type->parks;
	d->queues.called = called;
	d->queues.size = d->conf.queue_size;
	d->queues.indirect = d->indirect;
	return vhost_queues_make(&d->queues, d->dev.machine->loop, d->queue_count);
}

/* Greets the first peer, which says what the guest gets. */
static int greet(struct vhost_user *d, const struct vhost_user_config *c)
{
	const struct vhost_type *t = d->type;
	char text[VHOST_WHY_MAX];
	const char *why;
	unsigned queues;
	int fd = fcntl(c->fd, F_DUPFD_CLOEXEC, 3), r;

	if (fd < 0)
		return -errno;
	r = vhost_peer_connect(&d->peer, fd);
	if (r < 0) {
		close(fd);
		return r;
	}
	vhost_peer_wait(&d->peer, GREETING_MS);
	why = d->peer.phase == VHOST_IDLE ? unfit(d, text, sizeof(text)) : d->peer.why;
	if (why) {
		if (c->why)
			snprintf(c->why, VHOST_WHY_MAX, "%s", why);
		return -EPROTO;
	}
	queues = d->peer.queues > t->queues_min ? d->peer.queues : t->queues_min;
	d->queue_count = t->queues(&d->conf, queues < VHOST_QUEUES_MAX ? queues : VHOST_QUEUES_MAX);
	d->indirect = d->peer.features >> VIRTIO_F_INDIRECT_DESC & 1;
	d->segments_max = d->indirect || d->conf.queue_size > VIRTQ_SEGMENTS_MAX
				  ? VIRTQ_SEGMENTS_MAX : d->conf.queue_size;
	d->features = d->peer.features & t->passed;
	return 0;
}

static int make_virtio(struct vhost_user *d, const struct vhost_user_config *c)
{
	uint8_t space[VIRTIO_CONFIG_MAX] = { 0 };
	const struct virtio_info info = {
		.ops = &d->ops,
		.features = d->features | d->type->own,
		.without = c->place.without | BIT(VIRTIO_F_RING_RESET) |
			   (d->indirect ? 0 : BIT(VIRTIO_F_INDIRECT_DESC)),
		.queue_count = d->queue_count,
		.queue_size = d->conf.queue_size,
		.config = space,
		.config_size = d->type->config(d, space),
	};
	int r = virtio_init(&d->virtio, d->dev.machine, &info);

	return r < 0 ? r : virtio_connect(&d->virtio, &c->place, d->type->class_code);
}

static struct vhost_user *new_device(struct machine *machine, const struct vhost_user_config *c)
{
	struct vhost_user *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->dev.class = &vhost_user_class;
	d->dev.machine = machine;
	d->type = &vhost_types[c->kind];
	d->ops = d->type->ops;
	d->ops.kick = vu_kick;
	d->ops.started = vu_started;
	d->ops.resetting = vu_resetting;
	d->ops.stopped = vu_stopped;
	d->conf = *c;
	if (!d->conf.queue_size)
		d->conf.queue_size = QUEUE_SIZE_DEFAULT;
	d->sync = (struct loop_call){ .fn = sync_peer, .opaque = d };
	d->new_fd = -1;
	vhost_queues_init(&d->queues, &d->virtio);
	vhost_peer_init(&d->peer, machine, &peer_ops, d, d->type->peer_config);
	return d;
}

static int vu_create(struct machine *machine, const void *config, struct device **ret_device)
{
	const struct vhost_user_config *c = config;
	unsigned size = c->queue_size ? c->queue_size : QUEUE_SIZE_DEFAULT;
	struct vhost_user *d;
	int r;

	if (c->kind >= VHOST_KINDS || size < 2 || size > VIRTQ_SIZE_MAX || size & (size - 1) ||
	    c->mac[0] & 1)
		return -EINVAL;
	d = new_device(machine, c);
	if (!d)
		return -ENOMEM;
	r = greet(d, c);
	if (r == 0)
		r = make_queues(d);
	if (r == 0)
		r = make_virtio(d, c);
	if (r < 0) {
		vu_destroy(&d->dev);
		return r;
	}
	close(c->fd); /* the peer has a copy */
	d->info.up = d->made = true;
	*ret_device = &d->dev;
	return 0;
}

const struct device_class vhost_user_class = {
	.name = "vhost-user",
	.create = vu_create,
	.destroy = vu_destroy,
	.reset = vu_reset,
	.pause = vu_pause,
	.resume = vu_resume,
};
