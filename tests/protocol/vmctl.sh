#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vmctl as people and scripts use it: every verb, every exit status, pipes, terminals, signals.
set -u
build=${VMXD_BUILDDIR:-$PWD}
dir=$(mktemp -d /tmp/vmxd-cli-XXXXXX)
export VMXD_SOCKET=$dir/s.sock
passed=0 failed=0 skipped=0
vmctl=$build/vmctl

mkdir "$dir/bin" # vmxd-slirp is looked for beside the machine's program
cp "$build/vmxd-machine-fake" "$build/vmxd-slirp" "$dir/bin" || exit 1
setsid "$build/vmxd" --socket "$VMXD_SOCKET" --runtime-dir "$dir/run" --state-dir "$dir/state" \
	--share-root "$dir" --machine-program "$dir/bin/vmxd-machine-fake" </dev/null >/dev/null 2>"$dir/log" &
daemon=$!

finish() {
	for vm in $("$vmctl" --json list 2>/dev/null | sed 's/.*"name":"\([^"]*\)".*/\1/'); do
		"$vmctl" kill "$vm" 2>/dev/null
	done
	kill $daemon 2>/dev/null
	wait $daemon 2>/dev/null
	rm -rf "$dir"
}
trap finish EXIT
# within COMMAND...: tries it for 30 seconds, until it holds
within() {
	local tries=600
	until "$@"; do
		[ $((tries -= 1)) -gt 0 ] || return 1
		sleep 0.05
	done
}
said() { grep -q "$1" "$dir/out" 2>/dev/null; }
running() { "$vmctl" --json info "$1" 2>/dev/null | grep -q '"running"'; }
within test -S "$VMXD_SOCKET"

# A kernel as the fake board wants it: the boot flag and the magic, nothing else.
head -c 8192 /dev/zero >"$dir/k"
printf '\125\252' | dd of="$dir/k" bs=1 seek=510 conv=notrunc 2>/dev/null
printf 'HdrS' | dd of="$dir/k" bs=1 seek=514 conv=notrunc 2>/dev/null
head -c 4096 /dev/zero >"$dir/disk"
cd "$dir" || exit 1

good() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "FAILED: $*"; cat "$dir/out" "$dir/err"; }
# STATUS COMMAND...: runs it (standard input is ours), output in out and err
run() {
	local want=$1 got
	shift
	timeout -k 5 120 "$@" >"$dir/out" 2>"$dir/err"
	got=$?
	if [ $got -eq "$want" ]; then good; else bad "$* gave $got, not $want"; fi
}
has() { # FILE TEXT
	if grep -qF -- "$2" "$dir/$1"; then good; else bad "$1 has no: $2"; fi
}
empty() { if [ ! -s "$dir/$1" ]; then good; else bad "$1 is not empty"; fi; }

# A vmxd-slirp that is not there is told at once; one that turns out to be none costs the guest its link.
mv bin/vmxd-slirp bin/away
run 1 "$vmctl" run --rm --kernel k --cmdline poweroff </dev/null
has err "vmxd-slirp cannot be started: No such file or directory"
echo "#!/no/such/program" >bin/vmxd-slirp
chmod +x bin/vmxd-slirp
run 0 "$vmctl" run noslirp --rm --kernel k --cmdline "sleep=1 poweroff" </dev/null
has log "vm noslirp: net0.kind: vmxd-slirp cannot be started: No such file or directory"
mv bin/away bin/vmxd-slirp

# Ends of a run, and what scripts see of them.
run 0 "$vmctl" run a --kernel k --cmdline "say=hello_guest poweroff" </dev/null
has out "hello guest"
has err "powered itself off"
run 0 "$vmctl" -q run --rm --kernel k --cmdline "say=hello poweroff" </dev/null
empty err
run 10 "$vmctl" run --rm --on-reboot stop --kernel k --cmdline "reboot=1" </dev/null
run 0 "$vmctl" run --rm --kernel k --cmdline "reboot=2 poweroff" </dev/null
run 0 "$vmctl" run loop --rm --kernel k --cmdline "sleep=2 reboot=200 poweroff" </dev/null
if [ "$(grep -c 'vm loop: reset' "$dir/log")" -le 16 ]; then good; else bad "resets fill the log"; fi
has log 'vm loop: reset ('
run 11 "$vmctl" run --rm --kernel k --cmdline "say=last_words crash" </dev/null
has out "last words"
has err "triple fault at RIP"
run 13 "$vmctl" run --rm --kernel k --cmdline "sleep=50 engine" </dev/null
run 14 "$vmctl" --json run --rm --debug-exit --kernel k --cmdline "debugexit=3" </dev/null
has err '"exit_code":7'
run 0 "$vmctl" run n --nested --kernel k --cmdline "vmx poweroff" </dev/null
has out "VMX is there"
run 0 "$vmctl" --json info n
has out '"nested":true'
run 0 "$vmctl" delete n
run 0 "$vmctl" run n --kernel k --cmdline "vmx poweroff" </dev/null
has out "no VMX"
run 0 "$vmctl" --json info n
has out '"nested":false'
run 0 "$vmctl" delete n
run 15 "$vmctl" run --rm --kernel k --cmdline "sleep=100 abort" </dev/null
run 1 "$vmctl" run --rm --kernel log </dev/null
has err "not a bzImage"
run 1 "$vmctl" run x --kernel nothing </dev/null
has err "kernel: $dir/nothing: No such file"
# What could not be started is not kept.
run 1 "$vmctl" run lost --kernel k --vhost-user blk,socket="$dir/x" </dev/null
run 4 "$vmctl" info lost
run 1 "$vmctl" run lost --detach --kernel k --vhost-user blk,socket="$dir/x" </dev/null
has err "start the program that serves it first"
run 4 "$vmctl" info lost
run 1 "$vmctl" run a --kernel k </dev/null
has err "already"
run 1 "$vmctl" run x --kernel k --memory 999T </dev/null
run 1 "$vmctl" --json run x --kernel k --engine tcg </dev/null
has err '"field":"engine"'

# Input and output are pipes; the end of input is not the end of the session.
printf 'one\ntwo\npoweroff\n' | run 0 "$vmctl" run --rm --kernel k --cmdline shell
has out "got: two"
run 0 "$vmctl" run --rm --kernel k --cmdline "sleep=300 say=late poweroff" <&-
has out "late"
run 0 sh -c "exec '$vmctl' -q run --rm --kernel k --cmdline 'sleep=300 say=unheard poweroff' <&- >&- 2>&-"
# So much is kept for a reader, however slow it is.
"$vmctl" -q run --rm --kernel k --cmdline "flood=256000 poweroff" </dev/null 2>&1 | cat >"$dir/flood"
if [ "$(wc -c <"$dir/flood")" -eq 256000 ]; then good; else bad "flood: $(wc -c <"$dir/flood")"; fi
# Enough is enough: a reader that leaves ends the session.
timeout 120 "$vmctl" -q run --rm --kernel k --cmdline "flood=100000000 poweroff" </dev/null 2>/dev/null | head -c 1000 >/dev/null
case ${PIPESTATUS[0]} in 141) good ;; *) bad "closed pipe: ${PIPESTATUS[0]}" ;; esac

# The rest of a life.
mkdir sh:are
run 1 "$vmctl" create b --kernel k --vsock "$dir/v,cid=x"
has err 'vsock.cid'
run 1 "$vmctl" create b --kernel k --vsock "$dir/v,cid=2"
has err 'vsock.cid'
run 0 "$vmctl" create b --kernel k --vsock v,w,cid=77
run 0 "$vmctl" --json info b
has out '"cid":77'
has out "\"path\":\"$dir/v,w\""
run 0 "$vmctl" delete b
run 1 "$vmctl" create b --kernel k --share /usr:t
has err 'shares[0].path: /usr: outside of what this vmxd may share (--share-root '
run 1 "$vmctl" create b --kernel k --share sh:are:t,rw
has err 'shares[0].tag'
run 2 "$vmctl" create b --kernel k --vhost-user blk,sock=x
has err '--vhost-user has no word "sock"'
run 2 "$vmctl" create b --kernel k --vhost-user blk,socket=x,queues=two
has err '--vhost-user: queues: "two" is no number'
run 0 "$vmctl" create v --kernel k --vhost-user fs,socket=x,tag=t,queue_size=64
run 0 "$vmctl" --json info v
has out "{\"device\":\"fs\",\"socket\":\"$dir/x\",\"tag\":\"t\",\"queue_size\":64,\"id\":\"vhost0\"}"
has out '"peers":[{"device":"vhost_user[0]","kind":"fs","up":false,"why":""}]'
run 0 "$vmctl" vhost add v blk,socket=y,id=other
has out other
run 0 "$vmctl" vhost list v
has out "other            configured    - down blk  $dir/y"
run 1 "$vmctl" vhost add v blk,socket=y,id=other
has err 'has a device "other" already'
run 2 "$vmctl" vhost add v blk,sock=y
run 0 "$vmctl" vhost remove v other
run 1 "$vmctl" vhost remove v other
has err 'v has no vhost "other"'
run 2 "$vmctl" vhost remove v vhost0 --force
run 2 "$vmctl" vhost list v --frob
has err "'vmctl help VERB' lists the options of a verb"
run 1 "$vmctl" start v
has err "vhost_user[0].socket: $dir/x: No such file or directory: start the program that serves it first"
run 0 "$vmctl" delete v
run 0 "$vmctl" create b --kernel k --disk disk,readonly,serial=S1 --disk "$dir/disk,readonly" --memory 64M \
	--share sh:are:one --share "$dir/sh:are:two,ro" \
	--cpus 2 --cmdline "say=up shell" --engine soft
run 0 "$vmctl" --json info b
has out '"readonly":true'
has out '"serial":"S1"'
has out "\"path\":\"$dir/disk\""
has out "{\"tag\":\"one\",\"path\":\"$dir/sh:are\"}"
has out "{\"readonly\":true,\"tag\":\"two\",\"path\":\"$dir/sh:are\"}"
run 5 "$vmctl" pause b
run 0 "$vmctl" start b
run 5 "$vmctl" start b
run 0 "$vmctl" info b
has out "running"
has out "    memory          64M"
run 0 "$vmctl" info b --json --stats
for key in name state reason engine engine_reason pid cpus memory uptime_s stats; do has out "\"$key\":"; done
run 0 "$vmctl" pause b
run 0 "$vmctl" --json list
has out '"state":"paused"'
run 0 "$vmctl" resume b
run 0 "$vmctl" reset b
run 124 "$vmctl" wait b --timeout 0.2
run 5 "$vmctl" delete b
{ within said up; "$vmctl" stop b; } &
run 0 "$vmctl" console b </dev/null
has out "up"
wait %2 2>/dev/null
run 0 "$vmctl" wait b
run 0 "$vmctl" delete b
run 4 "$vmctl" info b
run 0 "$vmctl" run c --detach --kernel k --cmdline nobutton
run 0 "$vmctl" stop c --timeout 0.2
has err "by force"
run 12 "$vmctl" wait c
run 0 "$vmctl" start c
run 0 "$vmctl" kill c
run 0 "$vmctl" start c
run 0 "$vmctl" delete c --force
run 4 "$vmctl" wait c
run 0 "$vmctl" list
has out "NAME"

# Signals: with --rm the VM ends with the session, else it goes on.
for how in "--rm TERM 143" "--rm INT 130" "--rm HUP 129"; do
	set -- $how
	: >"$dir/out"
	# A shell has what it starts in the background ignore SIGINT.
	env --default-signal "$vmctl" run sig $1 --kernel k --cmdline "say=up shell" </dev/null >"$dir/out" 2>"$dir/err" &
	pid=$!
	within said up
	kill -$2 $pid
	wait $pid
	case $? in $3) good ;; *) bad "$how" ;; esac
	run 4 "$vmctl" info sig
done
: >"$dir/out"
"$vmctl" run sig --kernel k --cmdline "say=up shell" </dev/null >"$dir/out" 2>"$dir/err" &
pid=$!
within said up
kill -TERM $pid
wait $pid
has err "runs on"
run 0 "$vmctl" delete sig --force
: >"$dir/out"
nohup "$vmctl" run sig --rm --kernel k --cmdline "say=up shell" </dev/null >"$dir/out" 2>"$dir/err" &
pid=$!
within said up
kill -HUP $pid
run 0 "$vmctl" stop sig
wait $pid
case $? in 0) good ;; *) bad "nohup: $?" ;; esac

# On a terminal: raw while attached, the escape, and restored after every end.
if command -v socat >/dev/null; then
	# KEYS COMMAND...: types the words of KEYS as soon as the guest's prompt is there; after WORD@TEXT
	# comes the next one when TEXT was said. The output has how many modes were raw before and after.
	terminal() {
		local keys=$1
		shift
		: >"$dir/out"
		{
			within said '# \|status='
			for key in $keys; do
				printf "${key%@*}"
				case $key in *@*) within said "${key#*@}" ;; esac
			done
			within said '^over'
			echo
		} |
			timeout 120 socat -t 30 - "EXEC:'sh -c \"stty -a | grep -c -- -icanon; $* ; echo status=\$?; stty -a | grep -c -- -icanon; echo over; read line\"',pty,setsid,ctty,stderr" \
				>"$dir/out" 2>"$dir/err"
	}
	terminal '\r~.' "$vmctl run t1 --kernel k --cmdline shell"
	has out "detached"
	has out "status=0"
	if [ "$(grep -c '^0' "$dir/out")" -eq 2 ]; then good; else bad "terminal after detaching"; fi
	terminal 'x~~.\r@got:.x ~~\r@got:.~ ~.' "$vmctl console t1"
	has out "got: x~~."
	has out "got: ~"
	terminal 'poweroff\r' "$vmctl console t1"
	has out "powered itself off"
	if [ "$(grep -c '^0' "$dir/out")" -eq 2 ]; then good; else bad "terminal after the end"; fi
	printf '#!/bin/sh\necho $$ >%s\nexec %s run t2 --kernel k --cmdline shell\n' "$dir/pid" "$vmctl" >"$dir/t2"
	chmod +x "$dir/t2"
	: >"$dir/out"
	{ within said '# '; kill "$(cat "$dir/pid")"; } &
	terminal '' "$dir/t2"
	if [ "$(grep -c '^0' "$dir/out")" -eq 2 ]; then good; else bad "terminal after SIGTERM"; fi
	run 0 "$vmctl" delete t2 --force
else
	echo "skipped: the terminal (socat is missing)"
	skipped=$((skipped + 1))
fi

# The rest of the verbs, and mistakes.
run 0 "$vmctl" doctor
has out "usable"
run 0 "$vmctl" --json doctor
has out '"probe":'
run 0 "$vmctl" events --from 0 --count 3
has out "vm.created"
run 0 "$vmctl" --json events --from 0 --count 3
has out '"seq":1'
run 0 "$vmctl" rpc daemon.info
run 0 "$vmctl" rpc vm.list '{}'
run 1 "$vmctl" rpc vm.nothing
run 2 "$vmctl" rpc vm.list '{'
run 0 "$vmctl" rpc rpc.discover
has out '"openrpc":"1.2.6"'
run 0 "$vmctl" version
run 0 "$vmctl" --version
run 0 "$vmctl" help
run 0 "$vmctl" run --help
has out "--kernel"
run 2 "$vmctl"
run 2 "$vmctl" lsit
has err 'did you mean "list"'
run 2 "$vmctl" info
run 2 "$vmctl" info a b
run 2 "$vmctl" list --kernel k
run 2 "$vmctl" list --nonsense
run 2 "$vmctl" run
run 2 "$vmctl" wait a --timeout soon
run 3 "$vmctl" --socket "$dir/nobody" list
run 3 env VMXD_SOCKET="$dir/k" "$vmctl" list

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
