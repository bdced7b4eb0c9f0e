#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a VM's process may do once its guest runs: no new privileges, no core files, no descriptor
# and no environment that is not its own, its socket for its owner only. The real machine program,
# with a multiboot guest of a few bytes that spins.
. "$(dirname "$0")/../lib.sh"
make_dir process
export VMXD_TEST_SECRET=must-not-reach-the-guest-process
exec 7</etc/hostname # a descriptor that nobody must inherit

start_daemon

spinning_kernel "$dir/k"

"$build/vmctl" -q run sec --detach --engine soft --memory 32M --kernel "$dir/k" </dev/null >"$dir/out" 2>&1 ||
	cat "$dir/out" "$dir/log"
pid=$(vm_pid sec)
check "the guest runs" grep -q vmxd-machine "/proc/$pid/cmdline"
check "no new privileges" grep -q '^NoNewPrivs:[[:space:]]*1' "/proc/$pid/status"
check "no capabilities" grep -Eq '^CapEff:[[:space:]]*0+$' "/proc/$pid/status"
# A thread confines itself before anything else; on a busy host one may not have run at all yet.
for thread in "/proc/$pid/task/"*; do
	check "$(cat "$thread/comm") has a filter" wait_for 60 grep -q '^Seccomp:[[:space:]]*2' "$thread/status"
done
if "$build/vmctl" info sec | grep -q 'empty_root *true'; then
	check "its root is empty" bash -c "[ -z \"\$(ls -A /proc/$pid/root/)\" ]"
else
	skip "no empty root here: $("$build/vmctl" info sec | grep ' root ')"
fi
check "no core files" grep -Eq '^Max core file size +0 +0' "/proc/$pid/limits"
check "no inherited environment" bash -c "! tr '\\0' '\\n' <'/proc/$pid/environ' | grep -q VMXD_TEST_SECRET"
check "no inherited descriptor" bash -c "! readlink /proc/$pid/fd/* | grep -q /etc/hostname"
check "not the daemon's socket or state" bash -c "! readlink /proc/$pid/fd/* | grep -q '$dir/state'"
check "no memory both writable and executable" bash -c "! grep -q '^[^ ]* rwx' /proc/$pid/maps"
check "the daemon maps no guest memory" bash -c "! grep -q guest-ram /proc/$daemon/maps"
check "its sockets are its owner's" bash -c "[ -z \"\$(find '$dir/run' -perm /077 ! -type l ! -name '*.sock' -print)\" ]"
check "it ends when told" "$build/vmctl" -q kill sec

# Root that may neither mount nor be root in a namespace of its own: the rest of the sandbox stands.
fewer=-setfcap,-sys_admin
if [ "$(id -u)" = 0 ] && setpriv --bounding-set=$fewer --inh-caps=$fewer true 2>/dev/null; then
	setpriv --bounding-set=$fewer --inh-caps=$fewer "$build/vmxd-machine" --probe >"$dir/probe" 2>&1
	check "root with fewer capabilities: $(grep -o '"sandbox".*' "$dir/probe")" \
		grep -q '"enabled":true,.*"empty_root":false,"root":"root without CAP_SETFCAP' "$dir/probe"
else
	skip "not root, or no setpriv: root with fewer capabilities"
fi
finish
