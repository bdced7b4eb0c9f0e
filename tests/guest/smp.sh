#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A stock Debian kernel on 2 and 4 processors of the soft engine under a minute of smp-stress.c:
# forks, TLB shootdowns, pages that move, pipes, futexes, code that the kernel and programs rewrite for
# other processors, checked work; more code than the cache holds; its boot on as many as there can
# be. The kernel must not complain either. VMXD_SMP_SECONDS: longer by hand.
. "$(dirname "$0")/../lib.sh"
boot=$build/tests/guest/boot
seconds=${VMXD_SMP_SECONDS:-25}
need_guest vmlinuz-cloud vmlinuz-generic
make_dir smp
"$src/tests/guest/initramfs" "$dir/initrd" --add "$build/tests/guest/smp-stress=bin/smp-stress" \
	--add "$build/tests/guest/code-storm=bin/code-storm" || exit 1

# run NAME COMMAND SAYS KERNEL ARGS...: the command is the guest's, and says that. through: what boot is
# started by.
through=()
run() {
	local name=$1 work=$2 says=$3 kernel=$4 status complaint
	shift 4
	timeout $((seconds + 470)) "${through[@]}" "$boot" --engine soft --memory 512 --timeout $((seconds + 450)) \
		--initrd "$dir/initrd" "$@" \
		--cmdline "console=ttyS0 panic=-1 vmxd.run=\"$work\"" "$guest/$kernel" \
		>"$dir/out" 2>&1
	status=$?
	# What the kernel says when processors, timers or its own code do not agree.
	complaint=$(grep -aE 'BUG:|WARNING:|Oops|Call Trace|lockup|rcu: INFO|rcu_.*stall|hung task|blocked for more|marked unstable|general protection|segfault|trap invalid|do_IRQ|nobody cared' "$dir/out")
	if [ $status -eq 0 ] && grep -aq "$says" "$dir/out" && [ -z "$complaint" ]; then
		pass
		echo "$name: $(grep -ao "$says.*" "$dir/out")"
		return
	fi
	fail "$name: status $status${complaint:+, complaint: $complaint}; the end of the console:"
	show 30 "$dir/out"
}

# stress NAME KERNEL ARGS...
stress() { run "$1" "smp-stress $seconds" 'smp-stress: ok' "${@:2}"; }

stress "4 processors" vmlinuz-cloud --cpus 4
stress "2 processors" vmlinuz-generic --cpus 2
# Code thrown away all the time, under the feet of the other processors, one of which goes and comes.
online=/sys/devices/system/cpu/cpu2/online
run "3 processors, one off and on, a code cache of 2 MiB" \
	"while usleep 20000; do echo 0 >$online; echo 1 >$online; done & smp-stress $seconds && dmesg | \
	grep -q 'CPU 2 is now offline' && echo went off and on" '^went off and on' vmlinuz-cloud --cpus 3 --code-cache 2
# Filled many times over, by two processors, and what it makes checked.
run "3 processors, a code cache of 4 MiB" "code-storm 4 2" 'code-storm: ok' vmlinuz-cloud --cpus 3 --code-cache 4
run "64 processors" true 'uptime .* 64 cpu(s)' vmlinuz-cloud --cpus 64
# A guest that spins would never let its other processors run, nor boot look at its timeout.
through=(taskset -c "$(taskset -cp $$ | sed 's/.*[ ,-]//')" chrt -f 1)
if "${through[@]}" true 2>/dev/null; then
	run "3 processors on one of the host's, SCHED_FIFO" true 'uptime .* 3 cpu(s)' vmlinuz-cloud --cpus 3
else
	skip "SCHED_FIFO: not allowed here"
fi
finish
