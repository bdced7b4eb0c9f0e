/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/files.h"
#include "daemon/vhostconf.h"
#include "daemon/vsock.h"
#include "protocol/schema.h"
#include "protocol/unix.h"

char *launch_path(const struct vm *vm, const char *file)
{
	char *path;

	return asprintf(&path, "%s/vm/%s%s%s", vm->daemon->options.runtime_dir, vm->name,
			*file ? "/" : "", file) < 0 ? NULL : path;
}

void launch_close(struct launch *l)
{
	int *fds[] = { &l->config, &l->control, &l->console, &l->status };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

static json_object *formats_json(json_object *backing)
{
	json_object *list = json_object_new_array();
	size_t n = backing ? json_object_array_length(backing) : 0;

	for (size_t i = 0; list && i < n; i++)
		json_object_array_add(list, json_object_new_string(json_get_str(
			json_object_array_get_idx(backing, i), "format", "raw")));
	return list;
}

json_object *launch_disk_json(json_object *disk)
{
	json_object *out = json_object_new_object();

	json_add_str(out, "id", json_get_str(disk, "id", ""));
	json_add_bool(out, "readonly", json_get_bool(disk, "readonly", false));
	json_add_str(out, "serial", json_get_str(disk, "serial", ""));
	json_add_str(out, "format", json_get_str(disk, "format", "raw"));
	json_add(out, "backing", formats_json(json_get(disk, "backing")));
	json_add_int(out, "queues", json_get_int(disk, "queues", 0));
	json_add_bool(out, "threads", strcmp(json_get_str(disk, "io", "auto"), "threads") == 0);
	json_add_int(out, "bytes", (int64_t)json_get_size(disk, "bytes_per_second", 0));
	json_add_int(out, "ops", json_get_int(disk, "ops_per_second", 0));
	return out;
}

static json_object *disks_json(json_object *disks)
{
	json_object *list = json_object_new_array();
	size_t n = disks ? json_object_array_length(disks) : 0;

	for (size_t i = 0; list && i < n; i++)
		json_object_array_add(list, launch_disk_json(json_object_array_get_idx(disks, i)));
	return list;
}

static json_object *limits_json(json_object *net)
{
	json_object *limits = json_object_new_object();

	for (size_t i = 0; i < NETCONF_LIMITS; i++)
		json_add_int(limits, netconf_limits[i],
			     (int64_t)json_get_size(net, netconf_limits[i], 0));
	return limits;
}

json_object *launch_net_json(json_object *net, const struct net_ends *ends)
{
	static const char *const kinds[] = { [NETCONF_USER] = "packet", [NETCONF_TAP] = "tap",
					     [NETCONF_STREAM] = "stream" };
	json_object *out = json_object_new_object();
	char mac[18];

	netconf_mac_text(ends->mac, mac);
	json_add_str(out, "id", json_get_str(net, "id", ""));
	json_add_str(out, "kind", kinds[ends->kind]);
	json_add_str(out, "mac", mac);
	json_add_int(out, "mtu", ends->mtu);
	json_add_int(out, "fds", ends->fd_count);
	json_add_int(out, "vhosts", ends->vhost_count);
	json_add_bool(out, "vhost_must", ends->vhost_must);
	json_add(out, "limits", limits_json(net));
	return out;
}

static json_object *nets_config(const struct vm *vm, const struct config_files *files)
{
	json_object *list = json_object_new_array(), *made, *nets = netconf_list(vm->config, &made);

	for (size_t i = 0; list && i < files->net_count; i++)
		json_object_array_add(list, launch_net_json(json_object_array_get_idx(nets, i),
							    &files->nets[i]));
	json_object_put(made);
	return list;
}

/* Where the machine finds what was handed over: the numbers that launch_spawn() gives. */
static json_object *handed_json(const struct config_files *files)
{
	json_object *list = json_object_new_array();
	int fd = MACHINE_FD_FILES + 1 + (files->initrd >= 0) + (int)files->disk_files;

	for (size_t i = 0; i < files->net_count; i++)
		fd += (int)files->nets[i].fd_count;
	for (size_t i = 0; list && i < files->handed_count; i++) {
		json_object *one = json_object_new_object();

		json_add_str(one, "kind", files->handed[i].kind);
		json_add_int(one, "index", (int64_t)files->handed[i].index);
		json_add_int(one, "fd", fd++);
		json_object_array_add(list, one);
	}
	return list;
}

static json_object *ports_json(json_object *ports)
{
	json_object *list = json_object_new_array();
	size_t n = ports ? json_object_array_length(ports) : 0;

	for (size_t i = 0; list && i < n; i++) {
		json_object *one = json_object_new_object();

		json_add_str(one, "name",
			     json_get_str(json_object_array_get_idx(ports, i), "name", ""));
		json_object_array_add(list, one);
	}
	return list;
}

static json_object *shares_json(json_object *shares)
{
	json_object *list = json_object_new_array();
	size_t n = shares ? json_object_array_length(shares) : 0;

	for (size_t i = 0; list && i < n; i++) {
		json_object *share = json_object_array_get_idx(shares, i), *out;

		if (vhostconf_is_virtiofs(share)) /* among the vhosts */
			continue;
		out = json_object_new_object();
		json_add_bool(out, "readonly", json_get_bool(share, "readonly", false));
		json_add_str(out, "tag", json_get_str(share, "tag", ""));
		json_object_array_add(list, out);
	}
	return list;
}

static json_object *mem_json(json_object *mem)
{
	json_object *out = json_object_new_object();

	json_add_int(out, "size", (int64_t)json_get_size(mem, "size", 0));
	json_add_int(out, "requested", (int64_t)json_get_size(mem, "requested", 0));
	json_add_int(out, "block", (int64_t)json_get_size(mem, "block", CONFIG_MEM_BLOCK_DEFAULT));
	return out;
}

static json_object *tsc_json(const struct tsc_sample *sample)
{
	json_object *out = json_object_new_object();

	json_add_int(out, "tsc", (int64_t)sample->tsc);
	json_add_int(out, "raw_ns", (int64_t)sample->raw_ns);
	json_add_int(out, "suspended_ns", (int64_t)sample->suspended_ns);
	return out;
}

/* No paths: the machine has no use for them. */
static json_object *machine_config(const struct vm *vm, const struct config_files *files)
{
	json_object *config = json_object_new_object();

	json_add_str(config, "name", vm->name);
	json_add_int(config, "memory", (int64_t)vm_memory(vm));
	json_add_int(config, "cpus", json_get_int(vm->config, "cpus", 1));
	json_add_str(config, "engine", vm->engine);
	json_add_str(config, "engine_reason", vm->engine_reason); /* told again to a new daemon */
	json_add_str(config, "cmdline", json_get_str(vm->config, "cmdline", ""));
	json_add_bool(config, "console",
		      strcmp(json_get_str(vm->config, "console", "serial"), "none") != 0);
	json_add(config, "mem", mem_json(json_get(vm->config, "mem")));
	if (json_get(vm->config, "vsock"))
		json_add_int(config, "vsock_cid", vsock_cid(vm->config));
	json_add_bool(config, "balloon", json_get_bool(vm->config, "balloon", false));
	json_add_bool(config, "console_virtio",
		      strcmp(json_get_str(vm->config, "console", "serial"), "virtio") == 0);
	json_add(config, "ports", ports_json(json_get(vm->config, "ports")));
	json_add(config, "handed", handed_json(files));
	json_add_bool(config, "reboot_stops",
		      strcmp(json_get_str(vm->config, "on_reboot", "restart"), "stop") == 0);
	json_add_bool(config, "mmio",
		      strcmp(json_get_str(vm->config, "transport", "pci"), "mmio") == 0);
	json_add_bool(config, "packed",
		      strcmp(json_get_str(vm->config, "rings", "split"), "packed") == 0);
	json_add_bool(config, "nested", json_get_bool(vm->config, "nested", false));
	json_add_bool(config, "debug_exit", json_get_bool(vm->config, "debug_exit", false));
	json_add_bool(config, "test_device", json_get_bool(vm->config, "test_device", false));
	json_add_int(config, "code_cache", (int64_t)json_get_size(vm->config, "code_cache", 0));
	json_add(config, "soft_debug", json_object_get(json_get(vm->config, "soft_debug")));
	json_add_bool(config, "initrd", files->initrd >= 0);
	json_add(config, "disks", disks_json(json_get(vm->config, "disks")));
	json_add(config, "nets", nets_config(vm, files));
	json_add_int(config, "disk_files", (int64_t)files->disk_files);
	json_add_bool(config, "sandbox", !vm->daemon->options.no_sandbox);
	json_add(config, "shares", shares_json(json_get(vm->config, "shares")));
	json_add(config, "vhosts", vhostconf_machine_json(vm->config));
	json_add_int(config, "log_level", vm->daemon->options.log_level);
	json_add_int(config, "asked_ns", (int64_t)vm->asked_ns);
	json_add(config, "tsc", tsc_json(&vm->daemon->tsc));
	return config;
}

static int make_config(const struct vm *vm, const struct config_files *files)
{
	json_object *config = machine_config(vm, files);
	const char *text = config ? json_text(config) : NULL;
	int fd = -ENOMEM;

	if (text) {
		fd = memfd_create("vmxd-config", MFD_CLOEXEC);
		if (fd < 0)
			fd = -errno;
		else if (pwrite(fd, text, strlen(text), 0) != (ssize_t)strlen(text)) {
			close(fd);
			fd = -EIO;
		}
	}
	json_object_put(config);
	return fd;
}

static int listen_at(const struct vm *vm, const char *file)
{
	char *path = launch_path(vm, file);
	int fd = path ? unix_listen(path, 0600, 128) : -ENOMEM;

	free(path);
	return fd;
}

static int make_status(const struct vm *vm)
{
	char *path = launch_path(vm, "status.json");
	int fd = path ? open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;

	if (fd < 0)
		fd = path ? -errno : -ENOMEM;
	free(path);
	return fd;
}

int launch_prepare(const struct vm *vm, const struct config_files *files, struct launch *l,
		   struct rpc_error *error)
{
	char *dir = launch_path(vm, "");
	const char *what = "its directory";
	int r = dir ? files_mkdir(dir, 0700) : -ENOMEM;

	*l = (struct launch){ -1, -1, -1, -1 };
	if (r >= 0) {
		what = "its configuration";
		r = l->config = make_config(vm, files);
	}
	if (r >= 0) {
		what = "its control socket";
		r = l->control = listen_at(vm, "control.sock");
	}
	if (r >= 0) {
		what = "its console socket";
		r = l->console = listen_at(vm, "console.sock");
	}
	if (r >= 0) {
		what = "its status file";
		r = l->status = make_status(vm);
	}
	if (r < 0) {
		rpc_fail(error, RPC_FAILED, NULL, NULL, "%s could not start: %s in %s: %s",
			 vm->name, what, dir ? dir : "?", strerror(-r));
		error->err = -r;
		launch_close(l);
	}
	free(dir);
	return r < 0 ? -EINVAL : 0;
}

int launch_spawn(const struct vm *vm, const struct launch *l, const struct config_files *files,
		 uv_process_t *process, uv_exit_cb on_exit)
{
	uv_stdio_container_t io[MACHINE_FD_FILES + 2 + CONFIG_DISK_FILES_MAX + NETS_MAX * NET_FDS_MAX +
				CONFIG_HANDED_MAX];
	char *args[] = { (char *)(uintptr_t)"vmxd-machine", (char *)(uintptr_t)vm->name, NULL };
	char *env[] = { NULL }; /* nothing of the daemon's surroundings is the guest process's affair */
	uv_process_options_t options = {
		.exit_cb = on_exit,
		.file = vm->daemon->options.machine,
		.args = args,
		.env = env,
		.cwd = "/",
		.flags = UV_PROCESS_DETACHED, /* a session of its own: it outlives the daemon */
		.stdio = io,
	};
	int fds[sizeof(io) / sizeof(io[0])] = { -1, -1, 2, l->config, l->control, l->console,
						l->status, files->kernel };
	int n = MACHINE_FD_FILES + 1;

	if (files->initrd >= 0)
		fds[n++] = files->initrd;
	for (size_t i = 0; i < files->disk_files; i++)
		fds[n++] = files->disks[i];
	for (size_t i = 0; i < files->net_count; i++)
		for (unsigned k = 0; k < files->nets[i].fd_count; k++)
			fds[n++] = files->nets[i].fds[k];
	for (size_t i = 0; i < files->handed_count; i++)
		fds[n++] = files->handed[i].fd;
	for (int i = 0; i < n; i++) {
		io[i].flags = fds[i] < 0 ? UV_IGNORE : UV_INHERIT_FD;
		io[i].data.fd = fds[i];
	}
	options.stdio_count = n;
	return uv_spawn(vm->daemon->loop, process, &options);
}

void launch_write_pid(const struct vm *vm, pid_t pid)
{
	char *path = launch_path(vm, "pid"), text[64];

	snprintf(text, sizeof(text), "%d %llu\n", (int)pid, files_process_start(pid));
	if (!path || files_write(path, text, strlen(text), false) < 0)
		log_line(vm->daemon->log, LOG_LEVEL_WARNING, "vm %s: no pid file", vm->name);
	free(path);
}

pid_t launch_read_pid(const struct vm *vm)
{
	char *path = launch_path(vm, "pid"), *text = NULL;
	unsigned long long start;
	int pid = 0;

	if (path && files_read(path, 64, &text, NULL) == 0 &&
	    (sscanf(text, "%d %llu", &pid, &start) != 2 || pid <= 1 ||
	     files_process_start(pid) != start))
		pid = 0;
	free(text);
	free(path);
	return pid;
}
