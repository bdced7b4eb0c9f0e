/* SPDX-License-Identifier: Apache-2.0 */
/* vhost_kernel.c - see vhost_kernel.h. */
#include <config.h>

#include <errno.h>
#include <stddef.h>
#include <sys/ioctl.h>

#include <linux/vhost.h>

#include "devices/backend/vhost_kernel.h"

#define PAIR 2u /* rings of one /dev/vhost-net */

static int control(int fd, unsigned long request, const void *argument)
{
	return ioctl(fd, request, argument) < 0 ? -errno : 0;
}

int vhost_kernel_own(int fd, uint64_t needed)
{
	uint64_t features = 0;

	if (ioctl(fd, VHOST_SET_OWNER) < 0 || ioctl(fd, VHOST_GET_FEATURES, &features) < 0)
		return -errno;
	return needed & ~features ? -ENOTSUP : 0;
}

/* Where this process has what lies at gpa. */
static uint64_t user_address(const struct vhost_setup *s, uint64_t gpa)
{
	for (unsigned i = 0; i < s->regions; i++)
		if (gpa - s->region[i].gpa < s->region[i].size)
			return (uint64_t)(uintptr_t)s->region[i].host + (gpa - s->region[i].gpa);
	return 0; /* the kernel refuses that */
}

static int set_memory(int fd, const struct vhost_setup *s)
{
	union {
		struct vhost_memory table;
		uint8_t bytes[offsetof(struct vhost_memory, regions) +
			      VHOST_REGIONS_MAX * sizeof(struct vhost_memory_region)];
	} memory = { .table = { .nregions = s->regions } };

	for (unsigned i = 0; i < s->regions; i++)
		memory.table.regions[i] = (struct vhost_memory_region){
			.guest_phys_addr = s->region[i].gpa,
			.memory_size = s->region[i].size,
			.userspace_addr = (uint64_t)(uintptr_t)s->region[i].host,
		};
	return control(fd, VHOST_SET_MEM_TABLE, &memory);
}

static int set_vring(int fd, const struct vhost_setup *s, unsigned index, const struct vhost_vring *v,
		     int err_fd)
{
	const struct vhost_vring_state size = { index, v->size }, base = { index, 0 };
	const struct vhost_vring_addr address = {
		.index = index,
		.desc_user_addr = user_address(s, v->desc),
		.avail_user_addr = user_address(s, v->avail),
		.used_user_addr = user_address(s, v->used),
	};
	const struct vhost_vring_file kick = { index, v->kick_fd }, call = { index, v->call_fd },
				      err = { index, err_fd };
	const struct {
		unsigned long request;
		const void *argument;
	} steps[] = {
		{ VHOST_SET_VRING_NUM, &size },  { VHOST_SET_VRING_BASE, &base },
		{ VHOST_SET_VRING_ADDR, &address }, { VHOST_SET_VRING_KICK, &kick },
		{ VHOST_SET_VRING_CALL, &call }, { VHOST_SET_VRING_ERR, &err },
	};
	int r = 0;

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && r == 0; i++)
		r = control(fd, steps[i].request, steps[i].argument);
	return r;
}

static int set_backend(int fd, unsigned index, int tap)
{
	const struct vhost_vring_file file = { index, tap };

	return control(fd, VHOST_NET_SET_BACKEND, &file);
}

int vhost_kernel_start(int fd, const struct vhost_setup *setup, unsigned first, int tap, int err_fd)
{
	int r = control(fd, VHOST_SET_FEATURES, &setup->features);

	if (r == 0)
		r = set_memory(fd, setup);
	for (unsigned i = 0; i < PAIR && r == 0; i++)
		r = set_vring(fd, setup, i, &setup->vring[first + i], err_fd);
	for (unsigned i = 0; i < PAIR && r == 0; i++)
		r = set_backend(fd, i, tap);
	if (r < 0)
		vhost_kernel_stop(fd);
	return r;
}

void vhost_kernel_stop(int fd)
{
	for (unsigned i = 0; i < PAIR; i++)
		(void)set_backend(fd, i, VHOST_FILE_UNBIND);
}
