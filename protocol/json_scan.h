/* SPDX-License-Identifier: Apache-2.0 */
/* json_scan.h - is this text exactly one JSON value (RFC 8259)? Builds nothing. */
#ifndef PROTOCOL_JSON_SCAN_H
#define PROTOCOL_JSON_SCAN_H

#include <stddef.h>

struct json_scan {
	size_t begin, end;  /* the value without the white space around it */
	size_t members;     /* members of all objects in it, repeated ones too */
	const char *error;  /* static text; NULL when fine */
	size_t offset;      /* where the error is */
};

/* 0 or -1 with ->error and ->offset set. depth_max counts nested arrays and objects. Time is linear
 * in len; recursion is bounded by depth_max. Any thread. */
int json_scan(const char *text, size_t len, unsigned depth_max, struct json_scan *ret);

/* Bytes of the UTF-8 sequence (RFC 3629) at p, 1..4; 0 if it is none. */
size_t utf8_sequence(const unsigned char *p, size_t len);

#endif
