/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h - a character stream whose other end comes and goes: a connected descriptor for ever, or
 * whoever connects to a listening unix socket, one at a time.
 *
 * A peer that leaves is shown as gone once all it said was read; who connects before that waits. Who
 * connects while another is there is turned away at once.
 */
#ifndef DEVICES_BACKEND_PEER_H
#define DEVICES_BACKEND_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct peer;

struct peer_events { /* on the loop thread, no lock held */
	void (*input)(void *opaque);   /* peer_read() has something */
	void (*room)(void *opaque);    /* peer_room() grew */
	void (*changed)(void *opaque); /* peer_connected() changed */
};

/* fd: a non-blocking stream, as of console.h, or a listening unix socket. It belongs to the peer
 * after success only. events must outlive the peer. -ENOMEM, or what epoll says. */
int peer_create(struct loop *loop, int fd, const struct peer_events *events, void *opaque,
		struct peer **ret_peer);
/* On the loop thread, not from an event, or while that is stopped. NULL is fine; returns NULL. */
struct peer *peer_destroy(struct peer *p);
/* As console_sync(). */
void peer_sync(struct peer *p);

/* The rest: on the loop thread, with a device's lock held. */
bool peer_connected(const struct peer *p);
size_t peer_room(struct peer *p); /* bytes that peer_write() takes; nobody there: without limit */
size_t peer_write(struct peer *p, const uint8_t *bytes, size_t n); /* how many it took */
size_t peer_pending(struct peer *p);
size_t peer_read(struct peer *p, uint8_t *bytes, size_t n);

#endif
