/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vhost_kernel.h - the host kernel's vhost-net: threads of the kernel's that move packets between one
 * pair of rings and a tap. An open /dev/vhost-net is one pair's.
 *
 * The kernel works in the memory of the process that owned it: it is told where that has guest memory
 * and rings, and reaches nothing else for a descriptor.
 *
 * No state but the kernel's. Threads: one at a time for a descriptor.
 */
#ifndef DEVICES_BACKEND_VHOST_KERNEL_H
#define DEVICES_BACKEND_VHOST_KERNEL_H

#include "devices/backend/vhost_setup.h"

/* Makes fd this process's, once. -ENOTTY: it is no vhost device; -ENOTSUP: it lacks some of the features
 * `needed`; else what the kernel says: -EBUSY, -ENOMEM, ... */
int vhost_kernel_own(int fd, uint64_t needed);
/* It works, on vrings `first` (receives) and first + 1 (sends) of setup, with this tap, until stop(). When
 * it cannot go on it rings err_fd. An error: it does not work. */
int vhost_kernel_start(int fd, const struct vhost_setup *setup, unsigned first, int tap, int err_fd);
/* On return it touches rings and memory no more. Fine also when it does not work. */
void vhost_kernel_stop(int fd);

#endif
