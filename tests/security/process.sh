#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a VM's process may do once its guest runs: no new privileges, no core files, no descriptor
# and no environment that is not its own, its socket for its owner only. The real machine program,
# with a multiboot guest of a few bytes that spins.
set -u
build=${VMXD_BUILDDIR:-$PWD}
dir=$(mktemp -d /tmp/vmxd-sec-XXXXXX)
export VMXD_SOCKET=$dir/s.sock VMXD_TEST_SECRET=must-not-reach-the-guest-process
passed=0 failed=0 skipped=0
exec 7</etc/hostname # a descriptor that nobody must inherit

"$build/vmxd" --socket "$VMXD_SOCKET" --runtime-dir "$dir/run" --state-dir "$dir/state" \
	</dev/null >/dev/null 2>"$dir/log" &
daemon=$!
finish() {
	"$build/vmctl" -q kill sec 2>/dev/null
	kill $daemon 2>/dev/null
	wait $daemon 2>/dev/null
	rm -rf "$dir"
}
trap finish EXIT
for _ in $(seq 100); do [ -S "$VMXD_SOCKET" ] && break; sleep 0.05; done

is() { # TEXT CONDITION...
	local text=$1
	shift
	if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $text"; fi
}

# Multiboot header with an address part: flags 0x10000, loaded and entered at 1 MiB; then jmp $.
printf '\002\260\255\033\000\000\001\000\376\117\121\344\000\000\020\000\000\000\020\000\000\000\000\000\000\000\000\000\040\000\020\000\353\376' >"$dir/k"
head -c 4096 /dev/zero >>"$dir/k"

"$build/vmctl" -q run sec --detach --engine soft --memory 32M --kernel "$dir/k" </dev/null >"$dir/out" 2>&1 ||
	cat "$dir/out" "$dir/log"
pid=$("$build/vmctl" --json info sec | sed 's/.*"pid": *\([0-9]*\).*/\1/')
is "the guest runs" grep -q vmxd-machine "/proc/$pid/cmdline"
is "no new privileges" grep -q '^NoNewPrivs:[[:space:]]*1' "/proc/$pid/status"
is "no capabilities" grep -Eq '^CapEff:[[:space:]]*0+$' "/proc/$pid/status"
for thread in "/proc/$pid/task/"*; do
	is "$(cat "$thread/comm") has a filter" grep -q '^Seccomp:[[:space:]]*2' "$thread/status"
done
if "$build/vmctl" info sec | grep -q 'empty_root *true'; then
	is "its root is empty" bash -c "[ -z \"\$(ls -A /proc/$pid/root/)\" ]"
else
	skipped=$((skipped + 1))
	echo "skip: no empty root here: $("$build/vmctl" info sec | grep ' root ')"
fi
is "no core files" grep -Eq '^Max core file size +0 +0' "/proc/$pid/limits"
is "no inherited environment" bash -c "! tr '\\0' '\\n' <'/proc/$pid/environ' | grep -q VMXD_TEST_SECRET"
is "no inherited descriptor" bash -c "! readlink /proc/$pid/fd/* | grep -q /etc/hostname"
is "not the daemon's socket or state" bash -c "! readlink /proc/$pid/fd/* | grep -q '$dir/state'"
is "no memory both writable and executable" bash -c "! grep -q '^[^ ]* rwx' /proc/$pid/maps"
is "the daemon maps no guest memory" bash -c "! grep -q guest-ram /proc/$daemon/maps"
is "its sockets are its owner's" bash -c "[ -z \"\$(find '$dir/run' -perm /077 ! -type l ! -name '*.sock' -print)\" ]"
is "it ends when told" "$build/vmctl" -q kill sec
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
