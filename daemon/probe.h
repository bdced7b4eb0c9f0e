/* SPDX-License-Identifier: Apache-2.0 */
/* probe.h - which engine auto means here: `vmxd-machine --probe` runs guest code in a process of
 * its own, once, when somebody first asks; the result is kept. */
#ifndef DAEMON_PROBE_H
#define DAEMON_PROBE_H

#include "daemon/daemon.h"

/* result: as of daemon.probe, borrowed; NULL if it could not be had, and why. */
typedef void probe_done_fn(void *opaque, json_object *result, const char *why);

struct probe *probe_new(struct daemon *daemon);
/* Calls done now, if the result is known, or later. refresh: measures again. -ENOMEM. */
int probe_ask(struct probe *probe, bool refresh, probe_done_fn *done, void *opaque);
/* done will not be called for opaque. */
void probe_forget(struct probe *probe, void *opaque);
/* Before the loop ends. */
void probe_stop(struct probe *probe);
struct probe *probe_free(struct probe *probe);

#endif
