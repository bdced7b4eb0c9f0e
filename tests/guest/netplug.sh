# SPDX-License-Identifier: Apache-2.0
# Network cards come and go under Debian's kernel: a user-mode card is plugged, answers on a published port
# of the host, survives a reset, is taken out, also by force, and comes again.
set -u
build=$VMXD_BUILDDIR
guest=$VMXD_GUEST_DIR
passed=0 failed=0
for file in vmlinuz-cloud initramfs-cloud.cpio; do
	if [ ! -f "$guest/$file" ]; then
		echo "skip: $guest/$file is not there: ./bootstrap build fetches it"
		echo "0 passed, 0 failed, 1 skipped"
		exit 77
	fi
done
dir=$(mktemp -d "${TMPDIR:-/tmp}/vmxd-netplug.XXXXXX") || exit 1
export VMXD_SOCKET=$dir/vmxd.sock
ctl="$build/vmctl -q"
port=$((20000 + $$ % 20000))
"$build/vmxd" --socket "$VMXD_SOCKET" --runtime-dir "$dir/run" --state-dir "$dir/state" \
	>"$dir/log" 2>&1 </dev/null &
daemon=$!
cleanup() {
	$ctl kill plug 2>/dev/null
	kill $daemon 2>/dev/null
	wait $daemon 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT
trap "exit 1" TERM INT
for _ in $(seq 100); do [ -S "$VMXD_SOCKET" ] && break; sleep 0.1; done

check() { # NAME COMMAND...
	local name=$1
	shift
	if "$@"; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAIL: $name"
		tail -n 5 "$dir/log" "$dir/console" | sed 's/^/    /'
	fi
}

# The guest gives whatever card it finds the address that the router expects, and tells the card's own to
# who connects.
work='echo guest is up; ip link set lo up;
	nc -ll -p 7 -e cat /sys/class/net/eth0/address & while :; do
	if [ -d /sys/class/net/eth0 ]; then
	ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0 2>/dev/null; fi; usleep 100000; done'
work=$(echo $work)

answers() { # ADDRESS: the guest's card with it is reached
	local line _
	for _ in $(seq 200); do
		line=
		{ read -r -t 2 line <&3; } 3<>/dev/tcp/127.0.0.1/$port
		[ "$line" = "$1" ] && return 0
		sleep 0.2
	done 2>/dev/null
	return 1
}

mac=52:54:00:00:00:0
$ctl create plug --engine soft --memory 256M --kernel "$guest/vmlinuz-cloud" --net none \
	--initrd "$guest/initramfs-cloud.cpio" --cmdline "console=ttyS0 quiet vmxd.modules vmxd.run=\"$work\"" ||
	failed=1
$ctl start plug || failed=1
$ctl console plug </dev/null >"$dir/console" 2>&1 &
for _ in $(seq 300); do grep -q "guest is up" "$dir/console" && break; sleep 0.1; done
check "a card is plugged" $ctl net add plug "user,mac=${mac}1,id=a" --publish "127.0.0.1:$port:7" >/dev/null
check "and reached" answers "${mac}1"
check "it is listed" grep -q "^a  *attached .* up  *${mac}1  *user" <("$build/vmctl" net list plug)
$ctl reset plug
check "also after a reset" answers "${mac}1"
check "it is taken out" $ctl net remove plug a --timeout 60
check "another one" $ctl net add plug "user,mac=${mac}2,id=a" --publish "127.0.0.1:$port:7" >/dev/null
check "is reached" answers "${mac}2"
check "and taken by force" $ctl net remove plug a --force
check "its port is free" $ctl net add plug "user,mac=${mac}3,id=b" --publish "127.0.0.1:$port:7" >/dev/null
check "for the next, which the guest finds" answers "${mac}3"
echo "$passed passed, $failed failed, 0 skipped"
[ $failed -eq 0 ]
