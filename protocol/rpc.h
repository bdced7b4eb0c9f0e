/* SPDX-License-Identifier: Apache-2.0 */
/* rpc.h - JSON-RPC 2.0: what a message is, and how answers and errors look. */
#ifndef PROTOCOL_RPC_H
#define PROTOCOL_RPC_H

#include <stdbool.h>

#include "protocol/json.h"

#define RPC_BATCH_MAX 64
#define RPC_ID_LEN_MAX 256 /* bytes of a string id */

enum rpc_code { /* -32000..-32099 are ours; data.reason says more */
	RPC_PARSE_ERROR = -32700,
	RPC_INVALID_REQUEST = -32600,
	RPC_METHOD_NOT_FOUND = -32601,
	RPC_INVALID_PARAMS = -32602,
	RPC_INTERNAL = -32603,
	RPC_FAILED = -32000,        /* the host refused: data.errno */
	RPC_NO_SUCH_VM = -32001,
	RPC_WRONG_STATE = -32002,
	RPC_EXISTS = -32003,
	RPC_BUSY = -32004,
	RPC_LIMIT = -32005,
	RPC_DENIED = -32006,
	RPC_TIMEOUT = -32007,
	RPC_BOOT_ERROR = -32008,    /* the guest's image cannot be loaded */
	RPC_NO_ENGINE = -32009,     /* no engine can run here, or not the one asked for */
	RPC_MACHINE_DIED = -32010,  /* vmxd-machine ended without a word */
};

struct rpc_error {
	int code;          /* enum rpc_code, 0: none */
	int err;           /* positive errno, 0: none */
	char reason[40];   /* one word for programs: "no-such-vm" */
	char field[96];    /* the parameter meant, "disks[1].path"; may be empty */
	char message[512]; /* one sentence for people */
};

/* Fills *error. reason NULL gives the code's own word, field NULL none. Always returns -EINVAL, so
 * that a check can `return rpc_fail(...)`. Bytes of peers in fmt's arguments are made UTF-8 when
 * the error is printed. */
int rpc_fail(struct rpc_error *error, enum rpc_code code, const char *reason, const char *field,
	     const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* The word of a code: "no-such-vm", "wrong-state", ... */
const char *rpc_code_reason(int code);
/* All codes that exist, for rpc.discover and the man page; ends with code 0. */
struct rpc_code_info {
	int code;
	const char *reason;
	const char *summary;
};
const struct rpc_code_info *rpc_codes(void);

struct rpc_request {
	json_object *id;     /* borrowed; NULL with has_id is the id null */
	bool has_id;         /* false: a notification, never answered */
	const char *method;  /* borrowed */
	json_object *params; /* borrowed; NULL when absent */
};

/* Is message one valid request? Everything in *ret is borrowed from it. On an error *ret still tells
 * the id if there was a usable one. -EINVAL with *error. */
int rpc_request_parse(json_object *message, struct rpc_request *ret, struct rpc_error *error);

/* New messages; the caller owns them. id is copied; result is taken over. NULL: no memory. */
json_object *rpc_reply(json_object *id, json_object *result);
json_object *rpc_error_reply(json_object *id, const struct rpc_error *error);
json_object *rpc_notification(const char *method, json_object *params);
json_object *rpc_request_new(int64_t id, const char *method, json_object *params);

/* The error object of a reply, back into a struct (unknown shapes give RPC_INTERNAL). */
void rpc_error_parse(json_object *error_object, struct rpc_error *ret);

#endif
