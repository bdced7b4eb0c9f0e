/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smp-memory.c - workers of smp-stress for which one processor changes what addresses mean while others
 * use them, and know what they must find there.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include "smp-stress.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* --- windows: rights and mappings ------------------------------------------------------------ */

/* One access, which may fault: then its instruction is left out and `faulted` set. */
static _Thread_local volatile bool faulted;
extern const char try_load[], try_load_end[], try_store[], try_store_end[];
__asm__(".text\n"
	"try_load: mov (%rdi),%rax\ntry_load_end: ret\n"
	"try_store: mov %rsi,(%rdi)\ntry_store_end: ret\n");
typedef uint64_t load_fn(const volatile uint64_t *at);
typedef void store_fn(volatile uint64_t *at, uint64_t value);

static void on_fault(int sig, siginfo_t *info, void *context)
{
	greg_t *rip = &((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];

	(void)sig;
	if (*rip == (greg_t)(uintptr_t)try_load)
		*rip = (greg_t)(uintptr_t)try_load_end;
	else if (*rip == (greg_t)(uintptr_t)try_store)
		*rip = (greg_t)(uintptr_t)try_store_end;
	else
		wrong("a fault at", (uint64_t)(uintptr_t)info->si_addr, 0);
	faulted = true;
}

/* A page at an address. While `epoch` is even the rest stands still and must be what is found. */
#define WINDOW_FILE 8u /* pages */
#define NEAR 9u /* pages at 1 << NEAR to 1 << FAR pages from it may share its place in a TLB */
#define FAR 12u
#define WINDOW_THREADS 3u
#define PATIENCE 1000u
struct window {
	volatile uint64_t *at;
	uint64_t *alias; /* all of the file */
	int fd;
	_Atomic bool stop;
	_Atomic unsigned threads;
	_Atomic uint64_t epoch, looks, page, value;
	_Atomic int prot;
};

static void look_load(struct window *w, uint64_t epoch)
{
	uint64_t got, value = w->value;
	bool readable = w->prot & PROT_READ;

	/* The same one for a while: two would push out all that is known of the window. */
	same("a page beside", w->at[PAGE_WORDS << (NEAR + epoch / 256 % (FAR + 1 - NEAR))], 0);
	faulted = false;
	got = ((load_fn *)(uintptr_t)try_load)(w->at);
	if (w->epoch != epoch)
		return;
	same("whether a load faults", faulted, !readable);
	if (readable)
		same("what a page holds", got, value);
}

static void look_store(struct window *w, uint64_t epoch, unsigned word, uint64_t number)
{
	bool writable = w->prot & PROT_WRITE;
	const volatile uint64_t *there = &w->alias[w->page * PAGE_WORDS + word];
	uint64_t got;

	faulted = false;
	((store_fn *)(uintptr_t)try_store)(w->at + word, number);
	got = *there;
	if (w->epoch != epoch)
		return;
	same("whether a store faults", faulted, !writable);
	if (writable)
		same("what was stored in a page", got, number);
}

static void *window_thread(void *arg)
{
	struct window *w = arg;
	unsigned me = ++w->threads;

	on_cpu(me);
	for (uint64_t n = 1; !w->stop; n++) {
		uint64_t epoch = w->epoch;

		if (epoch & 1)
			continue;
		look_load(w, epoch);
		look_store(w, epoch, me, n);
		w->looks++;
	}
	return NULL;
}

static void no_error(const char *what, bool failed)
{
	if (failed)
		wrong(what, (uint64_t)errno, 0);
}

/* The next thing that happens to the window. What unmaps it comes before what moves a page there. */
static void change(struct window *w, unsigned what)
{
	void *at = (void *)(uintptr_t)w->at;
	uint64_t page = (w->page + 1) % WINDOW_FILE;
	char *from;
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	int prot = prots[what / 4 % 3];

	w->value++;
	switch (what % 4) {
	case 0: /* other rights, another value */
		w->alias[w->page * PAGE_WORDS] = w->value;
		no_error("mprotect", mprotect(at, PAGE, prot));
		break;
	case 1: /* another page over it */
		w->alias[page * PAGE_WORDS] = w->value;
		map(at, PAGE, prot, w->fd, page * PAGE);
		w->page = page;
		break;
	case 2: /* nothing is there */
		no_error("munmap", munmap(at, PAGE));
		prot = PROT_NONE;
		break;
	default: /* another page moves there; two do not fit in where there is nothing */
		w->alias[page * PAGE_WORDS] = w->value;
		from = map(NULL, 2 * PAGE, prot, w->fd, page * PAGE);
		no_error("mremap", mremap(from, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, at) != at);
		munmap(from + PAGE, PAGE);
		w->page = page;
		break;
	}
	w->prot = prot;
}

void windows(unsigned me)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	struct window w = { .fd = memory_file(WINDOW_FILE * PAGE), .prot = PROT_READ | PROT_WRITE };
	pthread_t threads[WINDOW_THREADS];
	char *around; /* nothing else comes to be where the window is not */

	sigaction(SIGSEGV, &action, NULL);
	w.alias = map(NULL, WINDOW_FILE * PAGE, PROT_READ | PROT_WRITE, w.fd, 0);
	around = map(NULL, (2u + (1u << FAR)) * PAGE, PROT_READ, -1, 0);
	w.at = map(around + PAGE, PAGE, w.prot, w.fd, 0);
	on_cpu(0);
	for (unsigned i = 0; i < WINDOW_THREADS; i++)
		threads[i] = thread(window_thread, &w);
	for (unsigned i = 0; !sh->stop; i++) {
		uint64_t looks;

		w.epoch++;
		change(&w, i);
		w.epoch++;
		/* The others may all be waiting for a processor. */
		looks = w.looks;
		for (unsigned k = 0; k < PATIENCE && w.looks == looks; k++)
			__builtin_ia32_pause();
		sh->done[me] += w.looks != looks;
	}
	w.stop = true;
	for (unsigned i = 0; i < WINDOW_THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* --- snapshots: fork while threads write ------------------------------------------------------- */

#define PAIRS 24u /* pages */
struct counters {
	volatile uint64_t *area;
	_Atomic bool stop;
	_Atomic unsigned threads;
};

/* Two words of each page, one after the other: a copy has them equal, or stands between them. */
static void *pair_thread(void *arg)
{
	struct counters *c = arg;
	unsigned me = ++c->threads;

	on_cpu(me);
	for (uint64_t n = 0; !c->stop; n++)
		for (unsigned i = 0; i < PAIRS; i++) {
			volatile uint64_t *a = &c->area[i * PAGE_WORDS + me * 16], *b = a + 8;

			same("the first of a pair", *a, n);
			same("the second of a pair", *b, n);
			*a = n + 1;
			*b = n + 1;
		}
	return NULL;
}

static void snapshot_child(volatile uint64_t *area)
{
	uint64_t seen[PAIRS * 2];

	for (unsigned i = 0; i < PAIRS * 2; i++) {
		const volatile uint64_t *a = &area[i / 2 * PAGE_WORDS + (i % 2 + 1) * 16];
		uint64_t first = seen[i] = *a, second = a[8];

		if (first != second && first != second + 1)
			wrong("the pair in a snapshot", second, first);
	}
	usleep(300);
	for (unsigned i = 0; i < PAIRS * 2; i++) {
		volatile uint64_t *a = &area[i / 2 * PAGE_WORDS + (i % 2 + 1) * 16];

		same("a snapshot later", *a, seen[i]);
		*a = ~seen[i]; /* which its parent must not see */
		same("what a child wrote", *a, ~seen[i]);
	}
}

void snapshots(unsigned me)
{
	struct counters c = { .area = map(NULL, PAIRS * PAGE, PROT_READ | PROT_WRITE, -1, 0) };
	pthread_t threads[2] = { thread(pair_thread, &c), thread(pair_thread, &c) };

	while (!sh->stop) {
		int status = 1;
		pid_t pid = fork();

		if (pid == 0) {
			snapshot_child(c.area);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			wrong("fork or wait", (uint64_t)errno, 0);
		same("a snapshot's status", (uint64_t)status, 0);
		sh->done[me]++;
	}
	c.stop = true;
	for (unsigned i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

/* --- moves: the kernel moves, joins and splits pages ------------------------------------------- */

#define MOVED (4u << 20) /* bytes, two huge pages */
#define MOVED_WORDS (MOVED / 8)
#define MOVERS 3u
struct moved {
	volatile uint64_t *area;
	uint64_t *shadow; /* what is in the area */
	_Atomic bool stop;
	_Atomic unsigned threads;
};

/* Of every MOVERS words one is this thread's. */
static void *move_thread(void *arg)
{
	struct moved *m = arg;
	unsigned me = m->threads++;
	uint64_t random = me + 1;

	on_cpu(me);
	while (!m->stop) {
		size_t word;

		random = random * 6364136223846793005ull + 1442695040888963407ull;
		word = (random >> 33) % (MOVED_WORDS / MOVERS) * MOVERS + me;
		same("memory that is moved", m->area[word], m->shadow[word]);
		/* Most pages are alike and may be joined, and sometimes get what they have. */
		if (word / PAGE_WORDS % 4 == 0)
			m->shadow[word] = random;
		else if (random >> 58)
			continue;
		m->area[word] = m->shadow[word];
	}
	return NULL;
}

/* False: there is no such file. */
static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

static void move(char *area, unsigned what)
{
	switch (what % 5) {
	case 0:
		write_file("/proc/sys/vm/compact_memory", "1");
		break;
	case 1:
		madvise(area, MOVED, MADV_COLLAPSE);
		break;
	case 2: /* a piece of a huge page is another mapping: the page is split */
		madvise(area + what % 64 * PAGE, 3 * PAGE, MADV_DONTFORK);
		break;
	case 3:
		madvise(area, MOVED, MADV_DOFORK);
		madvise(area, MOVED, MADV_MERGEABLE);
		write_file("/sys/kernel/mm/ksm/run", "1");
		break;
	default:
		madvise(area, MOVED, MADV_UNMERGEABLE);
		break;
	}
}

void moves(unsigned me)
{
	char *room = map(NULL, MOVED + (2u << 20), PROT_READ | PROT_WRITE, -1, 0);
	uintptr_t aligned = ((uintptr_t)room + (2u << 20) - 1) & -(uintptr_t)(2u << 20);
	struct moved m = { .area = (uint64_t *)aligned };
	pthread_t threads[MOVERS];

	m.shadow = map(NULL, MOVED, PROT_READ | PROT_WRITE, -1, 0);
	madvise((void *)aligned, MOVED, MADV_HUGEPAGE);
	write_file("/sys/kernel/mm/ksm/sleep_millisecs", "5");
	for (unsigned i = 0; i < MOVERS; i++)
		threads[i] = thread(move_thread, &m);
	for (unsigned i = 0; !sh->stop; i++) {
		move((char *)aligned, i);
		usleep(3000);
		sh->done[me]++;
	}
	m.stop = true;
	for (unsigned i = 0; i < MOVERS; i++)
		pthread_join(threads[i], NULL);
}

/* --- dirties: the kernel takes the right to write away to see who does ------------------------- */

#define DIRTY_PAGES 32u
#define SOFT_DIRTY (1ull << 55) /* of an entry of pagemap */
struct dirty {
	volatile uint64_t *area;
	_Atomic uint32_t mask, answer; /* pages to write; the other's last mask */
	_Atomic bool stop;
};

static void *dirty_thread(void *arg)
{
	struct dirty *d = arg;

	on_cpu(2);
	while (!d->stop) {
		uint32_t mask = d->mask;

		if (mask == d->answer) {
			sched_yield();
			continue;
		}
		for (unsigned i = 0; i < DIRTY_PAGES; i++)
			if (mask >> i & 1)
				d->area[i * PAGE_WORDS] = mask;
		d->answer = mask;
	}
	return NULL;
}

static void read_pagemap(int fd, uint64_t entries[DIRTY_PAGES], uint64_t at)
{
	const ssize_t bytes = DIRTY_PAGES * sizeof(entries[0]);

	no_error("pagemap", pread(fd, entries, (size_t)bytes, (off_t)at) != bytes);
}

void dirties(unsigned me)
{
	struct dirty d = { .area = map(NULL, DIRTY_PAGES * PAGE, PROT_READ | PROT_WRITE, -1, 0) };
	uint64_t entries[DIRTY_PAGES], at = (uintptr_t)d.area / PAGE * sizeof(entries[0]);
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	pthread_t other;

	madvise((void *)(uintptr_t)d.area, DIRTY_PAGES * PAGE, MADV_NOHUGEPAGE);
	memset((void *)(uintptr_t)d.area, 1, DIRTY_PAGES * PAGE);
	read_pagemap(pagemap, entries, at);
	if (!(entries[0] & SOFT_DIRTY)) { /* a kernel that does not track them */
		sh->done[me]++;
		return;
	}
	other = thread(dirty_thread, &d);
	on_cpu(1);
	for (uint32_t mask = 1; !sh->stop; mask = mask * 1664525u + 1013904223u) {
		uint32_t found = 0;

		no_error("clear_refs", !write_file("/proc/self/clear_refs", "4"));
		d.mask = mask;
		while (d.answer != mask)
			sched_yield();
		read_pagemap(pagemap, entries, at);
		for (unsigned i = 0; i < DIRTY_PAGES; i++)
			found |= (uint32_t)!!(entries[i] & SOFT_DIRTY) << i;
		/* A page that the kernel moved may seem written to as well. */
		same("the pages that were written to", found & mask, mask);
		sh->done[me]++;
	}
	d.stop = true;
	pthread_join(other, NULL);
	close(pagemap);
}
