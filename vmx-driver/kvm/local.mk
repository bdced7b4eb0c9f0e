# SPDX-License-Identifier: Apache-2.0
libvmxdriver_la_SOURCES += vmx-driver/kvm/kvm.h vmx-driver/kvm/vm.c vmx-driver/kvm/memory.c \
	vmx-driver/kvm/cpuid.c vmx-driver/kvm/vcpu.c vmx-driver/kvm/run.c vmx-driver/kvm/exits.c \
	vmx-driver/kvm/state.c
