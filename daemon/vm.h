/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vm.h - one VM as the daemon knows it: configuration, state, what its process told. Loop thread.
 *
 * created -> starting -> running <-> paused -> stopping -> stopped, and failed. A VM is stopped or
 * failed only when its process is gone and has told its end (or died without): from then on it can
 * be started again. No error of a guest goes further than this object.
 */
#ifndef DAEMON_VM_H
#define DAEMON_VM_H

#include "daemon/daemon.h"
#include "protocol/rpc.h"

enum vm_state {
	VM_CREATED,
	VM_STARTING,
	VM_RUNNING,
	VM_PAUSED,
	VM_STOPPING,
	VM_STOPPED,
	VM_FAILED,
};

struct nets;
struct vhosts;
struct waiter;
struct link;
struct plug_op;

struct vm {
	struct daemon *daemon;
	const char *name;      /* in config */
	json_object *config;   /* only plug.c changes it */
	enum vm_state state;
	enum vm_state before;  /* STARTING: what to go back to */
	bool ran;              /* the guest ran since the last start */
	bool stopping;         /* an end was asked for: shown as such until it comes */
	bool killed;           /* by force */
	struct link *link;     /* its process; NULL without one */
	struct nets *nets;     /* what is behind its network cards, while it has a process */
	struct vhosts *vhosts; /* likewise its vhost-user devices */
	char engine[8];        /* "auto" until it is known */
	char engine_reason[256];
	/* As the machine told last. */
	char reason[32];
	char detail[512];
	bool has_exit_code;
	int exit_code;
	char rip[24];          /* empty: unknown */
	int64_t resets, stalls;
	double run_s, boot_ms;
	uint64_t asked_ns;     /* when its start was asked for */
	uint64_t reported_ns;  /* when run_s was true */
	json_object *console_tail; /* array, or NULL */
	json_object *sandbox;      /* of its process; NULL: none, or not told yet */
	json_object *units;        /* array: what its process has plugged in; NULL: not told */
	LIST_HEAD(, plug_op) plug_ops;
	LIST_HEAD(, waiter) waiters;
	TAILQ_ENTRY(vm) entry;
};

const char *vm_state_name(enum vm_state state);

/* Adds a VM; config was checked, and is taken over also on an error. -ENOMEM. */
int vm_add(struct daemon *daemon, json_object *config, struct vm **ret_vm);
/* Out of the list, out of memory; nothing on disk. Its process, if any, goes on. */
void vm_remove(struct vm *vm);
/* Also forgets it on disk and tells so. */
void vm_delete(struct vm *vm);
struct vm *vm_find(struct daemon *daemon, const char *name); /* NULL: none */
bool vm_ended(const struct vm *vm); /* created, stopped, failed: no process */
uint64_t vm_memory(const struct vm *vm);

/* What vm.info tells; the caller owns it. with_config adds the configuration. */
json_object *vm_info(const struct vm *vm, bool with_config);

/* Changes the state: event, log, and whoever waits for it. */
void vm_set_state(struct vm *vm, enum vm_state state);
/* Begins a start that was checked to be possible: state STARTING, engine, process. How it went
 * reaches the waiters, maybe before this returns; vm may then be deleted already. */
void vm_start(struct vm *vm);
/* Presses the guest's power button. */
void vm_stop(struct vm *vm);
/* Asks for the end by force. */
void vm_kill(struct vm *vm);
/* The start cannot be: back to the state before, and *error to who waits for it. */
void vm_start_failed(struct vm *vm, const struct rpc_error *error);

/* From the process (link.c): a report of its state; its end, with the last report if it left one
 * (else NULL), and how the process ended, as text. vm may be freed by vm_link_ended(). */
void vm_link_report(struct vm *vm, json_object *report);
void vm_link_ended(struct vm *vm, json_object *final, const char *how);

#endif
