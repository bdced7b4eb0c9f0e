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
	char id[NET_ID_MAX + 1]; /* empty: none here */
	bool down;      /* the machine says so */
	bool vhost_net; /* likewise: the kernel moves its packets */
	bool was_up;    /* once */
	bool attaching; /* a descriptor is on its way */
	bool told;      /* that it cannot be had: once in the log is enough */
	int listen_fd;  /* -1: none */
	int peer_fd;    /* of a vmxd-slirp that is to be started; -1: none */
};

struct nets {
	struct vm *vm; /* NULL: ended, only the timer is left to close */
	uv_timer_t timer;
	struct card card[NETS_MAX];
};

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
	uv_timer_init(vm->daemon->loop, &nets->timer);
	nets->timer.data = nets;
	return nets;
}

static struct card *find_card(struct nets *nets, const char *id)
{
	for (size_t i = 0; nets && i < NETS_MAX; i++)
		if (strcmp(nets->card[i].id, id) == 0)
			return &nets->card[i];
	return NULL;
}

/* NULL: there are too many. */
static struct card *add_card(struct nets *nets, const char *id)
{
	struct card *card = find_card(nets, "");

	if (!card)
		return NULL;
	*card = (struct card){ .listen_fd = -1, .peer_fd = -1 };
	snprintf(card->id, sizeof(card->id), "%s", id);
	return card;
}

static void drop_card(struct card *card)
{
	if (*card->id && card->listen_fd >= 0)
		close(card->listen_fd);
	if (*card->id && card->peer_fd >= 0)
		close(card->peer_fd);
	*card->id = '\0';
}

void nets_drop(struct vm *vm, const char *id)
{
	struct card *card = find_card(vm->nets, id);

	if (card)
		drop_card(card);
}

struct nets *nets_free(struct nets *nets)
{
	if (!nets || !nets->vm)
		return NULL;
	nets->vm = NULL;
	for (size_t i = 0; i < NETS_MAX; i++)
		drop_card(&nets->card[i]);
	uv_close((uv_handle_t *)&nets->timer, on_timer_closed);
	return NULL;
}

/* --- opening ---------------------------------------------------------------------------------- */

/* Several may open a tap with several queues: the kernel would spread packets over them. */
static bool tap_taken(const struct vm *vm, const struct netconf *card)
{
	struct vm *other;

	TAILQ_FOREACH(other, &vm->daemon->vms, entry) {
		size_t count = other->nets ? netconf_count(other->config) : 0;

		for (size_t i = 0; i < count; i++) {
			struct rpc_error ignored;
			struct netconf conf;

			if (netconf_get(other->config, i, &conf, &ignored) == 0 &&
			    conf.kind == NETCONF_TAP && strcmp(conf.ifname, card->ifname) == 0 &&
			    (other != vm || strcmp(conf.id, card->id) != 0))
				return true;
		}
	}
	return false;
}

static int open_card(struct vm *vm, struct card *card, const struct netconf *conf,
		     const char *field, struct net_ends *ends, struct rpc_error *error)
{
	int r = 0;

	*ends = (struct net_ends){ .kind = conf->kind, .mtu = conf->mtu };
	memcpy(ends->mac, conf->mac, sizeof(ends->mac));
	switch (conf->kind) {
	case NETCONF_TAP:
		r = net_open_tap(conf, field, tap_taken(vm, conf), ends, error);
		return r == 0 ? net_open_vhost(vm->daemon->log, conf, field, ends, error) : r;
	case NETCONF_USER:
		r = net_open_user(vm, conf, field, &ends->fds[0], &card->peer_fd, error);
		break;
	case NETCONF_STREAM:
		if (conf->listen)
			return net_listen(conf, field, &card->listen_fd, error);
		r = net_open_stream(conf, field, &ends->fds[0], error);
		break;
	}
	ends->fd_count = r == 0;
	return r;
}

/* A card's place, and what is behind it. */
static int open_new(struct vm *vm, struct nets *nets, const struct netconf *conf, const char *field,
		    struct net_ends *ends, struct rpc_error *error)
{
	struct card *card = nets ? add_card(nets, conf->id) : NULL;
	int r;

	if (!card)
		return rpc_fail(error, RPC_INTERNAL, NULL, NULL, "out of memory");
	r = open_card(vm, card, conf, field, ends, error);
	if (r < 0)
		drop_card(card);
	return r;
}

int nets_open(struct vm *vm, struct net_ends *ends, size_t *ret_count, struct rpc_error *error)
{
	struct nets *nets = nets_new(vm);
	size_t count = netconf_count(vm->config);
	int r = 0;

	*ret_count = 0;
	if (!nets)
		return rpc_fail(error, RPC_INTERNAL, NULL, NULL, "out of memory");
	for (size_t i = 0; i < count && i < NETS_MAX && r == 0; i++) {
		struct netconf conf;
		char field[32];

		snprintf(field, sizeof(field), "nets[%zu]", i);
		r = netconf_get(vm->config, i, &conf, error);
		if (r == 0)
			r = open_new(vm, nets, &conf, field, &ends[i], error);
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

/* What was opened for a card gets its other side. */
static int start_card(struct vm *vm, struct card *card, const struct netconf *conf, const char *field,
		      struct rpc_error *error)
{
	int r = 0;

	if (card->peer_fd >= 0) {
		r = net_start_user(vm, conf, field, card->peer_fd, error);
		close(card->peer_fd);
		card->peer_fd = -1;
	}
	return r;
}

void nets_start(struct vm *vm)
{
	for (size_t i = 0; vm->nets && i < NETS_MAX; i++) {
		struct card *card = &vm->nets->card[i];
		struct rpc_error error;
		struct netconf conf;
		size_t index;

		if (*card->id && netconf_find(vm->config, card->id, &index) == 0 &&
		    netconf_get(vm->config, index, &conf, &error) == 0 &&
		    start_card(vm, card, &conf, card->id, &error) < 0)
			log_line(vm->daemon->log, LOG_LEVEL_WARNING, "vm %s: %s", vm->name,
				 error.message);
	}
}

int nets_open_new(struct vm *vm, json_object *net, const char *field, struct net_ends *ends,
		  struct rpc_error *error)
{
	struct netconf conf;
	int r = netconf_check_new(vm->config, net, field, &conf, error);

	if (r == 0)
		r = open_new(vm, vm->nets, &conf, field, ends, error);
	if (r == 0) {
		r = start_card(vm, find_card(vm->nets, conf.id), &conf, field, error);
		if (r < 0) {
			net_ends_close(ends, 1);
			nets_drop(vm, conf.id);
		}
	}
	return r;
}

static void adopt_card(struct vm *vm, const struct netconf *conf)
{
	struct rpc_error error;
	struct card *card;

	if (!vm->nets || find_card(vm->nets, conf->id))
		return;
	card = add_card(vm->nets, conf->id);
	if (card && conf->kind == NETCONF_STREAM && conf->listen &&
	    net_listen(conf, conf->id, &card->listen_fd, &error) < 0)
		log_line(vm->daemon->log, LOG_LEVEL_WARNING, "vm %s: %s", vm->name, error.message);
}

void nets_adopt(struct vm *vm)
{
	size_t count = netconf_count(vm->config);

	vm->nets = nets_new(vm);
	for (size_t i = 0; i < count; i++) {
		struct rpc_error ignored;
		struct netconf conf;

		if (netconf_get(vm->config, i, &conf, &ignored) == 0)
			adopt_card(vm, &conf);
	}
}

void nets_adopt_new(struct vm *vm, const char *id)
{
	struct rpc_error ignored;
	struct netconf conf;
	size_t index;

	if (netconf_find(vm->config, id, &index) == 0 &&
	    netconf_get(vm->config, index, &conf, &ignored) == 0)
		adopt_card(vm, &conf);
}

/* --- mending ---------------------------------------------------------------------------------- */

static void on_attached(struct vm *vm, void *opaque, json_object *result,
			const struct rpc_error *error)
{
	struct card *card;

	(void)result;
	if (!vm->nets)
		return;
	card = &vm->nets->card[(uintptr_t)opaque];
	card->attaching = false;
	if (error && strcmp(error->reason, "ended") != 0)
		log_line(vm->daemon->log, LOG_LEVEL_WARNING, "vm %s: %s: %s", vm->name, card->id,
			 error->message);
}

/* A new descriptor for the card, or -EAGAIN: not now. */
static int reopen(struct vm *vm, struct card *card, const struct netconf *conf, const char *field,
		  int *ret_fd, struct rpc_error *error)
{
	int r;

	if (conf->kind == NETCONF_USER) {
		r = net_open_user(vm, conf, field, ret_fd, &card->peer_fd, error);
		if (r == 0) {
			r = start_card(vm, card, conf, field, error);
			if (r < 0)
				close(*ret_fd);
		}
		return r;
	}
	if (conf->kind == NETCONF_TAP) /* it was deleted: a new one is another interface */
		return -EAGAIN;
	if (!conf->listen)
		return net_open_stream(conf, field, ret_fd, error);
	*ret_fd = card->listen_fd < 0 ? -1 : accept4(card->listen_fd, NULL, NULL,
						      SOCK_CLOEXEC | SOCK_NONBLOCK);
	return *ret_fd < 0 ? -EAGAIN : 0;
}

static void mend(struct vm *vm, size_t place)
{
	struct card *card = &vm->nets->card[place];
	json_object *params;
	struct rpc_error error;
	struct netconf conf;
	size_t index;
	int fd = -1, r;

	if (netconf_find(vm->config, card->id, &index) < 0)
		return; /* not yet, or not any more */
	r = netconf_get(vm->config, index, &conf, &error);
	if (r == 0)
		r = reopen(vm, card, &conf, card->id, &fd, &error);
	if (r < 0) {
		if (r != -EAGAIN && !card->told)
			log_line(vm->daemon->log, LOG_LEVEL_WARNING,
				 "vm %s: %s; trying again every second", vm->name, error.message);
		card->told |= r != -EAGAIN;
		return;
	}
	card->told = false;
	params = json_object_new_object();
	json_add_str(params, "id", card->id);
	card->attaching = link_request_fd(vm->link, "machine.net_attach", params, fd, on_attached,
					  (void *)(uintptr_t)place) == 0;
}

static void on_timer(uv_timer_t *timer)
{
	struct nets *nets = timer->data;
	struct vm *vm = nets->vm;
	bool more = false;

	if (!vm || !vm->link)
		return;
	for (size_t i = 0; i < NETS_MAX; i++) {
		if (!*nets->card[i].id || !nets->card[i].down)
			continue;
		if (!nets->card[i].attaching)
			mend(vm, i);
		more = true;
	}
	if (!more)
		uv_timer_stop(&nets->timer);
}

static void tell(struct vm *vm, const char *id, bool up)
{
	json_object *event = json_object_new_object();
	size_t index;

	json_add_str(event, "vm", vm->name);
	json_add_str(event, "id", id);
	if (netconf_find(vm->config, id, &index) == 0)
		json_add_int(event, "net", (int64_t)index);
	json_add_bool(event, "up", up);
	log_line(vm->daemon->log, LOG_LEVEL_INFO, "vm %s: %s: link %s", vm->name, id,
		 up ? "up" : "down");
	events_add(vm->daemon, "vm.net", event);
}

void nets_report(struct vm *vm, json_object *units)
{
	struct nets *nets = vm->nets;
	bool any = false, lost = false;
	size_t n = json_object_is_type(units, json_type_array) ? json_object_array_length(units) : 0;

	if (!nets)
		return;
	for (size_t i = 0; i < n; i++) {
		json_object *unit = json_object_array_get_idx(units, i);
		const char *id = json_get_str(unit, "id", "");
		struct card *card = *id ? find_card(nets, id) : NULL;
		bool down = !json_get_bool(unit, "link", true);

		if (!card)
			continue;
		if (down != card->down)
			tell(vm, id, !down);
		lost |= down && card->was_up;
		card->was_up |= !down;
		card->down = down;
		card->vhost_net = json_get_bool(unit, "vhost_net", false);
		any |= down;
	}
	/* Soon the first time: who listens for a peer may have one already. A peer that died gives the
	 * guest time to see its cable pulled. */
	if (any && !uv_is_active((uv_handle_t *)&nets->timer))
		uv_timer_start(&nets->timer, on_timer, lost ? 500 : 50, RETRY_MS);
}

/* --- telling ---------------------------------------------------------------------------------- */

static json_object *card_json(const struct vm *vm, const struct netconf *conf)
{
	const struct card *card = find_card(vm->nets, conf->id);
	json_object *net = json_object_new_object();
	char mac[18];

	netconf_mac_text(conf->mac, mac);
	json_add_str(net, "id", conf->id);
	json_add_str(net, "kind", netconf_kind_name(conf->kind));
	json_add_str(net, "mac", mac);
	json_add_bool(net, "link", card && vm->link && !card->down);
	json_add_bool(net, "vhost_net", card && vm->link && card->vhost_net);
	return net;
}

json_object *nets_card_json(const struct vm *vm, const char *id)
{
	struct rpc_error ignored;
	struct netconf conf;
	size_t index;

	if (netconf_find(vm->config, id, &index) < 0 ||
	    netconf_get(vm->config, index, &conf, &ignored) < 0)
		return json_object_new_object();
	return card_json(vm, &conf);
}

json_object *nets_json(const struct vm *vm)
{
	json_object *list = json_object_new_array();
	size_t count = netconf_count(vm->config);

	for (size_t i = 0; list && i < count; i++) {
		struct rpc_error ignored;
		struct netconf conf;

		if (netconf_get(vm->config, i, &conf, &ignored) == 0) /* else kept by another version */
			json_object_array_add(list, card_json(vm, &conf));
	}
	return list;
}
