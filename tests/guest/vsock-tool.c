/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vsock-tool.c - a static program for the guests of vsock tests.
 *
 *   vsock-tool cid          prints the guest's address
 *   vsock-tool echo PORT    gives back what is said to that port, to any number of clients
 *   vsock-tool call PORT    standard input to that port of the host, what comes back to standard output
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static bool write_all(int fd, const char *bytes, ssize_t n)
{
	while (n > 0) {
		ssize_t done = write(fd, bytes, (size_t)n);

		if (done < 0)
			return false;
		bytes += done;
		n -= done;
	}
	return true;
}

static int print_cid(void)
{
	unsigned cid;
	int fd = open("/dev/vsock", O_RDONLY);

	if (fd < 0 || ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) < 0)
		return fail("/dev/vsock");
	printf("%u\n", cid);
	return 0;
}

static int echo(struct sockaddr_vm *at)
{
	static char bytes[65536];
	int listener = socket(AF_VSOCK, SOCK_STREAM, 0), fd;
	ssize_t n;

	at->svm_cid = VMADDR_CID_ANY;
	if (listener < 0 || bind(listener, (struct sockaddr *)at, sizeof(*at)) < 0 ||
	    listen(listener, 64) < 0)
		return fail("listen");
	signal(SIGCHLD, SIG_IGN);
	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		if (fork() == 0) {
			while ((n = read(fd, bytes, sizeof(bytes))) > 0 && write_all(fd, bytes, n))
				;
			_exit(0);
		}
		close(fd);
	}
	return fail("accept");
}

/* Both directions at once: neither end has room for all. */
static int call(struct sockaddr_vm *to)
{
	static char bytes[65536];
	struct pollfd p[2] = { { .events = POLLIN }, { .fd = STDIN_FILENO, .events = POLLIN } };
	ssize_t n;

	to->svm_cid = VMADDR_CID_HOST;
	p[0].fd = socket(AF_VSOCK, SOCK_STREAM, 0);
	if (p[0].fd < 0 || connect(p[0].fd, (struct sockaddr *)to, sizeof(*to)) < 0)
		return fail("connect");
	while (poll(p, 2, -1) > 0) {
		if (p[1].revents) {
			n = read(STDIN_FILENO, bytes, sizeof(bytes));
			if (n <= 0) {
				p[1].fd = -1;
				shutdown(p[0].fd, SHUT_WR);
			} else if (!write_all(p[0].fd, bytes, n)) {
				return fail("write");
			}
		}
		if (p[0].revents) {
			n = read(p[0].fd, bytes, sizeof(bytes));
			if (n <= 0)
				return n < 0 ? fail("read") : 0;
			if (!write_all(STDOUT_FILENO, bytes, n))
				return fail("write");
		}
	}
	return fail("poll");
}

int main(int argc, char **argv)
{
	struct sockaddr_vm address = { .svm_family = AF_VSOCK };

	if (argc == 2 && strcmp(argv[1], "cid") == 0)
		return print_cid();
	if (argc == 3) {
		address.svm_port = (unsigned)strtoul(argv[2], NULL, 10);
		if (strcmp(argv[1], "echo") == 0)
			return echo(&address);
		if (strcmp(argv[1], "call") == 0)
			return call(&address);
	}
	fputs("usage: vsock-tool cid | echo PORT | call PORT\n", stderr);
	return 2;
}
