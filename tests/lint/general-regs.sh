# SPDX-License-Identifier: Apache-2.0
# The software processor's fast helpers run with the guest's vector and x87 state in the registers:
# their objects must not touch it, nor call a library function that does.
. "$VMXD_SRCDIR/tests/lint/lib.sh"

cd "$VMXD_BUILDDIR" || exit 1
if grep -qE '^S\["SAN_CFLAGS"\]=.*(fuzzer|=thread)' config.status; then
	skip "the fuzzers' build, or the thread sanitizer's, whose checks are calls"
	finish
fi
for object in $(find vmx-driver/soft -name 'libsoftgeneral_la-*.o' | LC_ALL=C sort); do
	touched=$(objdump -d --no-show-raw-insn "$object" | grep -E '%([xyz]?mm[0-9]|st\b|k[0-7]\b)' | head -n 3)
	if [ -n "$touched" ]; then
		fail "$object touches vector or x87 registers"
		printf '%s\n' "$touched"
		continue
	fi
	called=$(nm -u "$object" | awk '{ print $2 }' |
		grep -xE '(mem|str|stp|wmem|wcs)[a-z]+|__(mem|str)[a-z]+_chk|.*printf|malloc|calloc|realloc|free|qsort|bsearch')
	if [ -n "$called" ]; then
		fail "$object calls" $called
		continue
	fi
	pass
done
[ $((passed + failed)) -gt 0 ] || skip "no such objects in this build"
finish
