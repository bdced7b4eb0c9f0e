# SPDX-License-Identifier: Apache-2.0
# The contract of vmx.h, on each engine, and on the software engine in each of its debug modes.
check_PROGRAMS += tests/contract/contract
tests_contract_contract_SOURCES = tests/contract/contract.h tests/contract/contract.c \
	tests/contract/env.c tests/contract/life.c tests/contract/run.c tests/contract/memory.c \
	tests/contract/traps.c tests/contract/state.c tests/contract/interrupts.c \
	tests/contract/options.c tests/contract/access.c tests/contract/smp.c
tests_contract_contract_LDADD = libvmxdriver.la
tests_contract_contract_LDFLAGS = $(AM_LDFLAGS) -no-install -pthread
TESTS += tests/contract/contract-kvm.sh tests/contract/contract-soft.sh \
	tests/contract/contract-modes.sh tests/contract/coverage.sh tests/contract/library.sh \
	tests/contract/contract-hardware.sh
EXTRA_DIST += tests/contract/contract-kvm.sh tests/contract/contract-soft.sh \
	tests/contract/contract-modes.sh tests/contract/coverage.sh tests/contract/library.sh \
	tests/contract/contract-hardware.sh

# The engine-independent half alone, on an engine of the test's own.
check_PROGRAMS += tests/contract/half
tests_contract_half_SOURCES = tests/contract/half.c vmx-driver/vm.c vmx-driver/vcpu.c vmx-driver/slots.c \
	vmx-driver/traps.c vmx-driver/regs.c vmx-driver/walk.c vmx-driver/probe.c
tests_contract_half_CPPFLAGS = $(AM_CPPFLAGS)
tests_contract_half_LDFLAGS = $(AM_LDFLAGS) -pthread
TESTS += tests/contract/half

# Failures at call N: these calls of the driver go through the test.
check_PROGRAMS += tests/contract/faults
tests_contract_faults_SOURCES = tests/contract/faults.c
tests_contract_faults_LDADD = libvmxdriver.la
tests_contract_faults_LDFLAGS = $(AM_LDFLAGS) -no-install -pthread -Wl,--wrap=calloc \
	-Wl,--wrap=malloc -Wl,--wrap=mmap -Wl,--wrap=ioctl
TESTS += tests/contract/faults

# Every exit kind, under kicks, interrupts, restarts and changes of mappings, traps and code.
check_PROGRAMS += tests/contract/hammer
hammer_sources = tests/contract/contract.h tests/contract/hammer.h tests/contract/hammer.c \
	tests/contract/hammer_exits.c tests/contract/hammer_threads.c tests/contract/hammer_guest.S \
	tests/contract/env.c
tests_contract_hammer_SOURCES = $(hammer_sources)
tests_contract_hammer_LDADD = libvmxdriver.la
tests_contract_hammer_LDFLAGS = $(AM_LDFLAGS) -no-install -pthread
TESTS += tests/contract/hammer.sh tests/contract/hammer-tsan.sh
EXTRA_DIST += tests/contract/hammer.sh tests/contract/hammer-tsan.sh

# The same under the thread sanitizer, with all of the driver built for it. That includes the GENERAL
# files, whose synchronisation it would not see otherwise. Its library may then use vector registers
# while the guest's are in the processor: the hammer's guest has none.
if TSAN
check_LTLIBRARIES += tests/contract/libtsangeneral.la tests/contract/libtsan.la
tests_contract_libtsangeneral_la_SOURCES = $(libsoftgeneral_la_SOURCES)
tests_contract_libtsangeneral_la_CFLAGS = $(libsoftgeneral_la_CFLAGS) $(TSAN_CFLAGS)
tests_contract_libtsan_la_SOURCES = $(libsoft_la_SOURCES) $(libvmxdriver_la_SOURCES) \
	$(libcommon_la_SOURCES)
tests_contract_libtsan_la_CFLAGS = $(AM_CFLAGS) $(TSAN_CFLAGS)
tests_contract_libtsan_la_LIBADD = tests/contract/libtsangeneral.la $(ZYDIS_LIBS)
check_PROGRAMS += tests/contract/hammer-tsan
tests_contract_hammer_tsan_SOURCES = $(hammer_sources)
tests_contract_hammer_tsan_CFLAGS = $(AM_CFLAGS) $(TSAN_CFLAGS)
tests_contract_hammer_tsan_LDADD = tests/contract/libtsan.la
tests_contract_hammer_tsan_LDFLAGS = $(AM_LDFLAGS) $(TSAN_CFLAGS) -no-install -pthread
endif
