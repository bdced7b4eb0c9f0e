#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A payload that enters VMX operation by hand, runs a guest, and tries every documented failure of
# the instructions and of VM entry; on the soft engine, by the translator and by the stepper.
. "$(dirname "$0")/../lib.sh"
boot=${BOOT:-./tests/guest/boot}
cc=${CC:-cc}
payload=$src/tests/guest/payload

if ! command -v "${cc%% *}" >/dev/null || ! command -v objcopy >/dev/null; then
	skip_all "no compiler or objcopy to build the payload with"
fi
make_dir vmx
# shellcheck disable=SC2086
$cc -m64 -O1 -std=gnu17 -ffreestanding -mgeneral-regs-only -mno-red-zone -fno-pic -no-pie \
	-fno-stack-protector -fcf-protection=none -fno-asynchronous-unwind-tables -nostdlib -static \
	-Wl,--build-id=none -Wl,-z,noexecstack -Wl,--no-warn-rwx-segments \
	-Wl,-T,"$payload/payload.ld" -o "$dir/vmx.elf" "$payload/vmx_start.S" \
	"$payload"/vmx{,_lib,_controls}.c || exit 1
objcopy -O elf32-i386 "$dir/vmx.elf" "$dir/vmx" || exit 1
for mode in 0 1 2 8 32; do
	timeout 150 "$boot" --engine soft --nested --soft-debug $mode --timeout 120 "$dir/vmx" >"$dir/out" 2>"$dir/err"
	if [ $? -eq 0 ] && grep -qE '^vmx: [1-9][0-9]* passed, 0 failed' "$dir/out"; then
		pass
	else
		fail "mode $mode:"
		head -n 40 "$dir/out" "$dir/err" | sed 's/^/    /'
	fi
done
finish
