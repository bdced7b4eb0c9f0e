/* SPDX-License-Identifier: Apache-2.0 */
/* paths.h - where vmxd and vmctl meet when nothing is said. */
#ifndef PROTOCOL_PATHS_H
#define PROTOCOL_PATHS_H

/* The system's instance for root, else the user's own. Each returns a new string (caller frees), or
 * NULL when there is no such place (XDG_RUNTIME_DIR, HOME unset) or no memory. */
char *path_default_runtime(void); /* /run/vmxd, $XDG_RUNTIME_DIR/vmxd */
char *path_default_state(void);   /* /var/lib/vmxd, $XDG_STATE_HOME/vmxd */
char *path_default_socket(void);  /* vmxd.sock in the runtime directory */
/* $VMXD_SOCKET, the default socket, or for a user without a daemon of his own the system's. */
char *path_client_socket(void);

#endif
