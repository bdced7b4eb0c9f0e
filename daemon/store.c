/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/store.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/files.h"
#include "protocol/methods.h"

#define STORE_VERSION 1
#define FILE_MAX_BYTES ((size_t)2 * 1024 * 1024)
#define SUFFIX ".json"

static char *store_path(struct daemon *daemon, const char *name)
{
	char *path;

	return asprintf(&path, "%s/vm%s%s%s", daemon->options.state_dir, *name ? "/" : "", name,
			*name ? SUFFIX : "") < 0 ? NULL : path;
}

int store_save(struct daemon *daemon, const char *name, json_object *config)
{
	json_object *file = json_object_new_object();
	char *path = store_path(daemon, name);
	int r = -ENOMEM;

	json_add_int(file, "version", STORE_VERSION);
	json_add(file, "config", json_object_get(config));
	if (path && json_get(file, "config")) {
		const char *text = json_text(file);

		r = text ? files_write(path, text, strlen(text), true) : -ENOMEM;
	}
	free(path);
	json_object_put(file);
	return r;
}

void store_remove(struct daemon *daemon, const char *name)
{
	char *path = store_path(daemon, name);

	if (path && unlink(path) < 0 && errno != ENOENT)
		log_line(daemon->log, LOG_LEVEL_ERROR, "%s: %s", path, strerror(errno));
	free(path);
}

/* Somebody may have edited it: it passes the same checks as what comes by the socket. */
static int load_one(struct daemon *daemon, const char *name)
{
	char *path = store_path(daemon, name), *text = NULL;
	json_object *file = NULL, *config;
	struct rpc_error error;
	struct vm *vm;
	size_t len;
	int r = path ? files_read(path, FILE_MAX_BYTES, &text, &len) : -ENOMEM;

	snprintf(error.message, sizeof(error.message), "not a configuration of version %d",
		 STORE_VERSION);
	if (r == 0)
		r = json_parse(text, len, &file, error.message, sizeof(error.message));
	if (r == 0 && json_get_int(file, "version", 0) != STORE_VERSION)
		r = -EINVAL;
	config = json_get(file, "config");
	if (r == 0)
		r = config ? schema_check(vm_config_fields, config, "", &error) : -EINVAL;
	if (r == 0 && strcmp(json_get_str(config, "name", ""), name) != 0) {
		snprintf(error.message, sizeof(error.message), "the name in it is another");
		r = -EINVAL;
	}
	if (r == 0)
		r = vm_add(daemon, json_object_get(config), &vm);
	if (r < 0)
		log_line(daemon->log, LOG_LEVEL_WARNING, "%s is left alone: %s", path ? path : name,
			 r == -EINVAL || r == -EBADMSG ? error.message : strerror(-r));
	json_object_put(file);
	free(text);
	free(path);
	return r;
}

int store_load(struct daemon *daemon)
{
	char *path = store_path(daemon, "");
	int r = path ? files_mkdir(path, 0700) : -ENOMEM;
	struct dirent *entry;
	DIR *dir = NULL;

	if (r == 0 && !(dir = opendir(path)))
		r = -errno;
	while (r == 0 && (entry = readdir(dir))) {
		size_t len = strlen(entry->d_name);
		char name[256];

		if (len <= sizeof(SUFFIX) - 1 || len >= sizeof(name) ||
		    strcmp(entry->d_name + len - (sizeof(SUFFIX) - 1), SUFFIX) != 0)
			continue;
		memcpy(name, entry->d_name, len - (sizeof(SUFFIX) - 1));
		name[len - (sizeof(SUFFIX) - 1)] = '\0';
		load_one(daemon, name);
	}
	if (dir)
		closedir(dir);
	free(path);
	return r;
}
