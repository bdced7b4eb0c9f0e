# SPDX-License-Identifier: Apache-2.0
# tests/unit

# The soft engine's stepper alone, on a rig in place of the rest of the engine.
SOFT_STEP_FILES = tests/unit/soft_rig.c tests/unit/soft_rig.h tests/unit/unit.h \
	vmx-driver/soft/flags.c vmx-driver/soft/operand.c vmx-driver/soft/decode.c \
	vmx-driver/soft/decode_cache.c vmx-driver/soft/step.c vmx-driver/soft/step_control.c \
	vmx-driver/soft/step_stack.c vmx-driver/soft/step_int.c vmx-driver/soft/step_vector.c \
	vmx-driver/soft/step_ops.c vmx-driver/soft/string.c
check_PROGRAMS += tests/unit/test-soft-step tests/unit/test-soft-string
TESTS += tests/unit/test-soft-step tests/unit/test-soft-string
tests_unit_test_soft_step_SOURCES = tests/unit/test_soft_step.c $(SOFT_STEP_FILES)
tests_unit_test_soft_step_CFLAGS = $(AM_CFLAGS) $(ZYDIS_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_soft_step_LDADD = $(ZYDIS_LIBS) $(CUNIT_LIBS)
tests_unit_test_soft_string_SOURCES = tests/unit/test_soft_string.c $(SOFT_STEP_FILES)
tests_unit_test_soft_string_CFLAGS = $(AM_CFLAGS) $(ZYDIS_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_soft_string_LDADD = $(ZYDIS_LIBS) $(CUNIT_LIBS)

# The soft engine as a whole, through vmx.h, in every mode it can run a guest.
check_PROGRAMS += tests/unit/test-soft-run
TESTS += tests/unit/test-soft-run
tests_unit_test_soft_run_SOURCES = tests/unit/test_soft_run.c tests/unit/soft_guest.h \
	tests/unit/unit.h
tests_unit_test_soft_run_CFLAGS = $(AM_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_soft_run_LDADD = libvmxdriver.la $(CUNIT_LIBS)

# CALL and RET in translated code, through vmx.h.
check_PROGRAMS += tests/unit/test-soft-returns
TESTS += tests/unit/test-soft-returns
tests_unit_test_soft_returns_SOURCES = tests/unit/test_soft_returns.c tests/unit/soft_guest.h \
	tests/unit/unit.h
tests_unit_test_soft_returns_CFLAGS = $(AM_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_soft_returns_LDADD = libvmxdriver.la $(CUNIT_LIBS)

# System instructions and exceptions of the soft engine, through vmx.h.
check_PROGRAMS += tests/unit/test-soft-sys
TESTS += tests/unit/test-soft-sys
tests_unit_test_soft_sys_SOURCES = tests/unit/test_soft_sys.c tests/unit/sys_rig.c \
	tests/unit/sys_rig.h tests/unit/unit.h
tests_unit_test_soft_sys_CFLAGS = $(AM_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_soft_sys_LDADD = libvmxdriver.la $(CUNIT_LIBS)

# The translator's decoder against Zydis itself.
check_PROGRAMS += tests/unit/test-soft-shape
TESTS += tests/unit/test-soft-shape
tests_unit_test_soft_shape_SOURCES = tests/unit/test_soft_shape.c tests/unit/unit.h
tests_unit_test_soft_shape_CFLAGS = $(AM_CFLAGS) $(ZYDIS_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_soft_shape_LDADD = libvmxdriver.la $(CUNIT_LIBS)

# The machine: no processors needed.
MACHINE_UNIT_TESTS = tests/unit/test-machine tests/unit/test-machine-pci \
	tests/unit/test-machine-boot
check_PROGRAMS += $(MACHINE_UNIT_TESTS)
TESTS += $(MACHINE_UNIT_TESTS)
tests_unit_test_machine_SOURCES = tests/unit/test_machine.c tests/unit/unit.h
tests_unit_test_machine_CFLAGS = $(AM_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_machine_LDADD = libmachine.la $(CUNIT_LIBS)
tests_unit_test_machine_pci_SOURCES = tests/unit/test_machine_pci.c tests/unit/unit.h
tests_unit_test_machine_pci_CFLAGS = $(AM_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_machine_pci_LDADD = libmachine.la $(CUNIT_LIBS)
tests_unit_test_machine_boot_SOURCES = tests/unit/test_machine_boot.c tests/unit/unit.h
tests_unit_test_machine_boot_CFLAGS = $(AM_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_machine_boot_LDADD = libmachine.la $(CUNIT_LIBS)
check_PROGRAMS += tests/unit/test-soft-sys-legacy
TESTS += tests/unit/test-soft-sys-legacy
tests_unit_test_soft_sys_legacy_SOURCES = tests/unit/test_soft_sys_legacy.c tests/unit/sys_rig.c \
	tests/unit/sys_rig.h tests/unit/unit.h
tests_unit_test_soft_sys_legacy_CFLAGS = $(AM_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_soft_sys_legacy_LDADD = libvmxdriver.la $(CUNIT_LIBS)

# The protocol: JSON, framing, JSON-RPC, schemas.
check_PROGRAMS += tests/unit/test-protocol-json tests/unit/test-protocol-rpc
TESTS += tests/unit/test-protocol-json tests/unit/test-protocol-rpc
tests_unit_test_protocol_json_SOURCES = tests/unit/test_protocol_json.c tests/unit/unit.h
tests_unit_test_protocol_json_CPPFLAGS = $(AM_CPPFLAGS) $(JSONC_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_protocol_json_LDADD = libprotocol.la libcommon.la $(JSONC_LIBS) $(CUNIT_LIBS)
tests_unit_test_protocol_rpc_SOURCES = tests/unit/test_protocol_rpc.c tests/unit/unit.h
tests_unit_test_protocol_rpc_CPPFLAGS = $(AM_CPPFLAGS) $(JSONC_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_protocol_rpc_LDADD = libprotocol.la libcommon.la $(JSONC_LIBS) $(CUNIT_LIBS)

# The board, on the software engine.
check_PROGRAMS += tests/unit/test-board
TESTS += tests/unit/test-board
tests_unit_test_board_SOURCES = tests/unit/test_board.c tests/unit/unit.h
tests_unit_test_board_CFLAGS = $(AM_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_board_LDADD = libdevices.la libmachine.la libvmxdriver.la $(CUNIT_LIBS) -lpthread
check_PROGRAMS += tests/unit/test-soft-mmu tests/unit/test-soft-lapic
TESTS += tests/unit/test-soft-mmu tests/unit/test-soft-lapic
tests_unit_test_soft_mmu_SOURCES = tests/unit/test_soft_mmu.c tests/unit/soft_guest.h \
	tests/unit/unit.h
tests_unit_test_soft_mmu_CFLAGS = $(AM_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_soft_mmu_LDADD = libvmxdriver.la $(CUNIT_LIBS)
tests_unit_test_soft_lapic_SOURCES = tests/unit/test_soft_lapic.c tests/unit/soft_guest.h \
	tests/unit/unit.h
tests_unit_test_soft_lapic_CFLAGS = $(AM_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_soft_lapic_LDADD = libvmxdriver.la $(CUNIT_LIBS)
check_PROGRAMS += tests/unit/test-soft-ept
TESTS += tests/unit/test-soft-ept
tests_unit_test_soft_ept_SOURCES = tests/unit/test_soft_ept.c tests/unit/soft_guest.h \
	tests/unit/unit.h
tests_unit_test_soft_ept_CFLAGS = $(AM_CFLAGS) $(ZYDIS_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_soft_ept_LDADD = libvmxdriver.la $(CUNIT_LIBS)
# 16-bit code against the processor underneath.
check_PROGRAMS += tests/unit/test-soft-code16
TESTS += tests/unit/test-soft-code16
tests_unit_test_soft_code16_SOURCES = tests/unit/test_soft_code16.c tests/unit/unit.h
tests_unit_test_soft_code16_CFLAGS = $(AM_CFLAGS) $(ZYDIS_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_soft_code16_LDADD = libvmxdriver.la $(ZYDIS_LIBS) $(CUNIT_LIBS)

check_PROGRAMS += tests/unit/acpi-dump
TESTS += tests/unit/acpi-iasl.sh
EXTRA_DIST += tests/unit/acpi-iasl.sh
tests_unit_acpi_dump_SOURCES = tests/unit/acpi_dump.c
tests_unit_acpi_dump_LDADD = libmachine.la

# Token buckets.
check_PROGRAMS += tests/unit/test-limit
TESTS += tests/unit/test-limit
tests_unit_test_limit_SOURCES = tests/unit/test_limit.c tests/unit/unit.h
tests_unit_test_limit_CFLAGS = $(AM_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_limit_LDADD = libdevices.la $(CUNIT_LIBS)

# VMCS fields and VMX capabilities.
check_PROGRAMS += tests/unit/test-soft-vmcs
TESTS += tests/unit/test-soft-vmcs
tests_unit_test_soft_vmcs_SOURCES = tests/unit/test_soft_vmcs.c tests/unit/unit.h
tests_unit_test_soft_vmcs_CFLAGS = $(AM_CFLAGS) $(ZYDIS_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_soft_vmcs_LDADD = libvmxdriver.la $(CUNIT_LIBS)

# The code cache when it is full.
check_PROGRAMS += tests/unit/test-soft-cache
TESTS += tests/unit/test-soft-cache
tests_unit_test_soft_cache_SOURCES = tests/unit/test_soft_cache.c tests/unit/soft_guest.h \
	tests/unit/unit.h
tests_unit_test_soft_cache_CFLAGS = $(AM_CFLAGS) $(ZYDIS_CFLAGS) $(CUNIT_CFLAGS)
tests_unit_test_soft_cache_LDADD = libvmxdriver.la $(CUNIT_LIBS)
