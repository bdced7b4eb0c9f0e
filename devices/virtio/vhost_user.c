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
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/clock.h"
#include "common/log.h"
#include "devices/virtio/vhost_internal.h"
#include "machine/memory.h"

#define QUEUE_SIZE_DEFAULT 256u
#define FEED_MAX 64u       /* chains in one turn */
#define GREETING_MS 5000   /* creation waits so long */
#define DRAIN_MS 2000      /* a pause waits so long for requests that the peer has */
#define STOP_MS 5000
#define END_MS 1000        /* and the device's end for the peer to stop */
/* The rings' memory, as the peer has it: above all RAM, below where its addresses begin. */
#define SHARED_GPA (1ull << 42)
#define BIT(n) (1ull << (n))

static struct vhost_user *vhost_of(struct virtio *v)
{
	return (struct vhost_user *)((char *)v - offsetof(struct vhost_user, virtio));
}

/* --- rings: all with virtio.lock held ------------------------------------------------------------ */

static bool parks(const struct vhost_user *d, unsigned queue)
{
	return d->type->parks && d->type->parks(queue);
}

static void park(struct vhost_user *d, struct vhost_slot *slot, bool yes)
{
	if (slot->parked == yes)
		return;
	slot->parked = yes;
	virtio_park(&d->virtio, yes ? 1 : -1);
}

/* A chain is the guest's again. The engine hears of all that may have been written first. */
static void give_back(struct vhost_user *d, unsigned queue, struct vhost_slot *slot,
		      uint32_t written)
{
	virtq_iov_written(&d->virtio.queue[queue].ring, &slot->chain, 0, slot->chain.in_bytes);
	park(d, slot, false);
	virtio_release(&d->virtio, queue, &slot->chain, written);
}

/* What the peer is done with. What it did wrong, or NULL. */
static const char *collect(struct vhost_user *d, unsigned queue)
{
	struct vhost_ring *ring = &d->queue[queue].ring;
	struct vhost_slot *slot;
	const char *what = NULL;
	uint32_t written;
	unsigned n = 0;
	int r;

	while ((r = vhost_ring_take(ring, &slot, &written, &what)) > 0) {
		give_back(d, queue, slot, written);
		n++;
	}
	if (n)
		virtio_end(&d->virtio, queue);
	return r < 0 ? what : NULL;
}

static const char *collect_all(struct vhost_user *d)
{
	const char *what = NULL;

	for (unsigned i = 0; i < d->queue_count && !what; i++)
		what = collect(d, i);
	return what;
}

/* What no peer will be done with: a reset waits for it. */
static void abandon_all(struct vhost_user *d)
{
	struct vhost_slot *slot;

	for (unsigned i = 0; i < d->queue_count; i++)
		while ((slot = vhost_ring_abandon(&d->queue[i].ring)))
			give_back(d, i, slot, 0);
}

/* One chain from the guest to the peer: 1, 0: there is none now, -ENOSPC: no room. */
static int feed_one(struct vhost_user *d, unsigned queue, bool *ret_placed)
{
	struct virtio *v = &d->virtio;
	struct vhost_ring *ring = &d->queue[queue].ring;
	struct vhost_slot *slot = vhost_ring_next(ring);

	if (!slot)
		return -ENOSPC;
	if (virtio_get(v, queue, &slot->chain) <= 0)
		return 0;
	if (!slot->chain.readable && !slot->chain.writable) { /* nothing that anybody could do */
		virtio_release(v, queue, &slot->chain, 0);
		virtio_end(v, queue);
		return 1;
	}
	if (vhost_ring_place(ring) < 0) {
		bool never = ring->oldest == VHOST_RING_NONE;

		virtio_unget(v, queue, &slot->chain);
		if (never)
			virtio_guest_error(v, "a chain of more descriptors than the queue has");
		return -ENOSPC;
	}
	park(d, slot, parks(d, queue));
	*ret_placed = true;
	return 1;
}

static void feed(struct vhost_user *d, unsigned queue)
{
	struct virtio *v = &d->virtio;
	bool placed = false;
	unsigned n = 0;
	int r = 1;

	if (!d->active || d->peer.phase != VHOST_RUNNING)
		return;
	for (; n < FEED_MAX && r > 0; n++)
		r = feed_one(d, queue, &placed);
	if (placed && vhost_ring_wants_kick(&d->queue[queue].ring))
		(void)eventfd_write(d->queue[queue].kick_fd, 1);
	if (r < 0)
		return; /* called() goes on */
	if (r == 0)
		virtio_want_kicks(v, queue, true);
	if (r > 0 || virtio_has(v, queue)) /* more, or it came before the driver saw that */
		virtio_kick_again(v, queue);
}

/* --- events -------------------------------------------------------------------------------------- */

static void vu_kick(struct virtio *v, unsigned queue)
{
	struct vhost_user *d = vhost_of(v);

	pthread_mutex_lock(&v->lock);
	if (!d->paused)
		feed(d, queue);
	pthread_mutex_unlock(&v->lock);
}

/* The peer is done with something. Loop thread, or where that stands still. */
static void called(struct vhost_queue *q)
{
	struct vhost_user *d = q->device;
	const char *what = NULL;
	eventfd_t count;

	(void)eventfd_read(q->call_fd, &count);
	pthread_mutex_lock(&d->virtio.lock);
	if (d->active && d->peer.phase != VHOST_STARTING) {
		what = collect(d, (unsigned)(q - d->queue));
		if (!what && !d->paused)
			feed(d, (unsigned)(q - d->queue));
	}
	pthread_mutex_unlock(&d->virtio.lock);
	if (what)
		vhost_peer_drop(&d->peer, "%s", what);
}

static void on_call(void *opaque, uint32_t events)
{
	(void)events;
	called(opaque);
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
		abandon_all(d);
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
	struct memory *memory = d->dev.machine->memory;
	struct memory_part parts[MEMORY_PARTS_MAX];
	unsigned i;

	s->regions = (unsigned)memory_parts(memory, parts);
	if (s->regions >= VHOST_REGIONS_MAX) {
		vhost_peer_drop(&d->peer, "the guest's memory is in %u parts, more than a peer takes",
				s->regions);
		return;
	}
	for (i = 0; i < s->regions; i++)
		s->region[i] = (struct vhost_region){ parts[i].gpa, parts[i].size, parts[i].offset,
						      parts[i].fd };
	s->region[s->regions++] = (struct vhost_region){ SHARED_GPA, d->shared_size, 0,
							 d->shared_fd };
	s->vrings = d->queue_count;
	pthread_mutex_lock(&d->virtio.lock);
	s->features = (d->virtio.accepted & d->features) | BIT(VIRTIO_F_VERSION_1) |
		      (d->indirect ? BIT(VIRTIO_F_INDIRECT_DESC) : 0);
	d->active = true;
	d->running_epoch = d->epoch;
	for (i = 0; i < d->queue_count; i++) {
		const struct vhost_queue *q = &d->queue[i];

		vhost_ring_restart(&d->queue[i].ring);
		s->vring[i] = (struct vhost_vring){
			.size = q->ring.size, .desc = vhost_ring_desc(&q->ring),
			.avail = vhost_ring_avail(&q->ring), .used = vhost_ring_used(&q->ring),
			.kick_fd = q->kick_fd, .call_fd = q->call_fd,
		};
	}
	pthread_mutex_unlock(&d->virtio.lock);
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
		for (unsigned i = 0; i < d->queue_count; i++) {
			(void)eventfd_write(d->queue[i].kick_fd, 1);
			virtio_kick_again(v, i);
		}
	} else {
		if (d->active) /* what it was done with still counts */
			(void)collect_all(d);
		d->active = false;
		if (v->resetting)
			abandon_all(d);
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
		for (unsigned i = 0; i < d->queue_count; i++)
			fds[i] = (struct pollfd){ .fd = d->queue[i].call_fd, .events = POLLIN };
		if (poll(fds, d->queue_count, (int)((until - now) / 1000000) + 1) <= 0)
			return;
		for (unsigned i = 0; i < d->queue_count; i++)
			if (fds[i].revents)
				called(&d->queue[i]);
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

/* What a peer did not finish waits for the next start, which gives it to a peer again. */
static void park_rest(struct vhost_user *d, bool yes)
{
	pthread_mutex_lock(&d->virtio.lock);
	for (unsigned i = 0; i < d->queue_count; i++) {
		struct vhost_ring *ring = &d->queue[i].ring;

		for (uint16_t at = ring->oldest; at != VHOST_RING_NONE; at = ring->slot[at].newer)
			park(d, &ring->slot[at], yes || parks(d, i));
	}
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

static void close_queues(struct vhost_user *d)
{
	for (unsigned i = 0; i < d->queue_count; i++) {
		struct vhost_queue *q = &d->queue[i];

		q->watch = loop_remove(q->watch);
		if (q->kick_fd >= 0)
			close(q->kick_fd);
		if (q->call_fd >= 0)
			close(q->call_fd);
		vhost_ring_fini(&q->ring);
	}
	if (d->shared)
		munmap(d->shared, d->shared_size);
	if (d->shared_fd >= 0)
		close(d->shared_fd);
}

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
	close_queues(d);
	if (d->new_fd >= 0)
		close(d->new_fd);
	free(d);
}

static int make_shared(struct vhost_user *d)
{
	d->shared_size = d->queue_count * vhost_ring_bytes(d->conf.queue_size);
	d->shared_fd = memfd_create("vhost-rings", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (d->shared_fd < 0 || ftruncate(d->shared_fd, (off_t)d->shared_size) < 0 ||
	    fcntl(d->shared_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	d->shared = mmap(NULL, d->shared_size, PROT_READ | PROT_WRITE, MAP_SHARED, d->shared_fd, 0);
	if (d->shared == MAP_FAILED) {
		d->shared = NULL;
		return -errno;
	}
	return 0;
}

static int make_queue(struct vhost_user *d, unsigned i)
{
	size_t offset = i * vhost_ring_bytes(d->conf.queue_size);
	struct vhost_queue *q = &d->queue[i];
	int r;

	q->device = d;
	r = vhost_ring_init(&q->ring, d->conf.queue_size, d->shared + offset, SHARED_GPA + offset);
	if (r < 0)
		return r;
	q->ring.indirect = d->indirect;
	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	q->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (q->kick_fd < 0 || q->call_fd < 0)
		return -errno;
	return loop_add(d->dev.machine->loop, q->call_fd, EPOLLIN, on_call, q, &q->watch);
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
	d->shared_fd = d->new_fd = -1;
	for (unsigned i = 0; i < VHOST_QUEUES_MAX; i++)
		d->queue[i].kick_fd = d->queue[i].call_fd = -1;
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
		r = make_shared(d);
	for (unsigned i = 0; i < d->queue_count && r == 0; i++)
		r = make_queue(d, i);
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
