/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_script.h - the messages that take a vhost-user back-end from one phase to the next
 * (vhost_peer.h), as tables. Loop thread. */
#ifndef DEVICES_BACKEND_VHOST_SCRIPT_H
#define DEVICES_BACKEND_VHOST_SCRIPT_H

#include "devices/backend/vhost_peer.h"

struct vhost_step {
	uint32_t request; /* 0: the end of the script */
	bool each;        /* for each vring */
	/* Without an answer of its own a message is acknowledged, if that was negotiated. */
	bool (*when)(const struct vhost_peer *p);           /* NULL: always */
	void (*fill)(struct vhost_peer *p, struct vhost_message *m); /* NULL: no payload */
	/* The answer; false: refused, the peer is dropped already. */
	bool (*take)(struct vhost_peer *p, const struct vhost_message *m);
};

extern const struct vhost_step vhost_greeting[], vhost_starting[], vhost_stopping[];
/* The peer said that its configuration space changed. */
extern const struct vhost_step vhost_rereading[];

/* A reply that is one number. False: it is not, and the peer is dropped. */
bool vhost_take_number(struct vhost_peer *p, const struct vhost_message *m, uint64_t *ret);
/* It has a configuration space, and tells it. */
bool vhost_has_config(const struct vhost_peer *p);
/* bit: VHOST_PROTOCOL_*, in use with that peer. */
static inline bool vhost_peer_speaks(const struct vhost_peer *p, unsigned bit)
{
	return p->protocol >> bit & 1;
}

#endif
