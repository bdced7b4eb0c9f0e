# SPDX-License-Identifier: Apache-2.0
# Disks come and go under Debian's kernel, which needs nothing for it: plugged, written, taken out
# while it writes, many times; taken away by force; over a pause and a reset; a guest that is deaf.
. "$(dirname "$0")/../lib.sh"
rounds=${ROUNDS:-8}
need_guest vmlinuz-cloud initramfs-cloud.cpio
make_dir hotplug
ctl="$build/vmctl -q"
start_daemon

explain() { show 5 "$dir/log" "$dir/console"; }

# The guest writes each disk's serial number into its first sector, writes on behind it, and then reads
# for as long as it can. (It opens a disk for writing once only: a node that is gone by then would become
# a file. Neither commas nor quotes: it is on the command line.)
work='echo guest is up; while :; do for n in $(ls /sys/block | grep ^vd); do
	s=$(cat /sys/block/$n/serial 2>/dev/null); [ x$s = x ] && continue;
	[ -b /dev/$n ] || continue; [ -e /tmp/$s ] && continue; touch /tmp/$s;
	(exec 3<>/dev/$n; printf %-512s $s | dd bs=512 count=1 conv=fsync >&3 2>/dev/null;
	dd if=/dev/zero bs=4k count=900 conv=fsync >&3 2>/dev/null;
	while dd if=/dev/$n of=/dev/null bs=4k iflag=direct 2>/dev/null; do :; done) &
	done; usleep 20000; done'
work=$(echo $work)
truncate -s 4M "$dir/a" "$dir/b"

begins() { [ "$(head -c ${#2} "$1" | tr -d '\0')" = "$2" ]; } # FILE TEXT
marked() { wait_for 120 begins "$@"; } # FILE TEXT: the guest has found it
no_disks() { [ -z "$("$build/vmctl" disk list "$1")" ]; } # NAME

$ctl create hot --engine soft --memory 256M --kernel "$guest/vmlinuz-cloud" \
	--initrd "$guest/initramfs-cloud.cpio" --disk "$dir/a,serial=cold" \
	--cmdline "console=ttyS0 quiet vmxd.modules vmxd.run=\"$work\"" || failed=1
$ctl start hot || failed=1
$ctl console hot </dev/null >"$dir/console" 2>&1 &
check "the guest runs and sees its first disk" marked "$dir/a" cold
[ $failed -eq 0 ] || finish

round() { # N: plug, wait for the guest, take out while it writes
	$ctl disk add hot "$dir/b,serial=round-$1,id=hot$1" >/dev/null || return 1
	marked "$dir/b" "round-$1" || { echo "round $1: the guest does not see it"; return 1; }
	$ctl disk remove hot "hot$1" --timeout 300
}
good=0
for ((n = 1; n <= rounds; n++)); do
	round $n || break
	good=$n
done
check "$rounds disks come and go under I/O ($good did)" [ "$good" -eq "$rounds" ]
[ $failed -eq 0 ] || finish

# The one it started with too, and back again.
check "the first disk can be taken out" $ctl disk remove hot disk0
check "and plugged again" $ctl disk add hot "$dir/a,serial=again"
check "where the guest sees it" marked "$dir/a" again

# Taken away while it is written: the host has the image back at once, and the guest, which sees errors,
# lets go of what is left.
check "one more" $ctl disk add hot "$dir/b,id=lost,serial=lost"
check "which the guest writes to" marked "$dir/b" lost
check "is taken away" $ctl disk remove hot lost --force
check "and is not there" [ "$("$build/vmctl" disk list hot | sed 1d | cut -d ' ' -f 1)" = disk0 ]
check "its image goes to another at once" $ctl disk add hot "$dir/b,serial=after-lost,id=disk1"
check "which the guest sees" marked "$dir/b" after-lost
check "and lets go" $ctl disk remove hot disk1

# While it is paused nothing is seen; afterwards it is.
$ctl pause hot
check "a paused guest gets a disk" $ctl disk add hot "$dir/b,serial=paused,id=p"
$ctl resume hot
check "and sees it when it goes on" marked "$dir/b" paused

# A reset finds it where firmware would have put it. (Who wrote what there is gone by then.)
$ctl pause hot
: >"$dir/b" && truncate -s 4M "$dir/b"
$ctl reset hot
$ctl resume hot
check "it is there after a reset" marked "$dir/b" paused
check "and can be taken out then" $ctl disk remove hot p

# What comes while the guest boots is not lost.
for after in 0 0.5 1 1.5; do
	check "one is added before a reset" $ctl disk add hot "$dir/b,id=early"
	$ctl reset hot
	sleep $after
	check "and asked for $after s after it" $ctl disk remove hot early --timeout 300
done
check "what is kept is what is there" [ "$("$build/vmctl" disk list hot | sed 1d | cut -d ' ' -f 1)" = disk0 ]
$ctl kill hot

# A guest that knows no ACPI: the removal has a time limit, and can be forced.
spinning_kernel "$dir/k"
$ctl run deaf --detach --engine soft --memory 32M --kernel "$dir/k" --disk "$dir/b" </dev/null
$ctl disk remove deaf disk0 --timeout 0.3 2>"$dir/error"
check "a deaf guest's disk is not gone in time" [ $? -eq 124 ]
check "which is said in words" grep -q 'has not let disk0 go in time' "$dir/error"
check "it is marked" grep -q 'removing' <("$build/vmctl" disk list deaf)
check "but goes by force" $ctl disk remove deaf disk0 --force
check "one is added" $ctl disk add deaf "$dir/b,id=x"
$ctl disk remove deaf x --timeout 0.1 2>/dev/null
$ctl reset deaf
check "what was asked for is gone after a reset" wait_for 120 no_disks deaf
finish
