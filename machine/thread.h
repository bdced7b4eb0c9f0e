/* SPDX-License-Identifier: Apache-2.0 */
/* thread.h - threads of the machine: named, and deaf to the signals that the process handles. */
#ifndef MACHINE_THREAD_H
#define MACHINE_THREAD_H

#include <pthread.h>

/* name: at most 15 characters. Signals an engine may use to kick a vCPU stay as they are. */
int machine_thread_create(pthread_t *ret_thread, const char *name, void *(*fn)(void *),
			  void *opaque);

#endif
