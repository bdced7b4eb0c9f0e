/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_internal.h - shared by sandbox*.c only. What libseccomp makes is made when vmxd is built: see
 * sandbox_rules.h. */
#ifndef DAEMON_SANDBOX_INTERNAL_H
#define DAEMON_SANDBOX_INTERNAL_H

#include <linux/filter.h>
#include <stdatomic.h>
#include <stddef.h>

#include "daemon/sandbox.h"

#define SANDBOX_CALLS_MAX 512 /* numbers of system calls that have a name */

/* --- sandbox_process.c: the first stage --------------------------------------------------------- */

struct sandbox_process { /* what came of it */
	int landlock;         /* ABI; 0: not there */
	bool landlock_tcp;    /* it denies TCP too */
	bool empty_root;
	char root_why[96];    /* of empty_root: by which way, or why not */
	bool no_capabilities; /* none left, in any set */
};

/* Needs no memory and no file afterwards. -errno only for what every Linux can do. */
int sandbox_process_enter(const struct sandbox_options *options, struct sandbox_process *ret);

/* --- sandbox.c ---------------------------------------------------------------------------------- */

struct sandbox {
	struct sandbox_process process;
	struct sock_fprog filter[THREAD_KINDS];
	int status_fd;
	_Atomic bool guest_runs;
	size_t report_len;
	char report[1024];              /* JSON up to where a violation's own members begin */
};

/* --- sandbox_filter.c ----------------------------------------------------------------------------- */

/* *ret->filter is sandbox_free()'s. -errno. */
int sandbox_filter_make(const struct sandbox_options *options, enum thread_kind kind,
			struct sock_fprog *ret);

/* --- sandbox_programs.c, which sandbox-generate writes when vmxd is built ------------------------- */

/* What a datum of a rule stands for that is known only in the process itself. */
enum sandbox_own {
	SANDBOX_OWN_NONE,
	SANDBOX_OWN_PID,
	SANDBOX_OWN_STATUS_FD,
	SANDBOX_OWN_PROC_FD,
	SANDBOX_OWNS,
};

struct sandbox_patch { /* such a datum's place in a program */
	unsigned short at;
	unsigned short own;
};

struct sandbox_program {
	const struct sock_filter *code;
	const struct sandbox_patch *patches;
	unsigned short len, patch_count;
};

/* By kind of thread, by whether the engine is KVM, by whether directories are shared. */
extern const struct sandbox_program sandbox_programs[THREAD_KINDS][2][2];
extern const char *const sandbox_call_names[SANDBOX_CALLS_MAX]; /* NULL: none */

#endif
