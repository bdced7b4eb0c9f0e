/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_generate.c - runs when vmxd is built: writes sandbox_programs.c to its standard output.
 *
 * Every program is compiled twice, with other values of enum sandbox_own: where the two differ is where a
 * process puts its own in.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/checked.h"
#include "daemon/sandbox_rules.h"

/* No rule has these, and no two are the same. */
static const uint32_t values[2][SANDBOX_OWNS] = { { 0x71000000, 0x71000001, 0x71000002, 0x71000003 },
						  { 0x72000000, 0x72000001, 0x72000002, 0x72000003 } };

static unsigned own_of(const struct sock_filter *a, const struct sock_filter *b)
{
	for (unsigned own = SANDBOX_OWN_NONE + 1; own < SANDBOX_OWNS; own++)
		if (a->k == values[0][own] && b->k == values[1][own])
			return own;
	return SANDBOX_OWN_NONE;
}

/* False: they differ in more than their own values. */
static bool print_program(const char *name, const struct sock_fprog *a, const struct sock_fprog *b)
{
	bool same = a->len == b->len;
	unsigned patches = 0;

	printf("static const struct sock_filter %s_code[] = {\n", name);
	for (unsigned i = 0; same && i < a->len; i++) {
		const struct sock_filter *x = &a->filter[i], *y = &b->filter[i];

		same = x->code == y->code && x->jt == y->jt && x->jf == y->jf &&
		       (x->k == y->k || own_of(x, y));
		printf("\t{ 0x%02x, %u, %u, 0x%x },\n", x->code, x->jt, x->jf, x->k);
	}
	printf("};\nstatic const struct sandbox_patch %s_patches[] = {\n", name);
	for (unsigned i = 0; same && i < a->len; i++)
		if (a->filter[i].k != b->filter[i].k) {
			printf("\t{ %u, %u },\n", i, own_of(&a->filter[i], &b->filter[i]));
			patches++;
		}
	printf("};\n#define %s { %s_code, %s_patches, %u, %u }\n", name, name, name, a->len, patches);
	return same && patches;
}

static bool make_program(enum thread_kind kind, bool kvm, bool shares)
{
	struct sock_fprog made[2] = { { 0 } };
	bool ok = true;
	char name[32];

	snprintf(name, sizeof(name), "program_%d_%d_%d", (int)kind, kvm, shares);
	for (unsigned i = 0; i < ARRAY_SIZE(made); i++)
		ok = ok && sandbox_compile(kind, kvm, shares, values[i], &made[i]) == 0;
	ok = ok && print_program(name, &made[0], &made[1]);
	for (unsigned i = 0; i < ARRAY_SIZE(made); i++)
		free(made[i].filter);
	return ok;
}

static void print_names(void)
{
	printf("const char *const sandbox_call_names[SANDBOX_CALLS_MAX] = {\n");
	for (int i = 0; i < SANDBOX_CALLS_MAX; i++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, i);

		if (name)
			printf("\t[%d] = \"%s\",\n", i, name);
		free(name);
	}
	printf("};\n");
}

int main(void)
{
	const unsigned variants = THREAD_KINDS * 4;

	printf("/* SPDX-License-Identifier: Apache-2.0 */\n"
	       "/* Made by sandbox-generate from sandbox_rules.c. */\n"
	       "#include \"daemon/sandbox_internal.h\"\n\n");
	for (unsigned i = 0; i < variants; i++)
		if (!make_program((enum thread_kind)(i / 4), i / 2 % 2, i % 2)) {
			fprintf(stderr, "sandbox-generate: no program for thread kind %u\n", i / 4);
			return 1;
		}
	printf("\nconst struct sandbox_program sandbox_programs[THREAD_KINDS][2][2] = {\n");
	for (unsigned i = 0; i < variants; i++)
		printf("\t[%u][%u][%u] = program_%u_%u_%u,\n", i / 4, i / 2 % 2, i % 2, i / 4, i / 2 % 2,
		       i % 2);
	printf("};\n\n");
	print_names();
	return fflush(stdout) || ferror(stdout);
}
