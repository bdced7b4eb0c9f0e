/* SPDX-License-Identifier: Apache-2.0 */
/* nets.c - network cards from --net and --publish. What they say is judged by the daemon. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

enum value { TEXT, NUMBER, SIZE, FLAG, NOT, PATH };

static const struct {
	const char *word;
	enum value value;
	const char *key;
} words[] = {
	{ "mac", TEXT, "mac" },          { "mtu", NUMBER, "mtu" },
	{ "host-access", FLAG, "host_access" }, { "no-ipv6", NOT, "ipv6" },
	{ "name", TEXT, "ifname" },      { "queues", NUMBER, "queues" },
	{ "create", FLAG, "create" },    { "bridge", TEXT, "bridge" },
	{ "vhost", FLAG, "vhost" },      { "path", PATH, "path" },
	{ "listen", FLAG, "listen" },    { "rx-bytes", SIZE, "rx_bytes_per_s" },
	{ "rx-packets", SIZE, "rx_packets_per_s" }, { "tx-bytes", SIZE, "tx_bytes_per_s" },
	{ "tx-packets", SIZE, "tx_packets_per_s" },
};

static bool number(const char *text, int64_t max, int64_t *ret)
{
	char *end;

	*ret = strtoll(text, &end, 10);
	return end != text && !*end && *text >= '0' && *text <= '9' && *ret <= max;
}

static bool add_word(const struct ctl *ctl, json_object *net, char *word)
{
	char *equals = strchr(word, '=');
	int64_t n;

	if (equals)
		*equals++ = '\0';
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		bool flag = words[i].value == FLAG || words[i].value == NOT;

		if (strcmp(words[i].word, word) != 0)
			continue;
		if (flag == !!equals) {
			ctl_complain(flag ? "--net: %s takes no value" : "--net: %s needs a value", word);
			return false;
		}
		if (words[i].value == NUMBER && !number(equals, INT32_MAX, &n)) {
			ctl_complain("--net: %s: \"%s\" is no number", word, equals);
			return false;
		}
		if (flag)
			json_add_bool(net, words[i].key, words[i].value == FLAG);
		else if (words[i].value == NUMBER)
			json_add_int(net, words[i].key, n);
		else if (words[i].value == PATH)
			json_add(net, words[i].key, absolute_path(equals));
		else
			json_add(net, words[i].key, json_from_bytes(equals, strlen(equals)));
		return true;
	}
	ctl_complain("%s: --net has no word \"%s\"", ctl->verb->name, word);
	return false;
}

/* KIND[,word[=value]]... */
static json_object *net_json(const struct ctl *ctl, const char *text)
{
	json_object *net = json_object_new_object();
	char *copy = strdup(text), *rest = copy, *word = copy ? strsep(&rest, ",") : NULL;

	json_add(net, "kind", word ? json_from_bytes(word, strlen(word)) : NULL);
	while (net && rest) {
		word = strsep(&rest, ",");
		if (!add_word(ctl, net, word)) {
			json_object_put(net);
			net = NULL;
		}
	}
	free(copy);
	return net;
}

/* [ADDRESS:]HOSTPORT:GUESTPORT[/PROTOCOL] */
static json_object *port_json(const char *text)
{
	json_object *port = json_object_new_object();
	char *copy = strdup(text), *slash = copy ? strrchr(copy, '/') : NULL, *guest, *host;
	int64_t host_port, guest_port;

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
		json_add(port, "address", json_from_bytes(copy, strlen(copy)));
	} else {
		host = copy;
	}
	if (!guest || !number(host, 65535, &host_port) || !number(guest, 65535, &guest_port)) {
		ctl_complain("--publish: \"%s\" is not [ADDRESS:]HOSTPORT:GUESTPORT[/udp]", text);
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

static int add_ports(const struct options *o, json_object *nets)
{
	json_object *ports, *net = user_card(nets);

	if (!o->all[OPTION_PUBLISH].count)
		return EXIT_OK;
	if (!net && o->all[OPTION_NET].count) {
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
		net = net_json(ctl, o->all[OPTION_NET].value[i]);
		if (!net)
			return EXIT_USAGE;
		json_object_array_add(nets, net);
	}
	return nets ? add_ports(o, nets) : EXIT_OK;
}
