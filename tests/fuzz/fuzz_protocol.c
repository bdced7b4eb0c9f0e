/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_protocol.c - requests made from the methods' own descriptions, mostly right, rarely wrong,
 * then bytes changed, cut into pieces of any size.
 *
 * What is taken must come out the same when it is printed and read again; a refusal names a reason.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/frame.h"
#include "protocol/methods.h"
#include "tests/fuzz/input.h"

struct text {
	char bytes[16384];
	size_t len;
};

static void put(struct text *t, const char *s)
{
	size_t n = strlen(s);

	if (t->len + n < sizeof(t->bytes)) {
		memcpy(t->bytes + t->len, s, n);
		t->len += n;
	}
}

/* Any JSON, or what looks like it. */
static void put_any(struct text *t, struct input *in, unsigned depth)
{
	static const char *const words[] = {
		"0", "-1", "1.5", "1e400", "18446744073709551616", "-9223372036854775809", "true", "null",
		"\"\"", "\"a\"", "\"/\"", "\"\\u0000\"", "\"\\ud800\"", "\"\xc3\xa9\"", "\"\xff\"", "NaN",
		"'x'", "01", "\"\t\"", "\"512M\"", "\"99999999999T\"", "\"../../x\"",
	};
	unsigned kind = depth ? pick(in, 4) : 3;

	if (kind == 0) {
		put(t, "[");
		for (unsigned n = pick(in, 4); n; n--) {
			put_any(t, in, depth - 1);
			put(t, n > 1 || rarely(in) ? "," : "");
		}
		put(t, rarely(in) ? "}" : "]");
	} else if (kind == 1) {
		put(t, "{");
		for (unsigned n = pick(in, 3); n; n--) {
			put(t, n == 2 ? "\"path\":" : "\"x\":");
			put_any(t, in, depth - 1);
			put(t, n > 1 ? "," : "");
		}
		put(t, "}");
	} else {
		put(t, words[pick(in, sizeof(words) / sizeof(words[0]))]);
	}
}

static void put_value(struct text *t, struct input *in, const struct schema_field *f)
{
	char number[32];

	if (rarely(in)) {
		put_any(t, in, pick(in, 40));
		return;
	}
	switch (f->type) {
	case SCHEMA_NAME: case SCHEMA_STRING:
		put(t, "\"web-1\"");
		break;
	case SCHEMA_PATH:
		put(t, "\"/tmp/a\"");
		break;
	case SCHEMA_ENUM:
		put(t, "\"");
		put(t, f->values[0]);
		put(t, "\"");
		break;
	case SCHEMA_BOOL:
		put(t, pick(in, 2) ? "true" : "false");
		break;
	case SCHEMA_INT: case SCHEMA_NUMBER: case SCHEMA_SIZE:
		snprintf(number, sizeof(number), "%lld", (long long)input_edge(in));
		put(t, number);
		break;
	default:
		put_any(t, in, 3);
		break;
	}
}

static void put_request(struct text *t, struct input *in)
{
	const struct method *m = method_get((enum method_id)pick(in, METHOD_COUNT));
	const char *separator = "";

	put(t, rarely(in) ? "{" : "{\"jsonrpc\":\"2.0\",");
	put(t, "\"method\":\"");
	put(t, rarely(in) ? "vm.nothing" : m->name);
	put(t, "\",\"params\":{");
	for (const struct schema_field *f = m->params; f->name; f++) {
		if (!f->required && pick(in, 3))
			continue;
		put(t, separator);
		put(t, "\"");
		put(t, rarely(in) ? "unknown" : f->name);
		put(t, "\":");
		put_value(t, in, f);
		separator = ",";
	}
	put(t, "}");
	if (pick(in, 4)) {
		put(t, ",\"id\":");
		put_any(t, in, rarely(in) ? 3 : 0);
	}
	put(t, "}");
}

static void demand(bool fine, const char *what)
{
	if (fine)
		return;
	printf("FAIL %s\n", what);
	abort();
}

static void check_request(json_object *message)
{
	struct rpc_request request;
	struct rpc_error error = { .code = 0 };
	json_object *reply;
	int r = rpc_request_parse(message, &request, &error);
	enum method_id id;

	if (r == 0) {
		id = method_find(request.method);
		r = id == METHOD_COUNT ? 0 :
		    schema_check(method_get(id)->params, request.params, "", &error);
	}
	if (r == 0)
		return;
	demand(error.code && error.reason[0] && error.message[0], "a refusal without a reason");
	reply = rpc_error_reply(request.id, &error);
	demand(reply && json_get(reply, "error") && !json_get(reply, "result"), "an error's shape");
	json_object_put(reply);
}

static void check_line(const char *line, size_t len)
{
	json_object *first = NULL, *second = NULL;
	char why[64] = "", *text;

	if (json_parse(line, len, &first, why, sizeof(why)) < 0) {
		demand(!first && why[0], "refused without a word");
		return;
	}
	text = strdup(json_text(first) ? json_text(first) : "null");
	demand(json_parse(text, strlen(text), &second, why, sizeof(why)) == 0, "it cannot be read again");
	demand(json_object_equal(first, second), "it is another when read again");
	free(text);
	json_object_put(second);
	if (json_object_is_type(first, json_type_array))
		for (size_t i = 0; i < json_object_array_length(first); i++)
			check_request(json_object_array_get_idx(first, i));
	else
		check_request(first);
	json_object_put(first);
}

/* The same bytes in pieces: the same lines, whole. */
static void check_frames(const struct text *t, struct input *in)
{
	struct frame frame;
	size_t at = 0, lines = 0, expected = 0;

	for (size_t i = 0; i < t->len; i++)
		expected += t->bytes[i] == '\n';
	frame_init(&frame);
	while (at < t->len) {
		size_t size, n, len;
		char *space, *line;

		demand(frame_space(&frame, &space, &size) == 0, "no room");
		n = 1 + (size_t)input8(in) * 8;
		n = n < size ? n : size;
		n = n < t->len - at ? n : t->len - at;
		memcpy(space, t->bytes + at, n);
		frame_commit(&frame, n);
		at += n;
		while (frame_next(&frame, &line, &len) == 1) {
			check_line(line, len);
			lines++;
		}
	}
	demand(lines == expected, "lines are lost");
	frame_deinit(&frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = { data, size };
	static struct text t;

	t.len = 0;
	for (unsigned n = 1 + pick(&in, 4); n; n--) {
		bool batch = rarely(&in);

		put(&t, batch ? "[" : "");
		put_request(&t, &in);
		put(&t, batch ? "]\n" : "\n");
	}
	for (unsigned n = rarely(&in) ? pick(&in, 8) : 0; n; n--)
		t.bytes[input16(&in) % t.len] = (char)input8(&in);
	check_frames(&t, &in);
	return 0;
}
