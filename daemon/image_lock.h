/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_lock.h - one image has one writer, and no reader meanwhile: among VMs of this daemon and of
 * others, and QEMU and its tools, which keep to the same locks.
 */
#ifndef DAEMON_IMAGE_LOCK_H
#define DAEMON_IMAGE_LOCK_H

#include <stdbool.h>

/* Held as long as any copy of the descriptor is open, in whatever process. Nobody waits. -EBUSY: somebody
 * uses it in a way that does not go together; 0 also where the file system has no locks. */
int image_lock(int fd, bool readonly);

#endif
