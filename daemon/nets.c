/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/nets.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/events.h"
#include "daemon/link.h"

#define RETRY_MS 1000

struct card {
	bool down;      /* the machine says so */
	bool was_up;    /* once */
	bool attaching; /* a descriptor is on its way */
	bool told;      /* that it cannot be had: once in the log is enough */
	int listen_fd;  /* -1: none */
};

struct nets {
	struct vm *vm; /* NULL: ended, only the timer is left to close */
	uv_timer_t timer;
	size_t count;
	struct card card[NETS_MAX];
};

static void field_name(size_t index, char *field, size_t size)
{
	snprintf(field, size, "nets[%zu]", index);
}

/* --- life ------------------------------------------------------------------------------------- */

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static struct nets *nets_new(struct vm *vm)
{
	struct nets *nets = calloc(1, sizeof(*nets));

	if (!nets)
		return NULL;
	nets->vm = vm;
	nets->count = netconf_count(vm->config);
	if (nets->count > NETS_MAX)
		nets->count = NETS_MAX;
	for (size_t i = 0; i < nets->count; i++)
		nets->card[i].listen_fd = -1;
	uv_timer_init(vm->daemon->loop, &nets->timer);
	nets->timer.data = nets;
	return nets;
}

struct nets *nets_free(struct nets *nets)
{
	if (!nets || !nets->vm)
		return NULL;
	nets->vm = NULL;
	for (size_t i = 0; i < nets->count; i++)
		if (nets->card[i].listen_fd >= 0)
			close(nets->card[i].listen_fd);
	uv_close((uv_handle_t *)&nets->timer, on_timer_closed);
	return NULL;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* Several may open a tap with several queues: the kernel would spread packets over them. */
static bool tap_taken(const struct vm *vm, const char *ifname)
{
	const struct vm *other;

	TAILQ_FOREACH(other, &vm->daemon->vms, entry) {
		for (size_t i = 0; other != vm && other->nets && i < other->nets->count; i++) {
			struct rpc_error ignored;
			struct netconf conf;

			if (netconf_get(other->config, i, &conf, &ignored) == 0 &&
			    conf.kind == NETCONF_TAP && strcmp(conf.ifname, ifname) == 0)
				return true;
		}
	}
	return false;
}

static int open_card(struct vm *vm, struct nets *nets, size_t index, const struct netconf *conf,
		     struct net_ends *ends, struct rpc_error *error)
{
	char field[32];
	int r = 0;

	field_name(index, field, sizeof(field));
	*ends = (struct net_ends){ .kind = conf->kind, .mtu = conf->mtu };
	memcpy(ends->mac, conf->mac, sizeof(ends->mac));
	switch (conf->kind) {
	case NETCONF_TAP:
		return net_open_tap(conf, field, tap_taken(vm, conf->ifname), ends, error);
	case NETCONF_USER:
		r = net_open_user(vm, conf, field, &ends->fds[0], error);
		break;
	case NETCONF_STREAM:
		if (conf->listen)
			return net_listen(conf, field, &nets->card[index].listen_fd, error);
		r = net_open_stream(conf, field, &ends->fds[0], error);
		break;
	}
	ends->fd_count = r == 0;
	return r;
}

int nets_open(struct vm *vm, struct net_ends *ends, size_t *ret_count, struct rpc_error *error)
{
	struct nets *nets = nets_new(vm);
	int r = 0;

	*ret_count = 0;
	if (!nets)
		return rpc_fail(error, RPC_INTERNAL, NULL, NULL, "out of memory");
	for (size_t i = 0; i < nets->count && r == 0; i++) {
		struct netconf conf;

		r = netconf_get(vm->config, i, &conf, error);
		if (r == 0)
			r = open_card(vm, nets, i, &conf, &ends[i], error);
		if (r == 0)
			++*ret_count;
	}
	if (r < 0) {
		net_ends_close(ends, *ret_count);
		*ret_count = 0;
		nets_free(nets);
		return r;
	}
	vm->nets = nets;
	return 0;
}

void nets_adopt(struct vm *vm)
{
	struct nets *nets = nets_new(vm);

	vm->nets = nets;
	for (size_t i = 0; nets && i < nets->count; i++) {
		struct rpc_error error;
		struct netconf conf;
		char field[32];

		field_name(i, field, sizeof(field));
		if (netconf_get(vm->config, i, &conf, &error) == 0 && conf.kind == NETCONF_STREAM &&
		    conf.listen && net_listen(&conf, field, &nets->card[i].listen_fd, &error) < 0)
			log_line(vm->daemon->log, LOG_LEVEL_WARNING, "vm %s: %s", vm->name,
				 error.message);
	}
}

/* --- mending ---------------------------------------------------------------------------------- */

static void on_attached(struct vm *vm, void *opaque, json_object *result,
			const struct rpc_error *error)
{
	size_t index = (size_t)(uintptr_t)opaque;

	(void)result;
	if (!vm->nets)
		return;
	vm->nets->card[index].attaching = false;
	if (error && strcmp(error->reason, "ended") != 0)
		log_line(vm->daemon->log, LOG_LEVEL_WARNING, "vm %s: nets[%zu]: %s", vm->name, index,
			 error->message);
}

/* A new descriptor for the card, or -EAGAIN: not now. */
static int reopen(struct vm *vm, struct card *card, const struct netconf *conf, const char *field,
		  int *ret_fd, struct rpc_error *error)
{
	if (conf->kind == NETCONF_USER)
		return net_open_user(vm, conf, field, ret_fd, error);
	if (conf->kind == NETCONF_TAP) /* it was deleted: a new one is another interface */
		return -EAGAIN;
	if (!conf->listen)
		return net_open_stream(conf, field, ret_fd, error);
	*ret_fd = card->listen_fd < 0 ? -1 : accept4(card->listen_fd, NULL, NULL,
						      SOCK_CLOEXEC | SOCK_NONBLOCK);
	return *ret_fd < 0 ? -EAGAIN : 0;
}

static void mend(struct vm *vm, size_t index)
{
	struct card *card = &vm->nets->card[index];
	json_object *params;
	struct rpc_error error;
	struct netconf conf;
	char field[32];
	int fd = -1, r;

	field_name(index, field, sizeof(field));
	r = netconf_get(vm->config, index, &conf, &error);
	if (r == 0)
		r = reopen(vm, card, &conf, field, &fd, &error);
	if (r < 0) {
		if (r != -EAGAIN && !card->told)
			log_line(vm->daemon->log, LOG_LEVEL_WARNING,
				 "vm %s: %s; trying again every second", vm->name, error.message);
		card->told |= r != -EAGAIN;
		return;
	}
	card->told = false;
	params = json_object_new_object();
	json_add_int(params, "index", (int64_t)index);
	card->attaching = link_request_fd(vm->link, "machine.net_attach", params, fd, on_attached,
					  (void *)(uintptr_t)index) == 0;
}

static void on_timer(uv_timer_t *timer)
{
	struct nets *nets = timer->data;
	struct vm *vm = nets->vm;
	bool more = false;

	if (!vm || !vm->link)
		return;
	for (size_t i = 0; i < nets->count; i++) {
		if (nets->card[i].down && !nets->card[i].attaching)
			mend(vm, i);
		more |= nets->card[i].down;
	}
	if (!more)
		uv_timer_stop(&nets->timer);
}

static void tell(struct vm *vm, size_t index, bool up)
{
	json_object *event = json_object_new_object();

	json_add_str(event, "vm", vm->name);
	json_add_int(event, "net", (int64_t)index);
	json_add_bool(event, "up", up);
	log_line(vm->daemon->log, LOG_LEVEL_INFO, "vm %s: nets[%zu]: link %s", vm->name, index,
		 up ? "up" : "down");
	events_add(vm->daemon, "vm.net", event);
}

void nets_report(struct vm *vm, json_object *links)
{
	struct nets *nets = vm->nets;
	bool any = false, lost = false;

	if (!nets)
		return;
	for (size_t i = 0; i < nets->count; i++) {
		json_object *up = links ? json_object_array_get_idx(links, i) : NULL;
		bool down = up && !json_object_get_boolean(up);

		if (down != nets->card[i].down)
			tell(vm, i, !down);
		lost |= down && nets->card[i].was_up;
		nets->card[i].was_up |= !down;
		nets->card[i].down = down;
		any |= down;
	}
	/* Soon the first time: who listens for a peer may have one already. A peer that died gives the
	 * guest time to see its cable pulled. */
	if (any && !uv_is_active((uv_handle_t *)&nets->timer))
		uv_timer_start(&nets->timer, on_timer, lost ? 500 : 50, RETRY_MS);
}

/* --- telling ---------------------------------------------------------------------------------- */

json_object *nets_json(const struct vm *vm)
{
	json_object *list = json_object_new_array();
	size_t count = netconf_count(vm->config);

	for (size_t i = 0; list && i < count; i++) {
		json_object *net = json_object_new_object();
		struct rpc_error error;
		struct netconf conf;
		char mac[18];

		if (netconf_get(vm->config, i, &conf, &error) < 0) { /* kept by another version */
			json_object_put(net);
			continue;
		}
		netconf_mac_text(conf.mac, mac);
		json_add_str(net, "kind", netconf_kind_name(conf.kind));
		json_add_str(net, "mac", mac);
		json_add_bool(net, "link", vm->nets && i < vm->nets->count && vm->link &&
					   !vm->nets->card[i].down);
		json_object_array_add(list, net);
	}
	return list;
}
