/* SPDX-License-Identifier: Apache-2.0 */
/* netconf.h - one network card of a configuration: what it means, and what is wrong with it. */
#ifndef DAEMON_NETCONF_H
#define DAEMON_NETCONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/json.h"
#include "protocol/rpc.h"

#define NETS_MAX 8
#define NET_QUEUES_MAX 8
#define NET_FDS_MAX (2 * NET_QUEUES_MAX) /* of one card */
#define NET_PUBLISH_MAX 64
#define NET_TUN_PATH "/dev/net/tun"
#define NET_VHOST_PATH "/dev/vhost-net"
#define NET_USER_MTU 65520
#define NET_ID_MAX 64 /* a SCHEMA_NAME */

enum netconf_kind { NETCONF_USER, NETCONF_TAP, NETCONF_STREAM };

enum netconf_vhost { NETCONF_VHOST_AUTO, NETCONF_VHOST_ON, NETCONF_VHOST_OFF };

struct netconf_port { /* of the host, forwarded to one of the guest */
	char address[46];  /* IPv4 or IPv6 */
	bool any, ipv6;    /* what it is: all of the host's, of its kind */
	uint16_t host, guest;
	bool udp;
};

struct netconf {
	enum netconf_kind kind;
	char id[NET_ID_MAX + 1];
	uint8_t mac[6];
	uint16_t mtu;           /* 0: the driver is not told */
	const char *ifname;     /* tap; borrowed from the configuration, as all text here */
	const char *bridge;     /* tap that is made: what it becomes a port of; NULL: none */
	bool create;            /* tap */
	unsigned queues;        /* tap */
	enum netconf_vhost vhost; /* tap */
	const char *path;       /* stream */
	bool listen;            /* stream: the peer comes to us */
	bool host_access;       /* user: the host's own services at 10.0.2.2 */
	bool ipv6;              /* user */
	size_t publish_count;
	struct netconf_port publish[NET_PUBLISH_MAX];
};

struct net_ends { /* what a machine is given for one card */
	enum netconf_kind kind;
	uint8_t mac[6];
	uint16_t mtu;
	unsigned fd_count; /* 0: nobody is there yet */
	unsigned vhost_count; /* of these, the last, are /dev/vhost-net */
	bool vhost_must;      /* no card without it */
	int fds[NET_FDS_MAX];
};

/* Closes the descriptors. */
void net_ends_close(struct net_ends *ends, size_t count);

/* What a configuration that says nothing has: one user-mode card. The caller owns it. */
json_object *netconf_default(void);
/* The nets of a configuration: the list, or one user-mode card where it says nothing. Borrowed from
 * config or *ret_default, which the caller frees with json_object_put(). */
json_object *netconf_list(json_object *config, json_object **ret_default);
size_t netconf_count(json_object *config);
/* Entry `index` of a configuration that passed vm_config_fields. -EINVAL with *error. */
int netconf_get(json_object *config, size_t index, struct netconf *ret, struct rpc_error *error);
/* Checks them all, also against each other. -EINVAL with *error. */
int netconf_check(json_object *config, struct rpc_error *error);
/* One that is to be added to them, and has an id; field: its name for messages. */
int netconf_check_new(json_object *config, json_object *net, const char *field,
		      struct netconf *ret, struct rpc_error *error);
/* Which entry has that id; -ENOENT. */
int netconf_find(json_object *config, const char *id, size_t *ret_index);
/* The fields that are limits. */
#define NETCONF_LIMITS 4
extern const char *const netconf_limits[NETCONF_LIMITS];
const char *netconf_kind_name(enum netconf_kind kind);
/* "52:54:00:12:34:56"; text has 18 bytes. */
void netconf_mac_text(const uint8_t *mac, char *text);
/* The same for a VM's card of that id at every start, another one on another host: locally administered. */
void netconf_default_mac(const char *name, const char *id, uint8_t *mac);
bool netconf_mac_parse(const char *text, uint8_t *mac);

#endif
