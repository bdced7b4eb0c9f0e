# SPDX-License-Identifier: Apache-2.0
# What is in the tarball equals what is in git, but for what only the repository needs.
. "$VMXD_SRCDIR/tests/lint/lib.sh"

in_git || {
	skip "not a git checkout"
	finish
}
work=$(mktemp -d) || exit 1
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
# A make inside make check: without the outer one's flags and job slots.
if ! env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s -C "$VMXD_BUILDDIR" distdir \
	distdir="$work/dist" >"$work/log" 2>&1; then
	cat "$work/log"
	fail "make distdir"
	finish
fi
(cd "$work/dist" && find . -type f) | sed 's,^\./,,' |
	grep -vxE 'configure|Makefile\.in|aclocal\.m4|config\.h\.in|build-aux/.*|m4/[^/]*\.m4' |
	LC_ALL=C sort >"$work/shipped"
source_files | grep -vxE '\.gitignore|\.ci/.*|m4/\.gitkeep' | LC_ALL=C sort >"$work/tracked"
for file in $(LC_ALL=C comm -13 "$work/shipped" "$work/tracked"); do
	fail "$file is in git but not in the tarball"
done
for file in $(LC_ALL=C comm -23 "$work/shipped" "$work/tracked"); do
	fail "$file is in the tarball but not in git"
done
for file in $(LC_ALL=C comm -12 "$work/shipped" "$work/tracked"); do
	pass
done
finish
