/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost_peer.h - a vhost-user back-end, as its front-end sees it: what may be said to it, and when.
 *
 *     GONE -- connect --> GREETING --> IDLE -- start --> STARTING --> RUNNING
 *       ^                                ^                              |
 *       |                                +-------- STOPPING <-- stop ---+
 *       +---- from everywhere: it hung up, broke a rule, did not answer in time, or was dropped
 *
 * Each step is a script of messages (vhost_script.c has them as tables). Nothing waits for the peer but
 * vhost_peer_wait(): its answers are events of the loop, and one that stays away longer than
 * VHOST_REPLY_MS costs the connection. What a peer may be wrong about is its connection's end, with a
 * sentence that says what it was (vhost_peer.why): versions, sizes, answers to nothing, answers to
 * something else, refusals, features that cannot be.
 *
 * In GONE, GREETING and IDLE the peer may touch no ring; one that has gone is taken to be dead.
 *
 * Threads: all of it on the loop thread, or while that is stopped.
 */
#ifndef DEVICES_BACKEND_VHOST_PEER_H
#define DEVICES_BACKEND_VHOST_PEER_H

#include <stdarg.h>

#include "devices/backend/vhost_setup.h"
#include "devices/backend/vhost_wire.h"
#include "machine/timer.h"

#define VHOST_REPLY_MS 5000u
#define VHOST_USER_REGIONS_MAX 8u /* of memory, that a message can tell of */
#define VHOST_CONFIG_MAX 256u

struct loop_watch;
struct machine;

enum vhost_phase {
	VHOST_GONE, VHOST_GREETING, VHOST_IDLE, VHOST_STARTING, VHOST_RUNNING, VHOST_STOPPING,
};

struct vhost_peer_ops {
	/* It is now in IDLE, RUNNING or GONE. */
	void (*changed)(void *opaque);
	/* It has told its configuration space again: p->config. */
	void (*config)(void *opaque);
};

struct vhost_step;

struct vhost_peer {
	struct machine *machine;
	const struct vhost_peer_ops *ops;
	void *opaque;
	size_t config_size;     /* bytes of the configuration space that it is asked for; 0: none */
	enum vhost_phase phase;
	/* From IDLE on: */
	uint64_t features;      /* all that it offers */
	uint64_t protocol;      /* in use */
	unsigned queues;        /* most that it has */
	uint8_t config[VHOST_CONFIG_MAX];
	char why[160];          /* GONE: why */
	struct vhost_setup setup; /* what start() tells; stays until the next one */
	/* vhost_peer.c's: */
	int fd, request_fd;     /* -1: none. request_fd: where the peer's own requests come */
	struct loop_watch *watch, *request_watch;
	struct timer timer;
	struct vhost_reader reader, request_reader;
	const struct vhost_step *step; /* of the script that runs; NULL: none */
	unsigned queue;         /* of a step that is for each */
	bool waiting;           /* for the step's answer */
	bool reread;            /* its configuration changed */
	enum vhost_phase next;  /* when the script is through */
};

/* config_size: at most VHOST_CONFIG_MAX. */
void vhost_peer_init(struct vhost_peer *p, struct machine *machine,
		     const struct vhost_peer_ops *ops, void *opaque, size_t config_size);
/* Closes the socket. Fine on a zeroed struct. */
void vhost_peer_fini(struct vhost_peer *p);

/* GONE -> GREETING. fd: a connected stream socket, the peer's after success. What socketpair() or
 * epoll say. */
int vhost_peer_connect(struct vhost_peer *p, int fd);
/* IDLE -> STARTING, with p->setup as it was filled in. */
void vhost_peer_start(struct vhost_peer *p);
/* RUNNING -> STOPPING. When it is in IDLE, it does not touch rings and memory any more. */
void vhost_peer_stop(struct vhost_peer *p);
/* -> GONE with this sentence; ops->changed is called. */
void vhost_peer_drop(struct vhost_peer *p, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* A script is running: start() and stop() must wait for ops->changed. */
bool vhost_peer_busy(const struct vhost_peer *p);
/* Waits, at most ms of the host's time, until none is; a peer that takes longer is dropped. */
void vhost_peer_wait(struct vhost_peer *p, int ms);
/* How the peer calls a guest-physical address. */
uint64_t vhost_user_address(uint64_t gpa);

#endif
