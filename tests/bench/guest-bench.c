/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest-bench.c - small workloads, each timed; a static program, the same binary natively, in a vmxd
 * guest and under QEMU. Prints `bench NAME NS` (nanoseconds an iteration, the best of several runs).
 * Arguments: a comma-separated list of names; none: all. --latency: how late timers are instead.
 */
#include <config.h>

#include <fcntl.h>
#include <immintrin.h>
#include <math.h>
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
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/guest-bench.h"

uint64_t bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint32_t next_random(uint32_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 17;
	*s ^= *s << 5;
	return *s;
}

/* --- user space: integers ------------------------------------------------------------------------- */

static void bench_alu(struct work *w, uint64_t n)
{
	uint64_t x = 1, y = 2;

	for (uint64_t i = 0; i < n; i++) {
		x = x * 3 + (y >> 7);
		y ^= x + i;
		x = (x << 13 | x >> 51) - y;
		if (x & 64)
			y += 5;
	}
	w->sink += x + y;
}

static void sift(uint32_t *a, size_t root, size_t n)
{
	for (size_t child; (child = root * 2 + 1) < n; root = child) {
		uint32_t t = a[root];

		if (child + 1 < n && a[child] < a[child + 1])
			child++;
		if (t >= a[child])
			return;
		a[root] = a[child];
		a[child] = t;
	}
}

static void bench_sort(struct work *w, uint64_t n)
{
	for (uint64_t k = 0; k < n; k++) {
		uint32_t s = 12345;

		for (size_t i = 0; i < 2048; i++)
			w->a[i] = next_random(&s);
		for (size_t i = 1024; i-- > 0;)
			sift(w->a, i, 2048);
		for (size_t i = 2048; i-- > 1;) {
			uint32_t t = w->a[0];

			w->a[0] = w->a[i];
			w->a[i] = t;
			sift(w->a, 0, i);
		}
		w->sink += w->a[7];
	}
}

/* A bytecode machine: one indirect jump an instruction. */
static void bench_indirect(struct work *w, uint64_t n)
{
	static const uint8_t code[] = { 0, 1, 2, 3, 1, 4, 2, 0, 3, 3, 4, 1, 0, 2, 4, 5 };
	static const void *const op[] = { &&add, &&sub, &&mul, &&xor_, &&rot, &&next };
	uint64_t acc = 1, i = 0;
	unsigned pc = 0;

	goto *op[code[pc]];
add:	acc += i; goto *op[code[++pc]];
sub:	acc -= 77; goto *op[code[++pc]];
mul:	acc *= 5; goto *op[code[++pc]];
xor_:	acc ^= acc >> 9; goto *op[code[++pc]];
rot:	acc = acc << 1 | acc >> 63; goto *op[code[++pc]];
next:	pc = 0;
	if (++i < n)
		goto *op[code[0]];
	w->sink += acc;
}

static __attribute__((noinline)) uint64_t fib(unsigned n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static void bench_call(struct work *w, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		w->sink += fib(15 + (i & 1));
}

/* One cycle through all (Sattolo). Not in the measured part, which would be long with n = 1. */
static void prepare_chase(struct work *w, size_t count)
{
	uint32_t s = 99;

	for (size_t i = 0; i < count; i++)
		w->a[i] = (uint32_t)i;
	for (size_t i = count - 1; i > 0; i--) {
		size_t j = next_random(&s) % i;
		uint32_t t = w->a[i];

		w->a[i] = w->a[j];
		w->a[j] = t;
	}
}

static void prepare_chase_cache(struct work *w) { prepare_chase(w, 4096); }
static void prepare_chase_memory(struct work *w) { prepare_chase(w, BIG / 4); }

static void bench_chase(struct work *w, uint64_t n)
{
	uint32_t at = 0;

	for (uint64_t i = 0; i < n; i++)
		at = w->a[at];
	w->sink += at;
}

struct node {
	struct node *child[2];
	uint32_t key;
};

static void bench_tree(struct work *w, uint64_t n)
{
	struct node *pool = (struct node *)(void *)w->a, *root = &pool[0];
	uint32_t s = 4711;

	memset(pool, 0, 20000 * sizeof(*pool));
	root->key = 1u << 31;
	for (uint32_t i = 1; i < 20000; i++) {
		struct node *p = root;

		pool[i].key = next_random(&s);
		while (p->child[pool[i].key > p->key])
			p = p->child[pool[i].key > p->key];
		p->child[pool[i].key > p->key] = &pool[i];
	}
	for (uint64_t i = 0; i < n; i++) {
		uint32_t key = next_random(&s);

		for (const struct node *p = root; p; p = p->child[key > p->key])
			w->sink += p->key;
	}
}

static void bench_memcpy(struct work *w, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		memcpy((char *)w->b + (i & 31), w->a, 65536);
		__asm__ volatile("" ::: "memory");
	}
}

static void bench_byte_loop(struct work *w, uint64_t n)
{
	const volatile uint8_t *p = (const volatile uint8_t *)w->a;

	for (uint64_t i = 0; i < n; i++) {
		for (unsigned k = 0; k < 4096; k++)
			w->sink += p[k];
	}
}

static void bench_hash(struct work *w, uint64_t n)
{
	uint32_t s = 5;

	memset(w->a, 0, 0x40000 * 4);
	for (uint64_t i = 0; i < n; i++) {
		uint32_t key = next_random(&s) & 0xffff, h = key * 2654435761u >> 14;

		while (w->a[h] && w->a[h] != key)
			h = (h + 1) & 0x3ffff;
		w->a[h] = key;
	}
}

/* The core of a byte-oriented compressor: hash of three bytes, match length, copy. */
static void bench_compress(struct work *w, uint64_t n)
{
	uint8_t *in = (uint8_t *)w->a, *out = (uint8_t *)w->b;
	uint32_t s = 77;

	for (size_t i = 0; i < 65536; i++)
		in[i] = "etaoin shrdlu"[next_random(&s) % 13 * (next_random(&s) & 1)];
	for (uint64_t k = 0; k < n; k++) {
		static uint16_t head[4096];
		size_t o = 0;

		for (size_t i = 0; i + 4 < 65535;) {
			uint32_t h = (uint32_t)(in[i] | in[i + 1] << 8 | in[i + 2] << 16) * 2654435761u >> 20;
			size_t match = head[h], len = 0;

			head[h] = (uint16_t)i;
			while (match < i && i + len < 65535 && in[match + len] == in[i + len] && len < 255)
				len++;
			if (len > 3) {
				out[o++] = (uint8_t)len;
				out[o++] = (uint8_t)match;
				i += len;
			} else {
				out[o++] = in[i++];
			}
		}
		w->sink += o;
	}
}

/* --- floating point, SIMD -------------------------------------------------------------------------- */

static void bench_double(struct work *w, uint64_t n)
{
	volatile double dt = 0.001;
	double x = 1, y = 0, vx = 0, vy = 1;

	for (uint64_t i = 0; i < n; i++) {
		double r2 = x * x + y * y, r = sqrt(r2), f = -1.0 / (r2 * r);

		vx += f * x * dt;
		vy += f * y * dt;
		x += vx * dt;
		y += vy * dt;
	}
	w->sink += (uint64_t)(x * 1000);
}

static void bench_matrix(struct work *w, uint64_t n)
{
	float *a = (float *)w->a, *b = a + 4096, *c = b + 4096;

	for (unsigned i = 0; i < 4096; i++)
		a[i] = (float)(i % 7), b[i] = (float)(i % 5), c[i] = 0;
	for (uint64_t k = 0; k < n; k++) {
		for (unsigned i = 0; i < 64; i++)
			for (unsigned l = 0; l < 64; l++) {
				const __m128 x = _mm_set1_ps(a[i * 64 + l]);

				for (unsigned j = 0; j < 64; j += 4)
					_mm_storeu_ps(c + i * 64 + j,
						      _mm_add_ps(_mm_loadu_ps(c + i * 64 + j),
								 _mm_mul_ps(x, _mm_loadu_ps(b + l * 64 + j))));
			}
	}
	w->sink += (uint64_t)c[77];
}

static void bench_x87(struct work *w, uint64_t n)
{
	volatile long double step = 1.0000001L;
	long double x = 1;

	for (uint64_t i = 0; i < n; i++)
		x = (x * step + 1.0L) / 1.5L;
	w->sink += (uint64_t)x;
}

__attribute__((target("aes,sse4.1"))) static void bench_aes(struct work *w, uint64_t n)
{
	__m128i v = _mm_set1_epi32(1);
	const __m128i *key = (const __m128i *)(const void *)w->a;

	for (uint64_t i = 0; i < n; i++) {
		for (unsigned r = 0; r < 10; r++)
			v = _mm_aesenc_si128(v, _mm_loadu_si128(key + r));
	}
	w->sink += (uint64_t)_mm_extract_epi32(v, 0);
}

__attribute__((target("avx2,fma"))) static void bench_avx2(struct work *w, uint64_t n)
{
	const float *a = (const float *)w->a, *b = (const float *)w->b;
	__m256 sum = _mm256_setzero_ps();

	memset(w->a, 0, 16384);
	memset(w->b, 0, 16384);
	for (uint64_t i = 0; i < n; i++) {
		for (unsigned k = 0; k < 4096; k += 8)
			sum = _mm256_fmadd_ps(_mm256_loadu_ps(a + k), _mm256_loadu_ps(b + k), sum);
	}
	w->sink += (uint64_t)_mm256_cvtss_f32(sum);
}

__attribute__((target("sha,sse4.1"))) static void bench_sha(struct work *w, uint64_t n)
{
	__m128i s0 = _mm_set1_epi32(3), s1 = _mm_set1_epi32(5);
	const __m128i *m = (const __m128i *)(const void *)w->a;

	for (uint64_t i = 0; i < n; i++) {
		for (unsigned r = 0; r < 16; r++) {
			__m128i k = _mm_loadu_si128(m + r);

			s1 = _mm_sha256rnds2_epu32(s1, s0, k);
			s0 = _mm_sha256rnds2_epu32(s0, s1, _mm_shuffle_epi32(k, 0x0e));
		}
	}
	w->sink += (uint64_t)_mm_extract_epi32(s0, 0);
}

/* --- the guest's kernel ------------------------------------------------------------------------------ */

static void bench_syscall(struct work *w, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		w->sink += (uint64_t)syscall(SYS_getppid);
}

static void bench_page_fault(struct work *w, uint64_t n)
{
	for (uint64_t i = 0; i < n; i += 256) {
		char *p = mmap(NULL, 256 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			return;
		madvise(p, 256 * 4096, MADV_NOHUGEPAGE);
		for (unsigned k = 0; k < 256; k++)
			p[k * 4096] = 1;
		munmap(p, 256 * 4096);
	}
	(void)w;
}

static void bench_fork(struct work *w, uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
	(void)w;
}

static void bench_exec(struct work *w, uint64_t n)
{
	for (volatile uint64_t i = 0; i < n; i++) {
		pid_t pid = vfork();

		if (pid == 0) {
			execl(w->self, "guest-bench", "--nothing", (char *)NULL);
			_exit(1);
		}
		waitpid(pid, NULL, 0);
	}
}

static void bench_pipe(struct work *w, uint64_t n)
{
	int to[2], from[2];
	pid_t pid;
	char c = 'x';

	if (pipe(to) < 0 || pipe(from) < 0)
		return;
	pid = fork();
	if (pid == 0) {
		close(to[1]);
		while (read(to[0], &c, 1) == 1 && write(from[1], &c, 1) == 1)
			;
		_exit(0);
	}
	for (uint64_t i = 0; i < n; i++) {
		if (write(to[1], &c, 1) != 1 || read(from[0], &c, 1) != 1)
			break;
	}
	close(to[0]);
	close(to[1]);
	close(from[0]);
	close(from[1]);
	waitpid(pid, NULL, 0);
	(void)w;
}

static void bench_file(struct work *w, uint64_t n)
{
	int fd = open("/tmp/guest-bench.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600);

	for (uint64_t i = 0; i < n && fd >= 0; i++) {
		if (pwrite(fd, w->a, 4096, (off_t)(i % 64) * 4096) != 4096 ||
		    pread(fd, w->b, 4096, (off_t)(i * 7 % 64) * 4096) < 0)
			break;
	}
	close(fd);
	unlink("/tmp/guest-bench.tmp");
}

struct contended {
	_Atomic uint64_t counter;
	uint64_t n;
};

static void *contender(void *arg)
{
	struct contended *c = arg;

	for (uint64_t i = 0; i < c->n; i++)
		atomic_fetch_add(&c->counter, 1);
	return NULL;
}

/*
 * A round is two context switches: the other process does nothing but say that it ran and give way. By priority,
 * where that is allowed, as the fair scheduler mostly leaves who yields running; counted, as a yield may do nothing.
 */
static void bench_switch(struct work *w, uint64_t n)
{
	const struct sched_param first = { .sched_priority = 1 }, normal = { 0 };
	_Atomic uint64_t *turns = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	bool by_priority;
	cpu_set_t all, one;
	pid_t pid;

	if (turns == MAP_FAILED)
		return;
	sched_getaffinity(0, sizeof(all), &all);
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	by_priority = sched_setscheduler(0, SCHED_RR, &first) == 0;
	pid = fork();
	if (pid == 0) {
		for (;; sched_yield())
			atomic_fetch_add_explicit(turns, 1, memory_order_relaxed);
	}
	for (uint64_t i = 0, seen = 0; pid > 0 && i < n; i++) {
		do
			sched_yield();
		while (atomic_load_explicit(turns, memory_order_relaxed) == seen);
		seen = atomic_load_explicit(turns, memory_order_relaxed);
	}
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	if (by_priority)
		sched_setscheduler(0, SCHED_OTHER, &normal);
	sched_setaffinity(0, sizeof(all), &all);
	w->sink += *turns;
	munmap(turns, 4096);
}

static void bench_atomics(struct work *w, uint64_t n)
{
	struct contended c = { .n = n / 2 };
	pthread_t t;

	if (pthread_create(&t, NULL, contender, &c) != 0)
		return;
	contender(&c);
	pthread_join(t, NULL);
	w->sink += c.counter;
}

/* --- running --------------------------------------------------------------------------------------- */

static bool always(void) { return true; }
static bool has_aes(void) { return __builtin_cpu_supports("aes"); }
static bool has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
static bool has_sha(void)
{
	uint32_t a = 7, b, c = 0, d;

	__asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
	return b >> 29 & 1;
}

static const struct {
	const char *name;
	void (*run)(struct work *w, uint64_t n);
	bool (*there)(void);
	void (*prepare)(struct work *w); /* or NULL */
} benches[] = {
	{ "alu", bench_alu, always, NULL },
	{ "sort", bench_sort, always, NULL },
	{ "indirect", bench_indirect, always, NULL },
	{ "call", bench_call, always, NULL },
	{ "chase-cache", bench_chase, always, prepare_chase_cache },
	{ "chase-memory", bench_chase, always, prepare_chase_memory },
	{ "tree", bench_tree, always, NULL },
	{ "memcpy", bench_memcpy, always, NULL },
	{ "byte-loop", bench_byte_loop, always, NULL },
	{ "hash", bench_hash, always, NULL },
	{ "compress", bench_compress, always, NULL },
	{ "mixed", bench_mixed, always, NULL },
	{ "lua", bench_lua, always, NULL },
	{ "deflate", bench_deflate, always, prepare_deflate },
	{ "inflate", bench_inflate, always, prepare_inflate },
	{ "double", bench_double, always, NULL },
	{ "matrix", bench_matrix, always, NULL },
	{ "x87", bench_x87, always, NULL },
	{ "aes", bench_aes, has_aes, NULL },
	{ "avx2", bench_avx2, has_avx2, NULL },
	{ "sha", bench_sha, has_sha, NULL },
	{ "syscall", bench_syscall, always, NULL },
	{ "page-fault", bench_page_fault, always, NULL },
	{ "fork", bench_fork, always, NULL },
	{ "exec", bench_exec, always, NULL },
	{ "pipe", bench_pipe, always, NULL },
	{ "file", bench_file, always, NULL },
	{ "switch", bench_switch, always, NULL },
	{ "atomics", bench_atomics, always, NULL },
};

/* The best of some short windows, here, in a guest and under TCG alike: what else the host does, which can
 * take half of a processor for a second, does not meet all of them. */
#define WINDOW_NS 30000000u
#define WINDOWS 8u

/* The least of some times that n iterations take. */
static uint64_t least(struct work *w, void (*run)(struct work *, uint64_t), uint64_t n, unsigned times)
{
	uint64_t best = ~0ull;

	for (unsigned i = 0; i < times; i++) {
		uint64_t t = bench_now_ns();

		run(w, n);
		t = bench_now_ns() - t;
		if (t < best)
			best = t;
	}
	return best;
}

static double measure(struct work *w, void (*run)(struct work *, uint64_t))
{
	uint64_t n = 1;

	/* One window that was long because somebody stood still says nothing: so the least of some. */
	while (n <= 1ull << 40 && (least(w, run, n, 1) < WINDOW_NS || least(w, run, n, 4) < WINDOW_NS))
		n *= 2;
	return (double)least(w, run, n, WINDOWS) / (double)n;
}

static bool wanted(const char *list, const char *name)
{
	const size_t len = strlen(name);

	for (const char *p = list; p && *p; p = strchr(p, ',') ? strchr(p, ',') + 1 : NULL) {
		if (strncmp(p, name, len) == 0 && (p[len] == ',' || p[len] == 0))
			return true;
	}
	return !list || !*list;
}

int main(int argc, char **argv)
{
	struct work w = { .self = "/proc/self/exe" };

	if (argc > 1 && strcmp(argv[1], "--nothing") == 0)
		return 0;
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc > 1 && strcmp(argv[1], "--latency") == 0)
		return bench_latency();
	w.a = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	w.b = mmap(NULL, BIG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (w.a == MAP_FAILED || w.b == MAP_FAILED)
		return 1;
	for (size_t i = 0; i < sizeof(benches) / sizeof(benches[0]); i++) {
		if (!wanted(argc > 1 ? argv[1] : NULL, benches[i].name) || !benches[i].there())
			continue;
		memset(w.a, 0x5a, BIG);
		memset(w.b, 0, BIG);
		if (benches[i].prepare)
			benches[i].prepare(&w);
		printf("bench %s %.3f\n", benches[i].name, measure(&w, benches[i].run));
	}
	return w.sink == 42;
}
