/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox_filter.c - the program of one kind of thread, with the values of this process. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/sandbox_internal.h"

int sandbox_filter_make(const struct sandbox_options *options, enum thread_kind kind,
			struct sock_fprog *ret)
{
	const uint32_t own[SANDBOX_OWNS] = {
		[SANDBOX_OWN_PID] = (uint32_t)getpid(),
		[SANDBOX_OWN_STATUS_FD] = (uint32_t)options->status_fd,
		[SANDBOX_OWN_PROC_FD] = (uint32_t)options->proc_fd,
	};
	const struct sandbox_program *program =
		&sandbox_programs[kind][options->kvm][options->share_count != 0];
	struct sock_filter *code = calloc(program->len, sizeof(*code));

	if (!code)
		return -ENOMEM;
	memcpy(code, program->code, program->len * sizeof(*code));
	for (unsigned i = 0; i < program->patch_count; i++)
		code[program->patches[i].at].k = own[program->patches[i].own];
	*ret = (struct sock_fprog){ .len = program->len, .filter = code };
	return 0;
}
