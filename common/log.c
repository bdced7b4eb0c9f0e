/* SPDX-License-Identifier: Apache-2.0 */
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

struct log {
	int fd;
	enum log_level level;
	char prefix[64];
};

static const struct {
	enum log_level level;
	const char *name;
} levels[] = {
	{ LOG_LEVEL_ERROR, "error" }, { LOG_LEVEL_WARNING, "warning" }, { LOG_LEVEL_NOTICE, "notice" },
	{ LOG_LEVEL_INFO, "info" },   { LOG_LEVEL_DEBUG, "debug" },
};

struct log *log_new(int fd, enum log_level level, const char *prefix)
{
	struct log *log = calloc(1, sizeof(*log));

	if (!log)
		return NULL;
	log->fd = fd;
	log->level = level;
	snprintf(log->prefix, sizeof(log->prefix), "%s", prefix ? prefix : "");
	return log;
}

struct log *log_free(struct log *log)
{
	free(log);
	return NULL;
}

static const char *level_name(enum log_level level)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (levels[i].level == level)
			return levels[i].name;
	return "?";
}

/* Copies text with control characters as \xNN, so that a guest's or peer's bytes stay one line. */
static size_t escape(char *out, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text && n + 5 < size; text++) {
		unsigned char c = (unsigned char)*text;

		if (c < 0x20 || c == 0x7f)
			n += (size_t)snprintf(out + n, size - n, "\\x%02x", c);
		else
			out[n++] = (char)c;
	}
	return n;
}

void log_line(struct log *log, enum log_level level, const char *fmt, ...)
{
	char text[1024], line[1400];
	struct timespec now;
	struct tm tm;
	va_list ap;
	size_t n;

	if (!log || level > log->level)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	n = strftime(line, 64, "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(line + n, 128, ".%03ldZ %s %s: ", now.tv_nsec / 1000000,
			      level_name(level), log->prefix);
	n += escape(line + n, sizeof(line) - n - 1, text);
	line[n++] = '\n';
	/* One write, so that lines of several processes do not mix; nothing to do if it fails. */
	if (write(log->fd, line, n) < 0)
		return;
}

void log_since(struct log *log, uint64_t since_ns, const char *what)
{
	if (log && log->level >= LOG_LEVEL_DEBUG)
		log_line(log, LOG_LEVEL_DEBUG, "%s: after %.2f ms", what,
			 (double)(clock_monotonic_ns() - since_ns) / 1e6);
}

int log_level_parse(const char *name, enum log_level *ret_level)
{
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (strcmp(levels[i].name, name) == 0) {
			*ret_level = levels[i].level;
			return 0;
		}
	}
	return -EINVAL;
}
