/* SPDX-License-Identifier: Apache-2.0 */
/* nets_open.c - the descriptors behind one network card. See nets.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>

#include "common/address.h"
#include "daemon/helper.h"
#include "daemon/nets.h"
#include "protocol/unix.h"

/* "nets[0].ifname: what", with the reason that a script can look at. */
static int refuse(struct rpc_error *error, int err, const char *reason, const char *field,
		  const char *key, const char *fmt, ...) __attribute__((format(printf, 6, 7)));

static int refuse(struct rpc_error *error, int err, const char *reason, const char *field,
		  const char *key, const char *fmt, ...)
{
	char where[64], what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	snprintf(where, sizeof(where), "%s.%s", field, key);
	rpc_fail(error, err == EBUSY || err == EADDRINUSE ? RPC_BUSY : RPC_INVALID_PARAMS, reason, where,
		 "%s: %s", where, what);
	error->err = err;
	return -EINVAL;
}

/* --- taps ------------------------------------------------------------------------------------- */

static int interface_request(unsigned long request, struct ifreq *ifr)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), r = 0;

	if (sock < 0)
		return -errno;
	if (ioctl(sock, request, ifr) < 0)
		r = -errno;
	close(sock);
	return r;
}

static void set_name(struct ifreq *ifr, const char *name)
{
	memset(ifr, 0, sizeof(*ifr));
	snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", name);
}

static bool interface_exists(const char *name)
{
	struct ifreq ifr;

	set_name(&ifr, name);
	return interface_request(SIOCGIFINDEX, &ifr) == 0;
}

/* One queue of it. */
static int open_queue(const char *name, int flags)
{
	struct ifreq ifr;
	int fd = open(NET_TUN_PATH, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	set_name(&ifr, name);
	ifr.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags);
	if (ioctl(fd, TUNSETIFF, &ifr) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	return fd;
}

static int tap_error(const struct netconf *conf, const char *field, int r,
		     struct rpc_error *error)
{
	switch (r) {
	case -EBUSY:
		return refuse(error, EBUSY, "in-use", field, "ifname",
			      "%s is in use by another VM or program", conf->ifname);
	case -EPERM: case -EACCES:
		return refuse(error, -r, "not-accessible", field, "ifname",
			      "%s: vmxd may not use it: make it with "
			      "'ip tuntap add dev %s mode tap user USER', or run vmxd as root",
			      conf->ifname, conf->ifname);
	case -EINVAL:
		return refuse(error, EINVAL, "not-usable", field, "ifname",
			      conf->queues > 1 ? "%s is no tap, or was not made with multi_queue"
					       : "%s is no tap", conf->ifname);
	case -ENOENT: case -ENODEV: case -ENXIO:
		return refuse(error, -r, "not-supported", field, "ifname",
			      "this host has no " NET_TUN_PATH ": load the module tun");
	default:
		return refuse(error, -r, "not-usable", field, "ifname", "%s: %s", conf->ifname,
			      strerror(-r));
	}
}

/* A tap of our own: up, and a port of its bridge. It goes when its last descriptor is closed. */
static int setup_tap(const struct netconf *conf, const char *field, struct rpc_error *error)
{
	struct ifreq ifr;
	int r;

	if (conf->bridge) {
		struct ifreq port;

		set_name(&port, conf->ifname);
		r = interface_request(SIOCGIFINDEX, &port);
		set_name(&ifr, conf->bridge);
		ifr.ifr_ifindex = port.ifr_ifindex;
		if (r == 0)
			r = interface_request(SIOCBRADDIF, &ifr);
		if (r < 0)
			return refuse(error, -r, "not-usable", field, "bridge",
				      "%s cannot become a port of %s: %s", conf->ifname,
				      conf->bridge, strerror(-r));
	}
	set_name(&ifr, conf->ifname);
	r = interface_request(SIOCGIFFLAGS, &ifr);
	ifr.ifr_flags |= IFF_UP;
	if (r == 0)
		r = interface_request(SIOCSIFFLAGS, &ifr);
	return r < 0 ? tap_error(conf, field, r, error) : 0;
}

int net_open_tap(const struct netconf *conf, const char *field, bool taken,
		 struct net_ends *ends, struct rpc_error *error)
{
	bool there = interface_exists(conf->ifname);
	int flags = conf->queues > 1 ? IFF_MULTI_QUEUE : 0;

	if (!there && !conf->create)
		return refuse(error, ENODEV, "no-such-tap", field, "ifname",
			      "there is no tap %s: make it with 'ip tuntap add dev %s mode tap%s', "
			      "or let it be made: see create", conf->ifname, conf->ifname,
			      conf->queues > 1 ? " multi_queue" : "");
	if (taken)
		return tap_error(conf, field, -EBUSY, error);
	for (ends->fd_count = 0; ends->fd_count < conf->queues; ends->fd_count++) {
		int fd = open_queue(conf->ifname, flags);

		if (fd == -EINVAL && conf->queues == 1 && there) /* it may have been made for more */
			fd = open_queue(conf->ifname, IFF_MULTI_QUEUE);
		if (fd < 0) {
			net_ends_close(ends, 1);
			return tap_error(conf, field, fd, error);
		}
		ends->fds[ends->fd_count] = fd;
	}
	if (!there && setup_tap(conf, field, error) < 0) {
		net_ends_close(ends, 1);
		return -EINVAL;
	}
	return 0;
}

int net_open_vhost(struct log *log, const struct netconf *conf, const char *field,
		   struct net_ends *ends, struct rpc_error *error)
{
	unsigned taps = ends->fd_count;
	int err = 0;

	ends->vhost_must = conf->vhost == NETCONF_VHOST_ON;
	while (conf->vhost != NETCONF_VHOST_OFF && ends->vhost_count < taps && !err) {
		int fd = open(NET_VHOST_PATH, O_RDWR | O_CLOEXEC);

		err = fd < 0 ? errno : 0;
		if (fd >= 0) {
			ends->fds[ends->fd_count++] = fd;
			ends->vhost_count++;
		}
	}
	if (!err)
		return 0;
	if (ends->vhost_must) {
		net_ends_close(ends, 1);
		return refuse(error, err, err == EACCES ? "not-accessible" : "not-supported", field, "vhost",
			      NET_VHOST_PATH ": %s%s", strerror(err), err == ENOENT || err == ENODEV ?
			      ": load the module vhost_net, or leave \"vhost\" out" : "");
	}
	while (ends->vhost_count) {
		close(ends->fds[--ends->fd_count]);
		ends->vhost_count--;
	}
	if (err != ENOENT && err != ENODEV) /* a host without it is none to complain of */
		log_line(log, LOG_LEVEL_WARNING, "%s: " NET_VHOST_PATH " cannot be used: %s; packets go "
			 "without it", conf->ifname, strerror(err));
	return 0;
}

/* --- stream sockets ---------------------------------------------------------------------------- */

int net_open_stream(const struct netconf *conf, const char *field, int *ret_fd,
		    struct rpc_error *error)
{
	int fd = unix_connect(conf->path, 1);

	if (fd == -ENOENT || fd == -ECONNREFUSED)
		return refuse(error, -fd, "no-such-socket", field, "path",
			      "%s: nobody listens there: start the other side first", conf->path);
	if (fd < 0)
		return refuse(error, -fd, fd == -EACCES ? "not-accessible" : "not-usable", field,
			      "path", "%s: %s", conf->path, strerror(-fd));
	*ret_fd = fd;
	return 0;
}

/* What is there may be replaced only if it is a socket that nobody listens on any more. */
int net_listen(const struct netconf *conf, const char *field, int *ret_fd,
	       struct rpc_error *error)
{
	struct stat st;
	int fd;

	if (lstat(conf->path, &st) == 0) {
		if (!S_ISSOCK(st.st_mode))
			return refuse(error, EEXIST, "exists", field, "path",
				      "%s is there and is no socket", conf->path);
		fd = unix_connect(conf->path, 1);
		if (fd >= 0 || fd == -EAGAIN) {
			if (fd >= 0)
				close(fd);
			return refuse(error, EADDRINUSE, "in-use", field, "path",
				      "%s: somebody listens there already", conf->path);
		}
	}
	fd = unix_listen(conf->path, 0600, 1);
	if (fd < 0)
		return refuse(error, -fd, fd == -EACCES ? "not-accessible" : "not-usable", field,
			      "path", "%s: %s", conf->path, strerror(-fd));
	*ret_fd = fd;
	return 0;
}

/* --- user-mode networking ---------------------------------------------------------------------- */

/* Could the port be had? vmxd-slirp takes it a moment later; that it cannot is told here, where
 * somebody waits for an answer. */
static int try_port(const struct netconf_port *port, const char *field, size_t index,
		    struct rpc_error *error)
{
	struct sockaddr_storage addr;
	socklen_t len = address_parse(port->address, port->host, &addr);
	int one = 1, err = 0, sock;
	char key[32];

	sock = socket(addr.ss_family, (port->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	if (sock < 0 ||
	    (port->ipv6 && setsockopt(sock, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) ||
	    (!port->udp && setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0) ||
	    bind(sock, (struct sockaddr *)&addr, len) < 0 ||
	    (!port->udp && listen(sock, 1) < 0))
		err = errno;
	if (sock >= 0)
		close(sock);
	if (!err)
		return 0;
	snprintf(key, sizeof(key), "publish[%zu]", index);
	return refuse(error, err, err == EADDRINUSE ? "port-in-use" :
		      err == EADDRNOTAVAIL ? "no-such-address" : "not-accessible", field, key,
		      "%s port %u of %s: %s", port->udp ? "UDP" : "TCP", port->host,
		      !port->any ? port->address : port->ipv6 ? "any IPv6 address" : "any address",
		      err == EAFNOSUPPORT ? "this host has no IPv6" :
		      err == EADDRINUSE ? "in use by another program" :
		      err == EADDRNOTAVAIL ? "not an address of this host" :
		      err == EACCES ? "vmxd may not use it: ports below 1024 need root" :
		      strerror(err));
}

#define ARGS_MAX (16 + 2 * NET_PUBLISH_MAX)
#define ARG_BYTES 96

static unsigned make_args(const struct netconf *conf, const char *name, char text[][ARG_BYTES],
			  char **args)
{
	unsigned n = 0;

	snprintf(text[n++], ARG_BYTES, "vmxd-slirp");
	snprintf(text[n++], ARG_BYTES, "--mtu=%u", conf->mtu);
	if (conf->host_access)
		snprintf(text[n++], ARG_BYTES, "--host-access");
	if (!conf->ipv6)
		snprintf(text[n++], ARG_BYTES, "--no-ipv6");
	for (size_t i = 0; i < conf->publish_count; i++) {
		const struct netconf_port *p = &conf->publish[i];

		snprintf(text[n++], ARG_BYTES, "--publish=%s,%u:%u/%s", p->address, p->host,
			 p->guest, p->udp ? "udp" : "tcp");
	}
	snprintf(text[n++], ARG_BYTES, "%s", name); /* seen in ps */
	for (unsigned i = 0; i < n; i++)
		args[i] = text[i];
	args[n] = NULL;
	return n;
}

/* Beside vmxd-machine. */
static void slirp_path(const struct vm *vm, char *path, size_t size)
{
	const char *machine = vm->daemon->options.machine, *slash = strrchr(machine, '/');

	snprintf(path, size, "%.*s/vmxd-slirp", slash ? (int)(slash - machine) : 1,
		 slash ? machine : ".");
}

static int no_slirp(const char *field, int err, struct rpc_error *error)
{
	return refuse(error, err, "not-usable", field, "kind", "vmxd-slirp cannot be started: %s",
		      strerror(err));
}

int net_start_user(struct vm *vm, const struct netconf *conf, const char *field, int fd,
		   struct rpc_error *error)
{
	char text[ARGS_MAX][ARG_BYTES], *args[ARGS_MAX + 1], path[PATH_MAX];
	int r;

	slirp_path(vm, path, sizeof(path));
	make_args(conf, vm->name, text, args);
	r = helper_spawn(vm, path, args, &fd, 1);
	return r < 0 ? no_slirp(field, -r, error) : 0;
}

int net_open_user(const struct vm *vm, const struct netconf *conf, const char *field, int *ret_fd,
		  int *ret_peer_fd, struct rpc_error *error)
{
	char path[PATH_MAX];
	int pair[2], r;

	slirp_path(vm, path, sizeof(path));
	if (access(path, X_OK) < 0)
		return no_slirp(field, errno, error);
	for (size_t i = 0; i < conf->publish_count; i++) {
		r = try_port(&conf->publish[i], field, i, error);
		if (r < 0)
			return r;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return refuse(error, errno, "not-usable", field, "kind", "%s", strerror(errno));
	*ret_fd = pair[0];
	*ret_peer_fd = pair[1];
	return 0;
}
