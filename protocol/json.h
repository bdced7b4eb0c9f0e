/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h - RFC 8259 and nothing more lenient, on top of json-c.
 *
 * json-c's strict mode still takes 'single quotes', NaN, raw control characters, overlong UTF-8 and
 * repeated keys, so text is scanned first and handed to json-c only when it is exact.
 */
#ifndef PROTOCOL_JSON_H
#define PROTOCOL_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>

#define JSON_DEPTH_MAX 32

/* Parses exactly one JSON text. The caller owns *ret (json_object_put). Any thread.
 * -EBADMSG: not JSON, and why (may be NULL) says where and what; -ENOMEM. A null text gives NULL. */
int json_parse(const char *text, size_t len, json_object **ret, char *why, size_t why_size);

/* One line without newline, valid as long as the object lives and is not printed again. */
const char *json_text(json_object *object);

/* Members of an object (NULL or another type is fine): the value, or the default if the member is
 * missing or of another type. Strings are borrowed. */
const char *json_get_str(json_object *object, const char *key, const char *dflt);
int64_t json_get_int(json_object *object, const char *key, int64_t dflt);
double json_get_number(json_object *object, const char *key, double dflt);
bool json_get_bool(json_object *object, const char *key, bool dflt);
json_object *json_get(json_object *object, const char *key); /* borrowed; NULL if missing */

/* Adders that take the value's ownership; a NULL value or object adds nothing. */
void json_add(json_object *object, const char *key, json_object *value);
void json_add_str(json_object *object, const char *key, const char *value); /* NULL: JSON null */
void json_add_int(json_object *object, const char *key, int64_t value);
void json_add_bool(json_object *object, const char *key, bool value);
void json_add_double(json_object *object, const char *key, double value); /* 3 decimals */

/* A string of a host that may hold any bytes, as JSON: what is not UTF-8 becomes U+FFFD. */
json_object *json_from_bytes(const char *bytes, size_t len);

#endif
