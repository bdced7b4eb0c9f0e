/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.h - every device class there is: registry.c is the one visible array. What each wants to
 * know at creation is beside its declaration, in chips.h and virtio/.
 */
#ifndef DEVICES_REGISTRY_H
#define DEVICES_REGISTRY_H

#include <stddef.h>

#include "machine/device.h"

extern const struct device_class *const device_classes[];
extern const size_t device_class_count;
/* By name, or NULL. */
const struct device_class *device_class_find(const char *name);

#endif
