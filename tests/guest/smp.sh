#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A stock Debian kernel on 2 and 4 processors of the soft engine under a minute of smp-stress.c:
# forks, TLB shootdowns, pipes, futexes, code that the kernel and programs rewrite for other
# processors, checked work. The kernel must not complain either. VMXD_SMP_SECONDS: longer by hand.
. "$(dirname "$0")/../lib.sh"
boot=$build/tests/guest/boot
seconds=${VMXD_SMP_SECONDS:-25}
need_guest vmlinuz-cloud vmlinuz-generic
make_dir smp
"$src/tests/guest/initramfs" "$dir/initrd" --add "$build/tests/guest/smp-stress=bin/smp-stress" || exit 1

# run NAME KERNEL ARGS...
run() {
	local name=$1 kernel=$2 status complaint
	shift 2
	timeout $((seconds + 170)) "$boot" --engine soft --memory 512 --timeout $((seconds + 150)) \
		--initrd "$dir/initrd" "$@" \
		--cmdline "console=ttyS0 panic=-1 vmxd.run=\"smp-stress $seconds\"" "$guest/$kernel" \
		>"$dir/out" 2>&1
	status=$?
	# What the kernel says when processors, timers or its own code do not agree.
	complaint=$(grep -aE 'BUG:|WARNING:|Oops|Call Trace|lockup|rcu: INFO|rcu_.*stall|hung task|blocked for more|marked unstable|general protection|segfault|trap invalid|do_IRQ|nobody cared' "$dir/out")
	if [ $status -eq 0 ] && grep -aq 'smp-stress: ok' "$dir/out" && [ -z "$complaint" ]; then
		pass
		echo "$name: $(grep -ao 'smp-stress: ok.*' "$dir/out")"
		return
	fi
	fail "$name: status $status${complaint:+, complaint: $complaint}; the end of the console:"
	show 30 "$dir/out"
}

run "4 processors" vmlinuz-cloud --cpus 4
run "2 processors" vmlinuz-generic --cpus 2
# Code thrown away all the time, under the feet of the other processors.
run "3 processors, a code cache of 2 MiB" vmlinuz-cloud --cpus 3 --code-cache 2
finish
