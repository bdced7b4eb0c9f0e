#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A stock Debian kernel on 2 and 4 processors of the soft engine under a minute of smp-stress.c:
# forks, TLB shootdowns, pipes, futexes, code that the kernel and programs rewrite for other
# processors, checked work. The kernel must not complain either. VMXD_SMP_SECONDS: longer by hand.
set -u
boot=$VMXD_BUILDDIR/tests/guest/boot
guest=$VMXD_GUEST_DIR
here=$(cd -- "$(dirname -- "$0")" && pwd)
seconds=${VMXD_SMP_SECONDS:-25}
passed=0 failed=0
for kernel in vmlinuz-cloud vmlinuz-generic; do
	if [ ! -f "$guest/$kernel" ]; then
		echo "skip: $guest/$kernel is not there: ./bootstrap check fetches it"
		echo "0 passed, 0 failed, 1 skipped"
		exit 77
	fi
done
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
"$here/initramfs" "$tmp/initrd" --add "$VMXD_BUILDDIR/tests/guest/smp-stress=bin/smp-stress" || exit 1

# run NAME KERNEL ARGS...
run() {
	local name=$1 kernel=$2 status complaint
	shift 2
	timeout $((seconds + 170)) "$boot" --engine soft --memory 512 --timeout $((seconds + 150)) \
		--initrd "$tmp/initrd" "$@" \
		--cmdline "console=ttyS0 panic=-1 vmxd.run=\"smp-stress $seconds\"" "$guest/$kernel" \
		>"$tmp/out" 2>&1
	status=$?
	# What the kernel says when processors, timers or its own code do not agree.
	complaint=$(grep -aE 'BUG:|WARNING:|Oops|Call Trace|lockup|rcu: INFO|rcu_.*stall|hung task|blocked for more|marked unstable|general protection|segfault|trap invalid|do_IRQ|nobody cared' "$tmp/out")
	if [ $status -eq 0 ] && grep -aq 'smp-stress: ok' "$tmp/out" && [ -z "$complaint" ]; then
		passed=$((passed + 1))
		echo "$name: $(grep -ao 'smp-stress: ok.*' "$tmp/out")"
		return
	fi
	failed=$((failed + 1))
	echo "FAIL: $name: status $status${complaint:+, complaint: $complaint}; the end of the console:"
	tail -n 30 "$tmp/out" | sed 's/^/    /'
}

run "4 processors" vmlinuz-cloud --cpus 4
run "2 processors" vmlinuz-generic --cpus 2
# Code thrown away all the time, under the feet of the other processors.
run "3 processors, a code cache of 1 MiB" vmlinuz-cloud --cpus 3 --code-cache 1
echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
