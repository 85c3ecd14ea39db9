/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * spooling.h: events in the spool of the scratch directory. Whatever fails, fails the test.
 */
#ifndef SPOOLING_H
#define SPOOLING_H

#include "suites.h"
#include "tus_words.h"

#define HOOK_A "aaaaaaaaaaaaaaaa"
#define HOOK_B "bbbbbbbbbbbbbbbb"

/** When all uploads here were created. */
#define CREATED APR_TIME_C(1700000000000000)

/** An event with a body, and no headers. */
tus_spooled_t spooled(const char *id, tus_hook_e type, const char *hook);

/** "ID/create/a", "ID+1/finish/b?": created a microsecond later; pending. Allocated from p. */
const char *spooled_text(const tus_spooled_t *event, apr_pool_t *p);

/** The name of its file in the scratch directory; of one that was moved aside. */
const char *spooled_path(const tus_spooled_t *event, const char *suffix);
const char *failed_path(const char *id, tus_hook_e type, const char *hook);

/** Puts one, pending. */
void put(const char *id, tus_hook_e type, const char *hook);

void confirm(const char *id, tus_hook_e type, const char *hook);

/** Both. */
void ready(const char *id, tus_hook_e type, const char *hook);

/** One pass, as tus_spool_work() has it; APR_SUCCESS where there is no shard. Whoever cannot take
 *  one comes back later. */
apr_status_t work_shard(int shard, apr_time_t now, apr_time_t deadline,
                        const tus_spool_teller_t *teller, apr_time_t *next, apr_pool_t *p);

/** How many files were moved aside. */
int count_failed(void);

#endif /* SPOOLING_H */
