/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define READ_MIN ((size_t)4096)
#define CAP_START ((size_t)16384)
#define CAP_MAX (FRAME_LINE_MAX + 2 * READ_MIN) /* a longest line, CR, LF, and room to read */

void frame_init(struct frame *frame)
{
	memset(frame, 0, sizeof(*frame));
}

void frame_deinit(struct frame *frame)
{
	free(frame->buf);
	memset(frame, 0, sizeof(*frame));
}

int frame_space(struct frame *frame, char **ret_space, size_t *ret_size)
{
	size_t cap = frame->cap;
	char *buf;

	if (frame->start == frame->end) {
		frame->start = frame->scanned = frame->end = 0;
		if (frame->cap > CAP_START) { /* one long line must not be kept for ever */
			frame_deinit(frame);
			cap = 0;
		}
	} else if (frame->start && frame->cap - frame->end < READ_MIN) {
		memmove(frame->buf, frame->buf + frame->start, frame->end - frame->start);
		frame->end -= frame->start;
		frame->scanned -= frame->start;
		frame->start = 0;
	}
	if (cap - frame->end < READ_MIN) {
		cap = cap ? cap * 2 : CAP_START;
		if (cap > CAP_MAX)
			cap = CAP_MAX;
		if (cap == frame->end) /* frame_next() was not asked: it would have said so */
			return -ENOMEM;
		buf = realloc(frame->buf, cap);
		if (!buf)
			return -ENOMEM;
		frame->buf = buf;
		frame->cap = cap;
	}
	*ret_space = frame->buf + frame->end;
	*ret_size = frame->cap - frame->end;
	return 0;
}

void frame_commit(struct frame *frame, size_t n)
{
	frame->end += n;
}

int frame_next(struct frame *frame, char **ret_line, size_t *ret_len)
{
	char *from = frame->buf + frame->scanned, *newline;
	size_t len;

	if (frame->scanned == frame->end)
		newline = NULL;
	else
		newline = memchr(from, '\n', frame->end - frame->scanned);
	if (!newline) {
		frame->scanned = frame->end;
		return frame->end - frame->start > FRAME_LINE_MAX + 1 ? -EMSGSIZE : 0;
	}
	len = (size_t)(newline - (frame->buf + frame->start));
	*ret_line = frame->buf + frame->start;
	frame->start += len + 1;
	frame->scanned = frame->start;
	if (len && (*ret_line)[len - 1] == '\r')
		len--;
	if (len > FRAME_LINE_MAX)
		return -EMSGSIZE;
	*ret_len = len;
	return 1;
}

bool frame_partial(const struct frame *frame)
{
	return frame->end != frame->start;
}
