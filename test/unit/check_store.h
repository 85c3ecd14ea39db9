/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * check_store.h: what mod_tus.h promises of every data store.
 */
#ifndef CHECK_STORE_H
#define CHECK_STORE_H

#include "suites.h"
#include "mod_tus.h"

/** Makes an empty place for the running test's store, allocated from unit_pool. */
typedef const tus_place_t *(*make_place_fn)(void);

/** Adds the tests that hold for every data store; optional members are tested where offered. */
void store_conformance(Suite *suite, const tus_store_provider_t *provider,
                       make_place_fn make_place);

#endif /* CHECK_STORE_H */
