/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox_rules.c - which system calls each kind of thread may make, and why.
 *
 * What stands in no row ends the process. A row is for one call, one set of kinds, at most two
 * conditions on its arguments, which the kernel compares as it would read them; several rows of one
 * call are alternatives. A call with a `refuse` is answered with that error instead: libraries try
 * it and know another way. A new device adds what it needs here, for its own kind of thread; a call
 * that takes a path, makes a process or reaches a network stands here for no kind but the one that
 * cannot do without.
 *
 * A thread made after the start (hot plug) begins under the control thread's filter and adds its
 * own: what such a kind may do, the control thread may do too.
 */
#include <errno.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/vhost.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <fcntl.h>

#include "common/checked.h"
#include "daemon/sandbox_rules.h"

#define CONTROL KINDS(THREAD_CONTROL)
#define LOOP KINDS(THREAD_LOOP)
#define SOFT KINDS(THREAD_VCPU_SOFT)
#define HARD KINDS(THREAD_VCPU_KVM)
#define VCPU (SOFT | HARD)
#define BLOCK KINDS(THREAD_BLOCK)
#define SHARE KINDS(THREAD_SHARE)
#define MEMORY KINDS(THREAD_MEMORY)
#define ALL (KINDS(THREAD_KINDS) - 1)
/* Where code of devices runs: their bus handlers, their watches, their host I/O, their making. */
#define DEVICES (CONTROL | LOOP | VCPU | BLOCK | SHARE)
#define VHOST (CONTROL | LOOP | VCPU) /* who starts, stops or resets a network card */

/* 32 bits of argument n, as the kernel reads an int or unsigned: under a mask, or all of them. */
#define MASKED(n, mask, value) { n, SCMP_CMP_MASKED_EQ, (uint32_t)(mask), (uint32_t)(value) }
#define EQUALS(n, value) MASKED(n, 0xffffffffu, value)
#define IOCTL(kinds_, request, why_) \
	{ .call = SCMP_SYS(ioctl), .kinds = (kinds_), .why = (why_), .args = 1, \
	  .arg = { EQUALS(1, request) } }
#define KVM_CALL(kinds_, request, why_) \
	{ .call = SCMP_SYS(ioctl), .kinds = (kinds_), .why = (why_), .when = SANDBOX_KVM, \
	  .args = 1, .arg = { EQUALS(1, request) } }
#define CALL(name, kinds_, why_) \
	{ .call = SCMP_SYS(name), .kinds = (kinds_), .why = (why_) }
#define CALL_IF(name, kinds_, condition, why_) \
	{ .call = SCMP_SYS(name), .kinds = (kinds_), .why = (why_), .args = 1, \
	  .arg = { condition } }
#define SHARED(name, why_) \
	{ .call = SCMP_SYS(name), .kinds = SHARE, .why = (why_), .when = SANDBOX_SHARES }
#define SHARED_IF(name, condition, why_) \
	{ .call = SCMP_SYS(name), .kinds = SHARE, .why = (why_), .when = SANDBOX_SHARES, \
	  .args = 1, .arg = { condition } }
#define OWN(name, kinds_, own_, why_) \
	{ .call = SCMP_SYS(name), .kinds = (kinds_), .why = (why_), .own = (own_) }
#define REFUSE(name, kinds_, error, why_) \
	{ .call = SCMP_SYS(name), .kinds = (kinds_), .why = (why_), .refuse = (error) }

/* CLONE_THREAD shares the signal handlers, CLONE_VM the memory: not a process. */
#define THREAD_FLAGS (CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD)
#define NAMESPACE_FLAGS (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | \
			 CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

const struct sandbox_rule sandbox_rules[] = {
	/* --- every thread: locks, clocks, its own end --- */
	CALL(futex, ALL, "mutexes, condition variables, sleeping vCPUs"),
	CALL(clock_gettime, ALL, "where the host has no fast clock in the vDSO"),
	CALL(gettimeofday, ALL, "as clock_gettime"),
	CALL(time, ALL, "as clock_gettime"),
	CALL(clock_nanosleep, ALL, "a lock that spins gives way"),
	CALL(sched_yield, ALL, "a lock that spins gives way"),
	CALL(restart_syscall, ALL, "the kernel's own, after a stop in a timed wait"),
	CALL(rt_sigreturn, ALL, "the end of a signal handler"),
	CALL(rt_sigprocmask, ALL, "abort(), the start and end of threads"),
	CALL(getpid, ALL, "abort(), signals to our own threads"),
	CALL(gettid, ALL, "abort(), signals to our own threads"),
	OWN(tgkill, ALL, SANDBOX_OWN_PID, "kicks a vCPU out of guest code; abort(); violations"),
	CALL(exit, ALL, "the end of a thread"),
	CALL(exit_group, ALL, "the end of the process"),
	CALL(write, ALL, "the log; eventfds; a terminal or pipe that is a console"),
	OWN(pwrite64, ALL, SANDBOX_OWN_STATUS_FD, "how the VM ended"),
	OWN(ftruncate, ALL, SANDBOX_OWN_STATUS_FD, "how the VM ended"),
	CALL(munmap, ALL, "free(), the end of a thread"),
	CALL(madvise, ALL, "free(), the end of a thread, balloon, huge pages"),

	/* --- memory: malloc() of any thread; never executable --- */
	CALL(brk, ALL, "malloc()"),
	CALL_IF(mmap, ALL, MASKED(2, PROT_EXEC, 0), "malloc(), stacks, tables; not executable"),
	CALL_IF(mprotect, ALL, MASKED(2, PROT_EXEC, 0), "malloc(), guards of stacks; not executable"),
	CALL_IF(mremap, ALL, MASKED(3, MREMAP_FIXED, 0), "realloc(); not onto another mapping"),
	{ .call = SCMP_SYS(mremap), .kinds = SOFT | CONTROL, .args = 2,
	  .why = "guest memory a second time (vmx-driver/soft/alias.h): old_size 0 copies a shared mapping",
	  .arg = { { 1, SCMP_CMP_EQ, 0, 0 }, EQUALS(3, MREMAP_MAYMOVE | MREMAP_FIXED) } },
	REFUSE(openat, ALL & ~SHARE, ENOENT,
	       "malloc() counts processors in /sys; there is no /sys here"),
	CALL(sched_getaffinity, ALL, "malloc() counts processors"),
	CALL(getrandom, ALL, "malloc()'s seed, virtio-rng"),
	CALL(membarrier, ALL, "parking vCPUs"),

	/* --- code of devices: any thread that an access of the guest's or an event can run it on --- */
	CALL(read, DEVICES, "eventfds, timerfds, sockets, consoles"),
	CALL(close, DEVICES, "a device's reset or end"),
	CALL(epoll_ctl, DEVICES, "a device starts or stops to watch a descriptor"),
	CALL(timerfd_settime, DEVICES, "guest timers"),
	CALL_IF(fcntl, DEVICES, EQUALS(1, F_GETFD), "is a doorbell's eventfd open?"),
	CALL_IF(socketpair, LOOP | CONTROL, EQUALS(0, AF_UNIX),
		"a vhost-user peer comes: the channel of its own requests"),
	CALL(sendto, DEVICES, "sockets that consoles and networks are"),
	CALL(sendmsg, DEVICES, "sockets that consoles and networks are, and the control socket"),
	CALL(recvfrom, DEVICES, "sockets that consoles and networks are"),
	CALL(recvmsg, DEVICES, "sockets that networks are; descriptors for hot plug"),
	CALL(writev, DEVICES, "a tap takes a packet from several pieces"),
	CALL(readv, DEVICES, "a tap gives a packet into several pieces"),

	IOCTL(DEVICES, TUNSETOFFLOAD, "a driver says which packets it takes from a tap"),
	IOCTL(DEVICES, TUNSETQUEUE, "a driver says how many queues of a tap it uses"),
	/* vhost-net (devices/backend/vhost_kernel.h): a card that was made with it; its rings are memory of
	 * this process's own, and so is all that the kernel is told of --- */
	IOCTL(CONTROL, VHOST_SET_OWNER, "a card that is plugged in: the kernel works in this process's memory"),
	IOCTL(CONTROL, VHOST_GET_FEATURES, "a card that is plugged in: what the kernel can"),
	IOCTL(VHOST, VHOST_SET_FEATURES, "a driver starts: what it agreed on"),
	IOCTL(VHOST, VHOST_SET_MEM_TABLE, "a driver starts: where guest memory is"),
	IOCTL(VHOST, VHOST_SET_VRING_NUM, "a driver starts: the size of a ring"),
	IOCTL(VHOST, VHOST_SET_VRING_BASE, "a driver starts: where a ring begins"),
	IOCTL(VHOST, VHOST_SET_VRING_ADDR, "a driver starts: where a ring is"),
	IOCTL(VHOST, VHOST_SET_VRING_KICK, "a driver starts: the doorbell of a ring"),
	IOCTL(VHOST, VHOST_SET_VRING_CALL, "a driver starts: how the kernel tells of work done"),
	IOCTL(VHOST, VHOST_SET_VRING_ERR, "a driver starts: how the kernel tells of an error"),
	IOCTL(VHOST, VHOST_NET_SET_BACKEND, "a driver starts or ends, a pause: the tap of a ring, or none"),
	/* --- shared directories (devices/backend/p9.h): names below the shared directory only, which
	 * openat2() holds to by its flags, Landlock by its rule, and the empty root by having nothing
	 * else. Calls with a directory take one of our own; a working directory is not one --- */
	{ .call = SCMP_SYS(openat), .kinds = SHARE, .refuse = ENOENT,
	  .why = "malloc() counts processors in /sys; the working directory is nobody's",
	  .args = 1, .arg = { MASKED(0, 0x80000000u, 0x80000000u) } },
	{ .call = SCMP_SYS(openat), .kinds = SHARE, .when = SANDBOX_SHARES,
	  .own = SANDBOX_OWN_PROC_FD, .why = "a file that is known already, for reading or writing" },
	SHARED_IF(openat2, MASKED(0, 0x80000000u, 0), "finds names below a directory"),
	SHARED_IF(preadv, MASKED(0, 0x80000000u, 0), "contents"),
	SHARED_IF(pwritev, MASKED(0, 0x80000000u, 0), "contents"),
	SHARED(statx, "attributes"),
	SHARED(fstat, "what kind of file an open one is"),
	SHARED_IF(newfstatat, MASKED(0, 0x80000000u, 0), "the same; is a name still that file?"),
	SHARED(fstatfs, "how full the file system is"),
	SHARED(getdents64, "names in a directory"),
	SHARED(lseek, "where in a directory to go on"),
	SHARED_IF(mkdirat, MASKED(0, 0x80000000u, 0), "makes a directory"),
	{ .call = SCMP_SYS(mknodat), .kinds = SHARE, .when = SANDBOX_SHARES, .args = 2,
	  .arg = { MASKED(2, S_IFMT, S_IFREG), EQUALS(3, 0) }, .why = "makes a file" },
	{ .call = SCMP_SYS(mknodat), .kinds = SHARE, .when = SANDBOX_SHARES, .args = 2,
	  .arg = { MASKED(2, S_IFMT, S_IFIFO), EQUALS(3, 0) }, .why = "makes a FIFO" },
	{ .call = SCMP_SYS(mknodat), .kinds = SHARE, .when = SANDBOX_SHARES, .args = 2,
	  .arg = { MASKED(2, S_IFMT, S_IFSOCK), EQUALS(3, 0) }, .why = "makes a socket's name" },
	SHARED_IF(symlinkat, MASKED(1, 0x80000000u, 0), "makes a symbolic link"),
	SHARED_IF(readlinkat, MASKED(0, 0x80000000u, 0), "reads a symbolic link"),
	{ .call = SCMP_SYS(linkat), .kinds = SHARE, .when = SANDBOX_SHARES,
	  .own = SANDBOX_OWN_PROC_FD, .args = 1, .arg = { MASKED(2, 0x80000000u, 0) },
	  .why = "another name for a file that is known" },
	SHARED_IF(unlinkat, MASKED(0, 0x80000000u, 0), "removes a name"),
	SHARED_IF(renameat2, MASKED(0, 0x80000000u, 0), "moves a name"),
	SHARED_IF(renameat, MASKED(0, 0x80000000u, 0), "the same, by the C library"),
	SHARED(ftruncate, "the size of a file"),
	{ .call = SCMP_SYS(fchmodat), .kinds = SHARE, .when = SANDBOX_SHARES,
	  .own = SANDBOX_OWN_PROC_FD, .args = 1,
	  .arg = { MASKED(2, S_ISUID | S_ISGID, 0) }, .why = "permissions, none that lend power" },
	SHARED_IF(utimensat, MASKED(0, 0x80000000u, 0), "times of a file"),
	SHARED(fsync, "flush"),
	SHARED(fdatasync, "flush"),
	SHARED(fgetxattr, "extended attributes"),
	SHARED(flistxattr, "extended attributes"),
	SHARED(fsetxattr, "extended attributes"),
	SHARED(fremovexattr, "extended attributes"),
	SHARED_IF(fcntl, EQUALS(1, F_OFD_SETLK), "locks"),
	SHARED_IF(fcntl, EQUALS(1, F_OFD_GETLK), "locks"),
	SHARED_IF(fcntl, EQUALS(1, F_GETFL), "what a file was opened for"),

	/* --- event loop and control thread --- */
	CALL(epoll_wait, LOOP | CONTROL, "waiting for events"),
	CALL(epoll_pwait, LOOP | CONTROL, "waiting for events"),
	CALL(poll, DEVICES, "has a doorbell room? is a peer gone?"),

	/* --- disks: workers, and who helps them out at a reset --- */
	CALL(pread64, BLOCK | LOOP | CONTROL, "reading an image"),
	CALL(preadv, BLOCK | LOOP | CONTROL, "reading an image"),
	CALL(preadv2, BLOCK | LOOP | CONTROL | VCPU, "reading an image; of a vCPU: what needs not wait"),
	CALL(pwrite64, BLOCK | LOOP | CONTROL, "writing an image"),
	CALL(pwritev, BLOCK | LOOP | CONTROL, "writing an image"),
	CALL(pwritev2, BLOCK | LOOP | CONTROL | VCPU, "writing an image; of a vCPU: into the cache"),
	CALL(fdatasync, BLOCK | LOOP | CONTROL, "flush"),
	CALL(fsync, BLOCK | LOOP | CONTROL, "flush of an image that grew"),
	CALL(fallocate, BLOCK | LOOP | CONTROL, "discard and write zeroes"),
	CALL(lseek, BLOCK | LOOP | CONTROL | MEMORY, "the size of an image, its holes; what is used of RAM"),
	CALL(fstat, BLOCK | LOOP | CONTROL | MEMORY, "the size of an image, of what is used of RAM"),
	CALL(newfstatat, BLOCK | LOOP | CONTROL | MEMORY, "fstat() of newer C libraries: no path passes, see openat"),
	CALL(ftruncate, BLOCK | LOOP | CONTROL, "an image that grows"),
	CALL(io_uring_enter, LOOP | CONTROL, "transfers without a thread: the ring was made before"),
	REFUSE(io_uring_setup, CONTROL, EPERM, "a disk that is plugged in does with threads"),
	CALL(statx, CONTROL, "what O_DIRECT wants of a disk that is plugged in: no path passes"),
	IOCTL(BLOCK | LOOP | CONTROL, BLKDISCARD, "discard on a block device"),
	IOCTL(BLOCK | LOOP | CONTROL, BLKZEROOUT, "write zeroes on a block device"),
	IOCTL(BLOCK | LOOP | CONTROL, BLKGETSIZE64, "the size of a block device"),
	IOCTL(BLOCK | LOOP | CONTROL, BLKSSZGET, "the sector size of a block device"),

	/* --- control thread: its sockets, and devices that come later --- */
	CALL(accept4, CONTROL | LOOP, "a daemon, a console's reader or a port's peer connects"),
	CALL_IF(getsockopt, CONTROL | LOOP, EQUALS(1, SOL_SOCKET), "who connects; what kind of socket"),
	CALL(shutdown, CONTROL | LOOP, "the end of a reader; one direction of a vsock stream"),
	IOCTL(CONTROL, TUNGETIFF, "a tap that is plugged in: what it is"),
	IOCTL(CONTROL, TUNSETVNETHDRSZ, "a tap that is plugged in: its header"),
	CALL(getsockname, CONTROL, "what kind of socket a descriptor is"),
	IOCTL(CONTROL, FIONBIO, "the event library makes sockets non-blocking"),
	CALL_IF(fcntl, CONTROL, EQUALS(1, F_GETFL), "how a descriptor was opened"),
	CALL_IF(fcntl, CONTROL, EQUALS(1, F_SETFL), "sockets and taps become non-blocking"),
	CALL_IF(fcntl, CONTROL, EQUALS(1, F_SETFD), "descriptors that were handed over"),
	CALL_IF(fcntl, CONTROL, EQUALS(1, F_DUPFD_CLOEXEC), "copies of descriptors"),
	CALL(dup, CONTROL, "copies of descriptors that were handed over"),
	CALL(eventfd2, CONTROL, "a device that is plugged in: its doorbells"),
	CALL_IF(memfd_create, CONTROL, EQUALS(1, MFD_CLOEXEC | MFD_ALLOW_SEALING),
		"a device that is plugged in: rings that others work on"),
	CALL_IF(fcntl, CONTROL, EQUALS(1, F_ADD_SEALS), "the size of these rings stays"),
	CALL(timerfd_create, CONTROL | LOOP, "a device that is plugged in, or a port's peer: timers"),
	CALL(epoll_create1, CONTROL, "a device that is plugged in: its loop"),
	CALL(rt_sigaction, CONTROL, "the event library lets go of SIGTERM at the end"),
	CALL(umask, CONTROL, "no effect on anything that is left"),

	/* --- control thread: threads of such a device, which then confine themselves --- */
	REFUSE(clone3, CONTROL, ENOSYS, "its flags are in memory; clone() is tried next"),
	{ .call = SCMP_SYS(clone), .kinds = CONTROL, .why = "a thread; no process, no namespace",
	  .args = 1, .arg = { MASKED(0, THREAD_FLAGS | NAMESPACE_FLAGS, THREAD_FLAGS) } },
	CALL(set_robust_list, CONTROL, "the start of a thread"),
	CALL(rseq, CONTROL, "the start of a thread"),
	CALL_IF(prctl, CONTROL, EQUALS(0, PR_SET_NAME), "the name of a thread"),
	CALL_IF(seccomp, CONTROL, EQUALS(0, SECCOMP_SET_MODE_FILTER), "less for a new thread"),

	/* --- soft engine --- */
	CALL(arch_prctl, SOFT, "GS of a vCPU where WRGSBASE is not there"),
	CALL(timer_settime, SOFT, "the guest's APIC timer"),
	CALL(timer_delete, CONTROL, "the end of a vCPU"),

	/* --- KVM: descriptors of this VM are the only ones that know these requests --- */
	CALL(rt_sigtimedwait, HARD, "takes the signal of a kick"),
	KVM_CALL(HARD, KVM_RUN, "runs the guest"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_GET_REGS, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_SET_REGS, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_GET_SREGS, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_SET_SREGS, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_GET_XCRS, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_SET_XCRS, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_GET_XSAVE, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_GET_XSAVE2, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_SET_XSAVE, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_GET_LAPIC, "state of a vCPU; LINT1"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_SET_LAPIC, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_GET_VCPU_EVENTS, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_SET_VCPU_EVENTS, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_GET_DEBUGREGS, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_SET_DEBUGREGS, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_GET_MP_STATE, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_SET_MP_STATE, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_GET_MSRS, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_SET_MSRS, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_GET_NESTED_STATE, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_SET_NESTED_STATE, "state of a vCPU"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_HAS_DEVICE_ATTR, "the guest's time over a pause"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_GET_DEVICE_ATTR, "the guest's time over a pause"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_SET_DEVICE_ATTR, "the guest's time over a pause"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_GET_CLOCK, "the guest's time over a pause"),
	KVM_CALL(HARD | CONTROL | LOOP, KVM_SET_CLOCK, "the guest's time over a pause"),
	KVM_CALL(HARD, KVM_INTERRUPT, "the PIC's interrupt"),
	KVM_CALL(HARD, KVM_NMI, "an NMI"),
	KVM_CALL(HARD, KVM_SET_GUEST_DEBUG, "breakpoints"),
	KVM_CALL(HARD, KVM_TRANSLATE, "the bytes of an instruction that failed"),
	KVM_CALL(HARD, KVM_SET_SIGNAL_MASK, "the signal of a kick"),
	KVM_CALL(DEVICES, KVM_SIGNAL_MSI, "an interrupt of a device"),
	KVM_CALL(DEVICES, KVM_SET_GSI_ROUTING, "the IOAPIC is programmed"),
	KVM_CALL(DEVICES, KVM_IOEVENTFD, "doorbells of a device, when its BAR moves"),
	KVM_CALL(DEVICES, KVM_SET_USER_MEMORY_REGION, "memory comes, goes, moves"),
	KVM_CALL(DEVICES, KVM_GET_DIRTY_LOG, "which pages were written"),

#ifdef VMXD_SANITIZERS
	/* --- builds with -fsanitize: they report by way of files and a child process --- */
	CALL(sigaltstack, ALL, "sanitizer: stacks of signal handlers"),
	CALL(getrlimit, ALL, "sanitizer: the size of a stack"),
	CALL(prlimit64, ALL, "sanitizer: the size of a stack"),
	CALL(getuid, ALL, "sanitizer: where to report"),
	CALL(readlink, ALL, "sanitizer: its own name"),
	CALL(readlinkat, ALL, "sanitizer: its own name"),
	CALL(rt_sigaction, ALL, "sanitizer: a deadly signal"),
	CALL(prctl, ALL, "sanitizer: names of threads"),
	CALL(personality, ALL, "sanitizer: address layout"),
	CALL(getppid, ALL, "sanitizer: reports"),
	CALL(lseek, ALL, "sanitizer: reports"),
	CALL(read, ALL, "sanitizer: reports"),
	CALL(close, ALL, "sanitizer: reports"),
	CALL(mremap, ALL, "sanitizer: its allocator"),
	CALL(set_robust_list, ALL, "sanitizer: its threads"),
	CALL(rseq, ALL, "sanitizer: its threads"),
#endif
};

const size_t sandbox_rule_count = ARRAY_SIZE(sandbox_rules);
