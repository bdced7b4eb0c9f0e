/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slirp.h - the inside of vmxd-slirp: user-mode networking for one network card.
 *
 * A process of its own, so that the VM's process opens nothing and so that libslirp's parsers, which
 * read what the guest sends, can reach sockets and nothing else: no file but the resolver's
 * configuration, no other process, no capability. It speaks packets (virtio_net_hdr and frame) on
 * one SOCK_SEQPACKET socket, and ends when the other end is closed. One thread.
 */
#ifndef DAEMON_SLIRP_H
#define DAEMON_SLIRP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <sys/socket.h>

#define SLIRP_FD 3 /* the socket */
#define SLIRP_PUBLISH_MAX 64

struct slirp_port {
	struct sockaddr_storage at; /* of the host */
	socklen_t at_len;
	uint16_t guest;
	bool udp;
};

struct slirp_options {
	unsigned mtu;
	bool host_access, ipv6;
	size_t publish_count;
	struct slirp_port publish[SLIRP_PUBLISH_MAX];
};

/* slirp_run.c: takes the ports, then confines the process, then serves until the other end is
 * closed. The exit status. */
int slirp_run(const struct slirp_options *options);

/* slirp_sandbox.c: gives up all that serving does not need. Negative errno. */
int slirp_confine(void);

#endif
