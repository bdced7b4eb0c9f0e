# SPDX-License-Identifier: Apache-2.0
# Network cards come and go under Debian's kernel: a user-mode card is plugged, answers on a published port
# of the host, survives a reset, is taken out, also by force, and comes again.
. "$(dirname "$0")/../lib.sh"
need_guest vmlinuz-cloud initramfs-cloud.cpio
make_dir netplug
ctl="$build/vmctl -q"
port=$((20000 + $$ % 20000))
start_daemon

explain() { show 5 "$dir/log" "$dir/console"; }

# The guest gives whatever card it finds the address that the router expects, and tells the card's own to
# who connects.
work='echo guest is up; ip link set lo up;
	nc -ll -p 7 -e cat /sys/class/net/eth0/address & while :; do
	if [ -d /sys/class/net/eth0 ]; then
	ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0 2>/dev/null; fi; usleep 100000; done'
work=$(echo $work)

answers() { # ADDRESS: the guest's card with it is reached
	local line _
	for _ in $(seq 600); do
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
wait_for 120 grep -q "guest is up" "$dir/console"
check "a card is plugged" $ctl net add plug "user,mac=${mac}1,id=a" --publish "127.0.0.1:$port:7"
check "and reached" answers "${mac}1"
check "it is listed" grep -q "^a  *attached .* up  *${mac}1  *user" <("$build/vmctl" net list plug)
$ctl reset plug
check "also after a reset" answers "${mac}1"
check "it is taken out" $ctl net remove plug a --timeout 300
check "another one" $ctl net add plug "user,mac=${mac}2,id=a" --publish "127.0.0.1:$port:7"
check "is reached" answers "${mac}2"
check "and taken by force" $ctl net remove plug a --force
check "its port is free" $ctl net add plug "user,mac=${mac}3,id=b" --publish "127.0.0.1:$port:7"
check "for the next, which the guest finds" answers "${mac}3"
finish
