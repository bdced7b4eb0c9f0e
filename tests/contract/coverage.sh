#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# docs/vcpu-contract-coverage is what the table of tests says, and no point is without a test.
cd "$VMXD_BUILDDIR" || exit 1
if tests/contract/contract --coverage | grep -B 1 '(none)'; then
	echo "0 passed, 1 failed, 0 skipped"
	exit 1
elif tests/contract/contract --coverage | diff "$VMXD_SRCDIR/docs/vcpu-contract-coverage" -; then
	echo "1 passed, 0 failed, 0 skipped"
else
	echo "run: tests/contract/contract --coverage > docs/vcpu-contract-coverage"
	echo "0 passed, 1 failed, 0 skipped"
	exit 1
fi
