/* SPDX-License-Identifier: Apache-2.0 */
/* notify.h - the service manager: readiness, watchdog, a socket it made (sd_notify(3),
 * sd_listen_fds(3)). Each does nothing where there is no such manager. */
#ifndef DAEMON_NOTIFY_H
#define DAEMON_NOTIFY_H

void notify_ready(const char *status); /* READY=1 and STATUS= */
void notify_stopping(void);
void notify_watchdog(void); /* WATCHDOG=1 if it was asked for */
/* The one listening unix stream socket that was handed over, close-on-exec and non-blocking; -1:
 * none; negative errno below -1: something else was handed over. Unsets the variables. */
int notify_listen_fd(void);

#endif
