/* SPDX-License-Identifier: Apache-2.0 */
/* cli.h - what the verbs of vmctl share. One thread. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/client.h"

enum exit_code { /* EXIT STATUS in vmctl(1) */
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_UNREACHABLE = 3,
	EXIT_NO_SUCH = 4,
	EXIT_WRONG_STATE = 5,
	EXIT_GUEST_RESET = 10,
	EXIT_GUEST_TRIPLE_FAULT = 11,
	EXIT_GUEST_KILLED = 12,
	EXIT_GUEST_ENGINE = 13,
	EXIT_GUEST_DEBUG_EXIT = 14,
	EXIT_GUEST_DIED = 15,
	EXIT_TIMEOUT = 124,
};

enum option_id { /* one table in options.c */
	OPTION_SOCKET,
	OPTION_JSON,
	OPTION_QUIET,
	OPTION_HELP,
	OPTION_VERSION,
	OPTION_KERNEL,
	OPTION_INITRD,
	OPTION_CMDLINE,
	OPTION_MEMORY,
	OPTION_CPUS,
	OPTION_DISK,
	OPTION_NET,
	OPTION_PUBLISH,
	OPTION_SHARE,
	OPTION_VHOST_USER,
	OPTION_ENGINE,
	OPTION_ON_REBOOT,
	OPTION_TRANSPORT,
	OPTION_RINGS,
	OPTION_NO_CONSOLE,
	OPTION_CONSOLE,
	OPTION_PORT,
	OPTION_VSOCK,
	OPTION_NESTED,
	OPTION_BALLOON,
	OPTION_MEM,
	OPTION_PMEM,
	OPTION_DEBUG_EXIT,
	OPTION_TEST_DEVICE,
	OPTION_SOFT_DEBUG,
	OPTION_CODE_CACHE,
	OPTION_RM,
	OPTION_DETACH,
	OPTION_TIMEOUT,
	OPTION_STATS,
	OPTION_FROM,
	OPTION_COUNT_EVENTS,
	OPTION_FORCE,
	OPTION_REFRESH,
	OPTION_COUNT,
};

#define OPTION_BIT(id) (UINT64_C(1) << (id))
#define OPTION_REPEATS_MAX 32

struct option_list {
	size_t count;
	const char *value[OPTION_REPEATS_MAX];
};

struct options {
	uint64_t given;                  /* OPTION_BIT()s */
	const char *value[OPTION_COUNT]; /* the last one; NULL for flags */
	struct option_list all[OPTION_COUNT]; /* of an option that may be repeated: all, in order */
};

struct ctl {
	const struct verb *verb;
	struct options options;
	int argc;       /* arguments after the verb */
	char **argv;
	char *socket;
	bool json, quiet;
	struct client *client; /* NULL until ctl_connect() */
	int signals; /* what signals_take() made of them; -1 until then */
};

typedef int verb_fn(struct ctl *ctl); /* returns an exit_code */

struct verb {
	const char *name;
	const char *arguments; /* for people: "NAME" */
	int min, max;          /* how many */
	uint64_t options;      /* OPTION_BIT()s besides the general ones */
	const char *summary;
	verb_fn *run;
};

/* main.c: the table; ends with a NULL name. */
extern const struct verb verbs[];

/* options.c: EXIT_OK, or EXIT_USAGE after saying why. */
int options_parse(int argc, char **argv, struct ctl *ctl);
void options_print(uint64_t which); /* help text to stdout */
static inline bool has_option(const struct ctl *ctl, enum option_id id)
{
	return ctl->options.given & OPTION_BIT(id);
}
/* A number of at most max from an option's value; false after saying why. */
bool option_number(const struct ctl *ctl, enum option_id id, double max, double *ret);

/* common.c */
int ctl_connect(struct ctl *ctl); /* EXIT_OK, or EXIT_UNREACHABLE after saying so */
/* One call. EXIT_OK and *ret_result (owned), or another code after saying why. params is taken. */
int ctl_call(struct ctl *ctl, const char *method, json_object *params, json_object **ret_result);
int ctl_error(struct ctl *ctl, int r, const struct rpc_error *error); /* says it, gives the code */
void ctl_note(const struct ctl *ctl, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ctl_complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
json_object *name_params(const char *name);
/* Calls method with {"name": argv[0]}, prints the result if JSON is wanted, drops it. */
int ctl_simple(struct ctl *ctl, const char *method);
/* The same with one more parameter, {key: argv[1]}, as text. */
int ctl_simple_value(struct ctl *ctl, const char *method, const char *key);
void print_json(json_object *object); /* one line on stdout */
void print_info(json_object *info);   /* a VM for people */
/* How the VM of that info ended: its exit code, and a sentence for ctl_note(). */
int end_code(json_object *info);
const char *end_text(json_object *info);

/* vmconfig.c: a configuration from the options; EXIT_OK or EXIT_USAGE after saying why. */
/* What --disk and disk add say of a disk. */
json_object *disk_from_text(const char *text);
int config_from_options(const struct ctl *ctl, const char *name, json_object **ret_config);
/* A path as the daemon takes it: absolute. */
json_object *absolute_path(const char *path);
/* nets.c: adds what --net and --publish say; EXIT_OK or EXIT_USAGE after saying why. */
int nets_from_options(const struct ctl *ctl, json_object *config);
/* The same for --vhost-user. */
int vhosts_from_options(const struct ctl *ctl, json_object *config);
/* One card, as --net has it, with what --publish says; NULL: wrong, and told. */
json_object *net_from_text(struct ctl *ctl, const char *text);
/* One device, as --vhost-user has it; NULL: wrong, and told. */
json_object *vhost_from_text(struct ctl *ctl, const char *text);

/* attach.c: the console on stdin and stdout until the VM ends (*ret_info: owned), the user detaches
 * (EXIT_OK, no info) or a signal comes (128 + n, no info). Takes console_fd over. wait_id: of a
 * vm.wait that was sent already. */
int attach(struct ctl *ctl, const char *name, int console_fd, int64_t wait_id,
	   json_object **ret_info);

/* signals.c: from here on the signals that would end vmctl wait in ctl->signals, but for those that it
 * was started to ignore (nohup); resizes: and SIGWINCH. 0 or a negative errno. */
int signals_take(struct ctl *ctl, bool resizes);
int signals_next(struct ctl *ctl); /* the next one's number; 0: there is none */

/* plug.c: the verbs of one kind of device that can be plugged. */
struct plug_kind {
	const char *word, *list; /* in methods, and of their results */
	json_object *(*from_text)(struct ctl *ctl, const char *text); /* NULL: wrong, and told */
	const char *columns;     /* what print() prints, above */
	void (*print)(json_object *unit); /* the rest of its line */
};
int plug_verb(struct ctl *ctl, const struct plug_kind *kind);

/* tty.c: raw mode on standard input; undone on every way out, signals included. */
bool tty_raw(void);
void tty_restore(void);

/* One file each: verb_run.c and so on. */
verb_fn verb_balloon, verb_mem, verb_run, verb_create, verb_start, verb_stop, verb_kill, verb_pause, verb_resume,
	verb_reset, verb_disk,
	verb_delete, verb_list, verb_info, verb_wait, verb_console, verb_events, verb_doctor,
	verb_rpc, verb_version, verb_help, verb_net, verb_vhost;

#endif
