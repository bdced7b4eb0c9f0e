# SPDX-License-Identifier: Apache-2.0
# A stock Debian kernel on the soft engine with VMX: its own KVM modules load there without a
# complaint, a small VM runs, and our KVM engine boots a second Debian kernel. Prints how long that
# boot took against the same boot one level up. VMXD_NESTED_CPUS: processors of the guest and of its guest.
. "$(dirname "$0")/../lib.sh"
need_guest vmlinuz-cloud kvm-cloud/order initramfs.cpio
make_dir nested
cpus=${VMXD_NESTED_CPUS:-1}

# What the programs need of the host's libraries goes along.
adds=()
add_programs "$build/tests/guest/boot"
adds+=(--add "$build/tests/guest/kvm-run=bin/kvm-run")
"$src/tests/guest/initramfs" "$dir/initrd" --modules "$guest/kvm-cloud" "${adds[@]}" \
	--add "$src/tests/guest/nested-init=nested/init" --add "$guest/vmlinuz-cloud=nested/kernel" \
	--add "$guest/initramfs.cpio=nested/initrd" || exit 1

note() { # NAME STATUS
	if [ "$2" = 0 ]; then
		pass
	else
		fail "$1; the end of the console:"
		show "${3:-30}" "$dir/out"
	fi
}
# boot_ms FILE: how long the guest ran, from boot's last line; with several, the first.
boot_ms() {
	sed -n 's/.*boot: [a-z].*; boot .* run \([0-9]*\) ms.*/\1/p' "$1" | head -n 1
}

timeout 320 "$build/tests/guest/boot" --engine soft --timeout 300 --cpus "$cpus" --memory 128 \
	--expect 'vmxd-guest: selftest ok' --initrd "$guest/initramfs.cpio" \
	--cmdline 'console=ttyS0 quiet' "$guest/vmlinuz-cloud" >"$dir/out" 2>&1
note 'the kernel one level up' $?
once=$(boot_ms "$dir/out")
timeout 500 "$build/tests/guest/boot" --engine soft --nested --timeout 480 --cpus "$cpus" --memory 1024 \
	--initrd "$dir/initrd" --cmdline 'console=ttyS0 quiet vmxd.run="sh /nested/init '"$cpus"'"' \
	"$guest/vmlinuz-cloud" >"$dir/out" 2>&1
note 'the guest that runs guests' $? 10
tr -d '\r' <"$dir/out" >"$dir/text"
for step in modules vm linux 'modules without EPT' 'vm without EPT'; do
	grep -qx "nested: $step ok" "$dir/text"
	note "$step" $?
done
grep '^kvm-run: .*: ' "$dir/text"
twice=$(boot_ms "$dir/text")
echo "boot and self test: $once ms, in the guest $twice ms"
finish
