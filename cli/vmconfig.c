/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "common/checked.h"

/* The daemon takes absolute paths only: its working directory is not the user's. */
json_object *absolute_path(const char *path)
{
	char cwd[PATH_MAX], *joined;
	json_object *value;

	if (path[0] == '/' || !getcwd(cwd, sizeof(cwd)) ||
	    asprintf(&joined, "%s/%s", strcmp(cwd, "/") ? cwd : "", path) < 0)
		return json_from_bytes(path, strlen(path));
	value = json_from_bytes(joined, strlen(joined));
	free(joined);
	return value;
}

enum disk_word { WORD_TRUE, WORD_TEXT, WORD_NUMBER, WORD_BACKING };

static const struct {
	const char *word; /* with its = */
	const char *field;
	enum disk_word kind;
} disk_words[] = {
	{ "readonly", "readonly", WORD_TRUE },   { "format=", "format", WORD_TEXT },
	{ "serial=", "serial", WORD_TEXT },      { "cache=", "cache", WORD_TEXT },
	{ "io=", "io", WORD_TEXT },              { "queues=", "queues", WORD_NUMBER },
	{ "bytes=", "bytes_per_second", WORD_TEXT }, { "ops=", "ops_per_second", WORD_NUMBER },
	{ "id=", "id", WORD_TEXT },             { "backing=", "backing", WORD_BACKING },
};

/* FORMAT:FILE, put in front: words are read from the end. */
static void add_backing(json_object *disk, const char *value)
{
	json_object *old = json_get(disk, "backing"), *list = json_object_new_array();
	json_object *file = json_object_new_object();
	size_t n = old ? json_object_array_length(old) : 0;
	const char *colon = strchr(value, ':');

	if (colon)
		json_add(file, "format", json_from_bytes(value, (size_t)(colon - value)));
	json_add(file, "path", absolute_path(colon ? colon + 1 : value));
	json_object_array_add(list, file);
	for (size_t i = 0; i < n; i++)
		json_object_array_add(list, json_object_get(json_object_array_get_idx(old, i)));
	json_object_object_del(disk, "backing");
	json_add(disk, "backing", list);
}

static bool disk_word(json_object *disk, const char *text)
{
	size_t i, len = 0;
	char *end;
	long long number;

	for (i = 0; i < ARRAY_SIZE(disk_words); i++) {
		len = strlen(disk_words[i].word);
		if (strncmp(text, disk_words[i].word, len) == 0 &&
		    (disk_words[i].kind != WORD_TRUE || !text[len]))
			break;
	}
	if (i == ARRAY_SIZE(disk_words))
		return false;
	text += len;
	switch (disk_words[i].kind) {
	case WORD_TRUE:
		json_add_bool(disk, disk_words[i].field, true);
		break;
	case WORD_BACKING:
		add_backing(disk, text);
		break;
	case WORD_NUMBER: /* what is no number goes as text, and the daemon says so */
		number = strtoll(text, &end, 10);
		if (*text && !*end) {
			json_add_int(disk, disk_words[i].field, number);
			break;
		}
		json_add(disk, disk_words[i].field, json_from_bytes(text, strlen(text)));
		break;
	case WORD_TEXT:
		json_add(disk, disk_words[i].field, json_from_bytes(text, strlen(text)));
		break;
	}
	return true;
}

/* FILE[,OPTION...]; only from the end, so that a file's name may have commas. */
json_object *disk_from_text(const char *text)
{
	json_object *disk = json_object_new_object();
	char *path = strdup(text), *comma;

	while (path && (comma = strrchr(path, ',')) && disk_word(disk, comma + 1))
		*comma = '\0';
	if (path)
		json_add(disk, "path", absolute_path(path));
	free(path);
	return disk;
}

/* NAME=PATH[,pty] */
static json_object *port_json(const char *text)
{
	json_object *port = json_object_new_object();
	const char *equals = strchr(text, '=');
	char *path = strdup(equals ? equals + 1 : "");
	size_t len = path ? strlen(path) : 0;
	bool pty = len > 4 && strcmp(path + len - 4, ",pty") == 0;

	if (pty)
		path[len - 4] = '\0';
	json_add(port, "name", json_from_bytes(text, equals ? (size_t)(equals - text) : strlen(text)));
	if (equals && path)
		json_add(port, pty ? "pty" : "socket", absolute_path(path));
	free(path);
	return port;
}

/* DIR:TAG[,ro|,virtiofs]; the last colon, so that a directory's name may have some. Without a tag it is what the
 * daemon refuses, with the reason. */
static json_object *share_json(const char *text)
{
	json_object *share = json_object_new_object();
	char *path = strdup(text), *colon = path ? strrchr(path, ':') : NULL;
	char *comma = colon ? strrchr(colon, ',') : NULL;

	if (comma && strcmp(comma, ",ro") == 0) {
		json_add_bool(share, "readonly", true);
		*comma = '\0';
	} else if (comma && strcmp(comma, ",virtiofs") == 0) {
		json_add_str(share, "driver", "virtiofs");
		*comma = '\0';
	}
	if (colon) {
		json_add(share, "tag", json_from_bytes(colon + 1, strlen(colon + 1)));
		*colon = '\0';
	}
	if (path)
		json_add(share, "path", absolute_path(path));
	free(path);
	return share;
}

/* SIZE[,KEY=VALUE...]; which keys there are, the daemon says. */
static json_object *mem_json(const char *text)
{
	json_object *mem = json_object_new_object();
	char *copy = strdup(text), *rest = copy, *word;

	for (word = strsep(&rest, ","); word; word = strsep(&rest, ",")) {
		char *equals = word == copy ? NULL : strchr(word, '=');
		const char *key = equals ? word : word == copy ? "size" : word;
		const char *value = equals ? equals + 1 : word == copy ? word : "";

		if (equals)
			*equals = '\0';
		json_add(mem, key, json_from_bytes(value, strlen(value)));
	}
	free(copy);
	return mem;
}

/* PATH[,cid=N]; a number that is none goes as text, and the daemon says so. */
static json_object *vsock_json(const char *text)
{
	json_object *vsock = json_object_new_object();
	char *path = strdup(text), *cid = path ? strrchr(path, ',') : NULL, *end;

	if (cid && strncmp(cid, ",cid=", 5) == 0) {
		long long number = strtoll(cid + 5, &end, 10);

		json_add(vsock, "cid", cid[5] && !*end ? json_object_new_int64(number)
						       : json_from_bytes(cid + 5, strlen(cid + 5)));
		*cid = '\0';
	}
	if (path)
		json_add(vsock, "path", absolute_path(path));
	free(path);
	return vsock;
}

static void add_text(const struct ctl *ctl, enum option_id id, json_object *config, const char *key)
{
	const char *value = ctl->options.value[id];

	if (has_option(ctl, id))
		json_add(config, key, json_from_bytes(value, strlen(value)));
}

static json_object *pmem_json(const char *text)
{
	json_object *pmem = json_object_new_object();

	json_add(pmem, "path", absolute_path(text));
	return pmem;
}

static void add_lists(const struct options *o, json_object *config)
{
	static const struct {
		enum option_id id;
		const char *key;
		json_object *(*from_text)(const char *text);
	} lists[] = {
		{ OPTION_DISK, "disks", disk_from_text }, { OPTION_SHARE, "shares", share_json },
		{ OPTION_PORT, "ports", port_json },      { OPTION_PMEM, "pmem", pmem_json },
		{ OPTION_SOFT_DEBUG, "soft_debug", json_object_new_string },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		const struct option_list *all = &o->all[lists[i].id];
		json_object *list = all->count ? json_object_new_array() : NULL;

		for (size_t k = 0; list && k < all->count; k++)
			json_object_array_add(list, lists[i].from_text(all->value[k]));
		if (list)
			json_add(config, lists[i].key, list);
	}
}

int config_from_options(const struct ctl *ctl, const char *name, json_object **ret_config)
{
	const struct options *o = &ctl->options;
	json_object *config;
	double cpus;

	if (!has_option(ctl, OPTION_KERNEL)) {
		ctl_complain("%s: --kernel is missing", ctl->verb->name);
		return EXIT_USAGE;
	}
	if (has_option(ctl, OPTION_CPUS) && !option_number(ctl, OPTION_CPUS, 1e9, &cpus))
		return EXIT_USAGE;
	config = name_params(name);
	json_add(config, "kernel", absolute_path(o->value[OPTION_KERNEL]));
	if (has_option(ctl, OPTION_INITRD))
		json_add(config, "initrd", absolute_path(o->value[OPTION_INITRD]));
	add_text(ctl, OPTION_CMDLINE, config, "cmdline");
	add_text(ctl, OPTION_MEMORY, config, "memory");
	if (has_option(ctl, OPTION_CPUS))
		json_add_int(config, "cpus", (int64_t)cpus);
	add_text(ctl, OPTION_ENGINE, config, "engine");
	add_text(ctl, OPTION_ON_REBOOT, config, "on_reboot");
	add_text(ctl, OPTION_CONSOLE, config, "console");
	add_text(ctl, OPTION_TRANSPORT, config, "transport");
	add_text(ctl, OPTION_RINGS, config, "rings");
	add_text(ctl, OPTION_CODE_CACHE, config, "code_cache");
	if (has_option(ctl, OPTION_NO_CONSOLE))
		json_add_str(config, "console", "none");
	if (has_option(ctl, OPTION_NESTED))
		json_add_bool(config, "nested", true);
	if (has_option(ctl, OPTION_VSOCK))
		json_add(config, "vsock", vsock_json(o->value[OPTION_VSOCK]));
	if (has_option(ctl, OPTION_BALLOON))
		json_add_bool(config, "balloon", true);
	if (has_option(ctl, OPTION_MEM))
		json_add(config, "mem", mem_json(o->value[OPTION_MEM]));
	if (has_option(ctl, OPTION_DEBUG_EXIT))
		json_add_bool(config, "debug_exit", true);
	if (has_option(ctl, OPTION_TEST_DEVICE))
		json_add_bool(config, "test_device", true);
	if (has_option(ctl, OPTION_RM))
		json_add_bool(config, "transient", true);
	add_lists(o, config);
	if (nets_from_options(ctl, config) != EXIT_OK ||
	    vhosts_from_options(ctl, config) != EXIT_OK) {
		json_object_put(config);
		return EXIT_USAGE;
	}
	*ret_config = config;
	return EXIT_OK;
}
