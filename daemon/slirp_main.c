/* SPDX-License-Identifier: Apache-2.0 */
/* slirp_main.c - vmxd-slirp's command line; vmxd writes it. See slirp.h. */
#include <config.h>

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/address.h"
#include "daemon/slirp.h"

/* ADDRESS,HOSTPORT:GUESTPORT/PROTOCOL */
static bool parse_port(const char *text, struct slirp_port *port)
{
	char address[46], protocol[4];
	unsigned host, guest;
	int end = 0;

	if (sscanf(text, "%45[0-9a-f:.],%u:%u/%3[a-z]%n", address, &host, &guest, protocol, &end) != 4 ||
	    text[end] || host - 1 >= 65535 || guest - 1 >= 65535)
		return false;
	port->at_len = address_parse(address, (uint16_t)host, &port->at);
	if (!port->at_len)
		return false;
	port->guest = (uint16_t)guest;
	port->udp = strcmp(protocol, "udp") == 0;
	return port->udp || strcmp(protocol, "tcp") == 0;
}

static const struct option longs[] = {
	{ "mtu", required_argument, NULL, 'm' },       { "host-access", no_argument, NULL, 'a' },
	{ "no-ipv6", no_argument, NULL, '4' },         { "publish", required_argument, NULL, 'p' },
	{ "version", no_argument, NULL, 'V' },         { NULL, 0, NULL, 0 },
};

static int usage(void)
{
	fputs("vmxd-slirp: user-mode networking of one VM; started by vmxd, see vmxd(8)\n", stderr);
	return 2;
}

int main(int argc, char **argv)
{
	struct slirp_options options = { .mtu = 1500, .ipv6 = true };
	int c, type = 0;
	socklen_t len = sizeof(type);

	while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'm':
			options.mtu = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'a':
			options.host_access = true;
			break;
		case '4':
			options.ipv6 = false;
			break;
		case 'p':
			if (options.publish_count == SLIRP_PUBLISH_MAX ||
			    !parse_port(optarg, &options.publish[options.publish_count++]))
				return usage();
			break;
		case 'V':
			puts("vmxd-slirp " PACKAGE_VERSION);
			return 0;
		default:
			return usage();
		}
	}
	if (options.mtu < 68 || options.mtu > 65520 ||
	    getsockopt(SLIRP_FD, SOL_SOCKET, SO_TYPE, &type, &len) < 0 || type != SOCK_SEQPACKET)
		return usage();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	return slirp_run(&options);
}
