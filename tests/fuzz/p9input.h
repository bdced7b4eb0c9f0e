/* SPDX-License-Identifier: Apache-2.0 */
/* p9input.h - 9P messages of every type, mostly whole ones, and a small directory to speak of: for the
 * fuzzers of the server and of the device. */
#ifndef TESTS_FUZZ_P9INPUT_H
#define TESTS_FUZZ_P9INPUT_H

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/device/p9client.h"
#include "tests/fuzz/input.h"

static const struct {
	uint8_t type;
	const char *format; /* as in devices/backend/p9_server.c; D: data */
} p9_messages[] = {
	{ 8, "F" }, { 12, "Fd" }, { 14, "Fnddd" }, { 16, "Fnsd" }, { 18, "Fndddd" }, { 20, "FFn" },
	{ 22, "F" }, { 24, "Fq" }, { 26, "Fddddqqqqq" }, { 30, "FFx" }, { 32, "Fxqd" }, { 40, "Fqd" },
	{ 50, "Fd" }, { 52, "Fbdqqds" }, { 54, "Fbqqds" }, { 70, "FFn" }, { 72, "Fndd" },
	{ 74, "FnFn" }, { 76, "Fnd" }, { 104, "FAssd" }, { 108, "w" }, { 110, "FFW" },
	{ 110, "FFW" }, { 110, "FFW" }, { 116, "Fqd" }, { 118, "FqD" }, { 120, "F" }, { 122, "F" },
};

static inline void put_string(struct p9c *c, struct input *in, const char *s)
{
	p9c_put(c, 2, rarely(in) ? input16(in) : strlen(s));
	p9c_put_bytes(c, s, strlen(s));
}

static inline void put_one(struct p9c *c, struct input *in, char letter)
{
	static const char *const names[] = { "a", "b", "d", "link", "..", "fifo", "d", "../out", "." };
	static const char *const attributes[] = { "user.a", "", "security.b", "user." };
	static const char *const targets[] = { "a", "/", "..", "", "../out" };
	unsigned n;

	switch (letter) {
	case 'F': p9c_put(c, 4, rarely(in) ? input_edge(in) : pick(in, 6)); break;
	case 'A': p9c_put(c, 4, rarely(in) ? input_edge(in) : 0xffffffff); break;
	case 'b': p9c_put(c, 1, pick(in, 4)); break;
	case 'w': p9c_put(c, 2, input16(in)); break;
	case 'd': p9c_put(c, 4, rarely(in) ? input_edge(in) : input8(in)); break;
	case 'q': p9c_put(c, 8, rarely(in) ? input_edge(in) : input8(in)); break;
	case 'n': put_string(c, in, names[pick(in, 9)]); break;
	case 'x': put_string(c, in, attributes[pick(in, 4)]); break;
	case 's': put_string(c, in, targets[pick(in, 5)]); break;
	case 'W':
		n = pick(in, 4);
		p9c_put(c, 2, rarely(in) ? input16(in) : n);
		while (n--)
			put_string(c, in, names[pick(in, 9)]);
		break;
	default:
		n = input8(in);
		p9c_put(c, 4, rarely(in) ? input_edge(in) : n);
		while (n--)
			p9c_put(c, 1, n);
		break;
	}
}

/* The next message, in c->request. */
static inline void p9_message(struct p9c *c, struct input *in)
{
	unsigned which = pick(in, sizeof(p9_messages) / sizeof(p9_messages[0]));
	uint32_t size;

	if (rarely(in) && rarely(in))
		p9c_begin(c, 100, "ds", rarely(in) ? input32(in) : 65536u, "9P2000.L");
	else {
		p9c_begin(c, rarely(in) ? input8(in) : p9_messages[which].type, "");
		for (const char *f = p9_messages[which].format; *f; f++)
			put_one(c, in, *f);
	}
	size = rarely(in) ? (uint32_t)input_edge(in) : c->len;
	put_le32(c->request, size);
}

static inline int p9_remove_one(const char *name, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(name);
}

/* A directory to share, in the new one at top, and beside it a file that must stay. The descriptor. */
static inline int p9_make_directory(const char *top)
{
	char path[64];
	int fd, dir;

	snprintf(path, sizeof(path), "%s/out", top);
	fd = open(path, O_WRONLY | O_CREAT, 0640);
	if (fd < 0 || write(fd, "outside", 7) != 7)
		abort();
	close(fd);
	snprintf(path, sizeof(path), "%s/share", top);
	mkdir(path, 0700);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || mkdirat(dir, "d", 0700) < 0 ||
	    symlinkat("../out", dir, "link") < 0 ||
	    mkfifoat(dir, "fifo", 0600) < 0)
		abort();
	fd = openat(dir, "a", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "inside", 6) != 6)
		abort();
	close(fd);
	return dir;
}

/* Aborts unless the file beside it stayed; removes all. */
static inline void p9_remove_directory(const char *top)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "%s/out", top);
	if (stat(path, &st) < 0 || st.st_size != 7 || (st.st_mode & 07777) != (0640 & ~022) ||
	    st.st_nlink != 1)
		abort();
	nftw(top, p9_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
