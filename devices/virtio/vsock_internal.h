/* SPDX-License-Identifier: Apache-2.0 */
/* vsock_internal.h - shared by vsock.c (rings, packets, life) and vsock_conn.c (connections) only. */
#ifndef DEVICES_VIRTIO_VSOCK_INTERNAL_H
#define DEVICES_VIRTIO_VSOCK_INTERNAL_H

#include <sys/queue.h>

#include "devices/backend/fifo.h"
#include "devices/virtio/core.h"
#include "devices/virtio/vsock.h"
#include "machine/loop.h"
#include "machine/timer.h"

#define VSOCK_HOST_CID 2u
#define VSOCK_HEADER 44u      /* struct virtio_vsock_hdr (5.10.6) */
#define VSOCK_STREAM 1u       /* its type */
#define VSOCK_RESETS_STALL 64u /* that many unread resets, and the guest is not listened to */
/* A stalled guest's connections may each need one more; new ones it does not hear of before it has
 * read all of these. */
#define VSOCK_RESETS_MAX (VSOCK_RESETS_STALL + VIRTIO_VSOCK_CONNECTIONS_MAX)
#define VSOCK_BUCKETS 64u     /* power of two */

enum { VSOCK_QUEUE_RX = 0, VSOCK_QUEUE_TX = 1, VSOCK_QUEUE_EVENT = 2 };

enum { /* its op */
	VSOCK_REQUEST = 1, VSOCK_RESPONSE = 2, VSOCK_RST = 3, VSOCK_SHUTDOWN = 4, VSOCK_RW = 5,
	VSOCK_CREDIT_UPDATE = 6, VSOCK_CREDIT_REQUEST = 7,
};

enum { /* flags of a shutdown: the sender of it will not do this any more */
	VSOCK_NO_RECEIVE = 1, VSOCK_NO_SEND = 2, VSOCK_NEITHER = 3,
};

/*
 *     host connects --> GREETING --CONNECT n--> ASKING --RESPONSE--> OPEN
 *     guest connects -> DIALLING --answer-------------------------> OPEN
 *
 * A reset by the guest, the end of both directions, a rule broken or a deadline ends each of them.
 */
enum vsock_state {
	VSOCK_GREETING, /* has no ports yet: the guest does not know it */
	VSOCK_ASKING,
	VSOCK_DIALLING,
	VSOCK_OPEN,
	VSOCK_DRAINING, /* the guest is done with it, and forgot it; the host has something to read yet */
	VSOCK_DEAD,     /* waits to be swept */
};

struct vsock_conn {
	struct virtio_vsock *vsock;
	enum vsock_state state;
	uint32_t id;                /* DIALLING */
	uint32_t guest_port, host_port;
	int fd;                     /* -1: none yet */
	struct loop_watch *watch;   /* edge-triggered */
	bool readable;              /* since the last time it was not */
	unsigned tell;              /* bit n: a packet with op n is to be sent, and no data before */
	unsigned guest_done, host_done; /* VSOCK_NO_* */
	unsigned told_done;         /* of host_done */
	bool shut;                  /* the socket was told that the guest sends no more */
	/* Free-running (5.10.6.3). To the guest: */
	uint32_t sent, guest_buffer, guest_forwarded;
	bool begged;                /* for credit, since there was some */
	/* From the guest: */
	uint32_t received, forwarded, told_forwarded;
	struct fifo out;            /* bytes NULL: nothing had to wait yet */
	uint64_t deadline;          /* machine time; 0: none */
	bool ready;                 /* in vsock.ready */
	TAILQ_ENTRY(vsock_conn) ready_link;
	TAILQ_ENTRY(vsock_conn) link;  /* vsock.conns, or vsock.dead */
	bool known;                    /* in a bucket */
	LIST_ENTRY(vsock_conn) bucket;
};

TAILQ_HEAD(vsock_queue, vsock_conn);

struct vsock_header {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buffer, forwarded;
};

struct virtio_vsock {
	struct device dev;
	struct virtio virtio;
	uint64_t cid;
	void (*wanted)(void *opaque);
	void *opaque;
	int listen_fd;
	struct loop_watch *listen_watch;
	/* virtio.lock */
	bool paused;
	bool stalled;               /* the guest's packets wait until its resets were read */
	bool lost;                  /* connections were lost that a driver may think it has */
	struct vsock_queue conns, dead;
	unsigned count;             /* of both */
	struct vsock_queue ready;   /* have something for the guest */
	LIST_HEAD(, vsock_conn) known[VSOCK_BUCKETS]; /* by their ports */
	unsigned first_reset, resets;
	struct vsock_header reset[VSOCK_RESETS_MAX]; /* to be sent; a ring */
	uint32_t asked;             /* id of the connection that the owner was asked for; 0: none */
	uint64_t asked_until;       /* then it has forgotten */
	uint32_t last_id, last_port;
	struct timer tick;          /* looks at the deadlines */
	struct loop_call post;      /* something is dead, or was answered */
	struct virtq_chain chain;   /* one at a time */
};

/* --- vsock_conn.c: all with virtio.lock held, on the loop thread unless it is said ---------------- */

/* NULL: too many, or no memory. */
struct vsock_conn *vsock_conn_new(struct virtio_vsock *s, enum vsock_state state);
/* The guest knows it by these ports from now on. */
void vsock_conn_know(struct vsock_conn *c, uint32_t guest_port, uint32_t host_port);
struct vsock_conn *vsock_conn_find(struct virtio_vsock *s, uint32_t guest_port,
				   uint32_t host_port);
/* Ends all without a word. Any thread. */
void vsock_conn_kill_all(struct virtio_vsock *s);
/* Ends it, and the guest is told if it knows it. The memory is good until the loop's next turn, as
 * with all that may end it. Any thread. */
void vsock_conn_abort(struct vsock_conn *c);
/* The guest ended it. */
void vsock_conn_reset(struct vsock_conn *c);
/* Puts it among those that have something for the guest, if it has. */
void vsock_conn_touch(struct vsock_conn *c);
/* Bytes that the guest has room for. */
uint32_t vsock_conn_credit(const struct vsock_conn *c);
/* The guest accepted it. */
void vsock_conn_accepted(struct vsock_conn *c);
/* The guest sends no more, or reads no more. */
void vsock_conn_shutdown(struct vsock_conn *c, unsigned flags);
/* Takes len bytes at VSOCK_HEADER of the chain that came from the TX ring; more than it has credit
 * for, and it is aborted. */
void vsock_conn_take(struct vsock_conn *c, uint32_t len);
/* Fills the chain that came from the RX ring, behind its header. How many bytes; 0: nothing. */
uint32_t vsock_conn_fill(struct vsock_conn *c);
/* It is ended unless it gets further within that time. */
void vsock_conn_deadline(struct vsock_conn *c, uint64_t ns);
/* Looks at all again: events may have been lost in a pause. */
void vsock_conn_retry_all(struct virtio_vsock *s);
/* Frees what is dead. No lock held. */
void vsock_sweep(struct virtio_vsock *s);

/* Callbacks; no lock held. */
loop_fn vsock_host_connects;
loop_post_fn vsock_posted;
timer_fn vsock_tick;

/* --- vsock.c: lock held ---------------------------------------------------------------------------- */

/* Sends what is to be sent to the guest. Loop thread. */
void vsock_serve(struct virtio_vsock *s);
/* A reset, as the answer to (or in place of) a packet with these ports. Any thread. */
void vsock_push_reset(struct virtio_vsock *s, uint64_t host_cid, uint32_t host_port,
		      uint32_t guest_port, uint16_t type);

#endif
