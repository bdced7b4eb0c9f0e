/* SPDX-License-Identifier: Apache-2.0 */
/* memory_internal.h - shared by memory.c and memory_area.c only. */
#ifndef MACHINE_MEMORY_INTERNAL_H
#define MACHINE_MEMORY_INTERNAL_H

#include "machine/fault_guard.h"
#include "machine/huge.h"
#include "machine/memory.h"

struct memory_area {
	struct memory *memory;
	uint64_t gpa, size, block;
	struct fault_guard *file; /* its bytes are a file's, never discarded; NULL: its own */
	int fd, event_fd; /* event_fd: the guard's */
	uint8_t *host;    /* all of it, whatever is plugged */
	uint64_t plugged; /* blocks */
	uint64_t *bitmap; /* bit n: block n is plugged; read without a lock */
};

struct memory {
	int fd;
	uint8_t *host; /* low part, then high part, as in the memfd */
	uint64_t size, low, high;
	struct vmx_vm *vm; /* NULL until attached */
	struct huge *huge;
	unsigned area_count;
	struct memory_area *area[MEMORY_AREAS_MAX]; /* complete before any other thread looks */
};

/* 4 KiB pages of 2 MiB in use by the guest before these are made one: the rest is not taken from the host
 * for a guest that touches a page here and there. */
#define MEMORY_HUGE_LEAST 32u
/* Guests take memory into use from address to address for the most part; code is translated so. */
#define MEMORY_HUGE_AHEAD 3u
#define MEMORY_HUGE_AHEAD_CODE 1u

/* A sealed memfd and its mapping; -errno and nothing is left. */
int memory_map_own(const char *name, uint64_t size, int *ret_fd, uint8_t **ret_host);
/* The host address of a range that is wholly in plugged blocks of one area, or NULL. */
uint8_t *memory_area_find(const struct memory *memory, uint64_t gpa, uint64_t len,
			  const struct memory_area **ret_area);
void memory_areas_free(struct memory *memory);

#endif
