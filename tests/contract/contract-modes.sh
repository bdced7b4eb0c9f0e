#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The software engine's debug modes must keep the same contract (enum VMX_SOFT_* in vmx.h).
passed=0 failed=0 skipped=0
for bits in 1 2 4 8 16 32 64; do
	echo "soft_debug $bits"
	out=$("$VMXD_BUILDDIR/tests/contract/contract" --engine soft --soft-debug $bits)
	grep -v ': pass$' <<<"$out"
	last=$(tail -n 1 <<<"$out")
	if [[ $last =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
		((passed += BASH_REMATCH[1], failed += BASH_REMATCH[2], skipped += BASH_REMATCH[3]))
	else
		((failed++))
	fi
done
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
