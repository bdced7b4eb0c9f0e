/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The 9P server: messages of every type on a small directory, mostly whole ones. A file beside the
 * directory must stay as it is, and every descriptor must be given back.
 */
#include <config.h>

#include <dirent.h>

#include "tests/fuzz/p9input.h"

static void message(struct p9c *c, struct input *in)
{
	p9_message(c, in);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char top[] = "/tmp/vmxd-fuzz-p9-XXXXXX";
	struct input in = { data, size };
	struct p9_options options = { .fds_max = 64 };
	struct p9c *c = calloc(1, sizeof(*c));
	unsigned fds = count_fds();

	if (!c || !mkdtemp(top))
		abort();
	options.dir_fd = p9_make_directory(top);
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
	p9_remove_directory(top);
	if (count_fds() != fds)
		abort();
	free(c);
	return 0;
}
