# SPDX-License-Identifier: Apache-2.0
# What make fills in for an installation is filled in: systemd's unit starts the daemon where it will be.
. "$VMXD_SRCDIR/tests/lint/lib.sh"

cd "$VMXD_BUILDDIR" || exit 1
sbindir=$(make -s --no-print-directory -f - print-sbindir <<'END'
include Makefile
print-sbindir:
	@echo '$(sbindir)'
END
)
sbindir=${sbindir##*$'\n'} # what make had to bring up to date first is before it
for file in daemon/systemd/vmxd.service vmx-driver/vmx.pc; do
	check "$file: $(grep -m 1 '@[A-Za-z_]*@' "$file") is left" eval '[ -s "$file" ] && ! grep -q "@[A-Za-z_]*@" "$file"'
done
check "vmxd.service: $(grep ExecStart= daemon/systemd/vmxd.service), and vmxd goes to $sbindir" \
	grep -qxF "ExecStart=$sbindir/vmxd" daemon/systemd/vmxd.service
if command -v systemd-analyze >/dev/null; then
	make_dir units
	# Another place for the program: this one may not be installed.
	sed 's|^ExecStart=.*|ExecStart=/bin/true|' daemon/systemd/vmxd.service >"$dir/vmxd.service"
	cp "$VMXD_SRCDIR/daemon/systemd/vmxd.socket" "$dir/"
	said=$(systemd-analyze verify --man=no "$dir/vmxd.service" "$dir/vmxd.socket" 2>&1 | grep -F "$dir")
	check "systemd-analyze: $said" [ -z "$said" ]
else
	skip "no systemd-analyze"
fi
finish
