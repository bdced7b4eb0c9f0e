/* SPDX-License-Identifier: Apache-2.0 */
/* attach.c - a VM's console on standard input and output. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"

#define END_WAIT_MS 30000 /* after the console's end, for the VM's */

struct session {
	struct ctl *ctl;
	const char *name;
	int console;        /* -1: it came to its end */
	int64_t wait_id;
	json_object *info;  /* how the VM ended */
	bool input_open, terminal;
	bool detached;
	int signal;         /* that ends the session */
	int error;          /* exit code, when the daemon is gone */
	/* Input on its way to the guest; the escape is looked for before it comes here. */
	char input[4096];
	size_t input_len;
	enum { IN_LINE, LINE_START, AFTER_TILDE } escape;
};

/* Copies input, watching for "~." after a line end. A tilde that was none goes through. */
static void take_input(struct session *s, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len && !s->detached; i++) {
		char c = bytes[i];

		if (s->terminal && s->escape == AFTER_TILDE) {
			s->escape = IN_LINE;
			if (c == '.') {
				s->detached = true;
				break;
			}
			if (c == '?') {
				fputs("\r\n~.  detach   ~~  send a tilde   ~?  this\r\n", stderr);
				s->escape = LINE_START;
				continue;
			}
			if (c != '~')
				s->input[s->input_len++] = '~';
		} else if (s->terminal && s->escape == LINE_START && c == '~') {
			s->escape = AFTER_TILDE;
			continue;
		}
		s->input[s->input_len++] = c;
		s->escape = c == '\r' || c == '\n' ? LINE_START : IN_LINE;
	}
}

static void on_input(struct session *s)
{
	char bytes[sizeof(s->input) / 2]; /* a kept tilde may make it longer */
	ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));

	if (n > 0)
		take_input(s, bytes, (size_t)n);
	else if (n == 0 || (errno != EINTR && errno != EAGAIN))
		s->input_open = false; /* the session goes on: there may be much to come */
}

static void send_input(struct session *s)
{
	ssize_t n;

	if (s->console < 0) {
		s->input_len = 0;
		return;
	}
	n = send(s->console, s->input, s->input_len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0)
		n = (ssize_t)s->input_len; /* the guest is gone */
	s->input_len -= (size_t)n;
	memmove(s->input, s->input + n, s->input_len);
}

static bool write_out(const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(STDOUT_FILENO, bytes, len);

		if (n < 0 && errno == EAGAIN) { /* somebody made it non-blocking */
			struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };

			poll(&p, 1, -1);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

static void on_console(struct session *s)
{
	char bytes[65536];
	ssize_t n = recv(s->console, bytes, sizeof(bytes), MSG_DONTWAIT);

	if (n > 0) {
		if (!write_out(bytes, (size_t)n))
			s->signal = SIGPIPE;
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		close(s->console);
		s->console = -1;
	}
}

/* Takes all that is there: what is in the client's buffer already, poll() does not tell. */
static void on_daemon(struct session *s)
{
	while (!s->info && !s->error) {
		json_object *message = NULL;
		struct rpc_error error;
		int r = client_next(s->ctl->client, 0, &message);

		if (r == -ETIMEDOUT)
			return;
		if (r == 0)
			r = client_answer(message, s->wait_id, &s->info, &error);
		json_object_put(message);
		if (r < 0 && r != -ENOMSG)
			s->error = ctl_error(s->ctl, r, &error);
	}
}

/* Tells the guest how large the terminal is. Only a virtio console can know: the answer, which may
 * be that there is none, is not waited for. */
static void tell_size(struct session *s)
{
	struct winsize size;
	json_object *params;

	if (!s->terminal || ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0 || !size.ws_col ||
	    !size.ws_row)
		return;
	params = name_params(s->name);
	json_add_int(params, "columns", size.ws_col);
	json_add_int(params, "rows", size.ws_row);
	(void)client_send(s->ctl->client, "vm.resize", params);
}

static void on_signal(struct session *s)
{
	int number = signals_next(s->ctl);

	if (number == SIGWINCH)
		tell_size(s);
	else
		s->signal = number;
}

static bool over(const struct session *s)
{
	return s->detached || s->signal || s->error || (s->console < 0 && s->info);
}

/* One round. False: nothing came in the time after the console's end. */
static bool step(struct session *s)
{
	enum { SIGNALS, CONSOLE, DAEMON, INPUT, COUNT };
	struct pollfd p[COUNT] = {
		[SIGNALS] = { .fd = s->ctl->signals, .events = POLLIN },
		[CONSOLE] = { .fd = s->console, .events = POLLIN },
		[DAEMON] = { .fd = s->info ? -1 : client_fd(s->ctl->client), .events = POLLIN },
		[INPUT] = { .fd = s->input_open && !s->input_len ? STDIN_FILENO : -1,
			    .events = POLLIN },
	};

	if (s->input_len && s->console >= 0)
		p[CONSOLE].events |= POLLOUT;
	if (poll(p, COUNT, s->console < 0 ? END_WAIT_MS : -1) == 0)
		return false;
	if (p[SIGNALS].revents)
		on_signal(s);
	if (p[CONSOLE].revents & POLLOUT)
		send_input(s);
	if (p[CONSOLE].revents & (POLLIN | POLLHUP | POLLERR))
		on_console(s);
	if (p[DAEMON].revents)
		on_daemon(s);
	if (p[INPUT].revents && !over(s)) {
		on_input(s);
		if (s->input_len)
			send_input(s);
	}
	return true;
}

int attach(struct ctl *ctl, const char *name, int console_fd, int64_t wait_id,
	   json_object **ret_info)
{
	struct session s = { .ctl = ctl, .name = name, .console = console_fd, .wait_id = wait_id,
			     .input_open = true, .escape = LINE_START };
	int code = EXIT_OK, r = wait_id < 0 ? (int)wait_id : signals_take(ctl, true);

	*ret_info = NULL;
	if (r < 0) {
		code = ctl_error(ctl, r, NULL);
		goto out;
	}
	on_daemon(&s);
	s.terminal = tty_raw();
	tell_size(&s);
	while (!over(&s)) {
		if (!step(&s)) {
			s.error = EXIT_FAILED;
			ctl_complain("%s: the console ended, but the VM did not", name);
		}
	}
	tty_restore();
	if (s.detached)
		ctl_note(ctl, "detached; %s runs on ('vmctl console %s' attaches again)", name, name);
	code = s.error ? s.error : s.signal ? 128 + s.signal : EXIT_OK;
	*ret_info = s.info;
out:
	if (s.console >= 0)
		close(s.console);
	return code;
}
