# SPDX-License-Identifier: Apache-2.0
noinst_LTLIBRARIES += libvmxdriver.la
libvmxdriver_la_SOURCES = vmx-driver/vmx.h vmx-driver/engine.h vmx-driver/vmx.c \
	vmx-driver/slots.c vmx-driver/traps.c vmx-driver/regs.c vmx-driver/walk.c vmx-driver/probe.c
libvmxdriver_la_LIBADD = libsoft.la libcommon.la
include vmx-driver/kvm/local.mk
include vmx-driver/soft/local.mk
