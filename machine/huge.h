/* SPDX-License-Identifier: Apache-2.0 */
/*
 * huge.h - huge pages under memory files: RAM, areas, the engine's translated code.
 *
 * Files in memory get 4 KiB pages unless an administrator says otherwise (shmem_enabled), whatever is asked of
 * a mapping. But the kernel makes one huge page of 2 MiB of them that are in use, when asked
 * to (MADV_COLLAPSE, Linux 6.1). A thread of its own asks, behind the processors: first the kernel drains queues
 * of all CPUs, which takes from 0.2 ms to tens of them on a busy host. It sees by the file's holes what
 * is in use. What the guest gave back to the host stays there until the guest takes all of the 2 MiB again.
 *
 * All of this only helps: where the host cannot, or is out of memory, nothing happens and nobody is
 * told. An administrator who wants no huge pages at all (transparent_hugepage/enabled: never) gets none.
 */
#ifndef MACHINE_HUGE_H
#define MACHINE_HUGE_H

#include <stddef.h>
#include <stdint.h>

struct huge;
struct thread_hook;

#define HUGE_DEAR_NS 1000000u /* what 2 MiB cost in pages of 4 KiB, or a little less */
/* While one of 2 MiB takes more than dear_ns nothing is made huge in a hurry: a host that is a VM itself may
 * have to ask for the memory first, and a busy one lets wait. Never fails: NULL, which every function
 * takes, where there is to be no huge page. */
struct huge *huge_create(uint64_t dear_ns);
/* Stops the thread. The memory is still there. Returns NULL. */
struct huge *huge_destroy(struct huge *huge);

#define HUGE_RANGES_MAX 12u
/* [host, host + size), a multiple of HUGE_SIZE at least where it begins, is the start of the file fd and
 * stays so until huge_destroy(). A part of HUGE_SIZE is worth it once `least` of its 4 KiB pages are in
 * use; unless that is dear, once any is, if it goes on where a huge page ends, and then so many parts
 * after it that are not in use are worth it too: a page costs the host an eighth of the time when it is
 * made so. Before huge_start(). */
void huge_add(struct huge *huge, void *host, uint64_t size, int fd, unsigned least, unsigned ahead);
/* The thread runs from now until huge_stop() or huge_destroy(). */
void huge_start(struct huge *huge, const struct thread_hook *hook);
void huge_stop(struct huge *huge);

/* Much is going to be written there: huge pages at once, as far as they are all inside; but one if that is
 * dear. Waits for the host's CPUs, see above. Any thread but a vCPU's. How many bytes from host on are in
 * huge pages then. */
uint64_t huge_now(struct huge *huge, const void *host, uint64_t len);
/* A hole will be made there, to give memory back. Any thread. */
void huge_gave(struct huge *huge, const void *host, uint64_t len);

#endif
