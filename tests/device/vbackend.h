/* SPDX-License-Identifier: Apache-2.0 */
/* vbackend.h - a vhost-user back-end for tests: well-behaved by default, every rule breakable. */
#ifndef TESTS_DEVICE_VBACKEND_H
#define TESTS_DEVICE_VBACKEND_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "devices/backend/vhost_wire.h"

#define VB_QUEUES 4u
#define VB_REGIONS 8u
#define VB_LOG 256u

enum vb_sin { /* what it does wrong at the request `sin_at` */
	VB_GOOD,
	VB_SILENT,         /* never answers */
	VB_OTHER_REQUEST,  /* answers another one */
	VB_NO_REPLY_FLAG,
	VB_SHORT, VB_LONG, /* four bytes less, or more */
	VB_HUGE,           /* says that a gigabyte follows */
	VB_VERSION,
	VB_REFUSE,         /* a number that is not 0; an empty answer */
	VB_TWICE,
	VB_HALF,           /* and then closes */
	VB_CLOSE,
	VB_ZERO, VB_ONES,  /* an answer of these bytes only */
};

struct vb_region {
	uint64_t gpa, size, user;
	uint8_t *host;
};

struct vb_ring {
	uint32_t size;
	uint8_t *desc, *avail, *used; /* NULL: not told */
	int kick_fd, call_fd;
	uint16_t last_avail, used_idx;
	bool enabled, running;
};

struct vbackend {
	int sock;                  /* -1: closed */
	uint64_t features, protocol, queues;
	uint8_t config[256];
	enum vb_sin sin;
	uint32_t sin_at;
	/* What it was told: */
	uint64_t accepted, accepted_protocol;
	unsigned region_count;
	struct vb_region region[VB_REGIONS];
	struct vb_ring ring[VB_QUEUES];
	int request_fd;            /* for requests of its own; -1: none */
	uint32_t log[VB_LOG];      /* requests, in order */
	unsigned logged;
	pthread_t thread;
	bool serving, stop;
};

struct vb_chain {
	uint16_t head;
	unsigned count;
	struct {
		uint64_t gpa;
		uint32_t len;
		bool write;
	} part[64];
};

/* A back-end with these features; the front-end's end of its socket is returned. */
int vb_open(struct vbackend *b, uint64_t features, uint64_t protocol, uint64_t queues);
void vb_close(struct vbackend *b); /* as if it had died */
/* Answers one request if one is there. False: there was none. */
bool vb_step(struct vbackend *b);
/* Answers on a thread of its own, until vb_rest(). */
void vb_serve(struct vbackend *b);
void vb_rest(struct vbackend *b);

/* The next chain that it was given. */
bool vb_take(struct vbackend *b, unsigned queue, struct vb_chain *chain);
/* Into the used ring, without a call. */
void vb_give(struct vbackend *b, unsigned queue, uint32_t head, uint32_t written);
void vb_call(struct vbackend *b, unsigned queue);
uint8_t *vb_memory(struct vbackend *b, uint64_t gpa, uint64_t len); /* NULL: in no region */
/* Its configuration changed: says so on its own socket. */
bool vb_config_changed(struct vbackend *b, bool need_reply);
unsigned vb_count(const struct vbackend *b, uint32_t request); /* how often it came */

#endif
