/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core.h - what every virtio device has, whatever its type and its transport (virtio 1.2, 2 and 3).
 *
 * The core owns every guard: queue numbers, what may be written in which state, features, ring
 * geometry, bounds of the configuration space. A transport (pci.c, mmio.c) only turns offsets into
 * calls of the first group below; a device type (blk.c, ...) fills struct virtio_ops and uses the
 * second group. A guest's error costs the guest that device: NEEDS_RESET, counted and logged.
 *
 * A notification is an eventfd: it rings on a vCPU thread, or inside the engine, and the queue is
 * worked on the loop thread, so that no processor ever waits for I/O. A type may do what is over at
 * once on the thread that rings (kick_here): waking another one takes longer. Where an exit of the
 * vCPU costs little, its bells are then not the engine's.
 *
 * Reset at any moment: once the driver wrote 0 to the status, nothing of the rings is touched any
 * more, and the status reads 0 when the last chain in flight has come back.
 *
 * Locks: one per device, v->lock. It is held in ops.started, ops.resetting, ops.stopped, ops.queue_reset and
 * ops.config_written, not in ops.kick. Everything a transport calls takes it.
 */
#ifndef DEVICES_VIRTIO_CORE_H
#define DEVICES_VIRTIO_CORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/virtio/queue.h"

struct loop_watch;
struct machine;
struct virtio;
struct virtio_mmio;
struct virtio_pci;

#define VIRTIO_QUEUES_MAX 20u /* a console with 9 ports and its two control queues */
#define VIRTIO_CONFIG_MAX 256u
#define VIRTIO_NO_VECTOR 0xffffu

enum { /* device status (2.1) */
	VIRTIO_ACKNOWLEDGE = 1,
	VIRTIO_DRIVER = 2,
	VIRTIO_DRIVER_OK = 4,
	VIRTIO_FEATURES_OK = 8,
	VIRTIO_NEEDS_RESET = 64,
	VIRTIO_FAILED = 128,
};

enum { /* features of rings and transports (6) */
	VIRTIO_F_INDIRECT_DESC = 28,
	VIRTIO_F_EVENT_IDX = 29,
	VIRTIO_F_VERSION_1 = 32,
	VIRTIO_F_RING_PACKED = 34,
	VIRTIO_F_IN_ORDER = 35, /* offered by types that give every queue's chains back in order */
	VIRTIO_F_RING_RESET = 40,
};

/* Not offered: NOTIFICATION_DATA. A doorbell is an eventfd, which carries no data, and the ring
 * says it all. */

enum { /* device types (5) */
	VIRTIO_ID_NET = 1, VIRTIO_ID_BLOCK = 2, VIRTIO_ID_CONSOLE = 3, VIRTIO_ID_RNG = 4,
	VIRTIO_ID_BALLOON = 5, VIRTIO_ID_9P = 9, VIRTIO_ID_VSOCK = 19, VIRTIO_ID_MEM = 24,
	VIRTIO_ID_FS = 26, VIRTIO_ID_PMEM = 27,
};

enum { VIRTIO_ISR_QUEUE = 1, VIRTIO_ISR_CONFIG = 2 };

/* A device type. */
struct virtio_ops {
	const char *name;       /* "virtio-blk" */
	uint16_t id;
	uint64_t features;      /* bits 0..23 and 50..63 that any instance may offer, and IN_ORDER */
	/* A queue has something, or had: loop thread, no lock held, DRIVER_OK, queue enabled. */
	void (*kick)(struct virtio *v, unsigned queue);
	/* The driver rang: true if the device is done with the queue, so that kick() need not come.
	 * Any thread, a vCPU's in general, no lock held, whatever the state. May be NULL. */
	bool (*kick_here)(struct virtio *v, unsigned queue);
	/* DRIVER_OK was set. May be NULL. */
	void (*started)(struct virtio *v);
	/* A reset begins while chains are in flight: those that are parked are given back now. May
	 * be NULL if none is ever parked. */
	void (*resetting)(struct virtio *v);
	/* The driver is gone, nothing is in flight. May be NULL. */
	void (*stopped)(struct virtio *v);
	/* The driver resets this queue alone (2.6.1): virtio_has() and virtio_get() find nothing
	 * there until it is set up anew. Chains in flight come back as in a reset. May be NULL. */
	void (*queue_reset)(struct virtio *v, unsigned queue);
	/* The driver wrote config bytes (those that config_wmask lets it). May be NULL. */
	void (*config_written)(struct virtio *v, unsigned offset, unsigned size);
};

/* A transport, as the core sees it. v->lock held. */
struct virtio_transport_ops {
	/* isr: VIRTIO_ISR_*. vector: of the queue, or of config changes; may be NO_VECTOR. */
	void (*interrupt)(void *opaque, unsigned isr, uint16_t vector);
	void (*interrupt_clear)(void *opaque); /* the device was reset: no pending INTx */
	bool (*dma_allowed)(void *opaque);
};

struct virtio_queue {
	struct virtq ring;
	bool resetting; /* by itself: chains of it are still in flight */
	bool renewable; /* it was reset by itself, and may be set up while the device runs */
	int kick_fd; /* eventfd */
	struct loop_watch *watch;
	struct virtio *virtio;
};

struct virtio {
	pthread_mutex_t lock;
	pthread_cond_t idle;          /* nothing in flight any more */
	struct machine *machine;
	const struct virtio_ops *ops;
	const struct virtio_transport_ops *transport;
	void *transport_opaque;
	struct virtio_pci *pci;       /* transport.c's: one of the two */
	struct virtio_mmio *mmio;
	uint64_t offered, accepted;   /* features */
	uint8_t status;
	bool resetting;               /* status 0 was written, chains are still in flight */
	uint8_t generation;           /* of the config space */
	uint16_t vectors;             /* that the transport has */
	uint16_t config_vector;
	unsigned queue_count;
	unsigned in_flight;           /* chains, over all queues */
	unsigned parked;              /* of these: see virtio_park() */
	unsigned guest_errors;
	size_t config_size;
	uint8_t config[VIRTIO_CONFIG_MAX];
	uint8_t config_wmask[VIRTIO_CONFIG_MAX];
	struct virtio_queue queue[VIRTIO_QUEUES_MAX];
};

/* --- for device types ------------------------------------------------------------------------- */

struct virtio_info {
	const struct virtio_ops *ops;
	uint64_t features;          /* of this instance, within ops->features */
	uint64_t without;           /* features of rings that it keeps back */
	unsigned queue_count;       /* 1..VIRTIO_QUEUES_MAX */
	uint16_t queue_size;        /* power of two, at most VIRTQ_SIZE_MAX */
	const void *config;
	size_t config_size;         /* at most VIRTIO_CONFIG_MAX */
};

/* v is zeroed memory inside the device's struct. -ENOMEM, -EMFILE, ... */
int virtio_init(struct virtio *v, struct machine *machine, const struct virtio_info *info);
/* Waits until nothing is in flight. Fine on a zeroed struct. No vCPU runs. */
void virtio_fini(struct virtio *v);
/* For device_class.reset: waits until nothing is in flight, then as after virtio_init(). */
void virtio_reset_wait(struct virtio *v);
/* For device_class.pause: waits until nothing is in flight. What waits in the rings stays. */
void virtio_drain(struct virtio *v);

/* The rest with v->lock held. */
bool virtio_running(const struct virtio *v); /* DRIVER_OK, no reset under way, no guest error */
bool virtio_has_feature(const struct virtio *v, unsigned bit);
/* Is there something that virtio_get() would take now? False whenever the device must be quiet. */
bool virtio_has(struct virtio *v, unsigned queue);
/* As virtq_want_kicks(). */
void virtio_want_kicks(struct virtio *v, unsigned queue, bool want);
/* As virtq_get(); a guest error has been dealt with and gives 0. */
int virtio_get(struct virtio *v, unsigned queue, struct virtq_chain *chain);
/* As virtq_release(), or drops the chain when a reset is under way. Each chain once. */
void virtio_release(struct virtio *v, unsigned queue, const struct virtq_chain *chain,
		    uint32_t written);
/* As virtq_unget(), or drops the chain when a reset is under way. */
void virtio_unget(struct virtio *v, unsigned queue, const struct virtq_chain *chain);
/* Parks n more chains (or fewer): they are in flight, and come back only after the machine was
 * resumed, so virtio_drain() does not wait for them. */
void virtio_park(struct virtio *v, int n);
/* After releases: interrupts the driver if it wants that. */
void virtio_end(struct virtio *v, unsigned queue);
/* Rings the device's own bell: the queue is looked at again, on the loop thread. */
void virtio_kick_again(struct virtio *v, unsigned queue);
/* The guest broke a rule; `what` is said in the log. */
void virtio_guest_error(struct virtio *v, const char *what);
/* The device changed v->config: a new generation, and an interrupt. */
void virtio_config_changed(struct virtio *v);

/* --- for transports (any vCPU thread, no lock held) ------------------------------------------- */

void virtio_attach(struct virtio *v, const struct virtio_transport_ops *ops, void *opaque,
		   uint16_t vectors);

uint32_t virtio_device_features(struct virtio *v, uint32_t select);
uint32_t virtio_driver_features(struct virtio *v, uint32_t select);
void virtio_set_driver_features(struct virtio *v, uint32_t select, uint32_t value);
uint8_t virtio_status(struct virtio *v);
void virtio_set_status(struct virtio *v, uint8_t value);
uint16_t virtio_config_vector(struct virtio *v);
void virtio_set_config_vector(struct virtio *v, uint16_t vector);

enum virtio_queue_field {
	VIRTQ_SIZE_LIMIT, /* read-only: 0 for a queue that is not there */
	VIRTQ_SIZE,
	VIRTQ_VECTOR,
	VIRTQ_ENABLE,
	VIRTQ_RESET, /* reads 1 while the reset is under way */
	VIRTQ_DESC_LOW, VIRTQ_DESC_HIGH,
	VIRTQ_DRIVER_LOW, VIRTQ_DRIVER_HIGH,
	VIRTQ_DEVICE_LOW, VIRTQ_DEVICE_HIGH,
};
uint32_t virtio_queue_get(struct virtio *v, uint32_t queue, enum virtio_queue_field field);
void virtio_queue_set(struct virtio *v, uint32_t queue, enum virtio_queue_field field,
		      uint32_t value);
/* The driver's notification, where the engine did not ring the bell itself. */
void virtio_notify(struct virtio *v, uint32_t queue);
/* Should notifications come as exits of the vCPU, to virtio_notify(), and not as bells? */
bool virtio_wants_exits(const struct virtio *v);
/* -1 if there is no such queue. Does not change while the device lives. */
int virtio_notify_fd(const struct virtio *v, uint32_t queue);

uint8_t virtio_config_generation(struct virtio *v);
/* Bytes behind the end read as zero; writes there, and to read-only bytes, are dropped. */
uint64_t virtio_config_read(struct virtio *v, uint64_t offset, unsigned size);
void virtio_config_write(struct virtio *v, uint64_t offset, unsigned size, uint64_t value);

/* --- core.c's, for registers.c (v->lock held) -------------------------------------------------- */

/* 0 was written to the status: it is over at once, or when the last chain in flight is back. */
void virtio_begin_reset(struct virtio *v);
/* The same for one queue, where the driver chose RING_RESET and the queue runs (2.6.1); else nothing. */
void virtio_queue_reset(struct virtio *v, struct virtio_queue *q);

#endif
