/* SPDX-License-Identifier: Apache-2.0 */
/* host.h - what this host has for devices of VMs, beside its engines and its sandbox. */
#ifndef DAEMON_HOST_H
#define DAEMON_HOST_H

#include "protocol/json.h"

/* The program virtiofsd, or NULL: it is not installed. */
const char *host_virtiofsd(void);
/* A facility each, tried as this user: {name, usable, why, advice}. Touches some megabytes of memory for
 * a moment. The caller owns the list. */
json_object *host_facilities(void);

#endif
