/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_types.c - what disks, network cards and file systems are behind vhost-user. */
#include <config.h>

#include <string.h>

#include "common/bytes.h"
#include "devices/virtio/blk_spec.h"
#include "devices/virtio/net_spec.h"
#include "devices/virtio/vhost_internal.h"

#define BIT(n) (1ull << (n))

/* --- disks (5.2) ------------------------------------------------------------------------------ */

#define BLK_CONFIG_BYTES 60u
#define BLK_CONFIG_SEG_MAX 12u
#define BLK_CONFIG_NUM_QUEUES 34u

static unsigned blk_queues(const struct vhost_user_config *c, unsigned peer_queues)
{
	unsigned n = c->queues ? c->queues : 1;

	return n < peer_queues ? n : peer_queues;
}

static size_t blk_config(const struct vhost_user *d, uint8_t *space)
{
	const uint32_t most = d->segments_max - 2; /* but for header and status */

	memcpy(space, d->peer.config, BLK_CONFIG_BYTES);
	put_le16(space + BLK_CONFIG_NUM_QUEUES, (uint16_t)d->queue_count);
	if (get_le32(space + BLK_CONFIG_SEG_MAX) > most)
		put_le32(space + BLK_CONFIG_SEG_MAX, most);
	return BLK_CONFIG_BYTES;
}

/* --- network cards (5.1) ---------------------------------------------------------------------- */

#define NET_CONFIG_BYTES (CFG_STATUS + 2u)

static unsigned net_queues(const struct vhost_user_config *c, unsigned peer_queues)
{
	(void)c, (void)peer_queues;
	return 2; /* one pair: the others need a control queue */
}

static size_t net_config(const struct vhost_user *d, uint8_t *space)
{
	memcpy(space, d->conf.mac, sizeof(d->conf.mac));
	put_le16(space + CFG_STATUS, STATUS_LINK_UP);
	return NET_CONFIG_BYTES;
}

static bool net_parks(unsigned queue)
{
	return queue == 0;
}

static void net_link(struct vhost_user *d, bool up)
{
	put_le16(d->virtio.config + CFG_STATUS, up ? STATUS_LINK_UP : 0);
	virtio_config_changed(&d->virtio);
}

/* --- file systems (5.11) ---------------------------------------------------------------------- */

#define FS_CONFIG_BYTES 40u

static unsigned fs_queues(const struct vhost_user_config *c, unsigned peer_queues)
{
	return 1 + blk_queues(c, peer_queues - 1);
}

static size_t fs_config(const struct vhost_user *d, uint8_t *space)
{
	memcpy(space, d->conf.tag, strnlen(d->conf.tag, VHOST_TAG_MAX));
	put_le32(space + VHOST_TAG_MAX, d->queue_count - 1);
	return FS_CONFIG_BYTES;
}

/* --- the table -------------------------------------------------------------------------------- */

#define BLK_PASSED \
	(BIT(BLK_F_SIZE_MAX) | BIT(BLK_F_SEG_MAX) | BIT(BLK_F_GEOMETRY) | BIT(BLK_F_RO) | \
	 BIT(BLK_F_BLK_SIZE) | BIT(BLK_F_FLUSH) | BIT(BLK_F_TOPOLOGY) | BIT(BLK_F_MQ) | \
	 BIT(BLK_F_DISCARD) | BIT(BLK_F_WRITE_ZEROES))
#define NET_PASSED \
	(BIT(NET_F_CSUM) | BIT(NET_F_GUEST_CSUM) | BIT(NET_F_GUEST_TSO4) | \
	 BIT(NET_F_GUEST_TSO6) | BIT(NET_F_GUEST_ECN) | BIT(NET_F_GUEST_UFO) | \
	 BIT(NET_F_HOST_TSO4) | BIT(NET_F_HOST_TSO6) | BIT(NET_F_HOST_ECN) | \
	 BIT(NET_F_HOST_UFO) | BIT(NET_F_MRG_RXBUF))
#define NET_OWN (BIT(NET_F_MAC) | BIT(NET_F_STATUS))

const struct vhost_type vhost_types[VHOST_KINDS] = {
	[VHOST_KIND_BLK] = {
		.ops = { .name = "vhost-user-blk", .id = VIRTIO_ID_BLOCK, .features = BLK_PASSED },
		.class_code = 0x010000, .passed = BLK_PASSED, .peer_config = BLK_CONFIG_BYTES,
		.queues_min = 1, .queues = blk_queues, .config = blk_config,
	},
	[VHOST_KIND_NET] = {
		.ops = { .name = "vhost-user-net", .id = VIRTIO_ID_NET,
			 .features = NET_PASSED | NET_OWN },
		.class_code = 0x020000, .passed = NET_PASSED, .own = NET_OWN,
		.queues_min = 1, .queues = net_queues, .config = net_config, .parks = net_parks,
		.link = net_link,
	},
	[VHOST_KIND_FS] = {
		.ops = { .name = "vhost-user-fs", .id = VIRTIO_ID_FS },
		.class_code = 0x018000,
		.queues_min = 2, .queues = fs_queues, .config = fs_config,
	},
};
