/* SPDX-License-Identifier: Apache-2.0 */
/* schema_json.c - the same descriptions as JSON Schema, for rpc.discover. */
#include <limits.h>
#include <string.h>

#include "protocol/schema.h"

static const char *const type_texts[] = {
	[SCHEMA_STRING] = "string", [SCHEMA_NAME] = "name",       [SCHEMA_PATH] = "path",
	[SCHEMA_ENUM] = "word",     [SCHEMA_BOOL] = "boolean",    [SCHEMA_INT] = "integer",
	[SCHEMA_NUMBER] = "number", [SCHEMA_SIZE] = "size",       [SCHEMA_OBJECT] = "object",
	[SCHEMA_OBJECTS] = "array", [SCHEMA_STRINGS] = "array",   [SCHEMA_ANY] = "any value",
};

const char *schema_type_text(const struct schema_field *field)
{
	return type_texts[field->type];
}

static json_object *enum_json(const char *const *values)
{
	json_object *list = json_object_new_array();

	for (; list && *values; values++)
		json_object_array_add(list, json_object_new_string(*values));
	return list;
}

static void add_string_limits(json_object *schema, const struct schema_field *f)
{
	switch (f->type) {
	case SCHEMA_NAME:
		json_add_str(schema, "pattern", "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$");
		break;
	case SCHEMA_PATH:
		json_add_str(schema, "pattern", "^/");
		json_add_int(schema, "maxLength", PATH_MAX - 1);
		break;
	case SCHEMA_ENUM:
		json_add(schema, "enum", enum_json(f->values));
		break;
	default:
		if (f->min)
			json_add_int(schema, "minLength", f->min);
		if (f->max)
			json_add_int(schema, "maxLength", f->max);
		break;
	}
}

static json_object *size_json(const struct schema_field *f)
{
	json_object *either = json_object_new_array();
	json_object *number = json_object_new_object(), *text = json_object_new_object();
	json_object *schema = json_object_new_object();

	json_add_str(number, "type", "integer");
	json_add_int(number, "minimum", f->min);
	json_add_int(number, "maximum", f->max);
	json_add_str(text, "type", "string");
	json_add_str(text, "pattern", "^[0-9]+[KMGTkmgt]?$");
	if (either) {
		json_object_array_add(either, number);
		json_object_array_add(either, text);
	}
	json_add(schema, "oneOf", either);
	return schema;
}

static json_object *array_json(const struct schema_field *f, bool closed)
{
	json_object *schema = json_object_new_object(), *items;

	if (f->type == SCHEMA_OBJECTS) {
		items = schema_object_json(f->fields, closed);
	} else {
		items = json_object_new_object();
		json_add_str(items, "type", "string");
		if (f->values)
			json_add(items, "enum", enum_json(f->values));
	}
	json_add_str(schema, "type", "array");
	json_add(schema, "items", items);
	if (f->max)
		json_add_int(schema, "maxItems", f->max);
	return schema;
}

json_object *schema_json(const struct schema_field *f, bool closed)
{
	json_object *schema;

	switch (f->type) {
	case SCHEMA_SIZE:
		schema = size_json(f);
		break;
	case SCHEMA_OBJECT:
		schema = schema_object_json(f->fields, closed);
		break;
	case SCHEMA_OBJECTS: case SCHEMA_STRINGS:
		schema = array_json(f, closed);
		break;
	case SCHEMA_BOOL: case SCHEMA_INT: case SCHEMA_NUMBER:
		schema = json_object_new_object();
		json_add_str(schema, "type", schema_type_text(f));
		if (f->type != SCHEMA_BOOL && f->max > f->min) {
			json_add_int(schema, "minimum", f->min);
			json_add_int(schema, "maximum", f->max);
		}
		break;
	case SCHEMA_ANY:
		schema = json_object_new_object();
		break;
	default:
		schema = json_object_new_object();
		json_add_str(schema, "type", "string");
		add_string_limits(schema, f);
		break;
	}
	json_add_str(schema, "description", f->summary);
	return schema;
}

json_object *schema_object_json(const struct schema_field *fields, bool closed)
{
	json_object *schema = json_object_new_object(), *properties = json_object_new_object();
	json_object *required = json_object_new_array();

	json_add_str(schema, "type", "object");
	for (; fields->name; fields++) {
		json_add(properties, fields->name, schema_json(fields, closed));
		if (fields->required && required)
			json_object_array_add(required, json_object_new_string(fields->name));
	}
	json_add(schema, "properties", properties);
	if (required && json_object_array_length(required))
		json_add(schema, "required", required);
	else
		json_object_put(required);
	if (closed)
		json_add_bool(schema, "additionalProperties", false);
	return schema;
}
