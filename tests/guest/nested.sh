# SPDX-License-Identifier: Apache-2.0
# A stock Debian kernel on the soft engine with VMX: its own KVM modules load there without a
# complaint, a small VM runs, and our KVM engine boots a second Debian kernel. Prints how long that
# boot took against the same boot one level up.
set -u
build=$VMXD_BUILDDIR
guest=$VMXD_GUEST_DIR
here=$(cd -- "$(dirname -- "$0")" && pwd)
passed=0 failed=0
for file in vmlinuz-cloud kvm-cloud/order initramfs.cpio; do
	if [ ! -f "$guest/$file" ]; then
		echo "skip: $guest/$file is not there: ./bootstrap check fetches it"
		echo "0 passed, 0 failed, 1 skipped"
		exit 77
	fi
done
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

# What the programs need of the host's libraries goes along.
adds=()
for program in boot kvm-run; do
	adds+=(--add "$build/tests/guest/$program=bin/$program")
done
while read -r path; do
	adds+=(--add "$path=$path")
done < <(ldd "$build/tests/guest/boot" | sed -n 's|.* \(/[^ ]*\) (.*|\1|p; s|^[[:space:]]*\(/[^ ]*\) (.*|\1|p')
"$here/initramfs" "$tmp/initrd" --modules "$guest/kvm-cloud" "${adds[@]}" \
	--add "$here/nested-init=nested/init" --add "$guest/vmlinuz-cloud=nested/kernel" \
	--add "$guest/initramfs.cpio=nested/initrd" || exit 1

note() { # NAME STATUS
	if [ "$2" = 0 ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAIL: $1; the end of the console:"
		tail -n "${3:-30}" "$tmp/out" | sed 's/^/    /'
	fi
}
# boot_ms FILE: how long the guest ran, from boot's last line; with several, the first.
boot_ms() {
	sed -n 's/.*boot: [a-z].*; boot .* run \([0-9]*\) ms.*/\1/p' "$1" | head -n 1
}

timeout 200 "$build/tests/guest/boot" --engine soft --timeout 180 --memory 128 \
	--expect 'vmxd-guest: selftest ok' --initrd "$guest/initramfs.cpio" \
	--cmdline 'console=ttyS0 quiet' "$guest/vmlinuz-cloud" >"$tmp/out" 2>&1
note 'the kernel one level up' $?
once=$(boot_ms "$tmp/out")
timeout 500 "$build/tests/guest/boot" --engine soft --nested --timeout 480 --memory 1024 \
	--initrd "$tmp/initrd" --cmdline 'console=ttyS0 quiet vmxd.run="sh /nested/init"' \
	"$guest/vmlinuz-cloud" >"$tmp/out" 2>&1
note 'the guest that runs guests' $? 10
tr -d '\r' <"$tmp/out" >"$tmp/text"
for step in modules vm linux 'modules without EPT' 'vm without EPT'; do
	grep -qx "nested: $step ok" "$tmp/text"
	note "$step" $?
done
grep '^kvm-run: .*: ' "$tmp/text"
twice=$(boot_ms "$tmp/text")
echo "boot and self test: $once ms, in the guest $twice ms"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
