# SPDX-License-Identifier: Apache-2.0
# The software processor in its other modes (one instruction a block, no chaining, ...): same results.
exec "$VMXD_BUILDDIR/tests/insn/insn" --engine soft --debug all --count "${VMXD_INSN_COUNT:-4000}" \
	--seed "${VMXD_INSN_SEED:-2}"
