# SPDX-License-Identifier: Apache-2.0
# tests/unit: CUnit. A test is in the list, and below with its files and libraries.
UNIT_TESTS = \
	tests/unit/test-acpi \
	tests/unit/test-board \
	tests/unit/test-huge \
	tests/unit/test-limit \
	tests/unit/test-loop \
	tests/unit/test-machine \
	tests/unit/test-machine-boot \
	tests/unit/test-machine-pci \
	tests/unit/test-protocol-json \
	tests/unit/test-protocol-rpc \
	tests/unit/test-soft-cache \
	tests/unit/test-soft-code16 \
	tests/unit/test-soft-code32 \
	tests/unit/test-soft-ept \
	tests/unit/test-soft-exclusive \
	tests/unit/test-soft-lapic \
	tests/unit/test-soft-mmu \
	tests/unit/test-soft-moved \
	tests/unit/test-soft-pcid \
	tests/unit/test-soft-point \
	tests/unit/test-soft-region \
	tests/unit/test-soft-returns tests/unit/test-soft-inline \
	tests/unit/test-soft-run \
	tests/unit/test-soft-runs tests/unit/test-soft-sites \
	tests/unit/test-soft-shape \
	tests/unit/test-soft-stack \
	tests/unit/test-soft-step \
	tests/unit/test-soft-step-ops \
	tests/unit/test-soft-string \
	tests/unit/test-soft-sys \
	tests/unit/test-soft-sys-legacy \
	tests/unit/test-soft-sys-transfer \
	tests/unit/test-soft-sys-xsave \
	tests/unit/test-soft-vmcs \
	tests/unit/test-soft-wait \
	tests/unit/test-soft-xmodify \
	tests/unit/test-thread \
	tests/unit/test-uring
check_PROGRAMS += $(UNIT_TESTS)
TESTS += $(UNIT_TESTS)
noinst_HEADERS += tests/unit/unit.h tests/unit/soft_guest.h tests/unit/soft_modes.h tests/unit/soft_twice.h \
	tests/unit/soft_second.h

# What several of them share.
check_LTLIBRARIES += libstepper.la
libstepper_la_SOURCES = tests/unit/soft_rig.c tests/unit/soft_rig.h \
	vmx-driver/soft/flags.c vmx-driver/soft/operand.c vmx-driver/soft/decode.c \
	vmx-driver/soft/decode_cache.c vmx-driver/soft/step.c vmx-driver/soft/step_control.c \
	vmx-driver/soft/step_stack.c vmx-driver/soft/step_int.c vmx-driver/soft/step_vector.c \
	vmx-driver/soft/step_ops.c vmx-driver/soft/string.c
libstepper_la_LIBADD = $(ZYDIS_LIBS)
sysrig = tests/unit/sys_rig.c tests/unit/sys_rig.h
unit_protocol_libs = libprotocol.la libcommon.la $(JSONC_LIBS) $(CUNIT_LIBS)
unit_vmx_libs = libvmxdriver.la $(CUNIT_LIBS)
unit_stepper_libs = libstepper.la $(CUNIT_LIBS)

# The protocol: JSON, framing, JSON-RPC, schemas.
tests_unit_test_protocol_json_SOURCES = tests/unit/test_protocol_json.c
tests_unit_test_protocol_json_CPPFLAGS = $(AM_CPPFLAGS) $(JSONC_CFLAGS)
tests_unit_test_protocol_json_LDADD = $(unit_protocol_libs)
tests_unit_test_protocol_rpc_SOURCES = tests/unit/test_protocol_rpc.c
tests_unit_test_protocol_rpc_CPPFLAGS = $(AM_CPPFLAGS) $(JSONC_CFLAGS)
tests_unit_test_protocol_rpc_LDADD = $(unit_protocol_libs)

# The machine, no processors needed; token buckets; the board, on the software engine.
tests_unit_test_machine_SOURCES = tests/unit/test_machine.c
tests_unit_test_machine_LDADD = libmachine.la $(CUNIT_LIBS)
tests_unit_test_huge_SOURCES = tests/unit/test_huge.c
tests_unit_test_huge_LDADD = libmachine.la $(CUNIT_LIBS)
tests_unit_test_acpi_SOURCES = tests/unit/test_acpi.c
tests_unit_test_acpi_LDADD = libmachine.la $(CUNIT_LIBS)
tests_unit_test_loop_SOURCES = tests/unit/test_loop.c
tests_unit_test_loop_LDADD = libmachine.la $(CUNIT_LIBS)
tests_unit_test_thread_SOURCES = tests/unit/test_thread.c
tests_unit_test_thread_LDADD = libmachine.la $(CUNIT_LIBS)
tests_unit_test_machine_pci_SOURCES = tests/unit/test_machine_pci.c
tests_unit_test_machine_pci_LDADD = libmachine.la $(CUNIT_LIBS)
tests_unit_test_machine_boot_SOURCES = tests/unit/test_machine_boot.c
tests_unit_test_machine_boot_LDADD = libmachine.la $(CUNIT_LIBS)
tests_unit_test_limit_SOURCES = tests/unit/test_limit.c
tests_unit_test_limit_LDADD = libdevices.la $(CUNIT_LIBS)
tests_unit_test_uring_SOURCES = tests/unit/test_uring.c
tests_unit_test_uring_LDADD = libdevices.la libmachine.la libvmxdriver.la libcommon.la $(CUNIT_LIBS) -lpthread
tests_unit_test_board_SOURCES = tests/unit/test_board.c
tests_unit_test_board_LDADD = libdevices.la libmachine.la libvmxdriver.la $(CUNIT_LIBS) -lpthread

# The soft engine's stepper alone, on a rig in place of the rest of the engine.
tests_unit_test_soft_step_SOURCES = tests/unit/test_soft_step.c
tests_unit_test_soft_step_LDADD = $(unit_stepper_libs)
tests_unit_test_soft_step_ops_SOURCES = tests/unit/test_soft_step_ops.c
tests_unit_test_soft_step_ops_LDADD = $(unit_stepper_libs)
tests_unit_test_soft_string_SOURCES = tests/unit/test_soft_string.c
tests_unit_test_soft_string_LDADD = $(unit_stepper_libs)

# The soft engine as a whole, through vmx.h, in every mode it can run a guest; two processors that wait
# for each other, and one that changes the code of the other; its pages, its code cache when it is full, its local APIC; VMCS fields and VMX
# capabilities; decoding by shape against Zydis itself; CALL and RET in translated code, stretches of stack
# accesses; 16-bit code against the processor
# underneath.
tests_unit_test_soft_run_SOURCES = tests/unit/test_soft_run.c
tests_unit_test_soft_run_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_wait_SOURCES = tests/unit/test_soft_wait.c
tests_unit_test_soft_wait_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_xmodify_SOURCES = tests/unit/test_soft_xmodify.c
tests_unit_test_soft_xmodify_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_mmu_SOURCES = tests/unit/test_soft_mmu.c
tests_unit_test_soft_mmu_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_pcid_SOURCES = tests/unit/test_soft_pcid.c
tests_unit_test_soft_pcid_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_ept_SOURCES = tests/unit/test_soft_ept.c
tests_unit_test_soft_ept_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_cache_SOURCES = tests/unit/test_soft_cache.c
tests_unit_test_soft_cache_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_lapic_SOURCES = tests/unit/test_soft_lapic.c
tests_unit_test_soft_lapic_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_vmcs_SOURCES = tests/unit/test_soft_vmcs.c
tests_unit_test_soft_vmcs_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_shape_SOURCES = tests/unit/test_soft_shape.c
tests_unit_test_soft_shape_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_exclusive_SOURCES = tests/unit/test_soft_exclusive.c
tests_unit_test_soft_exclusive_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_point_SOURCES = tests/unit/test_soft_point.c
tests_unit_test_soft_point_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_region_SOURCES = tests/unit/test_soft_region.c
tests_unit_test_soft_region_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_moved_SOURCES = tests/unit/test_soft_moved.c
tests_unit_test_soft_moved_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_inline_SOURCES = tests/unit/test_soft_inline.c
tests_unit_test_soft_inline_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_returns_SOURCES = tests/unit/test_soft_returns.c
tests_unit_test_soft_returns_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_runs_SOURCES = tests/unit/test_soft_runs.c
tests_unit_test_soft_runs_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_sites_SOURCES = tests/unit/test_soft_sites.c
tests_unit_test_soft_sites_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_stack_SOURCES = tests/unit/test_soft_stack.c
tests_unit_test_soft_stack_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_code32_SOURCES = tests/unit/test_soft_code32.c
tests_unit_test_soft_code32_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_code16_SOURCES = tests/unit/test_soft_code16.c
tests_unit_test_soft_code16_LDADD = libvmxdriver.la $(ZYDIS_LIBS) $(CUNIT_LIBS)

# Its system instructions and exceptions.
tests_unit_test_soft_sys_SOURCES = tests/unit/test_soft_sys.c $(sysrig)
tests_unit_test_soft_sys_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_sys_transfer_SOURCES = tests/unit/test_soft_sys_transfer.c $(sysrig)
tests_unit_test_soft_sys_transfer_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_sys_xsave_SOURCES = tests/unit/test_soft_sys_xsave.c $(sysrig)
tests_unit_test_soft_sys_xsave_LDADD = $(unit_vmx_libs)
tests_unit_test_soft_sys_legacy_SOURCES = tests/unit/test_soft_sys_legacy.c $(sysrig)
tests_unit_test_soft_sys_legacy_LDADD = $(unit_vmx_libs)

# The ACPI tables, read by their own compiler.
check_PROGRAMS += tests/unit/acpi-dump
TESTS += tests/unit/acpi-iasl.sh
EXTRA_DIST += tests/unit/acpi-iasl.sh
tests_unit_acpi_dump_SOURCES = tests/unit/acpi_dump.c
tests_unit_acpi_dump_LDADD = libmachine.la
