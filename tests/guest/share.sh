# SPDX-License-Identifier: Apache-2.0
# A stock Debian kernel's own 9P client on directories of the host, by vmctl and in the sandbox: files
# both ways by checksum, names, links, permissions, read-only, and attempts to leave the directory.
. "$(dirname "$0")/../lib.sh"
modules=$guest/share-generic # Debian's cloud kernel has no 9P
need_guest vmlinuz-generic share-generic/order
make_dir share
mkdir "$dir/root" "$dir/root/rw" "$dir/root/ro"
start_daemon --share-root "$dir/root"
head -c 6000000 /dev/urandom >"$dir/root/rw/big"
mkdir "$dir/root/rw/many"
(cd "$dir/root/rw/many" && seq -f 'file-%04g' 1 1000 | xargs touch)
echo secret >"$dir/secret"
chmod 600 "$dir/secret"
ln -s "$dir/secret" "$dir/root/rw/absolute"
ln -s ../../secret "$dir/root/rw/relative"
echo text >"$dir/root/ro/file"
cat >"$dir/root/rw/script" <<'END'
say() { echo "SAY $*"; }
rw=/mnt/rw ro=/mnt/ro
say sum "$(md5sum <$rw/big)"
cp $rw/big $rw/copy && sync
dd if=/dev/urandom of=/tmp/made bs=64k count=40 2>/dev/null
cp /tmp/made $rw/made
say made "$(md5sum </tmp/made)"
say many "$(ls $rw/many | wc -l)"
mkdir $rw/dir && echo one >$rw/dir/a && mv $rw/dir/a $rw/dir/b && ln $rw/dir/b $rw/dir/c
echo two >>$rw/dir/c
say both "$(cat $rw/dir/b | tr '\n' ' ')"
ln -s b $rw/dir/s
say link "$(readlink $rw/dir/s) $(cat $rw/dir/s | wc -l)"
rm $rw/dir/c
say gone "$(rm $rw/dir 2>&1 | wc -l) $(rmdir $rw/dir 2>&1 | grep -c 'not empty')"
mkfifo $rw/pipe && { echo through >$rw/pipe & }
say pipe "$(cat $rw/pipe)"
chmod 4751 $rw/made
say mode "$(stat -c %a $rw/made)"
chown 7:7 $rw/made
say owner "$?"
truncate -s 1000 $rw/copy
say size "$(stat -c %s $rw/copy)"
touch -d '2001-02-03 04:05:06' $rw/copy
say time "$(stat -c %Y $rw/copy)"
exec 5>$rw/unlinked
rm $rw/unlinked
echo still >&5
say unlinked "$?"
say absolute "$(cat $rw/absolute 2>&1 | grep -c 'No such file')"
say relative "$(cat $rw/relative 2>&1 | grep -c 'No such file')"
say above "$(ls $rw/.. | tr '\n' ' ')"
say device "$(mknod $rw/null c 1 3 2>&1 | grep -c 'not permitted')"
say ro "$(cat $ro/file) $(echo x 2>&1 >$ro/file | wc -l) $(rm $ro/file 2>&1 | grep -c 'Read-only')"
say ro2 "$(mkdir $ro/d 2>&1 | grep -c 'Read-only') $(mv $ro/file $ro/f 2>&1 | grep -c 'Read-only')"
say ro3 "$(chmod 777 $ro/file 2>&1 | grep -c 'Read-only') $(touch $ro/n 2>&1 | grep -c 'Read-only')"
END
want=$(md5sum <"$dir/root/rw/big")
"$src/tests/guest/initramfs" "$dir/initramfs" --modules "$modules" || exit 1
timeout 600 "$build/vmctl" run share --rm --engine soft --memory 256M --net none --kernel "$guest/vmlinuz-generic" \
	--initrd "$dir/initramfs" --share "$dir/root/rw:data" --share "$dir/root/ro:fixed,ro" \
	--cmdline 'console=ttyS0 quiet vmxd.modules vmxd.run="mkdir -p /mnt/rw /mnt/ro; o=trans=virtio,version=9p2000.L,msize=262144; mount -t 9p -o $o data /mnt/rw && mount -t 9p -o $o fixed /mnt/ro && sh /mnt/rw/script"' \
	>"$dir/console" 2>&1 </dev/null
check "the guest powered itself off" test $? = 0

said sum "${want}"
said many 1000
said both 'one two'
said link 'b 2'
said gone '1 1'
said pipe through
said mode 751
said owner 0
said size 1000
said time 981173106
said unlinked 0
said absolute 1
said relative 1
said above 'ro rw'
said device 1
said ro 'text 1 1'
said ro2 '1 1'
said ro3 '1 1'
made=$(sed -n 's/\r//; s/^SAY made //p' "$dir/console")
check "what the guest made is what it sent" test "$made" = "$(md5sum <"$dir/root/rw/made")"
check "what the guest copied begins as the original" cmp -s -n 1000 "$dir/root/rw/big" "$dir/root/rw/copy"
check "no set-user-ID bit" test "$(stat -c %a "$dir/root/rw/made")" = 751
check "the owner is the VM's user" test "$(stat -c %u "$dir/root/rw/made")" = "$(id -u)"
check "the symbolic link is as the guest made it" test "$(readlink "$dir/root/rw/dir/s")" = b
check "the hard link is gone, the file is not" test "$(stat -c %h "$dir/root/rw/dir/b")" = 1
check "nothing outside changed" test "$(cat "$dir/secret")" = secret
check "nothing read-only changed" test "$(ls "$dir/root/ro") $(cat "$dir/root/ro/file")" = 'file text'
if [ "$failed" -gt 0 ]; then
	show 30 "$dir/console"
	show 5 "$dir/log"
fi
finish
