#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The installed programs, taken over thread by thread: each thread that a running VM has is made to
# do system calls that nobody may do (see inject.c). The VM must fail, and the daemon must say which
# thread tried which call.
. "$(dirname "$0")/../lib.sh"
make_dir threads
start_daemon

if grep -q -- '-DVMXD_SANITIZERS' "$build/Makefile"; then
	skip_all "the sanitizers of this build need calls that are forbidden otherwise"
fi

spinning_kernel "$dir/k"
truncate -s 1M "$dir/disk"
"$build/vmctl" -q create thr --engine soft --memory 32M --cpus 2 --kernel "$dir/k" --disk "$dir/disk" || failed=1

start() { # leaves $pid
	"$build/vmctl" -q start thr || return
	pid=$(vm_pid thr)
}

attack() { # THREAD-NUMBER NAME CALL [ARGUMENT...]
	local n=$1 name=$2 tid comm status said
	shift 2
	start || { fail "no start"; return; }
	# In order of their making, which is the same each time.
	tid=$(ls "/proc/$pid/task" | sort -n | sed -n "${n}p")
	comm=$(cat "/proc/$pid/task/$tid/comm")
	"$build/tests/security/inject" "$pid" "$tid" "$@"
	status=$?
	if [ $status -eq 77 ]; then
		skipped=$((skipped + 1))
		"$build/vmctl" -q kill thr
		return
	fi
	"$build/vmctl" -q wait thr >/dev/null 2>&1
	said=$("$build/vmctl" info thr)
	if [ $status -eq 0 ] && [[ $said == *sandbox-violation* ]] &&
		[[ $said == *" thread tried the system call $name ("* ]]; then
		pass
	else
		fail "$name in thread $n ($comm): inject: $status; $said"
		"$build/vmctl" -q kill thr 2>/dev/null
	fi
}

start || finish
threads=$(ls "/proc/$pid/task" | wc -l)
"$build/vmctl" -q kill thr
for ((n = 1; n <= threads; n++)); do
	attack $n execve 59 0 0 0
	attack $n socket 41 2 1 0
	attack $n kill 62 1 0
done
attack 1 open 2 0 0
attack 2 mprotect 10 4096 4096 4
# What the sandbox refuses without ending the VM: openat() comes back with an error.
start
"$build/tests/security/inject" "$pid" "$pid" 257 -100 0 0 >/dev/null
case $? in
1) pass ;;
77) skipped=$((skipped + 1)) ;;
*) fail "openat ended the VM" ;;
esac
"$build/vmctl" -q kill thr
finish
