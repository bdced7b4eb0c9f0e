#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The KVM engine on a real kernel's kvm-amd, wherever this runs: a stock Debian kernel in QEMU, whose
# TCG plays an AMD processor with SVM. Takes a minute. The guest has one processor: with two, TCG's
# threads and the kernel's spinning in them make it take ten times as long on a busy machine. The kernel is the generic one that
# tests/guest/fetch-kernels left; its KVM modules are fetched here once.
guest=$VMXD_GUEST_DIR
host=$guest/kvm-host
contract=$VMXD_BUILDDIR/tests/contract/contract hammer=$VMXD_BUILDDIR/tests/contract/hammer
modules='virt/lib/irqbypass drivers/crypto/ccp/ccp arch/x86/kvm/kvm arch/x86/kvm/kvm-amd'

skip() {
	echo "$1: skip"
	echo "0 passed, 0 failed, 1 skipped"
	exit 77
}

for tool in qemu-system-x86_64 busybox cpio gzip dpkg-deb apt-get; do
	command -v $tool >/dev/null || skip "$tool is not installed"
done
[ -e "$guest/vmlinuz-generic.version" ] || skip "no generic kernel in $guest (see fetch-kernels)"

work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

if [ ! -e "$host/vmlinuz" ]; then
	package=$(cut -d_ -f1 "$guest/vmlinuz-generic.version")
	(cd "$work" && apt-get -q -o APT::Sandbox::User=root download "$package") ||
		skip "$package cannot be fetched"
	dpkg-deb -x "$work"/*.deb "$work/x" || exit 1
	mkdir -p "$host"
	for m in $modules; do
		cp "$work"/x/lib/modules/*/kernel/$m.ko "$host/" || exit 1
	done
	cp "$work"/x/boot/vmlinuz-* "$host/vmlinuz" || exit 1 # last: it says that all is there
	rm -rf "$work"/x "$work"/*.deb
fi

# QEMU's SVM does not intercept INT3, so what needs it is left out.
mkdir -p "$work"/root/{bin,proc,sys,dev}
cp "$(command -v busybox)" "$work/root/bin/busybox"
cp "$contract" "$hammer" "$host"/*.ko "$work/root/"
ldd "$contract" | grep -oE '/[^ ]+' | while read -r lib; do
	mkdir -p "$work/root$(dirname "$lib")" && cp -L "$lib" "$work/root$lib"
done
cat >"$work/root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for m in irqbypass kvm ccp kvm-amd; do insmod /$m.ko; done
/contract --engine kvm --hardware --without exception
/hammer --engine kvm --hardware 1 --exceptions 0 --seconds 12
echo "ended with $?"
poweroff -f
INIT
chmod +x "$work/root/init"
(cd "$work/root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd" || exit 1

timeout 300 qemu-system-x86_64 -M q35 -accel tcg -cpu max -smp 1 -m 512M \
	-display none -serial stdio -monitor none -nic none -no-reboot -kernel "$host/vmlinuz" \
	-initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1 mitigations=off" \
	</dev/null >"$work/log" 2>&1
status=$?
tr -d '\r' <"$work/log" | grep -v ': pass$'
# Two programs, two lines of totals.
totals=$(tr -d '\r' <"$work/log" | awk '
	/^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$/ { n++; p += $1; f += $3; s += $5 }
	END { if (n == 2) printf "%d passed, %d failed, %d skipped", p, f, s }')
if [ -z "$totals" ]; then
	failed=$(grep -c ': FAIL' "$work/log")
	if [ $status -eq 124 ] && [ "$failed" -eq 0 ]; then
		# Nothing failed; this machine has too much else to do.
		echo "only $(grep -c ': pass' "$work/log") tests were done in 300 s: skip"
		echo "0 passed, 0 failed, 1 skipped"
		exit 77
	fi
	echo "the guest did not come to its end"
	echo "0 passed, $((failed + 1)) failed, 0 skipped"
	exit 1
fi
echo "$totals"
[[ $totals == *" 0 failed,"* ]]
