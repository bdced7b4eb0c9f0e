/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inject PID TID CALL [ARGUMENT...]: makes a thread of another process do a system call, as an
 * attacker would who has taken it over: the thread is stopped wherever it is, its registers are set,
 * and it goes on at a SYSCALL instruction of its own program. Exit status 0: that killed it; 1: it
 * came back; 77: it cannot be traced.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* SYSCALL, in any code that the process has mapped; 0: none found. */
static unsigned long find_syscall(int pid)
{
	unsigned long from, to, found = 0;
	static unsigned char bytes[1 << 20];
	char path[64], line[512], flags[8];
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	maps = fopen(path, "r");
	while (maps && !found && fgets(line, sizeof(line), maps)) {
		struct iovec local = { bytes, sizeof(bytes) }, remote;
		ssize_t n;

		if (sscanf(line, "%lx-%lx %7s", &from, &to, flags) != 3 || flags[2] != 'x' ||
		    !strstr(line, ".so"))
			continue;
		remote = (struct iovec){ (void *)from, to - from };
		n = process_vm_readv(pid, &local, 1, &remote, 1, 0);
		for (ssize_t i = 0; i + 1 < n && !found; i++)
			if (bytes[i] == 0x0f && bytes[i + 1] == 0x05)
				found = from + (unsigned long)i;
	}
	if (maps)
		fclose(maps);
	return found;
}

static int give_up(const char *what)
{
	printf("skip: %s: %s\n", what, strerror(errno));
	return 77;
}

int main(int argc, char **argv)
{
	struct user_regs_struct regs;
	unsigned long at;
	int pid, tid, status;

	if (argc < 4)
		return 2;
	pid = atoi(argv[1]);
	tid = atoi(argv[2]);
	at = find_syscall(pid);
	if (!at)
		return give_up("no code found");
	if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) < 0)
		return give_up("ptrace");
	if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0 || waitpid(tid, &status, __WALL) != tid ||
	    ptrace(PTRACE_GETREGS, tid, NULL, &regs) < 0)
		return give_up("ptrace");
	regs.orig_rax = (unsigned long)-1; /* no call is begun again */
	regs.rax = strtoul(argv[3], NULL, 0);
	regs.rdi = argc > 4 ? strtoul(argv[4], NULL, 0) : 0;
	regs.rsi = argc > 5 ? strtoul(argv[5], NULL, 0) : 0;
	regs.rdx = argc > 6 ? strtoul(argv[6], NULL, 0) : 0;
	regs.r10 = argc > 7 ? strtoul(argv[7], NULL, 0) : 0;
	regs.r8 = argc > 8 ? strtoul(argv[8], NULL, 0) : 0;
	regs.r9 = 0;
	regs.rip = at;
	regs.rsp -= 512; /* the red zone */
	if (ptrace(PTRACE_SETREGS, tid, NULL, &regs) < 0)
		return give_up("ptrace");
	/* One instruction; signals on the way are passed on, as without a tracer. */
	if (ptrace(PTRACE_SINGLESTEP, tid, NULL, NULL) < 0)
		return give_up("ptrace");
	while (waitpid(tid, &status, __WALL) == tid) {
		if (WIFSIGNALED(status) || WIFEXITED(status))
			return WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS ? 0 : 1;
		/* Behind the call with its result, unless a signal is due: then RAX is as it was. */
		if (WSTOPSIG(status) == SIGTRAP && ptrace(PTRACE_GETREGS, tid, NULL, &regs) == 0 &&
		    regs.rip == at + 2 && regs.rax != strtoul(argv[3], NULL, 0)) {
			(void)ptrace(PTRACE_DETACH, tid, NULL, NULL);
			return 1;
		}
		if (ptrace(PTRACE_CONT, tid, NULL,
			   (void *)(long)(WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status))) < 0)
			break; /* gone meanwhile */
	}
	return 0;
}
