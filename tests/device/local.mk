# SPDX-License-Identifier: Apache-2.0
# tests/device: a machine without processors, a clock that stands still, scripts of accesses.
check_LTLIBRARIES += librig.la
librig_la_SOURCES = tests/device/rig.c tests/device/rig.h \
	tests/device/vdriver.c tests/device/vdriver.h
librig_la_LIBADD = libdevices.la libmachine.la libvmxdriver.la libcommon.la -lpthread

# A test is here, and below with its files.
DEVICE_TESTS = \
	tests/device/test-chips-irq \
	tests/device/test-chips-serial \
	tests/device/test-chips-threads \
	tests/device/test-chips-time \
	tests/device/test-hotplug \
	tests/device/test-net-vhost \
	tests/device/test-p9 \
	tests/device/test-vhost \
	tests/device/test-vhost-bad \
	tests/device/test-virtio-balloon \
	tests/device/test-virtio-blk \
	tests/device/test-virtio-blk-bad \
	tests/device/test-virtio-blk-here \
	tests/device/test-virtio-blk-wait \
	tests/device/test-virtio-console \
	tests/device/test-virtio-mem \
	tests/device/test-virtio-net \
	tests/device/test-virtio-pmem \
	tests/device/test-virtio-ring \
	tests/device/test-virtio-ring-bad \
	tests/device/test-virtio-rng \
	tests/device/test-virtio-vsock \
	tests/device/test-virtio-vsock-bad
check_PROGRAMS += $(DEVICE_TESTS)
TESTS += $(DEVICE_TESTS)

# What several of them share.
blkdriver = tests/device/blkdriver.c tests/device/blkdriver.h
ramblock = tests/device/ramblock.c tests/device/ramblock.h
echo = tests/device/echo.c tests/device/echo.h
vhostrig = tests/device/vbackend.c tests/device/vbackend.h \
	tests/device/vhost_rig.c tests/device/vhost_rig.h
# A kernel with vhost-net: its users wrap ioctl().
vkernel = tests/device/vkernel.c tests/device/vkernel.h \
	tests/device/vbackend.c tests/device/vbackend.h
vkernel_ldflags = $(AM_LDFLAGS) -Wl,--wrap=ioctl
vhost_ldflags = $(AM_LDFLAGS) -Wl,--wrap=mem_written
vsockrig = tests/device/vsockrig.c tests/device/vsockrig.h tests/device/vsockclient.h

tests_device_test_chips_irq_SOURCES = tests/device/test_chips_irq.c
tests_device_test_chips_irq_LDADD = librig.la
tests_device_test_chips_serial_SOURCES = tests/device/test_chips_serial.c
tests_device_test_chips_serial_LDADD = librig.la
tests_device_test_chips_threads_SOURCES = tests/device/test_chips_threads.c
tests_device_test_chips_threads_LDADD = librig.la
tests_device_test_chips_time_SOURCES = tests/device/test_chips_time.c
tests_device_test_chips_time_LDADD = librig.la
tests_device_test_hotplug_SOURCES = tests/device/test_hotplug.c
tests_device_test_hotplug_LDADD = librig.la
tests_device_test_net_vhost_SOURCES = tests/device/test_net_vhost.c $(vkernel)
tests_device_test_net_vhost_LDADD = librig.la
tests_device_test_net_vhost_LDFLAGS = $(vkernel_ldflags)
tests_device_test_p9_SOURCES = tests/device/test_p9.c tests/device/p9client.h
tests_device_test_p9_LDADD = librig.la
tests_device_test_vhost_SOURCES = tests/device/test_vhost.c $(vhostrig)
tests_device_test_vhost_LDADD = librig.la
tests_device_test_vhost_LDFLAGS = $(vhost_ldflags)
tests_device_test_vhost_bad_SOURCES = tests/device/test_vhost_bad.c $(vhostrig)
tests_device_test_vhost_bad_LDADD = librig.la
tests_device_test_vhost_bad_LDFLAGS = $(vhost_ldflags)
tests_device_test_virtio_balloon_SOURCES = tests/device/test_virtio_balloon.c
tests_device_test_virtio_balloon_LDADD = librig.la
tests_device_test_virtio_blk_SOURCES = tests/device/test_virtio_blk.c $(blkdriver)
tests_device_test_virtio_blk_LDADD = librig.la
tests_device_test_virtio_blk_bad_SOURCES = tests/device/test_virtio_blk_bad.c $(blkdriver)
tests_device_test_virtio_blk_bad_LDADD = librig.la
tests_device_test_virtio_blk_here_SOURCES = tests/device/test_virtio_blk_here.c $(blkdriver) \
	$(ramblock)
tests_device_test_virtio_blk_here_LDADD = librig.la
tests_device_test_virtio_blk_wait_SOURCES = tests/device/test_virtio_blk_wait.c $(blkdriver)
tests_device_test_virtio_blk_wait_LDADD = librig.la
tests_device_test_virtio_console_SOURCES = tests/device/test_virtio_console.c
tests_device_test_virtio_console_LDADD = librig.la
tests_device_test_virtio_mem_SOURCES = tests/device/test_virtio_mem.c
tests_device_test_virtio_mem_LDADD = librig.la
tests_device_test_virtio_net_SOURCES = tests/device/test_virtio_net.c
tests_device_test_virtio_net_LDADD = librig.la
tests_device_test_virtio_pmem_SOURCES = tests/device/test_virtio_pmem.c
tests_device_test_virtio_pmem_LDADD = librig.la
tests_device_test_virtio_ring_SOURCES = tests/device/test_virtio_ring.c $(echo)
tests_device_test_virtio_ring_LDADD = librig.la
tests_device_test_virtio_ring_bad_SOURCES = tests/device/test_virtio_ring_bad.c $(echo)
tests_device_test_virtio_ring_bad_LDADD = librig.la
tests_device_test_virtio_rng_SOURCES = tests/device/test_virtio_rng.c
tests_device_test_virtio_rng_LDADD = librig.la
tests_device_test_virtio_vsock_SOURCES = tests/device/test_virtio_vsock.c $(vsockrig)
tests_device_test_virtio_vsock_LDADD = librig.la
tests_device_test_virtio_vsock_bad_SOURCES = tests/device/test_virtio_vsock_bad.c $(vsockrig)
tests_device_test_virtio_vsock_bad_LDADD = librig.la
