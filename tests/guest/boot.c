/* SPDX-License-Identifier: Apache-2.0 */
/*
 * boot - runs one guest on a board without the daemon: console on stdout, how it ended in the exit
 * status and the last line. For tests of the machine and for looking at a kernel by hand.
 *
 *   boot [options] KERNEL
 *     --engine kvm|soft   (default soft)       --memory MIB (default 256)   --cpus N
 *     --initrd FILE       --cmdline TEXT       --disk FILE[,readonly] (repeatable)
 *     --timeout SECONDS   (default 60)         --expect TEXT   end with success once it is printed
 *     --on-reboot stop    --debug-exit         --soft-debug BITS  --stdin  --log LEVEL
 *     --nested            offer VMX to the guest   --code-cache MIB
 *     --test-device       ports of pc-testdev      --stats   counters at the end
 *     --pause-every MS    pauses and resumes all the time
 *     --virtio BITS       BOARD_VIRTIO_*
 *     --when TEXT --do power-button|reset|pause-resume|kill   once TEXT is printed, once; what is
 *                         expected is looked for only after it
 *
 * Exit status: 0 power-off, debug exit with value 0, or the expected text was seen; 1 else;
 * 2 wrong usage; 77 the engine is not here.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/clock.h"
#include "common/log.h"
#include "devices/board.h"
#include "machine/thread.h"

struct look { /* for a text on the console, over the boundaries of reads */
	const char *text; /* NULL: for nothing */
	size_t matched;
	bool seen;
};

struct run {
	struct board_config config;
	uint64_t deadline, pause_ns, next_pause;
	bool use_stdin;
	int console, event; /* our end of COM1; the board's state changed */
	struct board *board;
	struct log *log;
	enum log_level level;
	unsigned timeout, pauses;
	bool stats;
	struct look expect, when;
	const char *action;
};

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC);

	if (fd < 0) {
		fprintf(stderr, "boot: %s: %s\n", path, strerror(errno));
		exit(2);
	}
	return fd;
}

static void add_disk(struct run *run, char *text)
{
	char *comma = strchr(text, ',');
	struct board_disk *disk;

	if (run->config.disk_count == BOARD_DISKS_MAX) {
		fprintf(stderr, "boot: too many disks\n");
		exit(2);
	}
	disk = &run->config.disks[run->config.disk_count++];
	if (comma)
		*comma = 0;
	disk->image.readonly = comma && !strcmp(comma + 1, "readonly");
	disk->image.files = 1;
	disk->image.file[0].fd = open_file(text, disk->image.readonly ? O_RDONLY : O_RDWR);
	snprintf(disk->serial, sizeof(disk->serial), "disk%zu", run->config.disk_count - 1);
}

static void usage(void)
{
	fprintf(stderr, "usage: boot [options] KERNEL (see the top of tests/guest/boot.c)\n");
	exit(2);
}

static void parse(struct run *run, int argc, char **argv)
{
	enum { ENGINE = 256, MEMORY, CPUS, INITRD, CMDLINE, DISK, TIMEOUT, EXPECT, REBOOT,
	       DEBUG_EXIT, SOFT_DEBUG, STDIN, LOG, PAUSE, WHEN, DO, NESTED, VIRTIO,
	       CODE_CACHE, TEST_DEVICE, STATS };
	static const struct option options[] = {
		{ "engine", 1, 0, ENGINE },     { "memory", 1, 0, MEMORY },
		{ "cpus", 1, 0, CPUS },         { "initrd", 1, 0, INITRD },
		{ "cmdline", 1, 0, CMDLINE },   { "disk", 1, 0, DISK },
		{ "timeout", 1, 0, TIMEOUT },   { "expect", 1, 0, EXPECT },
		{ "on-reboot", 1, 0, REBOOT },  { "debug-exit", 0, 0, DEBUG_EXIT },
		{ "soft-debug", 1, 0, SOFT_DEBUG }, { "stdin", 0, 0, STDIN },
		{ "log", 1, 0, LOG },           { "pause-every", 1, 0, PAUSE },
		{ "when", 1, 0, WHEN },         { "do", 1, 0, DO },
		{ "nested", 0, 0, NESTED },
		{ "virtio", 1, 0, VIRTIO },     { "code-cache", 1, 0, CODE_CACHE },
		{ "test-device", 0, 0, TEST_DEVICE }, { "stats", 0, 0, STATS },
		{ 0 },
	};
	struct board_config *c = &run->config;
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (option) {
		case ENGINE:
			c->engine = strcmp(optarg, "kvm") ? VMX_ENGINE_SOFT : VMX_ENGINE_KVM;
			break;
		case MEMORY:
			c->memory_bytes = strtoull(optarg, NULL, 0) << 20;
			break;
		case CPUS:
			c->cpus = (unsigned)atoi(optarg);
			break;
		case INITRD:
			c->initrd_fd = open_file(optarg, O_RDONLY);
			break;
		case CMDLINE:
			c->cmdline = optarg;
			break;
		case DISK:
			add_disk(run, optarg);
			break;
		case TIMEOUT:
			run->timeout = (unsigned)atoi(optarg);
			break;
		case EXPECT:
			run->expect.text = optarg;
			break;
		case REBOOT:
			c->reboot_stops = !strcmp(optarg, "stop");
			break;
		case DEBUG_EXIT:
			c->debug_exit = true;
			break;
		case CODE_CACHE:
			c->code_cache_bytes = strtoull(optarg, NULL, 0) << 20;
			break;
		case TEST_DEVICE:
			c->test_device = true;
			break;
		case STATS:
			run->stats = true;
			break;
		case SOFT_DEBUG:
			c->soft_debug = (uint32_t)strtoul(optarg, NULL, 0);
			break;
		case NESTED:
			c->vm_flags |= VMX_VM_NESTED;
			break;
		case STDIN:
			run->use_stdin = true;
			break;
		case LOG:
			if (log_level_parse(optarg, &run->level) < 0)
				usage();
			break;
		case PAUSE:
			run->pause_ns = strtoull(optarg, NULL, 0) * 1000000;
			break;
		case WHEN:
			run->when.text = optarg;
			break;
		case VIRTIO:
			c->virtio = (unsigned)strtoul(optarg, NULL, 0);
			break;
		case DO:
			run->action = optarg;
			break;
		default:
			usage();
		}
	}
	if (optind != argc - 1)
		usage();
	c->kernel_fd = open_file(argv[optind], O_RDONLY);
}

static void on_changed(void *opaque)
{
	const uint64_t one = 1;
	struct run *run = opaque;

	if (write(run->event, &one, sizeof(one)) < 0)
		abort();
}

/* Texts are plain: no proper prefix of one comes again inside it after a mismatch that matters. */
static void look(struct look *look, const char *bytes, size_t n)
{
	size_t len = look->text ? strlen(look->text) : 0;

	for (size_t i = 0; i < n && len && !look->seen; i++) {
		if (bytes[i] != look->text[look->matched])
			look->matched = 0;
		look->matched += bytes[i] == look->text[look->matched];
		look->seen = look->matched == len;
	}
}

static void act(struct run *run)
{
	int r = -EINVAL;

	if (!strcmp(run->action, "power-button"))
		r = board_power_button(run->board);
	else if (!strcmp(run->action, "reset"))
		r = board_reset(run->board);
	else if (!strcmp(run->action, "kill"))
		r = board_kill(run->board);
	else if (!strcmp(run->action, "pause-resume"))
		r = board_pause(run->board) < 0 ? -1 : board_resume(run->board);
	if (r < 0)
		fprintf(stderr, "boot: %s: %s\n", run->action, strerror(-r));
	run->action = NULL;
}

/* Copies the guest's console to stdout until there is nothing more for now. */
static void drain(struct run *run)
{
	char buf[4096];
	ssize_t n;

	while ((n = read(run->console, buf, sizeof(buf))) > 0) {
		if (write(STDOUT_FILENO, buf, (size_t)n) < 0)
			return;
		if (!run->action)
			look(&run->expect, buf, (size_t)n);
		look(&run->when, buf, (size_t)n);
	}
}

static void feed(struct run *run)
{
	char buf[256];
	ssize_t n = read(STDIN_FILENO, buf, sizeof(buf));

	if (n <= 0)
		run->use_stdin = false;
	else if (write(run->console, buf, (size_t)n) < 0)
		return;
}

static bool ended(const struct board_info *info)
{
	return info->state == BOARD_STOPPED || info->state == BOARD_FAILED;
}

/* Turns pause and resume about; the guest must not notice. */
static void toggle(struct run *run, const struct board_info *info)
{
	if (clock_monotonic_ns() < run->next_pause)
		return;
	run->next_pause = clock_monotonic_ns() + run->pause_ns;
	if (info->state == BOARD_RUNNING && board_pause(run->board) == 0)
		run->pauses++;
	else if (info->state == BOARD_PAUSED)
		(void)board_resume(run->board);
}

/* Until it ended, was seen, or time is up. */
static void watch(struct run *run, struct board_info *info)
{
	uint64_t n;

	for (;;) {
		struct pollfd fds[] = { { .fd = run->console, .events = POLLIN },
					{ .fd = run->event, .events = POLLIN },
					{ .fd = run->use_stdin ? STDIN_FILENO : -1,
					  .events = POLLIN } };

		(void)poll(fds, 3, run->pause_ns ? 1 : 200);
		if (fds[1].revents && read(run->event, &n, sizeof(n)) < 0)
			return;
		drain(run);
		if (fds[2].revents)
			feed(run);
		board_info(run->board, info);
		if (ended(info) || run->expect.seen || clock_monotonic_ns() > run->deadline)
			break;
		if (run->when.seen && run->action)
			act(run);
		if (run->pause_ns)
			toggle(run, info);
	}
	drain(run);
}

static int verdict(const struct run *run, const struct board_info *info)
{
	if (run->expect.text)
		return !run->expect.seen;
	if (info->stop == BOARD_STOP_POWEROFF)
		return 0;
	return !(info->stop == BOARD_STOP_DEBUG_EXIT && info->exit_code == 1);
}

static void print_stats(struct board *board)
{
	struct vmx_stat stats[128];
	size_t n = board_stats(board, stats, ARRAY_SIZE(stats));

	for (size_t i = 0; i < n && i < ARRAY_SIZE(stats); i++)
		fprintf(stderr, "boot: %s %" PRIu64 "\n", stats[i].name, stats[i].value);
}

int main(int argc, char **argv)
{
	struct run run = { .config = { .memory_bytes = 256ull << 20,
				       .cpus = 1,
				       .engine = VMX_ENGINE_SOFT,
				       .kernel_fd = -1,
				       .initrd_fd = -1,
				       .console_fd = -1 },
			   .timeout = 60,
			   .level = LOG_LEVEL_NOTICE };
	struct board_info info;
	char *error = NULL;
	int pair[2], r;

	parse(&run, argc, argv);
	run.log = log_new(STDERR_FILENO, run.level, "boot");
	machine_thread_take_turns(run.log, run.config.cpus);
	run.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0 ||
	    run.event < 0)
		return 1;
	run.console = pair[0];
	run.config.console_fd = pair[1];
	r = board_create(&run.config, run.log, on_changed, &run, &run.board, &error);
	if (r < 0) {
		fprintf(stderr, "boot: %s\n", error ? error : strerror(-r));
		free(error);
		return r == -ENOTSUP ? 77 : 1;
	}
	run.deadline = clock_monotonic_ns() + run.timeout * NSEC_PER_SEC;
	r = board_start(run.board);
	if (r >= 0)
		watch(&run, &info);
	fprintf(stderr, "boot: %s, %s%s%s; boot %" PRIu64 " us, run %" PRIu64
		" ms, %u resets, %u pauses\n",
		board_state_name(info.state), board_stop_name(info.stop),
		info.detail[0] ? ": " : "", info.detail, info.boot_ns / 1000,
		info.run_ns / 1000000, info.resets, run.pauses);
	if (run.stats)
		print_stats(run.board);
	board_destroy(run.board);
	log_free(run.log);
	close(run.console);
	close(run.event);
	return r < 0 ? 1 : verdict(&run, &info);
}
