/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * calls.h: a process that dies at one of its system calls, or whose call fails.
 *
 * Counted are the calls by which files and directories are opened, read, changed
 * and locked. Whatever fails here, fails the test.
 */
#ifndef CALLS_H
#define CALLS_H

#include "suites.h"

/** What the process does; the result is its exit code, below 90. */
typedef int (*calls_fn)(void *arg);

/** What became of it. */
typedef struct calls_end_t {
    int was_hit; /**< 0: it made fewer calls */
    int code;    /**< its exit code, or minus the signal */
} calls_end_t;

/**
 * Runs fn in a new process, whose unit_pool is its own.
 * @param nth the call that is meant, from 1
 * @param error errno that it fails with; 0: the process is killed before it is made
 */
calls_end_t run_with_call(int nth, int error, calls_fn fn, void *arg);

#endif /* CALLS_H */
