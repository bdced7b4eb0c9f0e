# SPDX-License-Identifier: Apache-2.0
# Scripts parse, and what is called directly is executable.
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
finish
