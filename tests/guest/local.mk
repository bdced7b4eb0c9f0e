# SPDX-License-Identifier: Apache-2.0
# tests/guest: small guests built here, then stock kernels.
check_PROGRAMS += tests/guest/boot
tests_guest_boot_SOURCES = tests/guest/boot.c
tests_guest_boot_LDADD = libdevices.la libmachine.la libvmxdriver.la libcommon.la -lpthread
TESTS += tests/guest/payloads tests/guest/linux-modes.sh
EXTRA_DIST += tests/guest/payloads tests/guest/linux-modes.sh \
	tests/guest/payload/payload.ld tests/guest/payload/macros.h \
	tests/guest/payload/bzimage.S tests/guest/payload/exit.S tests/guest/payload/fault.S \
	tests/guest/payload/irq.S tests/guest/payload/multiboot.S tests/guest/payload/nowhere.S \
	tests/guest/payload/power.S tests/guest/payload/pvh.S tests/guest/payload/reset.S
TESTS += tests/guest/disks.py
EXTRA_DIST += tests/guest/disks.py tests/guest/fetch-rootfs
