/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-9p through its ring: messages of every type in chains of every shape, that change while they are
 * served. A file beside the shared directory must stay as it is.
 */
#include <config.h>

#include "devices/virtio/p9.h"
#include "tests/fuzz/p9input.h"
#include "tests/fuzz/vfuzz.h"

static void push_message(struct vfuzz *f, struct p9c *c)
{
	struct input *in = &f->in;

	p9_message(c, in);
	vf_push(f, 0, c->request, rarely(in) ? pick(in, 40) : c->len,
		rarely(in) ? input8(in) : 256u * (1u + pick(in, 32)));
}

/* What every client says first, so that the rest means something. */
static void attach(struct vfuzz *f, struct p9c *c)
{
	p9c_begin(c, 100, "ds", 8192u, "9P2000.L");
	put_le32(c->request, c->len);
	vf_push(f, 0, c->request, c->len, 256);
	p9c_begin(c, 104, "ddssd", 0u, 0xffffffffu, "", "", 0u);
	put_le32(c->request, c->len);
	vf_push(f, 0, c->request, c->len, 256);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_p9_config config = { .on_loop = true, .fds_max = 64, .tag = "fuzz" };
	char top[] = "/tmp/vmxd-fuzz-9p-XXXXXX";
	struct vfuzz *f = calloc(1, sizeof(*f));
	struct p9c *c = calloc(1, sizeof(*c));
	unsigned i;

	if (!f || !c || !mkdtemp(top))
		abort();
	config.dir_fd = p9_make_directory(top);
	config.proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	f->features = 1;
	f->queues = 1;
	f->device_id = 9;
	vf_open(f, data, size, &config.place);
	config.readonly = (input8(&f->in) & 15) == 15;
	vf_add(f, &virtio_p9_class, &config);
	attach(f, c);
	for (i = 0; i < 100 && f->in.left; i++) {
		unsigned what = pick(&f->in, 8);

		if (what < 5)
			push_message(f, c);
		else if (what == 5 && rarely(&f->in))
			attach(f, c);
		else
			vf_step(f);
	}
	vf_again(f);
	attach(f, c);
	vf_must_come_back(f, 0, 2);
	vf_close(f);
	close(config.proc_fd);
	p9_remove_directory(top);
	free(c);
	free(f);
	return 0;
}
