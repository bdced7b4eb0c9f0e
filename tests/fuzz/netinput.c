/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include <string.h>

#include "common/bytes.h"
#include "tests/fuzz/netinput.h"

void ni_header(struct input *in, uint8_t *h, uint32_t len)
{
	static const uint8_t gso[] = { 0, 0, 1, 4, 5, 0x81, 3 };

	h[0] = rarely(in) ? input8(in) : (uint8_t)pick(in, 4);
	h[1] = rarely(in) ? input8(in) : gso[pick(in, sizeof(gso))];
	put_le16(h + 2, rarely(in) ? input16(in) : 54);
	put_le16(h + 4, rarely(in) ? input16(in) : (uint16_t)(100 + input8(in)));
	put_le16(h + 6, rarely(in) ? input16(in) : 34);
	put_le16(h + 8, rarely(in) ? (uint16_t)len : 16);
	put_le16(h + 10, rarely(in) ? input16(in) : 0);
}

uint32_t ni_frame(struct input *in, uint8_t *at)
{
	uint32_t len = rarely(in) ? pick(in, 60) : 60u + 8u * input8(in);
	bool six = input8(in) & 1;

	memset(at, 0, 60);
	memset(at, input8(in) & 1 ? 0xff : 2, 6);
	at[12] = six ? 0x86 : 8;
	at[13] = six ? 0xdd : 0;
	at[14] = six ? 0x60 : rarely(in) ? input8(in) : 0x45;
	put_be16(at + (six ? 18 : 16), rarely(in) ? input16(in) : (uint16_t)(len - (six ? 54 : 14)));
	at[six ? 20 : 23] = rarely(in) ? input8(in) : input8(in) & 1 ? 6 : 17;
	if (!six)
		at[46] = rarely(in) ? input8(in) : 0x50;
	return len;
}

void ni_send(struct vfuzz *f, unsigned queue)
{
	static uint8_t bytes[NI_PACKET_MAX];
	struct input *in = &f->in;
	uint32_t len = ni_frame(in, bytes + NI_HEADER);

	ni_header(in, bytes, len);
	vf_push(f, queue, bytes, rarely(in) ? pick(in, NI_HEADER) + 1u : NI_HEADER + len, 0);
}

void ni_buffers(struct vfuzz *f, unsigned queue)
{
	struct input *in = &f->in;
	unsigned n = 1 + pick(in, 4);

	while (n--)
		vf_push(f, queue, NULL, 0, rarely(in) ? input8(in) :
			input8(in) & 1 ? 1526 : 128u + 8u * input8(in));
}

void ni_command(struct vfuzz *f, unsigned queue)
{
	static const uint8_t known[][2] = { { 0, 0 }, { 0, 1 }, { 0, 2 }, { 0, 3 }, { 0, 4 }, { 0, 5 },
					    { 1, 0 }, { 1, 1 }, { 2, 0 }, { 3, 0 }, { 4, 0 }, { 5, 0 } };
	struct input *in = &f->in;
	unsigned which = pick(in, 12), n = input8(in) & 1 ? 1 : pick(in, 100), i;
	uint8_t bytes[2 + 200];

	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	bytes[0] = rarely(in) ? input8(in) : known[which][0];
	bytes[1] = rarely(in) ? input8(in) : known[which][1];
	if (bytes[0] == 1 && !bytes[1]) { /* two tables of addresses */
		put_le32(bytes + 2, rarely(in) ? (uint32_t)input_edge(in) : pick(in, 3));
		n = 4 + 12 + 4 + 6;
	} else {
		put_le64(bytes + 2, rarely(in) ? input64(in) : input8(in));
	}
	vf_push(f, queue, bytes, 2 + n, rarely(in) ? pick(in, 4) : 1);
}
