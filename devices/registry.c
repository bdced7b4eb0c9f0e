/* SPDX-License-Identifier: Apache-2.0 */
#include "devices/registry.h"

#include <string.h>

#include "common/checked.h"
#include "devices/chips.h"
#include "devices/virtio/balloon.h"
#include "devices/virtio/blk.h"
#include "devices/virtio/console.h"
#include "devices/virtio/mem.h"
#include "devices/virtio/net.h"
#include "devices/virtio/p9.h"
#include "devices/virtio/pmem.h"
#include "devices/virtio/rng.h"
#include "devices/virtio/vhost_user.h"
#include "devices/virtio/vsock.h"

const struct device_class *const device_classes[] = {
	&i8259_class,   &ioapic_class,  &i8254_class,    &mc146818_class,
	&i8042_class,   &acpi_pm_class, &uart16550_class, &debug_exit_class,
	&test_device_class,
	&virtio_blk_class, &virtio_rng_class, &virtio_net_class, &acpi_hotplug_class,
	&virtio_console_class, &virtio_balloon_class,
	&virtio_p9_class, &virtio_mem_class, &virtio_pmem_class, &virtio_vsock_class,
	&vhost_user_class,
};
const size_t device_class_count = ARRAY_SIZE(device_classes);

const struct device_class *device_class_find(const char *name)
{
	for (size_t i = 0; i < device_class_count; i++)
		if (!strcmp(device_classes[i]->name, name))
			return device_classes[i];
	return NULL;
}
