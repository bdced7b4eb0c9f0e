/* SPDX-License-Identifier: Apache-2.0 */
/* decode_cache.c - the per-vCPU cache of decoded instructions: by address, valid if the bytes are. */
#include "vmx-driver/soft/step.h"

static bool same_bytes(const struct soft_insn *insn, const uint8_t *bytes, unsigned n)
{
	if (insn->len == 0 || insn->len > n)
		return false;
	for (unsigned i = 0; i < insn->len; i++)
		if (insn->bytes[i] != bytes[i])
			return false;
	return true;
}

const struct soft_insn *soft_decode(struct soft_vcpu *v, const uint8_t *bytes, unsigned n,
				    unsigned code, bool *ret_short)
{
	struct soft_insn *insn = &v->decoder->insn[(v->rip ^ v->rip >> 12) % SOFT_DECODER_SIZE];

	*ret_short = false;
	if (insn->code == code && same_bytes(insn, bytes, n))
		return insn;
	soft_fp_save(v);
	insn->len = 0;
	if (!soft_decode_into(soft_vm_of(v), bytes, n, code, insn, ret_short)) {
		insn->len = 0;
		return NULL;
	}
	return insn;
}
