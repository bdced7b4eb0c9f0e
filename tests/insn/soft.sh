# SPDX-License-Identifier: Apache-2.0
# The software processor as users run it. VMXD_INSN_SEED and VMXD_INSN_COUNT for longer runs.
exec "$VMXD_BUILDDIR/tests/insn/insn" --engine soft --count "${VMXD_INSN_COUNT:-20000}" \
	--seed "${VMXD_INSN_SEED:-1}"
