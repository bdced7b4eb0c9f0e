/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/vhostconf.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/checked.h"

static int bad(struct rpc_error *error, const struct vhostconf *v, const char *reason,
	       const char *key, const char *what)
{
	char where[64];

	snprintf(where, sizeof(where), "%s.%s", v->field, key);
	return rpc_fail(error, RPC_INVALID_PARAMS, reason, where, "%s %s", where, what);
}

static size_t length(json_object *list)
{
	return list ? json_object_array_length(list) : 0;
}

bool vhostconf_is_virtiofs(json_object *share)
{
	return strcmp(json_get_str(share, "driver", ""), "virtiofs") == 0;
}

size_t vhostconf_count(json_object *config)
{
	json_object *shares = json_get(config, "shares");
	size_t n = length(json_get(config, "vhost_user"));

	for (size_t i = 0; i < length(shares); i++)
		n += vhostconf_is_virtiofs(json_object_array_get_idx(shares, i));
	return n;
}

/* The n-th share by virtiofs. */
static int get_share(json_object *config, size_t n, struct vhostconf *ret, struct rpc_error *error)
{
	json_object *shares = json_get(config, "shares"), *share = NULL;
	size_t i = 0;

	for (; i < length(shares); i++) {
		share = json_object_array_get_idx(shares, i);
		if (vhostconf_is_virtiofs(share) && n-- == 0)
			break;
	}
	snprintf(ret->field, sizeof(ret->field), "shares[%zu]", i);
	snprintf(ret->id, sizeof(ret->id), "%s", ret->field);
	ret->device = "fs";
	ret->share = i;
	ret->tag = json_get_str(share, "tag", "");
	if (json_get_bool(share, "readonly", false))
		return bad(error, ret, "not-supported", "readonly", "is not for virtiofs: see driver");
	return 0;
}

/* What belongs to one kind of device only. */
static const struct {
	const char *key, *device;
} owned[] = { { "tag", "fs" }, { "mac", "net" } };

/* One of "vhost_user"; ret->field is set. */
static int get_vhost(json_object *config, json_object *one, struct vhostconf *ret,
		     struct rpc_error *error)
{
	const char *mac = json_get_str(one, "mac", NULL);

	ret->device = json_get_str(one, "device", "");
	ret->socket = json_get_str(one, "socket", "");
	ret->tag = json_get_str(one, "tag", "");
	ret->queues = (unsigned)json_get_int(one, "queues", 0);
	ret->queue_size = (unsigned)json_get_int(one, "queue_size", 0);
	snprintf(ret->id, sizeof(ret->id), "%s", json_get_str(one, "id", ""));
	for (size_t i = 0; i < ARRAY_SIZE(owned); i++)
		if (json_get(one, owned[i].key) && strcmp(owned[i].device, ret->device) != 0)
			return bad(error, ret, "bad-value", owned[i].key,
				   "is not for this kind of device");
	if (strcmp(ret->device, "fs") == 0 && !*ret->tag)
		return bad(error, ret, "missing-field", "tag", "is missing: what the guest mounts");
	if (strlen(ret->tag) > 36)
		return bad(error, ret, "too-long", "tag", "has more than 36 characters");
	if (strcmp(ret->device, "net") == 0 && ret->queues)
		return bad(error, ret, "not-supported", "queues", "is not for a network card yet");
	if (ret->queue_size & (ret->queue_size - 1))
		return bad(error, ret, "bad-value", "queue_size", "is no power of two");
	if (!mac)
		netconf_default_mac(json_get_str(config, "name", ""), ret->id, ret->mac);
	else if (!netconf_mac_parse(mac, ret->mac) || ret->mac[0] & 1)
		return bad(error, ret, "bad-value", "mac", "is no address such as 52:54:00:12:34:56");
	return 0;
}

int vhostconf_get(json_object *config, size_t index, struct vhostconf *ret, struct rpc_error *error)
{
	json_object *list = json_get(config, "vhost_user");

	memset(ret, 0, sizeof(*ret));
	if (index >= length(list))
		return get_share(config, index - length(list), ret, error);
	snprintf(ret->field, sizeof(ret->field), "vhost_user[%zu]", index);
	return get_vhost(config, json_object_array_get_idx(list, index), ret, error);
}

int vhostconf_find(json_object *config, const char *id, struct vhostconf *ret)
{
	size_t count = vhostconf_count(config);
	struct rpc_error error;

	for (size_t i = 0; i < count; i++)
		if (vhostconf_get(config, i, ret, &error) == 0 && strcmp(ret->id, id) == 0)
			return 0;
	return -ENOENT;
}

/* No two file systems are mounted by the same name: `one` and the first n of the configuration. */
static int check_tag(json_object *config, size_t n, const struct vhostconf *one, struct rpc_error *error)
{
	struct vhostconf other;

	for (size_t i = 0; i < n && *one->tag; i++)
		if (vhostconf_get(config, i, &other, error) == 0 && strcmp(one->tag, other.tag) == 0)
			return bad(error, one, "bad-value", "tag",
				   "is the tag of another file system too");
	return 0;
}

int vhostconf_check(json_object *config, struct rpc_error *error)
{
	size_t count = vhostconf_count(config);

	if (count > VHOSTS_MAX)
		return rpc_fail(error, RPC_INVALID_PARAMS, "too-many", "shares",
				"shares: with \"vhost_user\" more than %d devices whose work another "
				"program does", VHOSTS_MAX);
	for (size_t i = 0; i < count; i++) {
		struct vhostconf one;
		int r = vhostconf_get(config, i, &one, error);

		if (r == 0)
			r = check_tag(config, i, &one, error);
		if (r < 0)
			return r;
	}
	return 0;
}

int vhostconf_check_new(json_object *config, json_object *vhost, const char *field,
			struct vhostconf *ret, struct rpc_error *error)
{
	size_t count = vhostconf_count(config);
	int r;

	if (count >= VHOSTS_MAX)
		return rpc_fail(error, RPC_LIMIT, NULL, NULL, "%s has %d devices already whose work another "
				"program does", json_get_str(config, "name", ""), VHOSTS_MAX);
	memset(ret, 0, sizeof(*ret));
	snprintf(ret->field, sizeof(ret->field), "%s", field);
	r = get_vhost(config, vhost, ret, error);
	return r == 0 ? check_tag(config, count, ret, error) : r;
}

json_object *vhostconf_one_json(const struct vhostconf *conf)
{
	json_object *out = json_object_new_object();
	char mac[18];

	netconf_mac_text(conf->mac, mac);
	json_add_str(out, "id", conf->id);
	json_add_str(out, "device", conf->device);
	json_add_str(out, "tag", conf->tag);
	json_add_str(out, "mac", mac);
	json_add_int(out, "queues", conf->queues);
	json_add_int(out, "queue_size", conf->queue_size);
	return out;
}

json_object *vhostconf_machine_json(json_object *config)
{
	json_object *list = json_object_new_array();
	size_t count = vhostconf_count(config);

	for (size_t i = 0; list && i < count; i++) {
		struct rpc_error error;
		struct vhostconf one;

		(void)vhostconf_get(config, i, &one, &error); /* it was checked */
		json_object_array_add(list, vhostconf_one_json(&one));
	}
	return list;
}
