/* SPDX-License-Identifier: Apache-2.0 */
/* unit.h - runs CUnit suites and prints the summary line that the CI adds up. */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <CUnit/Basic.h>
#include <stdio.h>
#include <stdlib.h>

/* suites ends with CU_SUITE_INFO_NULL; so many tests, whose reason was printed, are not among them.
 * Returns the exit status of the program. */
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

static inline int unit_run(CU_SuiteInfo *suites)
{
	return unit_run_but(suites, 0);
}

#endif
