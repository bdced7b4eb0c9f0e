/* SPDX-License-Identifier: Apache-2.0 */
/* fake_board.c - see fake_board.h: its life, its orders, and an engine probe. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/protocol/fake_board.h"

static int check_images(const struct board_config *config, char **ret_error)
{
	char head[0x210] = "";
	struct stat st;

	if (pread(config->kernel_fd, head, sizeof(head), 0) < 0x206 ||
	    memcmp(head + 0x202, "HdrS", 4) != 0) {
		*ret_error = strdup("kernel: not a bzImage, PVH ELF or multiboot image");
		return -ENOEXEC;
	}
	if (config->initrd_fd >= 0 && fstat(config->initrd_fd, &st) == 0 &&
	    (uint64_t)st.st_size > config->memory_bytes / 2) {
		*ret_error = strdup("initrd: does not fit");
		return -EFBIG;
	}
	if (config->cmdline && strstr(config->cmdline, "noengine")) {
		*ret_error = strdup("engine: it cannot run here");
		return -ENOTSUP;
	}
	return 0;
}

void board_settle(struct board *b)
{
	(void)b;
}

int board_create(const struct board_config *config, struct log *log, board_changed_fn *changed,
		 void *opaque, struct board **ret_board, char **ret_error)
{
	struct board *b;
	int r = check_images(config, ret_error);

	(void)log;
	if (r < 0)
		return r;
	b = calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	b->config = *config;
	b->cmdline = strdup(config->cmdline ? config->cmdline : "");
	b->changed = changed;
	b->opaque = opaque;
	b->wake = eventfd(0, EFD_CLOEXEC);
	pthread_mutex_init(&b->lock, NULL);
	for (size_t i = 0; i < config->disk_count; i++)
		fake_unit_add(b, "virtio-blk", config->disks[i].id, -1);
	for (size_t i = 0; i < config->net_count; i++)
		fake_net_add(b, &config->nets[i]);
	for (size_t i = 0; i < config->vhost_count; i++)
		fake_unit_add(b, "vhost-user", config->vhosts[i].id, config->vhosts[i].fd);
	*ret_board = b;
	return 0;
}

static int wake(struct board *b)
{
	uint64_t one = 1;

	return write(b->wake, &one, sizeof(one)) == (ssize_t)sizeof(one) ? 0 : -EIO;
}

void board_destroy(struct board *b)
{
	if (!b)
		return;
	if (b->threaded) {
		b->want_kill = true;
		wake(b);
		pthread_join(b->thread, NULL);
	}
	if (b->has_late)
		pthread_join(b->late, NULL);
	while (b->unit_count)
		fake_unit_drop(b, 0);
	close(b->wake);
	close(b->config.kernel_fd);
	if (b->config.initrd_fd >= 0)
		close(b->config.initrd_fd);
	if (b->config.console_fd >= 0)
		close(b->config.console_fd);
	for (size_t i = 0; i < b->config.disk_count; i++)
		close(b->config.disks[i].image.file[0].fd);
	for (size_t i = 0; i < b->config.share_count; i++)
		close(b->config.shares[i].fd);
	pthread_mutex_destroy(&b->lock);
	free(b->cmdline);
	free(b);
}

int board_disk_resize(struct board *b, const char *id, uint64_t bytes, uint64_t *ret_bytes)
{
	(void)b, (void)id, (void)bytes, (void)ret_bytes;
	return -ENOENT;
}

int board_start(struct board *b)
{
	if (b->threaded)
		return -EBADFD;
	b->start_ns = clock_monotonic_ns();
	b->threaded = pthread_create(&b->thread, NULL, fake_guest, b) == 0;
	return b->threaded ? 0 : -EAGAIN;
}

/* Changes one wish if the board is in the right state. */
static int order(struct board *b, enum board_state from, enum board_state or_from, bool *wish,
		 bool value)
{
	int r = -EBADFD;

	pthread_mutex_lock(&b->lock);
	if (b->info.state == from || b->info.state == or_from) {
		*wish = value;
		r = 0;
	}
	pthread_mutex_unlock(&b->lock);
	return r < 0 ? r : wake(b);
}

int board_pause(struct board *b)
{
	return order(b, BOARD_RUNNING, BOARD_RUNNING, &b->want_pause, true);
}

int board_resume(struct board *b)
{
	return order(b, BOARD_PAUSED, BOARD_PAUSED, &b->want_pause, false);
}

int board_reset(struct board *b)
{
	return order(b, BOARD_RUNNING, BOARD_PAUSED, &b->want_reset, true);
}

int board_balloon(struct board *b, uint64_t bytes)
{
	(void)b, (void)bytes;
	return -ENODEV;
}

int board_mem_resize(struct board *b, uint64_t bytes)
{
	(void)b, (void)bytes;
	return -ENODEV;
}

int board_console_resize(struct board *b, uint16_t columns, uint16_t rows)
{
	(void)b, (void)columns, (void)rows;
	return -ENODEV;
}

int board_power_button(struct board *b)
{
	return order(b, BOARD_RUNNING, BOARD_PAUSED, &b->button, true);
}

int board_kill(struct board *b)
{
	if (!b->threaded)
		return -EBADFD;
	return order(b, BOARD_RUNNING, BOARD_PAUSED, &b->want_kill, true);
}

void board_info(struct board *b, struct board_info *ret_info)
{
	pthread_mutex_lock(&b->lock);
	*ret_info = b->info;
	if (b->info.state == BOARD_RUNNING)
		ret_info->run_ns += clock_monotonic_ns() - b->ran_from_ns;
	for (size_t i = 0; i < b->unit_count; i++)
		ret_info->links |= (uint32_t)b->units[i].link << i;
	pthread_mutex_unlock(&b->lock);
}

bool board_vsock_wanted(struct board *b, uint32_t *ret_id, uint32_t *ret_port)
{
	bool wanted;

	pthread_mutex_lock(&b->lock);
	wanted = b->vsock_port;
	if (wanted) {
		*ret_id = ++b->vsock_id;
		*ret_port = b->vsock_port;
		b->vsock_port = 0;
	}
	pthread_mutex_unlock(&b->lock);
	return wanted;
}

void board_vsock_answer(struct board *b, uint32_t id, int fd)
{
	pthread_mutex_lock(&b->lock);
	if (id == b->vsock_id) {
		b->vsock_fd = fd;
		b->vsock_answered = true;
	} else if (fd >= 0) {
		close(fd);
	}
	pthread_mutex_unlock(&b->lock);
}

size_t board_stats(struct board *b, struct vmx_stat *stats, size_t n)
{
	(void)b;
	if (n >= 2) {
		stats[0] = (struct vmx_stat){ "fake.exits", 42 };
		stats[1] = (struct vmx_stat){ "fake.kicks", 7 };
	}
	return 2;
}

const char *board_state_name(enum board_state state)
{
	static const char *const names[] = { "created", "starting", "running", "paused",
					     "stopping", "stopped", "failed" };

	return names[state];
}

const char *board_stop_name(enum board_stop why)
{
	static const char *const names[] = { "none", "guest-poweroff", "guest-reset",
					     "triple-fault", "debug-exit", "killed",
					     "engine-error", "boot-error" };

	return names[why];
}

int vmx_probe(struct vmx_probe *ret)
{
	const char *mode = getenv("VMXD_FAKE_PROBE");

	memset(ret, 0, sizeof(*ret));
	if (mode && strcmp(mode, "crash") == 0)
		abort();
	snprintf(ret->kvm.why, sizeof(ret->kvm.why), "the fake has no KVM");
	snprintf(ret->kvm.advice, sizeof(ret->kvm.advice), "use the real one");
	if (mode && strcmp(mode, "none") == 0) {
		snprintf(ret->why, sizeof(ret->why), "nothing works today");
		return 0;
	}
	ret->soft.usable = true;
	ret->soft.insns_per_second = 1000000000;
	snprintf(ret->soft.why, sizeof(ret->soft.why), "the fake always works");
	ret->choice = VMX_ENGINE_SOFT;
	snprintf(ret->why, sizeof(ret->why), "soft is the only one that works in the fake");
	return 0;
}

const char *vmx_engine_name(enum vmx_engine engine)
{
	static const char *const names[] = { "auto", "kvm", "soft" };

	return names[engine];
}
