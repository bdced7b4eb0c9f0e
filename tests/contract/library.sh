#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# libvmx as a user of it sees it: the example runs, the library shows what vmx.h declares and nothing
# else, the man page names every function and has no error.
passed=0 failed=0 skipped=0
result() { # name, status
	if [ "$2" -eq 0 ]; then
		((passed++))
	else
		((failed++))
		echo "FAIL: $1"
	fi
}
cd "$VMXD_BUILDDIR" || exit 1
header=$VMXD_SRCDIR/vmx-driver/vmx.h page=$VMXD_SRCDIR/docs/vmx.3

out=$(vmx-driver/example)
[ "$out" = "Hello from the guest" ]
result "the example said: $out" $?

declared=$(sed 's|/\*.*||' "$header" | grep -oE '\bvmx_[a-z_]+\(' | tr -d '(' | sort -u)
shown=$(nm -D --defined-only .libs/libvmx.so | awk '$2 == "T" { print $3 }' | sort -u)
# A function that a comment speaks of is declared as well, so the two lists are equal.
diff <(echo "$declared") <(echo "$shown")
result "symbols of libvmx.so" $?

for f in $declared; do
	grep -qE "^\.(Fn|Ft|Fo|Nm) .*\b$f\b" "$page"
	result "$f in vmx.3" $?
done

if command -v mandoc >/dev/null; then
	mandoc -T lint -W warning "$page"
	result "mandoc" $?
else
	echo "mandoc is not installed: skip"
	((skipped++))
fi
echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
