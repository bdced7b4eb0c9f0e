/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/helper.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct helper {
	uv_process_t process;
	struct daemon *daemon;
	char vm_name[72], name[32];
	LIST_ENTRY(helper) link;
};

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void on_ended(uv_process_t *process, int64_t status, int number)
{
	struct helper *h = process->data;

	/* With its VM it ends by itself, with status 0. */
	if (status || number)
		log_line(h->daemon->log, LOG_LEVEL_WARNING, "vm %s: %s %d ended with %s %d", h->vm_name,
			 h->name, (int)process->pid, number ? "signal" : "status",
			 number ? number : (int)status);
	LIST_REMOVE(h, link);
	uv_close((uv_handle_t *)process, on_closed);
}

void helpers_forget(struct daemon *daemon)
{
	struct helper *h;

	while ((h = LIST_FIRST(&daemon->helpers))) {
		LIST_REMOVE(h, link);
		uv_close((uv_handle_t *)&h->process, on_closed);
	}
}

int helper_spawn(struct vm *vm, const char *path, char **args, const int *fds, int n)
{
	struct helper *h = calloc(1, sizeof(*h));
	char *env[] = { NULL };
	uv_stdio_container_t io[HELPER_FD + HELPER_FDS_MAX] = {
		{ .flags = UV_IGNORE }, { .flags = UV_IGNORE },
		{ .flags = UV_INHERIT_FD, .data.fd = 2 },
	};
	uv_process_options_t options = {
		.exit_cb = on_ended, .file = path, .args = args, .env = env, .cwd = "/",
		.flags = UV_PROCESS_DETACHED, .stdio = io, .stdio_count = HELPER_FD + n,
	};
	int r;

	if (!h)
		return -ENOMEM;
	for (int i = 0; i < n; i++)
		io[HELPER_FD + i] = (uv_stdio_container_t){ .flags = UV_INHERIT_FD, .data.fd = fds[i] };
	h->daemon = vm->daemon;
	h->process.data = h;
	snprintf(h->vm_name, sizeof(h->vm_name), "%s", vm->name);
	snprintf(h->name, sizeof(h->name), "%s", args[0]);
	r = uv_spawn(vm->daemon->loop, &h->process, &options);
	if (r < 0)
		uv_close((uv_handle_t *)&h->process, on_closed);
	else
		LIST_INSERT_HEAD(&vm->daemon->helpers, h, link);
	return r;
}
