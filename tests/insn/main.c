/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the program: which cases, on which engine, in which modes; counts and reports. */
#include <config.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/insn/insn.h"
#include "tests/insn/prog_run.h"
#include "vmx-driver/vmx.h"

enum { KIND_SINGLE = 1, KIND_SEQUENCE = 2, KIND_SPECIAL = 4, KIND_LOOP = 8, KIND_PROGRAM = 16 };
#define REPORTS_MAX 12u
#define ENGINE_NATIVE 99 /* the native side against itself: is every case repeatable? */

struct options {
	uint64_t seed, count, programs;
	int64_t only_case;
	const char *only;
	int engine;
	uint32_t debug;
	bool all_modes, verbose, inject;
	unsigned kinds, modes, cpls; /* cpls: bit 0 and bit 3 */
	unsigned reports, program_cpus;
};

struct run {
	const struct options *o;
	uint8_t (*templates)[MEM_SIZE];
	struct native *native, *again; /* again: ENGINE_NATIVE */
	struct guest *guest;
	struct features host_features, features;
	struct test_case *tc;
	struct outcome *native_out, *guest_out;
	uint64_t passed, failed, skipped, reported, to_end; /* to_end: natively up to its INT3 */
	uint32_t *failed_by_mnemonic; /* of forms now running */
	const char *how;
};

static const struct {
	const char *name;
	uint32_t flag;
} debug_modes[] = {
	{ "step", VMX_SOFT_STEP_ONLY }, { "one", VMX_SOFT_ONE_INSN }, { "nochain", VMX_SOFT_NO_CHAIN },
	{ "notlb", VMX_SOFT_NO_TLB },	{ "tiny", VMX_SOFT_TINY_CACHE },
	{ "moved", VMX_SOFT_MOVED_CODE }, { "runs", VMX_SOFT_RUNS },
};

/* --- one batch ------------------------------------------------------------------------------------- */

static int run_guest_side(struct run *run, const struct test_case *tc, size_t n, unsigned cpl,
			  struct outcome *out);

/* Cuts a sequence after its first instruction that makes a difference; the results are the cut
 * case's. Undefined flags may stand at the new end: a cut that differs in flags only is no cut. */
static void shorten(struct run *run, struct test_case *tc, unsigned cpl, struct outcome *out)
{
	struct test_case cut = *tc;
	ZydisDecoder decoder;
	ZydisDecodedInstruction d;
	unsigned at = 0;

	ZydisDecoderInit(&decoder, tc->mode == MODE_64 ? ZYDIS_MACHINE_MODE_LONG_64 : ZYDIS_MACHINE_MODE_LEGACY_32,
			 tc->mode == MODE_64 ? ZYDIS_STACK_WIDTH_64 : ZYDIS_STACK_WIDTH_32);
	while (at < tc->code_len &&
	       ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, tc->code + at,
							  tc->code_len - at, &d))) {
		at += d.length;
		cut.code_len = (uint16_t)at;
		cut.undefined = cut.undefined_anywhere = FL_ARITH;
		if (native_run(run->native, &cut, 1, &out[0]) < 0 ||
		    run_guest_side(run, &cut, 1, cpl, &out[1]) < 0)
			break;
		if (at == tc->code_len)
			break;
		if (out[0].status == RAN && compare(&cut, cpl, &out[0], &out[1])) {
			*tc = cut;
			return;
		}
	}
	if (native_run(run->native, tc, 1, &out[0]) < 0 || run_guest_side(run, tc, 1, cpl, &out[1]) < 0)
		printf("running it again failed\n");
}

static void count_failure(struct run *run, const struct test_case *tc, unsigned cpl,
			  const struct outcome *n, const struct outcome *g)
{
	struct outcome *again;
	struct test_case cut = *tc;

	run->failed++;
	if (run->reported++ >= run->o->reports)
		return;
	again = calloc(2, sizeof(*again));
	if (again && strcmp(tc->name, "sequence") == 0 && run->o->engine != ENGINE_NATIVE) {
		shorten(run, &cut, cpl, again);
		if (compare(&cut, cpl, &again[0], &again[1]))
			report(&cut, cpl, &again[0], &again[1], run->how);
		else
			report(tc, cpl, n, g, run->how);
	} else {
		report(tc, cpl, n, g, run->how);
	}
	free(again);
	fflush(stdout);
}

/* Makes outcomes wrong in one of the ways that compare() must see. */
static void inject(struct outcome *o, uint64_t n)
{
	if (o->status != RAN)
		return;
	switch (n % 10) {
	case 0: o->out.rip ^= 1; break;
	case 1: o->vector ^= 0x20; break;
	case 2: o->out.gpr[n / 10 % 8] ^= 1ull << (n % 32); break;
	case 3: o->out.rflags ^= FL_DF; break;
	case 4: o->out.xs.ymm[n / 10 % 8][n % 32] ^= 0x10; break;
	case 5: o->out.xs.st[n / 10 % 8][n % 10] ^= 1; break;
	case 6: o->mem[n * 977 % MEM_SIZE] ^= 0x80; break;
	case 7: o->out.xs.mxcsr ^= 0x20; break;
	case 8: o->out.xs.fsw ^= 0x100; break;
	default: o->status = HUNG; break;
	}
}

static int run_guest_side(struct run *run, const struct test_case *tc, size_t n, unsigned cpl,
			  struct outcome *out)
{
	int r;

	if (run->o->engine != ENGINE_NATIVE)
		return guest_run(run->guest, tc, n, cpl, out);
	r = native_run(run->again, tc, n, out);
	for (size_t i = 0; i < n && run->o->inject; i++)
		inject(&out[i], tc[i].index);
	return r;
}

static int run_batch(struct run *run, size_t n, uint64_t *native_ns, uint64_t *guest_ns)
{
	uint64_t t = clock_monotonic_ns();
	int r = native_run(run->native, run->tc, n, run->native_out);

	if (r < 0)
		return r;
	*native_ns += clock_monotonic_ns() - t;
	for (size_t i = 0; i < n; i++)
		run->to_end += run->native_out[i].status == RAN && run->native_out[i].vector == 3;
	for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
		if (!(run->o->cpls >> cpl & 1))
			continue;
		t = clock_monotonic_ns();
		r = run_guest_side(run, run->tc, n, cpl, run->guest_out);
		if (r < 0)
			return r;
		*guest_ns += clock_monotonic_ns() - t;
		for (size_t i = 0; i < n; i++) {
			const struct test_case *tc = &run->tc[i];

			if (cpl == 0 && tc->cpl3_only)
				continue;
			if (run->native_out[i].status != RAN) {
				run->skipped++;
				printf("skip: case %" PRIu64 " (%s) %s on the processor itself\n",
				       tc->index, tc->name,
				       run->native_out[i].status == HUNG ? "hangs" : "kills the child");
			} else if (compare(tc, cpl, &run->native_out[i], &run->guest_out[i])) {
				count_failure(run, tc, cpl, &run->native_out[i], &run->guest_out[i]);
				if (run->failed_by_mnemonic)
					run->failed_by_mnemonic[tc->index]++;
			} else {
				run->passed++;
			}
			if (run->o->verbose)
				report(tc, cpl, &run->native_out[i], &run->guest_out[i], run->how);
		}
	}
	return 0;
}

/* --- kinds ------------------------------------------------------------------------------------------- */

static const char *mode_name(unsigned mode)
{
	return mode == MODE_64 ? "64-bit" : "32-bit";
}

static const char *kind_name(unsigned kind)
{
	return kind == KIND_SINGLE ? "single instructions" : kind == KIND_LOOP ? "loops" : "sequences";
}

static void summary(const struct run *run, const char *kind, unsigned mode, uint64_t cases,
		    uint64_t failed_before, uint64_t native_ns, uint64_t guest_ns)
{
	printf("%s, %s, %s: %" PRIu64 " cases (%" PRIu64 " without a fault), %" PRIu64
	       " differ (native %.2f s, guest %.2f s)\n",
	       run->how, mode_name(mode), kind, cases, run->to_end, run->failed - failed_before,
	       (double)native_ns / 1e9, (double)guest_ns / 1e9);
	fflush(stdout);
}

static void list_failing(const struct forms *forms, const uint32_t *failed, uint64_t count)
{
	unsigned listed = 0;

	for (size_t m = 0; m < forms->mnemonic_count; m++) {
		uint64_t n = 0;

		for (uint64_t i = m; i < count; i += forms->mnemonic_count)
			n += failed[i];
		if (n && listed++ < 200)
			printf("%s%s:%" PRIu64, listed == 1 ? "  differing: " : " ",
			       ZydisMnemonicGetString(forms->mnemonics[m]), n);
	}
	if (listed)
		printf("\n");
}

static int run_generated(struct run *run, unsigned mode, unsigned kind)
{
	const struct options *o = run->o;
	const uint64_t before = run->failed;
	uint64_t native_ns = 0, guest_ns = 0, first = 0, end = o->count;
	uint32_t *failed = NULL;
	struct forms forms;
	int r;

	run->to_end = 0;
	r = forms_init(&forms, (uint8_t)mode, &run->host_features, &run->features, o->only);

	if (r == 0 && !forms.count) {
		printf("skip: no such instruction in %s mode\n", mode_name(mode));
		run->skipped++;
		goto out;
	}
	if (kind != KIND_SINGLE)
		end /= 2;
	if (o->only_case >= 0)
		first = (uint64_t)o->only_case, end = first + 1;
	failed = calloc(end, sizeof(*failed));
	if (r == 0 && !failed)
		r = -ENOMEM;
	run->failed_by_mnemonic = failed;
	for (uint64_t i = first; i < end && r == 0; i += CODE_SLOTS) {
		const size_t n = end - i < CODE_SLOTS ? (size_t)(end - i) : CODE_SLOTS;

		for (size_t k = 0; k < n; k++) {
			if (kind == KIND_SINGLE)
				generate_single(&run->tc[k], &forms, o->seed, i + k);
			else if (kind == KIND_LOOP)
				generate_loop(&run->tc[k], o->seed, i + k);
			else
				generate_sequence(&run->tc[k], &forms, o->seed, i + k);
		}
		r = run_batch(run, n, &native_ns, &guest_ns);
	}
	if (r == 0) {
		summary(run, kind_name(kind), mode, end - first, before, native_ns, guest_ns);
		if (kind == KIND_SINGLE)
			list_failing(&forms, failed, end);
	}
out:
	run->failed_by_mnemonic = NULL;
	free(failed);
	forms_fini(&forms);
	return r;
}

static int run_special(struct run *run)
{
	const uint64_t before = run->failed;
	uint64_t native_ns = 0, guest_ns = 0;
	int r = 0;

	for (size_t i = 0; i < special_count() && r == 0; i += CODE_SLOTS) {
		const size_t left = special_count() - i, n = left < CODE_SLOTS ? left : CODE_SLOTS;

		if (run->o->only_case >= 0 && ((size_t)run->o->only_case < i ||
					       (size_t)run->o->only_case >= i + n))
			continue;
		for (size_t k = 0; k < n; k++)
			special_case(&run->tc[k], i + k);
		if (run->o->only_case >= 0) {
			run->tc[0] = run->tc[(size_t)run->o->only_case - i];
			r = run_batch(run, 1, &native_ns, &guest_ns);
		} else {
			r = run_batch(run, n, &native_ns, &guest_ns);
		}
	}
	printf("%s: %zu hand-written cases, %" PRIu64 " differ\n", run->how, special_count(),
	       run->failed - before);
	fflush(stdout);
	return r;
}

static int run_other_side(void *opaque, const struct test_case *tc, size_t n, unsigned cpl,
			  struct outcome *out)
{
	return run_guest_side(opaque, tc, n, cpl, out);
}

static int run_programs(struct run *run, unsigned mode)
{
	const struct options *o = run->o;
	const struct program_sides sides = { .native = run->native, .run = run_other_side, .opaque = run,
					     .cpls = o->cpls, .reports = o->reports, .how = run->how };
	const struct program_cpus cpus = { .first = run->guest, .count = o->program_cpus,
					   .templates = (const uint8_t (*)[MEM_SIZE])run->templates };
	struct program_counts counts = { 0 };
	const uint64_t first = o->only_case >= 0 ? (uint64_t)o->only_case : 0;
	const uint64_t end = o->only_case >= 0 ? first + 1 : o->programs, t = clock_monotonic_ns();
	struct forms forms;
	int r = forms_init(&forms, (uint8_t)mode, &run->host_features, &run->features, NULL);

	if (r == 0)
		r = programs_run(&sides, &cpus, &forms, o->seed, first, end, &counts);
	forms_fini(&forms);
	run->passed += counts.passed;
	run->failed += counts.failed;
	run->skipped += counts.skipped;
	printf("%s, %s, programs: %" PRIu64 " (%" PRIu64 " to their end), %" PRIu64 " differ (%.2f s)\n",
	       run->how, mode_name(mode), end - first, counts.to_end, counts.failed, (double)(clock_monotonic_ns() - t) / 1e9);
	fflush(stdout);
	return r;
}

/* All that was asked for, on one engine in one of its modes. */
static int run_on(struct run *run, uint32_t debug, const char *how)
{
	const struct options *o = run->o;
	int r = 0;

	run->how = how;
	run->reported = 0;
	if (o->engine == ENGINE_NATIVE) {
		run->features = run->host_features;
	} else {
		r = guest_new(&run->guest, (const uint8_t (*)[MEM_SIZE])run->templates, o->engine, debug,
			      o->program_cpus);
		if (r == 0)
			r = guest_features(run->guest, &run->features);
		if (r < 0)
			printf("%s: the guest cannot be set up: %s\n", how, strerror(-r));
	}
	if (r == 0 && o->kinds & KIND_SPECIAL)
		r = run_special(run);
	for (unsigned mode = 0; mode < 2 && r == 0; mode++) {
		if (!(o->modes >> mode & 1))
			continue;
		if (o->kinds & KIND_SINGLE)
			r = run_generated(run, mode, KIND_SINGLE);
		if (r == 0 && o->kinds & KIND_SEQUENCE)
			r = run_generated(run, mode, KIND_SEQUENCE);
		if (r == 0 && mode == MODE_64 && o->kinds & KIND_LOOP)
			r = run_generated(run, mode, KIND_LOOP);
		if (r == 0 && o->kinds & KIND_PROGRAM)
			r = run_programs(run, mode);
	}
	run->guest = guest_free(run->guest);
	return r;
}

/* --- options ----------------------------------------------------------------------------------------- */

static const char usage_text[] =
	"usage: insn [OPTIONS]\n"
	"Runs generated and hand-written instructions on this processor and in a guest; compares.\n"
	"  --engine soft|kvm|native   native: the processor against itself (default soft)\n"
	"  --debug MODE[,MODE]|all    soft engine: step one nochain notlb tiny moved; all: each after the other\n"
	"  --count N                  cases of each kind (sequences, loops: half) (default 20000)\n"
	"  --seed N                   another seed gives other cases\n"
	"  --programs N               programs with branches, loops and calls in each mode (default: count / 20);\n"
	"                             those alone unless --kind is there\n"
	"  --cpus N                   programs on so many processors of one guest at once (at most 8)\n"
	"  --kind single|sequence|special|loop|program   default: all\n"
	"  --mode 64|32, --cpl 0|3    default: both\n"
	"  --only MNEMONIC            single instructions of that name only\n"
	"  --case N                   one case of a seed\n"
	"  --reports N                how many differences to print in full\n"
	"  --inject                   with --engine native: falsify each result; all must differ\n"
	"  --verbose\n";

static bool parse_debug(const char *arg, struct options *o)
{
	char copy[64], *save = NULL;

	if (strcmp(arg, "all") == 0) {
		o->all_modes = true;
		return true;
	}
	snprintf(copy, sizeof(copy), "%s", arg);
	for (char *p = strtok_r(copy, ",", &save); p; p = strtok_r(NULL, ",", &save)) {
		bool known = false;

		for (size_t i = 0; i < sizeof(debug_modes) / sizeof(debug_modes[0]); i++) {
			if (strcmp(p, debug_modes[i].name) == 0) {
				o->debug |= debug_modes[i].flag;
				known = true;
			}
		}
		if (!known)
			return false;
	}
	return true;
}

static bool parse_word(const char *arg, const char *const *words, const unsigned *values, size_t n,
		       unsigned *ret)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(arg, words[i]) == 0) {
			*ret = values[i];
			return true;
		}
	}
	return false;
}

static bool parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
		{ "engine", 1, NULL, 'e' }, { "debug", 1, NULL, 'd' },	 { "count", 1, NULL, 'c' },
		{ "seed", 1, NULL, 's' },   { "kind", 1, NULL, 'k' },	 { "mode", 1, NULL, 'm' },
		{ "cpl", 1, NULL, 'p' },    { "only", 1, NULL, 'o' },	 { "case", 1, NULL, 'n' },
		{ "inject", 0, NULL, 'i' }, { "verbose", 0, NULL, 'v' }, { "help", 0, NULL, 'h' },
		{ "reports", 1, NULL, 'r' }, { "programs", 1, NULL, 'P' }, { "cpus", 1, NULL, 'C' },
		{ NULL, 0, NULL, 0 },
	};
	static const char *const engines[] = { "soft", "kvm", "native" };
	static const unsigned engine_values[] = { VMX_ENGINE_SOFT, VMX_ENGINE_KVM, ENGINE_NATIVE };
	static const char *const kinds[] = { "single", "sequence", "special", "loop", "program" };
	static const unsigned kind_values[] = { KIND_SINGLE, KIND_SEQUENCE, KIND_SPECIAL,
						KIND_LOOP, KIND_PROGRAM };
	static const char *const modes[] = { "64", "32" }, *const cpls[] = { "0", "3" };
	static const unsigned mode_values[] = { 1, 2 }, cpl_values[] = { 1, 8 };
	unsigned engine = VMX_ENGINE_SOFT;
	bool good = true;
	int c;

	while (good && (c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		switch (c) {
		case 'e': good = parse_word(optarg, engines, engine_values, 3, &engine); break;
		case 'd': good = parse_debug(optarg, o); break;
		case 'c': o->count = strtoull(optarg, NULL, 0); break;
		case 's': o->seed = strtoull(optarg, NULL, 0); break;
		case 'k': good = parse_word(optarg, kinds, kind_values, 5, &o->kinds); break;
		case 'm': good = parse_word(optarg, modes, mode_values, 2, &o->modes); break;
		case 'p': good = parse_word(optarg, cpls, cpl_values, 2, &o->cpls); break;
		case 'o': o->only = optarg, o->kinds = KIND_SINGLE; break;
		case 'n': o->only_case = (int64_t)strtoull(optarg, NULL, 0); break;
		case 'r': o->reports = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'P': o->programs = strtoull(optarg, NULL, 0); break;
		case 'C': o->program_cpus = (unsigned)strtoul(optarg, NULL, 0); break;
		case 'i': o->inject = true; break;
		case 'v': o->verbose = true; break;
		default: good = false; break;
		}
	}
	o->engine = (int)engine;
	if (!o->kinds)
		o->kinds = o->programs ? KIND_PROGRAM : ~0u;
	if (!o->programs)
		o->programs = o->count / 20;
	if (!o->program_cpus || o->program_cpus > PROGRAM_CPUS_MAX ||
	    (o->program_cpus > 1 && o->engine == ENGINE_NATIVE))
		return false;
	return good && optind == argc && (!o->inject || o->engine == ENGINE_NATIVE) && o->count;
}

static int run_all(struct run *run)
{
	const struct options *o = run->o;
	int r;

	if (o->engine == ENGINE_NATIVE)
		return run_on(run, 0, "native");
	if (!o->all_modes)
		return run_on(run, o->debug, o->engine == VMX_ENGINE_KVM ? "kvm" : "soft");
	for (size_t i = 0; i < sizeof(debug_modes) / sizeof(debug_modes[0]); i++) {
		char how[32];

		snprintf(how, sizeof(how), "soft (%s)", debug_modes[i].name);
		r = run_on(run, debug_modes[i].flag, how);
		if (r < 0)
			return r;
	}
	return 0;
}

static int prepare(struct run *run)
{
	struct rng rng = rng_make(run->o->seed, 0x7e3);
	int r;

	run->templates = calloc(TEMPLATES, sizeof(*run->templates));
	run->tc = calloc(CODE_SLOTS, sizeof(*run->tc));
	run->native_out = calloc(CODE_SLOTS, sizeof(*run->native_out));
	run->guest_out = calloc(CODE_SLOTS, sizeof(*run->guest_out));
	if (!run->templates || !run->tc || !run->native_out || !run->guest_out)
		return -ENOMEM;
	random_bytes(&rng, run->templates[0], TEMPLATES * MEM_SIZE);
	features_of_host(&run->host_features);
	r = native_new(&run->native, (const uint8_t (*)[MEM_SIZE])run->templates);
	if (r == 0 && run->o->engine == ENGINE_NATIVE)
		r = native_new(&run->again, (const uint8_t (*)[MEM_SIZE])run->templates);
	return r;
}

int main(int argc, char **argv)
{
	struct options o = { .seed = 1, .count = 20000, .only_case = -1, .modes = 3, .cpls = 9, .program_cpus = 1,
			     .reports = REPORTS_MAX };
	struct run run = { .o = &o };
	int r;

	if (!parse(argc, argv, &o)) {
		fputs(usage_text, stderr);
		return 2;
	}
	printf("seed %" PRIu64 ", %" PRIu64 " cases of each kind\n", o.seed, o.count);
	r = prepare(&run);
	if (r == 0)
		r = run_all(&run);
	if (r < 0) {
		printf("error: %s\n", strerror(-r));
		run.failed++;
	}
	if (o.inject && r == 0) {
		/* What was falsified must have been seen, every time. */
		printf("falsified: %" PRIu64 " seen, %" PRIu64 " not\n", run.failed, run.passed);
		r = run.passed ? -1 : 0;
		run.passed ^= run.failed, run.failed ^= run.passed, run.passed ^= run.failed;
	}
	native_free(run.native);
	native_free(run.again);
	free(run.templates);
	free(run.tc);
	free(run.native_out);
	free(run.guest_out);
	printf("%" PRIu64 " passed, %" PRIu64 " failed, %" PRIu64 " skipped\n", run.passed, run.failed,
	       run.skipped);
	return run.failed || r < 0 ? 1 : 0;
}
