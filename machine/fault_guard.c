/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault_guard.c - see fault_guard.h. A signal handler is given no context, and the handler belongs to
 * the process: the table and the handler before ours are the only variables here that are not
 * somebody's.
 */
#include "machine/fault_guard.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096u

struct fault_guard {
	uint8_t *host;
	size_t size;
	int event_fd;
	_Atomic size_t kept;
	atomic_flag replacing;
};

static struct fault_guard *_Atomic guards[FAULT_GUARDS_MAX];
static struct sigaction before;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of adding and removing */

/* Async-signal-safe, as all that follows. Another thread may be at it: then what is left to do is
 * less. */
static bool replace(struct fault_guard *g, size_t at)
{
	const uint64_t one = 1;
	bool ok = true;
	size_t kept;

	while (atomic_flag_test_and_set(&g->replacing))
		;
	kept = atomic_load(&g->kept);
	if (at < kept) {
		ok = mmap(g->host + at, kept - at, PROT_READ | PROT_WRITE,
			  MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			  0) != MAP_FAILED;
		if (ok)
			atomic_store(&g->kept, at);
	}
	atomic_flag_clear(&g->replacing);
	return ok && write(g->event_fd, &one, sizeof(one)) != 0;
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	const int saved = errno;

	for (size_t i = 0; i < FAULT_GUARDS_MAX; i++) {
		struct fault_guard *g = atomic_load(&guards[i]);
		uintptr_t at = (uintptr_t)info->si_addr;

		if (!g || at < (uintptr_t)g->host || at - (uintptr_t)g->host >= g->size)
			continue;
		if (!replace(g, (at - (uintptr_t)g->host) & ~(size_t)(PAGE - 1)))
			break;
		errno = saved;
		return;
	}
	errno = saved;
	if (before.sa_flags & SA_SIGINFO)
		before.sa_sigaction(sig, info, context);
	else
		signal(sig, SIG_DFL); /* and the access is made again */
}

static int install(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO }, now;

	if (sigaction(SIGBUS, NULL, &now) < 0)
		return -errno;
	if (now.sa_flags & SA_SIGINFO && now.sa_sigaction == on_fault)
		return 0;
	before = now;
	sigemptyset(&action.sa_mask);
	return sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
}

int fault_guard_add(void *host, size_t size, int event_fd, struct fault_guard **ret_guard)
{
	struct fault_guard *g = malloc(sizeof(*g));
	size_t i = 0;
	int r;

	if (!g)
		return -ENOMEM;
	*g = (struct fault_guard){ .host = host, .size = size, .event_fd = event_fd, .kept = size,
				   .replacing = ATOMIC_FLAG_INIT };
	pthread_mutex_lock(&lock);
	while (i < FAULT_GUARDS_MAX && atomic_load(&guards[i]))
		i++;
	r = i < FAULT_GUARDS_MAX ? install() : -ENOSPC;
	if (r == 0)
		atomic_store(&guards[i], g);
	pthread_mutex_unlock(&lock);
	if (r < 0)
		free(g);
	else
		*ret_guard = g;
	return r;
}

struct fault_guard *fault_guard_remove(struct fault_guard *guard)
{
	if (!guard)
		return NULL;
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < FAULT_GUARDS_MAX; i++)
		if (atomic_load(&guards[i]) == guard)
			atomic_store(&guards[i], NULL);
	pthread_mutex_unlock(&lock);
	free(guard);
	return NULL;
}

size_t fault_guard_kept(const struct fault_guard *guard)
{
	return atomic_load(&guard->kept);
}

void fault_guard_mended(struct fault_guard *guard)
{
	atomic_store(&guard->kept, guard->size);
}
