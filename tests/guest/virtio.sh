# SPDX-License-Identifier: Apache-2.0
# Debian's kernel and its virtio drivers: both transports, both formats of rings.
set -u
boot=$VMXD_BUILDDIR/tests/guest/boot
guest=$VMXD_GUEST_DIR
passed=0 failed=0
for file in vmlinuz-cloud initramfs-cloud.cpio; do
	if [ ! -f "$guest/$file" ]; then
		echo "skip: $guest/$file is not there: ./bootstrap build fetches it"
		echo "0 passed, 0 failed, 1 skipped"
		exit 77
	fi
done
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT

# check NAME COMMAND...
check() {
	local name=$1
	shift
	if "$@" >"$tmp/log" 2>&1; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAIL: $name; printed:"
		tail -n 25 "$tmp/log" "$tmp/out" | sed 's/^/    /'
	fi
}

# start NAME PATTERN BITS COMMANDS: the guest runs COMMANDS, its console must have PATTERN.
run() {
	head -c 4M /dev/urandom >"$tmp/disk"
	sum=$(md5sum <"$tmp/disk")
	timeout 150 "$boot" --engine soft --timeout 120 --virtio "$3" --disk "$tmp/disk" \
		--cmdline "console=ttyS0 quiet panic=-1 vmxd.modules vmxd.run=\"$4\"" \
		--initrd "$guest/initramfs-cloud.cpio" "$guest/vmlinuz-cloud" >"$tmp/out" 2>&1
	check "$1: ends well" [ $? -eq 0 ]
	check "$1: $2" grep -aqE "$2" "$tmp/out"
	check "$1: reads the disk" grep -aqF "sum ${sum%% *}" "$tmp/out"
	check "$1: writes the disk" cmp -n 65536 "$tmp/disk" /dev/zero
}
# Big and small requests at once, so that rings are in use; then who interrupted, and what was
# negotiated (bit 34: packed). No commas, no quotes: it is on the command line.
work='for i in 1 2 3 4; do dd if=/dev/vda of=/dev/null bs=4k count=200 iflag=direct 2>/dev/null & done;
	echo sum $(md5sum </dev/vda); wait; dd if=/dev/zero of=/dev/vda bs=4k count=16 oflag=direct 2>/dev/null;
	sync; grep virtio /proc/interrupts; cut -c 29-36 /sys/bus/virtio/devices/virtio0/features'
work=$(echo $work)
run "PCI, split" '^11001000' 0 "$work"
run "PCI, packed" '^11001010' 2 "$work"
run "MMIO, split" 'IO-APIC +5-fasteoi +virtio0' 1 "$work"
run "MMIO, packed" '^11001010' 3 "$work"
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
