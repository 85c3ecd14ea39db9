/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * suites.h: the unit tests, one suite a file.
 *
 * check_NAME.c has `Suite *NAME_suite(void)` and a line in TUS_SUITES below.
 */
#ifndef SUITES_H
#define SUITES_H

#include "asserts.h"

#include <apr_pools.h>

/* clang-format off */
#define TUS_SUITES(SUITE) \
    SUITE(asserts) \
    SUITE(error) \
    SUITE(header) \
    SUITE(metadata) \
    SUITE(checksum) \
    SUITE(concat) \
    SUITE(forwarded) \
    SUITE(id) \
    SUITE(record) \
    SUITE(entry) \
    SUITE(storage) \
    SUITE(disposition) \
    SUITE(hook) \
    SUITE(hook_json) \
    SUITE(target) \
    SUITE(sign) \
    SUITE(spooled) \
    SUITE(health) \
    SUITE(value) \
    SUITE(json_out) \
    SUITE(beneath) \
    SUITE(pipe) \
    SUITE(copy) \
    SUITE(store_file) \
    SUITE(store_place) \
    SUITE(store_mem) \
    SUITE(disk) \
    SUITE(lock) \
    SUITE(meta) \
    SUITE(hook_http) \
    SUITE(thread) \
    SUITE(small) \
    SUITE(spool) \
    SUITE(seal) \
    SUITE(bell) \
    SUITE(spool_faults) \
    SUITE(journal) \
    SUITE(index) \
    SUITE(rebuild) \
    SUITE(state) \
    SUITE(core) \
    SUITE(events) \
    SUITE(hold) \
    SUITE(chunk) \
    SUITE(proof) \
    SUITE(join) \
    SUITE(expire)
/* clang-format on */

#define DECLARE_SUITE(name) Suite *name##_suite(void);
TUS_SUITES(DECLARE_SUITE)
#undef DECLARE_SUITE

/** A pool for each test, destroyed with all that was made from it. */
extern apr_pool_t *unit_pool;

/** Adds a test case of that name to the suite, with the pool as its fixture. */
TCase *add_case(Suite *suite, const char *name);

/** A copy that ends where its memory ends, so that reading beyond it shows. Free it with free(). */
char *exact_copy(const char *bytes, apr_size_t len);

/** Runs it in a thread with a stack as small as some threads of httpd's have. An assert that fails
 *  there ends the process. */
void on_small_stack(void (*fn)(void));

#endif /* SUITES_H */
