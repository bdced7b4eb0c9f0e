/* SPDX-License-Identifier: Apache-2.0 */
/* unit.h - runs CUnit suites and prints the summary line that the CI adds up. */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>

/* A suite of tests (CU_TestInfo, up to CU_TEST_INFO_NULL); UNIT_SUITE_IN: init() goes before. */
#define UNIT_SUITE_IN(name, init, tests) { name, init, NULL, NULL, NULL, tests }
#define UNIT_SUITE(name, tests) UNIT_SUITE_IN(name, NULL, tests)
/* Runs suites; so many tests, whose reason was printed, are not among them. The exit status. */
#define UNIT_RUN_BUT(skipped, ...) \
	unit_run_but((CU_SuiteInfo[]){ __VA_ARGS__, CU_SUITE_INFO_NULL }, skipped)
#define UNIT_RUN(...) UNIT_RUN_BUT(0, __VA_ARGS__)

static inline int unit_run_but(CU_SuiteInfo *suites, unsigned skipped)
{
	unsigned run, failed;

	if (CU_initialize_registry() != CUE_SUCCESS || CU_register_suites(suites) != CUE_SUCCESS) {
		fprintf(stderr, "cannot register the tests: %s\n", CU_get_error_msg());
		return 1;
	}
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	run = CU_get_number_of_tests_run();
	failed = CU_get_number_of_tests_failed() + CU_get_number_of_suites_failed();
	CU_cleanup_registry();
	printf("%u passed, %u failed, %u skipped\n", run - failed, failed, skipped);
	return failed || !run ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
