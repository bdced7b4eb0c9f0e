/* SPDX-License-Identifier: Apache-2.0 */
/* discover.c - the table of methods as an OpenRPC 1.2.6 document. */
#include <string.h>

#include "protocol/methods.h"

static void add_params(json_object *list, const struct schema_field *fields, bool required)
{
	for (; list && fields->name; fields++) {
		json_object *param;

		if (fields->required != required)
			continue;
		param = json_object_new_object();
		json_add_str(param, "name", fields->name);
		json_add_str(param, "summary", fields->summary);
		json_add_bool(param, "required", fields->required);
		json_add(param, "schema", schema_json(fields, true));
		json_object_array_add(list, param);
	}
}

static json_object *method_json(const struct method *m)
{
	json_object *object = json_object_new_object(), *params = json_object_new_array();
	json_object *result = json_object_new_object();

	json_add_str(object, "name", m->name);
	json_add_str(object, "summary", m->summary);
	json_add_str(object, "paramStructure", "by-name");
	/* OpenRPC wants the required ones first. */
	add_params(params, m->params, true);
	add_params(params, m->params, false);
	json_add(object, "params", params);
	json_add_str(result, "name", "result");
	json_add(result, "schema", schema_object_json(m->result, false));
	json_add(object, "result", result);
	json_add_str(object, "x-access", m->access == ACCESS_READ ? "read" : "write");
	if (m->fd)
		json_add_bool(object, "x-descriptor", true);
	return object;
}

static json_object *errors_json(void)
{
	json_object *errors = json_object_new_object();

	for (const struct rpc_code_info *c = rpc_codes(); c->code; c++) {
		json_object *error = json_object_new_object();

		json_add_int(error, "code", c->code);
		json_add_str(error, "message", c->summary);
		json_add(errors, c->reason, error);
	}
	return errors;
}

json_object *methods_openrpc(const char *version)
{
	json_object *document = json_object_new_object(), *info = json_object_new_object();
	json_object *list = json_object_new_array(), *components = json_object_new_object();

	json_add_str(info, "title", "vmxd");
	json_add_str(info, "version", version);
	json_add_str(document, "openrpc", "1.2.6");
	json_add(document, "info", info);
	for (enum method_id id = 0; list && id < METHOD_COUNT; id++)
		json_object_array_add(list, method_json(method_get(id)));
	json_add(document, "methods", list);
	json_add(components, "errors", errors_json());
	json_add(document, "components", components);
	return document;
}
