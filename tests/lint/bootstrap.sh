# SPDX-License-Identifier: Apache-2.0
# What bootstrap says and does where it cannot go on, and when it is interrupted. Its tools are ours here.
. "$(dirname "$0")/../lib.sh"
make_dir bootstrap
mkdir "$dir/src" "$dir/bin"
cp "$src/bootstrap" "$dir/src/"
PATH=$dir/bin:$PATH
unset VMXD_BUILD_DIR VMXD_CONFIGURE_ARGS CI

# tool NAME: a program of ours of that name, with what stdin says.
tool() {
	{ echo '#!/bin/bash'; cat; } >"$dir/bin/$1"
	chmod +x "$dir/bin/$1"
}
explain() { show 10 "$dir/out"; }
# refused NAME PATTERN [STATUS]: bootstrap fails, with that in what it says.
refused() {
	local status=0
	"$dir/src/bootstrap" build >"$dir/out" 2>&1 </dev/null || status=$?
	check "$1: ends with ${3:-1}, not $status" [ "$status" -eq "${3:-1}" ]
	check "$1: says so" grep -qE -- "$2" "$dir/out"
}
# interrupted NAME LINE: starts bootstrap, waits for it to say LINE, presses Ctrl-C.
interrupted() {
	local name=$1 pid status=0
	set -m
	"$dir/src/bootstrap" build >"$dir/out" 2>&1 </dev/null &
	pid=$!
	set +m
	check "$name: '$2' is said" wait_for 60 grep -qF -- "$2" "$dir/out"
	kill -INT -- "-$pid"
	touch "$dir/interrupted"
	wait "$pid" 2>/dev/null || status=$?
	check "$name: ended by SIGINT, not $status" [ "$status" -eq 130 ]
	check "$name: how to go on" grep -qF 'goes on from here' "$dir/out"
	check "$name: nothing runs on" wait_for 30 none_left
}
none_left() { ! pgrep -f "$dir/bin/" >/dev/null; }

# What make cannot build in is said at once, and nothing is touched.
for path in "$dir/a b" "$dir/a\$b" "$dir/a'b"; do
	VMXD_BUILD_DIR=$path refused "building in $path" "^bootstrap: make cannot build in '.*/a.b'"
	check "$path is not made" [ ! -e "$path" ]
done
tool uname <<<'echo aarch64'
refused 'another architecture' 'x86-64 only, and this is aarch64'
rm "$dir/bin/uname"

# Packages are missing, and cannot be installed.
tool dpkg-query <<<'exit 1'
tool apt-get <<<'echo "apt-get $*" >>'"$dir/apt"
tool id <<<'echo 1000'
tool sudo <<<'exit 1'
refused 'sudo wants a password' "sudo sh -c 'apt-get update && apt-get install .* gcc .*'"
check 'nothing was tried before' [ ! -e "$dir/apt" ]
tool id <<<'echo 0'
tool apt-get <<'END'
echo "E: what $6 $7 cannot do"
exit 100
END
refused 'apt-get fails' '^E: what .* cannot do' 100

# Ctrl-C: apt-get may finish, anything else ends.
tool apt-get <<END
echo unpacking
until [ -e "$dir/interrupted" ]; do sleep 0.1; done
touch "$dir/finished"
END
interrupted 'apt-get' 'apt-update: 5 s: unpacking'
check 'apt-get: finished' [ -e "$dir/finished" ]
tool dpkg-query <<<'echo installed'
tool autoreconf <<'END'
echo reading configure.ac
sleep 1000
END
interrupted 'autoreconf' 'autoreconf: 5 s: reading configure.ac'
finish
