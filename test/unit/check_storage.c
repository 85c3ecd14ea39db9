/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define LONG_50 "iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii"
#define LONG_255 LONG_50 LONG_50 LONG_50 LONG_50 LONG_50 "iiiii"

static tus_record_t record_of(const char *id, const char *path, const char *info)
{
    return (tus_record_t){ .id = id, .storage_path = path, .storage_info_path = info };
}

/* What a record says, and the name of its data. */
static const struct {
    const char *id, *path, *info, *name;
} named[] = {
    { "a", NULL, NULL, "a" },
    { "a", "", "", "a" },
    { "a", NULL, "/srv/up/a.info", "a" },
    { "a", NULL, "/elsewhere/b.info", "a" },
    { "user-7/a", NULL, NULL, "user-7/a" },
    /* relative to where the store was */
    { "a", "/srv/up/a", "/srv/up/a.info", "a" },
    { "a", "/srv/up/sub/place.bin", "/srv/up/a.info", "sub/place.bin" },
    { "a", "/srv/up/b", "/srv/up/a.info", "b" },
    { "user-7/a", "/srv/up/user-7/a", "/srv/up/user-7/a.info", "user-7/a" },
    { "user-7/a", "/srv/up/place.bin", "/srv/up/user-7/a.info", "place.bin" },
    { "user-7/a", "/srv/up/user-8/b", "/srv/up/user-7/a.info", "user-8/b" },
    { "a", "/a", "/a.info", "a" },
    { "a", "/sub/b", "/a.info", "sub/b" },
    { "a", "up/a", "up/a.info", "a" },
    { "a", "up/sub/b", "up/a.info", "sub/b" },
    { "a", "../up/sub/b", "../up/a.info", "sub/b" },
    { "a", "./a", "./a.info", "a" },
    { "a", "a", "a.info", "a" },
    { "a", "sub/b", "a.info", "sub/b" },
    { "a", "//srv//up/b", "//srv//up/a.info", "b" },
    { "a", "/srv/up/white space,\xc3\xa4\xff", "/srv/up/a.info", "white space,\xc3\xa4\xff" },
    { "a", "/srv/up/info/.../x", "/srv/up/a.info", NULL },
    { "a", "/srv/up/x.info.bin", "/srv/up/a.info", "x.info.bin" },
    { "a", "/srv/up/" LONG_255, "/srv/up/a.info", LONG_255 },
    /* as a hook names it, before there is a record */
    { "a", "sub/place.bin", NULL, "sub/place.bin" },
    { "a", "by-user/7/a", "a.info", "by-user/7/a" },
    { "user-7/a", "by-user/7/user-7/a", "user-7/a.info", "by-user/7/user-7/a" },
    { "a", "b", "", "b" },
    /* as tusd 1 wrote it */
    { "a", "/srv/up/a", NULL, "a" },
    { "user-7/a", "/srv/up/user-7/a", NULL, "user-7/a" },
    { "a", "/a", NULL, "a" },
    { "a", "data/a", NULL, "a" },
    { "a", "./data/a", NULL, "a" },
    { "a", "../data/a", NULL, "a" },
    { "a", "data/xa", NULL, "data/xa" },
    /* out of the store */
    { "a", "/etc/passwd", "/srv/up/a.info", NULL },
    { "a", "/srv/up", "/srv/up/a.info", NULL },
    { "a", "/srv/up/", "/srv/up/a.info", NULL },
    { "a", "/srv/upper/b", "/srv/up/a.info", NULL },
    { "a", "/srv/b", "/srv/up/a.info", NULL },
    { "a", "/srv/up/../b", "/srv/up/a.info", NULL },
    { "a", "/srv/up/..", "/srv/up/a.info", NULL },
    { "a", "/srv/up/sub/../../b", "/srv/up/a.info", NULL },
    { "a", "/srv/up/sub/../b", "/srv/up/a.info", NULL },
    { "a", "srv/up/b", "/srv/up/a.info", NULL },
    { "a", "b", "/srv/up/a.info", NULL },
    { "a", "/b", "a.info", NULL },
    { "a", "/etc/passwd", NULL, NULL },
    { "a", "/srv/up/b", NULL, NULL },
    { "a", "/srv/up/xa", NULL, NULL },
    { "a", "../b", NULL, NULL },
    { "a", "..", NULL, NULL },
    { "a", "sub/../../b", NULL, NULL },
    /* no names in a store */
    { "a", "/srv/up//b", "/srv/up/a.info", NULL },
    { "a", "/srv/up/sub//b", "/srv/up/a.info", NULL },
    { "a", "/srv/up/sub/", "/srv/up/a.info", NULL },
    { "a", "/srv/up/./b", "/srv/up/a.info", NULL },
    { "a", "/srv/up/.", "/srv/up/a.info", NULL },
    { "a", "/srv/up/.hidden", "/srv/up/a.info", NULL },
    { "a", "/srv/up/.git/config", "/srv/up/a.info", NULL },
    { "a", "/srv/up/sub/.htaccess", "/srv/up/a.info", NULL },
    { "a", "/srv/up/.a.info.tmp", "/srv/up/a.info", NULL },
    { "a", "/srv/up/a.info", "/srv/up/a.info", NULL },
    { "a", "/srv/up/b.info", "/srv/up/a.info", NULL },
    { "a", "/srv/up/b.INFO", "/srv/up/a.info", NULL },
    { "a", "/srv/up/b.info/c", "/srv/up/a.info", NULL },
    { "a", "/srv/up/" LONG_255 "i", "/srv/up/a.info", NULL },
    { "a", "sub//b", NULL, NULL },
    { "a", ".hidden", NULL, NULL },
    { "a", "b.info", NULL, NULL },
    /* an InfoPath that is not this record's */
    { "a", "/srv/up/a", "/srv/up/b.info", NULL },
    { "a", "/srv/up/a", "/srv/up/a", NULL },
    { "a", "/srv/up/a", "/srv/up/a.info/", NULL },
    { "a", "/srv/up/a", "/srv/up/a.info.bak", NULL },
    { "a", "/srv/up/a", "/srv/up/xa.info", NULL },
    { "a", "/srv/up/a", ".info", NULL },
    { "a", "/srv/up/a", "info", NULL },
    { "a", "/srv/up/a", "/", NULL },
    { "user-7/a", "/srv/up/user-7/a", "/srv/up/a.info", NULL },
    { "user-7/a", "/srv/up/xuser-7/a", "/srv/up/xuser-7/a.info", NULL },
};

START_TEST(name_of_the_data)
{
    tus_record_t record = record_of(named[_i].id, named[_i].path, named[_i].info);
    const char *name = NULL;

    if (named[_i].name) {
        ck_assert_int_eq(tus_storage_name(&record, &name), APR_SUCCESS);
        ck_assert_str_eq(name, named[_i].name);
    }
    else {
        ck_assert_int_eq(tus_storage_name(&record, &name), TUS_EREFUSED);
        ck_assert_ptr_null(name);
    }
}
END_TEST

/* A path of any length ends in an answer. */
START_TEST(long_paths)
{
    static const apr_size_t lengths[] = { 4094, 4095, 4096, 4097, 1000000 };
    const char *name;
    int i;

    for (i = 0; i < COUNT(lengths); i++) {
        char *path = apr_palloc(unit_pool, lengths[i] + 1);
        tus_record_t record = record_of("a", path, NULL);
        apr_size_t at;

        for (at = 0; at < lengths[i]; at++) {
            path[at] = at % 2 && at + 1 < lengths[i] ? '/' : 'x';
        }
        path[lengths[i]] = '\0';
        ck_assert_int_eq(tus_storage_name(&record, &name),
                         lengths[i] < 4096 ? APR_SUCCESS : TUS_EREFUSED);
    }
}
END_TEST

START_TEST(mark_tells_names_apart)
{
    const char *mark = tus_storage_mark("sub/place.bin", unit_pool);

    ck_assert_uint_eq(strlen(mark), 16);
    ck_assert_uint_eq(strspn(mark, "0123456789abcdef"), 16);
    ck_assert_str_eq(mark, tus_storage_mark("sub/place.bin", unit_pool));
    ck_assert_str_ne(mark, tus_storage_mark("sub/place.bim", unit_pool));
    ck_assert_str_eq(tus_storage_mark("abc", unit_pool), "a9993e364706816a"); /* FIPS 180 */
}
END_TEST

Suite *storage_suite(void)
{
    Suite *suite = suite_create("storage");
    TCase *tcase = add_case(suite, "storage");

    tcase_add_loop_test(tcase, name_of_the_data, 0, COUNT(named));
    tcase_add_test(tcase, long_paths);
    tcase_add_test(tcase, mark_tells_names_apart);
    return suite;
}
