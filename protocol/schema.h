/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schema.h - what parameters look like, as data: one description checks what peers send, makes the
 * OpenRPC document and the man page.
 */
#ifndef PROTOCOL_SCHEMA_H
#define PROTOCOL_SCHEMA_H

#include "protocol/rpc.h"

enum schema_type {
	SCHEMA_STRING,  /* min..max bytes, no NUL */
	SCHEMA_NAME,    /* 1..64 of [A-Za-z0-9._-], first a letter or digit */
	SCHEMA_PATH,    /* absolute, under PATH_MAX, no NUL */
	SCHEMA_ENUM,    /* one of values */
	SCHEMA_BOOL,
	SCHEMA_INT,     /* min..max */
	SCHEMA_NUMBER,  /* min..max, fractions allowed */
	SCHEMA_SIZE,    /* bytes as an integer, or "512M" (K M G T: powers of 1024); min..max bytes */
	SCHEMA_OBJECT,  /* fields */
	SCHEMA_OBJECTS, /* array of min..max objects of fields */
	SCHEMA_STRINGS, /* array of min..max strings, each one of values when there are values */
	SCHEMA_ANY,
};

struct schema_field {
	const char *name; /* NULL ends a list */
	enum schema_type type;
	bool required;
	int64_t min, max; /* both 0: no limit (a size and an array always have one) */
	const char *const *values;         /* NULL-ended */
	const struct schema_field *fields; /* of OBJECT and OBJECTS */
	const char *dflt;                  /* as text, for people; NULL: none */
	const char *summary;
};

/* Is params (NULL counts as {}) an object of exactly these fields? On an error the message and
 * error->field name the first field that is wrong. prefix is put before field names ("" or
 * "disks[0]."). -EINVAL with RPC_INVALID_PARAMS and one of the reasons: not-an-object,
 * unknown-field, missing-field, wrong-type, bad-value, out-of-range, too-long, too-many. */
int schema_check(const struct schema_field *fields, json_object *params, const char *prefix,
		 struct rpc_error *error);

/* "512M", "2G", "65536" to bytes. -EINVAL, -ERANGE. */
int size_parse(const char *text, uint64_t *ret_bytes);
/* The bytes of a checked SCHEMA_SIZE member; dflt when absent. */
uint64_t json_get_size(json_object *object, const char *key, uint64_t dflt);
/* Is it a SCHEMA_NAME? */
bool name_valid(const char *name, size_t len);

/* JSON Schema of one field, and of a list of fields as one object. closed: no other members are
 * possible (parameters are closed, results may grow). The caller owns it. */
json_object *schema_json(const struct schema_field *field, bool closed);
json_object *schema_object_json(const struct schema_field *fields, bool closed);
const char *schema_type_text(const struct schema_field *field); /* for people: "path", "size" */

#endif
