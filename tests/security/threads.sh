#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The installed programs, taken over thread by thread: each thread that a running VM has is made to
# do system calls that nobody may do (see inject.c). The VM must fail, and the daemon must say which
# thread tried which call.
set -u
build=${VMXD_BUILDDIR:-$PWD}
dir=$(mktemp -d /tmp/vmxd-thr-XXXXXX)
export VMXD_SOCKET=$dir/s.sock
passed=0 failed=0 skipped=0

"$build/vmxd" --socket "$VMXD_SOCKET" --runtime-dir "$dir/run" --state-dir "$dir/state" \
	</dev/null >/dev/null 2>"$dir/log" &
daemon=$!
finish() {
	"$build/vmctl" -q kill thr 2>/dev/null
	kill $daemon 2>/dev/null
	wait $daemon 2>/dev/null
	rm -rf "$dir"
}
trap finish EXIT
for _ in $(seq 100); do [ -S "$VMXD_SOCKET" ] && break; sleep 0.05; done
end() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ $failed -eq 0 ] || exit 1
	[ $passed -gt 0 ] || exit 77
	exit 0
}

if grep -q -- '-DVMXD_SANITIZERS' "$build/Makefile"; then
	skipped=1
	echo "skip: the sanitizers of this build need calls that are forbidden otherwise"
	end
fi

# The multiboot guest of process.sh, that spins.
printf '\002\260\255\033\000\000\001\000\376\117\121\344\000\000\020\000\000\000\020\000\000\000\000\000\000\000\000\000\040\000\020\000\353\376' >"$dir/k"
head -c 4096 /dev/zero >>"$dir/k"
truncate -s 1M "$dir/disk"
"$build/vmctl" -q create thr --engine soft --memory 32M --cpus 2 --kernel "$dir/k" --disk "$dir/disk" || failed=1

start() { # leaves $pid
	"$build/vmctl" -q start thr || return
	pid=$("$build/vmctl" --json info thr | sed 's/.*"pid": *\([0-9]*\).*/\1/')
}

attack() { # THREAD-NUMBER NAME CALL [ARGUMENT...]
	local n=$1 name=$2 tid comm status said
	shift 2
	start || { failed=$((failed + 1)); echo "FAILED: no start"; return; }
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
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAILED: $name in thread $n ($comm): inject: $status; $said"
		"$build/vmctl" -q kill thr 2>/dev/null
	fi
}

start || end
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
1) passed=$((passed + 1)) ;;
77) skipped=$((skipped + 1)) ;;
*) failed=$((failed + 1)); echo "FAILED: openat ended the VM" ;;
esac
"$build/vmctl" -q kill thr
end
