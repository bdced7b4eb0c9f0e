# SPDX-License-Identifier: Apache-2.0
TESTS += tests/security/process.sh
EXTRA_DIST += tests/security/process.sh
