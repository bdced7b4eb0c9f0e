/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_rules.h - the table of rules, and what libseccomp makes of it.
 *
 * That takes a millisecond and more, which every VM's start would pay: sandbox-generate does it when vmxd is
 * built, for each kind of thread, and writes sandbox_programs.c. All that differs between processes is
 * the values of enum sandbox_own, which sandbox_filter.c puts in.
 */
#ifndef DAEMON_SANDBOX_RULES_H
#define DAEMON_SANDBOX_RULES_H

#include <stdint.h>

#include <seccomp.h>

#include "daemon/sandbox_internal.h"

#define KINDS(kind) (1u << (kind))

enum sandbox_when { SANDBOX_ALWAYS, SANDBOX_KVM, SANDBOX_SHARES };

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

/* sandbox_compile.c: *ret->filter is the caller's, to be freed. own: the values to compare with. -errno. */
int sandbox_compile(enum thread_kind kind, bool kvm, bool shares, const uint32_t own[SANDBOX_OWNS],
		    struct sock_fprog *ret);

#endif
