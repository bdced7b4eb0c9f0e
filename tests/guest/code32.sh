# SPDX-License-Identifier: Apache-2.0
# A 32-bit program under Debian's 64-bit kernel: computes right, alone and while a 64-bit one takes turns with
# it on the processor.
. "$(dirname "$0")/../lib.sh"
boot=$build/tests/guest/boot
need_guest vmlinuz-cloud
make_dir code32
program=$build/tests/bench/guest-bench32
initrd=$dir/initramfs.cpio
works=12
"$src/tests/guest/initramfs" "$initrd" --add "$program=bin/guest-bench32" || exit 1

# run NAME WANTED COMMANDS: so many results are good, and none is another one
run() {
	timeout 150 "$boot" --engine soft --timeout 120 --initrd "$initrd" \
		--cmdline "console=ttyS0 quiet panic=-1 vmxd.run=\"$3\"" "$guest/vmlinuz-cloud" >"$dir/out" 2>&1
	good=$(grep -ac '^check .* good' "$dir/out")
	if [ "$good" -eq "$2" ] && [ "$(grep -ac '^check ' "$dir/out")" -eq "$2" ]; then
		pass
		return
	fi
	fail "$1: $good of $2 results are good; printed:"
	show 30 "$dir/out"
}

run "alone" $((2 * works)) 'guest-bench32 --check; guest-bench32 --check'
run "in turns with 64-bit code" $((2 * works)) \
	'seq 20000 | sha256sum >/tmp/1 & guest-bench32 --check >/tmp/2 & guest-bench32 --check; wait; cat /tmp/2'
finish
