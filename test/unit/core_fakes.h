/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * core_fakes.h: an endpoint for the tests of ring 3.
 *
 * Its store is the provider "file", wrapped; its metadata and locks are kept in
 * memory, or the metadata by the provider "dbm". Each call of a provider, and each event, is
 * written down under one of these words, and can be made to fail:
 *
 *   locks   try wait release stop count
 *   meta    get put put-durable drop note-create note-change walk
 *           mark mark-durable unmark marked note-synced synced link links unlink
 *   store   create locate confirm discard resume fence written write flush truncate concat
 *           close size remove
 *   events  pre-create will-create post-create pre-finish will-finish post-finish
 *           pre-terminate will-terminate post-terminate expired
 *           cut lost
 *
 * A pre-* that fails rejects the upload or its termination; whoever fails otherwise fails with
 * the status that the test names.
 */
#ifndef CORE_FAKES_H
#define CORE_FAKES_H

#include "scratch.h"
#include "tus_core.h"

/** The endpoint; a test may change sync, max_size, lock_timeout, cancel and the providers. */
extern tus_core_t core;

/** Like add_scratch_case(), with the endpoint; its store is the directory "store". */
TCase *add_core_case(Suite *suite, const char *name);

/** The words of all calls since the last time, a space between them. */
const char *calls(void);

/** The number of calls of that word since the test began. */
int calls_of(const char *word);

/** The nth call of that word from now fails so, and does nothing; 1 is the next. */
void fail_call(const char *word, int nth, apr_status_t rv);

/** The nth call from now, whichever it is, fails so, and does nothing. */
void fail_at(int nth, apr_status_t rv);

/** Nonzero if a failure is yet to come. */
int is_failure_ahead(void);

/** Before the nth call from now another request does a deed. */
void do_at(int nth, void (*deed)(void));

/** Likewise, but that many bytes of the write are stored. */
void fail_write(apr_size_t stored, apr_status_t rv);

/** This process ends at the nth call from now, before it does anything. */
void die_at(int nth);

/**
 * Does a deed in another process, which ends at its nth call. What it does to records and locks in
 * memory stays there: keep_records_on_disk() first.
 * @return nonzero if it died so; 0 if it did all of the deed
 */
int died_at(int nth, void (*deed)(void));

/** Forgets failures that did not come. */
void fail_no_more(void);

/** Nothing is locked, and no writer is open. */
void ck_nothing_held(void);

/** Another request takes the upload; it lets go when it is asked, if it is willing. */
void other_holds(const char *id, int willing);
void other_lets_go(const char *id);

/** How often a holder was asked to let go. */
int times_asked(void);

/** Called once when a holder is asked, before it lets go. */
extern void (*on_asked)(void);

/** Called in each pre-create, to change the record as another module may. */
extern void (*on_pre_create)(tus_upload_t *upload);

/** What the time is; each look at it is a millisecond later. */
extern apr_time_t fake_time;

/**
 * Metadata is the provider "dbm" from here on, with the directory "state" as its
 * own, ID.info beside the data, and the calls written down as before.
 */
void keep_records_on_disk(void);

/** Nonzero if the index of the records on disk has the upload. */
int is_indexed(const char *id);

/** DELETE of an upload that nobody holds. */
const tus_error_t *end_upload(const char *id);

/** The JSON of a record in memory, or NULL. */
const char *record_json(const char *id);

/** Puts a record there as another program would. */
void plant_record(const char *id, const char *json);

/** What fold makes of an id in the journal. */
tus_settled_e settled_as(const char *id);

/** Puts an id into the journal. */
void journal(const char *id, tus_note_e why);

/** Settles all there is. @return what tus_settle() made of an expires that was 0 */
apr_time_t settle_all(void);

/** A mark in memory, as a request left it that died; and whether there is one. */
void plant_mark(const char *id, apr_off_t offset);
int is_marked(const char *id);

/** The finals that a part is linked to, a space between them. */
const char *links_of(const char *part);

/* Deeds that are expected to succeed. */
tus_upload_t *ck_create(apr_off_t size, int whole);
tus_upload_t *ck_hold(const char *id);
void ck_append(tus_upload_t *upload, const char *text);
void ck_ok(const tus_error_t *error);

/** Fails unless this is that error; with a system error's status unless rv is APR_SUCCESS. */
void ck_error(const tus_error_t *error, tus_err_e err, apr_status_t rv);

/** An unfinished upload of that size that has that text, held by nobody. Returns its id. */
const char *make_upload(apr_off_t size, const char *text);

/** The path of its data, relative to the scratch directory. */
const char *data_of(const char *id);

/** Bytes in its data file. */
apr_off_t stored(const char *id);

#endif /* CORE_FAKES_H */
