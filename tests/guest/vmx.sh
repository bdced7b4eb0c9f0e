#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A payload that enters VMX operation by hand, runs a guest, and tries every documented failure of
# the instructions and of VM entry; on the soft engine, by the translator and by the stepper.
set -u
src=$(cd -- "$(dirname -- "$0")" && pwd)
boot=${BOOT:-./tests/guest/boot}
cc=${CC:-cc}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
passed=0 failed=0

if ! command -v "${cc%% *}" >/dev/null || ! command -v objcopy >/dev/null; then
	echo "skip: no compiler or objcopy to build the payload with"
	echo "0 passed, 0 failed, 1 skipped"
	exit 77
fi
# shellcheck disable=SC2086
$cc -m64 -O1 -std=gnu17 -ffreestanding -mgeneral-regs-only -mno-red-zone -fno-pic -no-pie \
	-fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -nostdlib -static \
	-Wl,--build-id=none -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments \
	-Wl,-T,"$src/payload/payload.ld" -o "$tmp/vmx.elf" "$src/payload/vmx_start.S" \
	"$src/payload/vmx.c" || exit 1
objcopy -O elf32-i386 "$tmp/vmx.elf" "$tmp/vmx" || exit 1
for mode in 0 1 2 8; do
	timeout 60 "$boot" --engine soft --nested --soft-debug $mode --timeout 40 "$tmp/vmx" >"$tmp/out" 2>"$tmp/err"
	if [ $? -eq 0 ] && grep -qE '^vmx: [1-9][0-9]* passed, 0 failed' "$tmp/out"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAIL: mode $mode:"
		head -n 40 "$tmp/out" "$tmp/err" | sed 's/^/    /'
	fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
