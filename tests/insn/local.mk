# SPDX-License-Identifier: Apache-2.0
# Instruction tests: the guest against the processor underneath.
check_PROGRAMS += tests/insn/insn
tests_insn_insn_SOURCES = tests/insn/main.c tests/insn/insn.h tests/insn/rng.h tests/insn/forms.c \
	tests/insn/asm.c tests/insn/asm.h tests/insn/program.h tests/insn/prog_gen.h \
	tests/insn/prog_run.h tests/insn/prog_code.c tests/insn/prog_gen.c tests/insn/prog_flow.c \
	tests/insn/prog_loop.c tests/insn/prog_call.c tests/insn/prog_run.c tests/insn/prog_cpus.c \
	tests/insn/encode.c tests/insn/gen.c tests/insn/seq.c tests/insn/loops.c tests/insn/special.c \
	tests/insn/special64.S tests/insn/special32.S tests/insn/native.c tests/insn/guest.c \
	tests/insn/compare.c
# Its own objects: nothing here may depend on what a case does to the FPU, and asan has no place in
# a signal handler.
tests_insn_insn_CFLAGS = -std=gnu17 -pthread $(WARN_CFLAGS)
tests_insn_insn_LDFLAGS = $(AM_LDFLAGS)
tests_insn_insn_LDADD = libvmxdriver.la libcommon.la $(ZYDIS_LIBS)
TESTS += tests/insn/repeatable.sh tests/insn/soft.sh tests/insn/modes.sh
EXTRA_DIST += tests/insn/repeatable.sh tests/insn/soft.sh tests/insn/modes.sh
