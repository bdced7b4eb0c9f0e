# SPDX-License-Identifier: Apache-2.0
# What `vmctl doctor` says of the host's facilities: as it is, and where they were taken away.
. "$(dirname "$0")/../lib.sh"
make_dir doctor
probe=$build/vmxd-machine-fake # its engines are a test's, the rest is the host's

# says FILE NAME true|false WHY ADVICE: patterns of what a probe's result has about a facility.
says() {
	local name=$2 want="\"name\":\"$2\",\"usable\":$3,\"why\":\"$4\",\"advice\":\"$5\""
	check "$name: wanted $want" grep -q "$want" "$dir/$1"
}
explain() { show 2 "$dir/out"; }
truth() { if "$@"; then echo true; else echo false; fi; }

"$probe" --probe >"$dir/out"
for name in tap vhost-net passt virtiofsd io_uring huge-pages; do
	says out $name '[a-z]*' '[^"][^"]*' '[^"]*'
done
says out tap "$(truth dd if=/dev/net/tun count=0 status=none 2>/dev/null)" '.*' '.*'
says out vhost-net "$(truth test -w /dev/vhost-net)" '.*' '.*'
says out passt "$(truth test -n "$(command -v passt)")" '.*' '.*'
if grep -Eq '\[(always|within_size|advise)\]' /sys/kernel/mm/transparent_hugepage/shmem_enabled 2>/dev/null; then
	says out huge-pages true 'shmem_enabled is [a-z_]*' ''
fi

# Programs are found by PATH, and only if they can be run.
mkdir "$dir/none" "$dir/some"
PATH=$dir/none "$probe" --probe >"$dir/out"
says out passt false 'it is not installed' 'install the package passt.*'
: >"$dir/some/passt"
PATH=$dir/none:$dir/some "$probe" --probe >"$dir/out"
says out passt false 'it is not installed' 'install the package passt.*'
chmod +x "$dir/some/passt"
PATH=$dir/none::$dir/some "$probe" --probe >"$dir/out"
says out passt true "$dir/some/passt: .*" ''

# A host without any of it, as far as that can be made of this one.
cat >"$dir/bare" <<'END'
mount -t tmpfs none /dev || exit 77
for at in /usr/lib/qemu /usr/libexec /sys/kernel/mm; do
	[ ! -d $at ] || mount -t tmpfs none $at || exit 77
done
"$1" --probe
END
if unshare -m sh "$dir/bare" "$probe" >"$dir/out" 2>/dev/null; then
	says out tap false '/dev/net/tun: No such file or directory' 'load the module tun; .*'
	says out vhost-net false '/dev/vhost-net: No such file or directory' 'load the module vhost_net; .*'
	says out virtiofsd false 'it is not installed' 'install the package virtiofsd .*'
	says out huge-pages '[a-z]*' 'shmem_enabled is not there.*' '.*'
else
	skip "a mount namespace without /dev: not allowed here"
fi
if [ -w /dev/net/tun ] && setpriv --bounding-set -net_admin "$probe" --probe >"$dir/out" 2>/dev/null; then
	says out tap true 'taps can be used that were made for this user' "'ip tuntap add dev .*"
else
	skip "root without CAP_NET_ADMIN: not possible here"
fi
if setpriv --reuid 65534 --clear-groups true 2>/dev/null && [ "$(stat -c %a /dev/net/tun 2>/dev/null)" = 600 ]; then
	chmod 755 "$dir"
	setpriv --reuid 65534 --clear-groups "$probe" --probe >"$dir/out" 2>/dev/null
	says out tap false '/dev/net/tun: Permission denied' "let vmxd's user open it; .*"
else
	skip "a user who may not open /dev/net/tun: not possible here"
fi

# vmctl prints each, and the advice below it.
PATH=$dir/none:$PATH start_daemon --machine-program "$probe"
"$build/vmctl" doctor >"$dir/out"
for name in tap vhost-net passt virtiofsd io_uring huge-pages; do
	check "vmctl doctor: $name" grep -Eq "^$name +(not )?usable: [^ ]" "$dir/out"
done
check "vmctl doctor: advice" test "$(grep -c '^           [a-z]' "$dir/out")" -eq \
	"$("$build/vmctl" --json doctor | grep -o '"advice":"[^"]' | wc -l)"
finish
