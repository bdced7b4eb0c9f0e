#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The hammer (hammer.c) at full speed: on the soft engine, in each of its debug modes, and on KVM.
passed=0 failed=0 skipped=0
run() {
	local out
	out=$("$VMXD_BUILDDIR/tests/contract/hammer" "$@")
	printf '%s: %s\n' "$*" "$out"
	case $(tail -n 1 <<<"$out") in
	"1 passed, 0 failed, 0 skipped") ((passed++)) ;;
	"0 passed, 0 failed, 1 skipped") ((skipped++)) ;;
	*) ((failed++)) ;;
	esac
}
run --engine soft --seconds 6
for bits in 1 2 4 8 16; do
	run --engine soft --soft-debug $bits --seconds 2
done
run --engine soft --cpus 1 --seconds 2
run --engine kvm --seconds 4
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
