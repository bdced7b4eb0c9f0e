/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/probe.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "protocol/methods.h"

#define TIMEOUT_MS 20000
#define OUTPUT_MAX 16384

struct asker {
	probe_done_fn *done;
	void *opaque;
	TAILQ_ENTRY(asker) link;
};

struct probe {
	struct daemon *daemon;
	json_object *result; /* NULL: not known */
	bool running, stopping;
	uint64_t started_ns;
	uv_process_t process;
	uv_pipe_t pipe;
	uv_timer_t timer;
	unsigned open;       /* handles of the running process */
	int status;
	size_t len;
	char output[OUTPUT_MAX];
	TAILQ_HEAD(asker_list, asker) askers;
	struct asker_list answering; /* being answered just now */
};

struct probe *probe_new(struct daemon *daemon)
{
	struct probe *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->daemon = daemon;
	TAILQ_INIT(&p->askers);
	TAILQ_INIT(&p->answering);
	return p;
}

struct probe *probe_free(struct probe *p)
{
	if (!p)
		return NULL;
	json_object_put(p->result);
	free(p);
	return NULL;
}

static void answer(struct probe *p, json_object *result, const char *why)
{
	struct asker *a;

	TAILQ_CONCAT(&p->answering, &p->askers, link); /* an answer may ask again */
	while ((a = TAILQ_FIRST(&p->answering))) {
		TAILQ_REMOVE(&p->answering, a, link);
		a->done(a->opaque, result, why);
		free(a);
	}
}

/* The process has ended and all it said is here. */
static void finish(struct probe *p)
{
	json_object *result = NULL;
	struct rpc_error error;
	char why[160] = "";

	p->running = false;
	if (p->stopping)
		return;
	if (p->status != 0)
		snprintf(why, sizeof(why), "the engine probe ended with status %d", p->status);
	else if (json_parse(p->output, p->len, &result, NULL, 0) < 0 ||
		 schema_check(method_get(METHOD_DAEMON_PROBE)->result, result, "", &error) < 0)
		snprintf(why, sizeof(why), "the engine probe gave no result that can be read");
	if (*why) {
		json_object_put(result);
		result = NULL;
		log_line(p->daemon->log, LOG_LEVEL_ERROR, "%s", why);
	} else {
		json_object_put(p->result);
		p->result = result;
		log_line(p->daemon->log, LOG_LEVEL_NOTICE, "engine probe (%llu ms): %s: %s",
			 (unsigned long long)(clock_monotonic_ns() - p->started_ns) / 1000000,
			 json_get_str(result, "choice", "?"), json_get_str(result, "why", "?"));
	}
	answer(p, result, why);
}

static void on_closed(uv_handle_t *handle)
{
	struct probe *p = handle->data;

	if (--p->open == 0)
		finish(p);
}

static void on_timeout(uv_timer_t *timer)
{
	struct probe *p = timer->data;

	uv_process_kill(&p->process, SIGKILL);
}

static void close_once(uv_handle_t *handle)
{
	if (!uv_is_closing(handle))
		uv_close(handle, on_closed);
}

static void on_exited(uv_process_t *process, int64_t status, int signal)
{
	struct probe *p = process->data;

	p->status = signal ? 128 + signal : (int)status;
	close_once((uv_handle_t *)process);
	close_once((uv_handle_t *)&p->timer);
	if (p->stopping)
		close_once((uv_handle_t *)&p->pipe);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *buf)
{
	struct probe *p = handle->data;

	(void)size;
	*buf = uv_buf_init(p->output + p->len, (unsigned)(sizeof(p->output) - p->len));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct probe *p = stream->data;

	(void)buf;
	if (n > 0)
		p->len += (size_t)n;
	else if (n < 0)
		close_once((uv_handle_t *)stream);
}

static int run(struct probe *p)
{
	uv_stdio_container_t io[3] = {
		{ .flags = UV_IGNORE },
		{ .flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&p->pipe },
		{ .flags = UV_INHERIT_FD, .data.fd = 2 },
	};
	char *args[] = { (char *)(uintptr_t)"vmxd-machine", (char *)(uintptr_t)"--probe", NULL };
	uv_process_options_t options = {
		.exit_cb = on_exited, .file = p->daemon->options.machine, .args = args, .cwd = "/",
		.stdio_count = 3, .stdio = io,
	};
	uv_loop_t *loop = p->daemon->loop;
	int r;

	uv_pipe_init(loop, &p->pipe, 0);
	uv_timer_init(loop, &p->timer);
	p->process.data = p->pipe.data = p->timer.data = p;
	p->running = true;
	p->open = 3;
	p->len = 0;
	p->started_ns = clock_monotonic_ns();
	r = uv_spawn(loop, &p->process, &options);
	if (r < 0) {
		p->status = -r;
		close_once((uv_handle_t *)&p->process);
		close_once((uv_handle_t *)&p->timer);
		close_once((uv_handle_t *)&p->pipe);
		return r;
	}
	uv_timer_start(&p->timer, on_timeout, TIMEOUT_MS, 0);
	return uv_read_start((uv_stream_t *)&p->pipe, on_alloc, on_read);
}

int probe_ask(struct probe *p, bool refresh, probe_done_fn *done, void *opaque)
{
	struct asker *a;

	if (p->result && !refresh) {
		done(opaque, p->result, NULL);
		return 0;
	}
	a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->done = done;
	a->opaque = opaque;
	TAILQ_INSERT_TAIL(&p->askers, a, link);
	if (!p->running && run(p) < 0)
		log_line(p->daemon->log, LOG_LEVEL_ERROR, "%s cannot be run: %s",
			 p->daemon->options.machine, strerror(p->status));
	return 0;
}

static void forget_in(struct asker_list *list, void *opaque)
{
	struct asker *a, *next;

	for (a = TAILQ_FIRST(list); a; a = next) {
		next = TAILQ_NEXT(a, link);
		if (a->opaque == opaque) {
			TAILQ_REMOVE(list, a, link);
			free(a);
		}
	}
}

void probe_forget(struct probe *p, void *opaque)
{
	forget_in(&p->askers, opaque);
	forget_in(&p->answering, opaque);
}

void probe_stop(struct probe *p)
{
	struct asker *a;

	p->stopping = true;
	while ((a = TAILQ_FIRST(&p->askers))) {
		TAILQ_REMOVE(&p->askers, a, link);
		free(a);
	}
	if (p->running && uv_is_active((uv_handle_t *)&p->process))
		uv_process_kill(&p->process, SIGKILL);
}
