/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault_guard.h - mappings of files that others can make shorter, or whose disk can fail.
 *
 * An access to a page that the file does not have (any more) is a SIGBUS, on whatever thread it
 * happens. Under a guard that thread goes on: from that page to the guard's end (or to where it went on
 * before) there is memory of nobody's then, which reads as zeroes, and the owner is told.
 */
#ifndef MACHINE_FAULT_GUARD_H
#define MACHINE_FAULT_GUARD_H

#include <stddef.h>
#include <stdint.h>

struct fault_guard;

#define FAULT_GUARDS_MAX 64 /* of a process */

/* [host, host + size) are whole pages, mapped MAP_SHARED for reading and writing, and stay so until
 * removed. event_fd: an eventfd that gets 1 when something was lost; kept by the caller as long. After
 * whatever else in this process handles SIGBUS, which goes on doing so for its own. -ENOSPC, -ENOMEM. */
int fault_guard_add(void *host, size_t size, int event_fd, struct fault_guard **ret_guard);
/* Nobody accesses the mapping any more. NULL is fine; returns NULL. */
struct fault_guard *fault_guard_remove(struct fault_guard *guard);
/* How many bytes from host on are still the file's: size, if nothing was lost. Any thread. */
size_t fault_guard_kept(const struct fault_guard *guard);
/* The file has been mapped there again. No thread accesses it. */
void fault_guard_mended(struct fault_guard *guard);

#endif
