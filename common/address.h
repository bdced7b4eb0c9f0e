/* SPDX-License-Identifier: Apache-2.0 */
/* address.h - internet addresses as numbers. */
#ifndef COMMON_ADDRESS_H
#define COMMON_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

/* Text of an IPv4 or IPv6 address (no brackets, no scope) and a port; the size of what is in
 * *ret, or 0: it is none. */
socklen_t address_parse(const char *text, uint16_t port, struct sockaddr_storage *ret);
/* Is it the one that stands for all of its family? */
bool address_is_any(const struct sockaddr_storage *address);

#endif
