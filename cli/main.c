/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - vmctl: the one table of verbs. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/cli.h"
#include "protocol/paths.h"

#define CONFIG_OPTIONS \
	(OPTION_BIT(OPTION_KERNEL) | OPTION_BIT(OPTION_INITRD) | OPTION_BIT(OPTION_CMDLINE) | \
	 OPTION_BIT(OPTION_MEMORY) | OPTION_BIT(OPTION_CPUS) | OPTION_BIT(OPTION_DISK) | \
	 OPTION_BIT(OPTION_NET) | OPTION_BIT(OPTION_PUBLISH) | \
	 OPTION_BIT(OPTION_SHARE) | OPTION_BIT(OPTION_VHOST_USER) | \
	 OPTION_BIT(OPTION_ENGINE) | OPTION_BIT(OPTION_ON_REBOOT) | \
	 OPTION_BIT(OPTION_TRANSPORT) | OPTION_BIT(OPTION_RINGS) | \
	 OPTION_BIT(OPTION_CONSOLE) | OPTION_BIT(OPTION_PORT) | OPTION_BIT(OPTION_VSOCK) | \
	 OPTION_BIT(OPTION_BALLOON) | OPTION_BIT(OPTION_MEM) | OPTION_BIT(OPTION_PMEM) | \
	 OPTION_BIT(OPTION_NO_CONSOLE) | OPTION_BIT(OPTION_NESTED) | \
	 OPTION_BIT(OPTION_DEBUG_EXIT) | OPTION_BIT(OPTION_TEST_DEVICE) | \
	 OPTION_BIT(OPTION_SOFT_DEBUG) | OPTION_BIT(OPTION_CODE_CACHE) | OPTION_BIT(OPTION_RM))

const struct verb verbs[] = {
	{ "run", "[NAME] --kernel FILE", 0, 1, CONFIG_OPTIONS | OPTION_BIT(OPTION_DETACH),
	  "create a VM, start it, attach to its console", verb_run },
	{ "create", "NAME --kernel FILE", 1, 1, CONFIG_OPTIONS,
	  "create a VM without starting it", verb_create },
	{ "start", "NAME", 1, 1, 0, "start a VM", verb_start },
	{ "stop", "NAME", 1, 1, OPTION_BIT(OPTION_TIMEOUT),
	  "press the power button; by force after the time (30 s)", verb_stop },
	{ "kill", "NAME", 1, 1, 0, "end a VM at once", verb_kill },
	{ "pause", "NAME", 1, 1, 0, "stand a VM still", verb_pause },
	{ "resume", "NAME", 1, 1, 0, "let a paused VM go on", verb_resume },
	{ "reset", "NAME", 1, 1, 0, "press the reset button", verb_reset },
	{ "balloon", "NAME SIZE", 2, 2, 0,
	  "ask the guest to make do with so much memory", verb_balloon },
	{ "mem", "NAME SIZE", 2, 2, 0,
	  "ask the guest to have so much of its --mem", verb_mem },
	{ "delete", "NAME", 1, 1, OPTION_BIT(OPTION_FORCE),
	  "forget a VM; its images stay", verb_delete },
	{ "list", "", 0, 0, 0, "all VMs", verb_list },
	{ "info", "NAME", 1, 1, OPTION_BIT(OPTION_STATS), "one VM", verb_info },
	{ "wait", "NAME", 1, 1, OPTION_BIT(OPTION_TIMEOUT),
	  "wait for a VM's end; exits as run does", verb_wait },
	{ "console", "NAME", 1, 1, 0, "attach to a VM's console; ~. detaches", verb_console },
	{ "disk", "list NAME | add NAME FILE[,OPTION...] | remove NAME ID | resize NAME ID [SIZE]", 2, 4,
	  OPTION_BIT(OPTION_FORCE) | OPTION_BIT(OPTION_TIMEOUT),
	  "a VM's disks, also while it runs", verb_disk },
	{ "net", "list NAME | add NAME KIND[,WORD[=VALUE]]... | remove NAME ID", 2, 3,
	  OPTION_BIT(OPTION_FORCE) | OPTION_BIT(OPTION_TIMEOUT) | OPTION_BIT(OPTION_PUBLISH),
	  "a VM's network cards, also while it runs", verb_net },
	{ "vhost", "list NAME | add NAME KIND,socket=PATH[,WORD=VALUE]... | remove NAME ID", 2, 3,
	  OPTION_BIT(OPTION_TIMEOUT),
	  "a VM's vhost-user devices, also while it runs", verb_vhost },
	{ "events", "", 0, 0, OPTION_BIT(OPTION_FROM) | OPTION_BIT(OPTION_COUNT_EVENTS),
	  "tell what happens", verb_events },
	{ "doctor", "", 0, 0, OPTION_BIT(OPTION_REFRESH),
	  "what this host can do, and what to do about the rest", verb_doctor },
	{ "rpc", "METHOD [JSON]", 1, 2, 0, "call any method of the daemon", verb_rpc },
	{ "version", "", 0, 0, 0, "versions of vmctl and vmxd", verb_version },
	{ "help", "[VERB]", 0, 1, 0, "this, or a verb's options", verb_help },
	{ .name = NULL },
};

/* Whoever starts vmctl may have closed 0, 1 or 2: no socket must become one of them. */
static void fill_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd > STDERR_FILENO)
		close(fd);
}

int main(int argc, char **argv)
{
	struct ctl ctl = { .signals = -1 };
	int code;

	fill_standard_fds();
	signal(SIGPIPE, SIG_IGN);
	code = options_parse(argc, argv, &ctl);
	if (code != EXIT_OK) {
		if (ctl.verb && !ctl.argc && ctl.verb->run == verb_help)
			fputs("vmctl: a verb is missing; 'vmctl help' lists them\n", stderr);
		return code;
	}
	ctl.socket = has_option(&ctl, OPTION_SOCKET) ?
		     realpath(ctl.options.value[OPTION_SOCKET], NULL) : path_client_socket();
	if (!ctl.socket && has_option(&ctl, OPTION_SOCKET)) {
		ctl_complain("no daemon at %s", ctl.options.value[OPTION_SOCKET]);
		return EXIT_UNREACHABLE;
	}
	code = has_option(&ctl, OPTION_HELP) ? verb_help(&ctl) : ctl.verb->run(&ctl);
	client_free(ctl.client);
	free(ctl.socket);
	if (fflush(stdout) != 0 && code == EXIT_OK)
		code = EXIT_FAILED;
	return code;
}
