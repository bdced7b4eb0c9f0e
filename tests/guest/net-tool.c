/* SPDX-License-Identifier: Apache-2.0 */
/*
 * net-tool.c - a static program for both ends of network tests and benchmarks.
 *
 *   net-tool send HOST PORT SECONDS    sends for so long
 *   net-tool receive HOST PORT SECONDS the other way
 *   net-tool echo HOST PORT COUNT      one byte there and back, 100 * COUNT times
 *   net-tool get HOST PORT             writes what it is sent to standard output
 *   net-tool udp PORT                  prints the first datagram that comes
 *
 * The first three print "step VERB" when they begin, and at their end "result VERB OPERATIONS BYTES SECONDS",
 * and echo the median of a round trip in microseconds. Their peer serves one connection: net-tool serve
 * PORT, which reads what is to be done from the first byte.
 */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CHUNK (256u * 1024)

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int dial(const char *host, const char *port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
	int one = 1, sock = socket(AF_INET, SOCK_STREAM, 0);

	if (sock < 0 || inet_pton(AF_INET, host, &to.sin_addr) != 1 ||
	    connect(sock, (struct sockaddr *)&to, sizeof(to)) < 0)
		return -1;
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return sock;
}

/* IPv6 and IPv4, or IPv4 alone where that is all there is. */
static int wait_at(const char *port, int type)
{
	struct sockaddr_in6 at6 = { .sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port)) };
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = at6.sin6_port };
	int one = 1, sock = socket(AF_INET6, type, 0);
	bool six = sock >= 0;

	if (!six)
		sock = socket(AF_INET, type, 0);
	setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (sock < 0 || bind(sock, six ? (struct sockaddr *)&at6 : (struct sockaddr *)&at,
			     six ? sizeof(at6) : sizeof(at)) < 0)
		return -1;
	return sock;
}

static double send_for(int sock, char *buf, double until)
{
	double bytes = 0;
	ssize_t n;

	while (now() < until && (n = send(sock, buf, CHUNK, MSG_NOSIGNAL)) > 0)
		bytes += (double)n;
	shutdown(sock, SHUT_WR);
	return bytes;
}

static double receive_all(int sock, char *buf)
{
	double bytes = 0;
	ssize_t n;

	while ((n = recv(sock, buf, CHUNK, 0)) > 0)
		bytes += (double)n;
	return bytes;
}

/* One connection; what: 's' the peer sends, 'r' it receives for buf[1] seconds, 'e' echo. */
static int serve(const char *port)
{
	char *buf = calloc(1, CHUNK), what[2];
	int listener = wait_at(port, SOCK_STREAM), one = 1, sock;
	ssize_t n;

	if (listener < 0 || !buf || listen(listener, 1) < 0)
		return fail("listen");
	sock = accept(listener, NULL, NULL);
	if (sock < 0 || recv(sock, what, 2, MSG_WAITALL) != 2)
		return fail("accept");
	setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (what[0] == 's')
		printf("net-tool served %.0f\n", receive_all(sock, buf));
	else if (what[0] == 'r')
		printf("net-tool served %.0f\n", send_for(sock, buf, now() + what[1]));
	else
		while ((n = recv(sock, buf, CHUNK, 0)) > 0 && send(sock, buf, (size_t)n, MSG_NOSIGNAL) == n)
			;
	return 0;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static int echo(int sock, unsigned count)
{
	double *took = calloc(count + 1, sizeof(*took)), begin = now();
	char byte = 0;

	for (unsigned i = 0; took && i < count; i++) {
		double start = now();

		if (send(sock, &byte, 1, MSG_NOSIGNAL) != 1 || recv(sock, &byte, 1, 0) != 1)
			return fail("echo");
		took[i] = now() - start;
	}
	qsort(took, count, sizeof(*took), by_value);
	printf("result echo %u %u %.3f %.1f\n", count, count, now() - begin, took[count / 2] * 1e6);
	return 0;
}

static int run(const char *verb, const char *host, const char *port, int number)
{
	char *buf = calloc(1, CHUNK), what[2] = { verb[0], (char)number };
	int sock = dial(host, port);
	double bytes, start = now();

	if (sock < 0 || !buf || send(sock, what, 2, MSG_NOSIGNAL) != 2)
		return fail("connect");
	printf("step %s\n", verb);
	fflush(stdout);
	if (verb[0] == 'e')
		return echo(sock, (unsigned)number * 100);
	bytes = verb[0] == 's' ? send_for(sock, buf, start + number) : receive_all(sock, buf);
	if (verb[0] == 's')
		(void)!recv(sock, buf, 1, 0); /* until the other side has it all */
	printf("result %s %.0f %.0f %.3f\n", verb, bytes / CHUNK, bytes, now() - start);
	return 0;
}

static int get(const char *host, const char *port)
{
	char *buf = calloc(1, CHUNK);
	int sock = dial(host, port);
	ssize_t n;

	if (sock < 0 || !buf)
		return fail("connect");
	while ((n = recv(sock, buf, CHUNK, 0)) > 0)
		if (fwrite(buf, 1, (size_t)n, stdout) != (size_t)n)
			return fail("write");
	return n < 0 ? fail("recv") : 0;
}

static int udp(const char *port)
{
	int sock = wait_at(port, SOCK_DGRAM);
	char text[512];
	ssize_t n = sock < 0 ? -1 : recv(sock, text, sizeof(text) - 1, 0);

	if (n < 0)
		return fail("udp");
	text[n] = '\0';
	printf("%s\n", text);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "serve") == 0)
		return serve(argv[2]);
	if (argc == 3 && strcmp(argv[1], "udp") == 0)
		return udp(argv[2]);
	if (argc == 4 && strcmp(argv[1], "get") == 0)
		return get(argv[2], argv[3]);
	if (argc == 5)
		return run(argv[1], argv[2], argv[3], atoi(argv[4]));
	fputs("usage: net-tool send|receive|echo HOST PORT N | get HOST PORT | serve PORT | udp PORT\n", stderr);
	return 2;
}
