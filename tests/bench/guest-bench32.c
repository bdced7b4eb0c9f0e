/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest-bench32.c - a 32-bit Linux program without a libc: what guest-bench is for 64-bit code. Prints
 * `bench NAME NS`, nanoseconds an iteration, the best of several runs. Argument: a comma-separated list of
 * names; none: all.
 * --check: does a fixed amount of each instead, and prints `check NAME good`, or what came out.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WORDS 0x40000u /* of each array: 1 MiB */

static uint32_t a[WORDS], b[WORDS];

/* --- the system ----------------------------------------------------------------------------------- */

enum { NR_EXIT = 1, NR_WRITE = 4, NR_GETPPID = 64, NR_SET_THREAD_AREA = 243, NR_CLOCK_GETTIME = 265 };

static int system_call(int nr, int arg0, const void *arg1, size_t arg2)
{
	int r;

	__asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(arg0), "c"(arg1), "d"(arg2) : "memory");
	return r;
}

static uint64_t now_ns(void)
{
	struct { int32_t s, ns; } t = { 0, 0 };

	system_call(NR_CLOCK_GETTIME, 1, &t, 0);
	return (uint64_t)(uint32_t)t.s * 1000000000u + (uint32_t)t.ns;
}

static void print(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	system_call(NR_WRITE, 1, s, n);
}

static void print_number(uint32_t v)
{
	char digits[11], *p = digits + sizeof(digits);

	for (*--p = 0; v > 9; v /= 10)
		*--p = (char)('0' + v % 10);
	*--p = (char)('0' + v);
	print(p);
}

static bool listed(const char *list, const char *name)
{
	size_t n = 0;

	for (; *list; list += n + (list[n] == ',')) {
		bool same = true;

		for (n = 0; list[n] && list[n] != ','; n++)
			same = same && list[n] == name[n];
		if (same && !name[n])
			return true;
	}
	return false;
}

/* The compiler's own calls; by string instructions, as kernels and C libraries have them. */
void *memcpy(void *dst, const void *src, size_t n);
void *memset(void *dst, int c, size_t n);

void *memcpy(void *dst, const void *src, size_t n)
{
	void *to = dst;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(src), "+c"(n) : : "memory");
	return dst;
}

void *memset(void *dst, int c, size_t n)
{
	void *to = dst;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(c) : "memory");
	return dst;
}

/* --- the work: each gives a number that depends on all it did ------------------------------------------ */

static uint32_t next_random(uint32_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 17;
	*s ^= *s << 5;
	return *s;
}

static uint32_t work_alu(uint32_t n)
{
	uint32_t x = 1, y = 2;

	for (uint32_t i = 0; i < n; i++) {
		x = x * 3 + (y >> 7);
		y ^= x + i;
		x = (x << 13 | x >> 19) - y;
		if (x & 64)
			y += 5;
	}
	return x + y;
}

__attribute__((noinline)) static uint32_t fibonacci(uint32_t n)
{
	return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint32_t work_call(uint32_t n)
{
	uint32_t sum = 0;

	for (uint32_t i = 0; i < n; i++)
		sum += fibonacci(12);
	return sum;
}

static uint32_t work_byte_loop(uint32_t n)
{
	const uint8_t *from = (const uint8_t *)a;
	uint8_t *to = (uint8_t *)b;
	uint32_t sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k < 4096; k++) {
			to[k] = (uint8_t)(from[k] + i);
			sum += to[k];
		}
	}
	return sum;
}

static uint32_t work_copy(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k < 1024; k++) {
			b[k] = a[k];
			__asm__ volatile("" : : : "memory"); /* no memcpy() */
		}
		a[i % 1024] += b[(i + 1) % 1024];
	}
	return b[n % 1024];
}

static uint32_t work_memcpy(uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		memcpy(b, a, 65536);
		a[i % 1024] += b[(i + 1) % 1024];
	}
	return b[n % 1024];
}

static void sort(uint32_t *v, int lo, int hi)
{
	while (lo < hi) {
		uint32_t pivot = v[(lo + hi) / 2];
		int i = lo, j = hi;

		while (i <= j) {
			while (v[i] < pivot)
				i++;
			while (v[j] > pivot)
				j--;
			if (i <= j) {
				uint32_t t = v[i];

				v[i++] = v[j];
				v[j--] = t;
			}
		}
		sort(v, lo, j);
		lo = i;
	}
}

static uint32_t work_sort(uint32_t n)
{
	uint32_t seed = 9, sum = 0;

	for (uint32_t i = 0; i < n; i++) {
		for (uint32_t k = 0; k < 1000; k++)
			b[k] = next_random(&seed);
		sort(b, 0, 999);
		sum = sum * 5 + b[500];
	}
	return sum;
}

/* Words of a ring in an order that no processor guesses. */
static uint32_t work_chase(uint32_t n)
{
	const uint32_t members = 2048;
	uint32_t at = 0, step = 773; /* odd: goes round all of them */

	for (uint32_t k = 0; k < members; k++)
		b[k] = (k + step) % members;
	for (uint32_t i = 0; i < n; i++)
		at = b[at];
	return at;
}

static uint32_t work_hash(uint32_t n)
{
	const uint8_t *p = (const uint8_t *)a;
	uint32_t sum = 0;

	for (uint32_t k = 0; k < 256; k++) {
		uint32_t c = k;

		for (int bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
		b[k] = c;
	}
	for (uint32_t i = 0; i < n; i++) {
		uint32_t crc = ~i;

		for (uint32_t k = 0; k < 1024; k++)
			crc = crc >> 8 ^ b[(crc ^ p[k]) & 255];
		sum += crc;
	}
	return sum;
}

static uint32_t twice(uint32_t x) { return x * 2 + 1; }
static uint32_t third(uint32_t x) { return x / 3 + 7; }
static uint32_t turned(uint32_t x) { return x << 5 | x >> 27; }

static uint32_t work_indirect(uint32_t n)
{
	static uint32_t (*const volatile way[])(uint32_t) = { twice, third, turned, twice };
	uint32_t x = 1;

	for (uint32_t i = 0; i < n; i++)
		x = way[(x >> 3) & 3](x);
	return x;
}

/* 64-bit numbers in pairs of registers, which 32-bit programs have a lot of. */
static uint32_t work_long(uint32_t n)
{
	uint64_t x = 0x0123456789abcdefull, y = 1;

	for (uint32_t i = 0; i < n; i++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		y += (x >> 33) ^ y << 1;
	}
	return (uint32_t)(x >> 32) ^ (uint32_t)y;
}

/* Thread-local storage, as the C library addresses it: GS with a base. */
static uint32_t tls[16];
static bool tls_made;

static uint32_t work_tls(uint32_t n)
{
	struct { uint32_t entry, base, limit, flags; } desc = {
		~0u, (uint32_t)(uintptr_t)&tls[8], 0xfffff, 0x51 /* 32-bit, pages, useable */
	};
	uint32_t x = 3;

	if (!tls_made && system_call(NR_SET_THREAD_AREA, (int)(uintptr_t)&desc, NULL, 0) == 0) {
		__asm__ volatile("mov %0, %%gs" : : "r"(desc.entry * 8 + 3));
		tls_made = true;
	}
	tls[4] = tls[9] = 0;
	for (uint32_t i = 0; i < n && tls_made; i++) {
		__asm__ volatile("addl %1, %%gs:-16\n\tmovl %%gs:-16, %0\n\tmovl %0, %%gs:4"
				 : "=r"(x) : "r"(i) : "memory");
	}
	return x + tls[4] + tls[9];
}

static uint32_t work_syscall(uint32_t n)
{
	uint32_t good = 0;

	for (uint32_t i = 0; i < n; i++)
		good += system_call(NR_GETPPID, 0, NULL, 0) >= 0;
	return good;
}

static const struct {
	const char *name;
	uint32_t (*work)(uint32_t n);
	uint32_t amount, result; /* of --check */
} works[] = {
	{ "alu32", work_alu, 100000, 2707568252 },
	{ "call32", work_call, 100, 14400 },
	{ "byte-loop32", work_byte_loop, 20, 10302832 },
	{ "copy32", work_copy, 100, 4232956473 },
	{ "memcpy32", work_memcpy, 100, 4232956473 },
	{ "sort32", work_sort, 30, 3540172593 },
	{ "chase32", work_chase, 100000, 288 },
	{ "hash32", work_hash, 100, 163058638 },
	{ "indirect32", work_indirect, 50000, 10 },
	{ "long32", work_long, 50000, 4071244050 },
	{ "tls32", work_tls, 20000, 599970000 },
	{ "syscall32", work_syscall, 1000, 1000 },
};
#define WORKS (sizeof(works) / sizeof(works[0]))

static void fill(void)
{
	uint32_t seed = 2463534242u;

	for (uint32_t i = 0; i < WORDS; i++)
		a[i] = next_random(&seed);
}

/* --- timing ------------------------------------------------------------------------------------------- */

static volatile uint32_t sink;

static uint32_t timed(size_t k, uint32_t n)
{
	uint64_t start = now_ns();

	sink += works[k].work(n);
	return (uint32_t)(now_ns() - start);
}

/* The least of some times, as guest-bench.c has it. */
static uint32_t least(size_t k, uint32_t n, unsigned times)
{
	uint32_t best = ~0u;

	for (unsigned i = 0; i < times; i++) {
		uint32_t t = timed(k, n);

		best = t < best ? t : best;
	}
	return best;
}

static void bench(size_t k)
{
	uint32_t n = 1, best, tenths;

	while (n < 1u << 30 && (least(k, n, 1) < 10000000 || least(k, n, 4) < 10000000))
		n *= 2;
	best = least(k, n, 20);
	tenths = best / n < 100000 ? best / n * 10 + best % n * 10 / n : best / n * 10;
	print("bench ");
	print(works[k].name);
	print(" ");
	print_number(tenths / 10);
	print(".");
	print_number(tenths % 10);
	print("\n");
}

static void check(size_t k)
{
	uint32_t result;

	fill();
	result = works[k].work(works[k].amount);
	print("check ");
	print(works[k].name);
	print(" ");
	if (result == works[k].result)
		print("good");
	else
		print_number(result);
	print("\n");
}

__attribute__((used)) static void run(int argc, char **argv)
{
	bool checks = argc > 1 && listed(argv[1], "--check");

	fill();
	for (size_t k = 0; k < WORKS; k++) {
		if (checks)
			check(k);
		else if (argc < 2 || listed(argv[1], works[k].name))
			bench(k);
	}
	system_call(NR_EXIT, 0, NULL, 0);
}

/* The kernel leaves argc and argv on the stack. */
__asm__(".globl _start\n"
	"_start:\n"
	"	mov %esp, %eax\n"
	"	and $-16, %esp\n"
	"	sub $8, %esp\n"
	"	lea 4(%eax), %edx\n"
	"	push %edx\n"
	"	push (%eax)\n"
	"	call run\n"
	"	hlt\n");
