/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/vhosts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/checked.h"
#include "daemon/events.h"
#include "daemon/helper.h"
#include "daemon/host.h"
#include "daemon/link.h"
#include "daemon/vhostconf.h"
#include "protocol/unix.h"

#define RETRY_MS 1000
#define FIRST_MS 100

struct one {
	char id[NET_ID_MAX + 1]; /* empty: nobody's */
	bool down;      /* the machine says so */
	bool attaching; /* a connection is on its way */
	bool told;      /* that nobody is there: once in the log is enough */
	char why[160];  /* of one that is down */
};

struct vhosts {
	struct vm *vm; /* NULL: ended, only the timer is left to close */
	uv_timer_t timer;
	struct one one[VHOSTS_MAX];
};

/* --- life ------------------------------------------------------------------------------------- */

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static struct one *find(struct vhosts *vhosts, const char *id)
{
	for (size_t i = 0; vhosts && i < VHOSTS_MAX; i++)
		if (strcmp(vhosts->one[i].id, id) == 0)
			return &vhosts->one[i];
	return NULL;
}

void vhosts_adopt_new(struct vm *vm, const char *id)
{
	struct one *one = find(vm->vhosts, id) ? NULL : find(vm->vhosts, "");

	if (one)
		snprintf(one->id, sizeof(one->id), "%s", id);
}

void vhosts_drop(struct vm *vm, const char *id)
{
	struct one *one = find(vm->vhosts, id);

	if (one)
		memset(one, 0, sizeof(*one));
}

void vhosts_adopt(struct vm *vm)
{
	struct vhosts *vhosts = calloc(1, sizeof(*vhosts));
	size_t count = vhostconf_count(vm->config);

	vm->vhosts = vhosts;
	if (!vhosts)
		return;
	vhosts->vm = vm;
	for (size_t i = 0; i < count; i++) {
		struct vhostconf conf;
		struct rpc_error error;

		if (vhostconf_get(vm->config, i, &conf, &error) == 0)
			vhosts_adopt_new(vm, conf.id);
	}
	uv_timer_init(vm->daemon->loop, &vhosts->timer);
	vhosts->timer.data = vhosts;
}

struct vhosts *vhosts_free(struct vhosts *vhosts)
{
	if (!vhosts || !vhosts->vm)
		return NULL;
	vhosts->vm = NULL;
	uv_close((uv_handle_t *)&vhosts->timer, on_timer_closed);
	return NULL;
}

/* --- connecting ------------------------------------------------------------------------------- */

/* A socket that listens without a name that anybody could know, and one that is connected to it. */
static int socket_pair(int *ret_listens, int *ret_connected)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(at);
	int listens = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;
	int r = listens < 0 || bind(listens, (struct sockaddr *)&at, sizeof(sa_family_t)) < 0 ||
		listen(listens, 1) < 0 || getsockname(listens, (struct sockaddr *)&at, &len) < 0 ?
		-errno : 0;

	fd = r == 0 ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
	if (r == 0 && (fd < 0 || connect(fd, (struct sockaddr *)&at, len) < 0 ||
		       fcntl(fd, F_SETFL, O_NONBLOCK) < 0))
		r = -errno;
	if (r < 0 && fd >= 0)
		close(fd);
	if (r < 0 && listens >= 0)
		close(listens);
	*ret_listens = listens;
	*ret_connected = fd;
	return r;
}

/* Root without the right to mount still has a root directory of its own. */
static int start_virtiofsd(struct vm *vm, const char *path, int listens, int dir)
{
	char text[][40] = { "virtiofsd", "", "-o", "", "-o", "sandbox=chroot" }, *args[7] = { NULL };
	const int fds[HELPER_FDS_MAX] = { listens, dir };

	for (size_t i = 0; i < ARRAY_SIZE(text); i++)
		args[i] = text[i];
	if (geteuid() != 0)
		strcpy(text[5], "sandbox=namespace");
	snprintf(text[1], sizeof(text[1]), "--fd=%d", HELPER_FD);
	/* The directory that was checked, and no name that may mean another by now. */
	snprintf(text[3], sizeof(text[3]), "source=/proc/self/fd/%d/.", HELPER_FD + 1);
	return helper_spawn(vm, path, args, fds, HELPER_FDS_MAX);
}

/* It ends by itself when the connection does. */
static int connect_virtiofsd(struct vm *vm, const struct vhostconf *conf, int *ret_fd,
			     struct rpc_error *error)
{
	const char *path = host_virtiofsd();
	int listens, dir, r;

	if (!path)
		return rpc_fail(error, RPC_INVALID_PARAMS, "not-supported", conf->field,
				"%s: this host has no virtiofsd: install the package virtiofsd (Debian "
				"12: qemu-system-common), or share it by 9p", conf->field);
	r = config_open_share(vm->config, conf->share, vm->daemon->options.share_roots, &dir, error);
	if (r < 0)
		return r;
	r = socket_pair(&listens, ret_fd);
	if (r == 0) {
		r = start_virtiofsd(vm, path, listens, dir);
		close(listens);
		if (r < 0)
			close(*ret_fd);
	}
	close(dir);
	return r == 0 ? 0 : rpc_fail(error, RPC_FAILED, NULL, conf->field,
				     "%s: %s cannot be started: %s", conf->field, path,
				     strerror(-r));
}

static int connect_socket(struct vm *vm, const struct vhostconf *conf, int *ret_fd,
			  struct rpc_error *error)
{
	bool absent;
	char field[48];
	int fd;

	if (!conf->socket)
		return connect_virtiofsd(vm, conf, ret_fd, error);
	fd = unix_connect(conf->socket, 1);

	if (fd >= 0) {
		*ret_fd = fd;
		return 0;
	}
	absent = fd == -ENOENT || fd == -ECONNREFUSED;
	snprintf(field, sizeof(field), "%s.socket", conf->field);
	rpc_fail(error, RPC_INVALID_PARAMS,
		 absent ? "no-such-peer" : fd == -EACCES ? "not-accessible" : "not-usable", field,
		 "%s: %s: %s%s", field, conf->socket, strerror(-fd),
		 absent ? ": start the program that serves it first" : "");
	error->err = -fd;
	return -EINVAL;
}

int vhosts_open(struct vm *vm, struct config_files *files, struct rpc_error *error)
{
	size_t count = vhostconf_count(vm->config);
	int r = 0;

	vhosts_adopt(vm);
	if (!vm->vhosts)
		return rpc_fail(error, RPC_INTERNAL, NULL, NULL, "out of memory");
	for (size_t i = 0; i < count && r == 0; i++) {
		struct vhostconf conf;
		int fd = -1;

		r = vhostconf_get(vm->config, i, &conf, error);
		if (r == 0)
			r = connect_socket(vm, &conf, &fd, error);
		if (r == 0)
			r = config_hand(files, "vhost", i, fd, error);
	}
	return r;
}

int vhosts_open_new(struct vm *vm, json_object *vhost, const char *field, struct vhostconf *ret,
		    int *ret_fd, struct rpc_error *error)
{
	int r = vhostconf_check_new(vm->config, vhost, field, ret, error);

	if (r == 0)
		r = connect_socket(vm, ret, ret_fd, error);
	if (r == 0)
		vhosts_adopt_new(vm, ret->id);
	return r;
}

/* --- mending ---------------------------------------------------------------------------------- */

static void on_attached(struct vm *vm, void *opaque, json_object *result,
			const struct rpc_error *error)
{
	size_t index = (size_t)(uintptr_t)opaque;

	(void)result;
	if (!vm->vhosts)
		return;
	vm->vhosts->one[index].attaching = false;
	if (error && strcmp(error->reason, "ended") != 0)
		log_line(vm->daemon->log, LOG_LEVEL_WARNING, "vm %s: %s", vm->name, error->message);
}

static void mend(struct vm *vm, size_t index)
{
	struct one *one = &vm->vhosts->one[index];
	struct vhostconf conf;
	struct rpc_error error;
	json_object *params;
	int fd = -1;

	if (vhostconf_find(vm->config, one->id, &conf) < 0)
		return; /* it is just being added */
	if (connect_socket(vm, &conf, &fd, &error) < 0) {
		if (!one->told)
			log_line(vm->daemon->log, LOG_LEVEL_WARNING,
				 "vm %s: %s; trying again every second", vm->name, error.message);
		one->told = true;
		return;
	}
	one->told = false;
	params = json_object_new_object();
	json_add_str(params, "id", one->id);
	one->attaching = link_request_fd(vm->link, "machine.vhost_attach", params, fd, on_attached,
					 (void *)(uintptr_t)index) == 0;
}

static void on_timer(uv_timer_t *timer)
{
	struct vhosts *vhosts = timer->data;
	struct vm *vm = vhosts->vm;
	bool more = false;

	if (!vm || !vm->link)
		return;
	for (size_t i = 0; i < VHOSTS_MAX; i++) {
		if (vhosts->one[i].down && !vhosts->one[i].attaching)
			mend(vm, i);
		more |= vhosts->one[i].down;
	}
	if (!more)
		uv_timer_stop(timer);
}

static void tell(struct vm *vm, const struct one *one)
{
	json_object *event = json_object_new_object();
	struct vhostconf conf;

	if (vhostconf_find(vm->config, one->id, &conf) < 0)
		snprintf(conf.field, sizeof(conf.field), "%.39s", one->id);
	json_add_str(event, "vm", vm->name);
	json_add_str(event, "device", conf.field);
	json_add_bool(event, "up", !one->down);
	json_add_str(event, "why", one->why);
	log_line(vm->daemon->log, one->down ? LOG_LEVEL_WARNING : LOG_LEVEL_NOTICE,
		 "vm %s: %s: %s%s", vm->name, conf.field,
		 one->down ? "its peer is gone, the device waits: " : "its peer is there again",
		 one->why);
	events_add(vm->daemon, "vm.peer", event);
}

void vhosts_report(struct vm *vm, json_object *peers)
{
	size_t count = json_object_is_type(peers, json_type_array) ? json_object_array_length(peers) : 0;
	struct vhosts *vhosts = vm->vhosts;
	bool any = false;

	for (size_t i = 0; vhosts && i < count; i++) {
		json_object *peer = json_object_array_get_idx(peers, i);
		bool down = !json_get_bool(peer, "up", true), news;
		const char *why = down ? json_get_str(peer, "why", "") : "";
		struct one *one = find(vhosts, json_get_str(peer, "id", ""));

		if (!one || !one->id[0])
			continue;
		news = down != one->down || strcmp(why, one->why) != 0;
		one->down = down;
		snprintf(one->why, sizeof(one->why), "%s", why);
		any |= down;
		if (news)
			tell(vm, one);
	}
	if (any && !uv_is_active((uv_handle_t *)&vhosts->timer))
		uv_timer_start(&vhosts->timer, on_timer, FIRST_MS, RETRY_MS);
}

json_object *vhosts_json(const struct vm *vm)
{
	json_object *list = json_object_new_array();
	size_t count = vhostconf_count(vm->config);

	for (size_t i = 0; list && i < count && i < VHOSTS_MAX; i++) {
		json_object *out;
		const struct one *one;
		struct rpc_error error;
		struct vhostconf conf;

		if (vhostconf_get(vm->config, i, &conf, &error) < 0)
			continue; /* kept by another version */
		one = vm->link ? find(vm->vhosts, conf.id) : NULL;
		out = json_object_new_object();
		json_add_str(out, "device", conf.field);
		json_add_str(out, "kind", conf.device);
		json_add_bool(out, "up", one && !one->down);
		json_add_str(out, "why", one ? one->why : "");
		json_object_array_add(list, out);
	}
	return list;
}

json_object *vhosts_unit_json(const struct vm *vm, const char *id)
{
	const struct one *one = vm->link ? find(vm->vhosts, id) : NULL;
	json_object *out = json_object_new_object();

	json_add_bool(out, "up", one && !one->down);
	return out;
}
