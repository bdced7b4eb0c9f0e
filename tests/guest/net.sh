# SPDX-License-Identifier: Apache-2.0
# Network cards with a stock Debian kernel: user-mode networking, published ports, peers that die,
# two VMs on one wire, passt, taps. All of it in a network namespace of its own.
set -u
build=$VMXD_BUILDDIR guest=$VMXD_GUEST_DIR src=$VMXD_SRCDIR
passed=0 failed=0 skipped=0

finish() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" -eq 0 ] || exit 1
	[ "$passed" -gt 0 ] || exit 77
	exit 0
}
skip() { skipped=$((skipped + 1)) && echo "skip: $*"; }

if [ ! -f "$guest/vmlinuz-cloud" ]; then
	skip "no kernel in $guest: ./bootstrap build fetches it"
	finish
fi
if [ -z "${VMXD_NET_NS:-}" ]; then
	export VMXD_NET_NS=1
	map=-r
	[ "$(id -u)" != 0 ] || map=
	# shellcheck disable=SC2086
	if unshare $map -nm true 2>/dev/null; then
		exec unshare $map -nm bash "$0"
	fi
	skip "this host allows no network namespace"
	finish
fi
ip link set lo up
dir=$(mktemp -d "${TMPDIR:-/tmp}/vmxd-net.XXXXXX") || exit 1
export VMXD_SOCKET=$dir/vmxd.sock
initrd=$guest/initramfs-net.cpio
bash "$src/tests/guest/initramfs" "$initrd" --modules "$guest/modules-cloud" \
	--add "$src/tests/guest/udhcpc-script=bin/udhcpc-script" \
	--add "$src/tests/guest/net-guest=bin/net-guest" \
	--add "$build/tests/guest/net-tool=bin/net-tool" || { failed=1 && finish; }
daemon='' helpers=''

start_daemon() {
	"$build/vmxd" --socket "$VMXD_SOCKET" --runtime-dir "$dir/run" --state-dir "$dir/state" \
		>>"$dir/log" 2>&1 </dev/null &
	daemon=$!
	for _ in $(seq 100); do
		"$build/vmctl" list >/dev/null 2>&1 && return
		sleep 0.1
	done
}
cleanup() {
	for vm in a b; do "$build/vmctl" -q delete --force $vm >/dev/null 2>&1; done
	# shellcheck disable=SC2086
	kill $daemon $helpers 2>/dev/null
	wait 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT
start_daemon

ok() { # NAME CONDITION...
	local name=$1
	shift
	if "$@"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAIL: $name"
		tail -n 15 "$dir"/console.* "$dir/log" 2>/dev/null
	fi
}
# start NAME "STEPS" OPTION...: a guest that does the steps, its console in console.NAME
start() {
	local name=$1 steps=$2
	shift 2
	"$build/vmctl" -q run "$name" --rm --engine soft --memory 128M --kernel "$guest/vmlinuz-cloud" \
		--initrd "$initrd" --cmdline "console=ttyS0 quiet vmxd.modules vmxd.run=\"net-guest $steps\"" \
		"$@" >"$dir/console.$name" 2>&1 </dev/null &
}
# line NAME PATTERN [SECONDS]: does the guest say it? What it says is in $said.
line() {
	local until=$((SECONDS + ${3:-60}))
	said=
	while [ $SECONDS -lt $until ]; do
		said=$(tr -d '\r' <"$dir/console.$1" | grep -aE -m 1 "^(net|vmxd-guest): $2") && return 0
		grep -aq 'reboot: Power down' "$dir/console.$1" && sleep 0.2 && break
		sleep 0.1
	done
	said=$(tr -d '\r' <"$dir/console.$1" | grep -aE -m 1 "^(net|vmxd-guest): $2")
}
ended() { # NAME: it is gone
	for _ in $(seq 600); do
		"$build/vmctl" info "$1" >/dev/null 2>&1 || return 0
		sleep 0.1
	done
	return 1
}
sum() { sha256sum <"$1" | cut -c 1-64; }
same_sum() { [ "$(echo "$said" | cut -d ' ' -f 3)" = "$(sum "$1")" ]; }
links() { "$build/vmctl" --json info "$1" | grep -o '"link":[a-z]*' | tr '\n' ' '; }
link_is() { # NAME true|false
	for _ in $(seq 100); do
		[ "$(links "$1")" = "\"link\":$2 " ] && return 0
		sleep 0.1
	done
	return 1
}
head -c 4194304 /dev/urandom >"$dir/bytes"
have() { command -v "$1" >/dev/null || { skip "no $1" && return 1; }; }
. "$src/tests/guest/net-parts"
finish
