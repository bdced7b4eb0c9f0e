/* SPDX-License-Identifier: Apache-2.0 */
/* nets.c - network cards from --net and --publish, devices from --vhost-user. What they say is judged
 * by the daemon. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum value { TEXT, NUMBER, SIZE, FLAG, NOT, PATH };

struct word {
	const char *word;
	enum value value;
	const char *key;
};

static const struct word net_words[] = {
	{ "id", TEXT, "id" },
	{ "mac", TEXT, "mac" },          { "mtu", NUMBER, "mtu" },
	{ "host-access", FLAG, "host_access" }, { "no-ipv6", NOT, "ipv6" },
	{ "name", TEXT, "ifname" },      { "queues", NUMBER, "queues" },
	{ "create", FLAG, "create" },    { "bridge", TEXT, "bridge" },
	{ "vhost", TEXT, "vhost" },      { "path", PATH, "path" },
	{ "listen", FLAG, "listen" },    { "rx-bytes", SIZE, "rx_bytes_per_s" },
	{ "rx-packets", SIZE, "rx_packets_per_s" }, { "tx-bytes", SIZE, "tx_bytes_per_s" },
	{ "tx-packets", SIZE, "tx_packets_per_s" }, { NULL, TEXT, NULL },
};

static const struct word vhost_words[] = {
	{ "socket", PATH, "socket" },    { "tag", TEXT, "tag" },
	{ "mac", TEXT, "mac" },          { "queues", NUMBER, "queues" },
	{ "queue_size", NUMBER, "queue_size" }, { "id", TEXT, "id" }, { NULL, TEXT, NULL },
};

/* VALUE[,word[=value]]...: an object of one kind. */
static const struct list {
	const char *option;
	const char *first; /* key of VALUE */
	const struct word *words;
} net_list = { "--net", "kind", net_words }, vhost_list = { "--vhost-user", "device", vhost_words };

static bool number(const char *text, int64_t max, int64_t *ret)
{
	char *end;

	*ret = strtoll(text, &end, 10);
	return end != text && !*end && *text >= '0' && *text <= '9' && *ret <= max;
}

static bool add_word(const struct ctl *ctl, const struct list *list, json_object *object, char *word)
{
	char *equals = strchr(word, '=');
	int64_t n;

	if (equals)
		*equals++ = '\0';
	for (const struct word *w = list->words; w->word; w++) {
		bool flag = w->value == FLAG || w->value == NOT;

		if (strcmp(w->word, word) != 0)
			continue;
		if (flag == !!equals) {
			ctl_complain("%s: %s %s", list->option, word,
				     flag ? "takes no value" : "needs a value");
			return false;
		}
		if (w->value == NUMBER && !number(equals, INT32_MAX, &n)) {
			ctl_complain("%s: %s: \"%s\" is no number", list->option, word, equals);
			return false;
		}
		if (flag)
			json_add_bool(object, w->key, w->value == FLAG);
		else if (w->value == NUMBER)
			json_add_int(object, w->key, n);
		else if (w->value == PATH)
			json_add(object, w->key, absolute_path(equals));
		else
			json_add(object, w->key, json_from_bytes(equals, strlen(equals)));
		return true;
	}
	ctl_complain("%s: %s has no word \"%s\"", ctl->verb->name, list->option, word);
	return false;
}

static json_object *list_json(const struct ctl *ctl, const struct list *list, const char *text)
{
	json_object *object = json_object_new_object();
	char *copy = strdup(text), *rest = copy, *word = copy ? strsep(&rest, ",") : NULL;

	json_add(object, list->first, word ? json_from_bytes(word, strlen(word)) : NULL);
	while (object && rest) {
		word = strsep(&rest, ",");
		if (!add_word(ctl, list, object, word)) {
			json_object_put(object);
			object = NULL;
		}
	}
	free(copy);
	return object;
}

/* Takes the brackets off an address of IPv6. False: they are not as they should be. */
static bool unbracket(char **address)
{
	size_t len = strlen(*address);

	if (**address != '[')
		return !strchr(*address, ':');
	if (len < 4 || (*address)[len - 1] != ']')
		return false;
	(*address)[len - 1] = '\0';
	(*address)++;
	return true;
}

/* [ADDRESS:]HOSTPORT:GUESTPORT[/PROTOCOL]; an address of IPv6 in brackets. */
static json_object *port_json(const char *text)
{
	json_object *port = json_object_new_object();
	char *copy = strdup(text), *slash = copy ? strrchr(copy, '/') : NULL, *guest, *host;
	char *address = copy;
	int64_t host_port, guest_port;
	bool good = copy;

	if (slash) {
		*slash++ = '\0';
		json_add(port, "protocol", json_from_bytes(slash, strlen(slash)));
	}
	guest = copy ? strrchr(copy, ':') : NULL;
	if (guest)
		*guest++ = '\0';
	host = guest ? strrchr(copy, ':') : NULL;
	if (host) {
		*host++ = '\0';
		good = unbracket(&address);
		json_add(port, "address", json_from_bytes(address, strlen(address)));
	} else {
		host = copy;
	}
	if (!good || !guest || !number(host, 65535, &host_port) || !number(guest, 65535, &guest_port)) {
		ctl_complain("--publish: \"%s\" is not [ADDRESS:]HOSTPORT:GUESTPORT[/udp]%s", text,
			     good ? "" : "; an IPv6 address stands in brackets: [::1]:2222:22");
		json_object_put(port);
		port = NULL;
	} else {
		json_add_int(port, "host_port", host_port);
		json_add_int(port, "guest_port", guest_port);
	}
	free(copy);
	return port;
}

/* The first card of kind user. */
static json_object *user_card(json_object *nets)
{
	for (size_t i = 0; i < json_object_array_length(nets); i++) {
		json_object *net = json_object_array_get_idx(nets, i);

		if (strcmp(json_get_str(net, "kind", ""), "user") == 0)
			return net;
	}
	return NULL;
}

/* default_card: if there is no card for them, there will be one. */
static int add_ports(const struct options *o, json_object *nets, bool default_card)
{
	json_object *ports, *net = user_card(nets);

	if (!o->all[OPTION_PUBLISH].count)
		return EXIT_OK;
	if (!net && !default_card) {
		ctl_complain("--publish is for a card of kind user: add --net user");
		return EXIT_USAGE;
	}
	if (!net) {
		net = json_object_new_object();
		json_add_str(net, "kind", "user");
		json_object_array_add(nets, net);
	}
	ports = json_object_new_array();
	json_add(net, "publish", ports);
	for (size_t i = 0; ports && i < o->all[OPTION_PUBLISH].count; i++) {
		json_object *port = port_json(o->all[OPTION_PUBLISH].value[i]);

		if (!port)
			return EXIT_USAGE;
		json_object_array_add(ports, port);
	}
	return EXIT_OK;
}

json_object *net_from_text(struct ctl *ctl, const char *text)
{
	json_object *list, *net = list_json(ctl, &net_list, text);
	int r;

	if (!net)
		return NULL;
	list = json_object_new_array();
	json_object_array_add(list, json_object_get(net));
	r = add_ports(&ctl->options, list, false);
	json_object_put(list);
	if (r == EXIT_OK)
		return net;
	json_object_put(net);
	return NULL;
}

int nets_from_options(const struct ctl *ctl, json_object *config)
{
	const struct options *o = &ctl->options;
	json_object *nets;

	if (!o->all[OPTION_NET].count && !o->all[OPTION_PUBLISH].count)
		return EXIT_OK; /* the daemon's default */
	nets = json_object_new_array();
	json_add(config, "nets", nets);
	for (size_t i = 0; nets && i < o->all[OPTION_NET].count; i++) {
		json_object *net;

		if (strcmp(o->all[OPTION_NET].value[i], "none") == 0) {
			if (o->all[OPTION_NET].count == 1)
				continue;
			ctl_complain("--net none goes with no other --net");
			return EXIT_USAGE;
		}
		net = list_json(ctl, &net_list, o->all[OPTION_NET].value[i]);
		if (!net)
			return EXIT_USAGE;
		json_object_array_add(nets, net);
	}
	return nets ? add_ports(o, nets, !o->all[OPTION_NET].count) : EXIT_OK;
}

json_object *vhost_from_text(struct ctl *ctl, const char *text)
{
	return list_json(ctl, &vhost_list, text);
}

int vhosts_from_options(const struct ctl *ctl, json_object *config)
{
	const struct options *o = &ctl->options;
	json_object *vhosts = o->all[OPTION_VHOST_USER].count ? json_object_new_array() : NULL;

	if (vhosts)
		json_add(config, "vhost_user", vhosts);
	for (size_t i = 0; vhosts && i < o->all[OPTION_VHOST_USER].count; i++) {
		json_object *vhost = list_json(ctl, &vhost_list, o->all[OPTION_VHOST_USER].value[i]);

		if (!vhost)
			return EXIT_USAGE;
		json_object_array_add(vhosts, vhost);
	}
	return EXIT_OK;
}
