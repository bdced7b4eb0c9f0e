/* SPDX-License-Identifier: Apache-2.0 */
/* lock.h - a lock that code of the GENERAL files may take (see soft.h). Any thread. */
#ifndef VMX_SOFT_LOCK_H
#define VMX_SOFT_LOCK_H

#include <stdbool.h>

/* A lock that is held for a short time. Who finds it taken spins a little and then sleeps: its holder
 * may have been preempted. */
typedef volatile int soft_spin;
enum { SOFT_UNLOCKED, SOFT_LOCKED, SOFT_AWAITED };
void soft_lock_wait(soft_spin *lock); /* lock.c: GENERAL */
void soft_lock_wake(soft_spin *lock);
static inline void soft_lock(soft_spin *lock)
{
	int unlocked = SOFT_UNLOCKED;

	if (!__atomic_compare_exchange_n(lock, &unlocked, SOFT_LOCKED, false, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		soft_lock_wait(lock);
}
static inline void soft_unlock(soft_spin *lock)
{
	if (__atomic_exchange_n(lock, SOFT_UNLOCKED, __ATOMIC_RELEASE) == SOFT_AWAITED)
		soft_lock_wake(lock);
}

#endif
