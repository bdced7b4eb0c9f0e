# SPDX-License-Identifier: Apache-2.0
# What the tests in shell share: counting, a directory and a vmxd of a test's own, which go when it
# ends, and small guests. A test reads it at its beginning: . "$(dirname "$0")/../lib.sh"
set -u
src=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
build=${VMXD_BUILDDIR:-$PWD}
guest=${VMXD_GUEST_DIR:-$build/guest}
passed=0 failed=0 skipped=0
dir='' daemon='' helpers='' # helpers: what else ends with the test, process ids
as=() # what start_daemon starts vmxd through

# Counts a case that held.
pass() { passed=$((passed + 1)); }
# fail TEXT...: counts a case that did not hold, and lets the test show why.
fail() {
	failed=$((failed + 1))
	printf 'FAIL: %s\n' "$*"
	explain
}
# What a failure is shown with; a test may have its own.
explain() { :; }
# skip TEXT...: counts a case that cannot be tried here.
skip() {
	skipped=$((skipped + 1))
	printf 'skip: %s\n' "$*"
}
# Ends the test with its last line and status.
finish() {
	printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
	[ "$failed" -eq 0 ] || exit 1
	[ "$passed" -gt 0 ] || exit 77
	exit 0
}
# skip_all TEXT...: ends a test that cannot be tried here at all.
skip_all() {
	skip "$@"
	finish
}
# check NAME COMMAND...: a case that holds if the command does.
check() {
	local name=$1
	shift
	if "$@"; then pass; else fail "$name"; fi
}
# show LINES FILE...: the ends of files, as far as they are there.
show() { tail -n "$@" 2>/dev/null | sed 's/^/    /'; }
# wait_for SECONDS COMMAND...: tries it until it holds.
wait_for() {
	local tries=$(($1 * 10))
	shift
	while ! "$@"; do
		[ $((tries -= 1)) -gt 0 ] || return 1
		sleep 0.1
	done
}

# need_guest FILE...: no test without these kernels and initramfs.
need_guest() {
	local file
	for file in "$@"; do
		[ -f "$guest/$file" ] || skip_all "$guest/$file is not there: ./bootstrap check fetches it"
	done
}
# add_programs FILE...: words for `initramfs` that put them into /bin, and what they need of the host's
# libraries where it is here, into the array adds.
add_programs() {
	local path
	for path; do
		adds+=(--add "$path=bin/${path##*/}")
	done
	while read -r path; do
		adds+=(--add "$path=$path")
	done < <(ldd "$@" | sed -n 's|.* \(/[^ ]*\) (.*|\1|p; s|^[[:space:]]*\(/[^ ]*\) (.*|\1|p' | sort -u)
}
# make_dir NAME: the test's own directory $dir, which goes with what the test started.
make_dir() {
	dir=$(mktemp -d "${TMPDIR:-/tmp}/vmxd-$1.XXXXXX") || exit 1
	trap tidy EXIT
	trap 'exit 1' TERM INT
}
# Ends the daemon's VMs, the daemon and the helpers, and removes the directory.
tidy() {
	local vm
	for vm in $([ -z "$daemon" ] || "$build/vmctl" list 2>/dev/null | sed 1d | cut -d ' ' -f 1); do
		"$build/vmctl" -q kill "$vm" >/dev/null 2>&1
	done
	# shellcheck disable=SC2086
	kill $daemon $helpers 2>/dev/null
	wait 2>/dev/null
	rm -rf "$dir"
}
# start_daemon OPTION...: a vmxd that has its socket, state and log in $dir, for every vmctl from here on.
start_daemon() {
	export VMXD_SOCKET=$dir/vmxd.sock
	"${as[@]}" "$build/vmxd" --socket "$VMXD_SOCKET" --runtime-dir "$dir/run" --state-dir "$dir/state" "$@" \
		>>"$dir/log" 2>&1 </dev/null &
	daemon=$!
	wait_for 60 "$build/vmctl" -q list >/dev/null 2>&1 && return
	fail "vmxd does not answer"
	show 15 "$dir/log"
	finish
}
# vm_pid NAME: prints the VM's process.
vm_pid() { "$build/vmctl" --json info "$1" | sed 's/.*"pid": *\([0-9]*\).*/\1/'; }
# spinning_kernel FILE: makes a multiboot kernel, loaded and entered at 1 MiB, that is `jmp .`.
spinning_kernel() {
	printf '\002\260\255\033\000\000\001\000\376\117\121\344\000\000\020\000\000\000\020\000\000\000\000\000\000\000\000\000\040\000\020\000\353\376' >"$1"
	head -c 4096 /dev/zero >>"$1"
}
# said NAME VALUE: checks that the guest has written the line "SAY NAME VALUE" to $dir/console.
said() {
	check "guest: $1: wanted '$2', got '$(sed -n "s/\r//; s/^SAY $1 //p" "$dir/console")'" \
		grep -qaxE "SAY $1 $2 ?.?" "$dir/console"
}
