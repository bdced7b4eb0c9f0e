/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - one line an event, to a descriptor, with level and time. No globals: pass the object. */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

struct log;

/* Logs to fd (not owned). prefix is put before each message ("vmxd", "vm web1"); copied.
 * NULL when memory is short. */
struct log *log_new(int fd, enum log_level level, const char *prefix);
struct log *log_free(struct log *log); /* NULL is fine; returns NULL */
/* Any thread. Control characters in the message are escaped: one call is one line. A NULL log
 * drops the message. */
void log_line(struct log *log, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Debug: what is done, and how many milliseconds after since_ns of CLOCK_MONOTONIC. Any thread. */
void log_since(struct log *log, uint64_t since_ns, const char *what);
/* "error" "warning" "notice" "info" "debug"; -EINVAL if it is none. */
int log_level_parse(const char *name, enum log_level *ret_level);

#endif
