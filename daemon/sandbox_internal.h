/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_internal.h - shared by sandbox*.c only. */
#ifndef DAEMON_SANDBOX_INTERNAL_H
#define DAEMON_SANDBOX_INTERNAL_H

#include <linux/filter.h>
#include <stdatomic.h>
#include <stddef.h>

#include <seccomp.h>

#include "daemon/sandbox.h"

#define SANDBOX_CALLS_MAX 512 /* numbers of system calls that have a name */

/* --- sandbox_rules.c: the table --------------------------------------------------------------- */

#define KINDS(kind) (1u << (kind))

enum sandbox_when { SANDBOX_ALWAYS, SANDBOX_KVM, SANDBOX_SHARES };

/* What a datum of an argument stands for that is known only in the process itself. */
enum sandbox_own {
	SANDBOX_OWN_NONE,
	SANDBOX_OWN_PID,
	SANDBOX_OWN_STATUS_FD,
	SANDBOX_OWN_PROC_FD,
};

struct sandbox_rule {
	int call;            /* SCMP_SYS(...) */
	unsigned kinds;      /* KINDS(...) that may make it */
	const char *why;
	int refuse;          /* an errno that the caller can live with; 0: the call is made */
	enum sandbox_when when;
	enum sandbox_own own; /* argument 0 must be this */
	unsigned args;       /* of arg[]: all must hold */
	struct scmp_arg_cmp arg[2];
};

extern const struct sandbox_rule sandbox_rules[];
extern const size_t sandbox_rule_count;

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
	char *names[SANDBOX_CALLS_MAX]; /* of system calls; NULL: none */
	size_t report_len;
	char report[1024];              /* JSON up to where a violation's own members begin */
};

/* sandbox_filter.c: *ret->filter is sandbox_free()'s. -errno. */
int sandbox_filter_make(const struct sandbox_options *options, enum thread_kind kind,
			struct sock_fprog *ret);

#endif
