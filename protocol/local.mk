# SPDX-License-Identifier: Apache-2.0
noinst_LTLIBRARIES += libprotocol.la
libprotocol_la_SOURCES = \
	protocol/client.c protocol/client.h \
	protocol/discover.c \
	protocol/frame.c protocol/frame.h \
	protocol/json.c protocol/json.h \
	protocol/json_scan.c protocol/json_scan.h \
	protocol/methods.c protocol/methods.h protocol/methods_internal.h \
	protocol/paths.c protocol/paths.h \
	protocol/rpc.c protocol/rpc.h \
	protocol/schema.c protocol/schema.h protocol/schema_json.c \
	protocol/unix.c protocol/unix.h \
	protocol/vm_config.c
libprotocol_la_CPPFLAGS = $(AM_CPPFLAGS) $(JSONC_CFLAGS)
libprotocol_la_LIBADD = libcommon.la $(JSONC_LIBS) -lm
