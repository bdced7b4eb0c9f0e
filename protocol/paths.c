/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/paths.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SYSTEM_RUNTIME "/run/vmxd"
#define SYSTEM_STATE "/var/lib/vmxd"

static char *join(const char *dir, const char *rest)
{
	char *path;

	return dir && dir[0] == '/' && asprintf(&path, "%s%s", dir, rest) >= 0 ? path : NULL;
}

char *path_default_runtime(void)
{
	return geteuid() == 0 ? strdup(SYSTEM_RUNTIME) : join(getenv("XDG_RUNTIME_DIR"), "/vmxd");
}

char *path_default_state(void)
{
	char *path;

	if (geteuid() == 0)
		return strdup(SYSTEM_STATE);
	path = join(getenv("XDG_STATE_HOME"), "/vmxd");
	return path ? path : join(getenv("HOME"), "/.local/state/vmxd");
}

char *path_default_socket(void)
{
	char *dir = path_default_runtime(), *path = join(dir, "/vmxd.sock");

	free(dir);
	return path;
}

char *path_client_socket(void)
{
	const char *env = getenv("VMXD_SOCKET");
	char *path;

	if (env && *env)
		return strdup(env);
	path = path_default_socket();
	if (path && access(path, F_OK) == 0)
		return path;
	if (access(SYSTEM_RUNTIME "/vmxd.sock", F_OK) == 0 || !path) {
		free(path);
		path = strdup(SYSTEM_RUNTIME "/vmxd.sock");
	}
	return path;
}
