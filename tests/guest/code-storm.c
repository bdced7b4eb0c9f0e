/* SPDX-License-Identifier: Apache-2.0 */
/*
 * code-storm.c - inside a guest: makes code as fast as it can, which no code cache keeps for long.
 *
 * code-storm MIB [THREADS] writes MIB MiB of functions, no two alike, from each of THREADS threads (1), calls
 * each as it is made and some of the older ones again, and compares what they return with a model of them.
 * Beside them a thread looks at the clock most of the time. It says "code-storm: ok", and how long that
 * thread stood still.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 64u
#define OPS 40u /* of a function */
#define FUNCTION_BYTES 512u /* at most */
#define DATA_WORDS 64u
#define AGAIN_EVERY 8u /* calls an old one */
#define PART (1u << 20) /* bytes that become code at once */
#define LONG_NS 10000000ull
/* Nobody needs all of a processor: from a real-time thread that does a host takes it for 50 ms. */
#define WATCH_NS 400000ull /* at a stretch */
#define AT_A_STRETCH 64u   /* functions */
#define REST_US 1000u

static _Atomic bool stop;
static _Atomic uint64_t functions, old_ones;

static _Noreturn void wrong(const char *what, uint64_t got, uint64_t want)
{
	printf("code-storm: WRONG: %s is %#llx, not %#llx\n", what, (unsigned long long)got,
	       (unsigned long long)want);
	fflush(stdout);
	_exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* --- functions: uint32_t f(uint32_t data[DATA_WORDS]) ------------------------------------------ */

enum { ADD, XOR, MUL, ROL, LOAD, STORE, SKIP, KINDS };

struct op {
	unsigned kind;
	uint32_t value; /* immediate, or word of data */
};

/* The i-th operation of the function of that number. */
static struct op op_of(uint64_t function, unsigned i)
{
	uint64_t h = (function * OPS + i + 1) * 0x9e3779b97f4a7c15ull;

	h ^= h >> 29;
	h *= 0xbf58476d1ce4e5b9ull;
	h ^= h >> 32;
	return (struct op){ (unsigned)(h >> 33) % KINDS, (uint32_t)h };
}

static uint32_t word_of(uint32_t value)
{
	return value % DATA_WORDS;
}

static uint32_t model(uint64_t function, uint32_t data[DATA_WORDS])
{
	uint32_t a = (uint32_t)function;

	for (unsigned i = 0; i < OPS; i++) {
		struct op op = op_of(function, i);

		switch (op.kind) {
		case ADD: a += op.value; break;
		case XOR: a ^= op.value; break;
		case MUL: a *= op.value | 1; break;
		case ROL: a = a << (op.value & 15) | (uint32_t)((uint64_t)a >> (32 - (op.value & 15))); break;
		case LOAD: a += data[word_of(op.value)]; break;
		case STORE: data[word_of(op.value)] = a; break;
		default: a += a < op.value ? 0 : op.value; break;
		}
	}
	return a;
}

static uint8_t *put(uint8_t *p, const char *bytes, size_t n, uint32_t value)
{
	memcpy(p, bytes, n);
	memcpy(p + n, &value, sizeof(value));
	return p + n + sizeof(value);
}

static void emit(uint8_t *p, uint64_t function)
{
	p = put(p, "\xb8", 1, (uint32_t)function); /* mov $, %eax */
	for (unsigned i = 0; i < OPS; i++) {
		struct op op = op_of(function, i);

		switch (op.kind) {
		case ADD: p = put(p, "\x05", 1, op.value); break;
		case XOR: p = put(p, "\x35", 1, op.value); break;
		case MUL: p = put(p, "\x69\xc0", 2, op.value | 1); break;
		case ROL:
			*p++ = 0xc1;
			*p++ = 0xc0;
			*p++ = op.value & 15;
			break;
		case LOAD: p = put(p, "\x03\x87", 2, word_of(op.value) * 4); break; /* add $(%rdi), %eax */
		case STORE: p = put(p, "\x89\x87", 2, word_of(op.value) * 4); break;
		default: /* cmp $, %eax; jb over the next; add $, %eax */
			p = put(p, "\x3d", 1, op.value);
			p = put(p, "\x72\x05\x05", 3, op.value);
			break;
		}
	}
	*p = 0xc3;
}

/* --- threads ------------------------------------------------------------------------------------ */

struct maker {
	pthread_t thread;
	uint64_t first; /* number of its first function */
	size_t bytes;
	uint8_t *code;
	uint32_t data[DATA_WORDS], expected[DATA_WORDS];
};

static void check(struct maker *m, uint64_t n)
{
	uint32_t (*fn)(uint32_t *) = (uint32_t(*)(uint32_t *))(uintptr_t)(m->code + n * FUNCTION_BYTES);
	uint32_t want = model(m->first + n, m->expected), got = fn(m->data);

	if (got != want)
		wrong("the value of a function", got, want);
}

static void *make(void *arg)
{
	struct maker *m = arg;
	const unsigned each = PART / FUNCTION_BYTES;
	uint64_t random = m->first + 1;

	for (size_t at = 0; at < m->bytes; at += PART) {
		uint64_t first = at / FUNCTION_BYTES;

		for (uint64_t n = first; n < first + each; n++)
			emit(m->code + n * FUNCTION_BYTES, m->first + n);
		if (mprotect(m->code + at, PART, PROT_READ | PROT_EXEC))
			wrong("mprotect", (uint64_t)errno, 0);
		for (uint64_t n = first; n < first + each; n++) {
			check(m, n);
			functions++;
			if (n % AT_A_STRETCH == 0)
				usleep(REST_US);
			if (n % AGAIN_EVERY)
				continue;
			random = random * 6364136223846793005ull + 1442695040888963407ull;
			check(m, (random >> 33) % (n + 1));
			old_ones++;
		}
	}
	if (memcmp(m->data, m->expected, sizeof(m->data)) != 0)
		wrong("what functions stored: words that differ", 1, 0);
	return NULL;
}

struct pulse {
	uint64_t longest, count; /* gaps over LONG_NS */
};

static void *watch(void *arg)
{
	struct pulse *pulse = arg;

	while (!stop) {
		uint64_t began = now_ns(), last = began;

		while (last - began < WATCH_NS) {
			uint64_t now = now_ns(), gap = now - last;

			if (gap > pulse->longest)
				pulse->longest = gap;
			pulse->count += gap > LONG_NS;
			last = now;
		}
		usleep(REST_US / 10);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	static struct maker makers[THREADS_MAX];
	unsigned threads = argc > 2 ? (unsigned)atoi(argv[2]) : 1, mib = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
	struct pulse pulse = { 0 };
	uint64_t began = now_ns();
	pthread_t watcher;

	if (!mib || !threads || threads > THREADS_MAX) {
		fputs("code-storm MIB [THREADS]\n", stderr);
		return 2;
	}
	if (pthread_create(&watcher, NULL, watch, &pulse))
		wrong("pthread_create", (uint64_t)errno, 0);
	for (unsigned i = 0; i < threads; i++) {
		struct maker *m = &makers[i];

		m->first = (uint64_t)i << 32;
		m->bytes = (size_t)mib << 20;
		m->code = mmap(NULL, m->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (m->code == MAP_FAILED || pthread_create(&m->thread, NULL, make, m))
			wrong("a thread or its memory", (uint64_t)errno, 0);
	}
	for (unsigned i = 0; i < threads; i++)
		pthread_join(makers[i].thread, NULL);
	stop = true;
	pthread_join(watcher, NULL);
	printf("code-storm: ok: %llu functions and %llu again in %llu ms; the clock stood still for %llu us, "
	       "%llu times over 10 ms\n", (unsigned long long)functions, (unsigned long long)old_ones,
	       (unsigned long long)((now_ns() - began) / 1000000), (unsigned long long)(pulse.longest / 1000),
	       (unsigned long long)pulse.count);
	return 0;
}
