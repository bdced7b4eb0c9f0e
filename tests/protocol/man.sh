#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The manual pages tell what the programs have: methods and errors from the table, verbs and options
# from vmctl's own help.
set -u
src=${VMXD_SRCDIR:-.} build=${VMXD_BUILDDIR:-.}
passed=0 failed=0

check() { # NAME COMMAND...
	local name=$1
	shift
	if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $name"; fi
}

part() { sed -n "/^\.\\\\\" BEGIN $1\$/,/^\.\\\\\" END $1\$/p" "$src/docs/vmxd-rpc.7" | sed '1d;$d'; }

for what in methods info errors; do
	check "vmxd-rpc.7 $what" diff -u <(part $what) <("$build/tests/protocol/rpc-man" $what)
done
for page in vmxd.8 vmctl.1 vmxd-rpc.7; do
	if command -v mandoc >/dev/null; then
		check "mandoc $page" test -z "$(mandoc -Tlint -W warning "$src/docs/$page" 2>&1 | tee /dev/stderr)"
	fi
done
verbs=$("$build/vmctl" help | sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\) .*/\1/p')
for verb in $verbs; do
	check "vmctl.1 has $verb" grep -q "^\.It Ic $verb\b" "$src/docs/vmctl.1"
	check "vmctl help $verb" "$build/vmctl" help "$verb" >/dev/null
	for option in $("$build/vmctl" help "$verb" | sed -n 's/^  --\([a-z-]*\).*/\1/p'); do
		check "vmctl.1 has --$option" grep -q -- "Fl -${option}\b" "$src/docs/vmctl.1"
		check "completion has --$option" grep -q -- "--$option\b" "$src/cli/vmctl.bash"
	done
	check "completion has $verb" grep -q "\b$verb\b" "$src/cli/vmctl.bash"
done
for option in $("$build/vmxd" --help | sed -n 's/^  --\([a-z-]*\).*/\1/p'); do
	check "vmxd.8 has --$option" grep -q -- "Fl -${option}\b" "$src/docs/vmxd.8"
done
# And nothing that they have not.
for verb in $(sed -n 's/^\.It Ic \([a-z]*\).*/\1/p' "$src/docs/vmctl.1"); do
	check "vmctl has $verb, as vmctl.1 says" grep -qx "$verb" <<<"$verbs"
done
vmctl_help=$("$build/vmctl" help; for verb in $verbs; do "$build/vmctl" help "$verb"; done)
vmxd_help=$("$build/vmxd" --help)
documented() { grep -oE -- 'Fl -[a-z-]+' "$src/docs/$1" | sed 's/Fl -//' | sort -u; } # PAGE
for option in $(documented vmctl.1); do
	check "vmctl has --$option, as vmctl.1 says" grep -q -- "--$option\b" <<<"$vmctl_help"
done
for option in $(documented vmxd.8); do
	check "vmxd has --$option, as vmxd.8 says" grep -q -- "^  --$option\b" <<<"$vmxd_help"
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
