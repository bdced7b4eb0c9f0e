# SPDX-License-Identifier: Apache-2.0
# Debian's kernel and its virtio drivers: both transports, both formats of rings.
. "$(dirname "$0")/../lib.sh"
boot=$build/tests/guest/boot
need_guest vmlinuz-cloud initramfs-cloud.cpio
make_dir virtio

explain() { show 25 "$dir/out"; }

# start NAME PATTERN BITS COMMANDS: the guest runs COMMANDS, its console must have PATTERN.
run() {
	head -c 4M /dev/urandom >"$dir/disk"
	sum=$(md5sum <"$dir/disk")
	timeout 400 "$boot" --engine soft --timeout 360 --virtio "$3" --disk "$dir/disk" \
		--cmdline "console=ttyS0 quiet panic=-1 vmxd.modules vmxd.run=\"$4\"" \
		--initrd "$guest/initramfs-cloud.cpio" "$guest/vmlinuz-cloud" >"$dir/out" 2>&1
	check "$1: ends well" [ $? -eq 0 ]
	check "$1: $2" grep -aqE "$2" "$dir/out"
	check "$1: reads the disk" grep -aqF "sum ${sum%% *}" "$dir/out"
	check "$1: writes the disk" cmp -n 65536 "$dir/disk" /dev/zero
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
finish
