/* SPDX-License-Identifier: Apache-2.0 */
/* Requests, errors, schemas, and the table of methods. */
#include <errno.h>
#include <string.h>

#include "common/checked.h"
#include "protocol/methods.h"
#include "protocol/rpc.h"
#include "tests/unit/unit.h"

static json_object *parse(const char *text)
{
	json_object *object = NULL;

	if (json_parse(text, strlen(text), &object, NULL, 0) < 0)
		printf("not JSON: %s\n", text);
	return object;
}

static const struct {
	const char *text;
	int code;       /* 0: valid */
	bool has_id;
	const char *id; /* as it must be echoed */
} requests[] = {
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\"}", 0, false, "null" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1}", 0, true, "1" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":\"x\"}", 0, true, "\"x\"" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":null}", 0, true, "null" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":-9007199254740993}", 0, true, "-9007199254740993" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":{},\"id\":1}", 0, true, "1" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":[1],\"id\":1}", 0, true, "1" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"params\":null,\"id\":1}", -32600, true, "1" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1.5}", -32600, true, "null" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":true}", -32600, true, "null" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":[]}", -32600, true, "null" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":99999999999999999999}", -32600, true, "null" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":-99999999999999999999}", -32600, true, "null" },
	{ "{\"jsonrpc\":\"1.0\",\"method\":\"m\",\"id\":1}", -32600, true, "1" },
	{ "{\"jsonrpc\":2.0,\"method\":\"m\",\"id\":1}", -32600, true, "1" },
	{ "{\"method\":\"m\",\"id\":1}", -32600, true, "1" },
	{ "{\"jsonrpc\":\"2.0\",\"id\":1}", -32600, true, "1" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":1,\"id\":1}", -32600, true, "1" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1,\"extra\":1}", -32600, true, "1" },
	{ "{}", -32600, true, "null" }, { "1", -32600, true, "null" }, { "\"x\"", -32600, true, "null" },
	{ "null", -32600, true, "null" }, { "[]", -32600, true, "null" },
};

static void test_requests(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		json_object *message = parse(requests[i].text), *reply;
		struct rpc_request request;
		struct rpc_error error = { .code = 0 };
		int r = rpc_request_parse(message, &request, &error);

		if ((r < 0 ? error.code : 0) != requests[i].code)
			printf("%s: %d\n", requests[i].text, error.code);
		CU_ASSERT_EQUAL(r < 0 ? error.code : 0, requests[i].code);
		CU_ASSERT_EQUAL(request.has_id, requests[i].has_id);
		reply = rpc_reply(request.id, NULL);
		CU_ASSERT_STRING_EQUAL(json_object_to_json_string(json_get(reply, "id")),
				       requests[i].id);
		json_object_put(reply);
		json_object_put(message);
	}
}

static void test_long_id(void)
{
	char text[512];
	int lens[] = { RPC_ID_LEN_MAX, RPC_ID_LEN_MAX + 1 };

	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		struct rpc_request request;
		struct rpc_error error;
		json_object *message;

		snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":\"%0*d\"}",
			 lens[i], 0);
		message = parse(text);
		CU_ASSERT_EQUAL(rpc_request_parse(message, &request, &error), i ? -EINVAL : 0);
		json_object_put(message);
	}
}

static void test_errors(void)
{
	struct rpc_error error, back;
	json_object *reply;

	CU_ASSERT_EQUAL(rpc_fail(&error, RPC_BUSY, NULL, "disks[0].path", "in use: %s", "a\xff"), -EINVAL);
	error.err = 16;
	reply = rpc_error_reply(NULL, &error);
	CU_ASSERT_PTR_NULL(json_get(reply, "result"));
	rpc_error_parse(json_get(reply, "error"), &back);
	CU_ASSERT_EQUAL(back.code, RPC_BUSY);
	CU_ASSERT_EQUAL(back.err, 16);
	CU_ASSERT_STRING_EQUAL(back.reason, "busy");
	CU_ASSERT_STRING_EQUAL(back.field, "disks[0].path");
	CU_ASSERT_STRING_EQUAL(back.message, "in use: a\xef\xbf\xbd");
	json_object_put(reply);
	rpc_error_parse(NULL, &back);
	CU_ASSERT_EQUAL(back.code, RPC_INTERNAL);
}

static const struct {
	const char *text;
	int result;
	uint64_t bytes;
} sizes[] = {
	{ "0", 0, 0 }, { "512M", 0, 536870912 }, { "2g", 0, 2147483648 }, { "1T", 0, 1099511627776 },
	{ "64k", 0, 65536 }, { "18446744073709551615", 0, UINT64_MAX },
	{ "18446744073709551616", -ERANGE, 0 }, { "99999999999T", -ERANGE, 0 }, { "", -EINVAL, 0 },
	{ "M", -EINVAL, 0 }, { "-1", -EINVAL, 0 }, { " 1", -EINVAL, 0 }, { "1 M", -EINVAL, 0 },
	{ "1MB", -EINVAL, 0 }, { "0x10", -EINVAL, 0 }, { "1.5G", -EINVAL, 0 },
};

static void test_sizes(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		uint64_t bytes = 0;

		CU_ASSERT_EQUAL(size_parse(sizes[i].text, &bytes), sizes[i].result);
		if (!sizes[i].result)
			CU_ASSERT_EQUAL(bytes, sizes[i].bytes);
	}
}

static const struct {
	const char *text;          /* what is put into a good vm.create */
	const char *field, *reason; /* NULL: fine */
} configs[] = {
	{ "\"cpus\":1", NULL, NULL }, { "\"cpus\":64", NULL, NULL },
	{ "\"cpus\":0", "cpus", "out-of-range" }, { "\"cpus\":65", "cpus", "out-of-range" },
	{ "\"cpus\":-1", "cpus", "out-of-range" }, { "\"cpus\":1.0", "cpus", "wrong-type" },
	{ "\"cpus\":99999999999999999999", "cpus", "out-of-range" },
	{ "\"cpus\":\"1\"", "cpus", "wrong-type" }, { "\"cpus\":null", "cpus", "wrong-type" },
	{ "\"memory\":\"512M\"", NULL, NULL }, { "\"memory\":16777216", NULL, NULL },
	{ "\"memory\":16777215", "memory", "out-of-range" }, { "\"memory\":\"2T\"", "memory", "out-of-range" },
	{ "\"memory\":-1", "memory", "out-of-range" }, { "\"memory\":\"lots\"", "memory", "bad-value" },
	{ "\"memory\":true", "memory", "wrong-type" }, { "\"memory\":1e9", "memory", "wrong-type" },
	{ "\"memory\":\"99999999999999999999999999999999999\"", "memory", "bad-value" },
	{ "\"engine\":\"soft\"", NULL, NULL }, { "\"engine\":\"tcg\"", "engine", "bad-value" },
	{ "\"engine\":1", "engine", "wrong-type" }, { "\"initrd\":\"i\"", "initrd", "bad-value" },
	{ "\"initrd\":\"/a\\u0000b\"", "initrd", "bad-value" }, { "\"initrd\":[]", "initrd", "wrong-type" },
	{ "\"nested\":1", "nested", "wrong-type" }, { "\"disks\":[]", NULL, NULL },
	{ "\"disks\":{}", "disks", "wrong-type" }, { "\"disks\":[1]", "disks[0]", "wrong-type" },
	{ "\"disks\":[{}]", "disks[0].path", "missing-field" },
	{ "\"disks\":[{\"path\":\"/a\"},{\"path\":\"/b\",\"ro\":true}]", "disks[1].ro", "unknown-field" },
	{ "\"disks\":[{\"path\":\"/a\",\"serial\":\"123456789012345678901\"}]", "disks[0].serial", "too-long" },
	{ "\"disks\":[{\"path\":\"/a\",\"readonly\":\"yes\"}]", "disks[0].readonly", "wrong-type" },
	{ "\"soft_debug\":[\"no-tlb\"]", NULL, NULL }, { "\"soft_debug\":[\"x\"]", "soft_debug[0]", "bad-value" },
	{ "\"soft_debug\":[7]", "soft_debug[0]", "wrong-type" },
	{ "\"colour\":\"red\"", "colour", "unknown-field" },
};

static void test_configs(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(configs); i++) {
		struct rpc_error error = { .code = 0 };
		char text[512];
		json_object *params;
		int r;

		snprintf(text, sizeof(text), "{\"name\":\"a\",\"kernel\":\"/k\",%s}", configs[i].text);
		params = parse(text);
		r = schema_check(vm_config_fields, params, "", &error);
		if ((r < 0) != (configs[i].field != NULL) || (r < 0 && strcmp(error.field, configs[i].field)) ||
		    (r < 0 && strcmp(error.reason, configs[i].reason)))
			printf("%s: %s %s\n", configs[i].text, error.field, error.reason);
		CU_ASSERT_EQUAL(r < 0, configs[i].field != NULL);
		if (r < 0) {
			CU_ASSERT_EQUAL(error.code, RPC_INVALID_PARAMS);
			CU_ASSERT_STRING_EQUAL(error.field, configs[i].field);
			CU_ASSERT_STRING_EQUAL(error.reason, configs[i].reason);
		}
		json_object_put(params);
	}
}

static void test_names(void)
{
	static const char *const fine[] = { "a", "A1", "web-1.example_x", "0" };
	static const char *const wrong[] = { "", ".", "..", "-a", "_a", "a/b", "a b", "\xc3\xa9", "a\n", "../x" };
	char longest[66];

	for (size_t i = 0; i < ARRAY_SIZE(fine); i++)
		CU_ASSERT_TRUE(name_valid(fine[i], strlen(fine[i])));
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		CU_ASSERT_FALSE(name_valid(wrong[i], strlen(wrong[i])));
	memset(longest, 'a', sizeof(longest));
	CU_ASSERT_TRUE(name_valid(longest, 64));
	CU_ASSERT_FALSE(name_valid(longest, 65));
	CU_ASSERT_FALSE(name_valid("a\0b", 3));
}

/* Every method is complete, is found by its name, and has its place in the OpenRPC document. */
static void test_table(void)
{
	json_object *document = methods_openrpc("1"), *list = json_get(document, "methods");

	CU_ASSERT_STRING_EQUAL(json_get_str(document, "openrpc", ""), "1.2.6");
	CU_ASSERT_EQUAL_FATAL(json_object_array_length(list), METHOD_COUNT);
	for (enum method_id id = 0; id < METHOD_COUNT; id++) {
		const struct method *m = method_get(id);
		json_object *entry = json_object_array_get_idx(list, id);
		bool optional_seen = false;

		CU_ASSERT_PTR_NOT_NULL_FATAL(m->name);
		CU_ASSERT_PTR_NOT_NULL(m->summary);
		CU_ASSERT_PTR_NOT_NULL_FATAL(m->params);
		CU_ASSERT_PTR_NOT_NULL_FATAL(m->result);
		CU_ASSERT_EQUAL(method_find(m->name), id);
		CU_ASSERT_STRING_EQUAL(json_get_str(entry, "name", ""), m->name);
		for (const struct schema_field *f = m->params; f->name; f++)
			CU_ASSERT_PTR_NOT_NULL(f->summary);
		for (size_t i = 0; i < json_object_array_length(json_get(entry, "params")); i++) {
			json_object *p = json_object_array_get_idx(json_get(entry, "params"), i);
			bool required = json_get_bool(p, "required", false);

			CU_ASSERT_FALSE(required && optional_seen);
			optional_seen |= !required;
		}
	}
	CU_ASSERT_EQUAL(method_find("vm.crash"), METHOD_COUNT);
	CU_ASSERT_EQUAL(method_find(""), METHOD_COUNT);
	json_object_put(document);
}

int main(void)
{
	static CU_TestInfo rpc[] = {
		{ "requests", test_requests }, { "long id", test_long_id }, { "errors", test_errors },
		CU_TEST_INFO_NULL
	};
	static CU_TestInfo schema[] = {
		{ "sizes", test_sizes }, { "configurations", test_configs }, { "names", test_names },
		{ "the table of methods", test_table }, CU_TEST_INFO_NULL
	};

	return UNIT_RUN(
		UNIT_SUITE("rpc", rpc),
		UNIT_SUITE("schema", schema));
}
