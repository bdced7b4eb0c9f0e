/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-balloon: pages into it and out of it, statistics, free pages; what it says of itself must not
 * exceed what the guest told. */
#include <config.h>

#include <stdlib.h>

#include "common/bytes.h"
#include "devices/virtio/balloon.h"
#include "tests/fuzz/vfuzz.h"

#define PAGES (RIG_MEMORY / 4096u)

static void pages(struct vfuzz *f)
{
	static uint8_t list[4 * 300];
	struct input *in = &f->in;
	unsigned n = 1 + pick(in, 255), i;
	uint32_t page = 0x200 + input8(in);

	for (i = 0; i < n; i++) {
		if (!(input8(in) & 3))
			page = rarely(in) ? (uint32_t)input_edge(in) : 0x180u + input8(in);
		put_le32(list + 4 * i, page % PAGES == page || rarely(in) ? page : page % PAGES);
		page += input8(in) & 1 ? 1u : ~0u;
	}
	vf_push(f, pick(in, 2), list, rarely(in) ? 4 * n - 1 : 4 * n, 0);
}

static void statistics(struct vfuzz *f)
{
	uint8_t list[10 * 20];
	struct input *in = &f->in;
	unsigned n = 1 + pick(in, 20), i;

	for (i = 0; i < n; i++) {
		put_le16(list + 10 * i, rarely(in) ? input16(in) : (uint16_t)pick(in, 12));
		put_le64(list + 10 * i + 2, input_edge(in));
	}
	vf_push(f, 2, list, rarely(in) ? 10 * n - 3 : 10 * n, 0);
}

static void ask(struct vfuzz *f, struct device *dev)
{
	struct virtio_balloon_info info;

	if (input8(&f->in) & 1)
		virtio_balloon_set(dev, rarely(&f->in) ? input_edge(&f->in) : 4096u * input8(&f->in));
	virtio_balloon_info(dev, &info);
	if (info.valid >> BALLOON_STATS || info.target % 4096 || info.actual % 4096)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_balloon_config config = { 0 };
	struct vfuzz *f = calloc(1, sizeof(*f));
	const uint8_t page[4] = { 0, 2 };
	struct device *dev;
	unsigned i;

	if (!f)
		abort();
	f->features = 1u << 1 | 1u << 2 | 1u << 5;
	f->queues = 4;
	f->device_id = 5;
	vf_open(f, data, size, &config.place);
	dev = vf_add(f, &virtio_balloon_class, &config);
	for (i = 0; i < 1000 && f->in.left; i++) {
		switch (pick(&f->in, 8)) {
		case 0:
		case 1:
			pages(f);
			break;
		case 2:
			statistics(f);
			break;
		case 3: /* free pages: in the queue that it is, or in another one */
			vf_push(f, 2 + pick(&f->in, 2), NULL, 0, rarely(&f->in) ? input16(&f->in) :
				4096u * (1u + pick(&f->in, 8)));
			break;
		case 4:
			ask(f, dev);
			break;
		default:
			vf_step(f);
			break;
		}
	}
	vf_again(f);
	vf_push(f, 0, page, sizeof(page), 0);
	vf_must_come_back(f, 0, 1);
	vf_close(f);
	free(f);
	return 0;
}
