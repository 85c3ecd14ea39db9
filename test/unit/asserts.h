/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * asserts.h: Check's asserts, which any process and thread of a test may use.
 *
 * Check's own write each place that they pass to the file of the test's results.
 * Of a process that is killed meanwhile, half of that is in the file, and Check
 * gives up with "Bad message type". So only the thread that a test runs in writes
 * there. In all others, and in other processes, asserts that hold do nothing, and
 * one that does not is told on stderr and ends the process: who waits for it
 * asserts how it ended.
 */
#ifndef ASSERTS_H
#define ASSERTS_H

#include <check.h>

/** The exit code of a process beside the test, or with a thread beside it, where an assert failed.
 */
#define ASSERT_FAILED 98

/** The calling thread is the one that a test runs in. */
void own_asserts(void);

/** What Check's asserts call. */
void assert_passed(const char *file, int line);
void assert_failed(const char *file, int line, const char *expr, const char *msg, ...)
    __attribute__((noreturn, format(printf, 4, 5)));

#define _mark_point(file, line) assert_passed(file, line)
#define _ck_assert_failed(...) assert_failed(__VA_ARGS__)

#endif /* ASSERTS_H */
