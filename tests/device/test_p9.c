/* SPDX-License-Identifier: Apache-2.0 */
/* The 9P server on a directory of its own, spoken to by hand: what it does, and what it refuses. */
#include <config.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/checked.h"
#include "tests/device/p9client.h"

enum { LOPEN = 12, LCREATE = 14, SYMLINK = 16, MKNOD = 18, RENAME = 20, READLINK = 22, GETATTR = 24,
       SETATTR = 26, XATTRWALK = 30, XATTRCREATE = 32, READDIR = 40, FSYNC = 50, LOCK = 52,
       GETLOCK = 54, LINK = 70, MKDIR = 72, RENAMEAT = 74, UNLINKAT = 76, HELLO = 100,
       ATTACH = 104, FLUSH = 108, WALK = 110, READ = 116, WRITE = 118, CLUNK = 120, REMOVE = 122 };

static struct p9c c;
static char top[64], dir[96];
static unsigned passed, failed;
static int proc_fd;

#define IS(got, wanted) is(__LINE__, #got, (long)(got), (long)(wanted))
static void is(int line, const char *what, long got, long wanted)
{
	if (got == wanted) {
		passed++;
		return;
	}
	failed++;
	printf("FAIL line %d: %s is %ld, not %ld\n", line, what, got, wanted);
}

static const char *path(const char *name)
{
	static char text[256];

	snprintf(text, sizeof(text), "%s/%s", dir, name);
	return text;
}

static void put_file(const char *name, const char *bytes)
{
	FILE *f = fopen(path(name), "w");

	fputs(bytes, f);
	fclose(f);
}

static void serve(bool readonly, uint32_t fds)
{
	struct p9_options options = { .proc_fd = proc_fd, .readonly = readonly, .fds_max = fds };

	options.dir_fd = open(dir, O_RDONLY | O_DIRECTORY);
	p9_destroy(c.p9);
	IS(p9_create(&options, &c.p9), 0);
	IS(p9c_call(&c, HELLO, "ds", 32768, "9P2000.L"), 0);
	IS(p9c_call(&c, ATTACH, "ddssd", 0, -1, "", "", 0), 0);
}

static int walk(unsigned from, unsigned to, const char *name)
{
	return p9c_call(&c, WALK, "ddws", from, to, 1, name);
}

static int count_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void files(void)
{
	struct stat st;

	serve(false, 100);
	IS(p9c_call(&c, WALK, "ddw", 0, 1, 0), 0);
	IS(p9c_call(&c, LCREATE, "dsddd", 1, "f", O_RDWR, 0644, 0), 0);
	IS(stat(path("f"), &st) == 0 ? st.st_mode & 07777 : 0, 0644);
	p9c_begin(&c, WRITE, "dqd", 1, (uint64_t)3, 5);
	p9c_put_bytes(&c, "hello", 5);
	IS(p9c_send(&c), 0);
	IS(get_le32(c.reply + 7), 5);
	IS(p9c_call(&c, READ, "dqd", 1, (uint64_t)0, 100), 0);
	IS(get_le32(c.reply + 7), 8);
	IS(memcmp(c.reply + 11, "\0\0\0hello", 8), 0);
	IS(p9c_call(&c, FSYNC, "dd", 1, 0), 0);
	IS(p9c_call(&c, SETATTR, "dddddqqqqq", 1, 8, 0, 0, 0, (uint64_t)4, (uint64_t)0, (uint64_t)0,
		    (uint64_t)0, (uint64_t)0), 0);
	IS(stat(path("f"), &st) == 0 ? st.st_size : -1, 4);
	IS(p9c_call(&c, SETATTR, "dddddqqqqq", 1, 1, 04755, 0, 0, (uint64_t)4, (uint64_t)0,
		    (uint64_t)0, (uint64_t)0, (uint64_t)0), 0);
	IS(stat(path("f"), &st) == 0 ? st.st_mode & 07777 : 0, 0755); /* no set-user-ID */
	IS(p9c_call(&c, GETATTR, "dq", 1, (uint64_t)-1), 0);
	IS(get_le32(c.reply + 7 + 8 + 13), S_IFREG | 0755);
	IS(p9c_call(&c, LOCK, "dbdqqds", 1, 1, 0, (uint64_t)0, (uint64_t)0, 1, "x"), 0);
	IS(c.reply[7], 0);
	IS(walk(0, 2, "f"), 0);
	IS(p9c_call(&c, LOPEN, "dd", 2, O_RDWR), 0);
	IS(p9c_call(&c, LOCK, "dbdqqds", 2, 1, 0, (uint64_t)0, (uint64_t)0, 2, "x"), 0);
	IS(c.reply[7], 1); /* blocked */
	IS(p9c_call(&c, GETLOCK, "dbqqds", 2, 1, (uint64_t)0, (uint64_t)0, 2, "x"), 0);
	IS(c.reply[7], 1);
	IS(p9c_call(&c, LINK, "dds", 0, 2, "g"), 0);
	IS(p9c_call(&c, MKDIR, "dsdd", 0, "d", 0750, 0), 0);
	IS(walk(0, 3, "d"), 0);
	IS(p9c_call(&c, RENAMEAT, "dsds", 0, "g", 3, "h"), 0);
	IS(stat(path("d/h"), &st), 0);
	IS(p9c_call(&c, UNLINKAT, "dsd", 0, "d", 0x200), ENOTEMPTY);
	IS(p9c_call(&c, UNLINKAT, "dsd", 3, "h", 0), 0);
	IS(p9c_call(&c, UNLINKAT, "dsd", 0, "d", 0x200), 0);
	IS(p9c_call(&c, READ, "dqd", 2, (uint64_t)0, 100), 0); /* by what was opened */
	IS(p9c_call(&c, REMOVE, "d", 1), 0);
	IS(p9c_call(&c, CLUNK, "d", 1), EBADF);
	IS(p9c_call(&c, CLUNK, "d", 2), 0);
	IS(access(path("f"), F_OK), -1);
	IS(p9c_call(&c, FLUSH, "w", 77), 0);
}

static void directories(void)
{
	unsigned names = 0;
	uint64_t offset = 0;
	uint32_t n;

	for (int i = 0; i < 500; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%03d", i);
		put_file(name, "");
	}
	serve(false, 100);
	IS(p9c_call(&c, WALK, "ddw", 0, 1, 0), 0);
	IS(p9c_call(&c, LOPEN, "dd", 1, O_RDONLY), 0);
	do {
		IS(p9c_call(&c, READDIR, "dqd", 1, offset, 1000), 0);
		n = get_le32(c.reply + 7);
		for (uint32_t at = 11; at < 11 + n; at += 24u + get_le16(c.reply + at + 22)) {
			offset = get_le64(c.reply + at + 13);
			names++;
		}
	} while (n && names < 1000);
	IS(names, 502);
	IS(p9c_call(&c, READDIR, "dqd", 1, (uint64_t)0, 10), EINVAL); /* not even one */
	IS(p9c_call(&c, READ, "dqd", 1, (uint64_t)0, 10), EBADF);
	for (int i = 0; i < 500; i++) {
		char name[16];

		snprintf(name, sizeof(name), "n%03d", i);
		unlink(path(name));
	}
}

static void attributes(void)
{
	char value[8];

	put_file("x", "");
	serve(false, 100);
	IS(walk(0, 1, "x"), 0);
	IS(p9c_call(&c, XATTRCREATE, "dsqd", 1, "security.x", (uint64_t)1, 0), EOPNOTSUPP);
	IS(p9c_call(&c, XATTRCREATE, "dsqd", 1, "user.x", (uint64_t)1 << 40, 0), E2BIG);
	IS(p9c_call(&c, XATTRCREATE, "dsqd", 1, "user.x", (uint64_t)3, 0), 0);
	p9c_begin(&c, WRITE, "dqd", 1, (uint64_t)0, 4);
	p9c_put_bytes(&c, "abcd", 4);
	IS(p9c_send(&c), ENOSPC);
	p9c_begin(&c, WRITE, "dqd", 1, (uint64_t)0, 3);
	p9c_put_bytes(&c, "abc", 3);
	IS(p9c_send(&c), 0);
	if (p9c_call(&c, CLUNK, "d", 1) == EOPNOTSUPP) {
		puts("no extended attributes on this file system: not looked at");
		return;
	}
	IS(getxattr(path("x"), "user.x", value, sizeof(value)), 3);
	IS(walk(0, 1, "x"), 0);
	IS(p9c_call(&c, XATTRWALK, "dds", 1, 2, "user.x"), 0);
	IS(get_le64(c.reply + 7), 3);
	IS(p9c_call(&c, READ, "dqd", 2, (uint64_t)1, 100), 0);
	IS(memcmp(c.reply + 11, "bc", 2), 0);
	IS(p9c_call(&c, XATTRWALK, "dds", 1, 3, ""), 0);
	IS(get_le64(c.reply + 7), 7); /* "user.x" and its end */
	IS(p9c_call(&c, XATTRWALK, "dds", 1, 4, "trusted.x"), EOPNOTSUPP);
}

static void readonly(void)
{
	put_file("r", "text");
	serve(true, 100);
	IS(walk(0, 1, "r"), 0);
	IS(p9c_call(&c, LOPEN, "dd", 1, O_RDWR), EROFS);
	IS(p9c_call(&c, LOPEN, "dd", 1, O_WRONLY), EROFS);
	IS(p9c_call(&c, LOPEN, "dd", 1, O_TRUNC), EROFS);
	IS(p9c_call(&c, LOPEN, "dd", 1, O_RDONLY), 0);
	p9c_begin(&c, WRITE, "dqd", 1, (uint64_t)0, 1);
	p9c_put(&c, 1, 'x');
	IS(p9c_send(&c), EROFS);
	IS(p9c_call(&c, LCREATE, "dsddd", 0, "n", O_RDWR, 0644, 0), EROFS);
	IS(p9c_call(&c, SYMLINK, "dssd", 0, "n", "t", 0), EROFS);
	IS(p9c_call(&c, MKNOD, "dsdddd", 0, "n", S_IFREG, 0, 0, 0), EROFS);
	IS(p9c_call(&c, MKDIR, "dsdd", 0, "n", 0700, 0), EROFS);
	IS(p9c_call(&c, LINK, "dds", 0, 1, "n"), EROFS);
	IS(p9c_call(&c, RENAME, "dds", 1, 0, "n"), EROFS);
	IS(p9c_call(&c, RENAMEAT, "dsds", 0, "r", 0, "n"), EROFS);
	IS(p9c_call(&c, UNLINKAT, "dsd", 0, "r", 0), EROFS);
	IS(p9c_call(&c, SETATTR, "dddddqqqqq", 1, 8, 0, 0, 0, (uint64_t)0, (uint64_t)0, (uint64_t)0,
		    (uint64_t)0, (uint64_t)0), EROFS);
	IS(p9c_call(&c, XATTRCREATE, "dsqd", 1, "user.x", (uint64_t)1, 0), EROFS);
	IS(p9c_call(&c, REMOVE, "d", 1), EROFS);
	IS(access(path("r"), F_OK), 0);
	unlink(path("r"));
}

/* --- escapes ---------------------------------------------------------------------------------- */

static void escapes(void)
{
	uint8_t root[13];
	char link[160];

	snprintf(link, sizeof(link), "%s/secret", top);
	IS(symlink(link, path("abs")), 0);
	IS(symlink("../secret", path("rel")), 0);
	IS(symlink("..", path("up")), 0);
	IS(symlink("/proc/self/fd", path("fds")), 0);
	IS(mkfifo(path("fifo"), 0600), 0);
	mkdir(path("in"), 0700);
	serve(false, 100);
	IS(p9c_call(&c, GETATTR, "dq", 0, (uint64_t)-1), 0);
	memcpy(root, c.reply + 15, 13);
	IS(walk(0, 1, ".."), 0); /* stays */
	IS(memcmp(c.reply + 9, root, 13), 0);
	IS(p9c_call(&c, WALK, "ddwsss", 0, 2, 3, "in", "..", ".."), 0);
	IS(memcmp(c.reply + 9 + 26, root, 13), 0);
	IS(walk(0, 3, "../secret"), EINVAL);
	IS(walk(0, 3, "in/.."), EINVAL);
	IS(walk(0, 3, "/etc"), EINVAL);
	IS(walk(0, 3, ""), ENOENT);
	IS(walk(0, 3, "."), ENOENT);
	for (unsigned i = 0; i < 2; i++) {
		const char *name = i ? "rel" : "abs";

		IS(walk(0, 3 + i, name), 0); /* the link itself */
		IS(p9c_call(&c, LOPEN, "dd", 3 + i, O_RDONLY), ELOOP);
		IS(p9c_call(&c, READLINK, "d", 3 + i), 0);
		IS(p9c_call(&c, SETATTR, "dddddqqqqq", 3 + i, 1, 0777, 0, 0, (uint64_t)0,
			    (uint64_t)0, (uint64_t)0, (uint64_t)0, (uint64_t)0), EOPNOTSUPP);
		IS(p9c_call(&c, WALK, "ddw", 0, 10, 0), 0);
		IS(p9c_call(&c, LCREATE, "dsddd", 10, name, O_RDWR, 0600, 0), ELOOP);
		IS(p9c_call(&c, CLUNK, "d", 10), 0);
	}
	IS(p9c_call(&c, WALK, "ddwss", 0, 5, 2, "up", "secret"), 0);
	IS(get_le16(c.reply + 7), 1); /* one name only, so no fid 5 */
	IS(p9c_call(&c, GETATTR, "dq", 5, (uint64_t)-1), EBADF);
	IS(walk(0, 6, "up"), 0);
	IS(p9c_call(&c, LCREATE, "dsddd", 6, "made", O_RDWR, 0600, 0), ENOTDIR);
	IS(p9c_call(&c, RENAMEAT, "dsds", 0, "in", 6, "out"), ENOTDIR);
	IS(p9c_call(&c, RENAMEAT, "dsds", 0, "in", 0, "../out"), EINVAL);
	IS(p9c_call(&c, MKDIR, "dsdd", 0, "..", 0700, 0), EINVAL);
	IS(p9c_call(&c, UNLINKAT, "dsd", 0, "../secret", 0), EINVAL);
	IS(p9c_call(&c, MKNOD, "dsdddd", 0, "null", S_IFCHR | 0666, 1, 3, 0), EPERM);
	IS(p9c_call(&c, MKNOD, "dsdddd", 0, "disk", S_IFBLK | 0666, 8, 0, 0), EPERM);
	IS(walk(0, 7, "fifo"), 0);
	IS(p9c_call(&c, LOPEN, "dd", 7, O_RDONLY), EOPNOTSUPP);
	IS(p9c_call(&c, WALK, "ddw", 0, 10, 0), 0);
	IS(p9c_call(&c, LCREATE, "dsddd", 10, "fifo", O_RDONLY, 0600, 0), EOPNOTSUPP);
	IS(p9c_call(&c, ATTACH, "ddssd", 20, -1, "", "/..", 0), ENOENT);
}

static atomic_bool stop;

/* Swaps a directory for a link that leads outside, all the time. */
static void *swap(void *opaque)
{
	char a[160], b[160], s[160];

	(void)opaque;
	snprintf(a, sizeof(a), "%s/race", dir);
	snprintf(b, sizeof(b), "%s/race2", dir);
	snprintf(s, sizeof(s), "%s/race3", dir);
	while (!atomic_load(&stop)) {
		(void)rename(a, b);
		(void)rename(s, a);
		(void)rename(a, s);
		(void)rename(b, a);
	}
	return NULL;
}

static void races(void)
{
	unsigned inside = 0, outside = 0;
	pthread_t thread;
	char text[160];

	mkdir(path("race"), 0700);
	put_file("race/secret", "inside");
	snprintf(text, sizeof(text), "%s", top);
	IS(symlink(text, path("race3")), 0);
	serve(false, 100);
	pthread_create(&thread, NULL, swap, NULL);
	for (unsigned i = 0; i < 20000; i++) {
		if (p9c_call(&c, WALK, "ddwss", 0, 1, 2, "race", "secret") ||
		    get_le16(c.reply + 7) != 2)
			continue;
		if (p9c_call(&c, LOPEN, "dd", 1, O_RDONLY) == 0 &&
		    p9c_call(&c, READ, "dqd", 1, (uint64_t)0, 100) == 0) {
			inside += !memcmp(c.reply + 11, "inside", 6);
			outside += !memcmp(c.reply + 11, "outside", 7);
		}
		p9c_call(&c, CLUNK, "d", 1);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	IS(outside, 0);
	IS(inside > 0, 1);
}

/* --- limits and nonsense ---------------------------------------------------------------------- */

static void limits(void)
{
	unsigned n = 0;
	int before;

	put_file("many", "");
	serve(false, 20);
	before = count_fds();
	while (n < 100 && walk(0, 100 + n, "many") == 0)
		n++;
	IS(n, 19); /* and the root's */
	IS(walk(0, 300, "many"), EMFILE);
	IS(p9c_call(&c, LOPEN, "dd", 100, O_RDONLY), EMFILE);
	IS(p9c_call(&c, CLUNK, "d", 101), 0);
	IS(p9c_call(&c, LOPEN, "dd", 100, O_RDONLY), 0);
	IS(walk(0, 100, "many"), EMFILE);
	p9_reset(c.p9);
	IS(count_fds(), before);
	IS(p9c_call(&c, GETATTR, "dq", 0, (uint64_t)-1), EPROTO); /* no version yet */
}

static void nonsense(void)
{
	serve(false, 100);
	IS(p9c_call(&c, 200, ""), EOPNOTSUPP);
	IS(p9c_call(&c, 7, ""), EOPNOTSUPP);
	IS(p9c_call(&c, GETATTR, "d", 0), EPROTO);
	IS(p9c_call(&c, GETATTR, "dq", 9, (uint64_t)0), EBADF);
	IS(p9c_call(&c, WALK, "ddw", 0, 0xffffffff, 0), EBADF);
	IS(p9c_call(&c, WALK, "ddw", 0, 1, 17), EPROTO);
	IS(p9c_call(&c, WALK, "ddww", 0, 1, 1, 60000), EPROTO);
	IS(p9c_call(&c, ATTACH, "ddssd", 0, -1, "", "", 0), EBADF); /* there is one */
	IS(p9c_call(&c, ATTACH, "ddssd", 5, 4, "", "", 0), EINVAL);
	p9c_begin(&c, WALK, "ddww", 0, 1, 1, 3);
	p9c_put_bytes(&c, "a\0b", 3);
	IS(p9c_send(&c), EINVAL);
	put_file("w", "");
	IS(walk(0, 1, "w"), 0);
	IS(p9c_call(&c, LOPEN, "dd", 1, O_RDWR), 0);
	IS(p9c_call(&c, LOPEN, "dd", 1, O_RDWR), EBUSY);
	IS(p9c_call(&c, WRITE, "dqd", 1, (uint64_t)0, 4000000), EPROTO);
	IS(p9c_call(&c, READ, "dqd", 1, UINT64_MAX, 10), EINVAL);
	IS(p9c_call(&c, SETATTR, "dddddqqqqq", 1, 8, 0, 0, 0, UINT64_MAX, (uint64_t)0, (uint64_t)0,
		    (uint64_t)0, (uint64_t)0), EFBIG);
	IS(p9c_call(&c, LOCK, "dbdqqds", 1, 9, 0, (uint64_t)0, (uint64_t)0, 1, ""), EINVAL);
	IS(p9c_call(&c, HELLO, "ds", 100, "9P2000.L"), EMSGSIZE);
	IS(p9c_call(&c, HELLO, "ds", 8192, "9P2000.u"), 0);
	IS(memcmp(c.reply + 13, "unknown", 7), 0);
	c.io = (struct p9_io){ &p9c_ops, 6, 100 };
	IS(p9_serve(c.p9, &c.io), -EPROTO);
	c.io = (struct p9_io){ &p9c_ops, 100, 10 };
	IS(p9_serve(c.p9, &c.io), -EPROTO);
}

static int remove_one(const char *name, const struct stat *st, int flag, struct FTW *ftw)
{
	(void)st, (void)flag, (void)ftw;
	return remove(name);
}

int main(void)
{
	void (*const cases[])(void) = { files, directories, attributes, readonly, escapes, races,
					limits, nonsense };
	FILE *f;
	int fds;

	snprintf(top, sizeof(top), "%s/vmxd-p9-XXXXXX", "/tmp");
	if (!mkdtemp(top))
		return 99;
	snprintf(dir, sizeof(dir), "%s/share", top);
	mkdir(dir, 0700);
	snprintf((char *)c.reply, 200, "%s/secret", top);
	f = fopen((char *)c.reply, "w");
	fputs("outside", f);
	fclose(f);
	umask(0077); /* as of vmxd-machine */
	proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY);
	fds = count_fds();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		cases[i]();
	c.p9 = p9_destroy(c.p9);
	IS(count_fds(), fds);
	nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	printf("%u passed, %u failed, 0 skipped\n", passed, failed);
	return failed != 0;
}
