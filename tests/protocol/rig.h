/* SPDX-License-Identifier: Apache-2.0 */
/* rig.h - a private vmxd with scripted guests (fake_board.h), and ways to speak to it. */
#ifndef TESTS_PROTOCOL_RIG_H
#define TESTS_PROTOCOL_RIG_H

#include <stdbool.h>
#include <sys/types.h>

#include "protocol/client.h"

struct rig {
	char dir[64];       /* everything is below it; removed at the end */
	char socket[96], kernel[96];
	pid_t daemon;
	unsigned passed, failed, skipped;
};

/* One case: counts, and prints what failed. */
#define CHECK(rig, condition, ...) rig_check(rig, condition, __FILE__, __LINE__, __VA_ARGS__)
void rig_check(struct rig *rig, bool fine, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

void rig_init(struct rig *rig);    /* directory, kernel, daemon; exits if that fails */
void rig_daemon(struct rig *rig);  /* starts vmxd and waits until it listens */
/* Sends the signal and waits; the wait status. */
int rig_end_daemon(struct rig *rig, int number);
/* Kills all VMs, ends the daemon, prints the sum; the exit status of the test. */
int rig_finish(struct rig *rig);

struct client *rig_client(struct rig *rig);
/* A call with parameters as JSON text, in which @K stands for the kernel and @D for the directory.
 * 0 and *ret_result (may be NULL; owned), or the error's code and *ret_error (may be NULL). */
int rig_call(struct rig *rig, struct client *client, const char *method, const char *params,
	     json_object **ret_result, struct rpc_error *ret_error);
/* Creates and starts a VM with that script; false: it could not. */
bool rig_vm(struct rig *rig, struct client *client, const char *name, const char *script);
/* state and reason of a VM as "running none"; static. */
const char *rig_state(struct rig *rig, struct client *client, const char *name);

int rig_connect(struct rig *rig); /* a raw connection */
void raw_send(int fd, const char *bytes, size_t len);
void raw_text(int fd, const char *text);
/* The next line without its newline into buf; its length, 0: the end, -1: nothing in timeout_ms. */
ssize_t raw_line(int fd, char *buf, size_t size, int timeout_ms);
/* The next line is an answer: its error code (0: a result), or 1 when there was none. */
int raw_code(int fd);
/* How many descriptors a process has open. */
int count_fds(pid_t pid);

#endif
