/* SPDX-License-Identifier: Apache-2.0 */
/* contract.c - runs the table of contract tests on the engines, or prints what it covers. */
#include "tests/contract/contract.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/checked.h"

#define TIME_LIMIT_S 120
#define EXIT_FAIL 1
#define EXIT_SKIP 77

static const struct suite *const suites[] = {
	&suite_life,  &suite_run,	 &suite_memory, &suite_traps,
	&suite_state, &suite_interrupts, &suite_options, &suite_access,
	&suite_smp,
};

struct totals {
	unsigned passed, failed, skipped;
};

static void say(const char *fmt, va_list ap)
{
	fputs("    ", stdout);
	vprintf(fmt, ap);
	putchar('\n');
	fflush(stdout);
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	printf("    %s:%d:\n", file, line);
	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	_exit(EXIT_FAIL);
}

void test_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	say(fmt, ap);
	va_end(ap);
	_exit(EXIT_SKIP);
}

static void log_line(void *opaque, int level, const char *line)
{
	(void)opaque;
	printf("    log %d: %s\n", level, line);
}

struct run { /* of one engine */
	enum vmx_engine engine;
	uint32_t soft_debug;
	bool emulated;
	const char *filter, *without;
	struct totals *sum;
};

static void run_child(const struct test *t, const struct run *run)
{
	struct env e = {
		.options = { .size = sizeof(e.options), .engine = run->engine,
			     .soft_debug = run->soft_debug, .log = log_line },
		.soft = run->engine == VMX_ENGINE_SOFT,
		.emulated = run->emulated,
	};

	alarm(TIME_LIMIT_S);
	t->run(&e);
	fflush(stdout);
	_exit(0);
}

static const char *verdict(int status, struct totals *sum)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		sum->passed++;
		return "pass";
	}
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP) {
		sum->skipped++;
		return "skip";
	}
	sum->failed++;
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		return "FAIL (hung)";
	if (WIFSIGNALED(status))
		return "FAIL (crashed)";
	return "FAIL";
}

static void run_test(const struct suite *s, const struct test *t, const struct run *run)
{
	int status = 0;
	pid_t pid;

	fflush(stdout);
	if (run->without && !strcmp(run->without, t->name)) {
		printf("%s %s/%s: skip (--without)\n", vmx_engine_name(run->engine), s->name, t->name);
		run->sum->skipped++;
		return;
	}
	pid = fork();
	if (pid == 0)
		run_child(t, run);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		status = 1 << 8;
	printf("%s %s/%s [%s]: %s\n", vmx_engine_name(run->engine), s->name, t->name, t->points,
	       verdict(status, run->sum));
}

/* Can this engine make a VM at all? In a child: a broken one must not end the run. */
static bool engine_is_there(enum vmx_engine engine)
{
	int status = 1;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		struct vmx_vm_options o = { .size = sizeof(o), .engine = engine, .log = log_line };
		struct vmx_vm *vm;
		int r = vmx_vm_create(&o, &vm);

		if (r < 0)
			printf("    vmx_vm_create: %s\n", strerror(-r));
		else
			vmx_vm_destroy(vm);
		fflush(stdout);
		_exit(r == -ENOTSUP || r == -EACCES ? EXIT_SKIP : 0);
	}
	if (pid > 0)
		waitpid(pid, &status, 0);
	return !(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP);
}

/* Is this KVM a software one? Only such a one may skip tests by need_hardware(). */
static bool kvm_emulates(void)
{
	struct vmx_probe p;
	int tries = 3; /* on a busy machine it may not have answered in time */

	do
		if (vmx_probe(&p) < 0)
			return false;
	while (!p.kvm.insns_per_second && --tries);
	printf("kvm: %s\n", p.kvm.why);
	return !p.kvm.usable && p.kvm.insns_per_second > 0;
}

static void run_engine(const struct run *run)
{
	if (!engine_is_there(run->engine)) {
		printf("%s: not on this machine: skip\n", vmx_engine_name(run->engine));
		run->sum->skipped++;
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(suites); i++)
		for (size_t n = 0; n < suites[i]->count; n++) {
			char name[128];

			snprintf(name, sizeof(name), "%s/%s", suites[i]->name,
				 suites[i]->tests[n].name);
			if (!run->filter || strstr(name, run->filter))
				run_test(suites[i], &suites[i]->tests[n], run);
		}
}

static bool names_point(const char *points, const char *point)
{
	size_t len = strlen(point);

	for (const char *p = strstr(points, point); p; p = strstr(p + 1, point))
		if ((p == points || p[-1] == ' ') && (p[len] == ' ' || !p[len]))
			return true;
	return false;
}

/* docs/vcpu-contract-coverage: which test holds which point. */
static void print_coverage(void)
{
	static const char *const points[] = {
		"Z1", "Z2", "Z3", "Z4", "Z5", "Z6", "Z7", "Z8", "W1", "W2", "W3", "W4", "W5",
		"W6", "W7", "W8", "W9", "W10", "W11", "W12", "W13", "K",
	};

	puts("# Which contract test holds which point of vcpu-contract.md (6.1 Z, 6.2 W, 6.3 K).\n"
	     "# Made by `contract --coverage`; do not edit.");
	for (size_t p = 0; p < ARRAY_SIZE(points); p++) {
		unsigned n = 0;

		printf("\n%s\n", points[p]);
		for (size_t i = 0; i < ARRAY_SIZE(suites); i++)
			for (size_t k = 0; k < suites[i]->count; k++)
				if (names_point(suites[i]->tests[k].points, points[p])) {
					printf("\t%s/%s\n", suites[i]->name,
					       suites[i]->tests[k].name);
					n++;
				}
		if (!n)
			puts("\t(none)");
	}
}

static int usage(FILE *f, int code)
{
	fputs("contract [--engine kvm|soft|all] [--soft-debug BITS] [--hardware] [--without TEST] "
	      "[--coverage] [FILTER]\n", f);
	return code;
}

int main(int argc, char **argv)
{
	struct totals sum = { 0, 0, 0 };
	const char *engine = "all", *filter = NULL, *without = NULL;
	uint32_t soft_debug = 0;
	bool hardware = false;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--coverage")) {
			print_coverage();
			return 0;
		} else if (!strcmp(argv[i], "--engine") && i + 1 < argc) {
			engine = argv[++i];
		} else if (!strcmp(argv[i], "--hardware")) { /* whatever the probe says of its speed */
			hardware = true;
		} else if (!strcmp(argv[i], "--without") && i + 1 < argc) {
			without = argv[++i];
		} else if (!strcmp(argv[i], "--soft-debug") && i + 1 < argc) {
			soft_debug = (uint32_t)strtoul(argv[++i], NULL, 0);
		} else if (argv[i][0] == '-') {
			return usage(stderr, 2);
		} else {
			filter = argv[i];
		}
	}
	if (strcmp(engine, "all") && strcmp(engine, "kvm") && strcmp(engine, "soft"))
		return usage(stderr, 2);
	if (strcmp(engine, "soft"))
		run_engine(&(struct run){ .engine = VMX_ENGINE_KVM, .emulated = !hardware && kvm_emulates(),
					  .filter = filter, .without = without, .sum = &sum });
	if (strcmp(engine, "kvm"))
		run_engine(&(struct run){ .engine = VMX_ENGINE_SOFT, .soft_debug = soft_debug,
					  .filter = filter, .without = without, .sum = &sum });
	printf("%u passed, %u failed, %u skipped\n", sum.passed, sum.failed, sum.skipped);
	if (sum.failed)
		return 1;
	return sum.passed ? 0 : EXIT_SKIP;
}
