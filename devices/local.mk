# SPDX-License-Identifier: Apache-2.0
# devices: shared with "machine", which owns board*.c and registry.c
noinst_LTLIBRARIES += libdevices.la
libdevices_la_SOURCES =
libdevices_la_LIBADD = $(ZLIB_LIBS) $(ZSTD_LIBS) $(URING_LIBS)
AM_CPPFLAGS += $(ZLIB_CFLAGS) $(ZSTD_CFLAGS) $(URING_CFLAGS)
libdevices_la_SOURCES += devices/board.h devices/chips.h \
	devices/acpi_hotplug.c devices/acpi_pm.c devices/debug_exit.c devices/test_device.c devices/i8042.c devices/i8254.c devices/i8259.c \
	devices/ioapic.c devices/mc146818.c devices/uart16550.c \
	devices/backend/console.c devices/backend/console.h devices/backend/fifo.h
libdevices_la_SOURCES += \
	devices/backend/block.h devices/backend/block_lost.c devices/backend/block_raw.c \
	devices/backend/disk.c \
	devices/backend/disk.h devices/backend/iov.h \
	devices/backend/qcow2.h devices/backend/qcow2_internal.h devices/backend/qcow2_cache.c \
	devices/backend/qcow2_check.c devices/backend/qcow2_inflate.c devices/backend/qcow2_io.c \
	devices/backend/qcow2_map.c devices/backend/qcow2_now.c devices/backend/qcow2_open.c \
	devices/backend/qcow2_refcount.c \
	devices/backend/limit.c devices/backend/limit.h \
	devices/backend/net.h devices/backend/net_backend.c devices/backend/net_frame.c \
	devices/backend/net_frame.h devices/backend/net_packet.c devices/backend/net_stream.c \
	devices/virtio/net.c devices/virtio/net.h devices/virtio/net_config.h \
	devices/virtio/net_ctrl.c devices/virtio/net_rx.c devices/virtio/net_tx.c \
	devices/virtio/net_internal.h devices/virtio/net_spec.h \
	devices/backend/uring.c devices/backend/uring.h devices/backend/workers.c \
	devices/backend/workers.h \
	devices/virtio/blk.c devices/virtio/blk.h devices/virtio/blk_internal.h devices/virtio/blk_spec.h \
	devices/virtio/blk_here.c devices/virtio/blk_hold.c devices/virtio/blk_request.c \
	devices/virtio/core.c devices/virtio/core.h devices/virtio/registers.c \
	devices/virtio/mmio.c devices/virtio/mmio.h devices/virtio/pci.c devices/virtio/pci.h \
	devices/virtio/queue.c devices/virtio/queue.h devices/virtio/queue_internal.h \
	devices/backend/peer.c devices/backend/peer.h \
	devices/virtio/balloon.c devices/virtio/balloon.h \
	devices/virtio/mem.c devices/virtio/mem.h devices/virtio/pmem.c devices/virtio/pmem.h \
	devices/virtio/console.c devices/virtio/console.h \
	devices/virtio/queue_packed.c devices/virtio/queue_split.c \
	devices/virtio/rng.c devices/virtio/rng.h \
	devices/virtio/transport.c devices/virtio/transport.h
libdevices_la_SOURCES += devices/virtio/p9.c devices/virtio/p9.h \
	devices/backend/p9.h devices/backend/p9_internal.h devices/backend/p9_attr.c \
	devices/backend/p9_codec.c devices/backend/p9_fid.c devices/backend/p9_file.c \
	devices/backend/p9_name.c devices/backend/p9_server.c
libdevices_la_SOURCES += devices/virtio/vsock.c devices/virtio/vsock.h \
	devices/virtio/vsock_conn.c devices/virtio/vsock_internal.h
libdevices_la_SOURCES += devices/backend/vhost_peer.c devices/backend/vhost_peer.h devices/backend/vhost_setup.h \
	devices/backend/vhost_script.c devices/backend/vhost_script.h \
	devices/backend/vhost_kernel.c devices/backend/vhost_kernel.h \
	devices/virtio/net_vhost.c devices/virtio/net_vhost.h \
	devices/backend/vhost_wire.c devices/backend/vhost_wire.h \
	devices/virtio/vhost_config.h devices/virtio/vhost_internal.h devices/virtio/vhost_ring.c devices/virtio/vhost_ring.h \
	devices/virtio/vhost_queue.c devices/virtio/vhost_queue.h \
	devices/virtio/vhost_types.c devices/virtio/vhost_user.c devices/virtio/vhost_user.h
libdevices_la_SOURCES += devices/board.c devices/board_devices.c devices/board_hotplug.c \
	devices/board_internal.h \
	devices/registry.c devices/registry.h
