# SPDX-License-Identifier: Apache-2.0
# The software engine. SOFT_GENERAL files run with the guest's FP state in the registers.
noinst_LTLIBRARIES += libsoftgeneral.la libsoft.la
libsoftgeneral_la_SOURCES =
libsoftgeneral_la_CFLAGS = $(AM_CFLAGS) -O2 -mgeneral-regs-only -fno-builtin -ffreestanding \
	-fno-stack-protector -fcf-protection=none $(GENERAL_CFLAGS)
libsoft_la_SOURCES = vmx-driver/soft/soft.h vmx-driver/soft/insn.h vmx-driver/soft/jit_facts.h vmx-driver/soft/lock.h \
	vmx-driver/soft/tlb.h vmx-driver/soft/x86.h
libsoft_la_LIBADD = libsoftgeneral.la $(ZYDIS_LIBS)
libsoftgeneral_la_SOURCES += vmx-driver/soft/jit_find.c vmx-driver/soft/jit_recipe.c \
	vmx-driver/soft/jit_run.c
libsoft_la_SOURCES += vmx-driver/soft/jit.h vmx-driver/soft/jit_emit.h vmx-driver/soft/jit_kept.h vmx-driver/soft/jit_make.h \
	vmx-driver/soft/jit_cache.c vmx-driver/soft/jit_data.c vmx-driver/soft/jit_make.c \
	vmx-driver/soft/jit_point.c vmx-driver/soft/jit_region.c \
	vmx-driver/soft/jit_stubs.c vmx-driver/soft/jit_translate.c vmx-driver/soft/jit_tr.h \
	vmx-driver/soft/jit_branch.c vmx-driver/soft/jit_code32.c vmx-driver/soft/jit_decode.c \
	vmx-driver/soft/jit_flow.c vmx-driver/soft/jit_group.c \
	vmx-driver/soft/jit_facts.c vmx-driver/soft/jit_flags.c vmx-driver/soft/jit_insns.c vmx-driver/soft/jit_system.c \
	vmx-driver/soft/jit_recipe.h \
	vmx-driver/soft/jit_shape.c vmx-driver/soft/jit_shape.h \
	vmx-driver/soft/jit_loop.c vmx-driver/soft/jit_loop.h vmx-driver/soft/jit_loop_emit.c \
	vmx-driver/soft/jit_slot.c vmx-driver/soft/jit_stack.c
libsoftgeneral_la_SOURCES += vmx-driver/soft/lock.c vmx-driver/soft/flags.c vmx-driver/soft/operand.c \
	vmx-driver/soft/decode_cache.c vmx-driver/soft/step.c vmx-driver/soft/step_control.c \
	vmx-driver/soft/step_stack.c vmx-driver/soft/step_int.c vmx-driver/soft/step_vector.c \
	vmx-driver/soft/step_ops.c vmx-driver/soft/string.c
libsoft_la_SOURCES += vmx-driver/soft/step.h vmx-driver/soft/decode.c
libsoftgeneral_la_SOURCES += vmx-driver/soft/mmu.c vmx-driver/soft/ept.c vmx-driver/soft/tlb.c \
	vmx-driver/soft/pcid.h vmx-driver/soft/pcid.c vmx-driver/soft/runs.h vmx-driver/soft/runs.c \
	vmx-driver/soft/access.c vmx-driver/soft/vmx_apic.h vmx-driver/soft/vmx_apic.c \
	vmx-driver/soft/lapic.c vmx-driver/soft/apic_send.c vmx-driver/soft/event.c \
	vmx-driver/soft/run.c
libsoft_la_SOURCES += vmx-driver/soft/alias.h vmx-driver/soft/alias.c vmx-driver/soft/mmu.h vmx-driver/soft/ept.h vmx-driver/soft/lapic.h \
	vmx-driver/soft/glue.h vmx-driver/soft/timer.c vmx-driver/soft/exclusive.c vmx-driver/soft/soft.c \
	vmx-driver/soft/state.c vmx-driver/soft/stats.c
libsoftgeneral_la_SOURCES += vmx-driver/soft/sys.h vmx-driver/soft/segment.c \
	vmx-driver/soft/exception.c vmx-driver/soft/frame.c vmx-driver/soft/gate.c \
	vmx-driver/soft/transfer.c vmx-driver/soft/task.c \
	vmx-driver/soft/syscall.c vmx-driver/soft/system.c vmx-driver/soft/system_cr.c \
	vmx-driver/soft/system_table.c vmx-driver/soft/system_ops.c vmx-driver/soft/xsave.c \
	vmx-driver/soft/msr.c vmx-driver/soft/pv.c vmx-driver/soft/pv.h vmx-driver/soft/cpuid_guest.c
libsoft_la_SOURCES += vmx-driver/soft/cpuid.c
libsoftgeneral_la_SOURCES += vmx-driver/soft/vmcs.h vmx-driver/soft/vmx_ops.h \
	vmx-driver/soft/vmcs.c vmx-driver/soft/vmx_caps.c vmx-driver/soft/vmx_insn.c \
	vmx-driver/soft/vmx_check_ctls.c vmx-driver/soft/vmx_check_guest.c \
	vmx-driver/soft/vmx_entry.c vmx-driver/soft/vmx_exit.c vmx-driver/soft/vmx_event.c \
	vmx-driver/soft/vmx_intercept.c vmx-driver/soft/vmx_state.c vmx-driver/soft/vmx_virq.c
