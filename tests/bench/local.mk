# SPDX-License-Identifier: Apache-2.0
# Benchmarks: `make bench`, BENCH_FLAGS for tests/bench/bench.py.
EXTRA_PROGRAMS += tests/bench/guest-bench
tests_bench_guest_bench_SOURCES = tests/bench/guest-bench.c tests/bench/guest-bench.h \
	tests/bench/guest-bench-latency.c tests/bench/guest-bench-mixed.c \
	tests/bench/guest-bench-programs.c
# Static, and with no more than an ordinary program is built with; Lua and zlib are Debian's.
tests_bench_guest_bench_CFLAGS = -std=gnu17 -pthread -O2 $(WARN_CFLAGS) -I/usr/include/lua5.4
tests_bench_guest_bench_LDFLAGS = -all-static
tests_bench_guest_bench_LDADD = -llua5.4 -lz -lm
EXTRA_PROGRAMS += tests/bench/guest-io
tests_bench_guest_io_SOURCES = tests/bench/guest-io.c
tests_bench_guest_io_CFLAGS = -std=gnu17 -O2 $(WARN_CFLAGS)
tests_bench_guest_io_LDFLAGS = -all-static
# 32-bit code, which takes no library: also what tests/guest/code32.sh runs.
check_SCRIPTS += tests/bench/guest-bench32
tests/bench/guest-bench32: $(srcdir)/tests/bench/guest-bench32.c
	$(AM_V_CCLD)$(MKDIR_P) tests/bench && $(CC) -std=gnu17 -m32 -O2 $(WARN_CFLAGS) -ffreestanding -fno-builtin \
		-fno-stack-protector -fcf-protection=none -fno-pie -nostdlib -static -Wl,--build-id=none \
		-o $@ $(srcdir)/tests/bench/guest-bench32.c
# What translation costs; run by hand.
EXTRA_PROGRAMS += tests/bench/translate
tests_bench_translate_SOURCES = tests/bench/translate.c
tests_bench_translate_LDADD = libvmxdriver.la
CLEANFILES += tests/bench/guest-bench tests/bench/guest-io tests/bench/translate tests/bench/guest-bench32
EXTRA_DIST += tests/bench/guest-bench32.c tests/bench/bench.py tests/bench/bench_common.py tests/bench/bench_io.py \
	tests/bench/bench_nested.py tests/bench/bench_vmlinux.py tests/bench/bench_work.py \
	docs/benchmarks.md
.PHONY: bench
bench: all tests/bench/guest-bench$(EXEEXT) tests/bench/guest-bench32 tests/bench/guest-io$(EXEEXT) tests/guest/net-tool$(EXEEXT) \
		tests/guest/boot$(EXEEXT) tests/guest/kvm-run$(EXEEXT)
	$(AM_TESTS_ENVIRONMENT) python3 -B $(srcdir)/tests/bench/bench.py $(BENCH_FLAGS)
