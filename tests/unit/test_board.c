/* SPDX-License-Identifier: Apache-2.0 */
/* The board as vmxd-machine sees it: bad configurations, the life cycle, descriptors. */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/checked.h"
#include "common/clock.h"
#include "devices/board.h"
#include "devices/registry.h"
#include "tests/unit/unit.h"

#define MIB (1ull << 20)
#ifndef ENGINE /* a build for sanitizers may ask for the other */
#define ENGINE VMX_ENGINE_SOFT
#endif

/* 32-bit guests, entered by PVH. */
static const uint8_t spins[] = { 0xeb, 0xfe };             /* jmp . */
static const uint8_t halts[] = { 0xf4, 0xeb, 0xfd };       /* hlt; jmp . - 1 */
static const uint8_t powers_off[] = {
	0x66, 0xba, 0x04, 0x06,       /* mov $0x604, %dx */
	0x66, 0xb8, 0x00, 0x34,       /* mov $0x3400, %ax */
	0x66, 0xef, 0xf4, 0xeb, 0xfd, /* out %ax, %dx; hlt; jmp */
};
static const uint8_t resets[] = { 0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe }; /* mov $0xfe, %al; out */

static int kernel(const uint8_t *code, size_t len)
{
	struct {
		Elf32_Ehdr h;
		Elf32_Phdr p[2];
		uint32_t note[5];
		uint8_t code[64];
	} f = { .h = { .e_ident = ELFMAG "\1\1\1",
		       .e_type = ET_EXEC,
		       .e_machine = EM_386,
		       .e_phoff = offsetof(__typeof__(f), p),
		       .e_phentsize = sizeof(Elf32_Phdr),
		       .e_phnum = 2 },
		.p = { { .p_type = PT_LOAD,
			 .p_offset = offsetof(__typeof__(f), code),
			 .p_paddr = 0x100000,
			 .p_filesz = sizeof(f.code),
			 .p_memsz = sizeof(f.code) },
		       { .p_type = PT_NOTE,
			 .p_offset = offsetof(__typeof__(f), note),
			 .p_filesz = sizeof(f.note) } },
		.note = { 4, 4, 18, 0x006e6558, 0x100000 } };
	int fd = memfd_create("kernel", MFD_CLOEXEC);

	memcpy(f.code, code, len);
	CU_ASSERT_FATAL(fd >= 0 && write(fd, &f, sizeof(f)) == sizeof(f));
	return fd;
}

static struct board_config config_for(const uint8_t *code, size_t len)
{
	return (struct board_config){ .memory_bytes = 16 * MIB,
				      .cpus = 1,
				      .engine = ENGINE,
				      .kernel_fd = kernel(code, len),
				      .initrd_fd = -1,
				      .console_fd = -1 };
}

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	CU_ASSERT_FATAL(dir != NULL);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void count_change(void *opaque)
{
	++*(_Atomic unsigned *)opaque;
}

static enum board_state state_of(struct board *board)
{
	struct board_info info;

	board_info(board, &info);
	return info.state;
}

static bool reaches(struct board *board, enum board_state state)
{
	for (int i = 0; i < 30000; i++) {
		if (state_of(board) == state)
			return true;
		usleep(1000);
	}
	return false;
}

/* --- configuration ---------------------------------------------------------------------------- */

static void test_bad_config(void)
{
	struct board_config good = config_for(spins, sizeof(spins)), bad;
	int zeros = memfd_create("zeros", MFD_CLOEXEC);
	int big = memfd_create("initrd", MFD_CLOEXEC);
	struct board *board;
	unsigned before;
	char *error;
	struct {
		const char *begins;
		int result;
		struct board_config config;
	} cases[] = {
		{ "memory: ", -EINVAL, good }, { "memory: ", -EINVAL, good },
		{ "memory: ", -EINVAL, good }, { "cpus: ", -EINVAL, good },
		{ "cpus: ", -EINVAL, good },   { "engine: ", -EINVAL, good },
		{ "kernel: ", -EINVAL, good }, { "disks: ", -EINVAL, good },
		{ "kernel: ", -ENOEXEC, good }, { "initrd: ", -EFBIG, good },
		{ "disks[0]: ", -EBADF, good }, { "cmdline: ", -EINVAL, good },
	};
	char *words = malloc(70000);

	CU_ASSERT_FATAL(words && zeros >= 0 && big >= 0);
	memset(words, 'x', 69999);
	words[69999] = 0;
	CU_ASSERT(ftruncate(zeros, 4096) == 0 && ftruncate(big, 32 << 20) == 0);
	cases[0].config.memory_bytes = 0;
	cases[1].config.memory_bytes = 16 * MIB + 4096;
	cases[2].config.memory_bytes = 1ull << 63;
	cases[3].config.cpus = 0;
	cases[4].config.cpus = 65;
	cases[5].config.engine = VMX_ENGINE_AUTO;
	cases[6].config.kernel_fd = -1;
	cases[7].config.disk_count = BOARD_DISKS_MAX + 1;
	cases[8].config.kernel_fd = zeros;
	cases[9].config.initrd_fd = big;
	cases[10].config.disk_count = 1;
	cases[10].config.disks[0].image = (struct disk_image){ .file[0].fd = 999, .files = 1 };
	cases[11].config.cmdline = words;
	before = open_fds();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		int r = board_create(&cases[i].config, NULL, NULL, NULL, &board, &error);

		CU_ASSERT(r == cases[i].result);
		CU_ASSERT(error && !strncmp(error, cases[i].begins, strlen(cases[i].begins)));
		if (r != cases[i].result || !error)
			printf("case %zu: %d %s\n", i, r, error ? error : "-");
		free(error);
		CU_ASSERT(open_fds() == before); /* the caller still has all of its own */
	}
	bad = good;
	bad.soft_debug = UINT32_MAX; /* the engine's business: either way nothing leaks */
	if (board_create(&bad, NULL, NULL, NULL, &board, &error) < 0) {
		free(error);
		close(good.kernel_fd);
	} else {
		board_destroy(board);
	}
	close(zeros);
	close(big);
	free(words);
	CU_ASSERT(board_state_name((enum board_state)99) && board_stop_name((enum board_stop)99));
	board_destroy(NULL);
}

/* --- life cycle ------------------------------------------------------------------------------- */

static void refuses(struct board *board, unsigned but)
{
	int (*const calls[])(struct board *) = { board_start, board_pause, board_resume,
						 board_reset, board_power_button, board_kill };

	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++)
		if (!(but & (1u << i)))
			CU_ASSERT(calls[i](board) == -EBADFD);
}

enum { START = 1, PAUSE = 2, RESUME = 4, RESET = 8, BUTTON = 16, KILL = 32 };

static bool boots(struct board *board, struct board_info *info)
{
	for (int i = 0; i < 30000; i++) {
		board_info(board, info);
		if (info->boot_ns)
			return true;
		usleep(1000);
	}
	return false;
}

/* Until the first instruction counts what was before board_start(), if somebody waited then already. */
static void test_boot_time(void)
{
	struct board_config config = config_for(spins, sizeof(spins));
	_Atomic unsigned changes = 0;
	struct board_info info;
	struct board *board;
	char *error;

	config.asked_ns = clock_monotonic_ns() - 1000 * NSEC_PER_SEC;
	CU_ASSERT_FATAL(board_create(&config, NULL, count_change, &changes, &board, &error) == 0);
	board_info(board, &info);
	CU_ASSERT(info.boot_ns == 0);
	CU_ASSERT(board_start(board) == 0 && boots(board, &info));
	CU_ASSERT(info.boot_ns >= 1000 * NSEC_PER_SEC && info.boot_ns < 1030 * NSEC_PER_SEC);
	for (int i = 0; i < 30000 && changes < 3; i++)
		usleep(1000);
	CU_ASSERT(changes >= 3); /* starting, running, and that: it is told */
	board_destroy(board);
}

static void test_life(void)
{
	struct board_config config = config_for(spins, sizeof(spins));
	_Atomic unsigned changes = 0;
	struct board_info info, later;
	struct vmx_stat stats[4];
	struct board *board;
	char *error;

	CU_ASSERT_FATAL(board_create(&config, NULL, count_change, &changes, &board, &error) == 0);
	refuses(board, START | KILL);
	CU_ASSERT(board_start(board) == 0);
	CU_ASSERT(reaches(board, BOARD_RUNNING) && changes >= 2);
	refuses(board, PAUSE | RESET | BUTTON | KILL);
	usleep(20000);
	CU_ASSERT(board_pause(board) == 0 && reaches(board, BOARD_PAUSED));
	refuses(board, RESUME | RESET | KILL);
	board_info(board, &info);
	CU_ASSERT(info.run_ns > 10000000 && info.boot_ns > 0 && info.boot_ns < 30 * NSEC_PER_SEC);
	usleep(20000);
	board_info(board, &later);
	CU_ASSERT(later.run_ns == info.run_ns && later.resets == 0);
	CU_ASSERT(board_reset(board) == 0); /* stays paused */
	for (int i = 0; i < 30000 && later.resets == 0; i++) {
		usleep(1000);
		board_info(board, &later);
	}
	CU_ASSERT(later.state == BOARD_PAUSED && later.resets == 1);
	CU_ASSERT(board_resume(board) == 0 && reaches(board, BOARD_RUNNING));
	CU_ASSERT(board_power_button(board) == 0); /* nobody listens */
	(void)board_stats(board, stats, ARRAY_SIZE(stats));
	CU_ASSERT(board_kill(board) == 0 && reaches(board, BOARD_STOPPED));
	refuses(board, 0);
	board_info(board, &info);
	CU_ASSERT(info.stop == BOARD_STOP_KILLED && info.detail[0]);
	board_destroy(board);
}

static void test_guest_ends(void)
{
	static const struct {
		const uint8_t *code;
		size_t len;
		enum board_stop stop;
		bool pause_first; /* before the start has even been seen */
	} cases[] = {
		{ powers_off, sizeof(powers_off), BOARD_STOP_POWEROFF, false },
		{ powers_off, sizeof(powers_off), BOARD_STOP_POWEROFF, true },
		{ resets, sizeof(resets), BOARD_STOP_RESET, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct board_config config = config_for(cases[i].code, cases[i].len);
		struct board_info info;
		struct board *board;
		char *error;

		config.reboot_stops = true;
		CU_ASSERT_FATAL(board_create(&config, NULL, NULL, NULL, &board, &error) == 0);
		CU_ASSERT(board_start(board) == 0);
		if (cases[i].pause_first) {
			if (board_pause(board) == 0)
				(void)board_resume(board);
		}
		CU_ASSERT(reaches(board, BOARD_STOPPED));
		board_info(board, &info);
		CU_ASSERT(info.stop == cases[i].stop);
		board_destroy(board);
	}
}

/* Many resets in a row, of the guest's own will. */
static void test_reset_storm(void)
{
	struct board_config config = config_for(resets, sizeof(resets));
	struct board_info info;
	struct board *board;
	char *error;

	CU_ASSERT_FATAL(board_create(&config, NULL, NULL, NULL, &board, &error) == 0);
	CU_ASSERT(board_start(board) == 0);
	for (int i = 0; i < 30000; i++) {
		board_info(board, &info);
		if (info.resets >= 50)
			break;
		usleep(1000);
	}
	CU_ASSERT(info.resets >= 50);
	board_destroy(board);
}

/* The kernel file goes bad between two lives. */
static void test_reload_fails(void)
{
	struct board_config config = config_for(spins, sizeof(spins));
	struct board_info info;
	struct board *board;
	char *error;

	CU_ASSERT_FATAL(board_create(&config, NULL, NULL, NULL, &board, &error) == 0);
	CU_ASSERT(board_start(board) == 0 && reaches(board, BOARD_RUNNING));
	CU_ASSERT(ftruncate(config.kernel_fd, 10) == 0);
	CU_ASSERT(board_reset(board) == 0 && reaches(board, BOARD_FAILED));
	board_info(board, &info);
	CU_ASSERT(info.stop == BOARD_STOP_BOOT_ERROR && !strncmp(info.detail, "kernel: ", 8));
	board_destroy(board);
}

/* Destroyed in whatever state, with descriptors of every kind: nothing is left. */
static void test_destroy_anywhere(void)
{
	unsigned before = open_fds();

	for (int state = 0; state < 6; state++) {
		struct board_config config = config_for(halts, sizeof(halts));
		struct board *board;
		char *error;
		int pair[2];

		CU_ASSERT_FATAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
		config.console_fd = pair[1];
		config.initrd_fd = memfd_create("initrd", 0);
		config.disk_count = 2;
		for (int i = 0; i < 2; i++) {
			config.disks[i].image.files = 1;
			config.disks[i].image.file[0].fd = memfd_create("disk", 0);
			CU_ASSERT(ftruncate(config.disks[i].image.file[0].fd, MIB) == 0);
		}
		config.cpus = 1 + (unsigned)state % 2;
		CU_ASSERT_FATAL(board_create(&config, NULL, NULL, NULL, &board, &error) == 0);
		if (state >= 1)
			CU_ASSERT(board_start(board) == 0);
		if (state >= 2)
			CU_ASSERT(reaches(board, BOARD_RUNNING));
		if (state >= 3)
			CU_ASSERT(board_pause(board) == 0);
		if (state >= 4)
			CU_ASSERT(reaches(board, BOARD_PAUSED));
		if (state >= 5)
			CU_ASSERT(board_kill(board) == 0);
		board_destroy(board);
		close(pair[0]);
	}
	CU_ASSERT(open_fds() == before);
}

/* --- two clients at once ---------------------------------------------------------------------- */

static void *commander(void *opaque)
{
	struct board *board = opaque;
	uint64_t seed = (uint64_t)pthread_self();

	for (int i = 0; i < 400; i++) {
		struct board_info info;

		seed = seed * 6364136223846793005ull + 1442695040888963407ull;
		switch (seed >> 60) {
		case 0 ... 4: (void)board_pause(board); break;
		case 5 ... 9: (void)board_resume(board); break;
		case 10: (void)board_reset(board); break;
		case 11: (void)board_power_button(board); break;
		case 12: (void)board_start(board); break;
		default: usleep((useconds_t)(seed >> 40 & 1023)); break;
		}
		board_info(board, &info);
		CU_ASSERT(info.state >= BOARD_STARTING && info.state <= BOARD_PAUSED);
	}
	return NULL;
}

static void test_commanders(void)
{
	struct board_config config = config_for(halts, sizeof(halts));
	_Atomic unsigned changes = 0;
	struct board_info info;
	struct board *board;
	pthread_t threads[2];
	char *error;

	CU_ASSERT_FATAL(board_create(&config, NULL, count_change, &changes, &board, &error) == 0);
	CU_ASSERT(board_start(board) == 0);
	CU_ASSERT(reaches(board, BOARD_RUNNING));
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, commander, board);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	CU_ASSERT(board_kill(board) == 0 && reaches(board, BOARD_STOPPED));
	board_info(board, &info);
	CU_ASSERT(info.stop == BOARD_STOP_KILLED);
	CU_ASSERT(changes >= 4); /* more is a matter of timing */
	board_destroy(board);
}

static void test_registry(void)
{
	for (size_t i = 0; i < device_class_count; i++) {
		const struct device_class *class = device_classes[i];

		CU_ASSERT(class->create && class->destroy && class->reset);
		CU_ASSERT(device_class_find(class->name) == class); /* no name twice */
	}
	CU_ASSERT(device_class_find("no such device") == NULL);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "bad configurations", test_bad_config },
		{ "time to the first instruction", test_boot_time },
		{ "every command in every state", test_life },
		{ "ends of the guest's own", test_guest_ends },
		{ "reset after reset", test_reset_storm },
		{ "the image is gone at a reset", test_reload_fails },
		{ "destroyed in any state", test_destroy_anywhere },
		{ "two commanders", test_commanders },
		{ "registry", test_registry },
		CU_TEST_INFO_NULL,
	};
	struct vmx_vm_options options = { .size = sizeof(options), .engine = ENGINE };
	struct vmx_vm *vm;

	if (vmx_vm_create(&options, &vm) == -ENOTSUP) {
		printf("skip: no software engine here\n0 passed, 0 failed, %zu skipped\n",
		       ARRAY_SIZE(tests) - 1);
		return 77;
	}
	(void)vmx_vm_destroy(vm);
	return UNIT_RUN(UNIT_SUITE("board", tests));
}
