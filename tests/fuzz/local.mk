# SPDX-License-Identifier: Apache-2.0
# tests/fuzz: each target is one LLVMFuzzerTestOneInput(). `make check` replays its corpus and some
# random inputs with replay.c. For fuzzing itself, build fuzz_NAME.c and the libraries with
# clang -fsanitize=fuzzer,address,undefined, without replay.c.
check_LTLIBRARIES += libmoves.la libspoil.la
libmoves_la_SOURCES = tests/fuzz/moves.c tests/fuzz/moves.h tests/fuzz/input.h
libspoil_la_SOURCES = tests/fuzz/spoil.c tests/fuzz/spoil.h tests/fuzz/input.h
FUZZ_TESTS = tests/fuzz/fuzz-chips tests/fuzz/fuzz-virtq tests/fuzz/fuzz-virtio-blk
check_PROGRAMS += $(FUZZ_TESTS)
TESTS += $(FUZZ_TESTS)
EXTRA_DIST += tests/fuzz/corpus/chips tests/fuzz/corpus/virtq tests/fuzz/corpus/virtio-blk
tests_fuzz_fuzz_chips_SOURCES = tests/fuzz/fuzz_chips.c tests/fuzz/replay.c tests/fuzz/input.h
tests_fuzz_fuzz_chips_LDADD = librig.la
tests_fuzz_fuzz_virtq_SOURCES = tests/fuzz/fuzz_virtq.c tests/fuzz/replay.c tests/fuzz/input.h
tests_fuzz_fuzz_virtq_LDADD = libspoil.la librig.la
tests_fuzz_fuzz_virtq_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=mem_read -Wl,--wrap=mem_load16
tests_fuzz_fuzz_virtio_blk_SOURCES = tests/fuzz/fuzz_virtio_blk.c tests/fuzz/replay.c \
	tests/fuzz/input.h
tests_fuzz_fuzz_virtio_blk_LDADD = libmoves.la librig.la

# The machine's own.
check_PROGRAMS += tests/fuzz/fuzz-boot tests/fuzz/fuzz-pci
TESTS += tests/fuzz/fuzz-boot tests/fuzz/fuzz-pci
EXTRA_DIST += tests/fuzz/corpus/boot tests/fuzz/corpus/pci
tests_fuzz_fuzz_boot_SOURCES = tests/fuzz/fuzz_boot.c tests/fuzz/replay.c tests/fuzz/input.h
tests_fuzz_fuzz_boot_LDADD = libmachine.la
tests_fuzz_fuzz_pci_SOURCES = tests/fuzz/fuzz_pci.c tests/fuzz/replay.c tests/fuzz/input.h
tests_fuzz_fuzz_pci_LDADD = librig.la

# The software processor's system instructions.
check_PROGRAMS += tests/fuzz/fuzz-soft-system
TESTS += tests/fuzz/fuzz-soft-system
EXTRA_DIST += tests/fuzz/corpus/soft-system
tests_fuzz_fuzz_soft_system_SOURCES = tests/fuzz/fuzz_soft_system.c tests/fuzz/replay.c \
	tests/fuzz/input.h tests/unit/sys_rig.c tests/unit/sys_rig.h
tests_fuzz_fuzz_soft_system_LDADD = libvmxdriver.la

# A hypervisor on the software processor.
check_PROGRAMS += tests/fuzz/fuzz-soft-vmx
TESTS += tests/fuzz/fuzz-soft-vmx
EXTRA_DIST += tests/fuzz/corpus/soft-vmx
tests_fuzz_fuzz_soft_vmx_SOURCES = tests/fuzz/fuzz_soft_vmx.c tests/fuzz/replay.c \
	tests/fuzz/input.h tests/unit/soft_guest.h
tests_fuzz_fuzz_soft_vmx_LDADD = libvmxdriver.la
# Disk images.
check_PROGRAMS += tests/fuzz/fuzz-qcow2
TESTS += tests/fuzz/fuzz-qcow2
EXTRA_DIST += tests/fuzz/corpus/qcow2
tests_fuzz_fuzz_qcow2_SOURCES = tests/fuzz/fuzz_qcow2.c tests/fuzz/replay.c tests/fuzz/input.h
tests_fuzz_fuzz_qcow2_LDADD = libdevices.la libmachine.la libvmxdriver.la libcommon.la -lpthread
# The 9P server behind shared directories.
check_PROGRAMS += tests/fuzz/fuzz-p9
TESTS += tests/fuzz/fuzz-p9
EXTRA_DIST += tests/fuzz/corpus/p9
tests_fuzz_fuzz_p9_SOURCES = tests/fuzz/fuzz_p9.c tests/fuzz/p9input.h tests/fuzz/replay.c \
	tests/fuzz/input.h
tests_fuzz_fuzz_p9_LDADD = libdevices.la libmachine.la libvmxdriver.la libcommon.la -lpthread
# Memory that is a device.
check_PROGRAMS += tests/fuzz/fuzz-virtio-memory
TESTS += tests/fuzz/fuzz-virtio-memory
EXTRA_DIST += tests/fuzz/corpus/virtio-memory
tests_fuzz_fuzz_virtio_memory_SOURCES = tests/fuzz/fuzz_virtio_memory.c tests/fuzz/replay.c \
	tests/fuzz/input.h
tests_fuzz_fuzz_virtio_memory_LDADD = librig.la

# Virtio devices: each has vfuzz.c around it.
check_LTLIBRARIES += libvfuzz.la
libvfuzz_la_SOURCES = tests/fuzz/vfuzz.c tests/fuzz/vfuzz.h tests/fuzz/input.h
libvfuzz_la_LIBADD = libmoves.la libspoil.la librig.la
vfuzz_ldflags = $(AM_LDFLAGS) -Wl,--wrap=mem_read -Wl,--wrap=mem_load16
check_PROGRAMS += tests/fuzz/fuzz-virtio-9p
TESTS += tests/fuzz/fuzz-virtio-9p
EXTRA_DIST += tests/fuzz/corpus/virtio-9p
tests_fuzz_fuzz_virtio_9p_SOURCES = tests/fuzz/fuzz_virtio_9p.c tests/fuzz/p9input.h tests/fuzz/replay.c
tests_fuzz_fuzz_virtio_9p_LDADD = libvfuzz.la
tests_fuzz_fuzz_virtio_9p_LDFLAGS = $(vfuzz_ldflags)
check_PROGRAMS += tests/fuzz/fuzz-virtio-balloon
TESTS += tests/fuzz/fuzz-virtio-balloon
EXTRA_DIST += tests/fuzz/corpus/virtio-balloon
tests_fuzz_fuzz_virtio_balloon_SOURCES = tests/fuzz/fuzz_virtio_balloon.c tests/fuzz/replay.c
tests_fuzz_fuzz_virtio_balloon_LDADD = libvfuzz.la
tests_fuzz_fuzz_virtio_balloon_LDFLAGS = $(vfuzz_ldflags)
check_PROGRAMS += tests/fuzz/fuzz-virtio-console
TESTS += tests/fuzz/fuzz-virtio-console
EXTRA_DIST += tests/fuzz/corpus/virtio-console
tests_fuzz_fuzz_virtio_console_SOURCES = tests/fuzz/fuzz_virtio_console.c tests/fuzz/replay.c
tests_fuzz_fuzz_virtio_console_LDADD = libvfuzz.la
tests_fuzz_fuzz_virtio_console_LDFLAGS = $(vfuzz_ldflags)
check_PROGRAMS += tests/fuzz/fuzz-virtio-net
TESTS += tests/fuzz/fuzz-virtio-net
EXTRA_DIST += tests/fuzz/corpus/virtio-net
tests_fuzz_fuzz_virtio_net_SOURCES = tests/fuzz/fuzz_virtio_net.c tests/fuzz/replay.c
tests_fuzz_fuzz_virtio_net_LDADD = libvfuzz.la
tests_fuzz_fuzz_virtio_net_LDFLAGS = $(vfuzz_ldflags)
check_PROGRAMS += tests/fuzz/fuzz-virtio-rng
TESTS += tests/fuzz/fuzz-virtio-rng
EXTRA_DIST += tests/fuzz/corpus/virtio-rng
tests_fuzz_fuzz_virtio_rng_SOURCES = tests/fuzz/fuzz_virtio_rng.c tests/fuzz/replay.c
tests_fuzz_fuzz_virtio_rng_LDADD = libvfuzz.la
tests_fuzz_fuzz_virtio_rng_LDFLAGS = $(vfuzz_ldflags)
check_PROGRAMS += tests/fuzz/fuzz-virtio-vsock
TESTS += tests/fuzz/fuzz-virtio-vsock
EXTRA_DIST += tests/fuzz/corpus/virtio-vsock
tests_fuzz_fuzz_virtio_vsock_SOURCES = tests/fuzz/fuzz_virtio_vsock.c tests/fuzz/replay.c
tests_fuzz_fuzz_virtio_vsock_LDADD = libvfuzz.la
tests_fuzz_fuzz_virtio_vsock_LDFLAGS = $(vfuzz_ldflags)
# vhost-user: messages and used rings of a back-end, rings of the guest.
check_PROGRAMS += tests/fuzz/fuzz-vhost
TESTS += tests/fuzz/fuzz-vhost
EXTRA_DIST += tests/fuzz/corpus/vhost
tests_fuzz_fuzz_vhost_SOURCES = tests/fuzz/fuzz_vhost.c tests/fuzz/replay.c tests/fuzz/input.h \
	tests/device/vbackend.c tests/device/vbackend.h
tests_fuzz_fuzz_vhost_LDADD = librig.la
