# SPDX-License-Identifier: Apache-2.0
# Rules about the source itself.
lint_tests = tests/lint/layers.sh tests/lint/spdx.sh tests/lint/man.sh tests/lint/shipped.sh \
	tests/lint/general-regs.sh tests/lint/scripts.sh tests/lint/bootstrap.sh tests/lint/units.sh
TESTS += $(lint_tests)
EXTRA_DIST += $(lint_tests) tests/lint/lib.sh docs/vcpu-contract-coverage
