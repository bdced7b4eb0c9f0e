# SPDX-License-Identifier: Apache-2.0
# Shared by the lint tests: counting, and the list of the project's own files.
passed=0 failed=0 skipped=0

pass() { passed=$((passed + 1)); }
fail() {
	failed=$((failed + 1))
	printf 'FAIL: %s\n' "$*"
}
skip() {
	skipped=$((skipped + 1))
	printf 'skip: %s\n' "$*"
}
finish() {
	printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
	[ "$failed" -eq 0 ] || exit 1
	[ "$passed" -gt 0 ] || exit 77
	exit 0
}

in_git() { git -c safe.directory='*' -C "$VMXD_SRCDIR" rev-parse --git-dir >/dev/null 2>&1; }

# Files under version control; in an unpacked tarball all files of the source folders.
source_files() {
	if in_git; then
		git -c safe.directory='*' -C "$VMXD_SRCDIR" ls-files
	else
		(cd "$VMXD_SRCDIR" && find common vmx-driver machine devices protocol daemon cli tests docs \
			-type f | LC_ALL=C sort)
	fi
}
