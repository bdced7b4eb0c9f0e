/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay.c - runs a fuzz target without a fuzzer: over the files of its corpus, and over some
 * thousand pseudo-random inputs, always the same ones.
 *
 *     fuzz-NAME            corpus $VMXD_SRCDIR/tests/fuzz/corpus/NAME and the random inputs
 *     fuzz-NAME FILE...    just these
 *
 * A target that finds something ends the program; the line before says with which input.
 */
#include <config.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/input.h"

#define INPUT_MAX 65536u
#define RANDOM_RUNS 2000u

static unsigned passed, failed;

static void run_file(const char *path)
{
	static uint8_t bytes[INPUT_MAX];
	FILE *f = fopen(path, "rb");
	size_t n;

	if (!f) {
		printf("FAIL %s: %s\n", path, strerror(errno));
		failed++;
		return;
	}
	n = fread(bytes, 1, sizeof(bytes), f);
	fclose(f);
	printf("     %s\n", path);
	fflush(stdout);
	(void)LLVMFuzzerTestOneInput(bytes, n);
	passed++;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static void run_corpus(const char *name)
{
	const char *top = getenv("VMXD_SRCDIR");
	struct dirent **entries;
	char dir[4096], path[8192];
	int n, i;

	snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus/%s", top ? top : ".", name);
	n = scandir(dir, &entries, NULL, by_name);
	if (n < 0) {
		printf("FAIL %s: %s\n", dir, strerror(errno));
		failed++;
		return;
	}
	for (i = 0; i < n; i++) {
		if (entries[i]->d_name[0] != '.') {
			snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name);
			run_file(path);
		}
		free(entries[i]);
	}
	free(entries);
}

static void run_random(void)
{
	static uint8_t bytes[4096];
	uint64_t x = 0x9e3779b97f4a7c15ull;
	unsigned run;
	size_t i, n;

	for (run = 0; run < RANDOM_RUNS; run++) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		n = x >> 33 & 1023u;
		for (i = 0; i < n; i++) {
			x = x * 6364136223846793005ull + 1442695040888963407ull;
			bytes[i] = (uint8_t)(x >> 56);
		}
		if (run % 500 == 0) {
			printf("     random input %u\n", run);
			fflush(stdout);
		}
		(void)LLVMFuzzerTestOneInput(bytes, n);
	}
	passed++;
}

int main(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');
	int i;

	name = name ? name + 1 : argv[0];
	if (!strncmp(name, "lt-", 3))
		name += 3;
	if (!strncmp(name, "fuzz-", 5))
		name += 5;
	if (argc > 1) {
		for (i = 1; i < argc; i++)
			run_file(argv[i]);
	} else {
		run_corpus(name);
		run_random();
	}
	printf("%u passed, %u failed, 0 skipped\n", passed, failed);
	return failed ? 1 : 0;
}
