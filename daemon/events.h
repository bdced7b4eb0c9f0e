/* SPDX-License-Identifier: Apache-2.0 */
/* events.h - what happened lately, numbered from 1 on in every start of the daemon. */
#ifndef DAEMON_EVENTS_H
#define DAEMON_EVENTS_H

#include "daemon/daemon.h"

#define EVENTS_KEPT 1024u

struct events *events_new(void); /* NULL: no memory */
struct events *events_free(struct events *events);
uint64_t events_first(const struct events *events); /* oldest number still known */
uint64_t events_next(const struct events *events);  /* number of the next one to happen */
/* The event of that number (first <= seq < next); the caller owns the reference. */
json_object *events_get(const struct events *events, uint64_t seq);
/* Something happened: adds seq and time to body (taken over), keeps it, sends it to subscribers. */
void events_add(struct daemon *daemon, const char *type, json_object *body);

#endif
