/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/link.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/files.h"
#include "daemon/launch.h"
#include "daemon/stream.h"
#include "daemon/vsock.h"
#include "protocol/unix.h"

#define ORDERS_MAX 256u
#define STATUS_MAX ((size_t)1024 * 1024)

struct order {
	int64_t id;
	link_done_fn *done;
	void *opaque;
	LIST_ENTRY(order) link;
};

struct link {
	struct vm *vm;              /* NULL: let go, only handles are left to close */
	struct daemon *daemon;
	pid_t pid;                  /* 0: not known yet */
	int pidfd;                  /* -1: none */
	bool child;
	bool dead;                  /* the process is gone */
	struct stream *stream;      /* NULL: closed */
	uv_process_t process;       /* if child */
	uv_poll_t watch;            /* of pidfd, if not child */
	uv_timer_t kill_timer;
	unsigned handles;           /* that still have to close, and the stream */
	int64_t last_id;
	unsigned order_count;
	LIST_HEAD(, order) orders;
};

static void drop_handle(struct link *link)
{
	if (--link->handles)
		return;
	if (link->pidfd >= 0)
		close(link->pidfd);
	free(link);
}

static void on_handle_closed(uv_handle_t *handle)
{
	drop_handle(handle->data);
}

static void on_stream_released(void *owner)
{
	drop_handle(owner);
}

static void close_stream(struct link *link)
{
	stream_free(link->stream);
	link->stream = NULL;
}

/* Nobody will answer the orders any more. */
static void fail_orders(struct link *link, struct vm *vm)
{
	struct order *order;
	struct rpc_error error;

	rpc_fail(&error, RPC_WRONG_STATE, "ended", NULL, "%s ended meanwhile", vm->name);
	while ((order = LIST_FIRST(&link->orders))) {
		LIST_REMOVE(order, link);
		if (order->done)
			order->done(vm, order->opaque, NULL, &error);
		free(order);
	}
}

void link_free(struct link *link)
{
	struct vm *vm = link ? link->vm : NULL;

	if (!vm)
		return;
	link->vm = NULL;
	close_stream(link);
	fail_orders(link, vm);
	uv_close((uv_handle_t *)&link->kill_timer, on_handle_closed);
	if (link->child)
		uv_close((uv_handle_t *)&link->process, on_handle_closed);
	else if (link->pidfd >= 0)
		uv_close((uv_handle_t *)&link->watch, on_handle_closed);
}

static json_object *read_final(const struct vm *vm)
{
	char *path = launch_path(vm, "status.json"), *text = NULL;
	json_object *final = NULL;
	size_t len;

	if (path && files_read(path, STATUS_MAX, &text, &len) == 0 &&
	    json_parse(text, len, &final, NULL, 0) < 0)
		final = NULL;
	free(text);
	free(path);
	if (!json_object_is_type(final, json_type_object)) {
		json_object_put(final);
		return NULL;
	}
	return final;
}

/* The process is gone: tell the VM, once. */
static void died(struct link *link, const char *how)
{
	struct vm *vm = link->vm;
	json_object *final;

	if (link->dead || !vm)
		return;
	link->dead = true;
	final = read_final(vm);
	vm->link = NULL;
	link_free(link);
	link_clean(vm);
	vm_link_ended(vm, final, how);
	json_object_put(final);
}

static void on_exited(uv_process_t *process, int64_t status, int signal)
{
	char how[64];

	if (signal)
		snprintf(how, sizeof(how), "was killed by signal %d", signal);
	else
		snprintf(how, sizeof(how), "ended with status %d", (int)status);
	died(process->data, how);
}

static void on_watch(uv_poll_t *watch, int status, int events)
{
	(void)status;
	(void)events;
	died(watch->data, "ended unexpectedly");
}

/* Knows the process by a descriptor from now on: a pid may be used again, this cannot. */
static void know_process(struct link *link, pid_t pid)
{
	if (link->pid)
		return;
	link->pid = pid;
	link->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (link->pidfd >= 0 && !link->child) {
		if (uv_poll_init(link->daemon->loop, &link->watch, link->pidfd) < 0) {
			close(link->pidfd);
			link->pidfd = -1;
			return;
		}
		link->watch.data = link;
		link->handles++;
		uv_poll_start(&link->watch, UV_READABLE, on_watch);
	}
}

static void answered(struct link *link, json_object *message)
{
	int64_t id = json_get_int(message, "id", 0);
	json_object *body = json_get(message, "error");
	struct order *order;
	struct rpc_error error;

	LIST_FOREACH(order, &link->orders, link)
		if (order->id == id)
			break;
	if (!order)
		return;
	LIST_REMOVE(order, link);
	link->order_count--;
	if (body)
		rpc_error_parse(body, &error);
	if (order->done)
		order->done(link->vm, order->opaque, json_get(message, "result"),
			    body ? &error : NULL);
	free(order);
}

static void on_line(void *owner, char *line, size_t len)
{
	struct link *link = owner;
	json_object *message;
	char why[96];

	if (!link->vm)
		return;
	if (json_parse(line, len, &message, why, sizeof(why)) < 0) {
		log_line(link->daemon->log, LOG_LEVEL_ERROR,
			 "vm %s: its machine does not speak JSON: %s", link->vm->name, why);
		return;
	}
	if (!json_get(message, "method")) {
		answered(link, message);
	} else if (strcmp(json_get_str(message, "method", ""), "machine.changed") == 0) {
		json_object *report = json_get(message, "params");

		know_process(link, (pid_t)json_get_int(report, "pid", 0));
		vm_link_report(link->vm, report);
	} else if (strcmp(json_get_str(message, "method", ""), "machine.vsock_connect") == 0) {
		vsock_connect(link->vm, json_get(message, "params"));
	}
	json_object_put(message);
}

static void on_ended(void *owner, bool gone)
{
	struct link *link = owner;

	(void)gone;
	close_stream(link);
	/* The end of the process comes by its own way; if there is none to watch, this is it. */
	if (!link->child && link->pidfd < 0)
		died(link, "closed its control socket");
	else
		link_kill_after(link, 10000);
}

static const struct stream_ops ops = {
	.line = on_line,
	.ended = on_ended,
	.released = on_stream_released,
};

static struct link *link_new(struct vm *vm)
{
	struct link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	link->vm = vm;
	link->daemon = vm->daemon;
	link->pidfd = -1;
	LIST_INIT(&link->orders);
	uv_timer_init(vm->daemon->loop, &link->kill_timer);
	link->kill_timer.data = link;
	link->handles = 1;
	return link;
}

static int connect_at(struct vm *vm, const char *file)
{
	char *path = launch_path(vm, file);
	int fd = path ? unix_connect(path, 1) : -ENOMEM;

	free(path);
	return fd;
}

int link_attach(struct vm *vm)
{
	int fd = connect_at(vm, "console.sock"), flags;

	if (fd < 0)
		return fd;
	/* Whoever gets it expects an ordinary descriptor; only the connecting must not wait. */
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0) {
		close(fd);
		return -EIO;
	}
	return fd;
}

static int connect_control(struct link *link)
{
	int fd = connect_at(link->vm, "control.sock"), r;

	if (fd < 0)
		return fd;
	r = stream_new(link->daemon->loop, fd, &ops, link, &link->stream);
	if (r < 0) {
		close(fd);
		return r;
	}
	link->handles++;
	return 0;
}

static int launch_error(const struct vm *vm, const char *what, int r, struct rpc_error *error)
{
	rpc_fail(error, RPC_FAILED, NULL, NULL, "%s could not start: %s: %s", vm->name, what,
		 strerror(-r));
	error->err = -r;
	return -EINVAL;
}

int link_launch(struct vm *vm, const struct config_files *files, int *ret_console,
		struct rpc_error *error)
{
	struct launch launch;
	struct link *link;
	int console = -1, r = launch_prepare(vm, files, &launch, error);

	if (r < 0)
		return r;
	link = link_new(vm);
	r = link ? connect_control(link) : -ENOMEM;
	if (r < 0) {
		r = launch_error(vm, "its control socket", r, error);
		goto fail;
	}
	if (ret_console) {
		console = r = link_attach(vm);
		if (r < 0) {
			r = launch_error(vm, "its console socket", r, error);
			goto fail;
		}
	}
	/* libuv wants the handle closed also when it could not spawn. */
	link->child = true;
	link->process.data = link;
	link->handles++;
	r = launch_spawn(vm, &launch, files, &link->process, on_exited);
	if (r < 0) {
		r = launch_error(vm, vm->daemon->options.machine, r, error);
		goto fail;
	}
	know_process(link, link->process.pid);
	launch_write_pid(vm, link->pid);
	launch_close(&launch);
	vm->link = link;
	if (ret_console)
		*ret_console = console;
	return 0;
fail:
	if (console >= 0)
		close(console);
	launch_close(&launch);
	link_free(link);
	link_clean(vm);
	return r;
}

int link_adopt(struct vm *vm, json_object **ret_final)
{
	struct link *link = link_new(vm);
	pid_t pid = launch_read_pid(vm);
	int r = link ? connect_control(link) : -ENOMEM;

	*ret_final = NULL;
	if (r == 0) {
		if (pid)
			know_process(link, pid);
		vm->link = link;
		return 0;
	}
	link_free(link);
	if (pid) { /* it lives but nobody can speak to it any more */
		log_line(vm->daemon->log, LOG_LEVEL_WARNING,
			 "vm %s: its process %d does not listen; killing it", vm->name, (int)pid);
		kill(pid, SIGKILL);
	}
	*ret_final = read_final(vm);
	link_clean(vm);
	return -ENOENT;
}

static void close_all(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

/* Takes the descriptors over. Each but the last goes beside an empty line, which is nothing. */
static int send_order(struct link *link, const char *method, json_object *params, const int *fds,
		      size_t count)
{
	json_object *message;
	char *line = NULL;
	int n, r;
	size_t i = 0;

	if (count)
		json_add_int(params, "fd_count", (int64_t)count);
	message = rpc_request_new(++link->last_id, method, params);
	n = message ? asprintf(&line, "%s\n", json_text(message)) : -1;
	r = n > 0 ? 0 : -ENOMEM;
	json_object_put(message);
	for (; r == 0 && i + 1 < count; i++)
		r = stream_send(link->stream, "\n", 1, fds[i]);
	if (r == 0)
		r = stream_send(link->stream, line, (size_t)n, i < count ? fds[i++] : -1);
	if (n > 0)
		free(line);
	close_all(fds + i, count - i);
	return r;
}

int link_request_fds(struct link *link, const char *method, json_object *params, const int *fds,
		     size_t n, link_done_fn *done, void *opaque)
{
	struct order *order;
	int r;

	if (!link->stream || link->order_count >= ORDERS_MAX) {
		json_object_put(params);
		close_all(fds, n);
		return link->stream ? -EBUSY : -ENOTCONN;
	}
	order = calloc(1, sizeof(*order));
	if (!order) {
		json_object_put(params);
		close_all(fds, n);
		return -ENOMEM;
	}
	r = send_order(link, method, params, fds, n);
	if (r < 0) {
		free(order);
		return r;
	}
	order->id = link->last_id;
	order->done = done;
	order->opaque = opaque;
	LIST_INSERT_HEAD(&link->orders, order, link);
	link->order_count++;
	return 0;
}

int link_request_fd(struct link *link, const char *method, json_object *params, int fd,
		    link_done_fn *done, void *opaque)
{
	return link_request_fds(link, method, params, &fd, fd >= 0, done, opaque);
}

int link_request(struct link *link, const char *method, json_object *params, link_done_fn *done,
		 void *opaque)
{
	return link_request_fds(link, method, params, NULL, 0, done, opaque);
}

static void on_kill_timer(uv_timer_t *timer)
{
	struct link *link = timer->data;

	if (!link->vm || link->dead)
		return;
	log_line(link->daemon->log, LOG_LEVEL_WARNING, "vm %s: killing its process %d",
		 link->vm->name, (int)link->pid);
	if (link->pidfd >= 0)
		syscall(SYS_pidfd_send_signal, link->pidfd, SIGKILL, NULL, 0);
	else if (link->child)
		uv_process_kill(&link->process, SIGKILL);
}

void link_kill_after(struct link *link, unsigned ms)
{
	if (!uv_is_active((uv_handle_t *)&link->kill_timer) ||
	    uv_timer_get_due_in(&link->kill_timer) > ms)
		uv_timer_start(&link->kill_timer, on_kill_timer, ms, 0);
}

pid_t link_pid(const struct link *link)
{
	return link->pid;
}

char *link_console_path(const struct vm *vm)
{
	return launch_path(vm, "console.sock");
}

void link_clean(const struct vm *vm)
{
	static const char *const names[] = { "control.sock", "console.sock", "status.json", "pid",
					     "" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char *path = launch_path(vm, names[i]);

		if (path && (*names[i] ? unlink(path) : rmdir(path)) < 0 && errno != ENOENT)
			log_line(vm->daemon->log, LOG_LEVEL_DEBUG, "%s: %s", path, strerror(errno));
		free(path);
	}
	config_remove_sockets(vm->config);
}
