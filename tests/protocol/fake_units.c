/* SPDX-License-Identifier: Apache-2.0 */
/* fake_units.c - devices of a fake board that come and go. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/protocol/fake_board.h"

struct board_unit *fake_unit_add(struct board *b, const char *class, const char *id, int fd)
{
	b->unit_fd[b->unit_count] = fd;
	struct board_unit *unit = &b->units[b->unit_count++];

	*unit = (struct board_unit){ .class = class, .slot = (int)b->unit_count };
	snprintf(unit->id, sizeof(unit->id), "%s", id);
	b->info.plugs++;
	return unit;
}

void fake_net_add(struct board *b, const struct board_net *net)
{
	int fd = net->config.fd_count ? net->config.fds[0] : -1;

	for (unsigned k = 0; k < net->config.vhost_count; k++)
		close(net->config.vhost_fds[k]);
	for (unsigned k = 1; k < net->config.fd_count; k++)
		close(net->config.fds[k]);
	fake_unit_add(b, "virtio-net", net->id, fd)->link = fd >= 0;
}

/* "slow-before", "slow-after", "refused..." */
static int plug(struct board *b, const struct board_disk *disk, const struct board_net *net,
		const struct board_vhost *vhost, char **ret_error)
{
	const char *id = disk ? disk->id : net ? net->id : vhost->id;
	int r = 0;

	*ret_error = NULL;
	if (strncmp(id, "slow", 4) == 0)
		usleep(strcmp(id, "slow-before") == 0 ? 400000 : 0);
	pthread_mutex_lock(&b->lock);
	if (strncmp(id, "refused", 7) == 0) {
		*ret_error = strdup("the fake does not want it");
		r = -EINVAL;
	} else if (b->unit_count == FAKE_UNITS_MAX) {
		r = -ENOSPC;
	} else if (net) {
		fake_net_add(b, net);
	} else if (vhost) {
		fake_unit_add(b, "vhost-user", id, vhost->fd);
	} else {
		fake_unit_add(b, "virtio-blk", id, disk->image.file[0].fd);
		for (size_t i = 1; i < disk->image.files; i++)
			close(disk->image.file[i].fd);
	}
	pthread_mutex_unlock(&b->lock);
	if (r == 0) {
		b->changed(b->opaque);
		if (strcmp(id, "slow-after") == 0)
			usleep(400000);
	}
	return r;
}

int board_disk_add(struct board *b, const struct board_disk *disk, char **ret_error)
{
	return plug(b, disk, NULL, NULL, ret_error);
}

int board_net_add(struct board *b, const struct board_net *net, char **ret_error)
{
	return plug(b, NULL, net, NULL, ret_error);
}

int board_vhost_add(struct board *b, const struct board_vhost *vhost, char **ret_error)
{
	return plug(b, NULL, NULL, vhost, ret_error);
}

void fake_unit_drop(struct board *b, size_t i)
{
	if (b->unit_fd[i] >= 0)
		close(b->unit_fd[i]);
	b->units[i] = b->units[--b->unit_count];
	b->unit_fd[i] = b->unit_fd[b->unit_count];
	b->info.plugs++;
}

static void *let_go_late(void *opaque)
{
	struct board *b = opaque;

	usleep(500000);
	pthread_mutex_lock(&b->lock);
	for (size_t i = b->unit_count; i-- > 0;)
		if (strncmp(b->units[i].id, "late", 4) == 0 && b->units[i].removing)
			fake_unit_drop(b, i);
	pthread_mutex_unlock(&b->lock);
	b->changed(b->opaque);
	return NULL;
}

/* Its guest lets everything go at once but what is called "stuck..." (never) or "late...". */
int board_unit_remove(struct board *b, const char *id, bool force, char **ret_error)
{
	int r = -ENOENT;

	*ret_error = NULL;
	pthread_mutex_lock(&b->lock);
	for (size_t i = 0; i < b->unit_count && r < 0; i++) {
		if (strcmp(b->units[i].id, id) != 0)
			continue;
		r = 0;
		b->info.plugs++;
		if ((strncmp(id, "stuck", 5) == 0 || strncmp(id, "late", 4) == 0) && !force) {
			b->units[i].removing = true;
			if (id[0] == 'l' && !b->has_late)
				b->has_late = pthread_create(&b->late, NULL, let_go_late, b) == 0;
		} else {
			fake_unit_drop(b, i);
		}
	}
	pthread_mutex_unlock(&b->lock);
	if (r == 0)
		b->changed(b->opaque);
	return r;
}

size_t board_units(struct board *b, struct board_unit *units, size_t n)
{
	size_t count;

	pthread_mutex_lock(&b->lock);
	count = b->unit_count;
	for (size_t i = 0; i < count && i < n; i++)
		units[i] = b->units[i];
	pthread_mutex_unlock(&b->lock);
	return count;
}

int board_vhost_attach(struct board *b, const char *id, int fd)
{
	(void)b, (void)id, (void)fd;
	return -ENODEV;
}

int board_vhost_info(struct board *b, const char *id, struct vhost_user_info *ret_info)
{
	int r = -ENODEV;

	*ret_info = (struct vhost_user_info){ .up = true };
	pthread_mutex_lock(&b->lock);
	for (size_t i = 0; i < b->unit_count; i++)
		if (strcmp(b->units[i].id, id) == 0 && strcmp(b->units[i].class, "vhost-user") == 0)
			r = 0;
	pthread_mutex_unlock(&b->lock);
	return r;
}

/* Lock held; FAKE_UNITS_MAX: there is none. */
static size_t find_net(struct board *b, const char *id)
{
	for (size_t i = 0; i < b->unit_count; i++)
		if (strcmp(b->units[i].class, "virtio-net") == 0 && strcmp(b->units[i].id, id) == 0)
			return i;
	return FAKE_UNITS_MAX;
}

/* Nobody looks at its cards: they have a peer as long as they were given one. */
int board_net_info(struct board *b, const char *id, struct virtio_net_info *ret_info)
{
	size_t i;

	pthread_mutex_lock(&b->lock);
	i = find_net(b, id);
	if (i < FAKE_UNITS_MAX)
		*ret_info = (struct virtio_net_info){ .link = b->units[i].link };
	pthread_mutex_unlock(&b->lock);
	return i < FAKE_UNITS_MAX ? 0 : -ENODEV;
}

int board_net_attach(struct board *b, const char *id, const int *fds, unsigned count)
{
	size_t i;

	pthread_mutex_lock(&b->lock);
	i = count == 1 ? find_net(b, id) : FAKE_UNITS_MAX;
	if (i < FAKE_UNITS_MAX) {
		if (b->unit_fd[i] >= 0)
			close(b->unit_fd[i]);
		b->unit_fd[i] = fds[0];
		b->units[i].link = true;
	}
	pthread_mutex_unlock(&b->lock);
	if (i == FAKE_UNITS_MAX)
		return -ENODEV;
	b->changed(b->opaque);
	return 0;
}
