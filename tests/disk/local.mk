# SPDX-License-Identifier: Apache-2.0
# tests/disk: disk images without a machine; qemu-img judges.
check_PROGRAMS += tests/disk/disk-work
tests_disk_disk_work_SOURCES = tests/disk/disk_work.c
tests_disk_disk_work_LDADD = libdevices.la libmachine.la libvmxdriver.la libcommon.la -lpthread
TESTS += tests/disk/images.py tests/disk/locks.py
EXTRA_DIST += tests/disk/images.py tests/disk/locks.py
