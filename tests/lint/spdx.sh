# SPDX-License-Identifier: Apache-2.0
# Every file says under which licence it is, in its first three lines.
. "$VMXD_SRCDIR/tests/lint/lib.sh"

cd "$VMXD_SRCDIR" || exit 1
for file in $(source_files); do
	case $file in
	docs/vcpu-contract-coverage) continue ;; # generated
	LICENSE | *.md | .gitignore | */.gitignore | m4/.gitkeep) continue ;;
	tests/fuzz/corpus/* | *.json | *.bin) continue ;; # data
	esac
	[ -f "$file" ] || continue
	if head -n 3 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0'; then
		pass
	else
		fail "$file has no SPDX line"
	fi
done
finish
