# SPDX-License-Identifier: Apache-2.0
daemon_cppflags = $(AM_CPPFLAGS) $(JSONC_CFLAGS) $(UV_CFLAGS)
daemon_libs = libprotocol.la libcommon.la $(JSONC_LIBS) $(UV_LIBS) -lm

sbin_PROGRAMS += vmxd
vmxd_SOURCES = \
	daemon/batch.c daemon/batch.h \
	daemon/call.c daemon/call.h \
	daemon/config.c daemon/config.h daemon/config_internal.h daemon/config_pmem.c daemon/config_share.c daemon/image_lock.c daemon/image_lock.h \
	daemon/config_sockets.c \
	daemon/conn.c daemon/conn.h \
	daemon/daemon.h \
	daemon/events.c daemon/events.h \
	daemon/files.c daemon/files.h \
	daemon/handlers.h \
	daemon/host.c daemon/host.h \
	daemon/launch.c daemon/launch.h \
	daemon/link.c daemon/link.h \
	daemon/main.c \
	daemon/methods_daemon.c daemon/methods_device.c daemon/methods_vm.c \
	daemon/netconf.c daemon/netconf.h \
	daemon/nets.c daemon/nets.h daemon/nets_open.c \
	daemon/notify.c daemon/notify.h \
	daemon/plug.c daemon/plug.h daemon/plug_config.c daemon/plug_internal.h \
	daemon/plug_kinds.c \
	daemon/probe.c daemon/probe.h \
	daemon/server.c daemon/server.h \
	daemon/store.c daemon/store.h \
	daemon/stream.c daemon/stream.h \
	daemon/vhostconf.c daemon/vhostconf.h \
	daemon/vhosts.c daemon/vhosts.h daemon/helper.c daemon/helper.h \
	daemon/vm.c daemon/vm.h \
	daemon/vsock.c daemon/vsock.h \
	daemon/waiter.c daemon/waiter.h
vmxd_CPPFLAGS = $(daemon_cppflags)
vmxd_LDADD = $(daemon_libs)

# What libseccomp makes of the rules is made here, not at every start of a VM.
noinst_PROGRAMS += daemon/sandbox-generate
daemon_sandbox_generate_SOURCES = \
	daemon/sandbox_compile.c daemon/sandbox_generate.c daemon/sandbox_rules.c daemon/sandbox_rules.h
daemon_sandbox_generate_CPPFLAGS = $(AM_CPPFLAGS) $(JSONC_CFLAGS) $(SECCOMP_CFLAGS)
daemon_sandbox_generate_LDADD = $(SECCOMP_LIBS)
daemon/sandbox_programs.c: daemon/sandbox-generate$(EXEEXT)
	$(AM_V_GEN)daemon/sandbox-generate$(EXEEXT) >$@.new && mv $@.new $@
CLEANFILES += daemon/sandbox_programs.c

noinst_LTLIBRARIES += libsandbox.la
libsandbox_la_SOURCES = \
	daemon/sandbox.c daemon/sandbox.h daemon/sandbox_filter.c daemon/sandbox_internal.h \
	daemon/sandbox_process.c
nodist_libsandbox_la_SOURCES = daemon/sandbox_programs.c
libsandbox_la_CPPFLAGS = $(AM_CPPFLAGS) $(JSONC_CFLAGS)

# What vmxd-machine is made of, beside the board: the real one, or a test's double.
machine_program_sources = \
	daemon/console.c daemon/control.c daemon/host.c daemon/host.h daemon/launch.h \
	daemon/machine.h daemon/machine_board.c daemon/machine_devices.c daemon/machine_main.c \
	daemon/machine_probe.c daemon/machine_report.c \
	daemon/netconf.c daemon/netconf.h \
	daemon/stream.c daemon/stream.h

libexec_PROGRAMS += vmxd-machine
vmxd_machine_SOURCES = $(machine_program_sources)
vmxd_machine_CPPFLAGS = $(daemon_cppflags)
vmxd_machine_LDADD = libdevices.la libmachine.la libvmxdriver.la libsandbox.la $(daemon_libs) \
	-lpthread

# User-mode networking: libslirp in a process of its own.
libexec_PROGRAMS += vmxd-slirp
vmxd_slirp_SOURCES = \
	daemon/slirp.h daemon/slirp_main.c daemon/slirp_run.c daemon/slirp_sandbox.c \
	devices/backend/net.h devices/backend/net_frame.c devices/backend/net_frame.h
vmxd_slirp_CPPFLAGS = $(AM_CPPFLAGS) $(SLIRP_CFLAGS) $(SECCOMP_CFLAGS)
vmxd_slirp_LDADD = libcommon.la $(SLIRP_LIBS) $(SECCOMP_LIBS)

dist_man_MANS += docs/vmxd.8 docs/vmxd-rpc.7

# Units for systemd(1).
systemdsystemunitdir = $(prefix)/lib/systemd/system
dist_systemdsystemunit_DATA = daemon/systemd/vmxd.socket
nodist_systemdsystemunit_DATA = daemon/systemd/vmxd.service
EXTRA_DIST += daemon/systemd/vmxd.service.in
CLEANFILES += daemon/systemd/vmxd.service
daemon/systemd/vmxd.service: daemon/systemd/vmxd.service.in
	$(AM_V_GEN)$(MKDIR_P) daemon/systemd && \
	sed 's,[@]sbindir[@],$(sbindir),g' $(srcdir)/daemon/systemd/vmxd.service.in >$@.new && mv $@.new $@
