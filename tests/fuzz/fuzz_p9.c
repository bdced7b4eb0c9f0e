/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 9P server: messages of every type on a small directory, mostly whole ones. A file beside the
 * directory must stay as it is, and every descriptor must be given back.
 */
#include <config.h>

#include <dirent.h>
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
} messages[] = {
	{ 8, "F" }, { 12, "Fd" }, { 14, "Fnddd" }, { 16, "Fnsd" }, { 18, "Fndddd" }, { 20, "FFn" },
	{ 22, "F" }, { 24, "Fq" }, { 26, "Fddddqqqqq" }, { 30, "FFx" }, { 32, "Fxqd" }, { 40, "Fqd" },
	{ 50, "Fd" }, { 52, "Fbdqqds" }, { 54, "Fbqqds" }, { 70, "FFn" }, { 72, "Fndd" },
	{ 74, "FnFn" }, { 76, "Fnd" }, { 104, "FAssd" }, { 108, "w" }, { 110, "FFW" },
	{ 110, "FFW" }, { 110, "FFW" }, { 116, "Fqd" }, { 118, "FqD" }, { 120, "F" }, { 122, "F" },
};

static void put_string(struct p9c *c, struct input *in, const char *s)
{
	p9c_put(c, 2, rarely(in) ? input16(in) : strlen(s));
	p9c_put_bytes(c, s, strlen(s));
}

static void put_one(struct p9c *c, struct input *in, char letter)
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

static void message(struct p9c *c, struct input *in)
{
	unsigned which = pick(in, sizeof(messages) / sizeof(messages[0]));
	uint32_t size;

	if (rarely(in) && rarely(in))
		p9c_begin(c, 100, "ds", rarely(in) ? input32(in) : 65536u, "9P2000.L");
	else {
		p9c_begin(c, rarely(in) ? input8(in) : messages[which].type, "");
		for (const char *f = messages[which].format; *f; f++)
			put_one(c, in, *f);
	}
	size = rarely(in) ? (uint32_t)input_edge(in) : c->len;
	put_le32(c->request, size);
	c->io = (struct p9_io){ &p9c_ops, rarely(in) ? input8(in) : c->len,
				rarely(in) ? input8(in) : P9C_BYTES };
	if (c->io.request_bytes > c->len)
		c->io.request_bytes = c->len;
	memset(c->reply, 0xa5, 256);
	if (p9_serve(c->p9, &c->io) > (int)c->io.reply_bytes)
		abort();
}

static unsigned count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

static int remove_one(const char *name, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(name);
}

static void make(const char *top, struct p9_options *options)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/out", top);
	fd = open(path, O_WRONLY | O_CREAT, 0640);
	if (fd < 0 || write(fd, "outside", 7) != 7)
		abort();
	close(fd);
	snprintf(path, sizeof(path), "%s/share", top);
	mkdir(path, 0700);
	options->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (options->dir_fd < 0 || mkdirat(options->dir_fd, "d", 0700) < 0 ||
	    symlinkat("../out", options->dir_fd, "link") < 0 ||
	    mkfifoat(options->dir_fd, "fifo", 0600) < 0)
		abort();
	fd = openat(options->dir_fd, "a", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "inside", 6) != 6)
		abort();
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char top[] = "/tmp/vmxd-fuzz-p9-XXXXXX", path[64];
	struct input in = { data, size };
	struct p9_options options = { .fds_max = 64 };
	struct p9c *c = calloc(1, sizeof(*c));
	unsigned fds = count_fds();
	struct stat st;

	if (!c || !mkdtemp(top))
		abort();
	make(top, &options);
	options.proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	options.readonly = (input8(&in) & 15) == 15;
	if (p9_create(&options, &c->p9) < 0)
		abort();
	(void)p9c_call(c, 100, "ds", 65536u, "9P2000.L");
	(void)p9c_call(c, 104, "ddssd", 0u, 0xffffffffu, "", "", 0u);
	for (unsigned i = 0; i < 300 && in.left; i++)
		message(c, &in);
	p9_destroy(c->p9);
	close(options.proc_fd);
	snprintf(path, sizeof(path), "%s/out", top);
	if (stat(path, &st) < 0 || st.st_size != 7 || (st.st_mode & 07777) != (0640 & ~022) ||
	    st.st_nlink != 1)
		abort();
	nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	if (count_fds() != fds)
		abort();
	free(c);
	return 0;
}
