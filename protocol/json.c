/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/json_scan.h"

/* How many members all objects of the tree have; recursion is bounded by JSON_DEPTH_MAX. */
static size_t count_members(json_object *value)
{
	size_t n = 0;

	if (json_object_is_type(value, json_type_object)) {
		json_object_object_foreach(value, key, member) {
			(void)key;
			n += 1 + count_members(member);
		}
	} else if (json_object_is_type(value, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(value); i++)
			n += count_members(json_object_array_get_idx(value, i));
	}
	return n;
}

static void say(char *why, size_t why_size, const char *text)
{
	if (why && why_size)
		snprintf(why, why_size, "%s", text);
}

int json_parse(const char *text, size_t len, json_object **ret, char *why, size_t why_size)
{
	struct json_scan scan;
	json_tokener *tokener;
	json_object *object;
	enum json_tokener_error error;

	*ret = NULL;
	if (json_scan(text, len, JSON_DEPTH_MAX, &scan) < 0) {
		if (why && why_size)
			snprintf(why, why_size, "%s at byte %zu", scan.error, scan.offset);
		return -EBADMSG;
	}
	tokener = json_tokener_new_ex(JSON_DEPTH_MAX + 1);
	if (!tokener)
		return -ENOMEM;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	object = json_tokener_parse_ex(tokener, text + scan.begin, (int)(scan.end - scan.begin));
	error = json_tokener_get_error(tokener);
	/* A lone number has no end of its own: json-c wants to see what follows it. */
	if (error == json_tokener_continue) {
		object = json_tokener_parse_ex(tokener, "", 1);
		error = json_tokener_get_error(tokener);
	}
	json_tokener_free(tokener);
	if (error != json_tokener_success) {
		say(why, why_size, json_tokener_error_desc(error));
		json_object_put(object);
		return -EBADMSG;
	}
	/* json-c keeps the last of two equal keys, and so has fewer members than the text. */
	if (scan.members && count_members(object) != scan.members) {
		say(why, why_size, "the same key twice in one object");
		json_object_put(object);
		return -EBADMSG;
	}
	*ret = object;
	return 0;
}

const char *json_text(json_object *object)
{
	return json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN |
							      JSON_C_TO_STRING_NOSLASHESCAPE);
}

json_object *json_get(json_object *object, const char *key)
{
	json_object *value = NULL;

	if (json_object_is_type(object, json_type_object))
		json_object_object_get_ex(object, key, &value);
	return value;
}

const char *json_get_str(json_object *object, const char *key, const char *dflt)
{
	json_object *value = json_get(object, key);

	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : dflt;
}

int64_t json_get_int(json_object *object, const char *key, int64_t dflt)
{
	json_object *value = json_get(object, key);

	return json_object_is_type(value, json_type_int) ? json_object_get_int64(value) : dflt;
}

double json_get_number(json_object *object, const char *key, double dflt)
{
	json_object *value = json_get(object, key);

	if (json_object_is_type(value, json_type_int) ||
	    json_object_is_type(value, json_type_double))
		return json_object_get_double(value);
	return dflt;
}

bool json_get_bool(json_object *object, const char *key, bool dflt)
{
	json_object *value = json_get(object, key);

	return json_object_is_type(value, json_type_boolean) ? json_object_get_boolean(value) :
							       dflt;
}

void json_add(json_object *object, const char *key, json_object *value)
{
	if (!object || !value || json_object_object_add(object, key, value) < 0)
		json_object_put(value);
}

void json_add_str(json_object *object, const char *key, const char *value)
{
	if (!value)
		json_object_object_add(object, key, NULL);
	else
		json_add(object, key, json_object_new_string(value));
}

void json_add_int(json_object *object, const char *key, int64_t value)
{
	json_add(object, key, json_object_new_int64(value));
}

void json_add_bool(json_object *object, const char *key, bool value)
{
	json_add(object, key, json_object_new_boolean(value));
}

void json_add_double(json_object *object, const char *key, double value)
{
	char text[64];

	if (!isfinite(value))
		value = 0;
	snprintf(text, sizeof(text), "%.3f", value);
	json_add(object, key, json_object_new_double_s(value, text));
}

json_object *json_from_bytes(const char *bytes, size_t len)
{
	char *out = malloc(len * 3 + 1);
	json_object *value;
	size_t n = 0, i = 0;

	if (!out)
		return NULL;
	while (i < len) {
		size_t step = utf8_sequence((const unsigned char *)bytes + i, len - i);

		if (step) {
			memcpy(out + n, bytes + i, step);
			n += step;
			i += step;
		} else {
			memcpy(out + n, "\xef\xbf\xbd", 3);
			n += 3;
			i++;
		}
	}
	value = json_object_new_string_len(out, (int)n);
	free(out);
	return value;
}
