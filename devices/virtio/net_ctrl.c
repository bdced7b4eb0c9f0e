/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net_ctrl.c - virtio-net's control queue (virtio 1.2, 5.1.6.5): what the driver wants to receive,
 * its address, how many queues it uses. A command that is malformed, or that was not negotiated, is
 * answered with an error and changes nothing.
 */
#include <config.h>

#include <string.h>

#include "common/bytes.h"
#include "common/checked.h"
#include "devices/virtio/net_internal.h"

enum { ACK_OK = 0, ACK_ERR = 1 };
#define COMMANDS_MAX 64u /* in one turn */
#define MAC_BYTES 6u

void net_filter_reset(struct virtio_net *n)
{
	n->filter = (struct net_filter){ .promiscuous = true };
	memcpy(n->virtio.config + CFG_MAC, n->mac, MAC_BYTES);
}

static bool listed(const struct net_filter *f, unsigned kind, const uint8_t *mac)
{
	unsigned i;

	for (i = 0; i < f->macs[kind] && i < NET_FILTER_MACS; i++)
		if (memcmp(f->mac[kind][i], mac, MAC_BYTES) == 0)
			return true;
	return f->macs[kind] > NET_FILTER_MACS;
}

bool net_filter_passes(const struct virtio_net *n, const uint8_t *to)
{
	static const uint8_t broadcast[MAC_BYTES] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
	const struct net_filter *f = &n->filter;

	if (f->promiscuous)
		return true;
	if (memcmp(to, broadcast, MAC_BYTES) == 0)
		return !f->no_broadcast;
	if (to[0] & 1)
		return !f->no_multicast && (f->all_multicast || listed(f, 1, to));
	return !f->no_unicast && (f->all_unicast ||
				  memcmp(to, n->virtio.config + CFG_MAC, MAC_BYTES) == 0 ||
				  listed(f, 0, to));
}

/* --- commands: *data is what follows class and command, at `at` of the chain ------------------- */

static bool fetch(struct virtio_net *n, unsigned queue, uint64_t at, void *buf, size_t len)
{
	return virtq_copy_out(&n->virtio.queue[queue].ring, &n->chain, at, buf, len) == 0;
}

static bool set_rx_mode(struct virtio_net *n, unsigned queue, uint8_t command, uint64_t at,
			uint64_t len)
{
	bool *const modes[] = {
		&n->filter.promiscuous,  &n->filter.all_multicast, &n->filter.all_unicast,
		&n->filter.no_multicast, &n->filter.no_unicast,    &n->filter.no_broadcast,
	};
	uint8_t on;

	if (command >= ARRAY_SIZE(modes) || len != 1 || !fetch(n, queue, at, &on, 1))
		return false;
	if (command > 1 && !virtio_has_feature(&n->virtio, NET_F_CTRL_RX_EXTRA))
		return false;
	*modes[command] = on;
	return true;
}

/* Two tables, of unicast and multicast addresses, each behind its number of entries. */
static bool set_mac_table(struct virtio_net *n, unsigned queue, uint64_t at, uint64_t len)
{
	struct net_filter new = n->filter;
	uint64_t end = at + len, bytes;
	unsigned kind;

	for (kind = 0; kind < 2; kind++) {
		uint8_t count[4];
		uint32_t entries, kept;

		if (!range_inside(at, sizeof(count), end) || !fetch(n, queue, at, count, 4))
			return false;
		entries = get_le32(count);
		at += sizeof(count);
		bytes = (uint64_t)MAC_BYTES * entries;
		if (!range_inside(at, bytes, end))
			return false;
		kept = entries < NET_FILTER_MACS ? entries : NET_FILTER_MACS;
		if (!fetch(n, queue, at, new.mac[kind], (size_t)MAC_BYTES * kept))
			return false;
		new.macs[kind] = entries > NET_FILTER_MACS ? NET_FILTER_MACS + 1 : entries;
		at += bytes;
	}
	if (at != end)
		return false;
	n->filter = new;
	return true;
}

static bool set_mac(struct virtio_net *n, unsigned queue, uint8_t command, uint64_t at,
		    uint64_t len)
{
	uint8_t mac[MAC_BYTES];

	if (command == 0)
		return virtio_has_feature(&n->virtio, NET_F_CTRL_RX) &&
		       set_mac_table(n, queue, at, len);
	if (command != 1 || !virtio_has_feature(&n->virtio, NET_F_CTRL_MAC_ADDR) ||
	    len != sizeof(mac) || !fetch(n, queue, at, mac, sizeof(mac)) || mac[0] & 1)
		return false;
	memcpy(n->virtio.config + CFG_MAC, mac, sizeof(mac));
	return true;
}

static bool announced(struct virtio_net *n, unsigned queue, uint8_t command, uint64_t at,
		      uint64_t len)
{
	(void)queue, (void)at;
	if (command != 0 || len)
		return false;
	net_set_status(n, 0, STATUS_ANNOUNCE);
	return true;
}

static bool set_pairs(struct virtio_net *n, unsigned queue, uint8_t command, uint64_t at,
		      uint64_t len)
{
	uint8_t pairs[2];

	return command == 0 && len == sizeof(pairs) && fetch(n, queue, at, pairs, sizeof(pairs)) &&
	       get_le16(pairs) >= 1 && get_le16(pairs) <= n->pairs_max &&
	       net_use_pairs(n, get_le16(pairs)) == 0;
}

static bool set_offloads(struct virtio_net *n, unsigned queue, uint8_t command, uint64_t at,
			 uint64_t len)
{
	uint8_t raw[8];
	uint64_t features;

	if (command != 0 || len != sizeof(raw) || !fetch(n, queue, at, raw, sizeof(raw)))
		return false;
	features = get_le64(raw);
	if (features & ~n->virtio.accepted)
		return false;
	net_set_rx_offloads(n, net_rx_offloads(features));
	return true;
}

static const struct {
	uint8_t class;
	uint8_t feature; /* that must have been negotiated */
	bool (*run)(struct virtio_net *n, unsigned queue, uint8_t command, uint64_t at,
		    uint64_t len);
} classes[] = {
	{ 0, NET_F_CTRL_RX, set_rx_mode },
	{ 1, NET_F_CTRL_VQ, set_mac },
	{ 3, NET_F_GUEST_ANNOUNCE, announced },
	{ 4, NET_F_MQ, set_pairs },
	{ 5, NET_F_CTRL_GUEST_OFFLOADS, set_offloads },
};

static bool run_command(struct virtio_net *n, unsigned queue)
{
	uint8_t head[2];
	size_t i;

	if (!fetch(n, queue, 0, head, sizeof(head)))
		return false;
	for (i = 0; i < ARRAY_SIZE(classes); i++)
		if (classes[i].class == head[0])
			return virtio_has_feature(&n->virtio, classes[i].feature) &&
			       classes[i].run(n, queue, head[1], sizeof(head),
					      n->chain.out_bytes - sizeof(head));
	return false;
}

void net_control(struct virtio_net *n, unsigned queue)
{
	struct virtio *v = &n->virtio;
	unsigned i;

	for (i = 0; i < COMMANDS_MAX && virtio_get(v, queue, &n->chain) > 0; i++) {
		uint8_t ack = ACK_ERR;

		if (n->chain.in_bytes) { /* else nobody would learn how it went */
			ack = run_command(n, queue) ? ACK_OK : ACK_ERR;
			(void)virtq_copy_in(&v->queue[queue].ring, &n->chain, 0, &ack, 1);
		}
		virtio_release(v, queue, &n->chain, n->chain.in_bytes ? 1 : 0);
	}
	virtio_end(v, queue);
	virtio_want_kicks(v, queue, true);
	if (virtio_has(v, queue))
		virtio_kick_again(v, queue);
}
