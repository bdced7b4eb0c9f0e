/* SPDX-License-Identifier: Apache-2.0 */
/* smp-code.c - workers of smp-stress: code that changes between calls, and locked accesses over boundaries. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "smp-stress.h"

/* --- swaps: a compiler at run time, which others run the code of ------------------------------- */

#define SLOTS 16u
#define SLOT_PAGES 2u /* a function may lie in both */
#define CALLERS 3u
#define NOPS_MAX 40u
struct slot {
	_Atomic bool open;
	_Atomic unsigned callers;
	_Atomic uint32_t version;
	_Atomic uint32_t at; /* offset */
	unsigned half; /* of the slot's pages in the file: the writer's */
};
struct swap {
	struct slot slots[SLOTS];
	uint8_t *code;  /* executable: slot i at i * SLOT_PAGES, whichever pages of the file that shows */
	uint8_t *alias; /* the file, writable, two of each slot */
	int fd;
	_Atomic bool stop;
	_Atomic unsigned threads;
};

/* What was there when the slot was opened, exactly: nobody changes it while it is called. */
static void *swap_caller(void *arg)
{
	struct swap *s = arg;
	unsigned me = ++s->threads;

	on_cpu(me);
	for (unsigned i = me; !s->stop; i = (i * 5 + me * 2 + 1) % SLOTS) {
		struct slot *slot = &s->slots[i];

		slot->callers++;
		if (slot->open) {
			uint32_t want = slot->version;

			serialize();
			same("the code in a slot", call(s->code + i * SLOT_PAGES * PAGE + slot->at), want);
		}
		slot->callers--;
		if (i % 8 == 0)
			sched_yield();
	}
	return NULL;
}

/* NOPs, MOV $version, %eax, RET. */
static void write_function(uint8_t *at, unsigned nops, uint32_t version)
{
	memset(at, 0x90, nops);
	at[nops] = 0xb8;
	memcpy(at + nops + 1, &version, sizeof(version));
	at[nops + 5] = 0xc3;
}

static void swap_slot(struct swap *s, unsigned i, uint32_t version)
{
	struct slot *slot = &s->slots[i];
	unsigned nops = version % NOPS_MAX;
	size_t bytes = SLOT_PAGES * PAGE, file = (i * 2 + (slot->half ^= 1)) * bytes;
	uint32_t at = version / 32 % 7 * 1000; /* the same again with other pages */

	slot->open = false;
	while (slot->callers)
		sched_yield();
	if (version % 4 == 0) /* over the end of a page */
		at = PAGE - nops - version / 4 % 7;
	write_function(s->alias + file + at, nops, version);
	map(s->code + i * bytes, bytes, PROT_READ | PROT_EXEC, s->fd, file);
	if (version % 3 == 0) /* and once more, where it can be seen by now */
		write_function(s->alias + file + at, nops, ++version);
	slot->at = at;
	slot->version = version;
	slot->open = true;
}

void swaps(unsigned me)
{
	struct swap s = { .fd = memory_file(SLOTS * 2 * SLOT_PAGES * PAGE) };
	pthread_t callers[CALLERS];
	uint32_t version = 2;

	s.alias = map(NULL, SLOTS * 2 * SLOT_PAGES * PAGE, PROT_READ | PROT_WRITE, s.fd, 0);
	s.code = map(NULL, SLOTS * SLOT_PAGES * PAGE, PROT_READ | PROT_EXEC, s.fd, 0);
	on_cpu(0);
	for (unsigned i = 0; i < CALLERS; i++)
		callers[i] = thread(swap_caller, &s);
	for (unsigned i = 0; !sh->stop; i++, version += 2) {
		swap_slot(&s, i % SLOTS, version);
		sh->done[me]++;
	}
	s.stop = true;
	for (unsigned i = 0; i < CALLERS; i++)
		pthread_join(callers[i], NULL);
}

/* --- splits: locked accesses over the end of a line and of a page ------------------------------ */

#define SPLITTERS 3u
#define SPLIT_ROUNDS 200u
struct split {
	uint8_t *area; /* two pages */
	_Atomic unsigned threads;
	unsigned at[3]; /* in one line, over the end of a line, over the end of a page */
};

static void *split_thread(void *arg)
{
	struct split *s = arg;

	on_cpu(s->threads++);
	for (unsigned i = 0; i < SPLIT_ROUNDS; i++)
		for (unsigned k = 0; k < 3; k++) {
			volatile uint64_t *at = (void *)(s->area + s->at[k]);
			uint64_t add = 0x0001000100010001ull;

			if (i % 2)
				__asm__ volatile("lock add %1, %0" : "+m"(*at) : "r"(add) : "cc");
			else
				__asm__ volatile("lock xadd %1, %0" : "+m"(*at), "+r"(add) : : "cc");
		}
	return NULL;
}

void splits(unsigned me)
{
	while (!sh->stop) {
		struct split s = { .area = map(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, -1, 0),
				   .at = { 1024, 2048 - 3, PAGE - 3 } };
		pthread_t threads[SPLITTERS];

		for (unsigned i = 0; i < SPLITTERS; i++)
			threads[i] = thread(split_thread, &s);
		for (unsigned i = 0; i < SPLITTERS; i++)
			pthread_join(threads[i], NULL);
		for (unsigned k = 0; k < 3; k++) {
			uint64_t sum;

			memcpy(&sum, s.area + s.at[k], sizeof(sum));
			same("a sum of locked additions", sum, SPLITTERS * SPLIT_ROUNDS * 0x0001000100010001ull);
		}
		munmap(s.area, 2 * PAGE);
		sh->done[me]++;
	}
}
