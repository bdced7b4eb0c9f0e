#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A minute of the hammer (hammer.c) under the thread sanitizer, with nothing suppressed: all of the
# driver is built for it (local.mk). VMXD_TSAN_SECONDS sets another length.
hammer=$VMXD_BUILDDIR/tests/contract/hammer-tsan
if [ ! -x "$hammer" ]; then
	echo "this compiler has no thread sanitizer, or this is another sanitizer's build: skip"
	echo "0 passed, 0 failed, 1 skipped"
	exit 77
fi
# Older run-time libraries cannot place their tables among randomly placed mappings.
fixed=
setarch -R true 2>/dev/null && fixed='setarch -R'
export TSAN_OPTIONS="halt_on_error=1 exitcode=66 second_deadlock_stack=1"

passed=0 failed=0 skipped=0
run() {
	local out status
	out=$($fixed "$hammer" "$@" 2>&1)
	status=$?
	printf '%s: %s\n' "$*" "$out"
	case $status in
	0) ((passed++)) ;;
	77) ((skipped++)) ;;
	*) ((failed++)) ;;
	esac
}
run --engine soft --seconds "${VMXD_TSAN_SECONDS:-60}"
run --engine kvm --seconds 4
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
