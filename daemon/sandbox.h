/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox.h - what is left of the host for a VM's process, from before its first thread on.
 *
 * Two stages. sandbox_create(), while there is one thread: no new privileges, limits, an empty root
 * of its own where the host lets it, Landlock without a single rule, no capabilities. Then every
 * thread, in sandbox_thread(): a seccomp filter for its kind, of the one table in sandbox_rules.c.
 * Whatever is missing on this host is told in sandbox_json(); without seccomp there is no sandbox.
 *
 * A forbidden call is not made. It ends the process by SIGSYS, after a report with the names of call
 * and thread in the status file, which is where the daemon reads how a VM ended.
 */
#ifndef DAEMON_SANDBOX_H
#define DAEMON_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "machine/thread.h"
#include "protocol/json.h"

struct sandbox;

#define SANDBOX_SHARES_MAX 8

struct sandbox_options {
	bool kvm;            /* the engine is KVM: its ioctls are needed */
	int status_fd;       /* gets the report of a violation */
	int proc_fd;         /* /proc/self/fd; used with share_count only */
	size_t share_count;  /* directories whose files are reached after all */
	struct {
		int fd;
		bool readonly;
	} shares[SANDBOX_SHARES_MAX];
	json_object *report; /* members of that report beside "detail" and "ran"; borrowed */
};

/* The first stage. The process has one thread and has opened all that needs a path. -ENOTSUP: no
 * seccomp; -ENOMEM; else what went wrong beside it. *ret_error (caller frees, may be NULL) says it
 * in words. */
int sandbox_create(const struct sandbox_options *options, struct sandbox **ret, char **ret_error);
/* The second stage, for the calling thread, once. Ends the process if it cannot be. */
void sandbox_thread(struct sandbox *sandbox, enum thread_kind kind);
/* A violation's report says from now on that the guest ran. Any thread. */
void sandbox_guest_runs(struct sandbox *sandbox);
/* What this process got, for vm.info and the doctor. The caller owns it. NULL: none was asked for. */
json_object *sandbox_json(const struct sandbox *sandbox);
/* Tries it in a child process: what this host allows, in the same words. */
json_object *sandbox_probe(void);
/* NULL is fine; returns NULL. What was given up stays given up; a violation is not reported any
 * more. */
struct sandbox *sandbox_free(struct sandbox *sandbox);

/* "loop", "block worker", ... */
const char *sandbox_kind_name(enum thread_kind kind);

#endif
