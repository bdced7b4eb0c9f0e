# SPDX-License-Identifier: Apache-2.0
# The software processor in its other modes (one instruction a block, no chaining, ...): same results. The
# programs on two processors at once.
exec "$VMXD_BUILDDIR/tests/insn/insn" --engine soft --debug all --cpus 2 --count "${VMXD_INSN_COUNT:-4000}" \
	--seed "${VMXD_INSN_SEED:-2}"
