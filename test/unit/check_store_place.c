/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The data store "file": ids with slashes, data that a record has elsewhere
 * than at its id, and directories that another server wrote.
 */
#include "scratch.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define RW (APR_FPROT_UREAD | APR_FPROT_UWRITE)
#define RWXG (RW | APR_FPROT_UEXECUTE | APR_FPROT_GREAD | APR_FPROT_GWRITE | APR_FPROT_GEXECUTE)

static const tus_store_provider_t *const file = &tus_store_file;
static tus_store_t *store; /* in "store" */

static void open_store(apr_fileperms_t dir_mode)
{
    tus_place_t place = { .path = scratch_path("store"), .file_mode = RW, .dir_mode = dir_mode };

    ck_assert_int_eq(file->open(&store, &place, unit_pool), APR_SUCCESS);
}

static void setup(void)
{
    scratch_mkdir("store");
    open_store(RWXG);
}

/* As a hook makes it: the place is relative to the store. */
static tus_record_t *record_of(const char *id, const char *place)
{
    tus_record_t *record = apr_pcalloc(unit_pool, sizeof(*record));

    record->id = id;
    record->ours = 1;
    record->created = 1;
    record->storage_path = place;
    return record;
}

static apr_status_t try_create(const char *id, const char *place)
{
    int before = open_descriptors();
    tus_writer_t *writer;
    apr_status_t rv = file->create(store, record_of(id, place), &writer, unit_pool);

    if (rv == APR_SUCCESS) {
        ck_assert_int_eq(file->confirm(writer), APR_SUCCESS);
        ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    }
    ck_assert_int_eq(open_descriptors(), before);
    return rv;
}

/* An upload with its record, as the metadata provider leaves it. */
static tus_record_t *make(const char *id, const char *place, const char *text)
{
    tus_record_t *record = record_of(id, place);
    tus_writer_t *writer;
    apr_size_t done;

    ck_assert_int_eq(file->create(store, record, &writer, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(file->locate(store, record, unit_pool), APR_SUCCESS);
    scratch_put(apr_pstrcat(unit_pool, "store/", id, ".info", NULL), "{}");
    ck_assert_int_eq(file->confirm(writer), APR_SUCCESS);
    ck_assert_int_eq(file->write(writer, 0, text, strlen(text), &done), APR_SUCCESS);
    ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    record->size = (apr_off_t)strlen(text);
    return record;
}

static const char *content(const tus_record_t *record)
{
    apr_file_t *opened;
    apr_finfo_t finfo;
    char *text;

    ck_assert_int_eq(file->read(store, record, 0, &opened, &finfo, unit_pool), APR_SUCCESS);
    text = apr_pcalloc(unit_pool, (apr_size_t)finfo.size + 1);
    if (finfo.size > 0) {
        ck_assert_int_eq(apr_file_read_full(opened, text, (apr_size_t)finfo.size, NULL),
                         APR_SUCCESS);
    }
    ck_assert_int_eq(apr_file_close(opened), APR_SUCCESS);
    return text;
}

/* All that can be done with a record that leads nowhere good is refused. */
static void ck_unusable(const tus_record_t *record, apr_status_t expected)
{
    int before = open_descriptors();
    tus_writer_t *writer;
    apr_file_t *opened;
    apr_finfo_t finfo;
    apr_off_t size;
    apr_time_t modified;

    ck_assert_int_eq(file->size(store, record, &size, &modified), expected);
    ck_assert_int_eq(file->resume(store, record, &writer, unit_pool), expected);
    ck_assert_int_eq(file->read(store, record, 0, &opened, &finfo, unit_pool), expected);
    ck_assert_int_eq(open_descriptors(), before);
}

/* ---- ids with slashes ---------------------------------------------------- */

static const mode_t masks[] = { 077, 022, 0, 0777 };

START_TEST(directories_are_made_with_their_mode)
{
    if (geteuid() != 0 && masks[_i] == 0777) {
        return; /* what is made cannot even be entered */
    }
    umask(masks[_i]);
    ck_assert_int_eq(try_create("a/b/c", NULL), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("store/a"), 0770);
    ck_assert_uint_eq(scratch_mode("store/a/b"), 0770);
    ck_assert_uint_eq(scratch_mode("store/a/b/c"), 0600);
    open_store(RW | APR_FPROT_UEXECUTE | APR_FPROT_WEXECUTE);
    ck_assert_int_eq(try_create("a/d/e", NULL), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("store/a"), 0770);
    ck_assert_uint_eq(scratch_mode("store/a/d"), 0701);
}
END_TEST

START_TEST(directories_stay_setgid)
{
    gid_t group = geteuid() == 0 ? 4711 : getegid();

    ck_assert_int_eq(chown(scratch_path("store"), (uid_t)-1, group), 0);
    ck_assert_int_eq(chmod(scratch_path("store"), 02770), 0);
    ck_assert_int_eq(try_create("a/b/c", NULL), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("store/a/b"), 02770);
    ck_assert_uint_eq(scratch_stat("store/a/b").st_gid, group);
    ck_assert_uint_eq(scratch_stat("store/a/b/c").st_gid, group);
}
END_TEST

START_TEST(existing_directories_are_left_as_they_are)
{
    scratch_mkdir("store/a");
    ck_assert_int_eq(chmod(scratch_path("store/a"), 0705), 0);
    ck_assert_int_eq(try_create("a/b", NULL), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("store/a"), 0705);
}
END_TEST

START_TEST(longest_id_is_made)
{
    char *id = apr_palloc(unit_pool, 1001);

    for (int i = 0; i < 1000; i++) {
        id[i] = i % 2 ? '/' : 'x';
    }
    id[999] = '\0';
    ck_assert(tus_id_is_valid(id));
    make(id, NULL, "text");
    memset(id, 'x', 1000);
    for (int i = 200; i < 1000; i += 201) {
        id[i] = '/';
    }
    id[1000] = '\0';
    ck_assert(tus_id_is_valid(id));
    ck_assert_str_eq(content(make(id, NULL, "text")), "text");
}
END_TEST

/* Wherever their data lies, and also if it has been taken away. */
START_TEST(upload_is_no_directory_of_another)
{
    make("a", NULL, "");
    make("b", "elsewhere", "");
    make("c", NULL, "");
    ck_assert_int_eq(unlink(scratch_path("store/c")), 0);
    make("d/e", NULL, "");
    make("f/g", "elsewhere-too", "");
    ck_assert(APR_STATUS_IS_EEXIST(try_create("a/x", NULL)));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("b/x", NULL)));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("c/x/y", NULL)));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("d", NULL)));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("f", NULL)));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("x", "a/y")));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("x", "b/y")));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("a/x", "y")));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("d", "y")));
    ck_assert(!scratch_exists("store/b"));
    ck_assert(!scratch_exists("store/c"));
    ck_assert(!scratch_exists("store/y"));
    ck_assert_int_eq(try_create("d/f", NULL), APR_SUCCESS);
}
END_TEST

START_TEST(planted_directories_are_refused)
{
    scratch_plant((plant_e)_i, "store/a");
    if (_i == PLANT_DIRECTORY) {
        ck_assert_int_eq(try_create("a/b", NULL), APR_SUCCESS);
        return;
    }
    if (_i == PLANT_HARD_LINK) {
        ck_assert(APR_STATUS_IS_EEXIST(try_create("a/b", NULL)));
    }
    else {
        ck_assert_int_eq(try_create("a/b", NULL), TUS_EREFUSED);
    }
    ck_assert(!scratch_exists("nowhere"));
    ck_assert_str_eq(scratch_get("elsewhere"), "secret");
}
END_TEST

START_TEST(directory_that_leads_out_is_refused)
{
    scratch_mkdir("out");
    scratch_put("out/a", "secret");
    scratch_symlink(scratch_path("out"), "store/sub");
    ck_assert_int_eq(try_create("sub/b", NULL), TUS_EREFUSED);
    ck_assert_int_eq(try_create("sub/deep/b", NULL), TUS_EREFUSED);
    ck_assert_int_eq(try_create("b", "sub/c"), TUS_EREFUSED);
    ck_unusable(record_of("sub/a", NULL), TUS_EREFUSED);
    ck_unusable(record_of("b", "sub/a"), TUS_EREFUSED);
    ck_assert_int_eq(file->remove(store, record_of("b", "sub/a")), TUS_EREFUSED);
    ck_assert_str_eq(scratch_get("out/a"), "secret");
    ck_assert(!scratch_exists("out/b"));
    ck_assert(!scratch_exists("out/c"));
    ck_assert(!scratch_exists("out/deep"));
    ck_assert(!scratch_exists("store/b"));
}
END_TEST

/* ---- data elsewhere ------------------------------------------------------ */

START_TEST(data_lies_where_the_record_says)
{
    tus_record_t *record = make("user-7/a", "sub/deep/place.bin", "text");
    tus_writer_t *writer;
    apr_size_t done;

    ck_assert_str_eq(record->storage_type, "filestore");
    ck_assert_str_eq(record->storage_path, scratch_path("store/sub/deep/place.bin"));
    ck_assert_str_eq(record->storage_info_path, scratch_path("store/user-7/a.info"));
    ck_assert_str_eq(scratch_get("store/sub/deep/place.bin"), "text");
    ck_assert(!scratch_exists("store/user-7/a"));
    ck_assert_uint_eq(scratch_mode("store/user-7"), 0770);
    ck_assert_uint_eq(scratch_mode("store/sub/deep"), 0770);

    ck_assert_int_eq(file->resume(store, record, &writer, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(file->fence(writer), APR_SUCCESS);
    ck_assert_int_eq(file->write(writer, 4, "more", 4, &done), APR_SUCCESS);
    ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    ck_assert_str_eq(content(record), "textmore");

    ck_assert_int_eq(file->remove(store, record), APR_SUCCESS);
    ck_assert(!scratch_exists("store/sub/deep/place.bin"));
    ck_assert(scratch_exists("store/sub/deep"));
    ck_assert(scratch_exists("store/user-7/a.info"));
    ck_unusable(record, APR_ENOENT);
    ck_assert_int_eq(file->remove(store, record), APR_SUCCESS);
}
END_TEST

/* Only an InfoPath tells a place that ends like the id from the id. */
START_TEST(place_may_end_like_the_id)
{
    tus_record_t *record = record_of("a", "by-user/7/a");
    tus_writer_t *writer = NULL;

    record->storage_info_path = "a.info";
    ck_assert_int_eq(file->create(store, record, &writer, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(file->locate(store, record, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(record->storage_path, scratch_path("store/by-user/7/a"));
    ck_assert_str_eq(record->storage_info_path, scratch_path("store/a.info"));
    ck_assert_int_eq(file->locate(store, record, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(record->storage_path, scratch_path("store/by-user/7/a"));
    ck_assert_str_eq(content(record), "");
}
END_TEST

START_TEST(taken_places_are_refused)
{
    make("a", NULL, "text");
    make("b", "place", "more");
    make("c", NULL, "");
    ck_assert_int_eq(unlink(scratch_path("store/c")), 0);
    scratch_put("store/foreign", "theirs");
    scratch_mkdir("store/dir");
    ck_assert(APR_STATUS_IS_EEXIST(try_create("x", "a")));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("x", "b"))); /* an upload's id, if not its data's */
    ck_assert(APR_STATUS_IS_EEXIST(try_create("x", "c")));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("x", "place")));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("x", "foreign")));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("x", "dir")));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("place", NULL)));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("foreign", "x")));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("place/x", NULL)));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("x", "foreign/y")));
    ck_assert_str_eq(scratch_get("store/a"), "text");
    ck_assert_str_eq(scratch_get("store/place"), "more");
    ck_assert_str_eq(scratch_get("store/foreign"), "theirs");
    ck_assert(!scratch_exists("store/x"));
    ck_assert(!scratch_exists("store/b"));
}
END_TEST

static const char *const refused_places[] = {
    "../a",   "sub/../../a", "/etc/passwd", "/tmp/a", "..",   ".",   ".htaccess",   "sub/.git/a",
    "x.info", "x.info/y",    "a.INFO",      "sub//a", "sub/", "./a", ".a.info.tmp", "sub/./a",
};

START_TEST(place_is_refused)
{
    scratch_mkdir("store/sub");
    scratch_put("a", "secret");
    ck_assert_int_eq(try_create("x", refused_places[_i]), TUS_EREFUSED);
    ck_unusable(record_of("x", refused_places[_i]), TUS_EREFUSED);
    ck_assert_int_eq(file->remove(store, record_of("x", refused_places[_i])), TUS_EREFUSED);
    ck_assert_int_eq(file->locate(store, record_of("x", refused_places[_i]), unit_pool),
                     TUS_EREFUSED);
    ck_assert_str_eq(scratch_get("a"), "secret");
    ck_assert(!scratch_exists("store/x"));
}
END_TEST

START_TEST(planted_place_is_refused)
{
    tus_record_t *record = make("x", "sub/place", "text");
    tus_writer_t *writer = NULL;
    apr_array_header_t *parts = apr_array_make(unit_pool, 1, sizeof(const tus_record_t *));

    APR_ARRAY_PUSH(parts, const tus_record_t *) = record;
    ck_assert_int_eq(unlink(scratch_path("store/sub/place")), 0);
    scratch_plant((plant_e)_i, "store/sub/place");
    ck_unusable(record, TUS_EREFUSED);
    ck_assert_int_eq(file->create(store, record_of("final", NULL), &writer, unit_pool),
                     APR_SUCCESS);
    ck_assert_int_eq(file->concat(writer, parts, NULL), TUS_EREFUSED);
    ck_assert_str_eq(scratch_get("store/final"), "");
    ck_assert_str_eq(scratch_get("elsewhere"), "secret");
}
END_TEST

START_TEST(file_in_the_place_of_a_directory_has_nothing_beneath)
{
    tus_record_t *record = record_of("x", "sub/place");

    scratch_put("store/sub", "text");
    ck_unusable(record, APR_ENOENT);
    ck_unusable(record_of("sub/a", NULL), APR_ENOENT);
    ck_assert_int_eq(file->remove(store, record), APR_SUCCESS);
    ck_assert_int_eq(file->discard(store, "sub/a"), APR_SUCCESS);
    ck_assert_str_eq(scratch_get("store/sub"), "text");
}
END_TEST

/* ---- data elsewhere, and no record of it ---------------------------------- */

static tus_writer_t *begin(const char *id, const char *place)
{
    tus_writer_t *writer = NULL;
    apr_size_t done;

    ck_assert_int_eq(file->create(store, record_of(id, place), &writer, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(file->write(writer, 0, "text", 4, &done), APR_SUCCESS);
    return writer;
}

START_TEST(discard_finds_data_elsewhere)
{
    ck_assert_int_eq(file->close(begin("user-7/a", "sub/place")), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_EEXIST(try_create("user-7/a", NULL)));
    ck_assert(APR_STATUS_IS_EEXIST(try_create("b", "user-7/a")));
    ck_assert_int_eq(file->discard(store, "user-7/a"), APR_SUCCESS);
    ck_assert(!scratch_exists("store/sub/place"));
    ck_assert(!scratch_exists("store/user-7/a"));
    ck_assert_int_eq(try_create("user-7/a", "sub/place"), APR_SUCCESS);
    ck_assert_int_eq(file->discard(store, "user-7/a"), APR_SUCCESS);
    ck_assert_str_eq(scratch_get("store/sub/place"), "");
}
END_TEST

START_TEST(discard_leaves_data_elsewhere_that_a_request_is_making)
{
    tus_writer_t *writer = begin("a", "sub/place");

    ck_assert_int_ne(file->discard(store, "a"), APR_SUCCESS);
    ck_assert_int_eq(file->confirm(writer), APR_SUCCESS);
    ck_assert(!scratch_exists("store/a"));
    ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    ck_assert_int_eq(file->discard(store, "a"), APR_SUCCESS);
    ck_assert_str_eq(scratch_get("store/sub/place"), "text");
}
END_TEST

/* Its maker died after the record was written, or while it confirmed. */
START_TEST(fence_confirms_data_elsewhere)
{
    tus_writer_t *writer;

    ck_assert_int_eq(file->close(begin("a", "sub/place")), APR_SUCCESS);
    if (_i) {
        ck_assert_int_eq(unlink(scratch_path("store/a")), 0);
    }
    ck_assert_int_eq(file->resume(store, record_of("a", "sub/place"), &writer, unit_pool),
                     APR_SUCCESS);
    ck_assert_int_eq(file->fence(writer), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("store/sub/place"), 0600);
    ck_assert(!scratch_exists("store/a"));
}
END_TEST

START_TEST(removal_of_data_elsewhere_leaves_nothing)
{
    ck_assert_int_eq(file->close(begin("a", "sub/place")), APR_SUCCESS);
    ck_assert_int_eq(file->remove(store, record_of("a", "sub/place")), APR_SUCCESS);
    ck_assert(!scratch_exists("store/a"));
    ck_assert(!scratch_exists("store/sub/place"));
    scratch_symlink("sub/other", "store/b"); /* somebody else's */
    ck_assert_int_eq(file->remove(store, record_of("b", "sub/place")), APR_SUCCESS);
    ck_assert(scratch_exists("store/b"));
}
END_TEST

static const char *const planted_claims[] = {
    "../secret",   "/etc/passwd", ".hidden", "b.info", "sub//b", "sub/..",
    "link/secret", "../x/a",      ".x/a",    "/a",     "sub/",
};

START_TEST(planted_claim_leads_nowhere)
{
    scratch_put("secret", "secret");
    ck_assert_int_eq(chmod(scratch_path("secret"), 01600), 0);
    scratch_put("store/b.info", "{}");
    scratch_put("store/.hidden", "");
    scratch_symlink("..", "store/link");
    scratch_symlink(planted_claims[_i], "store/a");
    ck_assert_int_eq(file->discard(store, "a"), TUS_EREFUSED);
    ck_assert(scratch_exists("store/a"));
    ck_assert_str_eq(scratch_get("secret"), "secret");
    ck_assert(scratch_exists("store/b.info"));
    ck_assert(scratch_exists("store/.hidden"));
}
END_TEST

START_TEST(planted_claim_removes_no_upload)
{
    make("b", NULL, "text");
    scratch_put("store/foreign", "theirs");
    scratch_symlink("b", "store/a");
    ck_assert_int_eq(file->discard(store, "a"), APR_SUCCESS);
    scratch_symlink("foreign", "store/a");
    ck_assert_int_eq(file->discard(store, "a"), APR_SUCCESS);
    ck_assert(!scratch_exists("store/a"));
    ck_assert_str_eq(scratch_get("store/b"), "text");
    ck_assert_str_eq(scratch_get("store/foreign"), "theirs");
}
END_TEST

/* ---- a store that was moved ---------------------------------------------- */

START_TEST(moved_store_is_found_in)
{
    tus_record_t *at_id = make("user-7/a", NULL, "text"), *elsewhere = make("b", "sub/c", "more");

    ck_assert_int_eq(rename(scratch_path("store"), scratch_path("old")), 0);
    scratch_mkdir("store");
    scratch_mkdir("store/sub");
    scratch_put("store/sub/c", "planted"); /* at the path that the record says */
    ck_assert_int_eq(rename(scratch_path("store"), scratch_path("planted")), 0);
    ck_assert_int_eq(rename(scratch_path("old"), scratch_path("store")), 0);
    open_store(RWXG);
    ck_assert_int_eq(rename(scratch_path("store"), scratch_path("moved")), 0);
    ck_assert_int_eq(rename(scratch_path("planted"), scratch_path("store")), 0);
    ck_assert_str_eq(content(at_id), "text");
    ck_assert_str_eq(content(elsewhere), "more");
    ck_assert_int_eq(file->remove(store, elsewhere), APR_SUCCESS);
    ck_assert(!scratch_exists("moved/sub/c"));
    ck_assert_str_eq(scratch_get("store/sub/c"), "planted");
}
END_TEST

/* ---- a directory that tusd left ------------------------------------------ */

#define RECORDED "test/data/tusd/store"

static const char *const recorded[] = {
    "057fac39129352266d720b3bd3f525b8", "28438efde51276685452e566fb21cbe0",
    "77ec6d493348f3eae9d1584093f3cc56", "b63f0d9da5422902698fb31f464848e6",
    "ce7859083b913ec8ab3c3e5463d16046", "e4e92bade41afb419c6fb7467790894f",
    "eb60e1131120daa699892c0a54077da0", "ec51914a29d19cee4c965a4c6a33a0a9",
    "f4c8f3fb4d7bd04700c7a92d41e71b08", "user-7/report.pdf",
};

static const char *read_file(const char *path, apr_size_t *len)
{
    char *text = apr_palloc(unit_pool, 65536);
    apr_file_t *opened;

    ck_assert_msg(apr_file_open(&opened, path, APR_FOPEN_READ, 0, unit_pool) == APR_SUCCESS,
                  "cannot read %s: run from the top of the source", path);
    *len = 65535;
    if (apr_file_read_full(opened, text, *len, len) != APR_SUCCESS) {
        text[*len] = '\0';
    }
    ck_assert_int_eq(apr_file_close(opened), APR_SUCCESS);
    return text;
}

/* Copies a file of the recording, if it is there. */
static void copy_recorded(const char *name)
{
    const char *path = apr_pstrcat(unit_pool, RECORDED "/", name, NULL);
    apr_size_t len;

    if (access(path, F_OK) == 0) {
        scratch_put(apr_pstrcat(unit_pool, "store/", name, NULL), read_file(path, &len));
    }
}

static tus_record_t *recorded_record(const char *id)
{
    const char *path = apr_pstrcat(unit_pool, scratch_path("store/"), id, ".info", NULL);
    tus_record_t *record = NULL;
    apr_size_t len;
    const char *json = read_file(path, &len);

    ck_assert_int_eq(tus_record_parse(&record, json, len, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(record->id, id);
    return record;
}

static void copy_recording(void)
{
    scratch_mkdir("store/user-7");
    scratch_mkdir("store/sub");
    copy_recorded("sub/place.bin");
    for (int i = 0; i < COUNT(recorded); i++) {
        copy_recorded(recorded[i]);
        copy_recorded(apr_pstrcat(unit_pool, recorded[i], ".info", NULL));
    }
}

START_TEST(directory_of_tusd_is_served)
{
    copy_recording();
    ck_assert_str_eq(content(recorded_record("ce7859083b913ec8ab3c3e5463d16046")), "hello");
    ck_assert_str_eq(content(recorded_record("b63f0d9da5422902698fb31f464848e6")), "01234");
    ck_assert_str_eq(content(recorded_record("ec51914a29d19cee4c965a4c6a33a0a9")), "onetwo");
    ck_assert_str_eq(content(recorded_record("f4c8f3fb4d7bd04700c7a92d41e71b08")), "");
    ck_assert_str_eq(content(recorded_record("e4e92bade41afb419c6fb7467790894f")), "");
    ck_assert_uint_eq(strlen(content(recorded_record("user-7/report.pdf"))), 5);
}
END_TEST

START_TEST(record_of_tusd_is_located_anew)
{
    tus_record_t *record;

    copy_recording();
    record = recorded_record(recorded[_i]);
    ck_assert_int_eq(file->locate(store, record, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(record->storage_info_path,
                     apr_pstrcat(unit_pool, scratch_path("store/"), record->id, ".info", NULL));
    if (strcmp(record->id, "e4e92bade41afb419c6fb7467790894f") == 0) {
        ck_assert_str_eq(record->storage_path, scratch_path("store/sub/place.bin"));
    }
    else {
        ck_assert_str_eq(record->storage_path,
                         apr_pstrcat(unit_pool, scratch_path("store/"), record->id, NULL));
    }
}
END_TEST

START_TEST(upload_of_tusd_is_continued)
{
    tus_record_t *half, *elsewhere;
    tus_writer_t *writer;
    apr_size_t done;
    apr_off_t size;
    apr_time_t modified;

    copy_recording();
    half = recorded_record("b63f0d9da5422902698fb31f464848e6");
    elsewhere = recorded_record("e4e92bade41afb419c6fb7467790894f");
    ck_assert_int_eq(file->resume(store, half, &writer, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(file->fence(writer), APR_SUCCESS);
    ck_assert_int_eq(file->written(writer, &size, &modified), APR_SUCCESS);
    ck_assert_int_eq(size, 5);
    ck_assert_int_eq(file->write(writer, 5, "56789", 5, &done), APR_SUCCESS);
    ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    ck_assert_str_eq(scratch_get("store/b63f0d9da5422902698fb31f464848e6"), "0123456789");

    ck_assert_int_eq(file->resume(store, elsewhere, &writer, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(file->fence(writer), APR_SUCCESS);
    ck_assert_int_eq(file->write(writer, 0, "12345", 5, &done), APR_SUCCESS);
    ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    ck_assert_str_eq(scratch_get("store/sub/place.bin"), "12345");
    ck_assert(!scratch_exists("store/e4e92bade41afb419c6fb7467790894f"));
}
END_TEST

START_TEST(parts_of_tusd_are_joined)
{
    apr_array_header_t *parts = apr_array_make(unit_pool, 2, sizeof(const tus_record_t *));
    tus_writer_t *writer = NULL;

    copy_recording();
    APR_ARRAY_PUSH(parts, const tus_record_t *) =
        recorded_record("77ec6d493348f3eae9d1584093f3cc56");
    APR_ARRAY_PUSH(parts, const tus_record_t *) =
        recorded_record("057fac39129352266d720b3bd3f525b8");
    ck_assert_int_eq(file->create(store, record_of("final", NULL), &writer, unit_pool),
                     APR_SUCCESS);
    ck_assert_int_eq(file->concat(writer, parts, NULL), APR_SUCCESS);
    ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    ck_assert_str_eq(scratch_get("store/final"), "twoone");
}
END_TEST

/* ---- joining across file systems ----------------------------------------- */

START_TEST(part_on_another_file_system_is_joined)
{
    apr_array_header_t *parts = apr_array_make(unit_pool, 3, sizeof(const tus_record_t *));
    const tus_record_t *far, *near;
    tus_writer_t *writer = NULL;

    scratch_mount("store/disk", 1048576);
    open_store(RWXG);
    near = make("near", NULL, "near");
    far = make("far", "disk/part", "far");
    ck_assert_uint_ne(scratch_stat("store/disk/part").st_dev, scratch_stat("store").st_dev);
    APR_ARRAY_PUSH(parts, const tus_record_t *) = far;
    APR_ARRAY_PUSH(parts, const tus_record_t *) = near;
    APR_ARRAY_PUSH(parts, const tus_record_t *) = far;
    ck_assert_int_eq(file->create(store, record_of("final", NULL), &writer, unit_pool),
                     APR_SUCCESS);
    ck_assert_int_eq(file->concat(writer, parts, NULL), APR_SUCCESS);
    ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    ck_assert_str_eq(scratch_get("store/final"), "farnearfar");
}
END_TEST

static const char *const changes[] = { "longer than before", "cut", "" };

/* Somebody writes to the part, once its size has been looked at. */
static int change_part(void *text)
{
    scratch_put("store/a", text);
    return 0;
}

START_TEST(part_that_changes_while_it_is_joined_is_damaged)
{
    tus_cancel_t cancel = { change_part, (char *)changes[_i] };
    apr_array_header_t *parts = apr_array_make(unit_pool, 2, sizeof(const tus_record_t *));
    tus_writer_t *writer = NULL;

    APR_ARRAY_PUSH(parts, const tus_record_t *) = make("a", NULL, "text");
    ck_assert_int_eq(file->create(store, record_of("final", NULL), &writer, unit_pool),
                     APR_SUCCESS);
    ck_assert_int_eq(file->concat(writer, parts, &cancel), TUS_EDAMAGED);
    ck_assert_str_eq(scratch_get("store/a"), changes[_i]);
}
END_TEST

START_TEST(final_is_no_part_of_itself)
{
    tus_record_t *final = make("final", NULL, "text");
    apr_array_header_t *parts = apr_array_make(unit_pool, 1, sizeof(const tus_record_t *));
    tus_writer_t *writer;

    APR_ARRAY_PUSH(parts, const tus_record_t *) = final;
    ck_assert_int_eq(file->resume(store, final, &writer, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(file->concat(writer, parts, NULL), TUS_EDAMAGED);
}
END_TEST

Suite *store_place_suite(void)
{
    Suite *suite = suite_create("store_place");
    TCase *tcase = add_scratch_case(suite, "ids");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_loop_test(tcase, directories_are_made_with_their_mode, 0, COUNT(masks));
    tcase_add_test(tcase, directories_stay_setgid);
    tcase_add_test(tcase, existing_directories_are_left_as_they_are);
    tcase_add_test(tcase, longest_id_is_made);
    tcase_add_test(tcase, upload_is_no_directory_of_another);
    tcase_add_loop_test(tcase, planted_directories_are_refused, 0, PLANT_COUNT);
    tcase_add_test(tcase, directory_that_leads_out_is_refused);

    tcase = add_scratch_case(suite, "elsewhere");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, data_lies_where_the_record_says);
    tcase_add_test(tcase, place_may_end_like_the_id);
    tcase_add_test(tcase, taken_places_are_refused);
    tcase_add_loop_test(tcase, place_is_refused, 0, COUNT(refused_places));
    tcase_add_loop_test(tcase, planted_place_is_refused, 0, PLANT_COUNT);
    tcase_add_test(tcase, file_in_the_place_of_a_directory_has_nothing_beneath);
    tcase_add_test(tcase, moved_store_is_found_in);

    tcase = add_scratch_case(suite, "unrecorded");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, discard_finds_data_elsewhere);
    tcase_add_test(tcase, discard_leaves_data_elsewhere_that_a_request_is_making);
    tcase_add_loop_test(tcase, fence_confirms_data_elsewhere, 0, 2);
    tcase_add_test(tcase, removal_of_data_elsewhere_leaves_nothing);
    tcase_add_loop_test(tcase, planted_claim_leads_nowhere, 0, COUNT(planted_claims));
    tcase_add_test(tcase, planted_claim_removes_no_upload);

    tcase = add_scratch_case(suite, "tusd");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, directory_of_tusd_is_served);
    tcase_add_loop_test(tcase, record_of_tusd_is_located_anew, 0, COUNT(recorded));
    tcase_add_test(tcase, upload_of_tusd_is_continued);
    tcase_add_test(tcase, parts_of_tusd_are_joined);

    tcase = add_scratch_case(suite, "joined");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_loop_test(tcase, part_that_changes_while_it_is_joined_is_damaged, 0, COUNT(changes));
    tcase_add_test(tcase, final_is_no_part_of_itself);
    if (scratch_can_mount()) {
        tcase_add_test(tcase, part_on_another_file_system_is_joined);
    }
    return suite;
}
