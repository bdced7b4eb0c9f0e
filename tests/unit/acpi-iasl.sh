# SPDX-License-Identifier: Apache-2.0
# The ACPI tables as iasl sees them: each is read back without complaint, and the DSDT that it
# writes as source compiles again to what the source says.
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
if ! command -v iasl >/dev/null; then
	echo "skip: iasl is not installed (acpica-tools)"
	echo "0 passed, 0 failed, 1 skipped"
	exit 77
fi
passed=0 failed=0
check() { # NAME STATUS
	if [ "$2" -eq 0 ]; then
		passed=$((passed + 1))
	else
		failed=$((failed + 1))
		echo "FAIL: $1"
		cat "$tmp/log"
	fi
}
has() { # TABLE TEXT
	grep -qF -- "$2" "$tmp/$1.dsl" 2>"$tmp/log"
	check "$1 says $2" $?
}

"$VMXD_BUILDDIR/tests/unit/acpi-dump" "$tmp"
check "the tables are written" $?
cd "$tmp" || exit 1
for table in DSDT FACP APIC MCFG; do
	iasl -d $table.dat >log 2>&1 && ! grep -qiE 'error|warning|invalid|incorrect checksum' log
	check "$table is read" $?
done
has DSDT 'Name (_S5, Package (0x04)'
has DSDT 'EisaId ("PNP0A08")'
has DSDT 'EisaId ("PNP0501")'
has DSDT 'Return (PRTA)'
has DSDT 'Device (MM01)'
has DSDT '"LNRO0005"'
has DSDT 'Interrupt (ResourceConsumer, Level, ActiveHigh, Shared'
has DSDT 'Return (PRTP)'
has MCFG 'Base Address : 00000000E0000000'
has APIC 'Local Apic ID : 3F'
has FACP 'SCI Interrupt : 0009'
# Remarks about style are not for us; errors are.
iasl -p again DSDT.dsl >log 2>&1
check "DSDT compiles again" $?
grep -qE ' 0 Errors' log
check "without errors" $?
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
