# SPDX-License-Identifier: Apache-2.0
# A stock Debian cloud kernel on vhost-user devices, by vmctl and in the sandbox: a disk that
# qemu-storage-daemon serves and a virtio-fs that virtiofsd serves. The disk's server is killed while
# the guest writes and comes back: the guest waits and loses nothing. Another disk comes and goes while it
# runs.
. "$(dirname "$0")/../lib.sh"
modules=$guest/share-cloud
need_guest vmlinuz-cloud share-cloud/order
command -v qemu-storage-daemon >/dev/null || skip_all "no qemu-storage-daemon (Debian: qemu-system-common)"
for virtiofsd in /usr/libexec/virtiofsd /usr/lib/qemu/virtiofsd; do
	[ ! -x "$virtiofsd" ] || break
done
make_dir vhost
mkdir -p "$dir/root/data"
start_daemon --share-root "$dir/root"

serve_disk() { # NAME
	rm -f "$dir/$1.sock"
	qemu-storage-daemon --blockdev "driver=file,filename=$dir/$1,node-name=f" \
		--export "type=vhost-user-blk,id=e,addr.type=unix,addr.path=$dir/$1.sock,node-name=f,writable=on" \
		>>"$dir/disk.log" 2>&1 </dev/null &
	disk_server=$!
	helpers="$helpers $disk_server"
	wait_for 120 test -S "$dir/$1.sock"
}
console_has() {
	grep -qa "SAY $1" "$dir/console"
}

truncate -s 64M "$dir/disk"
head -c 8388608 /dev/urandom >"$dir/late"
cp "$dir/late" "$dir/late-before"
head -c 4194304 /dev/urandom >"$dir/pattern"
cp "$dir/pattern" "$dir/root/data/pattern"
cat >"$dir/root/data/script" <<'END'
say() { echo "SAY $*"; }
cd /mnt
say sum "$(md5sum <pattern)"
dd if=/dev/urandom of=/tmp/made bs=64k count=40 2>/dev/null
cp /tmp/made made && sync
mkdir dir && echo one >dir/a && mv dir/a dir/b && ln dir/b dir/c && ln -s b dir/s
say names "$(ls dir | tr '\n' ' ')$(cat dir/s)"
say size "$(cat /sys/block/vda/size) $(cat /sys/block/vda/ro)"
mkdir /own && mount -t virtiofs own /own
say own "$(cat /own/host)"
say served yes
for _ in $(seq 1500); do [ -s /mnt/go ] && break; usleep 100000; done
say dead "$(cat /own/host 2>&1 | grep -c .)"
umount /own; mount -t virtiofs own /own
say again "$(cat /own/host)"
echo from the guest >/own/guest && sync && umount /own
say plug
for _ in $(seq 1500); do [ -b /dev/vdb ] && break; usleep 100000; done
say late "$(md5sum </dev/vdb)"
dd if=pattern of=/dev/vdb bs=64k count=16 conv=notrunc,fsync 2>/dev/null
say marked "$?"
for _ in $(seq 1500); do [ -b /dev/vdb ] || break; usleep 100000; done
say pulled "$(ls /sys/block | grep -c vdb)"
say writing
for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do
	dd if=pattern of=/dev/vda bs=64k seek=$((i * 64)) conv=notrunc,fsync 2>/dev/null || say lost $i
done
say wrote "$(dd if=/dev/vda bs=4096k skip=14 count=1 2>/dev/null | md5sum)"
cd /
umount /mnt && say unmounted yes
END
want=$(md5sum <"$dir/pattern")
"$src/tests/guest/initramfs" "$dir/initramfs" --modules "$modules" || exit 1
mount='mkdir -p /mnt; mount -t virtiofs data /mnt && cp /mnt/script /tmp && sh /tmp/script'

# Nobody there, and somebody who is none: the VM does not start, and vmctl says what to do.
run() { # EXTRA...
	timeout 600 "$build/vmctl" run vhost --rm --engine soft --memory 256M --net none \
		--kernel "$guest/vmlinuz-cloud" --initrd "$dir/initramfs" "$@" \
		--cmdline "console=ttyS0 quiet vmxd.modules vmxd.run=\"$mount\"" </dev/null
}
run --vhost-user "blk,socket=$dir/disk.sock" >"$dir/out" 2>&1
check "a peer that is not there: $(cat "$dir/out")" \
	grep -q 'vhost_user\[0\].socket: .*: start the program that serves it first' "$dir/out"
run --vhost-user "blk,socket=$VMXD_SOCKET" >"$dir/out" 2>&1
check "a peer that speaks something else: $(cat "$dir/out")" \
	grep -q 'vhost_user\[0\]: it ' "$dir/out"

serve_disk disk
first_server=$disk_server
check "qemu-storage-daemon listens" test -S "$dir/disk.sock"
serve_disk late
"$virtiofsd" --socket-path="$dir/fs.sock" -o "source=$dir/root/data" -o sandbox=chroot \
	>"$dir/fs.log" 2>&1 </dev/null &
helpers="$helpers $!"
wait_for 120 test -S "$dir/fs.sock"
mkdir "$dir/root/own"
echo from the host >"$dir/root/own/host"
run --vhost-user "blk,socket=$dir/disk.sock" --vhost-user "fs,socket=$dir/fs.sock,tag=data" \
	--share "$dir/root/own:own,virtiofs" >"$dir/console" 2>&1 &
vm=$!
check "the guest mounts a share by virtiofs" wait_for 120 console_has served
own=$(pgrep -f 'virtiofsd --fd=3 -o source=/proc/self/fd/4/' | head -n 1)
check "the daemon has started its server" test -n "$own"
kill -9 $own
check "whose end is told" wait_for 120 grep -q 'shares\[0\]: its peer is gone' "$dir/log"
check "and which is started again" wait_for 120 grep -q 'shares\[0\]: its peer is there again' "$dir/log"
echo go >"$dir/root/data/go"
check "the guest waits for another disk" wait_for 120 console_has plug
"$build/vmctl" vhost add vhost "blk,socket=$VMXD_SOCKET" >"$dir/out" 2>&1
check "one whose peer speaks something else is refused: $(cat "$dir/out")" grep -q ': it ' "$dir/out"
check "another is plugged in" "$build/vmctl" -q vhost add vhost "blk,socket=$dir/late.sock,id=late"
check "and listed" grep -q '^late  *attached .* up  *blk ' <("$build/vmctl" vhost list vhost)
check "the guest writes to it" wait_for 120 console_has marked
"$build/vmctl" vhost remove vhost disk9 >"$dir/out" 2>&1
check "one that is not there: $(cat "$dir/out")" grep -q 'no vhost "disk9"' "$dir/out"
check "and lets it go" "$build/vmctl" vhost remove vhost late --timeout 300
check "it is not listed any more" test "$("$build/vmctl" vhost list vhost | sed 1d | cut -d ' ' -f 1 | tr '\n' ' ')" = 'vhost0 vhost1 '
check "and what the guest wrote is there" cmp -s -n 1048576 "$dir/pattern" "$dir/late"
check "the guest writes" wait_for 120 console_has writing
sleep 0.3
kill -9 "$first_server"
wait "$first_server" 2>/dev/null
check "the daemon tells that the peer is gone" wait_for 120 grep -q 'vhost_user\[0\]: its peer is gone' "$dir/log"
"$build/vmctl" --json info vhost >"$dir/info" 2>&1
check "vm.info shows it" grep -q '"kind":"blk","up":false,"why":"[a-z]' "$dir/info"
check "the VM runs on" grep -q '"state":"running"' "$dir/info"
serve_disk disk
check "the peer is back" wait_for 120 grep -q 'vhost_user\[0\]: its peer is there again' "$dir/log"
wait "$vm"
check "the guest powered itself off" test $? = 0
said sum "$want"
said names 'b c s one'
said size '131072 0'
said wrote "$want"
said unmounted yes
said late "$(md5sum <"$dir/late-before")"
said marked 0
said pulled 0
said own 'from the host'
said again 'from the host'
check "what it wrote there is here" test "$(cat "$dir/root/own/guest" 2>/dev/null)" = 'from the guest'
no_server() { ! pgrep -f 'virtiofsd --fd=3 -o source=/proc/self/fd/4/' >/dev/null; }
check "the server ends with the VM" wait_for 120 no_server
check "no write failed" test "$(grep -ac 'SAY lost\|I/O error' "$dir/console")" = 0
check "what the guest made is whole" test "$(stat -c %s "$dir/root/data/made" 2>/dev/null)" = 2621440
for i in 0 1 3 7 14; do
	check "block $i is on the disk" cmp -s "$dir/pattern" \
		<(dd if="$dir/disk" bs=4194304 skip="$i" count=1 2>/dev/null)
done
if [ "$failed" -gt 0 ]; then
	show 30 "$dir/console"
	show 15 "$dir/log" "$dir/disk.log" "$dir/fs.log"
fi
finish
