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
#include <stddef.h>
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

/* What an option does with the field of struct run that it is about, or, from TAKE_ENGINE on, else. */
enum take {
	TAKE_UINT, TAKE_MIB, TAKE_MS, TAKE_TEXT, TAKE_FLAG,
	TAKE_ENGINE, TAKE_INITRD, TAKE_DISK, TAKE_REBOOT, TAKE_NESTED, TAKE_LOG,
};

#define IN_RUN(field) offsetof(struct run, field)
static const struct {
	const char *name;
	enum take take;
	size_t field;
} options[] = {
	{ "engine", TAKE_ENGINE, 0 },
	{ "memory", TAKE_MIB, IN_RUN(config.memory_bytes) },
	{ "cpus", TAKE_UINT, IN_RUN(config.cpus) },
	{ "initrd", TAKE_INITRD, 0 },
	{ "cmdline", TAKE_TEXT, IN_RUN(config.cmdline) },
	{ "disk", TAKE_DISK, 0 },
	{ "timeout", TAKE_UINT, IN_RUN(timeout) },
	{ "expect", TAKE_TEXT, IN_RUN(expect.text) },
	{ "on-reboot", TAKE_REBOOT, 0 },
	{ "debug-exit", TAKE_FLAG, IN_RUN(config.debug_exit) },
	{ "soft-debug", TAKE_UINT, IN_RUN(config.soft_debug) },
	{ "stdin", TAKE_FLAG, IN_RUN(use_stdin) },
	{ "log", TAKE_LOG, 0 },
	{ "pause-every", TAKE_MS, IN_RUN(pause_ns) },
	{ "when", TAKE_TEXT, IN_RUN(when.text) },
	{ "do", TAKE_TEXT, IN_RUN(action) },
	{ "nested", TAKE_NESTED, 0 },
	{ "virtio", TAKE_UINT, IN_RUN(config.virtio) },
	{ "code-cache", TAKE_MIB, IN_RUN(config.code_cache_bytes) },
	{ "test-device", TAKE_FLAG, IN_RUN(config.test_device) },
	{ "stats", TAKE_FLAG, IN_RUN(stats) },
};

static void take(struct run *run, enum take how, void *field, char *value)
{
	switch (how) {
	case TAKE_UINT:
		*(unsigned *)field = (unsigned)strtoul(value, NULL, 0);
		break;
	case TAKE_MIB:
		*(uint64_t *)field = strtoull(value, NULL, 0) << 20;
		break;
	case TAKE_MS:
		*(uint64_t *)field = strtoull(value, NULL, 0) * 1000000;
		break;
	case TAKE_TEXT:
		*(const char **)field = value;
		break;
	case TAKE_FLAG:
		*(bool *)field = true;
		break;
	case TAKE_ENGINE:
		run->config.engine = strcmp(value, "kvm") ? VMX_ENGINE_SOFT : VMX_ENGINE_KVM;
		break;
	case TAKE_INITRD:
		run->config.initrd_fd = open_file(value, O_RDONLY);
		break;
	case TAKE_DISK:
		add_disk(run, value);
		break;
	case TAKE_REBOOT:
		run->config.reboot_stops = !strcmp(value, "stop");
		break;
	case TAKE_NESTED:
		run->config.vm_flags |= VMX_VM_NESTED;
		break;
	case TAKE_LOG:
		if (log_level_parse(value, &run->level) < 0)
			usage();
		break;
	}
}

static void parse(struct run *run, int argc, char **argv)
{
	struct option known[ARRAY_SIZE(options) + 1] = { 0 };
	int index;

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		known[i].name = options[i].name;
		known[i].has_arg = options[i].take != TAKE_FLAG && options[i].take != TAKE_NESTED;
	}
	for (int r; (r = getopt_long(argc, argv, "", known, &index)) >= 0;) {
		if (r != 0)
			usage();
		take(run, options[index].take, (char *)run + options[index].field, optarg);
	}
	if (optind != argc - 1)
		usage();
	run->config.kernel_fd = open_file(argv[optind], O_RDONLY);
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
