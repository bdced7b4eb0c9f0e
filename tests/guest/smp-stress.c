/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smp-stress.c - inside a guest with several processors: what goes wrong when they do not agree.
 *
 * smp-stress SECONDS [WORKER]... runs all workers, or these, at once and says "smp-stress: ok" with what
 * each did, or what was wrong. Every worker checks all that it gets back.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "smp-stress.h"

#define LEAF_STATUS 42
#define PATIENCE 60 /* seconds: on a busy host somebody may not have had a turn yet */

struct shared *sh;

_Noreturn void wrong(const char *what, uint64_t got, uint64_t want)
{
	printf("smp-stress: WRONG: %s is %#llx, not %#llx\n", what, (unsigned long long)got,
	       (unsigned long long)want);
	fflush(stdout);
	kill(0, SIGKILL);
	abort();
}

void same(const char *what, uint64_t got, uint64_t want)
{
	if (got != want)
		wrong(what, got, want);
}

/* Integers, doubles and vectors, the same result each time. */
static uint64_t work(unsigned rounds)
{
	static const unsigned n = 256;
	float v[256];
	double x = 0.25;
	uint64_t h = 1469598103934665603ull, bits;

	for (unsigned i = 0; i < n; i++)
		v[i] = (float)i * 0.5f;
	for (unsigned r = 0; r < rounds; r++) {
		for (unsigned i = 0; i < n; i++)
			v[i] = v[i] * 0.75f + 1.5f;
		x = 3.75 * x * (1 - x);
		memcpy(&bits, &x, sizeof(bits));
		h = (h ^ bits) * 1099511628211ull;
	}
	for (unsigned i = 0; i < n; i++) {
		uint32_t word;

		memcpy(&word, &v[i], sizeof(word));
		h = (h ^ word) * 1099511628211ull;
	}
	return h;
}

void on_cpu(unsigned n)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(n % (unsigned)sysconf(_SC_NPROCESSORS_ONLN), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

pthread_t thread(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	if (pthread_create(&t, NULL, fn, arg))
		wrong("pthread_create", (uint64_t)errno, 0);
	return t;
}

void *map(void *at, size_t bytes, int prot, int fd, size_t offset)
{
	int flags = (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED) | (at ? MAP_FIXED : 0);
	void *p = mmap(at, bytes, prot, flags, fd, (off_t)offset);

	if (p == MAP_FAILED)
		wrong("mmap", (uint64_t)errno, 0);
	return p;
}

int memory_file(size_t bytes)
{
	int fd = memfd_create("smp-stress", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		wrong("a memory file", (uint64_t)errno, 0);
	return fd;
}

/* --- workers -------------------------------------------------------------------------------- */

static void forks(unsigned me)
{
	while (!sh->stop) {
		int status = 0;
		pid_t pid = fork();

		if (pid == 0) {
			same("work in a child", work(50), sh->checksum);
			execl("/proc/self/exe", "smp-stress", "--leaf", (char *)NULL);
			_exit(1);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid)
			wrong("fork or wait", (uint64_t)errno, 0);
		same("a child's status", (uint64_t)status, LEAF_STATUS << 8);
		sh->done[me]++;
	}
}

/* One thread puts a new page at an address and says its number; the other one, on its processor with
 * the old translation cached, must see that number or a later one. */
struct remap {
	_Atomic uint64_t *at;
	_Atomic uint64_t number;
	_Atomic bool stop;
};

static void *remap_reader(void *arg)
{
	struct remap *m = arg;

	on_cpu(1);
	while (!m->stop) {
		uint64_t before = m->number, seen = *m->at;

		if (seen < before)
			wrong("a page after a TLB shootdown", seen, before);
	}
	return NULL;
}

static void remaps(unsigned me)
{
	struct remap m = { .number = 0 };
	pthread_t reader;
	void *fresh;

	on_cpu(0);
	m.at = map(NULL, PAGE, PROT_READ | PROT_WRITE, -1, 0);
	reader = thread(remap_reader, &m);
	while (!sh->stop) {
		uint64_t next = m.number + 1;

		fresh = map(NULL, PAGE, PROT_READ | PROT_WRITE, -1, 0);
		*(_Atomic uint64_t *)fresh = next;
		if (mremap(fresh, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)m.at) != (void *)m.at)
			wrong("mremap", (uint64_t)errno, 0);
		m.number = next;
		sh->done[me]++;
	}
	m.stop = true;
	pthread_join(reader, NULL);
}

/* Maps, fills, protects, reads, unprotects, unmaps: on several processors in one address space. */
static void *map_thread(void *arg)
{
	unsigned me = *(unsigned *)arg;
	unsigned pages = 1 + me;

	while (!sh->stop) {
		uint64_t *p = map(NULL, pages * PAGE, PROT_READ | PROT_WRITE, -1, 0);

		for (unsigned i = 0; i < pages; i++) {
			same("fresh memory", p[i * 512 + 7], 0);
			p[i * 512 + 7] = i ^ (uint64_t)(uintptr_t)p;
		}
		mprotect(p, pages * PAGE, PROT_READ);
		for (unsigned i = 0; i < pages; i++)
			same("memory", p[i * 512 + 7], i ^ (uint64_t)(uintptr_t)p);
		mprotect(p, pages * PAGE, PROT_READ | PROT_WRITE);
		p[7] = 1;
		munmap(p, pages * PAGE);
		pages = pages % 13 + 1;
		sh->done[me]++;
	}
	return NULL;
}

static void maps(unsigned me)
{
	pthread_t other = thread(map_thread, &me), third = thread(map_thread, &me);

	map_thread(&me);
	pthread_join(other, NULL);
	pthread_join(third, NULL);
}

static void pipes(unsigned me)
{
	int there[2], back[2];
	uint32_t n = 0, got;

	if (pipe(there) || pipe(back))
		wrong("pipe", (uint64_t)errno, 0);
	if (fork() == 0) {
		close(there[1]);
		while (read(there[0], &got, sizeof(got)) == sizeof(got)) {
			got = ~got;
			if (write(back[1], &got, sizeof(got)) != sizeof(got))
				break;
		}
		_exit(0);
	}
	while (!sh->stop) {
		n++;
		if (write(there[1], &n, sizeof(n)) != sizeof(n) ||
		    read(back[0], &got, sizeof(got)) != sizeof(got))
			wrong("a pipe", (uint64_t)errno, 0);
		same("what the pipe brought back", ~got, n);
		sh->done[me]++;
	}
	close(there[1]);
	wait(NULL);
}

struct counting {
	pthread_mutex_t lock;
	uint64_t plain, each;
	_Atomic uint64_t atomic;
	_Atomic uint32_t turn;
};

static void futex(_Atomic uint32_t *word, int op, uint32_t value)
{
	syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, NULL, NULL, 0);
}

static void turns(struct counting *c, uint32_t mine)
{
	for (unsigned i = 0; i < 200; i++) {
		while (c->turn != mine)
			futex(&c->turn, FUTEX_WAIT, !mine);
		c->turn = !mine;
		futex(&c->turn, FUTEX_WAKE, 1);
	}
}

static void *count_thread(void *arg)
{
	struct counting *c = arg;

	for (unsigned i = 0; i < 3000; i++) {
		pthread_mutex_lock(&c->lock);
		c->plain++;
		pthread_mutex_unlock(&c->lock);
		c->atomic++;
	}
	turns(c, 1);
	return NULL;
}

static void counts(unsigned me)
{
	while (!sh->stop) {
		struct counting c = { .lock = PTHREAD_MUTEX_INITIALIZER };
		pthread_t other = thread(count_thread, &c);

		for (unsigned i = 0; i < 3000; i++) {
			pthread_mutex_lock(&c.lock);
			c.plain++;
			pthread_mutex_unlock(&c.lock);
			c.atomic++;
		}
		turns(&c, 0);
		pthread_join(other, NULL);
		same("a count under a lock", c.plain, 6000);
		same("an atomic count", c.atomic, 6000);
		sh->done[me]++;
	}
}

static void on_alarm(int sig)
{
	static volatile double x = 1;

	(void)sig;
	x = x * 1.0001 + 0.5; /* registers that work() uses */
}

/* Computes while it is moved from processor to processor and a timer's signals come. */
static void wander(unsigned me)
{
	const struct itimerval often = { { 0, 1500 }, { 0, 1500 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction sa = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
	for (unsigned i = 0; !sh->stop; i++) {
		on_cpu(i);
		same("work on another processor", work(50), sh->checksum);
		sh->done[me]++;
	}
	setitimer(ITIMER_REAL, &never, NULL);
}

/* The kernel patches its code on all processors (static keys). */
static void patches(unsigned me)
{
	static const char *const keys[] = {
		"/proc/sys/kernel/sched_schedstats", "/proc/sys/kernel/bpf_stats_enabled",
		"/proc/sys/kernel/task_delayacct",
	};
	unsigned there = 0;

	for (unsigned i = 0; !sh->stop; i++) {
		int fd = open(keys[i / 2 % 3], O_WRONLY | O_CLOEXEC);

		if (fd >= 0 && write(fd, i % 2 ? "0\n" : "1\n", 2) == 2) {
			there++;
			sh->done[me]++;
		}
		if (fd >= 0)
			close(fd);
		usleep(2000);
	}
	if (!there)
		wrong("the number of static keys", 0, 1);
}

/* One thread rewrites a function, the other one, elsewhere, calls it. */
struct code {
	uint8_t *fn;
	_Atomic uint32_t version;
	_Atomic bool stop;
};

uint32_t call(const uint8_t *fn)
{
	uint32_t eax;

	__asm__ volatile("call *%1" : "=a"(eax) : "r"(fn) : "rcx", "rdx", "rbx", "memory", "cc");
	return eax;
}

void serialize(void)
{
	uint32_t a = 0, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}

static void *code_caller(void *arg)
{
	struct code *k = arg;

	on_cpu(3);
	while (!k->stop) {
		uint32_t before = k->version, got;

		serialize();
		got = call(k->fn);
		if (got < before)
			wrong("rewritten code", got, before);
	}
	return NULL;
}

static void codes(unsigned me)
{
	struct code k = { .version = 0 };
	pthread_t caller;

	on_cpu(2);
	k.fn = map(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, -1, 0);
	memcpy(k.fn, "\x90\x90\x90\xb8\0\0\0\0\xc3", 9); /* mov $version, %eax; ret */
	caller = thread(code_caller, &k);
	while (!sh->stop) {
		uint32_t next = k.version + 1;

		*(_Atomic uint32_t *)(void *)(k.fn + 4) = next;
		same("own rewritten code", call(k.fn), next);
		k.version = next;
		sh->done[me]++;
		if (next % 64 == 0)
			sched_yield();
	}
	k.stop = true;
	pthread_join(caller, NULL);
}

static const struct {
	const char *name;
	void (*run)(unsigned me);
} workers[] = {
	{ "forks", forks }, { "remaps", remaps }, { "maps", maps },	{ "pipes", pipes },
	{ "counts", counts }, { "wander", wander }, { "patches", patches }, { "codes", codes },
	{ "windows", windows }, { "snapshots", snapshots }, { "moves", moves }, { "dirties", dirties },
	{ "swaps", swaps }, { "splits", splits },
};
#define WORKERS (sizeof(workers) / sizeof(workers[0]))

static bool all_did(const pid_t *pid)
{
	for (unsigned i = 0; i < WORKERS; i++)
		if (pid[i] && !sh->done[i])
			return false;
	return true;
}

/* No names: all of them. */
static bool is_wanted(unsigned worker, char **names)
{
	bool wanted = !*names;

	for (; *names; names++)
		wanted |= !strcmp(*names, workers[worker].name);
	return wanted;
}

static void run_all(unsigned seconds, char **names, pid_t *ret_pid)
{
	for (unsigned i = 0; i < WORKERS; i++) {
		ret_pid[i] = is_wanted(i, names) ? fork() : 0;
		if (ret_pid[i] == 0 && is_wanted(i, names)) {
			workers[i].run(i);
			_exit(0);
		}
	}
	sleep(seconds);
	for (unsigned i = 0; i < PATIENCE && !all_did(ret_pid); i++)
		sleep(1);
	sh->stop = true;
}

int main(int argc, char **argv)
{
	pid_t pid[WORKERS];
	unsigned failed = 0;

	if (argc == 2 && !strcmp(argv[1], "--leaf"))
		return LEAF_STATUS;
	if (argc < 2 || atoi(argv[1]) < 1) {
		fputs("smp-stress SECONDS [WORKER]...\n", stderr);
		return 2;
	}
	sh = map(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, memory_file(sizeof(*sh)), 0);
	sh->checksum = work(50);
	run_all((unsigned)atoi(argv[1]), argv + 2, pid);
	for (unsigned i = 0; i < WORKERS; i++) {
		int status = 1;

		if (pid[i]) {
			waitpid(pid[i], &status, 0);
			failed += status != 0 || !sh->done[i];
		}
	}
	printf("smp-stress: %s:", failed ? "FAILED" : "ok");
	for (unsigned i = 0; i < WORKERS; i++)
		if (pid[i])
			printf(" %s %llu", workers[i].name, (unsigned long long)sh->done[i]);
	putchar('\n');
	return failed != 0;
}
