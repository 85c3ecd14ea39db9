/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * check_meta_provider.h: what mod_tus.h promises of every metadata provider.
 */
#ifndef CHECK_META_PROVIDER_H
#define CHECK_META_PROVIDER_H

#include "suites.h"
#include "mod_tus.h"

/** A metadata provider, and how it is opened. */
typedef struct meta_case_t {
    const char *name;
    const tus_meta_provider_t *provider;
    const char *driver; /**< or NULL */
    int beside;         /**< it is told where ID.info lies */
} meta_case_t;

/** Adds the tests that hold for every metadata provider. */
void meta_provider_conformance(Suite *suite, const meta_case_t *under_test);

#endif /* CHECK_META_PROVIDER_H */
