/* SPDX-License-Identifier: Apache-2.0 */
/* JSON as RFC 8259 has it and not a bit more; framing; UTF-8. */
#include <errno.h>
#include <string.h>

#include "common/checked.h"
#include "protocol/frame.h"
#include "protocol/json.h"
#include "protocol/json_scan.h"
#include "tests/unit/unit.h"

static const char *const good[] = {
	"{}", "[]", "0", "-0", "1", "-1.5e+3", "1E5", "null", "true", "false", "\"\"", " [ 1 , 2 ] ",
	"{\"a\":{\"b\":[null,true,{\"c\":\"d\"}]}}", "\"\\u00e9\\ud83d\\ude00\"", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
	"\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\"", "\"\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf\"",
	"{\"a\":1,\"A\":2}", "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
};

static const char *const bad[] = {
	"", " ", "{", "}", "[", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}",
	"{a:1}", "{'a':1}", "{\"a\" 1}", "{1:2}", "nul", "nulll", "True", "NaN", "Infinity", "-Infinity",
	"+1", "01", "-01", "1.", ".5", "1e", "1e+", "--1", "0x10", "1 1", "[] []", "{} x", "// c\n1",
	"/**/1", "\"", "\"a", "\"\\x41\"", "\"\\u12\"", "\"\\u123g\"", "\"\\ud800\"", "\"\\udc00\"",
	"\"\\ud800\\u0041\"", "\"a\tb\"", "\"a\nb\"", "\"\x1f\"", "\"\x80\"", "\"\xc0\x80\"", "\"\xc1\xbf\"",
	"\"\xe0\x80\x80\"", "\"\xed\xa0\x80\"", "\"\xf0\x80\x80\x80\"", "\"\xf4\x90\x80\x80\"",
	"\"\xf5\x80\x80\x80\"", "\"\xff\"", "\"\xe2\x82\"", "\xef\xbb\xbf{}", "[1]\v", "{\"a\":1,\"a\":2}",
	"{\"a\":{\"b\":1,\"b\":1}}", "[{\"x\":1,\"\\u0078\":2}]",
	"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
};

static void test_good(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		json_object *object = NULL;
		int r = json_parse(good[i], strlen(good[i]), &object, NULL, 0);

		if (r)
			printf("refused: %s\n", good[i]);
		CU_ASSERT_EQUAL(r, 0);
		json_object_put(object);
	}
}

static void test_bad(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		json_object *object = NULL;
		char why[64] = "";
		int r = json_parse(bad[i], strlen(bad[i]), &object, why, sizeof(why));

		if (r != -EBADMSG)
			printf("taken: %s\n", bad[i]);
		CU_ASSERT_EQUAL(r, -EBADMSG);
		CU_ASSERT_NOT_EQUAL(why[0], '\0');
		CU_ASSERT_PTR_NULL(object);
		json_object_put(object);
	}
}

/* Every prefix of a good text is bad or good, never a crash; a NUL inside is bad. */
static void test_prefixes(void)
{
	static const char text[] = "{\"a\":[1,2.5e3,\"\\u00e9\\ud83d\\ude00\xc3\xa9\",null],\"b\":{}}";
	json_object *object;

	for (size_t n = 0; n < sizeof(text) - 1; n++) {
		char copy[sizeof(text)];

		memcpy(copy, text, n);
		CU_ASSERT_EQUAL(json_parse(copy, n, &object, NULL, 0), -EBADMSG);
	}
	CU_ASSERT_EQUAL(json_parse("[1\0]", 4, &object, NULL, 0), -EBADMSG);
	CU_ASSERT_EQUAL(json_parse("[]\0", 3, &object, NULL, 0), -EBADMSG);
}

static void test_values(void)
{
	static const char text[] = "{\"s\":\"x\",\"i\":5,\"d\":1.5,\"b\":true,\"n\":null}";
	json_object *o = NULL;

	CU_ASSERT_EQUAL_FATAL(json_parse(text, sizeof(text) - 1, &o, NULL, 0), 0);
	CU_ASSERT_STRING_EQUAL(json_get_str(o, "s", "-"), "x");
	CU_ASSERT_STRING_EQUAL(json_get_str(o, "i", "-"), "-");
	CU_ASSERT_EQUAL(json_get_int(o, "i", -1), 5);
	CU_ASSERT_EQUAL(json_get_int(o, "d", -1), -1);
	CU_ASSERT_EQUAL(json_get_number(o, "d", 0), 1.5);
	CU_ASSERT_EQUAL(json_get_number(o, "i", 0), 5);
	CU_ASSERT_EQUAL(json_get_bool(o, "b", false), true);
	CU_ASSERT_EQUAL(json_get_bool(o, "s", false), false);
	CU_ASSERT_PTR_NULL(json_get(o, "n"));
	CU_ASSERT_PTR_NULL(json_get(NULL, "n"));
	json_object_put(o);
	o = json_from_bytes("a\xff\xc3\xa9\x80", 5);
	CU_ASSERT_STRING_EQUAL(json_object_get_string(o), "a\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd");
	json_object_put(o);
}

/* Feeds text in steps of `step` bytes, checks that the lines come out whole. */
static void feed(const char *text, size_t len, size_t step, const char *expect)
{
	struct frame frame;
	char seen[256] = "";
	size_t at = 0;

	frame_init(&frame);
	while (at < len) {
		char *space, *line;
		size_t size, n;
		int r;

		CU_ASSERT_EQUAL_FATAL(frame_space(&frame, &space, &size), 0);
		n = len - at < step ? len - at : step;
		n = n < size ? n : size;
		memcpy(space, text + at, n);
		frame_commit(&frame, n);
		at += n;
		while ((r = frame_next(&frame, &line, &n)) == 1) {
			strncat(seen, line, n);
			strcat(seen, "|");
		}
		CU_ASSERT_EQUAL(r, 0);
	}
	CU_ASSERT_STRING_EQUAL(seen, expect);
	CU_ASSERT_EQUAL(frame_partial(&frame), len && text[len - 1] != '\n');
	frame_deinit(&frame);
}

static void test_frames(void)
{
	static const char text[] = "one\ntwo\r\n\nlast\nrest";

	for (size_t step = 1; step <= sizeof(text); step++)
		feed(text, sizeof(text) - 1, step, "one|two||last|");
}

/* A line of exactly the limit passes, one byte more does not, however it is fed. */
static void test_limit(void)
{
	for (size_t extra = 0; extra < 3; extra++) {
		struct frame frame;
		size_t left = FRAME_LINE_MAX + extra, len = 0;
		char *space, *line;
		int r = 0;

		frame_init(&frame);
		while (r == 0) {
			size_t size;

			CU_ASSERT_EQUAL_FATAL(frame_space(&frame, &space, &size), 0);
			if (!left) {
				*space = '\n';
				frame_commit(&frame, 1);
			} else {
				size = size < left ? size : left;
				memset(space, 'x', size);
				frame_commit(&frame, size);
				left -= size;
			}
			r = frame_next(&frame, &line, &len);
		}
		CU_ASSERT_EQUAL(r, extra ? -EMSGSIZE : 1);
		if (!extra)
			CU_ASSERT_EQUAL(len, FRAME_LINE_MAX);
		frame_deinit(&frame);
	}
}

int main(void)
{
	static CU_TestInfo json[] = {
		{ "what is JSON", test_good }, { "what is not", test_bad },
		{ "prefixes", test_prefixes }, { "values", test_values }, CU_TEST_INFO_NULL
	};
	static CU_TestInfo frames[] = {
		{ "lines in pieces", test_frames }, { "the longest line", test_limit },
		CU_TEST_INFO_NULL
	};

	return UNIT_RUN(
		UNIT_SUITE("json", json),
		UNIT_SUITE("frame", frames));
}
