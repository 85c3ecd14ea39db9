/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "core_fakes.h"

#include <apr_hash.h>
#include <apr_strings.h>

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODE (APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_GREAD)
#define DIR_MODE (MODE | APR_FPROT_UEXECUTE | APR_FPROT_GEXECUTE)
#define START APR_INT64_C(1795356600000000)

/* How the process of died_at() ends. One whose assert fails ends with ASSERT_FAILED. */
#define DIED 0
#define DONE 2

tus_core_t core;
apr_time_t fake_time;
void (*on_asked)(void);
void (*on_pre_create)(tus_upload_t *upload);

/* ---- the book of calls --------------------------------------------------- */

static apr_array_header_t *words; /* of const char *, all that were called */
static int words_seen;

static int calls_to_live; /* 0: for ever */
static struct {
    const char *word; /* "" for any, NULL for none */
    int left;
    apr_status_t rv;
    apr_size_t stored;
} failure;
static struct {
    int left;
    void (*deed)(void);
} meanwhile;

static void do_meanwhile(void)
{
    if (meanwhile.left && --meanwhile.left == 0) {
        meanwhile.deed();
    }
}

/* Writes the call down; not APR_SUCCESS if it shall fail. */
static apr_status_t called(const char *word)
{
    if (calls_to_live && --calls_to_live == 0) {
        _exit(DIED);
    }
    do_meanwhile();
    APR_ARRAY_PUSH(words, const char *) = word;
    if (!failure.word || (*failure.word && strcmp(failure.word, word) != 0) || --failure.left > 0) {
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

void fail_at(int nth, apr_status_t rv)
{
    fail_call("", nth, rv);
}

int is_failure_ahead(void)
{
    return failure.word != NULL;
}

void do_at(int nth, void (*deed)(void))
{
    meanwhile.left = nth;
    meanwhile.deed = deed;
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

int died_at(int nth, void (*deed)(void))
{
    int status;
    pid_t pid = fork();

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        die_at(nth);
        deed();
        _exit(DONE);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && (WEXITSTATUS(status) == DIED || WEXITSTATUS(status) == DONE),
                  "it died otherwise: %#x", status);
    return WEXITSTATUS(status) == DIED;
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

static apr_status_t store_create(tus_store_t *store, const tus_record_t *record,
                                 tus_writer_t **writer, apr_pool_t *p)
{
    apr_status_t rv = called("create");

    return rv ? rv : opened(file->create(store, record, writer, p));
}

static apr_status_t store_locate(tus_store_t *store, tus_record_t *record, apr_pool_t *p)
{
    apr_status_t rv = called("locate");

    return rv ? rv : file->locate(store, record, p);
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

static apr_status_t store_close(tus_writer_t *writer)
{
    called("close");
    open_writers--;
    return file->close(writer);
}

static apr_status_t store_truncate(tus_writer_t *writer, apr_off_t size)
{
    apr_status_t rv = called("truncate");

    ck_assert_ptr_nonnull(writer);
    return rv ? rv : file->truncate(writer, size);
}

static apr_status_t store_concat(tus_writer_t *writer, const apr_array_header_t *parts,
                                 const tus_cancel_t *cancel)
{
    apr_status_t rv = called("concat");

    ck_assert_ptr_nonnull(writer);
    return rv ? rv : file->concat(writer, parts, cancel);
}

static apr_status_t store_size(tus_store_t *store, const tus_record_t *record, apr_off_t *size,
                               apr_time_t *modified)
{
    apr_status_t rv = called("size");

    return rv ? rv : file->size(store, record, size, modified);
}

static apr_status_t store_remove(tus_store_t *store, const tus_record_t *record)
{
    apr_status_t rv = called("remove");

    return rv ? rv : file->remove(store, record);
}

static void open_store(void)
{
    tus_place_t place = { .file_mode = MODE, .dir_mode = DIR_MODE };

    wrapped = *file;
    wrapped.create = store_create;
    wrapped.locate = store_locate;
    wrapped.confirm = store_confirm;
    wrapped.discard = store_discard;
    wrapped.resume = store_resume;
    wrapped.fence = store_fence;
    wrapped.written = store_written;
    wrapped.write = store_write;
    wrapped.flush = store_flush;
    wrapped.close = store_close;
    wrapped.truncate = store_truncate;
    wrapped.concat = store_concat;
    wrapped.size = store_size;
    wrapped.remove = store_remove;

    scratch_mkdir("store");
    place.path = scratch_path("store");
    ck_assert_int_eq(file->open(&core.store, &place, unit_pool), APR_SUCCESS);
    core.store->provider = &wrapped;
    open_writers = 0;
}

/* ---- metadata, in memory or on disk --------------------------------------- */

static tus_meta_t *on_disk; /* or NULL */
static apr_hash_t *records; /* id -> JSON */
static apr_hash_t *noted;   /* id -> whether it was created */
static apr_hash_t *settled; /* id -> tus_settled_e */
static apr_hash_t *marks;   /* id -> apr_off_t */
static apr_hash_t *synced;  /* id -> apr_off_t */
static apr_hash_t *links;   /* part -> array of const char * */

static apr_status_t meta_get(tus_meta_t *self, const char *id, tus_record_t **record, apr_pool_t *p)
{
    apr_status_t rv = called("get");
    const char *json;

    (void)self;
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (on_disk) {
        return on_disk->provider->get(on_disk, id, record, p);
    }
    json = apr_hash_get(records, id, APR_HASH_KEY_STRING);
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

/* What is noted meanwhile waits for the next time. */
static apr_status_t meta_fold(tus_meta_t *self, tus_settle_fn settle, void *baton,
                              apr_interval_time_t budget, const tus_cancel_t *cancel, apr_pool_t *p)
{
    apr_hash_t *folded = noted;
    apr_hash_index_t *hi;

    (void)self;
    if (on_disk) {
        return on_disk->provider->fold(on_disk, settle, baton, budget, cancel, p);
    }
    noted = apr_hash_make(unit_pool);
    for (hi = apr_hash_first(p, folded); hi; hi = apr_hash_next(hi)) {
        const char *id = apr_hash_this_key(hi);
        int created = *(const char *)apr_hash_this_val(hi) == 'c';
        tus_settled_e *result = apr_palloc(unit_pool, sizeof(*result));
        tus_record_t *record = NULL;

        *result = settle(baton, id, created, &record, p);
        ck_assert(*result != TUS_SETTLED_KEEP || (record && strcmp(record->id, id) == 0));
        apr_hash_set(settled, id, APR_HASH_KEY_STRING, result);
        if (*result == TUS_SETTLED_CARRY) {
            journal(id, created ? TUS_NOTE_CREATE : TUS_NOTE_CHANGE);
        }
    }
    return APR_SUCCESS;
}

static apr_status_t walk_record(const char *id, const char *json, tus_entry_fn fn, void *baton,
                                apr_pool_t *p)
{
    tus_record_t *record;
    tus_entry_t entry;

    if (tus_record_parse(&record, json, strlen(json), p) != APR_SUCCESS) {
        return APR_SUCCESS;
    }
    tus_entry_of_record(&entry, record, p);
    entry.id = id;
    return fn(baton, &entry);
}

/* The index in memory is never behind. */
static apr_status_t meta_walk(tus_meta_t *self, tus_entry_fn fn, void *baton, apr_pool_t *p)
{
    apr_status_t rv = called("walk");
    apr_hash_index_t *hi;

    (void)self;
    if (rv == APR_SUCCESS && on_disk) {
        return on_disk->provider->walk(on_disk, fn, baton, p);
    }
    for (hi = apr_hash_first(p, records); hi && rv == APR_SUCCESS; hi = apr_hash_next(hi)) {
        rv = walk_record(apr_hash_this_key(hi), apr_hash_this_val(hi), fn, baton, p);
    }
    return rv;
}

static apr_status_t meta_mark(tus_meta_t *self, const char *id, apr_off_t offset, int durable)
{
    apr_status_t rv = called(durable ? "mark-durable" : "mark");

    (void)self;
    if (rv == APR_SUCCESS && on_disk) {
        return on_disk->provider->mark(on_disk, id, offset, durable);
    }
    if (rv == APR_SUCCESS) {
        apr_hash_set(marks, apr_pstrdup(unit_pool, id), APR_HASH_KEY_STRING,
                     apr_pmemdup(unit_pool, &offset, sizeof(offset)));
    }
    return rv;
}

static apr_status_t meta_unmark(tus_meta_t *self, const char *id)
{
    apr_status_t rv = called("unmark");

    (void)self;
    if (rv == APR_SUCCESS && on_disk) {
        return on_disk->provider->unmark(on_disk, id);
    }
    if (rv == APR_SUCCESS) {
        apr_hash_set(marks, id, APR_HASH_KEY_STRING, NULL);
    }
    return rv;
}

static apr_status_t meta_note_synced(tus_meta_t *self, const char *id, apr_off_t offset)
{
    apr_status_t rv = called("note-synced");

    (void)self;
    if (rv == APR_SUCCESS && on_disk) {
        return on_disk->provider->note_synced(on_disk, id, offset);
    }
    if (rv == APR_SUCCESS) {
        apr_hash_set(synced, apr_pstrdup(unit_pool, id), APR_HASH_KEY_STRING,
                     offset ? apr_pmemdup(unit_pool, &offset, sizeof(offset)) : NULL);
    }
    return rv;
}

static apr_status_t meta_synced(tus_meta_t *self, const char *id, apr_off_t *offset)
{
    apr_status_t rv = called("synced");
    const apr_off_t *found;

    (void)self;
    if (rv == APR_SUCCESS && on_disk) {
        return on_disk->provider->synced(on_disk, id, offset);
    }
    found = apr_hash_get(synced, id, APR_HASH_KEY_STRING);
    if (rv == APR_SUCCESS && !found) {
        return APR_ENOENT;
    }
    if (rv == APR_SUCCESS) {
        *offset = *found;
    }
    return rv;
}

static apr_status_t meta_marked(tus_meta_t *self, const char *id, apr_off_t *offset)
{
    apr_status_t rv = called("marked");
    const apr_off_t *mark;

    (void)self;
    if (rv == APR_SUCCESS && on_disk) {
        return on_disk->provider->marked(on_disk, id, offset);
    }
    mark = apr_hash_get(marks, id, APR_HASH_KEY_STRING);
    if (rv == APR_SUCCESS && !mark) {
        return APR_ENOENT;
    }
    if (rv == APR_SUCCESS) {
        *offset = *mark;
    }
    return rv;
}

static int has_id(const apr_array_header_t *ids, const char *id)
{
    for (int i = 0; i < ids->nelts; i++) {
        if (strcmp(APR_ARRAY_IDX(ids, i, const char *), id) == 0) {
            return 1;
        }
    }
    return 0;
}

static apr_status_t meta_link(tus_meta_t *self, const char *part, const char *final)
{
    apr_status_t rv = called("link");
    apr_array_header_t *finals;

    (void)self;
    if (rv == APR_SUCCESS && on_disk) {
        return on_disk->provider->link(on_disk, part, final);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    finals = apr_hash_get(links, part, APR_HASH_KEY_STRING);
    if (!finals) {
        finals = apr_array_make(unit_pool, 4, sizeof(const char *));
        apr_hash_set(links, apr_pstrdup(unit_pool, part), APR_HASH_KEY_STRING, finals);
    }
    if (!has_id(finals, final)) {
        APR_ARRAY_PUSH(finals, const char *) = apr_pstrdup(unit_pool, final);
    }
    return APR_SUCCESS;
}

static apr_status_t meta_links(tus_meta_t *self, const char *part, apr_array_header_t **finals,
                               apr_pool_t *p)
{
    apr_status_t rv = called("links");
    const apr_array_header_t *known;

    (void)self;
    if (rv == APR_SUCCESS && on_disk) {
        return on_disk->provider->links(on_disk, part, finals, p);
    }
    if (rv == APR_SUCCESS) {
        known = apr_hash_get(links, part, APR_HASH_KEY_STRING);
        *finals = known ? apr_array_copy(p, known) : apr_array_make(p, 1, sizeof(const char *));
    }
    return rv;
}

static apr_status_t meta_unlink(tus_meta_t *self, const char *part)
{
    apr_status_t rv = called("unlink");

    (void)self;
    if (rv == APR_SUCCESS && on_disk) {
        return on_disk->provider->unlink(on_disk, part);
    }
    if (rv == APR_SUCCESS) {
        apr_hash_set(links, part, APR_HASH_KEY_STRING, NULL);
    }
    return rv;
}

static const tus_meta_provider_t recording_meta = {
    .name = "recording",
    .get = meta_get,
    .put = meta_put,
    .remove = meta_remove,
    .note = meta_note,
    .fold = meta_fold,
    .walk = meta_walk,
    .mark = meta_mark,
    .unmark = meta_unmark,
    .marked = meta_marked,
    .note_synced = meta_note_synced,
    .synced = meta_synced,
    .link = meta_link,
    .links = meta_links,
    .unlink = meta_unlink,
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

const tus_error_t *end_upload(const char *id)
{
    tus_upload_t *upload;

    return tus_terminate(&upload, &core, id, unit_pool);
}

tus_settled_e settled_as(const char *id)
{
    const tus_settled_e *result = apr_hash_get(settled, id, APR_HASH_KEY_STRING);

    ck_assert_msg(result != NULL, "%s was not in the journal", id);
    return *result;
}

apr_time_t settle_all(void)
{
    apr_time_t expires = 0;
    apr_status_t rv;

    apr_hash_clear(settled);
    do {
        rv = tus_settle(&core, apr_time_from_sec(1), &expires, unit_pool);
    } while (APR_STATUS_IS_INCOMPLETE(rv));
    ck_assert_int_eq(rv, APR_SUCCESS);
    return expires;
}

void plant_mark(const char *id, apr_off_t offset)
{
    ck_assert_ptr_null(on_disk);
    apr_hash_set(marks, apr_pstrdup(unit_pool, id), APR_HASH_KEY_STRING,
                 apr_pmemdup(unit_pool, &offset, sizeof(offset)));
}

int is_marked(const char *id)
{
    apr_off_t offset;

    return on_disk ? on_disk->provider->marked(on_disk, id, &offset) == APR_SUCCESS
                   : apr_hash_get(marks, id, APR_HASH_KEY_STRING) != NULL;
}

const char *links_of(const char *part)
{
    const apr_array_header_t *finals = apr_hash_get(links, part, APR_HASH_KEY_STRING);
    apr_array_header_t *listed;

    if (on_disk) {
        ck_assert_int_eq(on_disk->provider->links(on_disk, part, &listed, unit_pool), APR_SUCCESS);
        finals = listed;
    }
    return finals ? apr_array_pstrcat(unit_pool, finals, ' ') : "";
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

static apr_status_t lock_stop(tus_locks_t *locks, const tus_identity_t *store, const char *id)
{
    apr_status_t rv = called("stop");

    (void)locks;
    ck_assert_uint_eq(store->inode, scratch_stat("store").st_ino);
    if (rv == APR_SUCCESS && !apr_hash_get(locked, id, APR_HASH_KEY_STRING)) {
        return APR_ENOENT;
    }
    if (rv == APR_SUCCESS) {
        ask_holder(id);
    }
    return rv;
}

static apr_status_t lock_count(tus_locks_t *locks, unsigned *held)
{
    apr_status_t rv = called("count");

    (void)locks;
    *held = apr_hash_count(locked);
    return rv;
}

static const tus_lock_provider_t memory_locks = {
    .name = "memory",
    .acquire = lock_acquire,
    .release = lock_release,
    .stop = lock_stop,
    .count = lock_count,
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

/* ---- events --------------------------------------------------------------- */

static const tus_error_t *ask_module(const char *word, const tus_upload_t *upload, tus_err_e err)
{
    ck_assert_ptr_nonnull(upload->record);
    return called(word) == APR_SUCCESS ? NULL : tus_error(upload->pool, err, NULL);
}

static const tus_error_t *event_pre_create(void *baton, tus_upload_t *upload)
{
    const tus_error_t *error = ask_module("pre-create", upload, TUS_ERR_UPLOAD_REJECTED);

    ck_assert_ptr_eq(baton, &core);
    if (!error && on_pre_create) {
        on_pre_create(upload);
    }
    return error;
}

static const tus_error_t *event_not_made(void *baton, tus_upload_t *upload)
{
    ck_assert_ptr_eq(baton, &core);
    return ask_module("not-made", upload, TUS_ERR_HOOK_FAILED);
}

static const tus_error_t *event_pre_finish(void *baton, tus_upload_t *upload)
{
    ck_assert_ptr_eq(baton, &core);
    return ask_module("pre-finish", upload, TUS_ERR_UPLOAD_REJECTED);
}

static const tus_error_t *event_pre_terminate(void *baton, tus_upload_t *upload)
{
    ck_assert_ptr_eq(baton, &core);
    return ask_module("pre-terminate", upload, TUS_ERR_TERMINATION_REJECTED);
}

/* What is written down before something happens. */
static const tus_error_t *prepare(const char *word, void *baton, const tus_upload_t *upload)
{
    apr_status_t rv = called(word);

    ck_assert_ptr_eq(baton, &core);
    return rv == APR_SUCCESS ? NULL : tus_error_system(upload->pool, rv, "cannot spool");
}

static const tus_error_t *event_will_create(void *baton, tus_upload_t *upload)
{
    return prepare("will-create", baton, upload);
}

static const tus_error_t *event_will_finish(void *baton, tus_upload_t *upload)
{
    return prepare("will-finish", baton, upload);
}

static const tus_error_t *event_will_terminate(void *baton, tus_upload_t *upload)
{
    return prepare("will-terminate", baton, upload);
}

static void tell_module(const char *word, void *baton, const tus_upload_t *upload)
{
    ck_assert_ptr_eq(baton, &core);
    ck_assert_ptr_nonnull(upload->record);
    called(word);
}

static void event_post_create(void *baton, tus_upload_t *upload)
{
    tell_module("post-create", baton, upload);
}

static void event_post_finish(void *baton, tus_upload_t *upload)
{
    tell_module("post-finish", baton, upload);
}

static void event_post_terminate(void *baton, tus_upload_t *upload)
{
    tell_module("post-terminate", baton, upload);
}

static void event_cut(void *baton, tus_upload_t *upload, apr_off_t stored)
{
    (void)stored;
    tell_module("cut", baton, upload);
}

static void event_expired(void *baton, tus_upload_t *upload)
{
    tell_module("expired", baton, upload);
}

static void event_lost(void *baton, const char *id)
{
    (void)baton;
    ck_assert(tus_id_is_valid(id));
    called("lost");
}

static const tus_events_t recording_events = {
    .pre_create = event_pre_create,
    .not_made = event_not_made,
    .will_create = event_will_create,
    .post_create = event_post_create,
    .pre_finish = event_pre_finish,
    .will_finish = event_will_finish,
    .post_finish = event_post_finish,
    .pre_terminate = event_pre_terminate,
    .will_terminate = event_will_terminate,
    .post_terminate = event_post_terminate,
    .expired = event_expired,
    .cut = event_cut,
    .lost = event_lost,
};

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
    marks = apr_hash_make(unit_pool);
    synced = apr_hash_make(unit_pool);
    links = apr_hash_make(unit_pool);
    locked = apr_hash_make(unit_pool);
    asked = 0;
    on_asked = NULL;
    on_pre_create = NULL;
    fake_time = START;
    fail_no_more();
    die_at(0);
    do_at(0, NULL);

    memset(&core, 0, sizeof(core));
    open_store();
    core.meta = &meta;
    on_disk = NULL;
    core.locks = &locks_in_memory;
    core.sync = TUS_SYNC_FINISH;
    core.lock_timeout = apr_time_from_msec(20);
    core.now = tick;
    core.events = &recording_events;
    core.baton = &core;
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
