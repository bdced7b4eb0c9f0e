/* SPDX-License-Identifier: Apache-2.0 */
/* A signal at each step of `vmctl run`, from its connection until it is attached: every system call
 * in between is one. Whatever it hits, no VM is left that was not asked for. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/checked.h"
#include "tests/protocol/rig.h"

#define STEPS_MAX 400 /* more than there are: to come to an end in any case */

struct way {
	const char *option;  /* NULL: none */
	int signal;
	bool last_is_attached; /* the last step is the first word of the guest; else vmctl's end */
};

static const struct way ways[] = {
	{ "--rm", SIGTERM, true },
	{ "--rm", SIGINT, true },
	{ NULL, SIGHUP, true },
	{ "--detach", SIGTERM, false },
};

static void become_vmctl(struct rig *rig, const struct way *way)
{
	char path[512], out[96];
	const char *dir = getenv("VMXD_BUILDDIR");
	int fd;

	snprintf(path, sizeof(path), "%s/vmctl", dir ? dir : ".");
	snprintf(out, sizeof(out), "%s/err", rig->dir);
	fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	dup2(fd, STDERR_FILENO);
	fd = open("/dev/null", O_RDWR);
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	signal(way->signal, SIG_DFL);
	setenv("VMXD_SOCKET", rig->socket, 1);
	setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* it cannot under ptrace */
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
		_exit(126);
	execl(path, "vmctl", "run", "sig", "--kernel", rig->kernel, "--cmdline", "say=up shell",
	      way->option, (char *)NULL);
	_exit(127);
}

/* The next system call that pid begins; -1: it ended, with *ret_status. */
static long next_call(pid_t pid, struct user_regs_struct *regs, int *ret_status)
{
	int pass = 0;

	for (;;) {
		if (ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(intptr_t)pass) < 0 ||
		    waitpid(pid, ret_status, 0) != pid || !WIFSTOPPED(*ret_status))
			return -1;
		pass = 0;
		if (WSTOPSIG(*ret_status) != (SIGTRAP | 0x80)) {
			pass = WSTOPSIG(*ret_status);
		} else if (ptrace(PTRACE_GETREGS, pid, NULL, regs) < 0) {
			return -1;
		} else if ((long)regs->rax == -ENOSYS) { /* how a beginning looks */
			return (long)regs->orig_rax;
		}
	}
}

/* Waits for the end of pid for half a minute. */
static int end_of(pid_t pid)
{
	int status = -1;

	for (int i = 0; i < 3000; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		usleep(10000);
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -1;
}

enum outcome { CANNOT, HIT, OVER };

/* Runs vmctl up to its step'th system call from connect() on, and sends it the signal there. OVER: it
 * was attached, or had ended, before. */
static enum outcome hit(struct rig *rig, const struct way *way, unsigned step, int *ret_status)
{
	struct user_regs_struct regs;
	unsigned at = 0;
	long call;
	pid_t pid = fork();

	if (pid == 0)
		become_vmctl(rig, way);
	if (waitpid(pid, ret_status, 0) != pid || !WIFSTOPPED(*ret_status) ||
	    ptrace(PTRACE_SETOPTIONS, pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) < 0)
		return CANNOT;
	while ((call = next_call(pid, &regs, ret_status)) >= 0) {
		if (call == SYS_connect || at)
			at++;
		if (way->last_is_attached && call == SYS_write && regs.rdi == STDOUT_FILENO)
			break;
		if (at == step) {
			kill(pid, way->signal);
			ptrace(PTRACE_DETACH, pid, NULL, NULL);
			*ret_status = end_of(pid);
			return HIT;
		}
	}
	if (call >= 0) {
		kill(pid, way->signal);
		ptrace(PTRACE_DETACH, pid, NULL, NULL);
		*ret_status = end_of(pid);
	}
	return OVER;
}

static bool said_runs_on(struct rig *rig)
{
	char path[96], text[1024] = "";
	int fd;

	snprintf(path, sizeof(path), "%s/err", rig->dir);
	fd = open(path, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		perror(path);
	close(fd);
	return strstr(text, "runs on");
}

static void check_step(struct rig *rig, struct client *client, const struct way *way, unsigned step,
		       int status)
{
	bool by_signal = (WIFEXITED(status) && WEXITSTATUS(status) == 128 + way->signal) ||
			 (WIFSIGNALED(status) && WTERMSIG(status) == way->signal);
	bool done = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	bool keeps = (done && !way->last_is_attached) || (!way->option && said_runs_on(rig));
	const char *option = way->option ? way->option : "(none)", *state;

	state = rig_state(rig, client, "sig");
	CHECK(rig, by_signal || (done && !way->last_is_attached), "%s, signal %d, step %u: ended with %#x",
	      option, way->signal, step, status);
	CHECK(rig, strcmp(state, keeps ? "running none" : "gone") == 0, "%s, signal %d, step %u: %s",
	      option, way->signal, step, state);
	rig_call(rig, client, "vm.kill", "{\"name\":\"sig\"}", NULL, NULL);
	rig_call(rig, client, "vm.delete", "{\"name\":\"sig\"}", NULL, NULL);
}

static void sweep(struct rig *rig, const struct way *way)
{
	struct client *client = rig_client(rig);
	enum outcome outcome = HIT;
	unsigned step;
	int status;

	for (step = 1; step < STEPS_MAX && outcome == HIT; step++) {
		outcome = hit(rig, way, step, &status);
		if (outcome != CANNOT)
			check_step(rig, client, way, step, status);
	}
	if (outcome == CANNOT) {
		puts("skip: this host lets no program be traced");
		rig->skipped++;
	} else {
		CHECK(rig, outcome == OVER && step > 10, "%u steps, no end", step);
	}
	client_free(client);
}

int main(void)
{
	struct rig rig;

	rig_init(&rig);
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		sweep(&rig, &ways[i]);
	return rig_finish(&rig);
}
