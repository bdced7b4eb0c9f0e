# SPDX-License-Identifier: Apache-2.0
# The harness itself: the processor against itself must always agree, and each falsified result must
# be noticed.
insn=$VMXD_BUILDDIR/tests/insn/insn
"$insn" --engine native --count 20000 || exit 1
"$insn" --engine native --inject --count 2000 --reports 0 | grep -v differing
exit "${PIPESTATUS[0]}"
