# SPDX-License-Identifier: Apache-2.0
# The VM's process with a guest that is a script: see fake_board.h.
check_PROGRAMS += vmxd-machine-fake
vmxd_machine_fake_SOURCES = $(machine_program_sources) tests/protocol/fake_board.c \
	tests/protocol/fake_board.h tests/protocol/fake_guest.c tests/protocol/fake_units.c
vmxd_machine_fake_CPPFLAGS = $(daemon_cppflags)
vmxd_machine_fake_LDADD = libsandbox.la libmachine.la $(daemon_libs) -lpthread

# The daemon and its client against it, through the socket.
check_LTLIBRARIES += libprotocolrig.la
libprotocolrig_la_SOURCES = tests/protocol/rig.c tests/protocol/rig.h
libprotocolrig_la_CPPFLAGS = $(AM_CPPFLAGS) $(JSONC_CFLAGS)
libprotocolrig_la_LIBADD = libprotocol.la

protocol_test_programs = tests/protocol/test-bad-input tests/protocol/test-console \
	tests/protocol/test-life tests/protocol/test-vsock tests/fault/test-survive tests/fault/test-plug \
	tests/fault/test-interrupt
check_PROGRAMS += $(protocol_test_programs)
TESTS += $(protocol_test_programs) tests/protocol/vmctl.sh tests/protocol/man.sh \
	tests/protocol/doctor.sh
EXTRA_DIST += tests/protocol/vmctl.sh tests/protocol/man.sh \
	tests/protocol/doctor.sh
json_cppflags = $(AM_CPPFLAGS) $(JSONC_CFLAGS)
protocolrig_libs = libprotocolrig.la $(JSONC_LIBS)
tests_protocol_test_bad_input_SOURCES = tests/protocol/test_bad_input.c
tests_protocol_test_bad_input_CPPFLAGS = $(json_cppflags)
tests_protocol_test_bad_input_LDADD = $(protocolrig_libs)
tests_protocol_test_console_SOURCES = tests/protocol/test_console.c
tests_protocol_test_console_CPPFLAGS = $(json_cppflags)
tests_protocol_test_console_LDADD = $(protocolrig_libs)
tests_protocol_test_life_SOURCES = tests/protocol/test_life.c
tests_protocol_test_life_CPPFLAGS = $(json_cppflags)
tests_protocol_test_life_LDADD = $(protocolrig_libs)
tests_protocol_test_vsock_SOURCES = tests/protocol/test_vsock.c
tests_protocol_test_vsock_CPPFLAGS = $(json_cppflags)
tests_protocol_test_vsock_LDADD = $(protocolrig_libs)
tests_fault_test_interrupt_SOURCES = tests/fault/test_interrupt.c
tests_fault_test_interrupt_CPPFLAGS = $(json_cppflags)
tests_fault_test_interrupt_LDADD = $(protocolrig_libs)
tests_fault_test_plug_SOURCES = tests/fault/test_plug.c
tests_fault_test_plug_CPPFLAGS = $(json_cppflags)
tests_fault_test_plug_LDADD = $(protocolrig_libs)
tests_fault_test_survive_SOURCES = tests/fault/test_survive.c
tests_fault_test_survive_CPPFLAGS = $(json_cppflags)
tests_fault_test_survive_LDADD = $(protocolrig_libs)

# vmxd-rpc(7) has its list of methods from the table in protocol/methods.c.
check_PROGRAMS += tests/protocol/rpc-man
tests_protocol_rpc_man_SOURCES = tests/protocol/rpc_man.c
tests_protocol_rpc_man_CPPFLAGS = $(AM_CPPFLAGS) $(JSONC_CFLAGS)
tests_protocol_rpc_man_LDADD = libprotocol.la libcommon.la $(JSONC_LIBS)
