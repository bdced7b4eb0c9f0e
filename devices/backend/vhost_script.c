/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_script.c - what is said to a vhost-user back-end in each phase, and what its answers
 * mean. */
#include <config.h>

#include <string.h>
#include <sys/socket.h>

#include "common/bytes.h"
#include "devices/backend/vhost_script.h"

#define PROTOCOL_WANTED \
	(1ull << VHOST_PROTOCOL_MQ | 1ull << VHOST_PROTOCOL_REPLY_ACK | \
	 1ull << VHOST_PROTOCOL_BACKEND_REQ | 1ull << VHOST_PROTOCOL_CONFIG)
/* Where guest memory begins in the address space that vring addresses are in. The protocol has it
 * be this process's own; any will do, and a peer need not learn where ours has its memory. */
#define USER_BASE (1ull << 44)

uint64_t vhost_user_address(uint64_t gpa)
{
	return gpa + USER_BASE;
}

static bool when_protocol(const struct vhost_peer *p)
{
	return p->features >> VHOST_F_PROTOCOL_FEATURES & 1;
}

static bool when_mq(const struct vhost_peer *p)
{
	return vhost_peer_speaks(p, VHOST_PROTOCOL_MQ);
}

static bool when_requests(const struct vhost_peer *p)
{
	return vhost_peer_speaks(p, VHOST_PROTOCOL_BACKEND_REQ) && p->config_size;
}

bool vhost_has_config(const struct vhost_peer *p)
{
	return vhost_peer_speaks(p, VHOST_PROTOCOL_CONFIG) && p->config_size;
}

bool vhost_take_number(struct vhost_peer *p, const struct vhost_message *m, uint64_t *ret)
{
	if (m->size != 8) {
		vhost_peer_drop(p, "it answered %s with %u bytes, not 8",
				vhost_request_name(m->request), m->size);
		return false;
	}
	*ret = get_le64(m->payload);
	return true;
}

static bool take_features(struct vhost_peer *p, const struct vhost_message *m)
{
	return vhost_take_number(p, m, &p->features);
}

static bool take_protocol(struct vhost_peer *p, const struct vhost_message *m)
{
	uint64_t offered;

	if (!vhost_take_number(p, m, &offered))
		return false;
	p->protocol = offered & PROTOCOL_WANTED;
	if (!p->config_size) /* nothing that it could tell of */
		p->protocol &= ~(1ull << VHOST_PROTOCOL_BACKEND_REQ | 1ull << VHOST_PROTOCOL_CONFIG);
	return true;
}

static bool take_queue_num(struct vhost_peer *p, const struct vhost_message *m)
{
	uint64_t queues;

	if (!vhost_take_number(p, m, &queues))
		return false;
	if (!queues || queues > 0x8000) {
		vhost_peer_drop(p, "it has %llu queues", (unsigned long long)queues);
		return false;
	}
	p->queues = (unsigned)queues;
	return true;
}

static bool take_config(struct vhost_peer *p, const struct vhost_message *m)
{
	if (m->size != VHOST_CONFIG_HEADER + p->config_size || get_le32(m->payload) != 0 ||
	    get_le32(m->payload + 4) != p->config_size) {
		vhost_peer_drop(p, "it did not tell its configuration space of %zu bytes",
				p->config_size);
		return false;
	}
	memcpy(p->config, m->payload + VHOST_CONFIG_HEADER, p->config_size);
	return true;
}

static bool take_base(struct vhost_peer *p, const struct vhost_message *m)
{
	if (m->size != 8 || get_le32(m->payload) != p->queue) {
		vhost_peer_drop(p, "it answered GET_VRING_BASE of queue %u for another one", p->queue);
		return false;
	}
	return true; /* where it stopped: we know what it has not given back */
}

/* Only to hear that it has come so far. */
static bool take_sync(struct vhost_peer *p, const struct vhost_message *m)
{
	uint64_t features;

	return vhost_take_number(p, m, &features);
}

static void fill_protocol(struct vhost_peer *p, struct vhost_message *m)
{
	vhost_put64(m, p->protocol);
}

static void fill_request_fd(struct vhost_peer *p, struct vhost_message *m)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return; /* no descriptor: the peer refuses that */
	p->request_fd = pair[0];
	m->fds[m->fd_count++] = pair[1];
}

static void fill_config(struct vhost_peer *p, struct vhost_message *m)
{
	vhost_put32(m, 0);
	vhost_put32(m, (uint32_t)p->config_size);
	vhost_put32(m, 0);
	memset(m->payload + m->size, 0, p->config_size);
	m->size += (uint32_t)p->config_size;
}

static void fill_features(struct vhost_peer *p, struct vhost_message *m)
{
	vhost_put64(m, p->setup.features | (when_protocol(p) ? 1ull << VHOST_F_PROTOCOL_FEATURES : 0));
}

static void fill_memory(struct vhost_peer *p, struct vhost_message *m)
{
	vhost_put32(m, p->setup.regions);
	vhost_put32(m, 0);
	for (unsigned i = 0; i < p->setup.regions; i++) {
		const struct vhost_region *r = &p->setup.region[i];

		vhost_put64(m, r->gpa);
		vhost_put64(m, r->size);
		vhost_put64(m, vhost_user_address(r->gpa));
		vhost_put64(m, r->offset);
		m->fds[m->fd_count++] = r->fd;
	}
}

static void fill_state(struct vhost_peer *p, struct vhost_message *m, uint32_t value)
{
	vhost_put32(m, p->queue);
	vhost_put32(m, value);
}

static void fill_num(struct vhost_peer *p, struct vhost_message *m)
{
	fill_state(p, m, p->setup.vring[p->queue].size);
}

static void fill_zero(struct vhost_peer *p, struct vhost_message *m)
{
	fill_state(p, m, 0);
}

static void fill_enable(struct vhost_peer *p, struct vhost_message *m)
{
	fill_state(p, m, 1);
}

static void fill_address(struct vhost_peer *p, struct vhost_message *m)
{
	const struct vhost_vring *v = &p->setup.vring[p->queue];

	fill_state(p, m, 0); /* no logging */
	vhost_put64(m, vhost_user_address(v->desc));
	vhost_put64(m, vhost_user_address(v->used));
	vhost_put64(m, vhost_user_address(v->avail));
	vhost_put64(m, 0);
}

static void fill_kick(struct vhost_peer *p, struct vhost_message *m)
{
	vhost_put64(m, p->queue);
	m->fds[m->fd_count++] = p->setup.vring[p->queue].kick_fd;
}

static void fill_call(struct vhost_peer *p, struct vhost_message *m)
{
	vhost_put64(m, p->queue);
	m->fds[m->fd_count++] = p->setup.vring[p->queue].call_fd;
}

const struct vhost_step vhost_greeting[] = {
	{ VHOST_GET_FEATURES, false, NULL, NULL, take_features },
	{ VHOST_GET_PROTOCOL_FEATURES, false, when_protocol, NULL, take_protocol },
	{ VHOST_SET_PROTOCOL_FEATURES, false, when_protocol, fill_protocol, NULL },
	{ VHOST_GET_QUEUE_NUM, false, when_mq, NULL, take_queue_num },
	{ VHOST_SET_BACKEND_REQ_FD, false, when_requests, fill_request_fd, NULL },
	{ VHOST_SET_OWNER, false, NULL, NULL, NULL },
	{ VHOST_GET_CONFIG, false, vhost_has_config, fill_config, take_config },
	{ 0 },
}, vhost_starting[] = {
	{ VHOST_SET_FEATURES, false, NULL, fill_features, NULL },
	{ VHOST_SET_MEM_TABLE, false, NULL, fill_memory, NULL },
	{ VHOST_SET_VRING_NUM, true, NULL, fill_num, NULL },
	{ VHOST_SET_VRING_BASE, true, NULL, fill_zero, NULL },
	{ VHOST_SET_VRING_ADDR, true, NULL, fill_address, NULL },
	{ VHOST_SET_VRING_CALL, true, NULL, fill_call, NULL },
	{ VHOST_SET_VRING_KICK, true, NULL, fill_kick, NULL },
	{ VHOST_SET_VRING_ENABLE, true, when_protocol, fill_enable, NULL },
	{ VHOST_GET_FEATURES, false, NULL, NULL, take_sync },
	{ 0 },
}, vhost_stopping[] = {
	{ VHOST_GET_VRING_BASE, true, NULL, fill_zero, take_base },
	{ 0 },
}, vhost_rereading[] = {
	{ VHOST_GET_CONFIG, false, vhost_has_config, fill_config, take_config },
	{ 0 },
};
