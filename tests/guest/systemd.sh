# SPDX-License-Identifier: Apache-2.0
# vmxd as systemd's service in a stock Debian, which is a guest of vmxd's itself: VMs outlive a restart, a
# stop and a crash of the daemon. The VM in there is run by the software processor in the software
# processor: a minute on an idle machine, so this one is started by hand, in the build tree:
#   make -C build check TESTS=tests/guest/systemd.sh
. "$(dirname "$0")/../lib.sh"
PATH=$PATH:/sbin:/usr/sbin
need_guest vmlinuz-cloud initramfs-cloud.cpio rootfs.img
for tool in mke2fs make; do command -v $tool >/dev/null || skip_all "no $tool"; done
make_dir systemd

# What `make install` puts where, the libraries it wants, a guest, and what is to be done.
make -s -C "$build" install DESTDIR="$dir/tree" >"$dir/install" 2>&1 || {
	fail "make install"
	show 20 "$dir/install"
	finish
}
prefix=$(dirname "$(dirname "$(find "$dir/tree" -path '*/sbin/vmxd')")")
prefix=${prefix#"$dir/tree"}
libraries=$dir/tree/usr/lib/x86_64-linux-gnu
mkdir -p "$libraries"
ldd "$build/vmxd" "$build/vmxd-machine" "$build/vmxd-slirp" "$build/vmctl" |
	sed -n 's|.* \(/[^ ]*\) (.*|\1|p' | sort -u | xargs cp -L -t "$libraries"
mkdir "$dir/tree/srv"
spinning_kernel "$dir/tree/srv/k"
cat >"$dir/tree/srv/test" <<END
exec >/dev/ttyS0 2>&1
PATH=$prefix/bin:\$PATH
END
cat >>"$dir/tree/srv/test" <<'END'
pid() { vmctl --json info v 2>/dev/null | sed -n 's/.*"state":"running".*"pid": *\([0-9]*\).*/\1/p'; }
tell() {
	now=$(pid) # this may be what starts the service, by its socket
	[ "$now" != "$first" ] || now=same
	echo "SAY $1 $(systemctl is-active vmxd) $now"
}
ldconfig
systemctl daemon-reload
first=none
systemctl start vmxd
tell started
vmctl run v --detach --kernel /srv/k --memory 32M
first=$(pid)
tell running
systemctl restart vmxd
tell restarted
systemctl stop vmxd
echo "SAY stopped $(systemctl is-active vmxd) $(kill -0 "$first" && echo alive)"
systemctl start vmxd.socket
tell socket
kill -9 "$(systemctl show -p MainPID --value vmxd)"
until [ "$(systemctl is-active vmxd)" = active ]; do sleep 1; done
tell killed
echo "SAY empty_root $(vmctl info v | sed -n 's/.*empty_root *//p')"
echo "SAY found $(journalctl -u vmxd -o cat | grep -c 'vm v: found again')"
systemd-analyze security --no-pager vmxd | tail -n 1
vmctl kill v
echo "SAY done $?"
END
mke2fs -q -F -t ext4 -d "$dir/tree" "$dir/more.img" 96M 2>/dev/null || fail "mke2fs"
cp --sparse=always "$guest/rootfs.img" "$dir/root.img"

start_daemon
run="mount /dev/vdb /mnt && cp -an /mnt/. / && sh /srv/test; systemctl poweroff"
status=0
timeout 400 "$build/vmctl" run guest --rm --engine soft --cpus 2 --memory 512M --kernel "$guest/vmlinuz-cloud" \
	--initrd "$guest/initramfs-cloud.cpio" --disk "$dir/root.img" --disk "$dir/more.img" \
	--cmdline "console=ttyS0 quiet vmxd.modules vmxd.root=/dev/vda systemd.run=\"/bin/sh -c '$run'\"" \
	>"$dir/console" 2>&1 </dev/null || status=$?
check "the guest powered itself off: $status" [ "$status" = 0 ]
said started active
said running 'active same'
said restarted 'active same'
said stopped 'inactive alive'
said socket 'active same'
said killed 'active same'
said empty_root true
said found 3
said done 0
grep -a 'exposure level' "$dir/console"
[ "$failed" = 0 ] || show 60 "$dir/console"
finish
