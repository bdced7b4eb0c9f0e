/* SPDX-License-Identifier: Apache-2.0 */
/* daemon.h - the one context of vmxd, passed down everywhere. Loop thread only. */
#ifndef DAEMON_DAEMON_H
#define DAEMON_DAEMON_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <uv.h>

#include "common/log.h"
#include "common/tsc.h"
#include "protocol/json.h"

#define DAEMON_CONNECTIONS_MAX 256
#define DAEMON_VMS_MAX 1024
#define DAEMON_API "0.1"

struct call;
struct conn;
struct events;
struct helper;
struct probe;
struct server;
struct vm;

struct daemon_options {
	const char *socket;      /* paths; absolute */
	const char *runtime_dir;
	const char *state_dir;
	const char *machine;     /* vmxd-machine's path */
	enum log_level log_level;
	bool no_sandbox;         /* of the VMs' processes: for development */
	char *const *share_roots; /* see config_open() */
};

struct daemon {
	uv_loop_t *loop;
	struct log *log;
	struct daemon_options options;
	char instance[33];       /* random, of this start */
	uint64_t started_ns;
	struct tsc_sample tsc;   /* taken at the start, for machines to measure from */
	uint64_t host_memory;    /* bytes */
	TAILQ_HEAD(vm_list, vm) vms; /* by name */
	unsigned vm_count;
	struct events *events;
	struct probe *probe;
	struct server *server;
	LIST_HEAD(, helper) helpers; /* helper.h */
	bool ending;
};

#endif
