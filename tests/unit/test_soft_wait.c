/* SPDX-License-Identifier: Apache-2.0 */
/* test_soft_wait.c - two processors of the software engine that wait for each other. */
#include <time.h>

#include "tests/unit/soft_modes.h"
#include "tests/unit/soft_second.h"

#define NSEC_PER_SEC 1000000000ull
#define FUNCTION "0x21000"

/* Each adds 1 when the number is even, odd; 1000 times. */
PAYLOAD(even, "mov $1000,%ecx\n 1: mov 0x30000,%eax\n test $1,%al\n jz 2f\n pause\n jmp 1b\n"
	      "2: incl 0x30000\n loop 1b\n hlt");
PAYLOAD(odd, "mov $1000,%ecx\n 1: mov 0x30000,%eax\n test $1,%al\n jnz 2f\n pause\n jmp 1b\n"
	     "2: incl 0x30000\n loop 1b\n hlt");
PAYLOAD(sleeps, "cli\n 1: hlt\n jmp 1b");
/* Changes a function and calls it. */
PAYLOAD(changes, "mov $200,%ecx\n mov $" FUNCTION ",%edx\n 1: incb 1(%rdx)\n call *%rdx\n"
		 "add %eax,0x30000\n loop 1b\n out %al,$0x10");
PAYLOAD(function, "mov $0,%eax\n ret");

static uint64_t stat(struct guest *g, const char *name)
{
	struct vmx_stat stats[128];
	size_t n = vmx_vm_stats(g->vm, stats, 128);

	for (size_t i = 0; i < n && i < 128; i++)
		if (!strcmp(stats[i].name, name))
			return stats[i].value;
	CU_FAIL("no such counter");
	return 0;
}

static uint64_t cpu_time(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

/* The processor that spins gives way to the one it waits for, though both have one host CPU: not
 * 2000 times what the host's scheduler lets it run. */
static void test_one_host_cpu(void)
{
	cpu_set_t before, one;
	struct second s;
	struct guest g;
	uint64_t used;
	int cpu = 0;

	CU_ASSERT_EQUAL_FATAL(sched_getaffinity(0, sizeof(before), &before), 0);
	while (!CPU_ISSET(cpu, &before))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	soft_start(&g);
	LOAD(&g, CODE, even);
	LOAD(&g, CODE + 0x1000, odd);
	CU_ASSERT_EQUAL(sched_setaffinity(0, sizeof(one), &one), 0);
	used = cpu_time();
	second_start(&s, &g, CODE + 0x1000);
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_HALT);
	pthread_join(s.thread, NULL);
	used = cpu_time() - used;
	sched_setaffinity(0, sizeof(before), &before);
	CU_ASSERT_EQUAL(s.result, VMX_EXIT_HALT);
	CU_ASSERT_EQUAL((uint32_t)*q(&g, DATA), 2000);
	CU_ASSERT_TRUE(stat(&g, "pause_yields") >= 500); /* of the one that is left */
	CU_ASSERT_TRUE(used < NSEC_PER_SEC);
	guest_destroy(&g);
}

/* Sections in which nobody runs need nothing of those who sleep. */
static void test_asleep(void)
{
	const struct vmx_exit_options none = { 0 };
	struct second s;
	struct guest g;

	soft_start(&g);
	CU_ASSERT_EQUAL(vmx_vm_set_exit_options(g.vm, &none, NULL), 0);
	LOAD(&g, CODE, changes);
	LOAD(&g, CODE + 0x1000, function);
	LOAD(&g, CODE + 0x2000, sleeps);
	second_start(&s, &g, CODE + 0x2000);
	while (!stat(&g, "halt_sleeps"))
		sched_yield();
	CU_ASSERT_EQUAL(guest_resume(&g), VMX_EXIT_IO);
	CU_ASSERT_EQUAL((uint32_t)*q(&g, DATA), 200 * 201 / 2);
	CU_ASSERT_TRUE(soft_mode & VMX_SOFT_STEP_ONLY || stat(&g, "pauses") >= 200);
	CU_ASSERT_EQUAL(stat(&g, "halts"), 1);
	CU_ASSERT_EQUAL(vmx_vcpu_kick(s.cpu), 0);
	pthread_join(s.thread, NULL);
	CU_ASSERT_EQUAL(s.result, -ECANCELED);
	guest_destroy(&g);
}

int main(void)
{
	CU_TestInfo tests[] = {
		{ "both on one host CPU", test_one_host_cpu },
		{ "a sleeper is let sleep", test_asleep },
		CU_TEST_INFO_NULL,
	};
	return UNIT_RUN(SOFT_SUITE_STEPPED(tests), SOFT_SUITE_TRANSLATED(tests));
}
