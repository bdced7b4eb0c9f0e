/* SPDX-License-Identifier: Apache-2.0 */
/* methods_internal.h - what the table of methods (methods.c) takes from the fields of a VM's
 * configuration (vm_config.c), and how both are written. */
#ifndef PROTOCOL_METHODS_INTERNAL_H
#define PROTOCOL_METHODS_INTERNAL_H

#include "protocol/methods.h"

#define MIB ((int64_t)1 << 20)
#define TIB ((int64_t)1 << 40)
#define END { .name = NULL }

/* Words of an enum, up to NULL. */
extern const char *const engine_words[], *const net_kind_words[], *const vhost_device_words[];
/* One disk, network card, vhost-user device. */
extern const struct schema_field disk_config_fields[], net_config_fields[], vhost_config_fields[];

#endif
