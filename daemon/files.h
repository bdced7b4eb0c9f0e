/* SPDX-License-Identifier: Apache-2.0 */
/* files.h - small files, whole; directories; locks. Any thread. Negative errno. */
#ifndef DAEMON_FILES_H
#define DAEMON_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Makes a directory and those above it; fine if it is there. */
int files_mkdir(const char *path, mode_t mode);
/* Replaces path by a file of these bytes, whole or not at all; durable: also after a power cut. */
int files_write(const char *path, const char *bytes, size_t len, bool durable);
/* At most max bytes (-EFBIG for more), NUL-terminated; the caller frees. */
int files_read(const char *path, size_t max, char **ret_bytes, size_t *ret_len);
/* Takes path as a lock file; a descriptor to keep. -EBUSY: another process has it, *ret_pid is who
 * (0: unknown). */
int files_lock(const char *path, pid_t *ret_pid);
/* When a process started, in the kernel's clock ticks since boot; 0: there is none. */
unsigned long long files_process_start(pid_t pid);

#endif
