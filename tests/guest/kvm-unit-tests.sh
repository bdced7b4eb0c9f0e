#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The configurations of kvm-unit-tests, of a build of that suite made elsewhere, on one engine.
#
#   kvm-unit-tests.sh [-e soft|kvm] [-t FACTOR] [-o DIR] [-g GROUP] SUITE [SUITE32 [NAME...]]
#
# SUITE: the suite's tree, configured and made for x86_64; SUITE32: the same for i386, '-' where there
# is none. Run in the build tree, or with BOOT set to the program tests/guest/boot. Reads the suite's
# own x86/unittests.cfg and runs every configuration in it, or those named, or those of GROUP.
#   -t  multiplies the suite's time limits, for slow and busy machines (default 1)
#   -o  keeps each console as DIR/NAME.log
# A line says name, verdict, the suite's own summary or the reason, and seconds; the last line counts.
# The verdict is that of the suite's runner: what the guest wrote to its exit port. Exit status: 0 if
# nothing failed.
#
# What the suite's runner gives to QEMU becomes: smp --cpus, -m --memory, test_args the command line,
# +vmx --nested, and the environment file is told the processors and the memory, as the suite wants
# of machines without QEMU's fw_cfg. What a configuration demands of files of the host's KVM ("check")
# says nothing here and is not looked at; nor are "accel" and the group "nodefault".
set -u
engine=soft factor=1 logs='' group=''
while getopts e:t:o:g: option; do
	case $option in
	e) engine=$OPTARG ;;
	t) factor=$OPTARG ;;
	o) logs=$OPTARG ;;
	g) group=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))
suite=${1:-} suite32=${2:--}
shift $(($# < 2 ? $# : 2))
only=" $* "
boot=${BOOT:-./tests/guest/boot}
config=$suite/x86/unittests.cfg
if [ -z "$suite" ] || [ ! -f "$config" ]; then
	echo "usage: kvm-unit-tests.sh [-e soft|kvm] [-t FACTOR] [-o DIR] [-g GROUP] SUITE [SUITE32 [NAME...]]" >&2
	[ -z "$suite" ] || echo "kvm-unit-tests.sh: $config is not there" >&2
	exit 2
fi
if [ ! -x "$boot" ]; then
	echo "kvm-unit-tests.sh: $boot is not there: make tests/guest/boot, or set BOOT" >&2
	exit 2
fi
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
[ -z "$logs" ] || mkdir -p "$logs" || exit 1
passed=0 failed=0 skipped=0

report() { # NAME VERDICT REMARK [SECONDS]
	case $2 in
	pass) passed=$((passed + 1)) ;;
	skip) skipped=$((skipped + 1)) ;;
	*) failed=$((failed + 1)) ;;
	esac
	printf '%-40s %-4s %s%s\n' "$1" "$2" "$3" "${4:+ [$4 s]}"
}

# The options of `boot` for the configuration at hand, in args.
build_args() {
	local params=$1 memory=512
	args=(--engine "$engine" --debug-exit --test-device --cpus "$smp")
	[[ $params =~ (^|[[:space:]])-m[[:space:]]+([0-9]+)([gG]?) ]] &&
		memory=$((BASH_REMATCH[2] * (${#BASH_REMATCH[3]} ? 1024 : 1)))
	[[ $params == *+vmx* ]] && args+=(--nested)
	printf '%s\n' "NR_CPUS=$smp" "MEMSIZE=$memory" "TEST_DEVICE=1" >"$tmp/environ"
	args+=(--memory "$memory" --initrd "$tmp/environ")
}

# What the exit port said: code 1 is a pass, 77 a skip.
judge() { # STATUS SECONDS
	local summary code
	tr -d '\r' <"$tmp/out" >"$tmp/text"
	[ -z "$logs" ] || cp "$tmp/text" "$logs/$name.log"
	summary=$(grep '^SUMMARY: ' "$tmp/text" | tail -n 1 | sed 's/^SUMMARY: //')
	code=$(sed -n 's/^boot: .*ended with code \([0-9]*\).*/\1/p' "$tmp/text" | tail -n 1)
	if [ "$1" = 124 ] || [ -z "$code" ]; then
		report "$name" fail "$(tail -n 1 "$tmp/text" | cut -c 1-120)" "$2"
	elif [ "$code" = 1 ]; then
		report "$name" pass "$summary" "$2"
	elif [ "$code" = 77 ]; then
		report "$name" skip "${summary:-$(grep '^SKIP' "$tmp/text" | tail -n 1)}" "$2"
	else
		report "$name" fail "${summary:-ended with code $code}" "$2"
	fi
}

run_one() {
	local kernel=$suite/x86/$file words limit began
	[ "$arch" = i386 ] && kernel=$suite32/x86/$file
	[ "$arch" = i386 ] && [ "$suite32" = - ] && {
		report "$name" skip "for i386, and no such build was given"
		return
	}
	if [ ! -f "$kernel" ]; then
		report "$name" skip "$kernel is not there"
		return
	fi
	build_args "$params"
	limit=$((${timeout%s} * factor))
	# The suite's file is a shell's text: quotes and `date`.
	eval "words=($test_args)"
	# shellcheck disable=SC2154
	args+=(--timeout "$limit" --cmdline "$file${words[0]:+ ${words[*]}}")
	began=$SECONDS
	timeout -k 5 $((limit + 20)) "$boot" "${args[@]}" "$kernel" >"$tmp/out" 2>&1 </dev/null
	judge $? $((SECONDS - began))
}

wanted() {
	[ -n "$name" ] || return 1
	[ "$only" = "  " ] || [[ $only == *" $name "* ]] || return 1
	[ -z "$group" ] || [[ " $groups " == *" $group "* ]]
}

flush() {
	if wanted; then
		run_one
	fi
}

name=''
while IFS= read -r line <&3; do
	if [[ $line =~ ^\[(.*)\]$ ]]; then
		next=${BASH_REMATCH[1]}
		flush
		name=$next
		file='' smp=1 test_args='' params='' groups='' arch='' timeout=90
	elif [[ $line =~ ^(file|smp|test_args|groups|arch|timeout)\ *=\ *(.*)$ ]]; then
		declare "${BASH_REMATCH[1]}=${BASH_REMATCH[2]}"
	elif [[ $line =~ ^(qemu_params|extra_params)\ *=\ *(.*)$ ]]; then
		params=${BASH_REMATCH[2]}
	fi
done 3<"$config"
flush
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
