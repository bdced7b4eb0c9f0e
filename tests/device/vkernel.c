/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/if_tun.h>

#include "common/bytes.h"
#include "tests/device/rig.h"
#include "tests/device/vkernel.h"

#include <linux/vhost.h> /* the last: its names are vhost-user's too */

struct vkernel kernel;

static int tap_ioctl(unsigned long request, void *argument)
{
	struct ifreq *ifr = argument;

	if (request == TUNGETIFF)
		ifr->ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE;
	return 0;
}

static int set_vring(unsigned pair, unsigned long request, const void *argument)
{
	const struct vhost_vring_state *state = argument;
	const struct vhost_vring_file *file = argument;
	const struct vhost_vring_addr *address = argument;
	struct vb_ring *r = &kernel.b.ring[2 * pair + state->index];

	CHECK(state->index < 2);
	CHECK(!r->running || request == VHOST_NET_SET_BACKEND);
	switch (request) {
	case VHOST_SET_VRING_NUM:
		r->size = state->num;
		return 0;
	case VHOST_SET_VRING_BASE:
		r->last_avail = (uint16_t)state->num;
		return 0;
	case VHOST_SET_VRING_ADDR:
		r->desc = (uint8_t *)(uintptr_t)address->desc_user_addr;
		r->avail = (uint8_t *)(uintptr_t)address->avail_user_addr;
		r->used = (uint8_t *)(uintptr_t)address->used_user_addr;
		return r->desc && r->avail && r->used ? 0 : -EFAULT;
	case VHOST_SET_VRING_KICK:
		r->kick_fd = file->fd;
		return 0;
	case VHOST_SET_VRING_CALL:
		r->call_fd = file->fd;
		return 0;
	case VHOST_SET_VRING_ERR:
		kernel.err_fd = file->fd;
		return 0;
	}
	CHECK(request == VHOST_NET_SET_BACKEND);
	CHECK(file->fd < 0 || file->fd == kernel.tap[pair]);
	kernel.starts += file->fd >= 0;
	kernel.stops += file->fd < 0 && r->running;
	r->running = file->fd >= 0;
	r->used_idx = r->running ? get_le16(r->used + 2) : 0;
	return 0;
}

static int vhost_ioctl(unsigned pair, unsigned long request, void *argument)
{
	const struct vhost_memory *m = argument;

	if (request == kernel.refused)
		return -kernel.error;
	CHECK(kernel.owned[pair] != (request == VHOST_SET_OWNER));
	switch (request) {
	case VHOST_SET_OWNER:
		kernel.owned[pair] = true;
		return 0;
	case VHOST_GET_FEATURES:
		memcpy(argument, &kernel.features, sizeof(kernel.features));
		return 0;
	case VHOST_SET_FEATURES:
		memcpy(&kernel.b.accepted, argument, sizeof(kernel.b.accepted));
		return kernel.b.accepted & ~kernel.features ? -EOPNOTSUPP : 0;
	case VHOST_SET_MEM_TABLE:
		CHECK(m->nregions <= VB_REGIONS && !m->padding);
		kernel.b.region_count = m->nregions;
		for (unsigned i = 0; i < m->nregions; i++)
			kernel.b.region[i] = (struct vb_region){
				.gpa = m->regions[i].guest_phys_addr,
				.size = m->regions[i].memory_size,
				.host = (uint8_t *)(uintptr_t)m->regions[i].userspace_addr };
		return 0;
	}
	return set_vring(pair, request, argument);
}

int __real_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, ...);

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	void *argument;
	va_list ap;
	int r = 1;

	va_start(ap, request);
	argument = va_arg(ap, void *);
	va_end(ap);
	for (unsigned i = 0; i < kernel.pairs && r > 0; i++) {
		if (fd == kernel.vhost[i])
			r = vhost_ioctl(i, request, argument);
		else if (fd == kernel.tap[i])
			r = tap_ioctl(request, argument);
	}
	if (r > 0)
		return __real_ioctl(fd, request, argument);
	errno = -r;
	return r < 0 ? -1 : 0;
}

void vk_open(unsigned pairs)
{
	memset(&kernel, 0, sizeof(kernel));
	kernel.features = VK_FEATURES;
	kernel.pairs = pairs;
	for (unsigned i = 0; i < pairs; i++) {
		int fds[2];

		CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
		kernel.tap[i] = fds[0];
		kernel.peer[i] = fds[1];
		kernel.vhost[i] = eventfd(0, EFD_CLOEXEC);
	}
}

void vk_close(void)
{
	for (unsigned i = 0; i < kernel.pairs; i++)
		close(kernel.peer[i]);
	kernel.pairs = 0; /* the descriptors' numbers are anybody's now */
}
