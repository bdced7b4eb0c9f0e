# SPDX-License-Identifier: Apache-2.0
# A user who is nobody in particular has a daemon and VMs of his own, sandboxed. Root, by whom tests are
# often run, may do all that the sandbox or the credentials of a peer would refuse him.
. "$(dirname "$0")/../lib.sh"
make_dir user
mkdir "$dir/bin"
# The build tree may be where he cannot read.
cp "$build/vmxd" "$build/vmxd-machine" "$build/vmxd-slirp" "$build/vmctl" "$dir/bin/"
build=$dir/bin
spinning_kernel "$dir/k"
chmod 644 "$dir/k"
truncate -s 1M "$dir/disk" "$dir/more"
if [ "$(id -u)" = 0 ]; then
	as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	chown -R 65534:65534 "$dir"
	"${as[@]}" true 2>/dev/null || skip_all "this root cannot become another user"
fi
explain() { show 15 "$dir/out" "$dir/log"; }
# ctl ARGUMENT...: vmctl as that user.
ctl() { "${as[@]}" "$build/vmctl" "$@" >"$dir/out" 2>&1 </dev/null; }
# is NAME STATE: what vmctl says of a VM.
is() { ctl --json info "$1" && grep -q "\"state\":\"$2\"" "$dir/out"; }

start_daemon
check "a VM with what needs no privilege starts" ctl run mine --detach --engine soft --memory 32M \
	--kernel "$dir/k" --disk "$dir/disk" --share "$dir/bin:t" --balloon --mem 64M --vsock "$dir/vsock" \
	--port "a=$dir/port"
check "it runs" wait_for 30 is mine running
pid=$(vm_pid mine)
check "its process is that user's" [ "$(stat -c %u "/proc/$pid")" = "$("${as[@]}" id -u)" ]
check "it stands still" ctl pause mine
check "it goes on" ctl resume mine
check "a card comes" ctl net add mine user
check "a disk comes" ctl disk add mine "$dir/more"
kill "$daemon"
wait "$daemon" 2>/dev/null
start_daemon
check "another daemon finds it" wait_for 30 is mine running
check "it is the same process" [ "$(vm_pid mine)" = "$pid" ]
check "it ends when told" ctl kill mine
finish
