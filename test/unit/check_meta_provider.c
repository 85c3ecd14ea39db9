/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What mod_tus.h promises of every metadata provider, run through by each of
 * them. Other processes are real ones, with the metadata opened by themselves.
 */
#include "check_meta_provider.h"
#include "indexed.h"
#include "peers.h"

#include <apr_shm.h>
#include <apr_strings.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_CASES 16

/* Those under test; a loop test's index says which. */
static meta_case_t cases[MAX_CASES];
static int case_count;

static const tus_meta_provider_t *provider; /* of the running test */

/* What a child that will be killed says of how far it came. */
typedef struct progress_t {
    apr_int64_t begun; /* what it does now */
    apr_int64_t done;  /* what it did, for certain; -1 for none */
} progress_t;

static progress_t *progress;

static void begin(int index)
{
    apr_shm_t *memory;

    provider = cases[index].provider;
    open_indexed(provider, cases[index].driver, cases[index].beside);
    ck_assert_int_eq(apr_shm_create(&memory, sizeof(*progress), NULL, unit_pool), APR_SUCCESS);
    progress = apr_shm_baseaddr_get(memory);
    *progress = (progress_t){ -1, -1 };
}

static void set_progress(apr_int64_t *to, apr_int64_t value)
{
    __atomic_store_n(to, value, __ATOMIC_SEQ_CST);
}

/* ---- another process ----------------------------------------------------- */

typedef struct task_t {
    peer_fn fn;
    void *arg;
} task_t;

static int open_and_run(peer_t *parent, void *arg)
{
    task_t *task = arg;

    if (apr_global_mutex_child_init(&place.mutex, apr_global_mutex_lockfile(place.mutex), unit_pool)
        || provider->open(&meta, &place, unit_pool)) {
        return 81;
    }
    return task->fn(parent, task->arg);
}

static peer_t start(peer_fn fn, void *arg)
{
    task_t task = { fn, arg };

    return spawn_peer(open_and_run, &task);
}

static void run_elsewhere(peer_fn fn, void *arg)
{
    peer_t peer = start(fn, arg);

    ck_assert_int_eq(reap_peer(&peer), 0);
}

/* ---- ids ----------------------------------------------------------------- */

static const char *long_id(char c)
{
    char segment[200];

    memset(segment, c, 199);
    segment[199] = '\0';
    return apr_pstrcat(unit_pool, segment, "/", segment, "/", segment, "/", segment, "/", segment,
                       "x", NULL);
}

static const char *segment_of(char c, apr_size_t len)
{
    char *segment = apr_palloc(unit_pool, len + 1);

    memset(segment, c, len);
    segment[len] = '\0';
    return segment;
}

#define KINDS 14

/* Whatever an id may be: no two of them may be mixed up. */
static const char *kind_of_id(int kind)
{
    switch (kind) {
    case 0:
        return "0123456789abcdef0123456789abcdef";
    case 1:
        return "a";
    case 2:
        return "A.b_c-~";
    case 3:
        return "~";
    case 4:
        return "~53e1788ca19dde88a65ea0ae604c8dbdb0bed9b7"; /* SHA-1 of the next one */
    case 5:
        return "d/a";
    case 6:
        return "d/b/c";
    case 7:
        return "d-a";
    case 8:
        return segment_of('k', 64);
    case 9:
        return segment_of('k', 65);
    case 10:
        return segment_of('k', 200);
    case 11:
        return long_id('x');
    case 12:
        return long_id('y');
    default:
        return "links/unverified";
    }
}

/* The store has an id's directories before there is a record. */
static void make_dirs(const char *id)
{
    const char *slash;

    for (slash = strchr(id, '/'); place.info_dir != -1 && slash; slash = strchr(slash + 1, '/')) {
        mkdirat(place.info_dir, apr_pstrmemdup(unit_pool, id, (apr_size_t)(slash - id)), 0755);
    }
}

static const char *const invalid_ids[] = { "",      "..",       "../one", "a/../one", "/one",
                                           "one/",  ".one",     "a//one", "a\nb",     "a b",
                                           "a%2fb", "one.info", "\xff",   "a/.b",     "+one" };

#define INVALID_IDS (sizeof(invalid_ids) / sizeof(invalid_ids[0]))

/* ---- records ------------------------------------------------------------- */

static tus_record_t *make_record(const char *id, apr_off_t size)
{
    tus_record_t *record = apr_pcalloc(unit_pool, sizeof(*record));

    record->id = id;
    record->size = size;
    record->ours = 1;
    record->created = 1700000000123456;
    return record;
}

static apr_status_t put(const char *id, apr_off_t size)
{
    return provider->put(meta, make_record(id, size), 0, unit_pool);
}

static apr_status_t get(const char *id)
{
    tus_record_t *record;

    return provider->get(meta, id, &record, unit_pool);
}

static apr_off_t size_of(const char *id)
{
    tus_record_t *record = NULL;

    ck_assert_int_eq(provider->get(meta, id, &record, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(record->id, id);
    return record->size;
}

START_TEST(nothing_there)
{
    apr_array_header_t *finals;
    apr_off_t offset;

    begin(_i);
    ck_assert(APR_STATUS_IS_ENOENT(get("one")));
    ck_assert_int_eq(provider->remove(meta, "one"), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_ENOENT(provider->marked(meta, "one", &offset)));
    ck_assert_int_eq(provider->unmark(meta, "one"), APR_SUCCESS);
    ck_assert_int_eq(provider->links(meta, "one", &finals, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(finals->nelts, 0);
    ck_assert_int_eq(provider->unlink(meta, "one"), APR_SUCCESS);
    close_indexed();
}
END_TEST

static void fill_in(tus_record_t *record)
{
    record->metadata = "filename d29ybGQ=,bare,bytes AP8=";
    ck_assert_ptr_null(tus_metadata_parse(record->metadata, &record->pairs, unit_pool));
    record->is_final = 1;
    record->parts = apr_array_make(unit_pool, 2, sizeof(const char *));
    APR_ARRAY_PUSH(record->parts, const char *) = "d/part";
    APR_ARRAY_PUSH(record->parts, const char *) = "d/part";
    record->storage_type = "filestore";
    record->storage_path = "/somewhere/one";
    record->storage_info_path = "/somewhere/one.info";
    record->finished = 1700000000123457;
    record->expire = apr_time_from_sec(7);
    record->expired = 1700000000123458;
    record->owner = "joe \"the\" \xc3\xa4";
    record->concat = "final;/files/d/part /files/d/part";
}

START_TEST(record_comes_back_whole)
{
    tus_record_t *record = make_record("one", 42), *back = NULL;

    begin(_i);
    fill_in(record);
    ck_assert_int_eq(provider->put(meta, record, 1, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(provider->get(meta, "one", &back, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(back->id, "one");
    ck_assert_int_eq(back->size, 42);
    ck_assert_str_eq(back->metadata, record->metadata);
    ck_assert_int_eq(back->pairs->nelts, 3);
    ck_assert_str_eq(tus_metadata_get(back->pairs, "filename")->value, "world");
    ck_assert_int_eq(back->is_partial, 0);
    ck_assert_int_eq(back->is_final, 1);
    ck_assert_int_eq(back->parts->nelts, 2);
    ck_assert_str_eq(APR_ARRAY_IDX(back->parts, 1, const char *), "d/part");
    ck_assert_str_eq(back->storage_type, record->storage_type);
    ck_assert_str_eq(back->storage_path, record->storage_path);
    ck_assert_str_eq(back->storage_info_path, record->storage_info_path);
    ck_assert_int_eq(back->ours, 1);
    ck_assert_int_eq(back->created, record->created);
    ck_assert_int_eq(back->finished, record->finished);
    ck_assert_int_eq(back->expire, record->expire);
    ck_assert_int_eq(back->expired, record->expired);
    ck_assert_str_eq(back->owner, record->owner);
    ck_assert_str_eq(back->concat, record->concat);
    close_indexed();
}
END_TEST

START_TEST(put_replaces_the_whole_record)
{
    tus_record_t *record = make_record("one", 42), *back = NULL;
    int durable;

    begin(_i);
    fill_in(record);
    for (durable = 0; durable <= 1; durable++) {
        ck_assert_int_eq(provider->put(meta, record, durable, unit_pool), APR_SUCCESS);
        ck_assert_int_eq(
            provider->put(meta, make_record("one", TUS_SIZE_UNKNOWN), durable, unit_pool),
            APR_SUCCESS);
        ck_assert_int_eq(provider->get(meta, "one", &back, unit_pool), APR_SUCCESS);
        ck_assert_int_eq(back->size, TUS_SIZE_UNKNOWN);
        ck_assert_ptr_null(back->owner);
        ck_assert_ptr_null(back->parts);
        ck_assert_int_eq(back->finished, 0);
    }
    close_indexed();
}
END_TEST

START_TEST(records_are_told_apart)
{
    int kind, other;

    begin(_i);
    for (kind = 0; kind < KINDS; kind++) {
        make_dirs(kind_of_id(kind));
        ck_assert(APR_STATUS_IS_ENOENT(get(kind_of_id(kind))));
        ck_assert_int_eq(put(kind_of_id(kind), kind), APR_SUCCESS);
    }
    for (kind = 0; kind < KINDS; kind++) {
        for (other = kind; other < KINDS; other++) {
            ck_assert_int_eq(size_of(kind_of_id(other)), other);
        }
        ck_assert_int_eq(provider->remove(meta, kind_of_id(kind)), APR_SUCCESS);
        ck_assert(APR_STATUS_IS_ENOENT(get(kind_of_id(kind))));
        ck_assert_int_eq(provider->remove(meta, kind_of_id(kind)), APR_SUCCESS);
    }
    close_indexed();
}
END_TEST

START_TEST(invalid_ids_are_refused)
{
    apr_array_header_t *finals;
    apr_off_t offset;
    apr_size_t i;

    begin(_i);
    for (i = 0; i < INVALID_IDS; i++) {
        const char *id = invalid_ids[i];

        ck_assert_int_eq(get(id), APR_EINVAL);
        ck_assert_int_ne(put(id, 1), APR_SUCCESS);
        ck_assert_int_eq(provider->remove(meta, id), APR_EINVAL);
        ck_assert_int_eq(provider->note(meta, id, TUS_NOTE_CHANGE), APR_EINVAL);
        ck_assert_int_eq(provider->mark(meta, id, 1, 0), APR_EINVAL);
        ck_assert_int_eq(provider->unmark(meta, id), APR_EINVAL);
        ck_assert_int_eq(provider->marked(meta, id, &offset), APR_EINVAL);
        ck_assert_int_eq(provider->link(meta, id, "final"), APR_EINVAL);
        ck_assert_int_eq(provider->link(meta, "part", id), APR_EINVAL);
        ck_assert_int_eq(provider->links(meta, id, &finals, unit_pool), APR_EINVAL);
        ck_assert_int_eq(provider->unlink(meta, id), APR_EINVAL);
    }
    ck_assert_int_eq(provider->links(meta, "part", &finals, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(finals->nelts, 0);
    fold();
    ck_assert_int_eq(settled, 0);
    close_indexed();
}
END_TEST

START_TEST(unusable_record_is_not_written)
{
    begin(_i);
    ck_assert_int_ne(put("one", -2), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_ENOENT(get("one")));
    ck_assert_int_eq(put("one", 1), APR_SUCCESS);
    ck_assert_int_ne(put("one", -2), APR_SUCCESS);
    ck_assert_int_eq(size_of("one"), 1);
    close_indexed();
}
END_TEST

static int put_one(peer_t *parent, void *arg)
{
    (void)parent;
    (void)arg;
    return put("one", 7) == APR_SUCCESS ? 0 : 1;
}

static int remove_one(peer_t *parent, void *arg)
{
    (void)parent;
    (void)arg;
    return get("one") == APR_SUCCESS ? provider->remove(meta, "one") : 1;
}

START_TEST(every_process_has_the_same_records)
{
    begin(_i);
    run_elsewhere(put_one, NULL);
    ck_assert_int_eq(size_of("one"), 7);
    run_elsewhere(remove_one, NULL);
    ck_assert(APR_STATUS_IS_ENOENT(get("one")));
    close_indexed();
}
END_TEST

/* The owner's length tells the size, so that a mixture of two records shows. */
static apr_status_t put_matching(apr_off_t size, apr_pool_t *p)
{
    tus_record_t record = { .id = "one", .size = size, .ours = 1, .created = 1 };
    char *owner = apr_palloc(p, (apr_size_t)size + 1);

    memset(owner, 'o', (apr_size_t)size);
    owner[size] = '\0';
    record.owner = owner;
    return provider->put(meta, &record, size % 16 == 0, p);
}

static int put_for_ever(peer_t *parent, void *arg)
{
    apr_off_t i;
    apr_pool_t *p;

    (void)arg;
    say(parent);
    for (i = 0;; i++) {
        apr_pool_create(&p, unit_pool);
        if (put_matching(1 + i % 6000, p) != APR_SUCCESS) {
            return 1;
        }
        apr_pool_destroy(p);
    }
}

static void assert_matching(void)
{
    tus_record_t *record = NULL;
    apr_pool_t *p;

    apr_pool_create(&p, unit_pool);
    ck_assert_int_eq(provider->get(meta, "one", &record, p), APR_SUCCESS);
    ck_assert_uint_eq(strlen(record->owner), (apr_size_t)record->size);
    apr_pool_destroy(p);
}

START_TEST(reader_sees_whole_records)
{
    peer_t peer;
    int i;

    begin(_i);
    ck_assert_int_eq(put_matching(1, unit_pool), APR_SUCCESS);
    peer = start(put_for_ever, NULL);
    ck_assert(hear(&peer));
    for (i = 0; i < 2000; i++) {
        assert_matching();
    }
    kill_some_time(&peer, 1);
    close_indexed();
}
END_TEST

START_TEST(killed_while_it_puts)
{
    int round;

    begin(_i);
    ck_assert_int_eq(put_matching(1, unit_pool), APR_SUCCESS);
    for (round = 0; round < 60; round++) {
        peer_t peer = start(put_for_ever, NULL);

        ck_assert(hear(&peer));
        kill_some_time(&peer, 2000);
        assert_matching();
        ck_assert_int_eq(put_matching(5, unit_pool), APR_SUCCESS);
        ck_assert_int_eq(size_of("one"), 5);
    }
    ck_assert_int_eq(provider->remove(meta, "one"), APR_SUCCESS);
    close_indexed();
}
END_TEST

/* ---- the index ----------------------------------------------------------- */

/* What settle was asked, "+ID" and "=ID", a space between them. */
static const char *asked_for;
static const char *carried; /* this id is carried */

static tus_settled_e write_down(void *baton, const char *id, int was_created, tus_record_t **record,
                                apr_pool_t *p)
{
    asked_for =
        apr_pstrcat(unit_pool, asked_for, *asked_for ? " " : "", was_created ? "+" : "=", id, NULL);
    if (carried && strcmp(carried, id) == 0) {
        return TUS_SETTLED_CARRY;
    }
    return settle(baton, id, was_created, record, p);
}

static const char *fold_asks(void)
{
    asked_for = "";
    ck_assert_int_eq(provider->fold(meta, write_down, &place, LONG_BUDGET, NULL, unit_pool),
                     APR_SUCCESS);
    return asked_for;
}

START_TEST(fold_asks_for_what_was_noted)
{
    begin(_i);
    carried = NULL;
    fold();
    ck_assert_int_eq(provider->note(meta, "one", TUS_NOTE_CREATE), APR_SUCCESS);
    ck_assert_int_eq(provider->note(meta, "d/two", TUS_NOTE_CHANGE), APR_SUCCESS);
    ck_assert_str_eq(fold_asks(), "+one =d/two");
    ck_assert_str_eq(fold_asks(), "");
    ck_assert_int_eq(provider->note(meta, "one", TUS_NOTE_CHANGE), APR_SUCCESS);
    ck_assert_str_eq(fold_asks(), "=one");
    close_indexed();
}
END_TEST

START_TEST(fold_asks_again_for_what_is_held)
{
    begin(_i);
    fold();
    carried = "one";
    ck_assert_int_eq(provider->note(meta, "one", TUS_NOTE_CREATE), APR_SUCCESS);
    ck_assert_int_eq(provider->note(meta, "two", TUS_NOTE_CREATE), APR_SUCCESS);
    ck_assert_str_eq(fold_asks(), "+one +two");
    ck_assert_str_eq(fold_asks(), "+one");
    ck_assert_int_eq(walk(), APR_SUCCESS);
    ck_assert_int_eq(apr_hash_count(entries), 0);
    carried = NULL;
    ck_assert_int_eq(put("one", 3), APR_SUCCESS);
    ck_assert_str_eq(fold_asks(), "+one");
    ck_assert_str_eq(fold_asks(), "");
    ck_assert_int_eq(walk(), APR_SUCCESS);
    ck_assert_ptr_nonnull(entry_of("one"));
    close_indexed();
}
END_TEST

START_TEST(walk_tells_what_there_is)
{
    begin(_i);
    ck_assert_int_eq(walk(), TUS_EDAMAGED);
    fold();
    assert_indexed(0, 0);
    create_many(0, 300);
    fold();
    assert_indexed(0, 300);
    for (int i = 0; i < 100; i++) {
        terminate(name_of(i));
    }
    terminate("never");
    fold();
    assert_indexed(100, 300);
    create_many(0, 100);
    fold();
    assert_indexed(0, 300);
    close_indexed();
}
END_TEST

START_TEST(entries_say_what_the_records_say)
{
    tus_record_t *record = make_record("one", 42);
    const tus_entry_t *entry;

    begin(_i);
    fold();
    fill_in(record);
    ck_assert_int_eq(provider->note(meta, "one", TUS_NOTE_CREATE), APR_SUCCESS);
    ck_assert_int_eq(provider->put(meta, record, 0, unit_pool), APR_SUCCESS);
    fold();
    ck_assert_int_eq(walk(), APR_SUCCESS);
    entry = entry_of("one");
    ck_assert_ptr_nonnull(entry);
    ck_assert_int_eq(entry->size, 42);
    ck_assert_int_eq(entry->created, record->created);
    ck_assert_int_eq(entry->finished, record->finished);
    ck_assert_int_eq(entry->expire, record->expire);
    ck_assert_int_eq(entry->expired, record->expired);
    ck_assert_int_eq(entry->is_partial, 0);
    ck_assert_int_eq(entry->is_final, 1);
    ck_assert_str_eq(entry->owner, record->owner);
    ck_assert_str_eq(entry->filename, "world");
    close_indexed();
}
END_TEST

START_TEST(entries_are_told_apart)
{
    int kind;

    begin(_i);
    for (kind = 0; kind < KINDS; kind++) {
        make_dirs(kind_of_id(kind));
        ck_assert_int_eq(provider->note(meta, kind_of_id(kind), TUS_NOTE_CREATE), APR_SUCCESS);
        ck_assert_int_eq(put(kind_of_id(kind), kind), APR_SUCCESS);
    }
    fold();
    ck_assert_int_eq(walk(), APR_SUCCESS);
    ck_assert_uint_eq(apr_hash_count(entries), KINDS);
    for (kind = 0; kind < KINDS; kind++) {
        ck_assert_ptr_nonnull(entry_of(kind_of_id(kind)));
        ck_assert_int_eq(entry_of(kind_of_id(kind))->size, kind);
    }
    close_indexed();
}
END_TEST

static apr_status_t stop_at_second(void *count, const tus_entry_t *entry)
{
    ck_assert_ptr_nonnull(entry->id);
    return ++*(int *)count == 2 ? APR_EGENERAL : APR_SUCCESS;
}

START_TEST(walk_ends_when_it_is_told)
{
    int count = 0;

    begin(_i);
    create_many(0, 10);
    fold();
    ck_assert_int_eq(provider->walk(meta, stop_at_second, &count, unit_pool), APR_EGENERAL);
    ck_assert_int_eq(count, 2);
    close_indexed();
}
END_TEST

static apr_status_t terminate_and_fold(void *baton, const tus_entry_t *entry)
{
    (void)baton;
    terminate(entry->id);
    fold();
    return APR_SUCCESS;
}

START_TEST(index_is_changed_during_a_walk)
{
    begin(_i);
    create_many(0, 10);
    fold();
    ck_assert_int_eq(provider->walk(meta, terminate_and_fold, NULL, unit_pool), APR_SUCCESS);
    assert_indexed(0, 0);
    close_indexed();
}
END_TEST

static int always(void *baton)
{
    (void)baton;
    return 1;
}

START_TEST(cancelled_fold_loses_nothing)
{
    tus_cancel_t cancel = { always, NULL };

    begin(_i);
    fold();
    create_many(0, 10);
    ck_assert_int_eq(provider->fold(meta, settle, &place, LONG_BUDGET, &cancel, unit_pool),
                     APR_EINTR);
    fold();
    assert_indexed(0, 10);
    close_indexed();
}
END_TEST

static peer_t *folder_parent;

static tus_settled_e wait_while_folding(void *baton, const char *id, int was_created,
                                        tus_record_t **record, apr_pool_t *p)
{
    say(folder_parent);
    hear(folder_parent);
    return settle(baton, id, was_created, record, p);
}

static int fold_slowly(peer_t *parent, void *arg)
{
    (void)arg;
    folder_parent = parent;
    return provider->fold(meta, wait_while_folding, &place, LONG_BUDGET, NULL, unit_pool);
}

START_TEST(one_folder_at_a_time)
{
    peer_t peer;

    begin(_i);
    fold();
    create_many(0, 1);
    peer = start(fold_slowly, NULL);
    ck_assert(hear(&peer));
    ck_assert_int_eq(fold_for(LONG_BUDGET), APR_EBUSY);
    ck_assert_int_eq(provider->note(meta, "late", TUS_NOTE_CHANGE), APR_SUCCESS);
    say(&peer);
    ck_assert_int_eq(reap_peer(&peer), 0);
    ck_assert_int_eq(walk(), APR_SUCCESS);
    ck_assert_ptr_nonnull(entry_of(name_of(0)));
    carried = NULL;
    ck_assert_str_eq(fold_asks(), "=late");
    close_indexed();
}
END_TEST

#define WRITERS 4
#define EACH 100

/* The record before the note: here nobody holds an upload while it is made. */
static int change_some(peer_t *parent, void *from)
{
    int first = *(int *)from, i;

    hear(parent);
    for (i = first; i < first + EACH; i++) {
        if (put(name_of(i), i) != APR_SUCCESS
            || provider->note(meta, name_of(i), TUS_NOTE_CHANGE) != APR_SUCCESS) {
            return 1;
        }
    }
    return 0;
}

START_TEST(notes_of_many_processes)
{
    peer_t peers[WRITERS];
    int i, first;

    begin(_i);
    fold();
    for (i = 0; i < WRITERS; i++) {
        first = i * EACH;
        peers[i] = start(change_some, &first);
    }
    for (i = 0; i < WRITERS; i++) {
        say(&peers[i]);
    }
    for (i = 0; i < 20; i++) {
        fold(); /* while they write */
    }
    for (i = 0; i < WRITERS; i++) {
        ck_assert_int_eq(reap_peer(&peers[i]), 0);
    }
    fold();
    assert_indexed(0, WRITERS * EACH);
    close_indexed();
}
END_TEST

/* As often as it is called for: it says itself when another call is needed. */
static void fold_until_done(void)
{
    apr_status_t rv;

    do {
        rv = fold_for(LONG_BUDGET);
    } while (rv == TUS_EDAMAGED || APR_STATUS_IS_INCOMPLETE(rv));
    ck_assert_int_eq(rv, APR_SUCCESS);
}

static int fold_for_ever(peer_t *parent, void *arg)
{
    apr_status_t rv;

    (void)arg;
    say(parent);
    do {
        rv = fold_for(LONG_BUDGET);
    } while (rv == APR_SUCCESS || rv == TUS_EDAMAGED || APR_STATUS_IS_INCOMPLETE(rv));
    return 1;
}

START_TEST(killed_while_it_folds)
{
    int round;

    begin(_i);
    for (round = 0; round < 20; round++) {
        peer_t peer;

        create_many(round * 20, round * 20 + 20);
        peer = start(fold_for_ever, NULL);
        ck_assert(hear(&peer));
        kill_some_time(&peer, 3000);
        if (round % 2) {
            fold_until_done();
            assert_indexed(0, round * 20 + 20);
        }
    }
    close_indexed();
}
END_TEST

START_TEST(small_budgets_add_up)
{
    apr_status_t rv;
    int i;

    begin(_i);
    create_many(0, 200);
    for (i = 0; i < 100000; i++) {
        rv = fold_for(0);
        if (!APR_STATUS_IS_INCOMPLETE(rv)) {
            break;
        }
    }
    ck_assert_int_eq(rv, APR_SUCCESS);
    assert_indexed(0, 200);
    close_indexed();
}
END_TEST

/* ---- marks --------------------------------------------------------------- */

static apr_status_t marked(const char *id, apr_off_t *offset)
{
    return provider->marked(meta, id, offset);
}

static apr_off_t mark_of(const char *id)
{
    apr_off_t offset = -1;

    ck_assert_int_eq(marked(id, &offset), APR_SUCCESS);
    return offset;
}

static int is_unmarked(const char *id)
{
    apr_off_t offset;

    return APR_STATUS_IS_ENOENT(marked(id, &offset));
}

START_TEST(mark_is_there_until_it_is_taken_away)
{
    static const apr_off_t offsets[] = { 0, 1, 4096, APR_INT64_C(0x7fffffffffffffff), 5 };
    apr_size_t i;
    int durable;

    begin(_i);
    for (durable = 0; durable <= 1; durable++) {
        for (i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
            ck_assert_int_eq(provider->mark(meta, "one", offsets[i], durable), APR_SUCCESS);
            ck_assert_int_eq(mark_of("one"), offsets[i]);
        }
        ck_assert_int_eq(provider->unmark(meta, "one"), APR_SUCCESS);
        ck_assert(is_unmarked("one"));
        ck_assert_int_eq(provider->unmark(meta, "one"), APR_SUCCESS);
    }
    close_indexed();
}
END_TEST

START_TEST(marks_are_told_apart)
{
    int kind, other;

    begin(_i);
    for (kind = 0; kind < KINDS; kind++) {
        ck_assert(is_unmarked(kind_of_id(kind)));
        ck_assert_int_eq(provider->mark(meta, kind_of_id(kind), kind, kind % 2), APR_SUCCESS);
    }
    for (kind = 0; kind < KINDS; kind++) {
        for (other = kind; other < KINDS; other++) {
            ck_assert_int_eq(mark_of(kind_of_id(other)), other);
        }
        ck_assert_int_eq(provider->unmark(meta, kind_of_id(kind)), APR_SUCCESS);
        ck_assert(is_unmarked(kind_of_id(kind)));
    }
    close_indexed();
}
END_TEST

static int mark_one(peer_t *parent, void *arg)
{
    (void)parent;
    (void)arg;
    return provider->mark(meta, "one", 77, 0);
}

static int unmark_one(peer_t *parent, void *arg)
{
    (void)parent;
    (void)arg;
    return mark_of("one") == 77 ? provider->unmark(meta, "one") : 1;
}

START_TEST(mark_outlives_its_process)
{
    begin(_i);
    run_elsewhere(mark_one, NULL);
    ck_assert_int_eq(mark_of("one"), 77);
    run_elsewhere(unmark_one, NULL);
    ck_assert(is_unmarked("one"));
    close_indexed();
}
END_TEST

static apr_array_header_t *finals_of(const char *part)
{
    apr_array_header_t *finals = NULL;

    ck_assert_int_eq(provider->links(meta, part, &finals, unit_pool), APR_SUCCESS);
    ck_assert_ptr_nonnull(finals);
    return finals;
}

static const char *linked(const char *part)
{
    return apr_array_pstrcat(unit_pool, finals_of(part), ' ');
}

START_TEST(marks_and_links_are_no_uploads)
{
    begin(_i);
    ck_assert_int_eq(provider->mark(meta, "one", 5, 0), APR_SUCCESS);
    ck_assert_int_eq(provider->link(meta, "one", "two"), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_ENOENT(get("one")));
    ck_assert(APR_STATUS_IS_ENOENT(get("two")));
    fold();
    ck_assert_int_eq(settled, 0);
    assert_indexed(0, 0);
    create("one");
    fold();
    ck_assert_int_eq(walk(), APR_SUCCESS);
    ck_assert_uint_eq(apr_hash_count(entries), 1);
    ck_assert_int_eq(mark_of("one"), 5);
    ck_assert_str_eq(linked("one"), "two");
    ck_assert_int_eq(provider->unmark(meta, "one"), APR_SUCCESS);
    ck_assert_str_eq(linked("one"), "two");
    ck_assert_int_eq(provider->unlink(meta, "one"), APR_SUCCESS);
    ck_assert_int_eq(size_of("one"), 3);
    close_indexed();
}
END_TEST

/* Every other time it replaces the mark instead of making one. */
static int mark_for_ever(peer_t *parent, void *arg)
{
    apr_int64_t i;
    apr_status_t rv = APR_SUCCESS;

    (void)arg;
    say(parent);
    for (i = 1; rv == APR_SUCCESS; i++) {
        set_progress(&progress->begun, i);
        rv = provider->mark(meta, "one", i, i % 256 == 0);
        set_progress(&progress->done, i);
        if (rv == APR_SUCCESS && i % 2) {
            set_progress(&progress->done, -1);
            rv = provider->unmark(meta, "one");
        }
    }
    return 1;
}

/* What was marked for certain is marked; what is marked was marked. */
static void assert_mark_is_whole(void)
{
    apr_off_t offset = -1;
    apr_status_t rv = marked("one", &offset);

    if (APR_STATUS_IS_ENOENT(rv)) {
        ck_assert_int_eq(progress->done, -1);
        return;
    }
    ck_assert_int_eq(rv, APR_SUCCESS);
    ck_assert(offset == progress->begun || offset == progress->done);
}

START_TEST(killed_while_it_marks)
{
    int round;

    begin(_i);
    for (round = 0; round < 200; round++) {
        peer_t peer;

        *progress = (progress_t){ -1, -1 };
        peer = start(mark_for_ever, NULL);
        ck_assert(hear(&peer));
        kill_some_time(&peer, 300);
        assert_mark_is_whole();
        ck_assert_int_eq(provider->mark(meta, "one", 3, 0), APR_SUCCESS);
        ck_assert_int_eq(mark_of("one"), 3);
        ck_assert_int_eq(provider->unmark(meta, "one"), APR_SUCCESS);
        ck_assert(is_unmarked("one"));
    }
    close_indexed();
}
END_TEST

/* ---- links --------------------------------------------------------------- */

START_TEST(links_come_oldest_first_and_once)
{
    begin(_i);
    ck_assert_int_eq(provider->link(meta, "part", "f2"), APR_SUCCESS);
    ck_assert_int_eq(provider->link(meta, "part", "f1"), APR_SUCCESS);
    ck_assert_int_eq(provider->link(meta, "part", "f2"), APR_SUCCESS);
    ck_assert_int_eq(provider->link(meta, "part", "f3"), APR_SUCCESS);
    ck_assert_int_eq(provider->link(meta, "other", "f4"), APR_SUCCESS);
    ck_assert_str_eq(linked("part"), "f2 f1 f3");
    ck_assert_str_eq(linked("other"), "f4");
    ck_assert_int_eq(provider->unlink(meta, "part"), APR_SUCCESS);
    ck_assert_str_eq(linked("part"), "");
    ck_assert_int_eq(provider->unlink(meta, "part"), APR_SUCCESS);
    ck_assert_str_eq(linked("other"), "f4");
    ck_assert_int_eq(provider->link(meta, "part", "f5"), APR_SUCCESS);
    ck_assert_str_eq(linked("part"), "f5");
    close_indexed();
}
END_TEST

START_TEST(links_are_told_apart)
{
    int kind, other;

    begin(_i);
    for (kind = 0; kind < KINDS; kind++) {
        for (other = 0; other < KINDS; other += 3) {
            ck_assert_int_eq(provider->link(meta, kind_of_id(kind), kind_of_id(other)),
                             APR_SUCCESS);
        }
        ck_assert_int_eq(provider->link(meta, kind_of_id(kind), name_of(kind)), APR_SUCCESS);
    }
    for (kind = 0; kind < KINDS; kind++) {
        apr_array_header_t *finals = finals_of(kind_of_id(kind));

        for (other = 0; other < KINDS; other += 3) {
            ck_assert_str_eq(APR_ARRAY_IDX(finals, other / 3, const char *), kind_of_id(other));
        }
        ck_assert_int_eq(finals->nelts, other / 3 + 1);
        ck_assert_str_eq(APR_ARRAY_IDX(finals, other / 3, const char *), name_of(kind));
        ck_assert_int_eq(provider->unlink(meta, kind_of_id(kind)), APR_SUCCESS);
        ck_assert_str_eq(linked(kind_of_id(kind)), "");
    }
    close_indexed();
}
END_TEST

static int link_some(peer_t *parent, void *from)
{
    int first = *(int *)from, i;

    hear(parent);
    for (i = first; i < first + EACH; i++) {
        if (provider->link(meta, "part", name_of(i)) != APR_SUCCESS
            || provider->link(meta, name_of(i), "final") != APR_SUCCESS) {
            return 1;
        }
    }
    return 0;
}

/* All start at once, so that they also meet at what is made on first use. */
START_TEST(links_of_many_processes)
{
    int seen[WRITERS] = { 0 };
    apr_array_header_t *finals;
    peer_t peers[WRITERS];
    int i, first, number;

    begin(_i);
    for (i = 0; i < WRITERS; i++) {
        first = i * EACH;
        peers[i] = start(link_some, &first);
    }
    for (i = 0; i < WRITERS; i++) {
        say(&peers[i]);
    }
    for (i = 0; i < WRITERS; i++) {
        ck_assert_int_eq(reap_peer(&peers[i]), 0);
    }
    finals = finals_of("part");
    ck_assert_int_eq(finals->nelts, WRITERS * EACH);
    for (i = 0; i < finals->nelts; i++) {
        ck_assert_int_eq(sscanf(APR_ARRAY_IDX(finals, i, const char *), "upload-%d", &number), 1);
        ck_assert_int_eq(number % EACH, seen[number / EACH]); /* in the order of each */
        seen[number / EACH]++;
        ck_assert_str_eq(linked(name_of(i)), "final");
    }
    close_indexed();
}
END_TEST

static int link_for_ever(peer_t *parent, void *arg)
{
    apr_int64_t i;

    (void)arg;
    say(parent);
    for (i = progress->done + 1;; i++) {
        if (provider->link(meta, "part", name_of((int)i)) != APR_SUCCESS) {
            return 1;
        }
        set_progress(&progress->done, i);
    }
}

START_TEST(killed_while_it_links)
{
    int round, i;

    begin(_i);
    for (round = 0; round < 60; round++) {
        apr_array_header_t *finals;
        peer_t peer = start(link_for_ever, NULL);

        ck_assert(hear(&peer));
        kill_some_time(&peer, 3000);
        finals = finals_of("part");
        /* What it was about to link may be there too; it is begun again. */
        ck_assert(finals->nelts == progress->done + 1 || finals->nelts == progress->done + 2);
        for (i = 0; i < finals->nelts; i++) {
            ck_assert_str_eq(APR_ARRAY_IDX(finals, i, const char *), name_of(i));
        }
    }
    ck_assert_int_ge(progress->done, 0);
    close_indexed();
}
END_TEST

/* ---- the suite ----------------------------------------------------------- */

void meta_provider_conformance(Suite *suite, const meta_case_t *under_test)
{
    TCase *tcase = add_scratch_case(suite, under_test->name);
    int i = case_count++;

    if (i >= MAX_CASES) {
        abort();
    }
    cases[i] = *under_test;
    tcase_set_timeout(tcase, 300);

#define HOLDS(test) tcase_add_loop_test(tcase, test, i, i + 1)
    HOLDS(nothing_there);
    HOLDS(record_comes_back_whole);
    HOLDS(put_replaces_the_whole_record);
    HOLDS(records_are_told_apart);
    HOLDS(invalid_ids_are_refused);
    HOLDS(unusable_record_is_not_written);
    HOLDS(every_process_has_the_same_records);
    HOLDS(reader_sees_whole_records);
    HOLDS(killed_while_it_puts);
    HOLDS(fold_asks_for_what_was_noted);
    HOLDS(fold_asks_again_for_what_is_held);
    HOLDS(walk_tells_what_there_is);
    HOLDS(entries_say_what_the_records_say);
    HOLDS(entries_are_told_apart);
    HOLDS(walk_ends_when_it_is_told);
    HOLDS(index_is_changed_during_a_walk);
    HOLDS(cancelled_fold_loses_nothing);
    HOLDS(one_folder_at_a_time);
    HOLDS(notes_of_many_processes);
    HOLDS(killed_while_it_folds);
    HOLDS(small_budgets_add_up);
    HOLDS(mark_is_there_until_it_is_taken_away);
    HOLDS(marks_are_told_apart);
    HOLDS(mark_outlives_its_process);
    HOLDS(marks_and_links_are_no_uploads);
    HOLDS(killed_while_it_marks);
    HOLDS(links_come_oldest_first_and_once);
    HOLDS(links_are_told_apart);
    HOLDS(links_of_many_processes);
    HOLDS(killed_while_it_links);
#undef HOLDS
}
