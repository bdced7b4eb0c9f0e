# SPDX-License-Identifier: Apache-2.0
bin_PROGRAMS += vmctl
vmctl_SOURCES = \
	cli/attach.c cli/cli.h cli/common.c cli/main.c cli/nets.c cli/options.c cli/signals.c cli/tty.c cli/vmconfig.c \
	cli/verb_console.c cli/verb_create.c cli/verb_delete.c cli/verb_doctor.c cli/verb_events.c \
	cli/verb_balloon.c cli/verb_help.c cli/verb_info.c cli/verb_kill.c cli/verb_list.c cli/verb_mem.c cli/verb_pause.c \
	cli/plug.c cli/verb_disk.c cli/verb_net.c cli/verb_reset.c cli/verb_resume.c cli/verb_rpc.c cli/verb_run.c cli/verb_start.c \
	cli/verb_stop.c cli/verb_version.c cli/verb_vhost.c cli/verb_wait.c
vmctl_CPPFLAGS = $(AM_CPPFLAGS) $(JSONC_CFLAGS)
vmctl_LDADD = libprotocol.la libcommon.la $(JSONC_LIBS) -lm

dist_man_MANS += docs/vmctl.1
completionsdir = $(datadir)/bash-completion/completions
dist_completions_DATA = cli/vmctl.bash
