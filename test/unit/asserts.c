/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "asserts.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static pid_t process; /* 0: no test runs */
static pthread_t thread;

void own_asserts(void)
{
    process = getpid();
    thread = pthread_self();
}

static int is_beside(void)
{
    return process && (getpid() != process || !pthread_equal(pthread_self(), thread));
}

void assert_passed(const char *file, int line)
{
    if (!is_beside()) {
        (_mark_point)(file, line);
    }
}

void assert_failed(const char *file, int line, const char *expr, const char *msg, ...)
{
    char text[BUFSIZ];
    va_list args;

    if (msg) {
        va_start(args, msg);
        vsnprintf(text, sizeof(text), msg, args);
        va_end(args);
    }
    if (!is_beside()) {
        (_ck_assert_failed)(file, line, msg ? text : expr, NULL);
    }
    dprintf(STDERR_FILENO, "%s:%d: beside the test: %s\n", file, line, msg ? text : expr);
    _exit(ASSERT_FAILED);
}
