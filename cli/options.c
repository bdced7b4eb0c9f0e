/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static const struct {
	const char *name, *argument, *summary;
} table[OPTION_COUNT] = {
	[OPTION_SOCKET] = { "socket", "PATH", "the daemon's socket (VMXD_SOCKET)" },
	[OPTION_JSON] = { "json", NULL, "print what the daemon answers" },
	[OPTION_QUIET] = { "quiet", NULL, "no messages, only results and errors (-q)" },
	[OPTION_HELP] = { "help", NULL, "print this and exit (-h)" },
	[OPTION_VERSION] = { "version", NULL, "print the version and exit" },
	[OPTION_KERNEL] = { "kernel", "FILE", "bzImage, PVH ELF or multiboot 1 image" },
	[OPTION_INITRD] = { "initrd", "FILE", "initial RAM disk" },
	[OPTION_CMDLINE] = { "cmdline", "TEXT", "the kernel's command line" },
	[OPTION_MEMORY] = { "memory", "SIZE", "guest memory (512M)" },
	[OPTION_CPUS] = { "cpus", "N", "virtual processors (1)" },
	[OPTION_DISK] = { "disk", "FILE[,OPTION...]",
			  "a disk; options: format=raw|qcow2, backing=FORMAT:FILE (repeated: deeper), readonly, "
			  "serial=S, id=ID, cache=none, io=threads, queues=N, bytes=SIZE, ops=N (a second)" },
	[OPTION_NET] = { "net", "KIND[,WORD[=VALUE]]...",
		"a network card: user, tap, stream, none; may be repeated" },
	[OPTION_PUBLISH] = { "publish", "[ADDR:]HOST:GUEST[/udp]",
		"a port of the host for one of the guest; may be repeated" },
	[OPTION_SHARE] = { "share", "DIR:TAG[,ro|,virtiofs]", "a directory for the guest; may be repeated" },
	[OPTION_VHOST_USER] = { "vhost-user", "DEVICE,socket=PATH[,WORD=VALUE]...",
		"blk, net or fs by another program; words: tag, mac, queues, queue_size" },
	[OPTION_ENGINE] = { "engine", "auto|kvm|soft", "what runs the guest (auto)" },
	[OPTION_ON_REBOOT] = { "on-reboot", "restart|stop", "what a reset by the guest does (restart)" },
	[OPTION_TRANSPORT] = { "transport", "pci|mmio", "where virtio devices are (pci)" },
	[OPTION_RINGS] = { "rings", "split|packed", "packed: also offer packed virtio rings (split)" },
	[OPTION_CONSOLE] = { "console", "serial|virtio|none", "what can be attached to (serial)" },
	[OPTION_PORT] = { "port", "NAME=PATH[,pty]", "a stream to the guest at a socket" },
	[OPTION_VSOCK] = { "vsock", "PATH[,cid=N]", "AF_VSOCK streams to the guest at a socket" },
	[OPTION_BALLOON] = { "balloon", NULL, "the guest can give memory back" },
	[OPTION_MEM] = { "mem", "SIZE[,requested=SIZE][,block=SIZE]",
		"memory that comes and goes: vmctl mem" },
	[OPTION_PMEM] = { "pmem", "FILE", "a file as persistent memory; may be repeated" },
	[OPTION_NO_CONSOLE] = { "no-console", NULL, "keep nothing of what the serial port says" },
	[OPTION_NESTED] = { "nested", NULL, "offer VMX to the guest" },
	[OPTION_DEBUG_EXIT] = { "debug-exit", NULL, "port 0xf4 ends the VM with a code (tests)" },
	[OPTION_TEST_DEVICE] = { "test-device", NULL, "ports of QEMU's pc-testdev (tests)" },
	[OPTION_SOFT_DEBUG] = { "soft-debug", "WORD", "a slower way of the soft engine (tests)" },
	[OPTION_CODE_CACHE] = { "code-cache", "SIZE", "the soft engine's code cache" },
	[OPTION_RM] = { "rm", NULL, "delete the VM when it has ended" },
	[OPTION_DETACH] = { "detach", NULL, "do not attach to the console" },
	[OPTION_TIMEOUT] = { "timeout", "SECONDS", "how long to wait" },
	[OPTION_STATS] = { "stats", NULL, "the engine's counters too" },
	[OPTION_FROM] = { "from", "N", "first event wanted; 0: all that are still known" },
	[OPTION_COUNT_EVENTS] = { "count", "N", "end after so many events" },
	[OPTION_FORCE] = { "force", NULL, "delete: end it first if it runs; disk remove: do not wait for the guest" },
	[OPTION_REFRESH] = { "refresh", NULL, "measure again" },
};

#define GENERAL (OPTION_BIT(OPTION_SOCKET) | OPTION_BIT(OPTION_JSON) | OPTION_BIT(OPTION_QUIET) | \
		 OPTION_BIT(OPTION_HELP) | OPTION_BIT(OPTION_VERSION))

/* May be given more than once. */
#define REPEATED (OPTION_BIT(OPTION_DISK) | OPTION_BIT(OPTION_NET) | OPTION_BIT(OPTION_PUBLISH) | \
		  OPTION_BIT(OPTION_SHARE) | OPTION_BIT(OPTION_VHOST_USER) | \
		  OPTION_BIT(OPTION_PORT) | OPTION_BIT(OPTION_PMEM) | OPTION_BIT(OPTION_SOFT_DEBUG))

void options_print(uint64_t which)
{
	for (int id = 0; id < OPTION_COUNT; id++) {
		char left[64];

		if (!(which & OPTION_BIT(id)))
			continue;
		snprintf(left, sizeof(left), "--%s%s%s", table[id].name,
			 table[id].argument ? " " : "", table[id].argument ? table[id].argument : "");
		printf("  %-34s %s\n", left, table[id].summary);
	}
}

static bool take(struct options *o, int id, const char *value)
{
	struct option_list *all = &o->all[id];

	o->given |= OPTION_BIT(id);
	o->value[id] = value;
	if (!(REPEATED & OPTION_BIT(id)))
		return true;
	if (all->count == OPTION_REPEATS_MAX)
		return false;
	all->value[all->count++] = value;
	return true;
}

static const struct verb *find_verb(const char *name)
{
	const struct verb *v;

	for (v = verbs; v->name; v++)
		if (strcmp(v->name, name) == 0)
			return v;
	return NULL;
}

/* One letter missing, added, changed or two swapped: then it was probably meant. */
static bool resembles(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b), i = 0, ja, jb;

	while (a[i] && a[i] == b[i])
		i++;
	for (ja = la, jb = lb; ja > i && jb > i && a[ja - 1] == b[jb - 1]; ja--, jb--) {
	}
	return (ja - i <= 1 && jb - i <= 1) ||
	       (ja - i == 2 && jb - i == 2 && a[i] == b[i + 1] && a[i + 1] == b[i]);
}

static void unknown_verb(const char *name)
{
	for (const struct verb *v = verbs; v->name; v++) {
		if (resembles(v->name, name)) {
			ctl_complain("no verb \"%s\"; did you mean \"%s\"?", name, v->name);
			return;
		}
	}
	ctl_complain("no verb \"%s\"; 'vmctl help' lists them", name);
}

static int check_usage(struct ctl *ctl)
{
	uint64_t strange = ctl->options.given & ~(GENERAL | ctl->verb->options);

	for (int id = 0; id < OPTION_COUNT; id++) {
		if (strange & OPTION_BIT(id)) {
			ctl_complain("%s has no option --%s", ctl->verb->name, table[id].name);
			return EXIT_USAGE;
		}
	}
	if (ctl->argc < ctl->verb->min || ctl->argc > ctl->verb->max) {
		ctl_complain("usage: vmctl %s %s", ctl->verb->name, ctl->verb->arguments);
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

static int parse_words(int argc, char **argv, struct ctl *ctl)
{
	struct option longs[OPTION_COUNT + 1];
	int c;

	memset(longs, 0, sizeof(longs));
	for (int id = 0; id < OPTION_COUNT; id++) {
		longs[id].name = table[id].name;
		longs[id].has_arg = table[id].argument ? required_argument : no_argument;
		longs[id].val = 256 + id;
	}
	while ((c = getopt_long(argc, argv, "hq", longs, NULL)) != -1) {
		int id = c == 'h' ? (int)OPTION_HELP : c == 'q' ? (int)OPTION_QUIET : c - 256;

		if (c == '?') { /* which one, getopt_long has said */
			ctl_complain("'vmctl help VERB' lists the options of a verb");
			return EXIT_USAGE;
		}
		if (!take(&ctl->options, id, optarg)) {
			ctl_complain("--%s: given too often", table[id].name);
			return EXIT_USAGE;
		}
	}
	return EXIT_OK;
}

int options_parse(int argc, char **argv, struct ctl *ctl)
{
	int r = parse_words(argc, argv, ctl);

	if (r != EXIT_OK)
		return r;
	ctl->json = has_option(ctl, OPTION_JSON);
	ctl->quiet = has_option(ctl, OPTION_QUIET);
	if (has_option(ctl, OPTION_VERSION) && optind >= argc) {
		ctl->verb = find_verb("version");
		return EXIT_OK;
	}
	if (optind >= argc) {
		ctl->verb = find_verb("help");
		return has_option(ctl, OPTION_HELP) ? EXIT_OK : EXIT_USAGE;
	}
	ctl->verb = find_verb(argv[optind]);
	if (!ctl->verb) {
		unknown_verb(argv[optind]);
		return EXIT_USAGE;
	}
	ctl->argc = argc - optind - 1;
	ctl->argv = argv + optind + 1;
	return has_option(ctl, OPTION_HELP) ? EXIT_OK : check_usage(ctl);
}

bool option_number(const struct ctl *ctl, enum option_id id, double max, double *ret)
{
	const char *text = ctl->options.value[id];
	char *end;

	*ret = strtod(text, &end);
	if (end != text && !*end && *ret >= 0 && *ret <= max)
		return true;
	ctl_complain("--%s: \"%s\" is no number from 0 to %.0f", table[id].name, text, max);
	return false;
}
