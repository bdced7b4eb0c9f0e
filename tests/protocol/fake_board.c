/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fake_board.c - a test double of devices/board.h: its "guest" is a script in the kernel's command
 * line, so that the daemon and the client are tested to the last branch without a processor.
 *
 * Words, done in order, from the start again after a reset:
 *   say=TEXT      prints TEXT ('_' for a space) and a line end
 *   lines=N       prints "line 0" ... "line N-1"
 *   flood=N       prints N bytes of a pattern
 *   sleep=MS      runs for so long
 *   shell         reads lines: "poweroff", "reboot", "crash", "vsock=PORT", else echoes "got: LINE"
 *   poweroff, crash (triple fault), debugexit=N
 *   reboot=N      resets until there were N resets
 *   abort         the whole process dies of SIGABRT
 *   nobutton      from here on the power button does nothing
 *   engine        ends with an engine error
 *   vsock=PORT    connects to that port of the host, says "guest" and prints what it hears; or prints
 *                 "refused"
 * At the end of the script the guest waits; the power button powers it off.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "devices/board.h"

#define FAKE_UNITS_MAX (BOARD_DISKS_MAX + BOARD_NETS_MAX)

struct board {
	struct board_config config;
	char *cmdline;
	board_changed_fn *changed;
	void *opaque;
	pthread_t thread;
	pthread_mutex_t lock;
	int wake; /* eventfd: something below changed */
	struct board_info info;
	uint64_t start_ns, ran_from_ns;
	struct board_unit units[FAKE_UNITS_MAX];
	int unit_fd[FAKE_UNITS_MAX]; /* of disks plugged in later: the image's lock; of cards: the peer */
	size_t unit_count;
	pthread_t late; /* lets units go that are called "late..." */
	bool has_late;
	uint32_t vsock_port, vsock_id; /* wanted; 0: nothing, asked for */
	int vsock_fd;
	bool vsock_answered;
	bool want_kill, want_pause, want_reset, button, nobutton, threaded;
};

enum end { GO_ON, END_KILLED, END_RESET };

static void set_state(struct board *b, enum board_state state)
{
	pthread_mutex_lock(&b->lock);
	if (b->info.state == BOARD_RUNNING)
		b->info.run_ns += clock_monotonic_ns() - b->ran_from_ns;
	if (state == BOARD_RUNNING)
		b->ran_from_ns = clock_monotonic_ns();
	b->info.state = state;
	pthread_mutex_unlock(&b->lock);
	b->changed(b->opaque);
}

static void stop(struct board *b, enum board_stop why, const char *detail)
{
	bool failed = why == BOARD_STOP_TRIPLE_FAULT || why == BOARD_STOP_ENGINE_ERROR;

	pthread_mutex_lock(&b->lock);
	b->info.stop = why;
	snprintf(b->info.detail, sizeof(b->info.detail), "%s", detail);
	if (failed)
		b->info.rip = 0xffffffff81000123;
	pthread_mutex_unlock(&b->lock);
	set_state(b, failed ? BOARD_FAILED : BOARD_STOPPED);
}

/* Waits up to timeout_ms (< 0: for ever) for fd's events or an order; true: fd is ready. */
static bool wait_for(struct board *b, int fd, short events, int timeout_ms, enum end *ret_end)
{
	uint64_t until = clock_monotonic_ns() + (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms) * 1000000;

	for (;;) {
		struct pollfd p[2] = { { .fd = b->wake, .events = POLLIN },
				       { .fd = fd, .events = events } };
		uint64_t now = clock_monotonic_ns(), count;
		int left = timeout_ms < 0 ? -1 : now >= until ? 0 : (int)((until - now) / 1000000) + 1;
		bool kill, reset, pause;

		pthread_mutex_lock(&b->lock);
		kill = b->want_kill;
		reset = b->want_reset;
		pause = b->want_pause;
		b->want_reset = false;
		if (b->nobutton)
			b->button = false;
		if (!kill && b->button && !pause)
			b->info.stop = BOARD_STOP_POWEROFF;
		kill |= b->button && !pause;
		pthread_mutex_unlock(&b->lock);
		if (kill || reset) {
			*ret_end = kill ? END_KILLED : END_RESET;
			return false;
		}
		if (pause != (b->info.state == BOARD_PAUSED))
			set_state(b, pause ? BOARD_PAUSED : BOARD_RUNNING);
		if (pause) {
			p[1].fd = -1;
			left = -1;
		} else if (!left) {
			return false;
		}
		poll(p, 2, left);
		if (p[0].revents && read(b->wake, &count, sizeof(count)) < 0)
			abort();
		if (p[1].revents)
			return true;
	}
}

static enum end print(struct board *b, const char *bytes, size_t len)
{
	enum end end = GO_ON;

	while (len && b->config.console_fd >= 0) {
		ssize_t n = write(b->config.console_fd, bytes, len);

		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		} else if (errno != EAGAIN ||
			   !wait_for(b, b->config.console_fd, POLLOUT, 5000, &end)) {
			break;
		}
	}
	return end;
}

static enum end flood(struct board *b, size_t total)
{
	char line[64];
	enum end end = GO_ON;

	for (size_t i = 0; i * 32 < total && end == GO_ON; i++) {
		snprintf(line, sizeof(line), "%08zu abcdefghijklmnopqrstuv\n", i);
		end = print(b, line, 32);
	}
	return end;
}

static enum end say(struct board *b, const char *text)
{
	char line[300];

	snprintf(line, sizeof(line), "%s\r\n", text);
	for (char *p = line; *p; p++)
		if (*p == '_')
			*p = ' ';
	return print(b, line, strlen(line));
}

static enum end vsock(struct board *b, uint32_t port)
{
	char heard[100] = "refused";
	enum end end = GO_ON;
	bool answered = false;
	ssize_t n;

	pthread_mutex_lock(&b->lock);
	b->vsock_port = port;
	b->vsock_answered = false;
	pthread_mutex_unlock(&b->lock);
	b->changed(b->opaque);
	while (!answered && end == GO_ON) {
		wait_for(b, -1, 0, 10, &end);
		pthread_mutex_lock(&b->lock);
		answered = b->vsock_answered;
		pthread_mutex_unlock(&b->lock);
	}
	if (end == GO_ON && b->vsock_fd >= 0) {
		n = write(b->vsock_fd, "guest\n", 6);
		if (n == 6 && wait_for(b, b->vsock_fd, POLLIN, 5000, &end))
			n = read(b->vsock_fd, heard, sizeof(heard) - 1);
		heard[n > 0 ? n : 0] = '\0';
	}
	if (answered && b->vsock_fd >= 0)
		close(b->vsock_fd);
	return end == GO_ON ? say(b, heard) : end;
}

/* Returns true when the guest came to its end (already told). */
static bool shell_line(struct board *b, const char *line, enum end *end)
{
	char answer[300];

	if (strcmp(line, "poweroff") == 0)
		stop(b, BOARD_STOP_POWEROFF, "the guest powered itself off");
	else if (strcmp(line, "crash") == 0)
		stop(b, BOARD_STOP_TRIPLE_FAULT, "triple fault at RIP 0xffffffff81000123");
	else if (strcmp(line, "reboot") == 0)
		*end = END_RESET;
	else if (strncmp(line, "vsock=", 6) == 0)
		*end = vsock(b, (uint32_t)strtoul(line + 6, NULL, 10));
	else {
		snprintf(answer, sizeof(answer), "got: %s\r\n# ", line);
		*end = print(b, answer, strlen(answer));
	}
	return b->info.state == BOARD_STOPPED || b->info.state == BOARD_FAILED;
}

static bool shell(struct board *b, enum end *end)
{
	char line[256];
	size_t n = 0;

	*end = print(b, "# ", 2);
	while (*end == GO_ON) {
		char c;

		if (!wait_for(b, b->config.console_fd, POLLIN, -1, end))
			break;
		if (read(b->config.console_fd, &c, 1) != 1) {
			wait_for(b, -1, 0, -1, end);
			break;
		}
		if (c != '\n' && c != '\r') {
			if (n < sizeof(line) - 1)
				line[n++] = c;
			continue;
		}
		line[n] = '\0';
		n = 0;
		if (shell_line(b, line, end))
			return true;
	}
	return false;
}

/* One word of the script; true: the guest came to its end. */
static bool word(struct board *b, const char *w, enum end *end)
{
	const char *value = strchr(w, '=');
	unsigned long n = value ? strtoul(value + 1, NULL, 10) : 0;
	char line[64];

	if (strncmp(w, "say=", 4) == 0) {
		*end = say(b, value + 1);
	} else if (strcmp(w, "vmx") == 0) {
		*end = say(b, b->config.vm_flags & VMX_VM_NESTED ? "VMX is there" : "no VMX");
	} else if (strncmp(w, "lines=", 6) == 0) {
		for (unsigned long i = 0; i < n && *end == GO_ON; i++) {
			snprintf(line, sizeof(line), "line %lu", i);
			*end = say(b, line);
		}
	} else if (strncmp(w, "flood=", 6) == 0) {
		*end = flood(b, n);
	} else if (strncmp(w, "vsock=", 6) == 0) {
		*end = vsock(b, (uint32_t)n);
	} else if (strncmp(w, "sleep=", 6) == 0) {
		wait_for(b, -1, 0, (int)n, end);
	} else if (strcmp(w, "shell") == 0) {
		return shell(b, end);
	} else if (strcmp(w, "poweroff") == 0) {
		stop(b, BOARD_STOP_POWEROFF, "the guest powered itself off");
		return true;
	} else if (strcmp(w, "crash") == 0) {
		stop(b, BOARD_STOP_TRIPLE_FAULT, "triple fault at RIP 0xffffffff81000123");
		return true;
	} else if (strcmp(w, "engine") == 0) {
		stop(b, BOARD_STOP_ENGINE_ERROR, "the engine cannot go on");
		return true;
	} else if (strncmp(w, "debugexit=", 10) == 0) {
		b->info.exit_code = (int)(n << 1 | 1);
		stop(b, BOARD_STOP_DEBUG_EXIT, "the guest wrote to isa-debug-exit");
		return true;
	} else if (strncmp(w, "reboot=", 7) == 0) {
		if (b->info.resets < n)
			*end = END_RESET;
	} else if (strcmp(w, "abort") == 0) {
		abort();
	} else if (strcmp(w, "nobutton") == 0) {
		b->nobutton = true;
	}
	return false;
}

/* Runs the script once; true: the guest came to its end. */
static bool script(struct board *b, enum end *end)
{
	char *copy = strdup(b->cmdline), *save = NULL;
	bool over = false;

	*end = GO_ON;
	b->nobutton = false;
	for (char *w = strtok_r(copy, " ", &save); w && !over && *end == GO_ON;
	     w = strtok_r(NULL, " ", &save)) {
		/* Every instruction boundary takes orders. */
		wait_for(b, -1, 0, 0, end);
		if (*end == GO_ON)
			over = word(b, w, end);
	}
	free(copy);
	while (!over && *end == GO_ON)
		wait_for(b, -1, 0, -1, end);
	return over;
}

static void *guest(void *arg)
{
	struct board *b = arg;
	enum end end;

	b->info.boot_ns = clock_monotonic_ns() -
			  (b->config.asked_ns ? b->config.asked_ns : b->start_ns);
	set_state(b, BOARD_RUNNING);
	for (;;) {
		if (script(b, &end))
			return NULL;
		if (end == END_KILLED)
			break;
		if (b->config.reboot_stops) {
			stop(b, BOARD_STOP_RESET, "the guest asked for a reset");
			return NULL;
		}
		pthread_mutex_lock(&b->lock);
		b->info.resets++;
		pthread_mutex_unlock(&b->lock);
		b->changed(b->opaque);
	}
	if (b->info.stop == BOARD_STOP_POWEROFF)
		stop(b, BOARD_STOP_POWEROFF, "the guest powered itself off");
	else
		stop(b, BOARD_STOP_KILLED, "ended by force");
	return NULL;
}

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

static struct board_unit *add_unit(struct board *b, const char *class, const char *id, int fd)
{
	b->unit_fd[b->unit_count] = fd;
	struct board_unit *unit = &b->units[b->unit_count++];

	*unit = (struct board_unit){ .class = class, .slot = (int)b->unit_count };
	snprintf(unit->id, sizeof(unit->id), "%s", id);
	b->info.plugs++;
	return unit;
}

/* Of a card's queues one is kept. */
static void add_net(struct board *b, const struct board_net *net)
{
	int fd = net->config.fd_count ? net->config.fds[0] : -1;

	for (unsigned k = 0; k < net->config.vhost_count; k++)
		close(net->config.vhost_fds[k]);
	for (unsigned k = 1; k < net->config.fd_count; k++)
		close(net->config.fds[k]);
	add_unit(b, "virtio-net", net->id, fd)->link = fd >= 0;
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
		add_net(b, net);
	} else if (vhost) {
		add_unit(b, "vhost-user", id, vhost->fd);
	} else {
		add_unit(b, "virtio-blk", id, disk->image.file[0].fd);
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

static void drop_unit(struct board *b, size_t i)
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
			drop_unit(b, i);
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
			drop_unit(b, i);
		}
	}
	pthread_mutex_unlock(&b->lock);
	if (r == 0)
		b->changed(b->opaque);
	return r;
}

void board_settle(struct board *b)
{
	(void)b;
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
		add_unit(b, "virtio-blk", config->disks[i].id, -1);
	for (size_t i = 0; i < config->net_count; i++)
		add_net(b, &config->nets[i]);
	for (size_t i = 0; i < config->vhost_count; i++)
		add_unit(b, "vhost-user", config->vhosts[i].id, config->vhosts[i].fd);
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
		drop_unit(b, 0);
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

int board_start(struct board *b)
{
	if (b->threaded)
		return -EBADFD;
	b->start_ns = clock_monotonic_ns();
	b->threaded = pthread_create(&b->thread, NULL, guest, b) == 0;
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
