noinst_LTLIBRARIES += libvmxdriver.la
libvmxdriver_la_SOURCES = vmx-driver/vmx.h vmx-driver/engine.h
libvmxdriver_la_LIBADD = libcommon.la
include vmx-driver/kvm/local.mk
include vmx-driver/soft/local.mk
