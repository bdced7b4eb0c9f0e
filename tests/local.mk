# SPDX-License-Identifier: Apache-2.0
# How tests run: each program or script of TESTS under a time limit, with these variables.
#   VMXD_SRCDIR    the source tree          VMXD_BUILDDIR  the build tree
#   VMXD_GUEST_DIR kernels and initramfs that tests/guest/fetch-kernels put there
# Tests in shell share tests/lib.sh.
# A test prints `N passed, N failed, N skipped` as its last line; tests/summary adds them up.
TEST_EXTENSIONS = .sh .py
TEST_TIME_LIMIT = 900
AM_TESTS_ENVIRONMENT = \
	VMXD_SRCDIR='$(abs_top_srcdir)'; export VMXD_SRCDIR; \
	VMXD_BUILDDIR='$(abs_top_builddir)'; export VMXD_BUILDDIR; \
	VMXD_GUEST_DIR=$${VMXD_GUEST_DIR:-'$(abs_top_builddir)/guest'}; export VMXD_GUEST_DIR; \
	PYTHONDONTWRITEBYTECODE=1; export PYTHONDONTWRITEBYTECODE;
LOG_COMPILER = timeout -k 10 $(TEST_TIME_LIMIT)
SH_LOG_COMPILER = timeout -k 10 $(TEST_TIME_LIMIT) bash
PY_LOG_COMPILER = timeout -k 10 $(TEST_TIME_LIMIT) python3

EXTRA_DIST += tests/summary \
	tests/guest/fetch-kernels tests/guest/initramfs tests/guest/initramfs-init tests/guest/udhcpc-script \
	tests/guest/debian.sh tests/lib.sh
TESTS += tests/guest/debian.sh
include tests/unit/local.mk
include tests/device/local.mk
include tests/contract/local.mk
include tests/insn/local.mk
include tests/disk/local.mk
include tests/guest/local.mk
include tests/protocol/local.mk
include tests/fuzz/local.mk
include tests/security/local.mk
include tests/bench/local.mk
include tests/lint/local.mk
