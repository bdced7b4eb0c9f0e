/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-rng: buffers of every shape. The smallest device: most of this is its transport and its ring. */
#include <config.h>

#include <stdlib.h>

#include "devices/virtio/rng.h"
#include "tests/fuzz/vfuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct virtio_rng_config config = { 0 };
	struct vfuzz *f = calloc(1, sizeof(*f));
	static const uint8_t out[64];
	unsigned i;

	if (!f)
		abort();
	f->queues = 1;
	f->device_id = 4;
	vf_open(f, data, size, &config.place);
	vf_add(f, &virtio_rng_class, &config);
	for (i = 0; i < 1000 && f->in.left; i++) {
		if (input8(&f->in) & 1)
			vf_push(f, 0, out, rarely(&f->in) ? pick(&f->in, 64) : 0,
				rarely(&f->in) ? input16(&f->in) : 2u * input8(&f->in));
		else
			vf_step(f);
	}
	vf_again(f);
	vf_push(f, 0, NULL, 0, 16);
	vf_must_come_back(f, 0, 1);
	vf_close(f);
	free(f);
	return 0;
}
