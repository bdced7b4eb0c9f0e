# SPDX-License-Identifier: Apache-2.0
# vhost-net for real: a stock Debian kernel has the module, and is the host here. In it vmxd runs a
# Debian guest, by KVM, whose card is a tap that the kernel serves. nested-net does the work.
. "$(dirname "$0")/../lib.sh"
need_guest vmlinuz-cloud kvm-cloud/order vhost-cloud/order modules-cloud/order
make_dir vhost-net
adds=()
add_programs "$build/vmxd" "$build/vmxd-machine" "$build/vmctl"
mkdir "$dir/modules"
cat "$guest/modules-cloud/order" "$guest/kvm-cloud/order" "$guest/vhost-cloud/order" |
	awk '!seen[$0]++' >"$dir/modules/order"
cp "$guest"/modules-cloud/*.ko "$guest"/kvm-cloud/*.ko "$guest"/vhost-cloud/*.ko "$dir/modules"
"$src/tests/guest/initramfs" "$dir/inner" --modules "$guest/modules-cloud" \
	--add "$src/tests/guest/net-guest=bin/net-guest" \
	--add "$build/tests/guest/net-tool=bin/net-tool" || exit 1
"$src/tests/guest/initramfs" "$dir/initrd" --modules "$dir/modules" "${adds[@]}" \
	--add "$src/tests/guest/nested-net=nested/net" --add "$guest/vmlinuz-cloud=nested/kernel" \
	--add "$dir/inner=nested/initrd" --add "$build/tests/guest/net-tool=bin/net-tool" || exit 1
explain() { show 40 "$dir/out"; }

timeout 860 "$build/tests/guest/boot" --engine soft --nested --timeout 840 --memory 1024 \
	--initrd "$dir/initrd" --cmdline 'console=ttyS0 quiet vmxd.modules vmxd.run="sh /nested/net"' \
	"$guest/vmlinuz-cloud" >"$dir/out" 2>&1
check 'the guest that is the host' test $? = 0
tr -d '\r' <"$dir/out" >"$dir/text"
while read -r step; do
	check "$step" grep -qx "nested: $step ok" "$dir/text"
done <<'END'
/dev/vhost-net
the kernel moves the packets
guest to host
host to guest
ping
over a pause
over a reset
a card that is plugged has it too
no module, and on
END
grep '^nested: time' "$dir/text"
finish
