/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lifecycle.h - what state the machine is in, and the only code that changes it.
 *
 *   created -> starting -> running <-> paused
 *   any of these -> stopping -> stopped (as asked for) or failed (by an error)
 *
 * Everything happens on the machine's loop thread, which compares what is wanted (by the operator,
 * by the guest, by an error) with what is, and takes one step at a time: stop, reset, pause,
 * resume, start, in this order. Calls only note what is wanted.
 */
#ifndef MACHINE_LIFECYCLE_H
#define MACHINE_LIFECYCLE_H

#include <stdbool.h>
#include <stdint.h>

struct boot_entry;
struct life;
struct machine;

enum life_state {
	LIFE_CREATED,
	LIFE_STARTING,
	LIFE_RUNNING,
	LIFE_PAUSED,
	LIFE_STOPPING,
	LIFE_STOPPED,
	LIFE_FAILED,
	LIFE_STATES,
};

enum life_stop {
	LIFE_STOP_NONE,
	LIFE_STOP_POWEROFF,
	LIFE_STOP_RESET,
	LIFE_STOP_TRIPLE_FAULT,
	LIFE_STOP_DEBUG_EXIT,
	LIFE_STOP_KILLED,
	LIFE_STOP_ENGINE_ERROR,
	LIFE_STOP_BOOT_ERROR,
};

struct life_info {
	enum life_state state;
	enum life_stop stop;
	char detail[256];
	int exit_code;
	uint64_t rip;
	unsigned resets;
	uint64_t run_ns, boot_ns;
	const char *stall_reason; /* a literal, of the last stall */
	char stall[256];  /* what a device lacks, and why it is paused; or empty */
	unsigned stalls;  /* how often that was so */
};

struct life_options {
	struct machine *machine; /* with devices; its loop is not started. Not owned */
	unsigned cpus;
	bool reboot_stops;
	uint64_t asked_ns; /* CLOCK_MONOTONIC since when boot_ns counts; 0: life_start() */
	/* Loads the boot image into memory; on an error *ret_error says why (to be freed). In
	 * life_create(), and on the loop thread for each guest reset. */
	int (*load)(void *opaque, struct boot_entry *ret_entry, char **ret_error);
	void (*changed)(void *opaque); /* state changed, boot_ns is known; any thread, no lock held */
	void *opaque;
};

/* Makes the vCPU threads, loads meanwhile, and starts the machine's loop. *ret_error: of options->load(), or
 * NULL. */
int life_create(const struct life_options *options, struct life **ret_life, char **ret_error);
/* Kills the guest if it still runs, ends all threads. NULL is fine; returns NULL. Not from a thread
 * of the machine. */
struct life *life_destroy(struct life *life);

/* Any thread. -EBADFD: not possible in this state. */
int life_start(struct life *life);
int life_pause(struct life *life);
int life_resume(struct life *life);
int life_reset(struct life *life);
int life_kill(struct life *life);
/* Stands the machine still, whatever its state: on return no vCPU is in an exit or runs, and the loop
 * thread waits. Devices may be made and destroyed then, until life_thaw(). What is wanted meanwhile
 * is done afterwards. One thread at a time, none of the machine's. -EBADFD: it has ended. */
int life_freeze(struct life *life);
void life_thaw(struct life *life);
void life_info(struct life *life, struct life_info *ret_info);

#endif
