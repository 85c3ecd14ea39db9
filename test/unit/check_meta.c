/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The metadata provider "dbm": what holds of every one, and how records, marks
 * and links lie on disk. The index is in check_index.c.
 */
#include "check_meta_provider.h"
#include "peers.h"
#include "scratch.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static tus_meta_place_t place;
static tus_meta_t *meta;
static int descriptors;

/* ---- fixture ------------------------------------------------------------- */

static void open_meta(void)
{
    ck_assert_int_eq(tus_meta_dbm.open(&meta, &place, unit_pool), APR_SUCCESS);
}

static void setup(void)
{
    scratch_mkdir("store");
    scratch_mkdir("state");
    descriptors = open_descriptors();
    place = (tus_meta_place_t){ .state_dir = scratch_path("state"),
                                .mode = APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_GREAD
                                        | APR_FPROT_GWRITE };
    place.info_dir = open(scratch_path("store"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(place.info_dir, 0);
    open_meta();
}

static void teardown(void)
{
    if (place.info_dir != -1) {
        close(place.info_dir);
    }
    ck_assert_int_eq(open_descriptors(), descriptors);
}

static void keep_records_in_state(void)
{
    close(place.info_dir);
    place.info_dir = -1;
    open_meta();
}

static tus_record_t *make_record(const char *id)
{
    tus_record_t *record = apr_pcalloc(unit_pool, sizeof(*record));

    record->id = id;
    record->size = 42;
    record->ours = 1;
    record->created = 1700000000123456;
    record->metadata = "filename d29ybGQ=";
    ck_assert_ptr_null(tus_metadata_parse(record->metadata, &record->pairs, unit_pool));
    record->storage_type = "filestore";
    record->storage_path = "/somewhere";
    record->owner = "joe";
    return record;
}

static apr_status_t put(const char *id)
{
    return tus_meta_dbm.put(meta, make_record(id), 1, unit_pool);
}

static apr_status_t get(const char *id)
{
    tus_record_t *record;

    return tus_meta_dbm.get(meta, id, &record, unit_pool);
}

static void assert_kept(const char *id, apr_off_t size)
{
    tus_record_t *record;

    ck_assert_int_eq(tus_meta_dbm.get(meta, id, &record, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(record->id, id);
    ck_assert_int_eq(record->size, size);
    ck_assert_int_eq(record->created, 1700000000123456);
    ck_assert_str_eq(record->metadata, "filename d29ybGQ=");
    ck_assert_str_eq(record->storage_path, "/somewhere");
    ck_assert_str_eq(record->owner, "joe");
}

/* ---- put, get, remove ---------------------------------------------------- */

START_TEST(test_round_trip)
{
    ck_assert_int_eq(put("one"), APR_SUCCESS);
    assert_kept("one", 42);
    ck_assert(scratch_exists("store/one.info"));
    ck_assert(!scratch_exists("store/.one.info.tmp"));
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "one"), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_ENOENT(get("one")));
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "one"), APR_SUCCESS);
}
END_TEST

START_TEST(test_put_replaces)
{
    tus_record_t *record = make_record("one");
    ino_t before;
    int durable;

    for (durable = 0; durable <= 1; durable++) {
        ck_assert_int_eq(put("one"), APR_SUCCESS);
        before = scratch_stat("store/one.info").st_ino;
        record->size = 43 + durable;
        ck_assert_int_eq(tus_meta_dbm.put(meta, record, durable, unit_pool), APR_SUCCESS);
        ck_assert_uint_ne(scratch_stat("store/one.info").st_ino, before);
        assert_kept("one", 43 + durable);
    }
}
END_TEST

START_TEST(test_mode_is_exact)
{
    umask(077);
    ck_assert_int_eq(put("one"), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("store/one.info"), 0660);
}
END_TEST

START_TEST(test_id_with_directories)
{
    ck_assert(APR_STATUS_IS_ENOENT(put("a/b/c")));
    scratch_mkdir("store/a");
    scratch_mkdir("store/a/b");
    ck_assert_int_eq(put("a/b/c"), APR_SUCCESS);
    assert_kept("a/b/c", 42);
    ck_assert(scratch_exists("store/a/b/c.info"));
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "a/b/c"), APR_SUCCESS);
    ck_assert(!scratch_exists("store/a/b/c.info"));
}
END_TEST

START_TEST(test_records_in_the_state_directory)
{
    keep_records_in_state();
    ck_assert(APR_STATUS_IS_ENOENT(get("one")));
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "one"), APR_SUCCESS);
    ck_assert(!scratch_exists("state/info"));
    ck_assert_int_eq(put("one"), APR_SUCCESS);
    ck_assert_int_eq(put("a/b/c"), APR_SUCCESS);
    assert_kept("one", 42);
    assert_kept("a/b/c", 42);
    ck_assert_uint_eq(scratch_mode("state/info"), 0700);
    ck_assert_uint_eq(scratch_mode("state/info/a"), 0700);
    ck_assert(scratch_exists("state/info/a/b/c.info"));
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "a/b/c"), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_ENOENT(get("a/b/c")));
}
END_TEST

/* ---- what is in the way -------------------------------------------------- */

START_TEST(test_planted_record)
{
    struct stat before;

    scratch_plant((plant_e)_i, "store/one.info");
    before = scratch_stat("store/one.info");
    ck_assert_int_eq(get("one"), TUS_EREFUSED);
    ck_assert_int_eq(put("one"), TUS_EREFUSED);
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "one"), TUS_EREFUSED);
    ck_assert_uint_eq(scratch_stat("store/one.info").st_ino, before.st_ino);
    ck_assert_uint_eq(scratch_stat("store/one.info").st_mode, before.st_mode);
    ck_assert(!scratch_exists("store/.one.info.tmp"));
    if (_i == PLANT_SYMLINK || _i == PLANT_HARD_LINK) {
        ck_assert_str_eq(scratch_get("elsewhere"), "secret");
    }
}
END_TEST

START_TEST(test_planted_temporary_file)
{
    apr_status_t rv;

    scratch_plant((plant_e)_i, "store/.one.info.tmp");
    rv = put("one");
    if (_i == PLANT_DIRECTORY) {
        ck_assert_int_ne(rv, APR_SUCCESS);
        ck_assert(S_ISDIR(scratch_stat("store/.one.info.tmp").st_mode));
        ck_assert(!scratch_exists("store/one.info"));
    }
    else {
        ck_assert_int_eq(rv, APR_SUCCESS);
        assert_kept("one", 42);
        ck_assert(!scratch_exists("store/.one.info.tmp"));
    }
    if (_i == PLANT_SYMLINK || _i == PLANT_HARD_LINK) {
        ck_assert_str_eq(scratch_get("elsewhere"), "secret");
    }
}
END_TEST

START_TEST(test_leftover_of_a_request_that_died)
{
    scratch_put("store/.one.info.tmp", "{\"ID\":\"on");
    ck_assert_int_eq(put("one"), APR_SUCCESS);
    assert_kept("one", 42);
    scratch_put("store/.one.info.tmp", "{\"ID\":\"on");
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "one"), APR_SUCCESS);
    ck_assert(!scratch_exists("store/.one.info.tmp"));
}
END_TEST

START_TEST(test_symbolic_link_on_the_way)
{
    scratch_mkdir("outside");
    scratch_symlink("../outside", "store/a");
    ck_assert_int_eq(put("a/one"), TUS_EREFUSED);
    ck_assert(!scratch_exists("outside/one.info"));
    ck_assert(!scratch_exists("outside/.one.info.tmp"));
    scratch_put("outside/one.info", "{\"ID\":\"a/one\",\"Size\":1}");
    ck_assert_int_eq(get("a/one"), TUS_EREFUSED);
    ck_assert_int_eq(tus_meta_dbm.remove(meta, "a/one"), TUS_EREFUSED);
    ck_assert(scratch_exists("outside/one.info"));
}
END_TEST

START_TEST(test_invalid_ids_reach_no_file)
{
    ck_assert_int_eq(put("../one"), APR_EINVAL);
    ck_assert_int_eq(tus_meta_dbm.note(meta, "../one", TUS_NOTE_CHANGE), APR_EINVAL);
    ck_assert_int_eq(tus_meta_dbm.mark(meta, "../one", 1, 0), APR_EINVAL);
    ck_assert_int_eq(tus_meta_dbm.link(meta, "../one", "two"), APR_EINVAL);
    ck_assert_int_eq(tus_meta_dbm.link(meta, "one", "a\nb"), APR_EINVAL);
    ck_assert(!scratch_exists("one.info"));
    ck_assert(!scratch_exists("state/journal"));
    ck_assert(!scratch_exists("state/unverified"));
    ck_assert(!scratch_exists("state/links"));
}
END_TEST

/* ---- what cannot be read or written -------------------------------------- */

START_TEST(test_damaged_record)
{
    static const char *const texts[] = { "\n",
                                         "{",
                                         "null",
                                         "[]",
                                         "{\"ID\":\"two\",\"Size\":1}",
                                         "{\"ID\":\"../one\",\"Size\":1}",
                                         "{\"Size\":1}",
                                         "{\"ID\":\"one\",\"Size\":-1}",
                                         "{\"ID\":\"one\",\"Size\":1} x" };
    apr_size_t i;

    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        scratch_put("store/one.info", texts[i]);
        ck_assert_int_eq(get("one"), TUS_EDAMAGED);
    }
    scratch_put("store/one.info", "");
    ck_assert_int_eq(get("one"), TUS_EUNWRITTEN);
    ck_assert_int_eq(put("one"), APR_SUCCESS);
    assert_kept("one", 42);
}
END_TEST

START_TEST(test_size_limit)
{
    char *text = apr_palloc(unit_pool, TUS_RECORD_MAX + 1);
    const char *json = "{\"ID\":\"one\",\"Size\":1}";

    memset(text, ' ', TUS_RECORD_MAX);
    text[TUS_RECORD_MAX] = '\0';
    memcpy(text, json, strlen(json));
    scratch_put("store/one.info", text);
    ck_assert_int_eq(get("one"), APR_SUCCESS);
    ck_assert_int_eq(truncate(scratch_path("store/one.info"), TUS_RECORD_MAX + 1), 0);
    ck_assert_int_eq(get("one"), TUS_EREFUSED);
    ck_assert_int_eq(truncate(scratch_path("store/one.info"), 1024 * 1024 * 1024), 0);
    ck_assert_int_eq(get("one"), TUS_EREFUSED);
}
END_TEST

START_TEST(test_full_disk_keeps_the_old_record)
{
    tus_record_t *record = make_record("one");

    ck_assert_int_eq(put("one"), APR_SUCCESS);
    record->size = 43;
    scratch_limit_files(20);
    ck_assert_int_ne(tus_meta_dbm.put(meta, record, 1, unit_pool), APR_SUCCESS);
    scratch_unlimit_files();
    assert_kept("one", 42);
    ck_assert(!scratch_exists("store/.one.info.tmp"));
}
END_TEST

START_TEST(test_unusable_record_is_not_written)
{
    tus_record_t *record = make_record("one");

    record->size = -2;
    ck_assert_int_eq(tus_meta_dbm.put(meta, record, 0, unit_pool), APR_EINVAL);
    ck_assert(!scratch_exists("store/one.info"));
}
END_TEST

START_TEST(test_a_store_that_went)
{
    ck_assert_int_eq(rmdir(scratch_path("store")), 0);
    ck_assert(APR_STATUS_IS_ENOENT(put("one")));
    ck_assert(APR_STATUS_IS_ENOENT(get("one")));
    ck_assert_int_eq(rmdir(scratch_path("state")), 0);
    ck_assert(APR_STATUS_IS_ENOENT(tus_meta_dbm.note(meta, "one", TUS_NOTE_CREATE)));
    keep_records_in_state();
    ck_assert(APR_STATUS_IS_ENOENT(put("one")));
}
END_TEST

/* ---- marks --------------------------------------------------------------- */

static apr_status_t marked(const char *id)
{
    apr_off_t offset;

    return tus_meta_dbm.marked(meta, id, &offset);
}

static void assert_marked(const char *id, apr_off_t expected)
{
    apr_off_t offset = -1;

    ck_assert_int_eq(tus_meta_dbm.marked(meta, id, &offset), APR_SUCCESS);
    ck_assert_int_eq(offset, expected);
}

static const char *target_of(const char *name)
{
    char text[256];
    ssize_t len = readlink(scratch_path(name), text, sizeof(text));

    ck_assert_int_ge(len, 0);
    return apr_pstrmemdup(unit_pool, text, (apr_size_t)len);
}

START_TEST(test_marks_on_disk)
{
    ck_assert(APR_STATUS_IS_ENOENT(marked("one")));
    ck_assert_int_eq(tus_meta_dbm.unmark(meta, "one"), APR_SUCCESS);
    ck_assert(!scratch_exists("state/unverified")); /* made when it is needed */
    ck_assert_int_eq(tus_meta_dbm.mark(meta, "one", 5, 0), APR_SUCCESS);
    ck_assert_int_eq(tus_meta_dbm.mark(meta, "a/b", 6, 1), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("state/unverified"), 0700);
    ck_assert_str_eq(target_of("state/unverified/one"), "5");
    ck_assert(!scratch_exists("state/unverified/a"));
    ck_assert_int_eq(tus_meta_dbm.mark(meta, "one", 7, 1), APR_SUCCESS);
    ck_assert_str_eq(target_of("state/unverified/one"), "7 durable");
    ck_assert(!scratch_exists("state/unverified/one+"));
    ck_assert_int_eq(tus_meta_dbm.unmark(meta, "one"), APR_SUCCESS);
    ck_assert_int_eq(tus_meta_dbm.unmark(meta, "a/b"), APR_SUCCESS);
    ck_assert_int_eq(rmdir(scratch_path("state/unverified")), 0); /* nothing is left */
    ck_assert_int_eq(tus_meta_dbm.mark(meta, "one", -1, 0), APR_EINVAL);
}
END_TEST

START_TEST(test_damaged_marks)
{
    static const char *const targets[] = {
        "x", "-1", "1x", "1 ", " 1", "1 durable2", "/etc/passwd", "9999999999999999999",
        /* longer than any mark, and cut where it is read it would be one */
        "000000000000000000000000000000000000000000000000000000000000001234"
    };
    apr_size_t i;

    scratch_mkdir("state/unverified");
    for (i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        scratch_symlink(targets[i], "state/unverified/one");
        ck_assert_int_eq(marked("one"), TUS_EDAMAGED);
        ck_assert_int_eq(tus_meta_dbm.mark(meta, "one", 5, 0), APR_SUCCESS);
        assert_marked("one", 5);
        ck_assert_int_eq(tus_meta_dbm.unmark(meta, "one"), APR_SUCCESS);
        scratch_symlink(targets[i], "state/unverified/one");
        ck_assert_int_eq(tus_meta_dbm.unmark(meta, "one"), APR_SUCCESS);
        ck_assert(!scratch_exists("state/unverified/one"));
    }
    scratch_put("state/unverified/one", "5");
    ck_assert_int_eq(marked("one"), TUS_EDAMAGED);
    ck_assert_int_eq(tus_meta_dbm.unmark(meta, "one"), APR_SUCCESS);
    scratch_mkdir("state/unverified/one");
    ck_assert_int_eq(marked("one"), TUS_EDAMAGED);
    ck_assert_int_ne(tus_meta_dbm.unmark(meta, "one"), APR_SUCCESS);
    ck_assert_int_ne(tus_meta_dbm.mark(meta, "one", 5, 0), APR_SUCCESS);
}
END_TEST

START_TEST(test_leftover_of_a_mark_that_was_replaced)
{
    ck_assert_int_eq(tus_meta_dbm.mark(meta, "one", 5, 0), APR_SUCCESS);
    scratch_symlink("9", "state/unverified/one+");
    assert_marked("one", 5);
    ck_assert_int_eq(tus_meta_dbm.mark(meta, "one", 6, 0), APR_SUCCESS);
    assert_marked("one", 6);
    ck_assert(!scratch_exists("state/unverified/one+"));
    scratch_symlink("9", "state/unverified/one+");
    ck_assert_int_eq(tus_meta_dbm.unmark(meta, "one"), APR_SUCCESS);
    ck_assert_int_eq(rmdir(scratch_path("state/unverified")), 0);
}
END_TEST

/* ---- links --------------------------------------------------------------- */

static const char *linked(const char *part)
{
    apr_array_header_t *finals;

    ck_assert_int_eq(tus_meta_dbm.links(meta, part, &finals, unit_pool), APR_SUCCESS);
    return apr_array_pstrcat(unit_pool, finals, ' ');
}

START_TEST(test_links_on_disk)
{
    ck_assert_str_eq(linked("part"), "");
    ck_assert_int_eq(tus_meta_dbm.unlink(meta, "part"), APR_SUCCESS);
    ck_assert(!scratch_exists("state/links"));
    ck_assert_int_eq(tus_meta_dbm.link(meta, "part", "d/final"), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("state/links"), 0700);
    ck_assert_uint_eq(scratch_mode("state/links/part"), 0600);
    ck_assert_str_eq(scratch_get("state/links/part"), "=d/final\n");
    ck_assert_int_eq(tus_meta_dbm.link(meta, "a/b", "two"), APR_SUCCESS);
    ck_assert(!scratch_exists("state/links/a"));
    ck_assert_int_eq(tus_meta_dbm.unlink(meta, "a/b"), APR_SUCCESS);
    ck_assert_int_eq(tus_meta_dbm.unlink(meta, "part"), APR_SUCCESS);
    ck_assert_int_eq(rmdir(scratch_path("state/links")), 0);
}
END_TEST

START_TEST(test_damaged_links)
{
    scratch_mkdir("state/links");
    scratch_put("state/links/part", "=one\n=tw");
    ck_assert_str_eq(linked("part"), "one");
    ck_assert_int_eq(tus_meta_dbm.link(meta, "part", "three"), APR_SUCCESS);
    ck_assert_str_eq(linked("part"), "one three");
    scratch_put("state/links/part", "=../x\n\n==\n=a b\n=.h\nplain\n=good\n=x.info\n=a//b\n");
    ck_assert_str_eq(linked("part"), "good");
    scratch_put("state/links/part", "");
    ck_assert_str_eq(linked("part"), "");
    ck_assert_int_eq(unlink(scratch_path("state/links/part")), 0);
    scratch_mkdir("state/links/part");
    ck_assert_int_ne(tus_meta_dbm.link(meta, "part", "one"), APR_SUCCESS);
    ck_assert_int_ne(tus_meta_dbm.unlink(meta, "part"), APR_SUCCESS);
}
END_TEST

/* Of a file of any size only the end is read. */
START_TEST(test_a_great_many_links)
{
    char *text = apr_palloc(unit_pool, 3 * 1024 * 1024);
    apr_array_header_t *finals;
    int i, len = 0;

    for (i = 0; i < 200000; i++) {
        len += apr_snprintf(text + len, 32, "=final-%d\n", i);
    }
    ck_assert_int_gt(len, 2 * 1024 * 1024);
    scratch_mkdir("state/links");
    scratch_put("state/links/part", text);
    ck_assert_int_eq(tus_meta_dbm.links(meta, "part", &finals, unit_pool), APR_SUCCESS);
    ck_assert_int_gt(finals->nelts, 60000);
    ck_assert_int_lt(finals->nelts, 90000);
    for (i = 0; i < finals->nelts; i++) {
        ck_assert_str_eq(APR_ARRAY_IDX(finals, i, const char *),
                         apr_psprintf(unit_pool, "final-%d", 200000 - finals->nelts + i));
    }
    ck_assert_int_eq(truncate(scratch_path("state/links/part"), 1024 * 1024 * 1024), 0);
    ck_assert_str_eq(linked("part"), ""); /* of a file that ends in zeros, quickly */
}
END_TEST

START_TEST(test_full_disk_tears_no_other_link)
{
    ck_assert_int_eq(tus_meta_dbm.link(meta, "part", "one"), APR_SUCCESS);
    scratch_limit_files(10);
    ck_assert_int_ne(tus_meta_dbm.link(meta, "part", "a-final-that-does-not-fit"), APR_SUCCESS);
    scratch_unlimit_files();
    ck_assert_uint_eq(scratch_stat("state/links/part").st_size, 10);
    ck_assert_int_eq(tus_meta_dbm.link(meta, "part", "three"), APR_SUCCESS);
    ck_assert_str_eq(linked("part"), "one three");
}
END_TEST

#define PEERS 4

static int use_when_told(peer_t *parent, void *number)
{
    const char *id = apr_psprintf(unit_pool, "id-%d", *(int *)number);

    while (hear(parent)) {
        if (tus_meta_dbm.mark(meta, id, 5, 0) != APR_SUCCESS
            || tus_meta_dbm.link(meta, "part", id) != APR_SUCCESS
            || tus_meta_dbm.unmark(meta, id) != APR_SUCCESS) {
            return 1;
        }
        say(parent);
    }
    return 0;
}

START_TEST(test_first_use_by_many_processes)
{
    peer_t peers[PEERS];
    int i, round;

    for (i = 0; i < PEERS; i++) {
        peers[i] = spawn_peer(use_when_told, &i);
    }
    for (round = 0; round < 100; round++) {
        for (i = 0; i < PEERS; i++) {
            say(&peers[i]);
        }
        for (i = 0; i < PEERS; i++) {
            ck_assert(hear(&peers[i]));
        }
        ck_assert_uint_eq(strlen(linked("part")), PEERS * 5 - 1);
        ck_assert_int_eq(tus_meta_dbm.unlink(meta, "part"), APR_SUCCESS);
        ck_assert_int_eq(rmdir(scratch_path("state/links")), 0);
        ck_assert_int_eq(rmdir(scratch_path("state/unverified")), 0);
    }
    for (i = 0; i < PEERS; i++) {
        kill_some_time(&peers[i], 1);
    }
}
END_TEST

START_TEST(test_a_state_directory_that_went)
{
    apr_array_header_t *finals;

    ck_assert_int_eq(rmdir(scratch_path("state")), 0);
    ck_assert(APR_STATUS_IS_ENOENT(tus_meta_dbm.mark(meta, "one", 5, 0)));
    ck_assert(APR_STATUS_IS_ENOENT(marked("one")));
    ck_assert_int_eq(tus_meta_dbm.unmark(meta, "one"), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_ENOENT(tus_meta_dbm.link(meta, "part", "one")));
    ck_assert_int_eq(tus_meta_dbm.links(meta, "part", &finals, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(finals->nelts, 0);
    ck_assert_int_eq(tus_meta_dbm.unlink(meta, "part"), APR_SUCCESS);
}
END_TEST

START_TEST(test_a_path_that_is_too_long)
{
    char *dir = apr_palloc(unit_pool, APR_PATH_MAX + 1);

    memset(dir, 'x', APR_PATH_MAX);
    memcpy(dir, "/x/", 3);
    dir[APR_PATH_MAX] = '\0';
    place.state_dir = dir;
    ck_assert_int_eq(tus_meta_dbm.mark(meta, "one", 5, 0), APR_ENAMETOOLONG);
    ck_assert_int_eq(marked("one"), APR_ENAMETOOLONG);
    ck_assert_int_eq(tus_meta_dbm.link(meta, "part", "one"), APR_ENAMETOOLONG);
}
END_TEST

/* ---- the driver ---------------------------------------------------------- */

START_TEST(test_check)
{
    const char *why;

    ck_assert_ptr_null(tus_meta_dbm.check(NULL, unit_pool));
    ck_assert_ptr_null(tus_meta_dbm.check("sdbm", unit_pool));
    why = tus_meta_dbm.check("ndbm", unit_pool);
    ck_assert_ptr_nonnull(why);
    ck_assert_ptr_nonnull(strstr(why, "\"ndbm\""));
    ck_assert_ptr_nonnull(strstr(why, "gdbm"));
    ck_assert_ptr_nonnull(tus_meta_dbm.check("", unit_pool));
    ck_assert_ptr_nonnull(tus_meta_dbm.check("SDBM", unit_pool));
    ck_assert_ptr_nonnull(tus_meta_dbm.check("default", unit_pool));
}
END_TEST

/* With each driver that APR-util has here, and records in either place. */
static void add_conformance(Suite *suite)
{
    static const meta_case_t cases[] = {
        { "dbm:sdbm", &tus_meta_dbm, "sdbm", 1 },
        { "dbm:sdbm, records in the state directory", &tus_meta_dbm, "sdbm", 0 },
        { "dbm:gdbm", &tus_meta_dbm, "gdbm", 1 },
        { "dbm:gdbm, records in the state directory", &tus_meta_dbm, "gdbm", 0 },
        { "dbm:db", &tus_meta_dbm, "db", 1 },
        { "dbm:db, records in the state directory", &tus_meta_dbm, "db", 0 },
    };
    apr_pool_t *p;
    apr_size_t i;

    apr_pool_create(&p, NULL);
    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (!tus_meta_dbm.check(cases[i].driver, p)) {
            meta_provider_conformance(suite, &cases[i]);
        }
    }
    apr_pool_destroy(p);
}

Suite *meta_suite(void)
{
    Suite *suite = suite_create("meta");
    TCase *tcase = add_scratch_case(suite, "records");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_round_trip);
    tcase_add_test(tcase, test_put_replaces);
    tcase_add_test(tcase, test_mode_is_exact);
    tcase_add_test(tcase, test_id_with_directories);
    tcase_add_test(tcase, test_records_in_the_state_directory);
    tcase_add_loop_test(tcase, test_planted_record, 0, PLANT_COUNT);
    tcase_add_loop_test(tcase, test_planted_temporary_file, 0, PLANT_COUNT);
    tcase_add_test(tcase, test_leftover_of_a_request_that_died);
    tcase_add_test(tcase, test_symbolic_link_on_the_way);
    tcase_add_test(tcase, test_invalid_ids_reach_no_file);
    tcase_add_test(tcase, test_damaged_record);
    tcase_add_test(tcase, test_size_limit);
    tcase_add_test(tcase, test_full_disk_keeps_the_old_record);
    tcase_add_test(tcase, test_unusable_record_is_not_written);
    tcase_add_test(tcase, test_a_store_that_went);
    tcase_add_test(tcase, test_check);

    tcase = add_scratch_case(suite, "marks and links");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_marks_on_disk);
    tcase_add_test(tcase, test_damaged_marks);
    tcase_add_test(tcase, test_leftover_of_a_mark_that_was_replaced);
    tcase_add_test(tcase, test_links_on_disk);
    tcase_add_test(tcase, test_damaged_links);
    tcase_add_test(tcase, test_a_great_many_links);
    tcase_add_test(tcase, test_full_disk_tears_no_other_link);
    tcase_add_test(tcase, test_first_use_by_many_processes);
    tcase_add_test(tcase, test_a_state_directory_that_went);
    tcase_add_test(tcase, test_a_path_that_is_too_long);

    add_conformance(suite);
    return suite;
}
