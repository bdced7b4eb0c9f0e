/* SPDX-License-Identifier: Apache-2.0 */
#include "common/huge.h"

#include <stdint.h>
#include <sys/mman.h>

#include "common/checked.h"

void *huge_map(size_t size, int prot, int fd)
{
	const size_t spare = size < HUGE_SIZE ? 0 : HUGE_SIZE - 4096;
	uint8_t *room, *at, *end;
	size_t all, tail = (4096 - size % 4096) % 4096;

	if (!checked_add(size, spare + tail, &all))
		all = SIZE_MAX; /* ENOMEM */
	room = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return NULL;
	at = spare ? (uint8_t *)(((uintptr_t)room + HUGE_SIZE - 1) & ~(uintptr_t)(HUGE_SIZE - 1)) : room;
	if (mmap(at, size, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) == MAP_FAILED) {
		munmap(room, all);
		return NULL;
	}
	end = at + size + tail;
	if (at > room)
		munmap(room, (size_t)(at - room));
	if (end < room + all)
		munmap(end, (size_t)(room + all - end));
	return at;
}
