# SPDX-License-Identifier: Apache-2.0
# The man pages as mandoc sees them.
. "$VMXD_SRCDIR/tests/lint/lib.sh"

cd "$VMXD_SRCDIR" || exit 1
command -v mandoc >/dev/null || {
	skip "mandoc is not installed"
	finish
}
for page in $(source_files | grep -E '^docs/.*\.[1-9]$'); do
	if out=$(mandoc -Tlint -W warning "$page" 2>&1); then
		pass
	else
		fail "$page"
		printf '%s\n' "$out"
	fi
done
# What the software processor counts is explained.
for name in $(sed -n 's/^\t*{ "\([a-z0-9_]*\)", .*/\1/p' vmx-driver/soft/stats.c); do
	if grep -qE "^\.It Li (.* )?$name( |\$)" docs/vmctl.1; then
		pass
	else
		fail "docs/vmctl.1 does not explain the counter $name"
	fi
done
[ $((passed + failed)) -gt 0 ] || skip "there are no man pages"
finish
