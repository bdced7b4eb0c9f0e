/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox.c - see sandbox.h: both stages put together, and what happens on a violation. */
#include <errno.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/checked.h"
#include "daemon/sandbox_internal.h"

static const char *const kind_names[THREAD_KINDS] = {
	[THREAD_CONTROL] = "control",       [THREAD_LOOP] = "event loop",
	[THREAD_VCPU_SOFT] = "vCPU (soft)", [THREAD_VCPU_KVM] = "vCPU (KVM)",
	[THREAD_BLOCK] = "block worker",    [THREAD_SHARE] = "share worker",
	[THREAD_MEMORY] = "memory",
};

const char *sandbox_kind_name(enum thread_kind kind)
{
	return kind < THREAD_KINDS ? kind_names[kind] : "unknown";
}

/* --- a violation ------------------------------------------------------------------------------ */

/* A signal handler is given nothing of ours: this is how it finds the process's one sandbox. */
static struct sandbox *_Atomic reporting;

struct text {
	size_t len;
	char bytes[1600];
};

static void add(struct text *t, const char *s)
{
	while (*s && t->len < sizeof(t->bytes))
		t->bytes[t->len++] = *s++;
}

static void add_number(struct text *t, unsigned n)
{
	char digits[12];
	size_t i = sizeof(digits);

	digits[--i] = '\0';
	do
		digits[--i] = (char)('0' + n % 10);
	while ((n /= 10) && i);
	add(t, digits + i);
}

static void add_sentence(struct text *t, const siginfo_t *info)
{
	unsigned call = (unsigned)info->si_syscall;
	const char *name = call < SANDBOX_CALLS_MAX ? sandbox_call_names[call] : NULL;

	add(t, "the ");
	add(t, sandbox_kind_name((enum thread_kind)info->si_errno));
	add(t, " thread tried the system call ");
	add(t, name ? name : "number");
	add(t, name ? " (" : " ");
	add_number(t, call);
	add(t, name ? ")" : "");
	add(t, ", which its sandbox forbids: an attack by the guest, or a bug in vmxd; please report it");
}

/* Calls async-signal-safe functions only. Returning from it ends the process: the signal is blocked
 * meanwhile, pending, and by then has its default action. */
static void on_violation(int number, siginfo_t *info, void *context)
{
	const struct sandbox *s = atomic_load(&reporting);
	struct text t = { 0 };

	(void)context;
	if (s && info->si_code == 1 /* SYS_SECCOMP */) {
		t.len = s->report_len;
		memcpy(t.bytes, s->report, t.len);
		add(&t, ",\"ran\":");
		add(&t, atomic_load(&s->guest_runs) ? "true" : "false");
		add(&t, ",\"detail\":\"");
		add_sentence(&t, info);
		add(&t, "\"}");
		if (ftruncate(s->status_fd, 0) < 0 ||
		    pwrite(s->status_fd, t.bytes, t.len, 0) != (ssize_t)t.len)
			t.len = 0; /* the log still has it */
		t.len = 0;
		add(&t, "vmxd-machine: sandbox: ");
		add_sentence(&t, info);
		add(&t, "\n");
		if (write(STDERR_FILENO, t.bytes, t.len) < 0)
			t.len = 0;
	}
	syscall(SYS_tgkill, getpid(), gettid(), number);
}

static int watch_violations(struct sandbox *s)
{
	struct sigaction action = {
		.sa_sigaction = on_violation,
		.sa_flags = SA_SIGINFO | (int)SA_RESETHAND,
	};

	sigfillset(&action.sa_mask);
	atomic_store(&reporting, s);
	return sigaction(SIGSYS, &action, NULL) < 0 ? -errno : 0;
}

static int prepare_report(struct sandbox *s, const struct sandbox_options *options)
{
	const char *text = options->report ? json_text(options->report) : "{\"state\":\"failed\"}";
	size_t len = text ? strlen(text) : 0;

	if (len < 3 || len > sizeof(s->report) || text[len - 1] != '}')
		return -EINVAL;
	s->report_len = len - 1;
	memcpy(s->report, text, s->report_len);
	return 0;
}

/* --- the stages ------------------------------------------------------------------------------- */

static int fail(char **ret_error, int r, const char *what)
{
	if (asprintf(ret_error, "the sandbox cannot be set up: %s: %s%s", what, strerror(-r),
		     r == -ENOTSUP ? " (vmxd --no-sandbox does without, for development only)" : "") < 0)
		*ret_error = NULL;
	return r;
}

static bool have_seccomp(void)
{
	uint32_t action = SECCOMP_RET_TRAP;

	return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

int sandbox_create(const struct sandbox_options *options, struct sandbox **ret, char **ret_error)
{
	struct sandbox *s;
	int r = 0;

	*ret_error = NULL;
	if (!have_seccomp())
		return fail(ret_error, -ENOTSUP, "seccomp");
	s = calloc(1, sizeof(*s));
	if (!s)
		return fail(ret_error, -ENOMEM, "memory");
	s->status_fd = options->status_fd;
	r = prepare_report(s, options);
	if (r < 0) {
		fail(ret_error, r, "report");
		goto out;
	}
	for (unsigned kind = 0; kind < THREAD_KINDS; kind++) {
		r = sandbox_filter_make(options, (enum thread_kind)kind, &s->filter[kind]);
		if (r < 0) {
			fail(ret_error, r, "seccomp filter");
			goto out;
		}
	}
	r = watch_violations(s);
	if (r == 0)
		r = sandbox_process_enter(options, &s->process);
	if (r < 0) {
		fail(ret_error, r, "privileges");
		goto out;
	}
	*ret = s;
	return 0;
out:
	sandbox_free(s);
	return r;
}

void sandbox_thread(struct sandbox *s, enum thread_kind kind)
{
	sigset_t set;

	if (!s)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGSYS); /* else a violation would end the process without a word */
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &s->filter[kind]) == 0)
		return;
	fprintf(stderr, "vmxd-machine: the %s thread cannot be confined: %s\n",
		sandbox_kind_name(kind), strerror(errno));
	_exit(1);
}

void sandbox_guest_runs(struct sandbox *s)
{
	if (s)
		atomic_store(&s->guest_runs, true);
}

struct sandbox *sandbox_free(struct sandbox *s)
{
	struct sandbox *self = s;

	if (!s)
		return NULL;
	atomic_compare_exchange_strong(&reporting, &self, NULL);
	for (unsigned kind = 0; kind < THREAD_KINDS; kind++)
		free(s->filter[kind].filter);
	free(s);
	return NULL;
}

/* --- what came of it -------------------------------------------------------------------------- */

static json_object *process_json(const struct sandbox_process *p)
{
	json_object *object = json_object_new_object();

	json_add_bool(object, "enabled", true);
	json_add_bool(object, "seccomp", true);
	json_add_int(object, "landlock", p->landlock);
	json_add_bool(object, "landlock_tcp", p->landlock_tcp);
	json_add_bool(object, "empty_root", p->empty_root);
	json_add_str(object, "root", p->root_why);
	json_add_bool(object, "no_capabilities", p->no_capabilities);
	return object;
}

static json_object *none_json(const char *why)
{
	json_object *object = json_object_new_object();

	json_add_bool(object, "enabled", false);
	json_add_str(object, "why", why);
	return object;
}

json_object *sandbox_json(const struct sandbox *s)
{
	return s ? process_json(&s->process) : none_json("vmxd was started with --no-sandbox");
}

struct probe_answer {
	bool done;
	struct sandbox_process process;
	char error[160];
};

static void __attribute__((noreturn)) probe_child(int fd)
{
	struct sandbox_options options = { .status_fd = STDERR_FILENO };
	struct probe_answer answer = { 0 };
	struct sandbox *s = NULL;
	char *error = NULL;

	if (sandbox_create(&options, &s, &error) < 0) {
		snprintf(answer.error, sizeof(answer.error), "%s", error ? error : "out of memory");
	} else {
		answer.process = s->process;
		sandbox_thread(s, THREAD_CONTROL);
		answer.done = true;
	}
	_exit(write(fd, &answer, sizeof(answer)) == (ssize_t)sizeof(answer) ? 0 : 1);
}

json_object *sandbox_probe(void)
{
	struct probe_answer answer = { 0 };
	ssize_t n = 0;
	int pipe_fd[2], status;
	pid_t pid;

	if (pipe(pipe_fd) < 0)
		return none_json(strerror(errno));
	pid = fork();
	if (pid == 0)
		probe_child(pipe_fd[1]);
	close(pipe_fd[1]);
	if (pid > 0) {
		n = read(pipe_fd[0], &answer, sizeof(answer));
		waitpid(pid, &status, 0);
	}
	close(pipe_fd[0]);
	if (n == (ssize_t)sizeof(answer) && answer.done)
		return process_json(&answer.process);
	answer.error[sizeof(answer.error) - 1] = '\0';
	return none_json(*answer.error ? answer.error : "its trial ended without an answer");
}
