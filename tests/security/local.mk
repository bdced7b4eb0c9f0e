# SPDX-License-Identifier: Apache-2.0
TESTS += tests/security/process.sh tests/security/user.sh tests/security/test-sandbox tests/security/threads.sh
EXTRA_DIST += tests/security/process.sh tests/security/user.sh tests/security/threads.sh
check_PROGRAMS += tests/security/test-sandbox tests/security/inject
tests_security_test_sandbox_SOURCES = tests/security/test_sandbox.c \
	daemon/sandbox_compile.c daemon/sandbox_rules.c
tests_security_test_sandbox_CPPFLAGS = $(AM_CPPFLAGS) $(JSONC_CFLAGS) $(SECCOMP_CFLAGS)
tests_security_test_sandbox_LDADD = libsandbox.la libmachine.la libprotocol.la libcommon.la $(JSONC_LIBS) \
	$(SECCOMP_LIBS) -lpthread
tests_security_inject_SOURCES = tests/security/inject.c
