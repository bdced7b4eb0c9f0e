# The software engine. SOFT_GENERAL files run with the guest's FP state in the registers.
noinst_LTLIBRARIES += libsoftgeneral.la libsoft.la
libsoftgeneral_la_SOURCES =
libsoftgeneral_la_CFLAGS = $(AM_CFLAGS) -O2 -mgeneral-regs-only -fno-builtin -ffreestanding \
	-fno-stack-protector -fno-tree-loop-distribute-patterns -fcf-protection=none
libsoft_la_SOURCES = vmx-driver/soft/soft.h
libsoft_la_LIBADD = libsoftgeneral.la $(ZYDIS_LIBS)
