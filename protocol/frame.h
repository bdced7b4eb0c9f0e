/* SPDX-License-Identifier: Apache-2.0 */
/* frame.h - one message a line: cuts a byte stream at newlines, with a limit. */
#ifndef PROTOCOL_FRAME_H
#define PROTOCOL_FRAME_H

#include <stdbool.h>
#include <stddef.h>

#define FRAME_LINE_MAX ((size_t)1024 * 1024) /* bytes, without the newline */

struct frame {
	char *buf;
	size_t cap;
	size_t start;   /* first byte not yet handed out */
	size_t scanned; /* no newline before this */
	size_t end;     /* first free byte */
};

void frame_init(struct frame *frame);
void frame_deinit(struct frame *frame);
/* Room for the next read. *ret_size is at least 1. -ENOMEM. Invalidates handed-out lines. */
int frame_space(struct frame *frame, char **ret_space, size_t *ret_size);
/* n bytes were read into the room. */
void frame_commit(struct frame *frame, size_t n);
/* 1: *ret_line is a line (no newline, no final CR, not NUL-terminated), valid until frame_space();
 * 0: no whole line yet; -EMSGSIZE: the line is longer than FRAME_LINE_MAX, framing is lost. */
int frame_next(struct frame *frame, char **ret_line, size_t *ret_len);
/* Part of a line is waiting for its end. */
bool frame_partial(const struct frame *frame);

#endif
