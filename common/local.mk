# SPDX-License-Identifier: Apache-2.0
noinst_LTLIBRARIES += libcommon.la
libcommon_la_SOURCES = common/address.c common/address.h common/log.c common/log.h common/checked.h common/bytes.h common/clock.h \
	common/tsc.c common/tsc.h \
	common/huge.c common/huge.h
