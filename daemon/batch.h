/* SPDX-License-Identifier: Apache-2.0 */
/* batch.h - the answers of one JSON-RPC batch, sent together when the last one is there. */
#ifndef DAEMON_BATCH_H
#define DAEMON_BATCH_H

#include "protocol/json.h"

struct batch;
struct conn;

/* parts: how often batch_add() will be called. NULL: no memory. */
struct batch *batch_new(struct conn *conn, size_t parts);
/* One part is done; message (taken over) may be NULL: nothing to say. After the last part the batch
 * is sent, unless it is empty, and freed. */
void batch_add(struct batch *batch, json_object *message);
/* The connection ends before the batch does. */
void batch_orphan(struct batch *batch);

#endif
