/* SPDX-License-Identifier: Apache-2.0 */
/* lock.c - waiting for a soft_spin. GENERAL: no libc. */
#include "vmx-driver/soft/soft.h"

#include <linux/futex.h>
#include <sys/syscall.h>

#define SPINS 200u /* a few microseconds: longer than anybody holds one who is not preempted */

static long futex(soft_spin *word, int op, int value)
{
	register long timeout __asm__("r10") = 0;
	long rc = SYS_futex;

	__asm__ volatile("syscall"
			 : "+a"(rc)
			 : "D"(word), "S"((long)(op | FUTEX_PRIVATE_FLAG)), "d"((long)value), "r"(timeout)
			 : "rcx", "r11", "memory");
	return rc;
}

void soft_lock_wait(soft_spin *lock)
{
	for (unsigned i = 0; i < SPINS; i++) {
		int unlocked = SOFT_UNLOCKED;

		if (__atomic_load_n(lock, __ATOMIC_RELAXED) == SOFT_UNLOCKED &&
		    __atomic_compare_exchange_n(lock, &unlocked, SOFT_LOCKED, false, __ATOMIC_ACQUIRE,
						__ATOMIC_RELAXED))
			return;
		__builtin_ia32_pause();
	}
	while (__atomic_exchange_n(lock, SOFT_AWAITED, __ATOMIC_ACQUIRE) != SOFT_UNLOCKED)
		futex(lock, FUTEX_WAIT, SOFT_AWAITED);
}

void soft_lock_wake(soft_spin *lock)
{
	futex(lock, FUTEX_WAKE, 1);
}
