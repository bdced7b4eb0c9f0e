# SPDX-License-Identifier: Apache-2.0
# Shared by the lint tests: the list of the project's own files, and what all tests in shell share.
. "$VMXD_SRCDIR/tests/lib.sh"

# An unpacked tarball may lie in somebody's checkout, as that of make distcheck does.
in_git() { git -c safe.directory='*' -C "$VMXD_SRCDIR" ls-files --error-unmatch configure.ac >/dev/null 2>&1; }

# Files under version control; in an unpacked tarball all files of the source folders.
source_files() {
	if in_git; then
		git -c safe.directory='*' -C "$VMXD_SRCDIR" ls-files
	else
		(cd "$VMXD_SRCDIR" && find common vmx-driver machine devices protocol daemon cli tests docs \
			-type f | LC_ALL=C sort)
	fi
}
