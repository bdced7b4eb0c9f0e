/* SPDX-License-Identifier: Apache-2.0 */
/*
 * p9.c - virtio-9p: each chain is one 9P message and the room for its reply. Taken from the ring on
 * the loop thread, served by a few workers with the device unlocked, given back by them. What is
 * wrong in a message gets 9P's own error; a chain without a whole header, or without room for an
 * error, is a guest error.
 */
#include <config.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "devices/backend/p9.h"
#include "devices/backend/workers.h"
#include "devices/virtio/core.h"
#include "devices/virtio/p9.h"
#include "devices/virtio/transport.h"

#define P9_REQUESTS 64u
#define P9_THREADS 4u
#define P9_QUEUE_SIZE 128u /* Linux's client has that many pages in a message */
#define P9_CLASS 0x018000u /* mass storage, other */
#define P9_F_MOUNT_TAG 0

_Static_assert(P9_IOVECS_MAX >= VIRTQ_SEGMENTS_MAX, "a whole chain");

struct p9_request {
	struct work work;
	struct p9_io io;
	struct virtio_p9 *device;
	struct p9_request *next;
	struct virtq_chain chain;
};

struct virtio_p9 {
	struct device dev;
	struct virtio virtio;
	struct p9 *p9;
	struct workers *workers;
	bool threads;            /* that it has some */
	struct p9_request *idle; /* list; virtio.lock */
	bool starved;            /* something waits in the ring for a request */
	struct p9_request request[P9_REQUESTS];
};

static struct virtio_p9 *p9_of(struct virtio *v)
{
	return (struct virtio_p9 *)((char *)v - offsetof(struct virtio_p9, virtio));
}

/* --- what the server sees of a chain: worker thread, no lock ----------------------------------- */

static struct p9_request *request_of(struct p9_io *io, const struct virtq **ret_ring)
{
	struct p9_request *req = (struct p9_request *)((char *)io -
						       offsetof(struct p9_request, io));

	*ret_ring = &req->device->virtio.queue[0].ring;
	return req;
}

static int io_read(struct p9_io *io, uint32_t offset, void *buf, uint32_t len)
{
	const struct virtq *ring;
	struct p9_request *req = request_of(io, &ring);

	return virtq_copy_out(ring, &req->chain, offset, buf, len);
}

static int io_write(struct p9_io *io, uint32_t offset, const void *buf, uint32_t len)
{
	const struct virtq *ring;
	struct p9_request *req = request_of(io, &ring);

	return virtq_copy_in(ring, &req->chain, offset, buf, len);
}

static int io_iov(struct p9_io *io, bool reply, uint32_t offset, uint32_t len, struct iovec *iov)
{
	const struct virtq *ring;
	struct p9_request *req = request_of(io, &ring);

	return virtq_iov(ring, &req->chain, reply, offset, len, iov, P9_IOVECS_MAX);
}

static void io_written(struct p9_io *io, uint32_t offset, uint32_t len)
{
	const struct virtq *ring;
	struct p9_request *req = request_of(io, &ring);

	virtq_iov_written(ring, &req->chain, offset, len);
}

static const struct p9_io_ops io_ops = { io_read, io_write, io_iov, io_written };

static void p9_work(struct work *work)
{
	struct p9_request *req = (struct p9_request *)((char *)work -
						       offsetof(struct p9_request, work));
	struct virtio_p9 *d = req->device;
	struct virtio *v = &d->virtio;
	int written = 0;
	bool run;

	pthread_mutex_lock(&v->lock);
	run = virtio_running(v); /* else the driver is gone: forget it */
	pthread_mutex_unlock(&v->lock);
	if (run)
		written = p9_serve(d->p9, &req->io);
	pthread_mutex_lock(&v->lock);
	if (written < 0)
		virtio_guest_error(v, "chain without a 9P header, or without room for a reply");
	virtio_release(v, 0, &req->chain, written < 0 ? 0 : (uint32_t)written);
	virtio_end(v, 0);
	req->next = d->idle;
	d->idle = req;
	if (d->starved) {
		d->starved = false;
		virtio_kick_again(v, 0);
	}
	pthread_mutex_unlock(&v->lock);
}

/* --- the ring --------------------------------------------------------------------------------- */

/* Takes what there is, or as much as there are requests for. Lock held. */
static void p9_take(struct virtio_p9 *d)
{
	struct p9_request *req;

	while ((req = d->idle) && virtio_get(&d->virtio, 0, &req->chain) > 0) {
		d->idle = req->next;
		req->io = (struct p9_io){ &io_ops, req->chain.out_bytes, req->chain.in_bytes };
		workers_submit(d->workers, &req->work);
	}
	d->starved = !req;
}

static void p9_kick(struct virtio *v, unsigned queue)
{
	struct virtio_p9 *d = p9_of(v);

	pthread_mutex_lock(&v->lock);
	do {
		virtio_want_kicks(v, queue, false);
		p9_take(d);
		if (d->starved) /* looked at again when a request comes back */
			break;
		virtio_want_kicks(v, queue, true);
	} while (virtio_has(v, queue));
	pthread_mutex_unlock(&v->lock);
}

static void p9_stopped(struct virtio *v)
{
	struct virtio_p9 *d = p9_of(v);

	d->starved = false;
	if (d->p9)
		p9_reset(d->p9); /* the driver is gone, and its files with it */
}

static const struct virtio_ops p9_ops = {
	.name = "virtio-9p",
	.id = VIRTIO_ID_9P,
	.features = 1ull << P9_F_MOUNT_TAG,
	.kick = p9_kick,
	.stopped = p9_stopped,
};

/* --- the device ------------------------------------------------------------------------------- */

/* Messages are served on threads of their own kind, which may do what no other may; without them (in
 * tests), whoever waits does it. */
static void help(struct virtio_p9 *d)
{
	if (!d->threads)
		workers_help(d->workers);
}

static void p9_dev_reset(struct device *dev)
{
	struct virtio_p9 *d = (struct virtio_p9 *)dev;

	help(d);
	virtio_reset_wait(&d->virtio);
}

static void p9_dev_pause(struct device *dev)
{
	struct virtio_p9 *d = (struct virtio_p9 *)dev;

	help(d);
	virtio_drain(&d->virtio);
}

static void p9_dev_destroy(struct device *dev)
{
	struct virtio_p9 *d = (struct virtio_p9 *)dev;

	if (!d)
		return;
	help(d);
	virtio_disconnect(&d->virtio);
	virtio_fini(&d->virtio);
	workers_destroy(d->workers);
	p9_destroy(d->p9);
	free(d);
}

static int init_virtio(struct virtio_p9 *d, const struct virtio_p9_config *c)
{
	uint8_t config[2 + VIRTIO_P9_TAG_MAX];
	size_t len = strnlen(c->tag, VIRTIO_P9_TAG_MAX);
	struct virtio_info info = {
		.ops = &p9_ops,
		.features = 1ull << P9_F_MOUNT_TAG,
		.without = c->place.without,
		.queue_count = 1,
		.queue_size = P9_QUEUE_SIZE,
		.config = config,
		.config_size = 2 + len,
	};

	put_le16(config, (uint16_t)len);
	memcpy(config + 2, c->tag, len);
	return virtio_init(&d->virtio, d->dev.machine, &info);
}

static int p9_dev_create(struct machine *machine, const void *config, struct device **ret_device)
{
	const struct virtio_p9_config *c = config;
	const struct p9_options options = { .dir_fd = c->dir_fd, .proc_fd = c->proc_fd,
					    .readonly = c->readonly, .fds_max = c->fds_max };
	struct virtio_p9 *d = calloc(1, sizeof(*d));
	int r;

	if (!d)
		return -ENOMEM;
	d->threads = !c->on_loop;
	d->dev.class = &virtio_p9_class;
	d->dev.machine = machine;
	for (unsigned i = 0; i < P9_REQUESTS; i++) {
		d->request[i].work.fn = p9_work;
		d->request[i].device = d;
		d->request[i].next = d->idle;
		d->idle = &d->request[i];
	}
	r = workers_create_kind("vmxd-9p", c->on_loop ? 0 : P9_THREADS, machine->threads,
				THREAD_SHARE, machine->loop, &d->workers);
	if (r == 0)
		r = init_virtio(d, c);
	if (r == 0)
		r = virtio_connect(&d->virtio, &c->place, P9_CLASS);
	if (r == 0) /* last, as nothing may fail once the descriptor is ours */
		r = p9_create(&options, &d->p9);
	if (r < 0) {
		p9_dev_destroy(&d->dev);
		return r;
	}
	*ret_device = &d->dev;
	return 0;
}

const struct device_class virtio_p9_class = {
	.name = "virtio-9p",
	.create = p9_dev_create,
	.destroy = p9_dev_destroy,
	.reset = p9_dev_reset,
	.pause = p9_dev_pause,
};
