/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "indexed.h"

#include <apr_strings.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

tus_meta_place_t place;
tus_meta_t *meta;
apr_hash_t *held;
apr_hash_t *entries;
int settled;
static int descriptors;

/* ---- fixture ------------------------------------------------------------- */

void open_indexed(const tus_meta_provider_t *provider, const char *driver, int beside)
{
    scratch_mkdir("store");
    scratch_mkdir("state");
    held = apr_hash_make(unit_pool);
    entries = apr_hash_make(unit_pool);
    settled = 0;
    place = (tus_meta_place_t){ .info_dir = -1,
                                .state_dir = scratch_path("state"),
                                .driver = driver,
                                .mode = APR_FPROT_UREAD | APR_FPROT_UWRITE };
    ck_assert_int_eq(apr_global_mutex_create(&place.mutex, NULL, APR_LOCK_DEFAULT, unit_pool),
                     APR_SUCCESS);
    descriptors = open_descriptors();
    if (beside) {
        place.info_dir = open(scratch_path("store"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        ck_assert_int_ge(place.info_dir, 0);
    }
    ck_assert_int_eq(provider->open(&meta, &place, unit_pool), APR_SUCCESS);
    ck_assert_ptr_eq(meta->provider, provider);
}

void close_indexed(void)
{
    if (place.info_dir != -1) {
        close(place.info_dir);
    }
    ck_assert_int_eq(open_descriptors(), descriptors);
}

static void setup(void)
{
    open_indexed(&tus_meta_dbm, NULL, 1);
}

TCase *add_indexed_case(Suite *suite, const char *name)
{
    TCase *tcase = add_scratch_case(suite, name);

    tcase_add_checked_fixture(tcase, setup, close_indexed);
    tcase_set_timeout(tcase, 300);
    return tcase;
}

void put_record(tus_record_t *record)
{
    record->ours = 1;
    record->created = 1700000000000001;
    ck_assert_int_eq(meta->provider->put(meta, record, 0, unit_pool), APR_SUCCESS);
}

void create(const char *id)
{
    tus_record_t record = { .id = id, .size = (apr_off_t)strlen(id) };

    ck_assert_int_eq(meta->provider->note(meta, id, TUS_NOTE_CREATE), APR_SUCCESS);
    put_record(&record);
}

void terminate(const char *id)
{
    ck_assert_int_eq(meta->provider->note(meta, id, TUS_NOTE_CHANGE), APR_SUCCESS);
    ck_assert_int_eq(meta->provider->remove(meta, id), APR_SUCCESS);
}

tus_settled_e settle(void *baton, const char *id, int created, tus_record_t **record, apr_pool_t *p)
{
    apr_status_t rv;

    (void)created;
    ck_assert_ptr_eq(baton, &place);
    settled++;
    if (apr_hash_get(held, id, APR_HASH_KEY_STRING)) {
        return TUS_SETTLED_CARRY;
    }
    rv = meta->provider->get(meta, id, record, p);
    return rv == APR_SUCCESS ? TUS_SETTLED_KEEP : TUS_SETTLED_GONE;
}

apr_status_t fold_for(apr_interval_time_t budget)
{
    apr_pool_t *p;
    apr_status_t rv;

    apr_pool_create(&p, unit_pool);
    rv = meta->provider->fold(meta, settle, &place, budget, NULL, p);
    apr_pool_destroy(p);
    return rv;
}

void fold(void)
{
    apr_status_t rv;

    do {
        rv = fold_for(LONG_BUDGET);
    } while (rv == TUS_EDAMAGED || APR_STATUS_IS_INCOMPLETE(rv));
    ck_assert_int_eq(rv, APR_SUCCESS);
}

static apr_status_t keep_entry(void *baton, const tus_entry_t *entry)
{
    tus_entry_t *copy = apr_pmemdup(unit_pool, entry, sizeof(*entry));

    ck_assert_ptr_eq(baton, &place);
    copy->id = apr_pstrdup(unit_pool, entry->id);
    copy->owner = apr_pstrdup(unit_pool, entry->owner);
    copy->filename = apr_pstrdup(unit_pool, entry->filename);
    ck_assert_msg(!apr_hash_get(entries, copy->id, APR_HASH_KEY_STRING), "%s twice", copy->id);
    apr_hash_set(entries, copy->id, APR_HASH_KEY_STRING, copy);
    return APR_SUCCESS;
}

apr_status_t walk(void)
{
    apr_hash_clear(entries);
    return meta->provider->walk(meta, keep_entry, &place, unit_pool);
}

const tus_entry_t *entry_of(const char *id)
{
    return apr_hash_get(entries, id, APR_HASH_KEY_STRING);
}

const char *name_of(int i)
{
    return apr_psprintf(unit_pool, "upload-%d", i);
}

void create_many(int from, int to)
{
    for (; from < to; from++) {
        create(name_of(from));
    }
}

void assert_indexed(int from, int to)
{
    int i;

    ck_assert_int_eq(walk(), APR_SUCCESS);
    for (i = from; i < to; i++) {
        ck_assert_msg(entry_of(name_of(i)) != NULL, "%s is missing", name_of(i));
    }
    ck_assert_int_eq(apr_hash_count(entries), to - from);
}
