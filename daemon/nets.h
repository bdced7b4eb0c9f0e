/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nets.h - what is behind a VM's network cards: opened before it starts, looked after while it runs.
 *
 * A card's peer may die: vmxd-slirp, a program at the other end of a socket. The machine then tells
 * that the link is down, and gets another descriptor as soon as there is one. That is also all that
 * a new daemon has to know about machines of an old one. Loop thread.
 */
#ifndef DAEMON_NETS_H
#define DAEMON_NETS_H

#include "daemon/netconf.h"
#include "daemon/vm.h"

struct nets;

/* Opens all of it for vm, which has none: vm->nets, and ends[NETS_MAX] with *ret_count in use
 * (caller: net_ends_close()). -EINVAL with *error, and nothing is left. */
int nets_open(struct vm *vm, struct net_ends *ends, size_t *ret_count, struct rpc_error *error);
/* The guest runs: starts the programs that serve its cards, once. A card whose program cannot be started
 * loses its link, and is looked after as one whose program died. */
void nets_start(struct vm *vm);
/* vm was found running: what can be had again is. */
void nets_adopt(struct vm *vm);
/* The machine told what it has, each card with its "link". */
void nets_report(struct vm *vm, json_object *units);
/* One more card for a VM that runs: opens what is behind it into *ends (caller: net_ends_close()).
 * -EINVAL with *error; field is its name there. */
int nets_open_new(struct vm *vm, json_object *net, const char *field, struct net_ends *ends,
		  struct rpc_error *error);
/* A card of the configuration that an earlier daemon plugged in, or is known already. */
void nets_adopt_new(struct vm *vm, const char *id);
/* The card is gone. */
void nets_drop(struct vm *vm, const char *id);
/* The VM has ended. NULL is fine; returns NULL. */
struct nets *nets_free(struct nets *nets);
/* For vm.info: an array of cards; for a list: one card. The caller owns it. */
json_object *nets_json(const struct vm *vm);
json_object *nets_card_json(const struct vm *vm, const char *id);

/* nets_open.c: one card's descriptors. conf->kind says which. -EINVAL with *error; field is the
 * card's name in it. taken: another VM has it. */
int net_open_tap(const struct netconf *conf, const char *field, bool taken,
		 struct net_ends *ends, struct rpc_error *error);
/* Adds a /dev/vhost-net for each queue of the tap in ends, if it is to be used and can be had. An error
 * closes ends. */
int net_open_vhost(struct log *log, const struct netconf *conf, const char *field,
		   struct net_ends *ends, struct rpc_error *error);
int net_open_stream(const struct netconf *conf, const char *field, int *ret_fd,
		    struct rpc_error *error);
int net_listen(const struct netconf *conf, const char *field, int *ret_fd,
	       struct rpc_error *error);
/* A socket for the machine, and its other end for a vmxd-slirp, which net_start_user() starts. Both are the
 * caller's. */
int net_open_user(const struct vm *vm, const struct netconf *conf, const char *field, int *ret_fd,
		  int *ret_peer_fd, struct rpc_error *error);
/* fd stays the caller's. -EINVAL with *error. */
int net_start_user(struct vm *vm, const struct netconf *conf, const char *field, int fd,
		   struct rpc_error *error);

#endif
