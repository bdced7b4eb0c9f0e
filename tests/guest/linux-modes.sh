# SPDX-License-Identifier: Apache-2.0
# Debian's kernels straight on the board, in the ways they can use the machine: interrupts by
# MSI-X, INTx and the PIC, configuration space by ports, every way to reboot, memory above 4 GiB,
# two processors, pauses all the time. tests/guest/debian.sh has the way through the daemon.
. "$(dirname "$0")/../lib.sh"
boot=$build/tests/guest/boot
need_guest vmlinuz-cloud vmlinuz-generic initramfs.cpio initramfs-cloud.cpio
make_dir linux-modes
truncate -s 16M "$dir/disk" && printf 'first' | dd of="$dir/disk" conv=notrunc status=none

# run NAME STATUS PATTERN CMDLINE ARGS...
run() {
	name=$1 want=$2 pattern=$3 cmdline=$4
	shift 4
	timeout 400 "$boot" --engine soft --timeout 360 \
		--cmdline "console=ttyS0 quiet panic=-1 $cmdline" "$@" >"$dir/out" 2>"$dir/err"
	status=$?
	cat "$dir/err" >>"$dir/out"
	if [ $status -eq "$want" ] && grep -aqE "$pattern" "$dir/out"; then
		pass
		return
	fi
	fail "$name: status $status, wanted $want and /$pattern/; printed:"
	show 20 "$dir/out"
}
cloud() { # NAME STATUS PATTERN CMDLINE ARGS...
	run "$@" --initrd "$guest/initramfs.cpio" "$guest/vmlinuz-cloud"
}
disk() { # NAME PATTERN CMDLINE: reads the disk, then shows who interrupted
	run "$1" 0 "$2" "$3 vmxd.modules vmxd.run=\"head -c 5 /dev/vda; cat /proc/interrupts\"" \
		--disk "$dir/disk,readonly" --initrd "$guest/initramfs-cloud.cpio" "$guest/vmlinuz-cloud"
}

run "generic kernel" 0 'ran well' 'vmxd.run="echo ran well"' \
	--initrd "$guest/initramfs.cpio" "$guest/vmlinuz-generic"
disk "MSI-X" 'PCI-MSI.*virtio' ''
disk "INTx" 'IO-APIC +1[6-9]-fasteoi +virtio' 'pci=nomsi'
disk "PIC" 'XT-PIC +virtio' 'nolapic'
disk "config space by ports" '^first' 'pci=nommconf,conf1'
cloud "two processors" 0 'init, uptime .* 2 cpu' 'vmxd.run="true"' --cpus 2
cloud "memory above 4 GiB" 0 'MemTotal: +[56][0-9]{6} kB' 'vmxd.run="cat /proc/meminfo"' \
	--memory 6144
cloud "paused all the time" 0 'guest-poweroff.* [0-9]{2,} pauses' 'vmxd.run="true"' --pause-every 10
for how in a k p b; do
	cloud "reboot=$how" 1 'stopped, guest-reset' "reboot=$how vmxd.run=\"true\" vmxd.end=reboot" \
		--on-reboot stop
done
cloud "reboot by triple fault" 1 'failed, triple-fault: triple fault, at RIP 0xffffffff' \
	'reboot=t vmxd.run="true" vmxd.end=reboot'
cloud "reset while it runs" 0 'guest-poweroff.* 1 resets' 'vmxd.run="sleep 10"' \
	--when 'init, uptime' --do reset
finish
