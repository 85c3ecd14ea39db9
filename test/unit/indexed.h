/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * indexed.h: a store with its metadata, and what the index has of it.
 *
 * The store is "store" in the scratch directory, its state directory "state".
 * Whatever fails, fails the test.
 */
#ifndef INDEXED_H
#define INDEXED_H

#include "scratch.h"
#include "tus_words.h"

#include <apr_hash.h>

/** More than any fold takes. */
#define LONG_BUDGET apr_time_from_sec(600)

extern tus_meta_place_t place;
extern tus_meta_t *meta;

/** Ids that a request holds. */
extern apr_hash_t *held;

/** What the last walk saw: tus_entry_t by id. */
extern apr_hash_t *entries;

/** How often an id was settled. */
extern int settled;

/**
 * Makes a store without any upload.
 * @param beside ID.info lies beside the data; else in the state directory
 */
void open_indexed(const tus_meta_provider_t *provider, const char *driver, int beside);

/** No descriptor may be left open. */
void close_indexed(void);

/** Like add_scratch_case(), with the above, by the provider "dbm" with its defaults. */
TCase *add_indexed_case(Suite *suite, const char *name);

/** Writes a record; created is filled in. */
void put_record(tus_record_t *record);

/** Notes and records an upload, and removes one, as a request does; the size is the id's length. */
void create(const char *id);
void terminate(const char *id);

/** "upload-N", and a range of such uploads. */
const char *name_of(int i);
void create_many(int from, int to);

/** By the record, unless the id is held; the baton is &place. */
tus_settled_e settle(void *baton, const char *id, int created, tus_record_t **record,
                     apr_pool_t *p);

apr_status_t fold_for(apr_interval_time_t budget);

/** Folds until all is done. */
void fold(void);

/** Fills `entries`, no id twice. */
apr_status_t walk(void);
const tus_entry_t *entry_of(const char *id);

/** The index holds this range of uploads, and no others. */
void assert_indexed(int from, int to);

#endif /* INDEXED_H */
