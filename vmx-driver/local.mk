# SPDX-License-Identifier: Apache-2.0
noinst_LTLIBRARIES += libvmxdriver.la
libvmxdriver_la_SOURCES = vmx-driver/vmx.h vmx-driver/engine.h vmx-driver/vm.c vmx-driver/vcpu.c \
	vmx-driver/slots.c vmx-driver/traps.c vmx-driver/regs.c vmx-driver/walk.c vmx-driver/probe.c
libvmxdriver_la_LIBADD = libsoft.la libcommon.la
include vmx-driver/kvm/local.mk
include vmx-driver/soft/local.mk

# The same as an installed library: only what vmx.h declares is visible.
lib_LTLIBRARIES += libvmx.la
libvmx_la_SOURCES =
libvmx_la_LIBADD = libvmxdriver.la
libvmx_la_LDFLAGS = $(AM_LDFLAGS) -version-info 0:0:0 -no-undefined -pthread \
	-export-symbols-regex '^vmx_(vm_|vcpu_|probe$$|engine_name$$|exit_reason_name$$)'
include_HEADERS += vmx-driver/vmx.h
dist_man_MANS += docs/vmx.3
pkgconfig_DATA += vmx-driver/vmx.pc
CLEANFILES += vmx-driver/vmx.pc
EXTRA_DIST += vmx-driver/vmx.pc.in
vmx-driver/vmx.pc: vmx-driver/vmx.pc.in Makefile
	$(AM_V_GEN)$(MKDIR_P) vmx-driver && $(SED) -e 's|@prefix[@]|$(prefix)|' \
		-e 's|@exec_prefix[@]|$(exec_prefix)|' -e 's|@libdir[@]|$(libdir)|' \
		-e 's|@includedir[@]|$(includedir)|' \
		-e 's|@PACKAGE_VERSION[@]|$(PACKAGE_VERSION)|' '$(srcdir)/vmx-driver/vmx.pc.in' >$@.tmp && \
		mv $@.tmp $@

# What the man page shows, built as a user would build it.
check_PROGRAMS += vmx-driver/example
vmx_driver_example_SOURCES = vmx-driver/example.c
vmx_driver_example_CPPFLAGS = -I$(top_srcdir)/vmx-driver
vmx_driver_example_LDADD = libvmx.la
