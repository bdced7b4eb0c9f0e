/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_compile.c - from the table of rules to one BPF program per kind of thread. */
#include <errno.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/sandbox_rules.h"

struct variant {
	bool kvm, shares;
	const uint32_t *own;
};

static int add_rule(scmp_filter_ctx ctx, const struct variant *variant,
		    const struct sandbox_rule *rule)
{
	struct scmp_arg_cmp args[3];
	unsigned n = 0;

	if (rule->call == __NR_SCMP_ERROR || (rule->when == SANDBOX_KVM && !variant->kvm) ||
	    (rule->when == SANDBOX_SHARES && !variant->shares))
		return 0;
	if (rule->own)
		args[n++] = SCMP_A0(SCMP_CMP_MASKED_EQ, 0xffffffffu, variant->own[rule->own]);
	for (unsigned i = 0; i < rule->args; i++)
		args[n++] = rule->arg[i];
	return seccomp_rule_add_exact_array(ctx,
			rule->refuse ? SCMP_ACT_ERRNO((unsigned)rule->refuse) : SCMP_ACT_ALLOW,
			rule->call, n, args);
}

/* libseccomp writes programs into a file only. */
static int export(scmp_filter_ctx ctx, struct sock_fprog *ret)
{
	int fd = memfd_create("filter", MFD_CLOEXEC), r;
	struct sock_filter *code = NULL;
	struct stat st;

	if (fd < 0)
		return -errno;
	r = seccomp_export_bpf(ctx, fd);
	if (r == 0)
		r = fstat(fd, &st) < 0 ? -errno : 0;
	if (r == 0 && (st.st_size <= 0 || st.st_size / (off_t)sizeof(*code) > BPF_MAXINSNS))
		r = -E2BIG;
	if (r == 0) {
		code = malloc((size_t)st.st_size);
		r = code ? 0 : -ENOMEM;
	}
	if (r == 0 && pread(fd, code, (size_t)st.st_size, 0) != st.st_size)
		r = -EIO;
	close(fd);
	if (r < 0) {
		free(code);
		return r;
	}
	*ret = (struct sock_fprog){ .len = (unsigned short)((size_t)st.st_size / sizeof(*code)),
				    .filter = code };
	return 0;
}

/* The kind of the thread travels in the trap's data, and needs no memory of the thread's. */
static void mark(struct sock_fprog *program, enum thread_kind kind)
{
	for (unsigned i = 0; i < program->len; i++)
		if (program->filter[i].code == (BPF_RET | BPF_K) &&
		    program->filter[i].k == SECCOMP_RET_TRAP)
			program->filter[i].k |= (uint32_t)kind;
}

int sandbox_compile(enum thread_kind kind, bool kvm, bool shares, const uint32_t own[SANDBOX_OWNS],
		    struct sock_fprog *ret)
{
	const struct variant variant = { kvm, shares, own };
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_TRAP);
	int r = 0;

	if (!ctx)
		return -ENOMEM;
	r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	/* A tree in place of a list; without it the filter is only slower. */
	(void)seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	for (size_t i = 0; r == 0 && i < sandbox_rule_count; i++)
		if (sandbox_rules[i].kinds & KINDS(kind))
			r = add_rule(ctx, &variant, &sandbox_rules[i]);
	if (r == 0)
		r = export(ctx, ret);
	if (r == 0)
		mark(ret, kind);
	seccomp_release(ctx);
	return r;
}
