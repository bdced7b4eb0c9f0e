# SPDX-License-Identifier: Apache-2.0
# The VM's process with a guest that is a script: see fake_board.c.
check_PROGRAMS += vmxd-machine-fake
vmxd_machine_fake_SOURCES = $(machine_program_sources) tests/protocol/fake_board.c
vmxd_machine_fake_CPPFLAGS = $(daemon_cppflags)
vmxd_machine_fake_LDADD = $(daemon_libs) -lpthread
