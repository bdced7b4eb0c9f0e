/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - configurations on disk: STATE/vm/NAME.json, one a VM. */
#ifndef DAEMON_STORE_H
#define DAEMON_STORE_H

#include "daemon/vm.h"

/* Durable when it returns. Negative errno. */
int store_save(struct daemon *daemon, const char *name, json_object *config);
void store_remove(struct daemon *daemon, const char *name);
/* Makes the directory and adds a VM for each file; what is no valid configuration is logged and
 * left alone. Negative errno only if the directory cannot be used. */
int store_load(struct daemon *daemon);

#endif
