/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pmem.c - see pmem.h. Requests are taken on the loop thread. Those that come while a flush is under
 * way wait for the next one, which then is for all of them.
 */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/log.h"
#include "devices/backend/workers.h"
#include "devices/virtio/core.h"
#include "devices/virtio/pmem.h"
#include "machine/loop.h"
#include "machine/memory.h"

#define PMEM_CLASS 0x00ff00u /* none of the classes */
#define PMEM_QUEUE_SIZE 64u
#define ERRORS_LOGGED 8u

enum { CFG_START = 0, CFG_SIZE = 8, CFG_BYTES = 16 };
enum { REQ_FLUSH = 0, REQ_BYTES = 4, RESP_BYTES = 4 };
enum { RESP_OK = 0, RESP_EIO = 1 };

/* Chains of one flush. */
struct batch {
	unsigned count;
	struct virtq_chain chain[PMEM_QUEUE_SIZE];
};

struct virtio_pmem {
	struct device dev;
	struct virtio virtio;
	struct memory_area *area; /* of the machine's memory */
	struct loop_watch *lost_watch;
	struct workers *workers;
	struct work work;
	int fd;
	char name[24];
	unsigned errors;       /* flushes that failed; the worker's */
	/* virtio.lock */
	bool busy;             /* a flush is under way, for batch[1 - next] */
	unsigned next;         /* the batch that gathers */
	struct batch batch[2];
};

static struct virtio_pmem *pmem_of(struct virtio *v)
{
	return (struct virtio_pmem *)((char *)v - offsetof(struct virtio_pmem, virtio));
}

/* --- flush ------------------------------------------------------------------------------------ */

/* With the lock. */
static void answer(struct virtio_pmem *p, const struct virtq_chain *chain, uint32_t result)
{
	uint8_t resp[RESP_BYTES];

	put_le32(resp, result);
	(void)virtq_copy_in(&p->virtio.queue[0].ring, chain, 0, resp, sizeof(resp));
	virtio_release(&p->virtio, 0, chain, sizeof(resp));
}

/* With the lock. */
static void flush_next(struct virtio_pmem *p)
{
	if (p->busy || !p->batch[p->next].count)
		return;
	p->busy = true;
	p->next = 1 - p->next;
	workers_submit(p->workers, &p->work);
}

static void flush_work(struct work *work)
{
	struct virtio_pmem *p =
		(struct virtio_pmem *)((char *)work - offsetof(struct virtio_pmem, work));
	int r = fdatasync(p->fd) < 0 ? -errno : 0;
	struct batch *done;

	if (r < 0 && p->errors++ < ERRORS_LOGGED)
		log_line(p->dev.machine->log, LOG_LEVEL_ERROR, "%s: flush: %s", p->name, strerror(-r));
	if (memory_area_kept(p->area) < (uint64_t)get_le64(p->virtio.config + CFG_SIZE))
		r = -EIO;
	pthread_mutex_lock(&p->virtio.lock);
	done = &p->batch[1 - p->next];
	for (unsigned i = 0; i < done->count; i++)
		answer(p, &done->chain[i], r < 0 ? RESP_EIO : RESP_OK);
	done->count = 0;
	p->busy = false;
	virtio_end(&p->virtio, 0);
	flush_next(p);
	if (virtio_has(&p->virtio, 0))
		virtio_kick_again(&p->virtio, 0);
	pthread_mutex_unlock(&p->virtio.lock);
}

/* Takes one request; false: none, or no room for it now. */
static bool take(struct virtio_pmem *p)
{
	struct batch *next = &p->batch[p->next];
	struct virtq_chain *chain;
	uint8_t req[REQ_BYTES];

	if (next->count == PMEM_QUEUE_SIZE)
		return false;
	chain = &next->chain[next->count];
	if (virtio_get(&p->virtio, 0, chain) <= 0)
		return false;
	if (chain->in_bytes < RESP_BYTES ||
	    virtq_copy_out(&p->virtio.queue[0].ring, chain, 0, req, sizeof(req)) < 0) {
		virtio_guest_error(&p->virtio, "a request of a wrong size");
		virtio_release(&p->virtio, 0, chain, 0);
	} else if (get_le32(req) != REQ_FLUSH) {
		answer(p, chain, RESP_EIO);
	} else {
		next->count++;
	}
	return true;
}

static void pmem_kick(struct virtio *v, unsigned queue)
{
	struct virtio_pmem *p = pmem_of(v);
	unsigned n = 0;

	pthread_mutex_lock(&v->lock);
	while (n < PMEM_QUEUE_SIZE && take(p))
		n++;
	virtio_end(v, queue);
	flush_next(p);
	virtio_want_kicks(v, queue, true);
	if (n && virtio_has(v, queue)) /* a full batch comes back here by its end */
		virtio_kick_again(v, queue);
	pthread_mutex_unlock(&v->lock);
}

/* --- the file --------------------------------------------------------------------------------- */

static void pmem_lost(void *opaque, uint32_t events)
{
	struct virtio_pmem *p = opaque;
	eventfd_t count;

	(void)events;
	(void)eventfd_read(memory_area_event(p->area), &count);
	machine_stall(p->dev.machine, "file-lost",
		      "%s: its file is shorter than it was, or cannot be read, from byte %llu on: "
		      "what the guest had there is lost, and its flushes fail until it is reset "
		      "with a file that is whole",
		      p->name, (unsigned long long)memory_area_kept(p->area));
}

/* All of it is to have its place: a write to a page for which there is no room is an error that a
 * processor cannot be told of. */
static int pmem_size(int fd, uint64_t *ret_size)
{
	off_t size = lseek(fd, 0, SEEK_END);

	if (size < 0)
		return -errno;
	if (!size || (uint64_t)size % VIRTIO_PMEM_ALIGN)
		return -EINVAL;
	if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, size) < 0 && errno != EOPNOTSUPP && errno != ENODEV)
		return -errno;
	*ret_size = (uint64_t)size;
	return 0;
}

/* --- the device ------------------------------------------------------------------------------- */

static const struct virtio_ops pmem_ops = {
	.name = "virtio-pmem",
	.id = VIRTIO_ID_PMEM,
	.kick = pmem_kick,
};

static void pmem_pause(struct device *dev)
{
	struct virtio_pmem *p = (struct virtio_pmem *)dev;

	workers_help(p->workers);
	virtio_drain(&p->virtio);
}

static void pmem_reset(struct device *dev)
{
	struct virtio_pmem *p = (struct virtio_pmem *)dev;

	workers_help(p->workers);
	virtio_reset_wait(&p->virtio);
	if (!memory_area_mend(p->area))
		pmem_lost(p, 0);
}

static void pmem_destroy(struct device *dev)
{
	struct virtio_pmem *p = (struct virtio_pmem *)dev;

	if (!p)
		return;
	workers_help(p->workers);
	loop_remove(p->lost_watch);
	virtio_disconnect(&p->virtio);
	virtio_fini(&p->virtio);
	workers_destroy(p->workers);
	if (p->fd >= 0)
		close(p->fd);
	free(p);
}

static int pmem_init(struct virtio_pmem *p, const struct virtio_pmem_config *config)
{
	struct machine *machine = p->dev.machine;
	uint8_t space[CFG_BYTES];
	const struct virtio_info info = {
		.ops = &pmem_ops,
		.without = config->place.without,
		.queue_count = 1,
		.queue_size = PMEM_QUEUE_SIZE,
		.config = space,
		.config_size = sizeof(space),
	};
	uint64_t start = machine_area_gpa(machine), size = 0;
	int r = pmem_size(config->fd, &size);

	if (r < 0)
		return r;
	put_le64(space + CFG_START, start);
	put_le64(space + CFG_SIZE, size);
	r = workers_create("vmxd-pmem", config->on_loop ? 0 : 1, machine->threads, machine->loop,
			   &p->workers);
	if (r == 0)
		r = virtio_init(&p->virtio, machine, &info);
	if (r == 0)
		r = virtio_connect(&p->virtio, &config->place, PMEM_CLASS);
	if (r == 0) /* there is no way to take it back but the machine's end */
		r = memory_area_add_file(machine->memory, start, size, config->fd, &p->area);
	if (r == 0)
		r = loop_add(machine->loop, memory_area_event(p->area), EPOLLIN, pmem_lost, p,
			     &p->lost_watch);
	return r;
}

static int pmem_create(struct machine *machine, const void *opaque, struct device **ret_device)
{
	const struct virtio_pmem_config *config = opaque;
	struct virtio_pmem *p = calloc(1, sizeof(*p));
	int r;

	if (!p)
		return -ENOMEM;
	p->dev.class = &virtio_pmem_class;
	p->dev.machine = machine;
	p->work.fn = flush_work;
	p->fd = -1;
	snprintf(p->name, sizeof(p->name), "%s", config->name);
	r = pmem_init(p, config);
	if (r < 0) {
		pmem_destroy(&p->dev);
		return r;
	}
	p->fd = config->fd;
	*ret_device = &p->dev;
	return 0;
}

const struct device_class virtio_pmem_class = {
	.name = "virtio-pmem",
	.create = pmem_create,
	.destroy = pmem_destroy,
	.reset = pmem_reset,
	.pause = pmem_pause,
};
