/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The metadata provider "dbm": the index, through fold and walk. */
#include "indexed.h"

#include <apr_strings.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- fold and walk ------------------------------------------------------- */

START_TEST(test_before_the_first_fold)
{
    ck_assert_int_eq(walk(), TUS_EDAMAGED);
    fold();
    assert_indexed(0, 0);
    settled = 0;
    fold();
    ck_assert_int_eq(settled, 0);
}
END_TEST

START_TEST(test_entries)
{
    tus_record_t record = { .id = "one", .size = TUS_SIZE_UNKNOWN, .owner = "joe" };
    const char *header = "filename d29ybGQ=";
    const tus_entry_t *entry;

    ck_assert_ptr_null(tus_metadata_parse(header, &record.pairs, unit_pool));
    ck_assert_int_eq(tus_meta_dbm.note(meta, "one", TUS_NOTE_CREATE), APR_SUCCESS);
    put_record(&record);
    fold();
    ck_assert_int_eq(walk(), APR_SUCCESS);
    entry = entry_of("one");
    ck_assert_ptr_nonnull(entry);
    ck_assert_int_eq(entry->size, TUS_SIZE_UNKNOWN);
    ck_assert_int_eq(entry->created, 1700000000000001);
    ck_assert_int_eq(entry->finished, 0);
    ck_assert_str_eq(entry->owner, "joe");
    ck_assert_str_eq(entry->filename, "world");
    record.size = 5;
    record.finished = 1700000000000002;
    ck_assert_int_eq(tus_meta_dbm.note(meta, "one", TUS_NOTE_CHANGE), APR_SUCCESS);
    put_record(&record);
    fold();
    ck_assert_int_eq(walk(), APR_SUCCESS);
    ck_assert_int_eq(apr_hash_count(entries), 1);
    ck_assert_int_eq(entry_of("one")->size, 5);
    ck_assert_int_eq(entry_of("one")->finished, 1700000000000002);
}
END_TEST

static void fill_and_change(void)
{
    int i;

    create_many(0, 600);
    fold();
    assert_indexed(0, 600);
    for (i = 0; i < 300; i++) {
        terminate(name_of(i));
    }
    create_many(600, 700);
    fold();
    assert_indexed(300, 700);
    create_many(0, 300); /* the same ids once more */
    fold();
    assert_indexed(0, 700);
    terminate("never");
    fold();
    assert_indexed(0, 700);
}

START_TEST(test_drivers)
{
    static const char *const names[] = { NULL, "sdbm", "gdbm", "db" };

    place.driver = names[_i];
    if (tus_meta_dbm.check(place.driver, unit_pool) != NULL) {
        ck_assert_int_gt(_i, 1);
        ck_assert_int_ne(fold_for(LONG_BUDGET), APR_SUCCESS);
        return;
    }
    fill_and_change();
}
END_TEST

START_TEST(test_another_driver)
{
    create_many(0, 10);
    fold();
    place.driver = "db";
    if (tus_meta_dbm.check(place.driver, unit_pool) == NULL) {
        ck_assert_int_eq(walk(), TUS_EDAMAGED);
        fold();
        assert_indexed(0, 10);
        ck_assert(!scratch_exists("state/index.sdbm.pag"));
    }
    place.driver = "nodbm";
    ck_assert_int_eq(fold_for(LONG_BUDGET), APR_EINVAL);
    ck_assert_int_eq(walk(), TUS_EDAMAGED);
    place.driver = "sdbm";
    fold();
    assert_indexed(0, 10);
}
END_TEST

static const char *id_of_length(int len)
{
    char *id = apr_palloc(unit_pool, (apr_size_t)len + 1);
    int i;

    memset(id, 'x', (apr_size_t)len);
    id[len] = '\0';
    for (i = 190; i < len - 1; i += 190) {
        id[i] = '/';
    }
    return id;
}

START_TEST(test_ids_of_all_lengths)
{
    int len;

    place.info_dir = (close(place.info_dir), -1); /* there directories are made as needed */
    for (len = 1; len <= 1000; len++) {
        create(id_of_length(len));
    }
    fold();
    ck_assert_int_eq(walk(), APR_SUCCESS);
    ck_assert_int_eq(apr_hash_count(entries), 1000);
    for (len = 1; len <= 1000; len++) {
        ck_assert_int_eq(entry_of(id_of_length(len))->size, len);
        terminate(id_of_length(len));
    }
    fold();
    assert_indexed(0, 0);
    place.info_dir = open(scratch_path("store"), O_RDONLY | O_DIRECTORY);
}
END_TEST

/* Whatever a client names its file: the entry stays so small that sdbm keeps three on a page. */
START_TEST(test_bulky_metadata)
{
    static const char *const texts[] = {
        "x", "\x01", "\xc3\xa4", "\xff", "\"\\", "\xf0\x9f\x98\x80"
    };
    tus_record_t record = { .size = 1 };
    char *text = apr_pcalloc(unit_pool, 5001);
    tus_pair_t *pair;
    int i, j;

    record.pairs = apr_array_make(unit_pool, 1, sizeof(tus_pair_t));
    pair = apr_array_push(record.pairs);
    for (i = 0; i < 600; i++) {
        const char *unit = texts[i % 6];

        text[0] = '\0';
        for (j = 0; j < (i < 300 ? 1000 : i % 50); j++) {
            strcat(text, unit);
        }
        *pair = (tus_pair_t){ .key = "filename", .value = text, .len = strlen(text) };
        record.owner = i % 2 ? text : NULL;
        record.id = name_of(i);
        ck_assert_int_eq(tus_meta_dbm.note(meta, record.id, TUS_NOTE_CREATE), APR_SUCCESS);
        put_record(&record);
    }
    fold();
    assert_indexed(0, 600);
    ck_assert_int_ge(strlen(entry_of(name_of(0))->filename), 20);
    for (i = 0; i < 600; i++) {
        const tus_entry_t *entry = entry_of(name_of(i));

        ck_assert_int_le((entry->filename ? strlen(entry->filename) : 0)
                             + (entry->owner ? strlen(entry->owner) : 0),
                         240);
    }
}
END_TEST

/* ---- holding, cancelling, two folders ------------------------------------ */

START_TEST(test_held_uploads_are_asked_again)
{
    fold();
    create_many(0, 3);
    apr_hash_set(held, name_of(1), APR_HASH_KEY_STRING, "");
    fold();
    ck_assert_int_eq(walk(), APR_SUCCESS);
    ck_assert_int_eq(apr_hash_count(entries), 2);
    ck_assert_str_eq(strchr(scratch_get("state/journal"), '\n'), "\n+upload-1\n");
    apr_hash_clear(held);
    fold();
    assert_indexed(0, 3);
}
END_TEST

static int cancel_after(void *baton)
{
    int *left = baton;

    return --*left < 0;
}

START_TEST(test_cancel)
{
    int left = 5;
    tus_cancel_t cancel = { cancel_after, &left };

    fold();
    create_many(0, 20);
    ck_assert_int_eq(tus_meta_dbm.fold(meta, settle, &place, LONG_BUDGET, &cancel, unit_pool),
                     APR_EINTR);
    ck_assert_int_eq(settled, 5);
    fold();
    assert_indexed(0, 20);
}
END_TEST

static tus_settled_e fold_inside(void *baton, const char *id, int created, tus_record_t **record,
                                 apr_pool_t *p)
{
    ck_assert_int_eq(fold_for(LONG_BUDGET), APR_EBUSY);
    return settle(baton, id, created, record, p);
}

START_TEST(test_one_folder_at_a_time)
{
    fold();
    create_many(0, 3);
    ck_assert_int_eq(tus_meta_dbm.fold(meta, fold_inside, &place, LONG_BUDGET, NULL, unit_pool),
                     APR_SUCCESS);
    ck_assert_int_eq(settled, 3);
    assert_indexed(0, 3);
}
END_TEST

Suite *index_suite(void)
{
    Suite *suite = suite_create("index");
    TCase *tcase = add_indexed_case(suite, "index");

    tcase_add_test(tcase, test_before_the_first_fold);
    tcase_add_test(tcase, test_entries);
    tcase_add_loop_test(tcase, test_drivers, 0, 4);
    tcase_add_test(tcase, test_another_driver);
    tcase_add_test(tcase, test_ids_of_all_lengths);
    tcase_add_test(tcase, test_bulky_metadata);
    tcase_add_test(tcase, test_held_uploads_are_asked_again);
    tcase_add_test(tcase, test_cancel);
    tcase_add_test(tcase, test_one_folder_at_a_time);
    return suite;
}
