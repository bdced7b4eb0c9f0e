/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/netconf.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/address.h"
#include "common/checked.h"
#include "protocol/schema.h"

static const char *const kind_names[] = {
	[NETCONF_USER] = "user", [NETCONF_TAP] = "tap", [NETCONF_STREAM] = "stream",
};

const char *const netconf_limits[NETCONF_LIMITS] = {
	"rx_bytes_per_s", "rx_packets_per_s", "tx_bytes_per_s", "tx_packets_per_s",
};

const char *netconf_kind_name(enum netconf_kind kind)
{
	return kind_names[kind];
}

void net_ends_close(struct net_ends *ends, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		while (ends[i].fd_count)
			close(ends[i].fds[--ends[i].fd_count]);
	}
}

json_object *netconf_default(void)
{
	json_object *list = json_object_new_array(), *net = json_object_new_object();

	json_add_str(net, "id", "net0");
	json_add_str(net, "kind", "user");
	json_object_array_add(list, net);
	return list;
}

json_object *netconf_list(json_object *config, json_object **ret_default)
{
	json_object *list = json_get(config, "nets");

	*ret_default = NULL;
	if (!list)
		list = *ret_default = netconf_default();
	return list;
}

size_t netconf_count(json_object *config)
{
	json_object *made, *list = netconf_list(config, &made);
	size_t n = list ? json_object_array_length(list) : 0;

	json_object_put(made);
	return n;
}

/* --- addresses -------------------------------------------------------------------------------- */

void netconf_mac_text(const uint8_t *mac, char *text)
{
	snprintf(text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
		 mac[5]);
}

static int hex_digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

bool netconf_mac_parse(const char *text, uint8_t *mac)
{
	for (size_t i = 0; i < 6; i++, text += 3) {
		if (!isxdigit((unsigned char)text[0]) || !isxdigit((unsigned char)text[1]) ||
		    text[2] != (i < 5 ? ':' : '\0'))
			return false;
		mac[i] = (uint8_t)(hex_digit(text[0]) << 4 | hex_digit(text[1]));
	}
	return true;
}

static uint64_t hash(uint64_t h, const char *bytes, size_t len) /* FNV-1a */
{
	for (size_t i = 0; i < len; i++)
		h = (h ^ (unsigned char)bytes[i]) * 0x100000001b3ull;
	return h;
}

void netconf_default_mac(const char *name, const char *id, uint8_t *mac)
{
	bool numbered = strncmp(id, "net", 3) == 0 && id[3] && !id[3 + strspn(id + 3, "0123456789")];
	char host[64] = "", card[NET_ID_MAX + 2];
	int fd = open("/etc/machine-id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, host, sizeof(host)) : 0;
	uint64_t h = hash(0xcbf29ce484222325ull, host, n > 0 ? (size_t)n : 0);

	if (fd >= 0)
		close(fd);
	snprintf(card, sizeof(card), "%s%s", numbered ? "/" : "=", numbered ? id + 3 : id);
	h = hash(hash(h, name, strlen(name) + 1), card, strlen(card));
	h ^= h >> 29; /* FNV's low bits alone change little with the last byte */
	mac[0] = 0x52;
	for (size_t i = 1; i < 6; i++)
		mac[i] = (uint8_t)(h >> 8 * i);
}

/* --- one card --------------------------------------------------------------------------------- */

struct context {
	json_object *net;
	char name[32]; /* of the card: nets[1] */
	struct rpc_error *error;
};

static int bad(const struct context *c, const char *reason, const char *key, const char *what)
{
	char field[96];

	snprintf(field, sizeof(field), "%s.%s", c->name, key);
	return rpc_fail(c->error, RPC_INVALID_PARAMS, reason, field, "%s: %s", field, what);
}

/* Which fields belong to which kinds. */
static const struct {
	const char *key;
	unsigned kinds; /* 1 << enum netconf_kind */
} owners[] = {
	{ "ifname", 1 << NETCONF_TAP },     { "create", 1 << NETCONF_TAP },
	{ "bridge", 1 << NETCONF_TAP },     { "queues", 1 << NETCONF_TAP },
	{ "vhost", 1 << NETCONF_TAP },      { "path", 1 << NETCONF_STREAM },
	{ "listen", 1 << NETCONF_STREAM },  { "publish", 1 << NETCONF_USER },
	{ "host_access", 1 << NETCONF_USER }, { "ipv6", 1 << NETCONF_USER },
};

static int check_owners(const struct context *c, enum netconf_kind kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(owners); i++) {
		char what[64];

		if (owners[i].kinds & 1u << kind || !json_get(c->net, owners[i].key))
			continue;
		snprintf(what, sizeof(what), "means nothing to a card of kind %s", kind_names[kind]);
		return bad(c, "bad-value", owners[i].key, what);
	}
	return 0;
}

static const char *const vhost_names[] = {
	[NETCONF_VHOST_AUTO] = "auto", [NETCONF_VHOST_ON] = "on", [NETCONF_VHOST_OFF] = "off",
};

/* The kernel knows no limits: a card that has some does without. */
static int get_vhost(const struct context *c, struct netconf *n)
{
	const char *use = json_get_str(c->net, "vhost", vhost_names[NETCONF_VHOST_AUTO]);
	bool limited = false;

	while ((size_t)n->vhost + 1 < ARRAY_SIZE(vhost_names) && strcmp(vhost_names[n->vhost], use) != 0)
		n->vhost++;
	for (size_t i = 0; i < ARRAY_SIZE(netconf_limits); i++)
		limited |= json_get(c->net, netconf_limits[i]) != NULL;
	if (!limited)
		return 0;
	if (n->vhost == NETCONF_VHOST_ON)
		return bad(c, "bad-value", "vhost", "cannot be on for a card with limits");
	n->vhost = NETCONF_VHOST_OFF;
	return 0;
}

static int get_tap(const struct context *c, struct netconf *n)
{
	n->ifname = json_get_str(c->net, "ifname", NULL);
	n->bridge = json_get_str(c->net, "bridge", NULL);
	n->create = json_get_bool(c->net, "create", false);
	n->queues = (unsigned)json_get_int(c->net, "queues", 1);
	if (!n->ifname)
		return bad(c, "missing-field", "ifname", "is missing: the tap's name");
	if (strpbrk(n->ifname, "/: %\t\n") || strcmp(n->ifname, ".") == 0 ||
	    strcmp(n->ifname, "..") == 0)
		return bad(c, "bad-value", "ifname", "is no name for an interface");
	if (n->bridge && !n->create)
		return bad(c, "bad-value", "bridge", "only for a tap that is made: see create");
	return get_vhost(c, n);
}

static int get_stream(const struct context *c, struct netconf *n)
{
	n->path = json_get_str(c->net, "path", NULL);
	n->listen = json_get_bool(c->net, "listen", false);
	if (!n->path)
		return bad(c, "missing-field", "path", "is missing: the socket's");
	return 0;
}

static int get_port(const struct context *c, json_object *port, size_t at, struct netconf *n)
{
	struct netconf_port *p = &n->publish[at];
	const char *address = json_get_str(port, "address", "");
	struct sockaddr_storage parsed;
	socklen_t len;
	char key[48];

	snprintf(key, sizeof(key), "publish[%zu].address", at);
	p->host = (uint16_t)json_get_int(port, "host_port", 0);
	len = address_parse(*address ? address : "0.0.0.0", p->host, &parsed);
	if (!len)
		return bad(c, "bad-value", key, "is no IPv4 or IPv6 address");
	p->ipv6 = parsed.ss_family == AF_INET6;
	p->any = address_is_any(&parsed);
	if (p->ipv6 && !n->ipv6)
		return bad(c, "bad-value", key, "is an IPv6 address, and this card has no IPv6");
	(void)getnameinfo((const struct sockaddr *)&parsed, len, p->address, sizeof(p->address), NULL,
			  0, NI_NUMERICHOST);
	p->guest = (uint16_t)json_get_int(port, "guest_port", 0);
	p->udp = strcmp(json_get_str(port, "protocol", "tcp"), "udp") == 0;
	return 0;
}

static int get_user(const struct context *c, struct netconf *n)
{
	json_object *list = json_get(c->net, "publish");
	int r = 0;

	n->host_access = json_get_bool(c->net, "host_access", false);
	n->ipv6 = json_get_bool(c->net, "ipv6", true);
	n->publish_count = list ? json_object_array_length(list) : 0;
	for (size_t i = 0; i < n->publish_count && r == 0; i++)
		r = get_port(c, json_object_array_get_idx(list, i), i, n);
	if (r == 0 && n->mtu > NET_USER_MTU)
		r = bad(c, "out-of-range", "mtu", "at most 65520 for a card of kind user");
	if (r == 0 && n->mtu < 1280 && n->ipv6)
		r = bad(c, "out-of-range", "mtu", "IPv6 needs 1280 at least: see ipv6");
	return r;
}

static int (*const getters[])(const struct context *c, struct netconf *n) = {
	[NETCONF_USER] = get_user, [NETCONF_TAP] = get_tap, [NETCONF_STREAM] = get_stream,
};

/* default_id: if it has none yet. */
static int get_net(const struct context *c, const char *vm_name, const char *default_id,
		   struct netconf *n)
{
	const char *kind = json_get_str(c->net, "kind", "user");
	const char *mac = json_get_str(c->net, "mac", NULL);
	int r;

	memset(n, 0, sizeof(*n));
	snprintf(n->id, sizeof(n->id), "%s", json_get_str(c->net, "id", default_id));
	while ((size_t)n->kind < ARRAY_SIZE(kind_names) && strcmp(kind_names[n->kind], kind) != 0)
		n->kind++;
	r = check_owners(c, n->kind);
	if (r < 0)
		return r;
	n->queues = 1;
	n->mtu = (uint16_t)json_get_int(c->net, "mtu", n->kind == NETCONF_USER ? NET_USER_MTU : 0);
	if (!mac)
		netconf_default_mac(vm_name, n->id, n->mac);
	else if (!netconf_mac_parse(mac, n->mac))
		return bad(c, "bad-value", "mac", "is no address such as 52:54:00:12:34:56");
	if (n->mac[0] & 1)
		return bad(c, "bad-value", "mac", "is a group address: its first byte must be even");
	if (mac && strspn(mac, "0:") == strlen(mac))
		return bad(c, "bad-value", "mac", "is all zeroes");
	return getters[n->kind](c, n);
}

int netconf_get(json_object *config, size_t index, struct netconf *ret, struct rpc_error *error)
{
	json_object *made, *list = netconf_list(config, &made);
	struct context c = { .net = json_object_array_get_idx(list, index), .error = error };
	char id[24];
	int r;

	snprintf(c.name, sizeof(c.name), "nets[%zu]", index);
	snprintf(id, sizeof(id), "net%zu", index);
	r = get_net(&c, json_get_str(config, "name", ""), id, ret);
	json_object_put(made); /* of the default nothing is borrowed */
	return r;
}

int netconf_find(json_object *config, const char *id, size_t *ret_index)
{
	json_object *made, *list = netconf_list(config, &made);
	size_t n = list ? json_object_array_length(list) : 0, i = 0;

	while (i < n && strcmp(json_get_str(json_object_array_get_idx(list, i), "id", ""), id) != 0)
		i++;
	json_object_put(made);
	*ret_index = i;
	return i < n ? 0 : -ENOENT;
}

/* --- all of them ------------------------------------------------------------------------------- */

static bool same_port(const struct netconf_port *a, const struct netconf_port *b)
{
	return a->host == b->host && a->udp == b->udp && a->ipv6 == b->ipv6 &&
	       (a->any || b->any || strcmp(a->address, b->address) == 0);
}

static int check_ports(const struct context *c, const struct netconf *n)
{
	for (size_t i = 0; i < n->publish_count; i++)
		for (size_t k = 0; k < i; k++)
			if (same_port(&n->publish[i], &n->publish[k])) {
				char key[48];

				snprintf(key, sizeof(key), "publish[%zu]", i);
				return bad(c, "bad-value", key, "that port is published already");
			}
	return 0;
}

static int check_mac(const struct context *c, const struct netconf *n, const struct netconf *other)
{
	return memcmp(n->mac, other->mac, 6) == 0 ?
		bad(c, "bad-value", "mac", "another card of this VM has that address") : 0;
}

/* Against those before `index`. */
static int check_card(const struct context *c, json_object *config, size_t index,
		      const struct netconf *n)
{
	int r = check_ports(c, n);

	for (size_t i = 0; i < index && r == 0; i++) {
		struct netconf other;

		r = netconf_get(config, i, &other, c->error);
		if (r == 0)
			r = check_mac(c, n, &other);
	}
	return r;
}

int netconf_check(json_object *config, struct rpc_error *error)
{
	size_t count = netconf_count(config);
	int r = 0;

	for (size_t i = 0; i < count && i < NETS_MAX && r == 0; i++) {
		struct context c = { .error = error };
		struct netconf n;

		snprintf(c.name, sizeof(c.name), "nets[%zu]", i);
		r = netconf_get(config, i, &n, error);
		if (r == 0)
			r = check_card(&c, config, i, &n);
	}
	return r;
}

int netconf_check_new(json_object *config, json_object *net, const char *field,
		      struct netconf *ret, struct rpc_error *error)
{
	struct context c = { .net = net, .error = error };
	int r;

	snprintf(c.name, sizeof(c.name), "%s", field);
	r = get_net(&c, json_get_str(config, "name", ""), "", ret);
	return r < 0 ? r : check_card(&c, config, netconf_count(config), ret);
}
