/* SPDX-License-Identifier: Apache-2.0 */
/* huge.h - memory files where the host can put huge pages. */
#ifndef COMMON_HUGE_H
#define COMMON_HUGE_H

#include <stddef.h>

#define HUGE_SIZE (2ull << 20)

/* Maps the first `size` bytes of a file, shared, at an address that is a multiple of HUGE_SIZE if it has
 * as much. Any thread. NULL: errno is mmap()'s. The caller's to munmap(). */
void *huge_map(size_t size, int prot, int fd);

#endif
