/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/rpc.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct rpc_code_info codes[] = {
	{ RPC_PARSE_ERROR, "parse-error", "The line is not one JSON text in UTF-8." },
	{ RPC_INVALID_REQUEST, "invalid-request",
	  "Not a request, an empty or too long batch, or a line over 1 MiB." },
	{ RPC_METHOD_NOT_FOUND, "no-such-method", "No method of that name." },
	{ RPC_INVALID_PARAMS, "invalid-params",
	  "A parameter is unknown, missing, of a wrong type or has a value that cannot be." },
	{ RPC_INTERNAL, "internal", "A fault of vmxd's own." },
	{ RPC_FAILED, "failed", "The host refused; data.errno says what." },
	{ RPC_NO_SUCH_VM, "no-such-vm", "No VM of that name." },
	{ RPC_WRONG_STATE, "wrong-state", "Not possible in the state the VM is in." },
	{ RPC_EXISTS, "exists", "The name is taken." },
	{ RPC_BUSY, "busy", "Something that the VM needs is in use." },
	{ RPC_LIMIT, "limit", "A limit of the daemon is reached." },
	{ RPC_DENIED, "denied", "The caller may not do that." },
	{ RPC_TIMEOUT, "timeout", "The time given is over." },
	{ RPC_BOOT_ERROR, "boot-error", "The guest's image cannot be loaded." },
	{ RPC_NO_ENGINE, "no-engine", "No engine can run here, or not the one asked for." },
	{ RPC_MACHINE_DIED, "machine-died", "The VM's process ended unexpectedly." },
	{ 0, NULL, NULL },
};

const struct rpc_code_info *rpc_codes(void)
{
	return codes;
}

const char *rpc_code_reason(int code)
{
	for (const struct rpc_code_info *c = codes; c->code; c++)
		if (c->code == code)
			return c->reason;
	return "unknown";
}

int rpc_fail(struct rpc_error *error, enum rpc_code code, const char *reason, const char *field,
	     const char *fmt, ...)
{
	va_list ap;

	memset(error, 0, sizeof(*error));
	error->code = code;
	snprintf(error->reason, sizeof(error->reason), "%s",
		 reason ? reason : rpc_code_reason(code));
	snprintf(error->field, sizeof(error->field), "%s", field ? field : "");
	va_start(ap, fmt);
	vsnprintf(error->message, sizeof(error->message), fmt, ap);
	va_end(ap);
	return -EINVAL;
}

/* String, integer or null; returns false for what cannot be echoed exactly. */
static bool id_usable(json_object *id)
{
	int64_t value;

	switch (json_object_get_type(id)) {
	case json_type_null:
		return true;
	case json_type_string:
		return json_object_get_string_len(id) <= RPC_ID_LEN_MAX;
	case json_type_int:
		/* json-c saturates what does not fit: the ends may stand for any number. */
		value = json_object_get_int64(id);
		return value != INT64_MAX && value != INT64_MIN;
	default:
		return false;
	}
}

int rpc_request_parse(json_object *message, struct rpc_request *ret, struct rpc_error *error)
{
	json_object *version, *method;

	memset(ret, 0, sizeof(*ret));
	if (!json_object_is_type(message, json_type_object)) {
		ret->has_id = true; /* what it was cannot be known: answer with id null */
		return rpc_fail(error, RPC_INVALID_REQUEST, NULL, NULL,
				"a request is a JSON object");
	}
	ret->has_id = json_object_object_get_ex(message, "id", &ret->id);
	if (ret->has_id && !id_usable(ret->id)) {
		ret->id = NULL;
		return rpc_fail(error, RPC_INVALID_REQUEST, "bad-id", "id",
				"id is a string of at most %d bytes, a 64-bit integer or null",
				RPC_ID_LEN_MAX);
	}
	version = json_get(message, "jsonrpc");
	method = json_get(message, "method");
	if (!json_object_is_type(version, json_type_string) ||
	    strcmp(json_object_get_string(version), "2.0") != 0) {
		rpc_fail(error, RPC_INVALID_REQUEST, "bad-version", "jsonrpc",
			 "\"jsonrpc\" must be \"2.0\"");
		goto invalid;
	}
	if (!json_object_is_type(method, json_type_string)) {
		rpc_fail(error, RPC_INVALID_REQUEST, "bad-method", "method",
			 "\"method\" must be a string");
		goto invalid;
	}
	json_object_object_foreach(message, key, value) {
		(void)value;
		if (strcmp(key, "jsonrpc") && strcmp(key, "method") && strcmp(key, "params") &&
		    strcmp(key, "id")) {
			rpc_fail(error, RPC_INVALID_REQUEST, "unknown-field", key,
				 "a request has no member \"%.64s\"", key);
			goto invalid;
		}
	}
	ret->method = json_object_get_string(method);
	if (strlen(ret->method) != (size_t)json_object_get_string_len(method))
		ret->method = ""; /* a NUL in it: no method is called so */
	if (json_object_object_get_ex(message, "params", &ret->params) && !ret->params) {
		rpc_fail(error, RPC_INVALID_REQUEST, "bad-params", "params",
			 "\"params\" must be an object");
		goto invalid;
	}
	return 0;
invalid:
	/* Without a valid shape nobody can say that it was a notification: answer, with id null if
	 * there is none (JSON-RPC 2.0, section 5). */
	ret->has_id = true;
	return -EINVAL;
}

static json_object *envelope(void)
{
	json_object *message = json_object_new_object();

	json_add_str(message, "jsonrpc", "2.0");
	return message;
}

static void add_id(json_object *message, json_object *id)
{
	json_object_object_add(message, "id", json_object_get(id));
}

json_object *rpc_reply(json_object *id, json_object *result)
{
	json_object *message = envelope();

	if (!message) {
		json_object_put(result);
		return NULL;
	}
	json_object_object_add(message, "result", result);
	add_id(message, id);
	return message;
}

static json_object *safe_string(const char *text)
{
	return json_from_bytes(text, strlen(text));
}

json_object *rpc_error_reply(json_object *id, const struct rpc_error *error)
{
	json_object *message = envelope(), *body = json_object_new_object();
	json_object *data = json_object_new_object();

	json_add_int(body, "code", error->code);
	json_add(body, "message", safe_string(error->message));
	json_add_str(data, "reason", error->reason);
	if (error->field[0])
		json_add(data, "field", safe_string(error->field));
	if (error->err)
		json_add_int(data, "errno", error->err);
	json_add(body, "data", data);
	if (!message) {
		json_object_put(body);
		return NULL;
	}
	json_add(message, "error", body);
	add_id(message, id);
	return message;
}

json_object *rpc_notification(const char *method, json_object *params)
{
	json_object *message = envelope();

	if (!message) {
		json_object_put(params);
		return NULL;
	}
	json_add_str(message, "method", method);
	json_add(message, "params", params);
	return message;
}

json_object *rpc_request_new(int64_t id, const char *method, json_object *params)
{
	json_object *message = rpc_notification(method, params);

	if (message)
		json_add_int(message, "id", id);
	return message;
}

void rpc_error_parse(json_object *error_object, struct rpc_error *ret)
{
	json_object *data = json_get(error_object, "data");

	rpc_fail(ret, (enum rpc_code)json_get_int(error_object, "code", RPC_INTERNAL),
		 json_get_str(data, "reason", NULL), json_get_str(data, "field", NULL), "%s",
		 json_get_str(error_object, "message", "an error without a message"));
	ret->err = (int)json_get_int(data, "errno", 0);
}
