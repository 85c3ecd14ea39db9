/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "core_fakes.h"

#include <apr_hash.h>
#include <apr_strings.h>

#include <string.h>
#include <unistd.h>

#define MODE (APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_GREAD)
#define START APR_INT64_C(1795356600000000)

tus_core_t core;
apr_time_t fake_time;
void (*on_asked)(void);

/* ---- the book of calls --------------------------------------------------- */

static apr_array_header_t *words; /* of const char *, all that were called */
static int words_seen;

static int calls_to_live; /* 0: for ever */
static struct {
    const char *word;
    int left;
    apr_status_t rv;
    apr_size_t stored;
} failure;

/* Writes the call down; not APR_SUCCESS if it shall fail. */
static apr_status_t called(const char *word)
{
    if (calls_to_live && --calls_to_live == 0) {
        _exit(0);
    }
    APR_ARRAY_PUSH(words, const char *) = word;
    if (!failure.word || strcmp(failure.word, word) != 0 || --failure.left > 0) {
        return APR_SUCCESS;
    }
    failure.word = NULL;
    return failure.rv;
}

const char *calls(void)
{
    const char *all = "";

    for (; words_seen < words->nelts; words_seen++) {
        all = apr_pstrcat(unit_pool, all, *all ? " " : "",
                          APR_ARRAY_IDX(words, words_seen, const char *), NULL);
    }
    return all;
}

int calls_of(const char *word)
{
    int count = 0;

    for (int i = 0; i < words->nelts; i++) {
        count += strcmp(APR_ARRAY_IDX(words, i, const char *), word) == 0;
    }
    return count;
}

void fail_call(const char *word, int nth, apr_status_t rv)
{
    failure.word = word;
    failure.left = nth;
    failure.rv = rv;
    failure.stored = 0;
}

void fail_write(apr_size_t bytes, apr_status_t rv)
{
    fail_call("write", 1, rv);
    failure.stored = bytes;
}

void die_at(int nth)
{
    calls_to_live = nth;
}

void fail_no_more(void)
{
    failure.word = NULL;
}

/* ---- the store: "file", wrapped ------------------------------------------ */

static int open_writers;
static tus_store_provider_t wrapped;

static const tus_store_provider_t *const file = &tus_store_file;

static apr_status_t opened(apr_status_t rv)
{
    open_writers += rv == APR_SUCCESS;
    return rv;
}

static apr_status_t store_create(tus_store_t *store, tus_record_t *record, tus_writer_t **writer,
                                 apr_pool_t *p)
{
    apr_status_t rv = called("create");

    return rv ? rv : opened(file->create(store, record, writer, p));
}

static apr_status_t store_confirm(tus_writer_t *writer)
{
    apr_status_t rv = called("confirm");

    return rv ? rv : file->confirm(writer);
}

static apr_status_t store_discard(tus_store_t *store, const char *id)
{
    apr_status_t rv = called("discard");

    return rv ? rv : file->discard(store, id);
}

static apr_status_t store_resume(tus_store_t *store, const tus_record_t *record,
                                 tus_writer_t **writer, apr_pool_t *p)
{
    apr_status_t rv = called("resume");

    return rv ? rv : opened(file->resume(store, record, writer, p));
}

static apr_status_t store_fence(tus_writer_t *writer)
{
    apr_status_t rv = called("fence");

    return rv ? rv : file->fence(writer);
}

static apr_status_t store_written(tus_writer_t *writer, apr_off_t *size, apr_time_t *modified)
{
    apr_status_t rv = called("written");

    return rv ? rv : file->written(writer, size, modified);
}

static apr_status_t store_write(tus_writer_t *writer, apr_off_t offset, const char *data,
                                apr_size_t len, apr_size_t *done)
{
    apr_status_t rv = called("write");

    ck_assert_ptr_nonnull(writer);
    if (rv != APR_SUCCESS) {
        ck_assert_uint_le(failure.stored, len);
        ck_assert_int_eq(file->write(writer, offset, data, failure.stored, done), APR_SUCCESS);
        return rv;
    }
    return file->write(writer, offset, data, len, done);
}

static apr_status_t store_flush(tus_writer_t *writer)
{
    apr_status_t rv = called("flush");

    ck_assert_ptr_nonnull(writer);
    return rv ? rv : file->flush(writer);
}

static apr_status_t store_close(tus_writer_t *writer, int keep)
{
    called("close");
    ck_assert_int_eq(keep, 1);
    open_writers--;
    return file->close(writer, keep);
}

static apr_status_t store_size(tus_store_t *store, const tus_record_t *record, apr_off_t *size,
                               apr_time_t *modified)
{
    apr_status_t rv = called("size");

    return rv ? rv : file->size(store, record, size, modified);
}

static apr_status_t store_remove(tus_store_t *store, const char *id)
{
    apr_status_t rv = called("remove");

    return rv ? rv : file->remove(store, id);
}

static void open_store(void)
{
    tus_place_t place = { NULL, NULL, 0, 0 };

    wrapped = *file;
    wrapped.create = store_create;
    wrapped.confirm = store_confirm;
    wrapped.discard = store_discard;
    wrapped.resume = store_resume;
    wrapped.fence = store_fence;
    wrapped.written = store_written;
    wrapped.write = store_write;
    wrapped.flush = store_flush;
    wrapped.close = store_close;
    wrapped.size = store_size;
    wrapped.remove = store_remove;

    scratch_mkdir("store");
    place.path = scratch_path("store");
    ck_assert_int_eq(file->open(&core.store, &place, MODE, unit_pool), APR_SUCCESS);
    core.store->provider = &wrapped;
    open_writers = 0;
}

/* ---- metadata, in memory or on disk --------------------------------------- */

static tus_meta_t *on_disk; /* or NULL */
static apr_hash_t *records; /* id -> JSON */
static apr_hash_t *noted;   /* id -> whether it was created */
static apr_hash_t *settled; /* id -> tus_settled_e */

static apr_status_t meta_get(tus_meta_t *self, const char *id, tus_record_t **record, apr_pool_t *p)
{
    const char *json = apr_hash_get(records, id, APR_HASH_KEY_STRING);
    apr_status_t rv = called("get");

    (void)self;
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (on_disk) {
        return on_disk->provider->get(on_disk, id, record, p);
    }
    return json ? tus_record_parse(record, json, strlen(json), p) : APR_ENOENT;
}

static apr_status_t meta_put(tus_meta_t *self, const tus_record_t *record, int durable,
                             apr_pool_t *p)
{
    apr_status_t rv = called(durable ? "put-durable" : "put");
    const char *json;
    apr_size_t len;

    (void)self;
    if (rv == APR_SUCCESS && on_disk) {
        return on_disk->provider->put(on_disk, record, durable, p);
    }
    if (rv == APR_SUCCESS) {
        rv = tus_record_format(record, &json, &len, unit_pool);
    }
    if (rv == APR_SUCCESS) {
        apr_hash_set(records, apr_pstrdup(unit_pool, record->id), APR_HASH_KEY_STRING, json);
    }
    return rv;
}

static apr_status_t meta_remove(tus_meta_t *self, const char *id)
{
    apr_status_t rv = called("drop");

    (void)self;
    if (rv == APR_SUCCESS && on_disk) {
        return on_disk->provider->remove(on_disk, id);
    }
    if (rv == APR_SUCCESS) {
        apr_hash_set(records, id, APR_HASH_KEY_STRING, NULL);
    }
    return rv;
}

static apr_status_t meta_note(tus_meta_t *self, const char *id, tus_note_e why)
{
    apr_status_t rv = called(why == TUS_NOTE_CREATE ? "note-create" : "note-change");

    (void)self;
    if (rv == APR_SUCCESS && on_disk) {
        return on_disk->provider->note(on_disk, id, why);
    }
    if (rv == APR_SUCCESS) {
        journal(id, why);
    }
    return rv;
}

static apr_status_t meta_fold(tus_meta_t *self, tus_settle_fn settle, void *baton,
                              apr_interval_time_t budget, const tus_cancel_t *cancel, apr_pool_t *p)
{
    apr_hash_index_t *hi;

    (void)self;
    if (on_disk) {
        return on_disk->provider->fold(on_disk, settle, baton, budget, cancel, p);
    }
    for (hi = apr_hash_first(p, noted); hi; hi = apr_hash_next(hi)) {
        const char *id = apr_hash_this_key(hi);
        int created = *(const char *)apr_hash_this_val(hi) == 'c';
        tus_settled_e *result = apr_palloc(unit_pool, sizeof(*result));
        tus_record_t *record = NULL;

        *result = settle(baton, id, created, &record, p);
        ck_assert(*result != TUS_SETTLED_KEEP || (record && strcmp(record->id, id) == 0));
        apr_hash_set(settled, id, APR_HASH_KEY_STRING, result);
    }
    for (hi = apr_hash_first(p, settled); hi; hi = apr_hash_next(hi)) {
        if (*(tus_settled_e *)apr_hash_this_val(hi) != TUS_SETTLED_CARRY) {
            apr_hash_set(noted, apr_hash_this_key(hi), APR_HASH_KEY_STRING, NULL);
        }
    }
    return APR_SUCCESS;
}

static const tus_meta_provider_t recording_meta = {
    .name = "recording",
    .get = meta_get,
    .put = meta_put,
    .remove = meta_remove,
    .note = meta_note,
    .fold = meta_fold,
};

static tus_meta_t meta = { &recording_meta };

void keep_records_on_disk(void)
{
    tus_meta_place_t *place = apr_pcalloc(unit_pool, sizeof(*place));

    scratch_mkdir("state");
    place->state_dir = scratch_path("state");
    place->mode = MODE;
    ck_assert_int_eq(file->info_dir(core.store, &place->info_dir), APR_SUCCESS);
    ck_assert_int_eq(apr_global_mutex_create(&place->mutex, NULL, APR_LOCK_DEFAULT, unit_pool),
                     APR_SUCCESS);
    ck_assert_int_eq(tus_meta_dbm.open(&on_disk, place, unit_pool), APR_SUCCESS);
}

static apr_status_t compare_id(void *id, const tus_entry_t *entry)
{
    return strcmp(entry->id, id) == 0 ? APR_EEXIST : APR_SUCCESS;
}

int is_indexed(const char *id)
{
    apr_status_t rv = on_disk->provider->walk(on_disk, compare_id, (void *)id, unit_pool);

    ck_assert(rv == APR_SUCCESS || rv == APR_EEXIST);
    return rv == APR_EEXIST;
}

const char *record_json(const char *id)
{
    return apr_hash_get(records, id, APR_HASH_KEY_STRING);
}

void plant_record(const char *id, const char *json)
{
    apr_hash_set(records, id, APR_HASH_KEY_STRING, json);
}

void journal(const char *id, tus_note_e why)
{
    const char *before = apr_hash_get(noted, id, APR_HASH_KEY_STRING);

    if (why == TUS_NOTE_CREATE || !before) {
        apr_hash_set(noted, apr_pstrdup(unit_pool, id), APR_HASH_KEY_STRING,
                     why == TUS_NOTE_CREATE ? "created" : "later");
    }
}

tus_settled_e settled_as(const char *id)
{
    const tus_settled_e *result = apr_hash_get(settled, id, APR_HASH_KEY_STRING);

    ck_assert_msg(result != NULL, "%s was not in the journal", id);
    return *result;
}

void settle_all(void)
{
    apr_status_t rv;

    apr_hash_clear(settled);
    do {
        rv = tus_settle(&core, apr_time_from_sec(1), unit_pool);
    } while (APR_STATUS_IS_INCOMPLETE(rv));
    ck_assert_int_eq(rv, APR_SUCCESS);
}

/* ---- locks in memory ----------------------------------------------------- */

struct tus_lock_t {
    const char *id; /* NULL once released */
};

static apr_hash_t *locked; /* id -> "willing", "unwilling" or "own" */
static int asked;

static apr_status_t let_go(void *baton)
{
    tus_lock_t *lock = baton;

    if (lock->id) {
        apr_hash_set(locked, lock->id, APR_HASH_KEY_STRING, NULL);
        lock->id = NULL;
    }
    return APR_SUCCESS;
}

static void ask_holder(const char *id)
{
    void (*hook)(void) = on_asked;
    const char *holder;

    asked++;
    on_asked = NULL;
    if (hook) {
        hook();
    }
    holder = apr_hash_get(locked, id, APR_HASH_KEY_STRING);
    if (holder && strcmp(holder, "willing") == 0) {
        other_lets_go(id);
    }
}

static apr_status_t lock_acquire(tus_locks_t *locks, const tus_identity_t *store, const char *id,
                                 apr_time_t deadline, const tus_cancel_t *cancel, tus_lock_t **lock,
                                 apr_pool_t *p)
{
    apr_status_t rv = called(deadline ? "wait" : "try");

    (void)locks;
    (void)cancel;
    ck_assert_uint_eq(store->inode, scratch_stat("store").st_ino);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (deadline && apr_hash_get(locked, id, APR_HASH_KEY_STRING)) {
        ck_assert_int_gt(deadline, fake_time);
        ask_holder(id);
    }
    if (apr_hash_get(locked, id, APR_HASH_KEY_STRING)) {
        fake_time = deadline > fake_time ? deadline : fake_time;
        return deadline ? APR_TIMEUP : APR_EBUSY;
    }
    *lock = apr_palloc(p, sizeof(**lock));
    (*lock)->id = apr_pstrdup(unit_pool, id);
    apr_hash_set(locked, (*lock)->id, APR_HASH_KEY_STRING, "own");
    apr_pool_cleanup_register(p, *lock, let_go, apr_pool_cleanup_null);
    return APR_SUCCESS;
}

static void lock_release(tus_lock_t *lock)
{
    called("release");
    let_go(lock);
}

static const tus_lock_provider_t memory_locks = {
    .name = "memory",
    .acquire = lock_acquire,
    .release = lock_release,
};

static tus_locks_t locks_in_memory = { &memory_locks };

void other_holds(const char *id, int willing)
{
    apr_hash_set(locked, id, APR_HASH_KEY_STRING, willing ? "willing" : "unwilling");
}

void other_lets_go(const char *id)
{
    apr_hash_set(locked, id, APR_HASH_KEY_STRING, NULL);
}

int times_asked(void)
{
    return asked;
}

void ck_nothing_held(void)
{
    ck_assert_int_eq(open_writers, 0);
    ck_assert_uint_eq(apr_hash_count(locked), 0);
}

/* ---- fixture ------------------------------------------------------------- */

static apr_time_t tick(void)
{
    fake_time += apr_time_from_msec(1);
    return fake_time;
}

static void setup(void)
{
    words = apr_array_make(unit_pool, 64, sizeof(const char *));
    words_seen = 0;
    records = apr_hash_make(unit_pool);
    noted = apr_hash_make(unit_pool);
    settled = apr_hash_make(unit_pool);
    locked = apr_hash_make(unit_pool);
    asked = 0;
    on_asked = NULL;
    fake_time = START;
    fail_no_more();
    die_at(0);

    memset(&core, 0, sizeof(core));
    open_store();
    core.meta = &meta;
    on_disk = NULL;
    core.locks = &locks_in_memory;
    core.sync = TUS_SYNC_FINISH;
    core.lock_timeout = apr_time_from_msec(20);
    core.now = tick;
}

TCase *add_core_case(Suite *suite, const char *name)
{
    TCase *tcase = add_scratch_case(suite, name);

    tcase_add_checked_fixture(tcase, setup, NULL);
    return tcase;
}

/* ---- deeds --------------------------------------------------------------- */

void ck_ok(const tus_error_t *error)
{
    ck_assert_msg(!error, "%s (%d): %s", error ? error->code : "", error ? error->rv : 0,
                  error && error->detail ? error->detail
                  : error                ? error->message
                                         : "");
}

void ck_error(const tus_error_t *error, tus_err_e err, apr_status_t rv)
{
    ck_assert_ptr_nonnull(error);
    ck_assert_msg(error->err == err, "%s: %s", error->code, error->message);
    ck_assert_int_eq(error->rv, rv);
    if (rv != APR_SUCCESS) {
        ck_assert_ptr_nonnull(error->detail);
    }
}

tus_upload_t *ck_create(apr_off_t size, int whole)
{
    tus_creation_t creation = { .size = size, .whole = whole, .owner = "alice" };
    tus_upload_t *upload = NULL;

    ck_ok(tus_create(&upload, &core, &creation, unit_pool));
    ck_assert_ptr_nonnull(upload);
    ck_assert_int_eq(upload->created, 1);
    ck_assert_ptr_nonnull(upload->lock);
    return upload;
}

tus_upload_t *ck_hold(const char *id)
{
    tus_upload_t *upload = NULL;

    ck_ok(tus_upload_hold(&upload, &core, id, NULL, NULL, unit_pool));
    ck_assert_ptr_nonnull(upload);
    ck_assert_ptr_nonnull(upload->lock);
    return upload;
}

void ck_append(tus_upload_t *upload, const char *text)
{
    ck_ok(tus_append(upload, text, strlen(text)));
}

const char *make_upload(apr_off_t size, const char *text)
{
    tus_upload_t *upload = ck_create(size, 0);

    ck_append(upload, text);
    tus_upload_release(upload);
    ck_nothing_held();
    calls();
    return upload->record->id;
}

const char *data_of(const char *id)
{
    return apr_pstrcat(unit_pool, "store/", id, NULL);
}

apr_off_t stored(const char *id)
{
    return scratch_stat(data_of(id)).st_size;
}
