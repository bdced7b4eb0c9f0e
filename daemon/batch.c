/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/batch.h"

#include <stdlib.h>

#include "daemon/conn.h"

struct batch {
	struct conn *conn; /* NULL: gone */
	size_t left;
	json_object *answers;
};

struct batch *batch_new(struct conn *conn, size_t parts)
{
	struct batch *batch = calloc(1, sizeof(*batch));

	if (!batch)
		return NULL;
	batch->conn = conn;
	batch->left = parts;
	batch->answers = json_object_new_array();
	if (!batch->answers) {
		free(batch);
		return NULL;
	}
	return batch;
}

void batch_orphan(struct batch *batch)
{
	batch->conn = NULL;
}

void batch_add(struct batch *batch, json_object *message)
{
	if (message && json_object_array_add(batch->answers, message) < 0)
		json_object_put(message);
	if (--batch->left)
		return;
	if (batch->conn && json_object_array_length(batch->answers))
		conn_send(batch->conn, batch->answers, -1);
	else
		json_object_put(batch->answers);
	free(batch);
}
