# SPDX-License-Identifier: Apache-2.0
# Who may include whom (docs: the folders' order), and which libraries stop where.
. "$VMXD_SRCDIR/tests/lint/lib.sh"

allowed() { # FOLDER -> folders it may include from
	case $1 in
	common) echo common ;;
	vmx-driver) echo common vmx-driver ;;
	machine) echo common vmx-driver machine ;;
	devices) echo common vmx-driver machine devices ;;
	protocol) echo common protocol ;;
	daemon) echo common vmx-driver machine devices protocol daemon ;;
	cli) echo common protocol cli ;;
	esac
}

foreign() { # FILE -> a pattern of system headers that it must not include
	case $1 in
	daemon/libvirt_*) echo '^$' ;;
	daemon/* | cli/*) echo '^(libvirt/|Zydis/)' ;;
	protocol/*) echo '^(libvirt/|Zydis/|uv\.h)' ;;
	vmx-driver/soft/*) echo '^(libvirt/|uv\.h|json-c/|glib|seccomp|slirp)' ;;
	devices/backend/*) echo '^(libvirt/|Zydis/|uv\.h|json-c/|glib|seccomp)' ;;
	*) echo '^(libvirt/|Zydis/|uv\.h|json-c/|glib|seccomp|slirp)' ;;
	esac
}

cd "$VMXD_SRCDIR" || exit 1
for file in $(source_files | grep -E '\.[chS]$'); do
	folder=${file%%/*}
	may=$(allowed "$folder")
	[ -n "$may" ] || continue # tests may include anything
	bad=0
	for inc in $(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' "$file"); do
		case " $may " in
		*" ${inc%%/*} "*) ;;
		*)
			[ "$inc" = config.h ] || {
				fail "$file includes \"$inc\""
				bad=1
			}
			;;
		esac
	done
	pattern=$(foreign "$file")
	for inc in $(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*<\([^>]*\)>.*/\1/p' "$file"); do
		if printf '%s\n' "$inc" | grep -qE "$pattern"; then
			fail "$file includes <$inc>"
			bad=1
		fi
	done
	[ "$bad" = 1 ] || pass
done
finish
