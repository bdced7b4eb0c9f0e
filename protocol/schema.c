/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/schema.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"

int size_parse(const char *text, uint64_t *ret_bytes)
{
	uint64_t value = 0, shift = 0;
	const char *p = text;

	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++)
		if (!checked_mul(value, (uint64_t)10, &value) ||
		    !checked_add(value, (uint64_t)(*p - '0'), &value))
			return -ERANGE;
	switch (*p) {
	case 'T': case 't':
		shift += 10;
		__attribute__((fallthrough));
	case 'G': case 'g':
		shift += 10;
		__attribute__((fallthrough));
	case 'M': case 'm':
		shift += 10;
		__attribute__((fallthrough));
	case 'K': case 'k':
		shift += 10;
		p++;
		break;
	default:
		break;
	}
	if (*p)
		return -EINVAL;
	return checked_mul(value, (uint64_t)1 << shift, ret_bytes) ? 0 : -ERANGE;
}

uint64_t json_get_size(json_object *object, const char *key, uint64_t dflt)
{
	json_object *value = json_get(object, key);
	uint64_t bytes;

	if (json_object_is_type(value, json_type_int))
		return (uint64_t)json_object_get_int64(value);
	if (json_object_is_type(value, json_type_string) &&
	    size_parse(json_object_get_string(value), &bytes) == 0)
		return bytes;
	return dflt;
}

bool name_valid(const char *name, size_t len)
{
	if (len < 1 || len > 64 || !isalnum((unsigned char)name[0]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)name[i]) && !memchr("._-", name[i], 3))
			return false;
	return true;
}

static int bad(struct rpc_error *error, const char *reason, const char *path, const char *what)
{
	return rpc_fail(error, RPC_INVALID_PARAMS, reason, path, "%s: %s", path, what);
}

static bool listed(const char *const *values, const char *text)
{
	for (; *values; values++)
		if (strcmp(*values, text) == 0)
			return true;
	return false;
}

static int bad_choice(const struct schema_field *f, const char *path, struct rpc_error *error)
{
	char list[200] = "";

	for (const char *const *v = f->values; *v; v++) {
		size_t n = strlen(list);

		snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", *v);
	}
	return rpc_fail(error, RPC_INVALID_PARAMS, "bad-value", path, "%s: must be one of: %s",
			path, list);
}

static int check_string(const struct schema_field *f, json_object *value, const char *path,
			struct rpc_error *error)
{
	const char *text;
	size_t len;

	if (!json_object_is_type(value, json_type_string))
		return bad(error, "wrong-type", path, "must be a string");
	text = json_object_get_string(value);
	len = (size_t)json_object_get_string_len(value);
	if (strlen(text) != len)
		return bad(error, "bad-value", path, "must not contain a NUL character");
	switch (f->type) {
	case SCHEMA_NAME:
		if (!name_valid(text, len))
			return bad(error, "bad-value", path,
				   "must be 1 to 64 letters, digits, '.', '_' or '-', "
				   "the first a letter or digit");
		return 0;
	case SCHEMA_PATH:
		if (len >= PATH_MAX)
			return bad(error, "too-long", path, "the path is too long");
		if (text[0] != '/')
			return bad(error, "bad-value", path, "must be an absolute path");
		return 0;
	case SCHEMA_ENUM:
		return listed(f->values, text) ? 0 : bad_choice(f, path, error);
	default:
		if ((int64_t)len < f->min)
			return bad(error, "bad-value", path, "is too short");
		if (f->max && (int64_t)len > f->max)
			return rpc_fail(error, RPC_INVALID_PARAMS, "too-long", path,
					"%s: is longer than %" PRId64 " bytes", path, f->max);
		return 0;
	}
}

static int bad_range(const struct schema_field *f, const char *path, struct rpc_error *error)
{
	return rpc_fail(error, RPC_INVALID_PARAMS, "out-of-range", path,
			"%s: must be from %" PRId64 " to %" PRId64, path, f->min, f->max);
}

static int check_number(const struct schema_field *f, json_object *value, const char *path,
			struct rpc_error *error)
{
	double number;

	if (json_object_is_type(value, json_type_int)) {
		int64_t v = json_object_get_int64(value);

		return f->max <= f->min || (v >= f->min && v <= f->max) ? 0 :
									 bad_range(f, path, error);
	}
	if (f->type == SCHEMA_INT || !json_object_is_type(value, json_type_double))
		return bad(error, "wrong-type", path,
			   f->type == SCHEMA_INT ? "must be an integer" : "must be a number");
	number = json_object_get_double(value);
	/* Written so that a NaN fails too. */
	if (f->max > f->min && !(number >= (double)f->min && number <= (double)f->max))
		return bad_range(f, path, error);
	return 0;
}

static int check_size(const struct schema_field *f, json_object *value, const char *path,
		      struct rpc_error *error)
{
	uint64_t bytes = 0;
	int r = 0;

	if (json_object_is_type(value, json_type_int)) {
		int64_t v = json_object_get_int64(value);

		bytes = v < 0 ? 0 : (uint64_t)v;
	} else if (json_object_is_type(value, json_type_string)) {
		if (json_object_get_string_len(value) > 32)
			r = -EINVAL;
		else
			r = size_parse(json_object_get_string(value), &bytes);
	} else {
		return bad(error, "wrong-type", path,
			   "must be a number of bytes or a string such as \"512M\"");
	}
	if (r == -EINVAL)
		return bad(error, "bad-value", path, "must be a size such as 512M or 2G");
	if (r < 0 || bytes < (uint64_t)f->min || bytes > (uint64_t)f->max)
		return rpc_fail(error, RPC_INVALID_PARAMS, "out-of-range", path,
				"%s: must be from %" PRId64 " to %" PRId64 " bytes", path, f->min,
				f->max);
	return 0;
}

static int check_array(const struct schema_field *f, json_object *value, const char *path,
		       struct rpc_error *error)
{
	size_t n;

	if (!json_object_is_type(value, json_type_array))
		return bad(error, "wrong-type", path, "must be an array");
	n = json_object_array_length(value);
	if (n > (size_t)f->max)
		return rpc_fail(error, RPC_INVALID_PARAMS, "too-many", path,
				"%s: at most %" PRId64 " are possible", path, f->max);
	for (size_t i = 0; i < n; i++) {
		json_object *item = json_object_array_get_idx(value, i);
		char where[96];
		int r;

		if (f->type == SCHEMA_STRINGS) {
			struct schema_field one = *f;

			one.type = f->values ? SCHEMA_ENUM : SCHEMA_STRING;
			one.min = 0;
			one.max = PATH_MAX;
			snprintf(where, sizeof(where), "%.70s[%zu]", path, i);
			r = check_string(&one, item, where, error);
		} else if (!json_object_is_type(item, json_type_object)) {
			snprintf(where, sizeof(where), "%.70s[%zu]", path, i);
			r = bad(error, "wrong-type", where, "must be an object");
		} else {
			snprintf(where, sizeof(where), "%.70s[%zu].", path, i);
			r = schema_check(f->fields, item, where, error);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int check_value(const struct schema_field *f, json_object *value, const char *path,
		       struct rpc_error *error)
{
	char prefix[96];

	switch (f->type) {
	case SCHEMA_STRING: case SCHEMA_NAME: case SCHEMA_PATH: case SCHEMA_ENUM:
		return check_string(f, value, path, error);
	case SCHEMA_BOOL:
		if (!json_object_is_type(value, json_type_boolean))
			return bad(error, "wrong-type", path, "must be true or false");
		return 0;
	case SCHEMA_INT: case SCHEMA_NUMBER:
		return check_number(f, value, path, error);
	case SCHEMA_SIZE:
		return check_size(f, value, path, error);
	case SCHEMA_OBJECT:
		if (!json_object_is_type(value, json_type_object))
			return bad(error, "wrong-type", path, "must be an object");
		snprintf(prefix, sizeof(prefix), "%.90s.", path);
		return schema_check(f->fields, value, prefix, error);
	case SCHEMA_OBJECTS: case SCHEMA_STRINGS:
		return check_array(f, value, path, error);
	case SCHEMA_ANY:
		return 0;
	}
	return 0;
}

static const struct schema_field *find_field(const struct schema_field *fields, const char *name)
{
	for (; fields->name; fields++)
		if (strcmp(fields->name, name) == 0)
			return fields;
	return NULL;
}

int schema_check(const struct schema_field *fields, json_object *params, const char *prefix,
		 struct rpc_error *error)
{
	char path[96];

	if (params && !json_object_is_type(params, json_type_object))
		return rpc_fail(error, RPC_INVALID_PARAMS, "not-an-object", "params",
				"params: must be an object, parameters go by name");
	if (params) {
		json_object_object_foreach(params, key, value) {
			const struct schema_field *f = find_field(fields, key);
			int r;

			snprintf(path, sizeof(path), "%s%.60s", prefix, key);
			if (!f)
				return bad(error, "unknown-field", path, "no such parameter");
			r = check_value(f, value, path, error);
			if (r < 0)
				return r;
		}
	}
	for (const struct schema_field *f = fields; f->name; f++) {
		if (f->required && !json_get(params, f->name)) {
			snprintf(path, sizeof(path), "%s%s", prefix, f->name);
			return bad(error, "missing-field", path, "is missing");
		}
	}
	return 0;
}
