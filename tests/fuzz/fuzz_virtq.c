/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ring parser alone, in both formats: chains built mostly as they should be, each rule broken
 * behind a knob, and memory that changes between two calls and, by wrapping the functions that read
 * guest memory (-Wl,--wrap), right after each single read. What get returns must keep what queue.h
 * promises.
 */
#include <config.h>

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "devices/virtio/queue.h"
#include "machine/memory.h"
#include "tests/fuzz/spoil.h"

#define MEMORY (1u << 20)
#define DESC 0x1000u
#define AVAIL 0x6000u
#define USED 0x8000u
#define TABLE 0xc000u  /* for indirect descriptors */
#define BUFFERS 0x20000u
#define HELD_MAX 64u

struct state {
	struct memory *memory;
	struct virtq q;
	struct input in;
	bool hostile;       /* memory changes behind each read */
	uint16_t avail;     /* split: chains pushed; packed: the next slot */
	bool wrap;
	struct virtq_chain *held[HELD_MAX];
	unsigned helds;
};

#define MUST(condition) do { if (!(condition)) abort(); } while (0)

static uint64_t any_gpa(struct input *in)
{
	return rarely(in) ? input_edge(in) : BUFFERS + input16(in);
}

static uint32_t any_len(struct input *in)
{
	return rarely(in) ? (uint32_t)input_edge(in) : 1u + input8(in);
}

static void put_desc(struct state *s, uint64_t table, unsigned i, uint16_t flags, uint16_t next,
		     uint64_t gpa, uint32_t len)
{
	uint8_t raw[16];

	put_le64(raw, gpa);
	put_le32(raw + 8, len);
	put_le16(raw + 12, flags);
	put_le16(raw + 14, next);
	(void)mem_write(s->memory, table + 16ull * i, raw, sizeof(raw));
}

/* A chain of n descriptors from `first` in a table of `size`: some to read, then some to write. */
static void put_chain(struct state *s, uint64_t table, unsigned size, unsigned first, unsigned n)
{
	struct input *in = &s->in;
	unsigned writable = n ? pick(in, n + 1) : 0, i;

	for (i = 0; i < n; i++) {
		uint16_t at = (uint16_t)((first + i) % size);
		uint16_t next = (uint16_t)((first + i + 1) % size);
		uint16_t flags = (uint16_t)((i + 1 < n ? 1 : 0) | (i >= n - writable ? 2 : 0));

		if (rarely(in))
			flags ^= (uint16_t)(1u << pick(in, 4));
		if (rarely(in))
			next = input16(in);
		put_desc(s, table, at, flags, next, any_gpa(in), any_len(in));
	}
}

static void put_slot(struct state *s, uint64_t gpa, uint32_t len, uint16_t id, uint16_t flags)
{
	flags ^= s->wrap ? 0x80 : 0x8000;
	if (rarely(&s->in))
		flags ^= (uint16_t)(1u << pick(&s->in, 16));
	put_desc(s, DESC, s->avail, id, flags, gpa, len); /* the last two fields change places */
	if (++s->avail >= s->q.size) {
		s->avail = 0;
		s->wrap = !s->wrap;
	}
}

/* Entries of an indirect table of the packed format: only the direction counts. */
static void put_table(struct state *s, unsigned entries)
{
	unsigned writable = pick(&s->in, entries + 1), i;

	for (i = 0; i < entries; i++) {
		uint16_t flags = i >= entries - writable ? 2 : 0;

		if (rarely(&s->in))
			flags ^= (uint16_t)(1u << pick(&s->in, 4));
		put_desc(s, TABLE, i, 0, flags, any_gpa(&s->in), any_len(&s->in));
	}
}

static void push_packed(struct state *s)
{
	struct input *in = &s->in;
	uint16_t id = rarely(in) ? input16(in) : (uint16_t)pick(in, s->q.size);
	unsigned n = 1 + pick(in, rarely(in) ? s->q.size + 3u : 6), writable = pick(in, n + 1), i;

	if (input8(in) & 1u) {
		unsigned entries = 1 + pick(in, 40);

		put_table(s, entries);
		put_slot(s, rarely(in) ? any_gpa(in) : TABLE,
			 rarely(in) ? (uint32_t)input_edge(in) : 16 * entries, id,
			 rarely(in) ? 5 : 4);
		return;
	}
	for (i = 0; i < n; i++)
		put_slot(s, any_gpa(in), any_len(in), id,
			 (uint16_t)((i + 1 < n ? 1 : 0) | (i >= n - writable ? 2 : 0)));
}

static void push_split(struct state *s)
{
	struct input *in = &s->in;
	uint16_t head = (uint16_t)pick(in, s->q.size);
	unsigned n = 1 + pick(in, rarely(in) ? s->q.size : 6);

	if (input8(in) & 1u) { /* an indirect table */
		unsigned entries = 1 + pick(in, 40);
		uint32_t bytes = 16 * entries;

		put_chain(s, TABLE, entries, 0, n < entries ? n : entries);
		if (rarely(in))
			bytes = (uint32_t)input_edge(in);
		put_desc(s, DESC, head, rarely(in) ? 5 : 4, 0, rarely(in) ? any_gpa(in) : TABLE,
			 bytes);
	} else {
		put_chain(s, DESC, s->q.size, head, n);
	}
	if (rarely(in))
		head = input16(in);
	(void)mem_store16(s->memory, AVAIL + 4 + 2ull * (s->avail % s->q.size), head);
	s->avail = (uint16_t)(s->avail + 1 + (rarely(in) ? input8(in) : 0));
	(void)mem_store16(s->memory, AVAIL + 2, s->avail);
}

static void push(struct state *s)
{
	if (s->q.format.packed)
		push_packed(s);
	else
		push_split(s);
}

static void check_chain(const struct state *s, const struct virtq_chain *c)
{
	uint64_t out = 0, in = 0;
	unsigned i;

	MUST(c->head < s->q.size);
	MUST(c->slots && c->slots <= s->q.size);
	MUST(c->readable + c->writable <= (int)VIRTQ_SEGMENTS_MAX);
	for (i = 0; i < (unsigned)c->readable + c->writable; i++) {
		MUST(c->segment[i].len);
		MUST(mem_valid(s->memory, c->segment[i].gpa, c->segment[i].len));
		*(i < c->readable ? &out : &in) += c->segment[i].len;
	}
	MUST(out == c->out_bytes && in == c->in_bytes && out + in <= UINT32_MAX);
	for (i = 0; i < s->helds; i++)
		MUST(s->held[i]->head != c->head);
}

/* Copies and vectors of any part agree with the byte counts. */
static void use_chain(struct state *s, const struct virtq_chain *c)
{
	struct iovec iov[VIRTQ_SEGMENTS_MAX];
	uint8_t buffer[64];
	uint64_t offset = rarely(&s->in) ? input_edge(&s->in) : input8(&s->in), total = 0;
	size_t len = pick(&s->in, sizeof(buffer) + 1);
	bool fits_out = offset <= c->out_bytes && len <= c->out_bytes - offset;
	bool fits_in = offset <= c->in_bytes && len <= c->in_bytes - offset;
	int n, i;

	MUST((virtq_copy_out(&s->q, c, offset, buffer, len) == 0) == fits_out);
	memset(buffer, 0x5a, sizeof(buffer));
	MUST((virtq_copy_in(&s->q, c, offset, buffer, len) == 0) == fits_in);
	n = virtq_iov(&s->q, c, true, offset, len, iov, VIRTQ_SEGMENTS_MAX);
	MUST((n >= 0) == fits_in);
	for (i = 0; i < n; i++)
		total += iov[i].iov_len;
	MUST(n < 0 || total == len);
	virtq_iov_written(&s->q, c, offset, len);
}

static void take(struct state *s)
{
	struct virtq_chain *c;
	int r;

	if (s->helds == HELD_MAX)
		return;
	c = malloc(sizeof(*c));
	MUST(c);
	memset(c, 0xcc, sizeof(*c)); /* get must fill what it promises */
	r = virtq_get(&s->q, c);
	MUST(r == 1 || s->hostile || !virtq_has(&s->q) || r < 0);
	if (r != 1) {
		MUST(r == 0 || s->q.dead);
		free(c);
		return;
	}
	check_chain(s, c);
	use_chain(s, c);
	s->held[s->helds++] = c;
}

static void give(struct state *s)
{
	unsigned i = pick(&s->in, s->helds);
	struct virtq_chain *c;

	if (!s->helds)
		return;
	c = s->held[i];
	if (rarely(&s->in))
		virtq_drop(&s->q, c);
	else
		virtq_release(&s->q, c, c->in_bytes);
	s->held[i] = s->held[--s->helds];
	free(c);
}

static void step(struct state *s)
{
	switch (pick(&s->in, 8)) {
	case 0:
	case 1:
		push(s);
		break;
	case 2:
	case 3:
		take(s);
		break;
	case 4:
		give(s);
		break;
	case 5:
		(void)virtq_end(&s->q);
		break;
	case 6:
		virtq_want_kicks(&s->q, input8(&s->in) & 1u);
		break;
	default: /* the guest scribbles */
		(void)mem_store16(s->memory, DESC + (input16(&s->in) & 0x7ffeu), input16(&s->in));
		break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state s = { .in = { data, size }, .wrap = true };
	struct spoiler spoiler = { .in = &s.in, .reach = 16 };
	struct virtq_format format;
	unsigned i;

	if (memory_create(MEMORY, &s.memory) < 0)
		return 0;
	s.q.memory = s.memory;
	s.q.size_max = 256;
	virtq_reset(&s.q);
	s.q.size = (uint16_t)(1u << pick(&s.in, 9));
	s.q.desc = rarely(&s.in) ? input_edge(&s.in) : DESC;
	s.q.driver = rarely(&s.in) ? input_edge(&s.in) : AVAIL;
	s.q.device = rarely(&s.in) ? input_edge(&s.in) : USED;
	if (rarely(&s.in))
		s.q.size = input16(&s.in);
	format = (struct virtq_format){ .packed = input8(&s.in) & 1u,
					.event_idx = input8(&s.in) & 1u,
					.indirect = !rarely(&s.in) };
	s.hostile = input8(&s.in) & 1u;
	spoiler.memory = s.memory;
	spoil_with(s.hostile ? &spoiler : NULL);
	if (virtq_enable(&s.q, &format) == 0 &&
	    s.q.desc == DESC && s.q.driver == AVAIL && s.q.device == USED)
		for (i = 0; i < 2000 && s.in.left; i++)
			step(&s);
	while (s.helds) {
		virtq_drop(&s.q, s.held[--s.helds]);
		free(s.held[s.helds]);
	}
	virtq_reset(&s.q);
	spoil_with(NULL);
	memory_destroy(s.memory);
	return 0;
}
