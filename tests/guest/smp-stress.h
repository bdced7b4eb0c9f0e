/* SPDX-License-Identifier: Apache-2.0 */
/* smp-stress.h - what the workers of smp-stress share. */
#ifndef SMP_STRESS_H
#define SMP_STRESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PAGE 4096u
#define PAGE_WORDS (PAGE / 8)

struct shared { /* between processes */
	_Atomic bool stop;
	_Atomic uint64_t done[16]; /* by worker */
	uint64_t checksum; /* of work(), known before all starts */
};
extern struct shared *sh;

/* Says what is wrong and ends all workers. */
_Noreturn void wrong(const char *what, uint64_t got, uint64_t want);
void same(const char *what, uint64_t got, uint64_t want);
/* Binds the calling thread to the n-th processor, counted round. */
void on_cpu(unsigned n);
pthread_t thread(void *(*fn)(void *), void *arg);
/* CPUID: what others wrote into code before is run after it. */
void serialize(void);
/* The function at fn, of at most EAX, ECX, EDX and EBX. */
uint32_t call(const uint8_t *fn);
/* mmap(), which works. fd: -1 for private anonymous memory. at: NULL, or there and nowhere else. */
void *map(void *at, size_t bytes, int prot, int fd, size_t offset);
/* A memory file of that size. */
int memory_file(size_t bytes);

/* Workers, of processes of their own: until sh->stop, counting in sh->done[me]. */
void windows(unsigned me);   /* smp-memory.c */
void snapshots(unsigned me);
void moves(unsigned me);
void dirties(unsigned me);
void swaps(unsigned me);     /* smp-code.c */
void splits(unsigned me);

#endif
