/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * check_locker.h: what mod_tus.h promises of every lock provider.
 */
#ifndef CHECK_LOCKER_H
#define CHECK_LOCKER_H

#include "locking.h"

/** Adds the tests that hold for every lock provider. */
void locker_conformance(Suite *suite, const locker_t *locker);

#endif /* CHECK_LOCKER_H */
