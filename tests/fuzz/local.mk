# SPDX-License-Identifier: Apache-2.0
# tests/fuzz: each target is one LLVMFuzzerTestOneInput(). `make check` replays its corpus and some
# random inputs with replay.c. For fuzzing itself:
#     configure CC=clang --enable-fuzzing && make fuzz FUZZ_SECONDS=60
FUZZ_TARGETS = \
	tests/fuzz/fuzz-boot \
	tests/fuzz/fuzz-chips \
	tests/fuzz/fuzz-net-vhost \
	tests/fuzz/fuzz-p9 \
	tests/fuzz/fuzz-pci \
	tests/fuzz/fuzz-protocol \
	tests/fuzz/fuzz-qcow2 \
	tests/fuzz/fuzz-soft-system \
	tests/fuzz/fuzz-soft-vmx \
	tests/fuzz/fuzz-vhost \
	tests/fuzz/fuzz-virtio-9p \
	tests/fuzz/fuzz-virtio-balloon \
	tests/fuzz/fuzz-virtio-blk \
	tests/fuzz/fuzz-virtio-console \
	tests/fuzz/fuzz-virtio-memory \
	tests/fuzz/fuzz-virtio-net \
	tests/fuzz/fuzz-virtio-rng \
	tests/fuzz/fuzz-virtio-vsock \
	tests/fuzz/fuzz-virtq
check_PROGRAMS += $(FUZZ_TARGETS)
TESTS += $(FUZZ_TARGETS)
EXTRA_DIST += tests/fuzz/corpus tests/fuzz/rotate

# Who calls the target: the fuzzer, or replay.c.
if FUZZING
FUZZ_MAIN = $(LIBFUZZER)
else
FUZZ_MAIN = libreplay.la
endif
check_LTLIBRARIES += libreplay.la libmoves.la libspoil.la libvfuzz.la
libreplay_la_SOURCES = tests/fuzz/replay.c tests/fuzz/input.h
libmoves_la_SOURCES = tests/fuzz/moves.c tests/fuzz/moves.h tests/fuzz/input.h
libspoil_la_SOURCES = tests/fuzz/spoil.c tests/fuzz/spoil.h tests/fuzz/input.h
spoil_ldflags = $(AM_LDFLAGS) -Wl,--wrap=mem_read -Wl,--wrap=mem_load16
# A virtio device, with all that its driver may do wrong.
libvfuzz_la_SOURCES = tests/fuzz/vfuzz.c tests/fuzz/vfuzz.h tests/fuzz/input.h
libvfuzz_la_LIBADD = libmoves.la libspoil.la librig.la
fuzz_vmx_libs = $(FUZZ_MAIN) libvmxdriver.la
fuzz_rig_libs = $(FUZZ_MAIN) librig.la
fuzz_virtio_libs = $(FUZZ_MAIN) libvfuzz.la

# The machine's own.
tests_fuzz_fuzz_boot_SOURCES = tests/fuzz/fuzz_boot.c
tests_fuzz_fuzz_boot_LDADD = $(FUZZ_MAIN) libmachine.la
tests_fuzz_fuzz_pci_SOURCES = tests/fuzz/fuzz_pci.c
tests_fuzz_fuzz_pci_LDADD = $(fuzz_rig_libs)
# The software processor's system instructions, and a hypervisor on it.
tests_fuzz_fuzz_soft_system_SOURCES = tests/fuzz/fuzz_soft_system.c tests/unit/sys_rig.c \
	tests/unit/sys_rig.h
tests_fuzz_fuzz_soft_system_LDADD = $(fuzz_vmx_libs)
tests_fuzz_fuzz_soft_vmx_SOURCES = tests/fuzz/fuzz_soft_vmx.c tests/unit/soft_guest.h
tests_fuzz_fuzz_soft_vmx_LDADD = $(fuzz_vmx_libs)
# Chips and queues.
tests_fuzz_fuzz_chips_SOURCES = tests/fuzz/fuzz_chips.c
tests_fuzz_fuzz_chips_LDADD = $(fuzz_rig_libs)
tests_fuzz_fuzz_virtq_SOURCES = tests/fuzz/fuzz_virtq.c
tests_fuzz_fuzz_virtq_LDADD = $(FUZZ_MAIN) libspoil.la librig.la
tests_fuzz_fuzz_virtq_LDFLAGS = $(spoil_ldflags)
# Virtio devices.
netinput = tests/fuzz/netinput.c tests/fuzz/netinput.h
tests_fuzz_fuzz_net_vhost_SOURCES = tests/fuzz/fuzz_net_vhost.c $(netinput) $(vkernel)
tests_fuzz_fuzz_net_vhost_LDADD = $(fuzz_virtio_libs)
tests_fuzz_fuzz_net_vhost_LDFLAGS = $(spoil_ldflags) -Wl,--wrap=ioctl \
	-Wl,--wrap=rig_check_failed
tests_fuzz_fuzz_virtio_9p_SOURCES = tests/fuzz/fuzz_virtio_9p.c tests/fuzz/p9input.h
tests_fuzz_fuzz_virtio_9p_LDADD = $(fuzz_virtio_libs)
tests_fuzz_fuzz_virtio_9p_LDFLAGS = $(spoil_ldflags)
tests_fuzz_fuzz_virtio_balloon_SOURCES = tests/fuzz/fuzz_virtio_balloon.c
tests_fuzz_fuzz_virtio_balloon_LDADD = $(fuzz_virtio_libs)
tests_fuzz_fuzz_virtio_balloon_LDFLAGS = $(spoil_ldflags)
tests_fuzz_fuzz_virtio_blk_SOURCES = tests/fuzz/fuzz_virtio_blk.c $(ramblock)
tests_fuzz_fuzz_virtio_blk_LDADD = $(FUZZ_MAIN) libmoves.la librig.la
tests_fuzz_fuzz_virtio_console_SOURCES = tests/fuzz/fuzz_virtio_console.c
tests_fuzz_fuzz_virtio_console_LDADD = $(fuzz_virtio_libs)
tests_fuzz_fuzz_virtio_console_LDFLAGS = $(spoil_ldflags)
tests_fuzz_fuzz_virtio_memory_SOURCES = tests/fuzz/fuzz_virtio_memory.c
tests_fuzz_fuzz_virtio_memory_LDADD = $(fuzz_rig_libs)
tests_fuzz_fuzz_virtio_net_SOURCES = tests/fuzz/fuzz_virtio_net.c $(netinput)
tests_fuzz_fuzz_virtio_net_LDADD = $(fuzz_virtio_libs)
tests_fuzz_fuzz_virtio_net_LDFLAGS = $(spoil_ldflags)
tests_fuzz_fuzz_virtio_rng_SOURCES = tests/fuzz/fuzz_virtio_rng.c
tests_fuzz_fuzz_virtio_rng_LDADD = $(fuzz_virtio_libs)
tests_fuzz_fuzz_virtio_rng_LDFLAGS = $(spoil_ldflags)
tests_fuzz_fuzz_virtio_vsock_SOURCES = tests/fuzz/fuzz_virtio_vsock.c
tests_fuzz_fuzz_virtio_vsock_LDADD = $(fuzz_virtio_libs)
tests_fuzz_fuzz_virtio_vsock_LDFLAGS = $(spoil_ldflags)
# vhost-user: messages and used rings of a back-end, rings of the guest.
tests_fuzz_fuzz_vhost_SOURCES = tests/fuzz/fuzz_vhost.c tests/device/vbackend.c \
	tests/device/vbackend.h
tests_fuzz_fuzz_vhost_LDADD = $(fuzz_rig_libs)
# Disk images; the 9P server behind shared directories.
tests_fuzz_fuzz_qcow2_SOURCES = tests/fuzz/fuzz_qcow2.c
tests_fuzz_fuzz_qcow2_LDADD = $(fuzz_rig_libs)
tests_fuzz_fuzz_p9_SOURCES = tests/fuzz/fuzz_p9.c tests/fuzz/p9input.h
tests_fuzz_fuzz_p9_LDADD = $(fuzz_rig_libs)
# Requests that are mostly right.
tests_fuzz_fuzz_protocol_SOURCES = tests/fuzz/fuzz_protocol.c
tests_fuzz_fuzz_protocol_CPPFLAGS = $(AM_CPPFLAGS) $(JSONC_CFLAGS)
tests_fuzz_fuzz_protocol_LDADD = $(FUZZ_MAIN) libprotocol.la libcommon.la $(JSONC_LIBS)

# Each target in turn, FUZZ_ROUNDS times: FUZZ_TARGETS or FUZZ_SECONDS may be given.
FUZZ_SECONDS = 60
FUZZ_ROUNDS = 1
.PHONY: fuzz
if FUZZING
fuzz: $(FUZZ_TARGETS)
	$(AM_TESTS_ENVIRONMENT) bash $(srcdir)/tests/fuzz/rotate $(FUZZ_SECONDS) $(FUZZ_ROUNDS) \
		$(FUZZ_TARGETS)
else
fuzz:
	@echo 'make fuzz: configure with CC=clang --enable-fuzzing first' >&2; exit 1
endif
