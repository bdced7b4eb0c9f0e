# SPDX-License-Identifier: Apache-2.0
# Debian's own kernels through vmctl on a private vmxd: boot, self test, disk, power-off, reset, panic.
. "$(dirname "$0")/../lib.sh"
make_dir debian
start_daemon

# boot NAME FLAVOUR EXIT WANTED-LINE CMDLINE [VMCTL OPTION...]: the console must have the line, and vmctl
# end with that code.
boot() {
	local name=$1 flavour=$2 want_exit=$3 want_line=$4 cmdline=$5 status=0 start=$SECONDS # leaves its seconds in took
	shift 5
	if [ ! -f "$guest/vmlinuz-$flavour" ] || [ ! -f "$guest/initramfs-$flavour.cpio" ]; then
		skip "$name: no $flavour kernel in $guest (./bootstrap check fetches it)"
		return
	fi
	timeout 400 "$build/vmctl" run guest --rm --engine soft --memory 256M --kernel "$guest/vmlinuz-$flavour" \
		--initrd "$guest/initramfs-$flavour.cpio" --cmdline "console=ttyS0 $cmdline" "$@" \
		>"$dir/console" 2>&1 </dev/null || status=$?
	took=$((SECONDS - start))
	if [ "$status" = "$want_exit" ] && grep -qaF "$want_line" "$dir/console"; then
		pass
		echo "ok: $name ($took s)"
	else
		fail "$name: exit $status (wanted $want_exit), line '$want_line'; the console's end:"
		show 25 "$dir/console"
		show 5 "$dir/log"
		"$build/vmctl" delete --force guest >/dev/null 2>&1 || "$build/vmctl" kill guest >/dev/null 2>&1
	fi
}

boot 'cloud kernel: self test, power-off' cloud 0 'vmxd-guest: selftest ok' quiet
boot 'generic kernel: self test, power-off' generic 0 'vmxd-guest: selftest ok' quiet
boot 'reset ends a VM with --on-reboot stop' cloud 10 'run ended with status 0' \
	'quiet vmxd.end=reboot vmxd.run="true"' --on-reboot stop
between() { [ "$1" -le "$2" ] && [ "$2" -le "$3" ]; } # LEAST NUMBER MOST
# Not less than it slept by its own clock, nor more than passed here meanwhile.
boot 'clock and timers' cloud 0 'elapsed ' 'quiet vmxd.run="a=$(date +%s); sleep 2; b=$(date +%s); echo elapsed $((b - a))."'
if [ -f "$guest/vmlinuz-cloud" ]; then
	slept=$(sed -n 's/.*elapsed \([0-9]*\)\..*/\1/p' "$dir/console")
	check "the guest slept 2 s, not ${slept:-?} of the $took s that it ran" between 2 "${slept:-0}" $((took + 1))
fi

# A disk: the guest copies its first MiB to the second and leaves a mark; a read-only one refuses.
head -c 1048576 /dev/urandom >"$dir/disk"
truncate -s 4M "$dir/disk"
boot 'disk: read, write, flush' cloud 0 'disk done 0' \
	'quiet vmxd.modules vmxd.run="dd if=/dev/vda of=/dev/vda bs=64k count=16 seek=16 conv=notrunc,fsync 2>/dev/null; echo disk done $?"' \
	--disk "$dir/disk"
if [ -f "$guest/vmlinuz-cloud" ]; then
	check "what the guest wrote is on the disk" \
		cmp -s -n 1048576 "$dir/disk" <(tail -c +1048577 "$dir/disk")
fi
boot 'disk: read-only' cloud 0 'ro 1' \
	'quiet vmxd.modules vmxd.run="echo ro $(cat /sys/block/vda/ro); dd if=/dev/zero of=/dev/vda bs=512 count=1 2>&1"' \
	--disk "$dir/disk,readonly"
finish
