# SPDX-License-Identifier: Apache-2.0
# Network cards with a stock Debian kernel: user-mode networking, published ports, peers that die,
# two VMs on one wire, passt, taps. All of it in a network namespace of its own.
. "$(dirname "$0")/../lib.sh"
need_guest vmlinuz-cloud
command -v ip >/dev/null || skip_all "no iproute2"
if [ -z "${VMXD_NET_NS:-}" ]; then
	export VMXD_NET_NS=1
	map=-r
	[ "$(id -u)" != 0 ] || map=
	# shellcheck disable=SC2086
	if unshare $map -nm true 2>/dev/null; then
		exec unshare $map -nm bash "$0"
	fi
	skip_all "this host allows no network namespace"
fi
ip link set lo up
make_dir net
initrd=$guest/initramfs-net.cpio
bash "$src/tests/guest/initramfs" "$initrd" --modules "$guest/modules-cloud" \
	--add "$src/tests/guest/udhcpc-script=bin/udhcpc-script" \
	--add "$src/tests/guest/net-guest=bin/net-guest" \
	--add "$build/tests/guest/net-tool=bin/net-tool" || exit 1
start_daemon

# The whole consoles: what went wrong may have been long before it was missed.
explain() {
	show +1 "$dir"/console.*
	show 15 "$dir/log"
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
	local until=$((SECONDS + ${3:-300}))
	while ! whole_line "$@"; do
		[ $SECONDS -lt $until ] || return 1
		# its last words may come behind that
		grep -aq 'reboot: Power down' "$dir/console.$1" && sleep 1 && { whole_line "$@"; return; }
		sleep 0.1
	done
}
whole_line() { # one that is half there has half a sum
	said=$(grep -asE -m 1 "^(net|vmxd-guest): $2.*"$'\r' "$dir/console.$1") && said=${said%$'\r'}
}
gone() { ! "$build/vmctl" info "$1" >/dev/null 2>&1; } # NAME
ended() { wait_for 120 gone "$1"; } # NAME
sum() { sha256sum <"$1" | cut -c 1-64; }
same_sum() { [ "$(echo "$said" | cut -d ' ' -f 3)" = "$(sum "$1")" ]; }
links() { "$build/vmctl" --json info "$1" | grep -o '"link":[a-z]*' | tr '\n' ' '; }
linked() { [ "$(links "$1")" = "\"link\":$2 " ]; } # NAME true|false
link_is() { wait_for 120 linked "$@"; } # NAME true|false
head -c 4194304 /dev/urandom >"$dir/bytes"
have() { command -v "$1" >/dev/null || { skip "no $1" && return 1; }; }
. "$src/tests/guest/net-parts"
finish
