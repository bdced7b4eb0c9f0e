/* SPDX-License-Identifier: Apache-2.0 */
#include <config.h>

#include "daemon/host.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/checked.h"
#include "daemon/netconf.h"

#define HUGE_BYTES (2u << 20)
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25 /* Linux 6.1 */
#endif

struct finding {
	bool usable;
	char why[200], advice[240];
};

static void found(struct finding *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void found(struct finding *f, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->why, sizeof(f->why), fmt, ap);
	va_end(ap);
	f->usable = true;
}

static void lacks(struct finding *f, const char *advice, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void lacks(struct finding *f, const char *advice, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(f->why, sizeof(f->why), fmt, ap);
	va_end(ap);
	snprintf(f->advice, sizeof(f->advice), "%s", advice);
}

/* --- devices -------------------------------------------------------------------------------------- */

/* Opens it as a VM's start would. */
static bool opens(struct finding *f, const char *path, const char *if_absent, const char *if_denied)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK), err = errno;

	if (fd >= 0) {
		close(fd);
		return true;
	}
	lacks(f, err == EACCES || err == EPERM ? if_denied : if_absent, "%s: %s", path, strerror(err));
	return false;
}

static bool may_make_taps(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

	return syscall(SYS_capget, &header, data) == 0 &&
	       data[CAP_TO_INDEX(CAP_NET_ADMIN)].effective & CAP_TO_MASK(CAP_NET_ADMIN);
}

static void find_tap(struct finding *f)
{
	if (!opens(f, NET_TUN_PATH, "load the module tun; networks of kind user and stream need none",
		   "let vmxd's user open it; networks of kind user and stream need none"))
		return;
	if (may_make_taps()) {
		found(f, "taps can be used, and made");
		return;
	}
	found(f, "taps can be used that were made for this user");
	snprintf(f->advice, sizeof(f->advice), "'ip tuntap add dev NAME mode tap user USER' makes one; "
		 "root's vmxd makes its own");
}

static void find_vhost_net(struct finding *f)
{
	if (opens(f, NET_VHOST_PATH, "load the module vhost_net; without it the VM's process moves a tap's "
				     "packets",
		  "let vmxd's user open it, on Debian by the group kvm; without it the VM's process moves a "
		  "tap's packets"))
		found(f, "the kernel can move the packets of taps");
}

/* --- programs ------------------------------------------------------------------------------------- */

const char *host_virtiofsd(void)
{
	static const char *const paths[] = { "/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd" };

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (access(paths[i], X_OK) == 0)
			return paths[i];
	return NULL;
}

static void find_virtiofsd(struct finding *f)
{
	const char *path = host_virtiofsd();

	if (path)
		found(f, "%s serves shares of driver virtiofs", path);
	else
		lacks(f, "install the package virtiofsd (Debian 12: qemu-system-common); shares of driver 9p "
			 "need none", "it is not installed");
}

/* Nothing starts it but who wants it: whether it is there is all there is to say. */
static void find_passt(struct finding *f)
{
	const char *path = getenv("PATH");
	char file[PATH_MAX];

	while (path && *path) {
		size_t n = strcspn(path, ":");

		snprintf(file, sizeof(file), "%.*s/passt", (int)(n < PATH_MAX ? n : 0), path);
		if (n && access(file, X_OK) == 0) {
			found(f, "%.160s: networks of kind stream", file);
			return;
		}
		path += n + (path[n] == ':');
	}
	lacks(f, "install the package passt if networks of kind stream are to lead out by it",
	      "it is not installed");
}

/* --- the kernel ----------------------------------------------------------------------------------- */

static void find_io_uring(struct finding *f)
{
	/* As devices/backend/uring.c makes one. */
	struct io_uring_params params = { .flags = IORING_SETUP_R_DISABLED };
	int fd = (int)syscall(SYS_io_uring_setup, 1, &params), err = errno;

	if (fd >= 0) {
		close(fd);
		found(f, "disks use it");
		return;
	}
	lacks(f, err == EPERM ? "sysctl kernel.io_uring_disabled=0, or leave out the filter of the container; without it "
				"threads do the work of disks"
			      : "without it threads do the work of disks",
	      "io_uring_setup: %s", strerror(err));
}

/* The word in brackets of a file of sysfs: "always [never]". Empty: there is no such file. */
static void chosen(const char *path, char *word, size_t size)
{
	char text[128];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
	char *start;

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	start = strchr(text, '[');
	snprintf(word, size, "%.*s", start ? (int)strcspn(start + 1, "]") : 0, start ? start + 1 : "");
}

/* Guest memory is shared memory: 0, or why the kernel cannot make a huge page of it when asked. */
static int collapse(void)
{
	int fd = memfd_create("probe", MFD_CLOEXEC), r = fd < 0 ? -errno : 0;
	uint8_t *map = MAP_FAILED, *page;

	if (r == 0 && ftruncate(fd, 2 * HUGE_BYTES) < 0)
		r = -errno;
	if (r == 0)
		map = mmap(NULL, 2 * HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (r == 0 && map == MAP_FAILED)
		r = -errno;
	if (r == 0) {
		/* It lies at a multiple of its size in memory and in the file. */
		page = map + (HUGE_BYTES - (uintptr_t)map % HUGE_BYTES) % HUGE_BYTES;
		if (mmap(page, HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) ==
		    MAP_FAILED)
			r = -errno;
		memset(page, 1, HUGE_BYTES);
		if (r == 0 && madvise(page, HUGE_BYTES, MADV_COLLAPSE) < 0)
			r = -errno;
	}
	if (map != MAP_FAILED)
		munmap(map, 2 * HUGE_BYTES);
	if (fd >= 0)
		close(fd);
	return r;
}

#define THP "/sys/kernel/mm/transparent_hugepage/"

static void find_huge_pages(struct finding *f)
{
	static const char advice[] = "'echo advise >" THP "shmem_enabled' makes guest memory fast where it is "
				     "large";
	char word[20];
	int r;

	chosen(THP "shmem_enabled", word, sizeof(word));
	if (*word && strcmp(word, "never") != 0 && strcmp(word, "deny") != 0) {
		found(f, "shmem_enabled is %s", word);
		return;
	}
	r = collapse();
	if (r == 0) {
		found(f, "shmem_enabled is %s, but the kernel makes huge pages when asked (MADV_COLLAPSE)",
		      *word ? word : "not there");
		return;
	}
	lacks(f, *word ? advice : "this kernel was built without transparent huge pages",
	      "shmem_enabled is %s, and MADV_COLLAPSE: %s", *word ? word : "not there", strerror(-r));
}

json_object *host_facilities(void)
{
	static const struct {
		const char *name;
		void (*find)(struct finding *f);
	} facilities[] = {
		{ "tap", find_tap },
		{ "vhost-net", find_vhost_net },
		{ "passt", find_passt },
		{ "virtiofsd", find_virtiofsd },
		{ "io_uring", find_io_uring },
		{ "huge-pages", find_huge_pages },
	};
	json_object *list = json_object_new_array();

	for (size_t i = 0; list && i < ARRAY_SIZE(facilities); i++) {
		json_object *out = json_object_new_object();
		struct finding f = { 0 };

		facilities[i].find(&f);
		json_add_str(out, "name", facilities[i].name);
		json_add_bool(out, "usable", f.usable);
		json_add_str(out, "why", f.why);
		json_add_str(out, "advice", f.advice);
		json_object_array_add(list, out);
	}
	return list;
}
