# SPDX-License-Identifier: Apache-2.0
# Scripts parse, and what is called directly is executable. bootstrap says what it cannot build in.
. "$VMXD_SRCDIR/tests/lint/lib.sh"

cd "$VMXD_SRCDIR" || exit 1
for file in $(source_files); do
	[ -f "$file" ] || continue
	read -r first <"$file" 2>/dev/null || first=
	case $first in
	'#!'*sh) checker='bash -n' ;;
	'#!'*python3) checker='python3 -c "import ast,sys; ast.parse(open(sys.argv[1]).read())"' ;;
	*)
		case $file in
		*.sh) checker='bash -n' ;;
		*.py) checker='python3 -c "import ast,sys; ast.parse(open(sys.argv[1]).read())"' ;;
		*) continue ;;
		esac
		;;
	esac
	if ! eval "$checker" '"$file"'; then
		fail "$file does not parse"
	elif [ ! -x "$file" ] && [ "${first#'#!'}" != "$first" ] && [ "${file%.*}" = "$file" ] &&
		[ "$file" != tests/guest/initramfs-init ]; then
		# .sh and .py are started through their interpreter.
		fail "$file has an interpreter line but is not executable"
	else
		pass
	fi
done
# What make cannot build in is said at once, and nothing is touched.
for path in '/tmp/a b' '/tmp/a$b' "/tmp/a'b"; do
	if said=$(VMXD_BUILD_DIR=$path ./bootstrap build 2>&1) || [ -e "$path" ]; then
		fail "bootstrap builds in $path"
	elif [[ $said != "bootstrap: make cannot build in '$path'"* ]]; then
		fail "bootstrap, building in $path, says: $said"
	else
		pass
	fi
done
finish
