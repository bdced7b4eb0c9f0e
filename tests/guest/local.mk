# SPDX-License-Identifier: Apache-2.0
# tests/guest: small guests built here, then stock kernels.
check_PROGRAMS += tests/guest/boot
tests_guest_boot_SOURCES = tests/guest/boot.c
tests_guest_boot_LDADD = libdevices.la libmachine.la libvmxdriver.la libcommon.la -lpthread
# A static user of /dev/kvm, for the inside of a guest.
check_PROGRAMS += tests/guest/kvm-run
tests_guest_kvm_run_SOURCES = tests/guest/kvm-run.c
tests_guest_kvm_run_CFLAGS = -std=gnu17 -O2 -fno-stack-protector -fcf-protection=none \
	$(GENERAL_CFLAGS) $(WARN_CFLAGS)
tests_guest_kvm_run_LDFLAGS = -all-static
EXTRA_DIST += tests/guest/nested.sh tests/guest/nested-init tests/guest/kvm-unit-tests.sh docs/kvm-unit-tests.md
TESTS += tests/guest/payloads tests/guest/linux-modes.sh tests/guest/nested.sh tests/guest/nested-smp.sh \
	tests/guest/hotplug.sh tests/guest/netplug.sh
EXTRA_DIST += tests/guest/payloads tests/guest/linux-modes.sh tests/guest/hotplug.sh tests/guest/netplug.sh \
	tests/guest/payload/payload.ld tests/guest/payload/macros.h \
	tests/guest/payload/bzimage.S tests/guest/payload/exit.S tests/guest/payload/fault.S \
	tests/guest/payload/irq.S tests/guest/payload/multiboot.S tests/guest/payload/nowhere.S \
	tests/guest/payload/power.S tests/guest/payload/pvh.S tests/guest/payload/reset.S
TESTS += tests/guest/code32.sh
EXTRA_DIST += tests/guest/code32.sh
TESTS += tests/guest/disks.py
EXTRA_DIST += tests/guest/disks.py tests/guest/fetch-rootfs
TESTS += tests/guest/virtio.sh
EXTRA_DIST += tests/guest/virtio.sh
TESTS += tests/guest/devices.py
EXTRA_DIST += tests/guest/devices.py
TESTS += tests/guest/vmx.sh
EXTRA_DIST += tests/guest/nested-smp.sh tests/guest/vmx.sh tests/guest/payload/vmx_start.S tests/guest/payload/vmx.c \
	tests/guest/payload/vmx.h tests/guest/payload/vmx_lib.c tests/guest/payload/vmx_controls.c
# A static program for the guests of network tests and benchmarks.
check_PROGRAMS += tests/guest/net-tool
tests_guest_net_tool_SOURCES = tests/guest/net-tool.c
tests_guest_net_tool_CFLAGS = -std=gnu17 -O2 $(WARN_CFLAGS)
tests_guest_net_tool_LDFLAGS = -all-static
TESTS += tests/guest/net.sh
EXTRA_DIST += tests/guest/net.sh tests/guest/net-parts tests/guest/net-guest tests/guest/name-server
# The guest's side of vsock tests, static.
check_PROGRAMS += tests/guest/vsock-tool
tests_guest_vsock_tool_SOURCES = tests/guest/vsock-tool.c
tests_guest_vsock_tool_CFLAGS = -std=gnu17 -O2 $(WARN_CFLAGS)
tests_guest_vsock_tool_LDFLAGS = -all-static
TESTS += tests/guest/share.sh
EXTRA_DIST += tests/guest/share.sh
# Several processors under load; the program inside is static, for any guest.
check_PROGRAMS += tests/guest/smp-stress
tests_guest_smp_stress_SOURCES = tests/guest/smp-stress.c tests/guest/smp-memory.c tests/guest/smp-code.c \
	tests/guest/smp-stress.h
tests_guest_smp_stress_CFLAGS = -std=gnu17 -O2 -g -pthread $(WARN_CFLAGS)
tests_guest_smp_stress_CPPFLAGS =
tests_guest_smp_stress_LDFLAGS = -all-static -pthread
# The code cache fills up and over; as static.
check_PROGRAMS += tests/guest/code-storm
tests_guest_code_storm_SOURCES = tests/guest/code-storm.c
tests_guest_code_storm_CFLAGS = -std=gnu17 -O2 -g -pthread $(WARN_CFLAGS)
tests_guest_code_storm_CPPFLAGS =
tests_guest_code_storm_LDFLAGS = -all-static -pthread
TESTS += tests/guest/smp.sh
EXTRA_DIST += tests/guest/smp.sh
TESTS += tests/guest/memory.py
EXTRA_DIST += tests/guest/memory.py
TESTS += tests/guest/vhost-net.sh
EXTRA_DIST += tests/guest/vhost-net.sh tests/guest/nested-net
# By hand: systemd.sh says how.
EXTRA_DIST += tests/guest/systemd.sh
TESTS += tests/guest/vhost.sh
EXTRA_DIST += tests/guest/vhost.sh
# Over all transports with VMXD_ALL_MODES=1 in the environment.
TESTS += tests/guest/everything.py
EXTRA_DIST += tests/guest/everything.py docs/virtio-guards.md
