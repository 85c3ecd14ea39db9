/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define CREATED APR_INT64_C(1795356600123456)

static apr_status_t parse(tus_entry_t *entry, const char *json)
{
    apr_size_t len = strlen(json);
    char *copy = exact_copy(json, len);
    apr_status_t rv = tus_entry_parse(entry, copy, len, unit_pool);

    memset(copy, '#', len);
    free(copy);
    return rv;
}

static const char *format(const tus_entry_t *entry)
{
    const char *json = NULL;
    apr_size_t len = 0;

    ck_assert_int_eq(tus_entry_format(entry, &json, &len, unit_pool), APR_SUCCESS);
    ck_assert_uint_eq(strlen(json), len);
    ck_assert_uint_lt(len, 900);
    return json;
}

/* That many times the same text. */
static char *repeat(const char *text, int times)
{
    apr_array_header_t *all = apr_array_make(unit_pool, times, sizeof(const char *));

    while (times-- > 0) {
        APR_ARRAY_PUSH(all, const char *) = text;
    }
    return apr_array_pstrcat(unit_pool, all, '\0');
}

static tus_entry_t full(void)
{
    return (tus_entry_t){ .id = "user-7/a",
                          .size = 10,
                          .created = CREATED,
                          .finished = CREATED + 5,
                          .is_partial = 1,
                          .is_final = 1,
                          .owner = "alice",
                          .filename = "report.pdf",
                          .expire = 1500000,
                          .expired = CREATED + 7,
                          .data = "0123456789abcdef" };
}

START_TEST(entry_round_trips)
{
    tus_entry_t entry = full(), again;

    ck_assert_str_eq(format(&entry), "{\"v\":2,\"id\":\"user-7/a\",\"size\":10,\"kind\":3,"
                                     "\"c\":1795356600123456,\"f\":1795356600123461,\"x\":1500000,"
                                     "\"e\":1795356600123463,\"d\":\"0123456789abcdef\","
                                     "\"o\":\"alice\",\"n\":\"report.pdf\"}");
    ck_assert_int_eq(parse(&again, format(&entry)), APR_SUCCESS);
    ck_assert_str_eq(again.id, entry.id);
    ck_assert_int_eq(again.size, entry.size);
    ck_assert_int_eq(again.created, entry.created);
    ck_assert_int_eq(again.finished, entry.finished);
    ck_assert(again.is_partial && again.is_final);
    ck_assert_str_eq(again.owner, "alice");
    ck_assert_str_eq(again.filename, "report.pdf");
    ck_assert_int_eq(again.expire, entry.expire);
    ck_assert_int_eq(again.expired, entry.expired);
    ck_assert_str_eq(again.data, entry.data);
}
END_TEST

START_TEST(kinds_are_told_apart)
{
    tus_entry_t entry = full(), again;

    entry.is_partial = _i & 1;
    entry.is_final = _i >> 1;
    ck_assert_int_eq(parse(&again, format(&entry)), APR_SUCCESS);
    ck_assert_int_eq(again.is_partial, entry.is_partial);
    ck_assert_int_eq(again.is_final, entry.is_final);
}
END_TEST

START_TEST(bare_entry_round_trips)
{
    tus_entry_t entry = { .id = "a", .size = TUS_SIZE_UNKNOWN };
    tus_entry_t again = full();

    ck_assert_str_eq(format(&entry), "{\"v\":2,\"id\":\"a\"}");
    ck_assert_int_eq(parse(&again, format(&entry)), APR_SUCCESS);
    ck_assert_int_eq(again.size, TUS_SIZE_UNKNOWN);
    ck_assert_int_eq(again.created, 0);
    ck_assert_int_eq(again.finished, 0);
    ck_assert(!again.is_partial && !again.is_final);
    ck_assert_ptr_null(again.owner);
    ck_assert_ptr_null(again.filename);
    ck_assert_int_eq(again.expire, 0);
    ck_assert_int_eq(again.expired, 0);
    ck_assert_ptr_null(again.data);
}
END_TEST

START_TEST(empty_upload_has_a_size)
{
    tus_entry_t entry = { .id = "a", .created = CREATED }, again;

    ck_assert_int_eq(parse(&again, format(&entry)), APR_SUCCESS);
    ck_assert_int_eq(again.size, 0);
}
END_TEST

static const char *const texts[] = {
    "a",    "\"",   "\\",    "\x01", "\x7f", "\xc3\xaf", "\xe2\x82\xac", "\xf0\x9f\x98\x80",
    "\xff", "\x80", "a\xff",
};

static tus_entry_t largest(void)
{
    return (tus_entry_t){ .id = repeat("i", 64),
                          .size = APR_INT64_MAX,
                          .created = APR_INT64_MAX,
                          .finished = APR_INT64_MAX,
                          .is_partial = 1,
                          .is_final = 1,
                          .expire = APR_INT64_MAX,
                          .expired = APR_INT64_MAX,
                          .data = repeat("d", 16) };
}

/* The index has no room for more; what it can cut away is neither here. */
START_TEST(entry_without_texts_is_very_short)
{
    tus_entry_t entry = largest();

    ck_assert_uint_le(strlen(format(&entry)), 234);
}
END_TEST

START_TEST(entry_is_always_short)
{
    static const int lengths[] = { 1, 49, 50, 51, 66, 67, 100, 199, 200, 201, 1000, 50000 };
    tus_entry_t entry = largest(), again;
    int i, j;

    for (i = 0; i < COUNT(lengths); i++) {
        for (j = 0; j < COUNT(lengths); j++) {
            entry.filename = repeat(texts[_i], lengths[i]);
            entry.owner = repeat(texts[_i], lengths[j]);
            ck_assert_int_eq(parse(&again, format(&entry)), APR_SUCCESS);
            ck_assert_str_eq(again.id, entry.id);
            ck_assert_int_eq(again.size, APR_INT64_MAX);
            ck_assert_int_eq(again.expire, APR_INT64_MAX);
            ck_assert_str_eq(again.data, entry.data);
        }
    }
}
END_TEST

START_TEST(filename_is_cut_between_characters)
{
    tus_entry_t entry = full(), again;

    entry.filename = repeat("a", 201);
    ck_assert_int_eq(parse(&again, format(&entry)), APR_SUCCESS);
    ck_assert_str_eq(again.filename, repeat("a", 200));
    entry.filename = repeat("\xe2\x82\xac", 70); /* 210 bytes */
    ck_assert_int_eq(parse(&again, format(&entry)), APR_SUCCESS);
    ck_assert_str_eq(again.filename, repeat("\xe2\x82\xac", 66));
}
END_TEST

START_TEST(long_owner_is_dropped)
{
    tus_entry_t entry = full(), again;

    entry.owner = repeat("a", 200);
    ck_assert_int_eq(parse(&again, format(&entry)), APR_SUCCESS);
    ck_assert_str_eq(again.owner, entry.owner);
    entry.owner = repeat("a", 201);
    ck_assert_int_eq(parse(&again, format(&entry)), APR_SUCCESS);
    ck_assert_ptr_null(again.owner);
}
END_TEST

START_TEST(long_id_displaces_the_rest)
{
    const char *segment = repeat("i", 199);
    tus_entry_t entry = full(), again;
    const char *json = NULL;
    apr_size_t len = 0;

    entry.owner = repeat("o", 200);
    entry.filename = repeat("f", 200);
    entry.id = apr_pstrcat(unit_pool, segment, "/", segment, "/", segment, NULL);
    ck_assert_int_eq(parse(&again, format(&entry)), APR_SUCCESS);
    ck_assert_str_eq(again.id, entry.id);
    entry.id = apr_pstrcat(unit_pool, entry.id, "/", segment, "/", segment, NULL);
    ck_assert(tus_id_is_valid(entry.id));
    ck_assert_int_eq(tus_entry_format(&entry, &json, &len, unit_pool), TUS_EDAMAGED);
    entry.id = "../a";
    ck_assert_int_eq(tus_entry_format(&entry, &json, &len, unit_pool), TUS_EDAMAGED);
    ck_assert_ptr_null(json);
}
END_TEST

static const char *const damaged[] = {
    "",
    "{}",
    "[]",
    "{\"id\":\"a\"}",
    "{\"v\":2}",
    "{\"v\":1,\"id\":\"a\"}",
    "{\"v\":3,\"id\":\"a\"}",
    "{\"v\":\"2\",\"id\":\"a\"}",
    "{\"v\":2,\"id\":\"a\"",
    "{\"v\":2,\"id\":\"a\"}x",
    "{\"v\":2,\"v\":2,\"id\":\"a\"}",
    "{\"v\":2,\"id\":\"../a\"}",
    "{\"v\":2,\"id\":null}",
    "{\"v\":2,\"id\":\"a\",\"size\":-1}",
    "{\"v\":2,\"id\":\"a\",\"size\":9223372036854775808}",
    "{\"v\":2,\"id\":\"a\",\"size\":1.5}",
    "{\"v\":2,\"id\":\"a\",\"size\":null}",
    "{\"v\":2,\"id\":\"a\",\"c\":-1}",
    "{\"v\":2,\"id\":\"a\",\"c\":\"2026\"}",
    "{\"v\":2,\"id\":\"a\",\"f\":true}",
    "{\"v\":2,\"id\":\"a\",\"kind\":4}",
    "{\"v\":2,\"id\":\"a\",\"kind\":true}",
    "{\"v\":2,\"id\":\"a\",\"kind\":-1}",
    "{\"v\":2,\"id\":\"a\",\"x\":-1}",
    "{\"v\":2,\"id\":\"a\",\"x\":1.5}",
    "{\"v\":2,\"id\":\"a\",\"e\":-1}",
    "{\"v\":2,\"id\":\"a\",\"e\":\"\"}",
    "{\"v\":2,\"id\":\"a\",\"d\":1}",
    "{\"v\":2,\"id\":\"a\",\"o\":1}",
    "{\"v\":2,\"id\":\"a\",\"o\":\"a\\u0000b\"}",
    "{\"v\":2,\"id\":\"a\",\"n\":[]}",
    "{\"v\":2,\"id\":\"a\",\"n\":\"\xff\"}",
};

START_TEST(damaged_entry_is_refused)
{
    tus_entry_t entry;

    ck_assert_int_eq(parse(&entry, damaged[_i]), TUS_EDAMAGED);
}
END_TEST

START_TEST(long_entry_is_refused)
{
    const char *json = "{\"v\":2,\"id\":\"a\"}";
    tus_entry_t entry;

    ck_assert_int_eq(parse(&entry, apr_pstrcat(unit_pool, json, repeat(" ", 899 - 16), NULL)),
                     APR_SUCCESS);
    ck_assert_int_eq(parse(&entry, apr_pstrcat(unit_pool, json, repeat(" ", 900 - 16), NULL)),
                     TUS_EDAMAGED);
}
END_TEST

/* A member that nobody knows, nested so deep. */
static const char *nested(int depth)
{
    return apr_pstrcat(unit_pool, "{\"v\":2,\"id\":\"a\",\"?\":", repeat("[", depth),
                       repeat("]", depth), "}", NULL);
}

START_TEST(deep_nesting_is_refused)
{
    tus_entry_t entry;

    ck_assert_int_eq(parse(&entry, nested(63)), APR_SUCCESS);
    ck_assert_int_eq(parse(&entry, nested(64)), TUS_EDAMAGED);
    ck_assert_int_eq(parse(&entry, nested(430)), TUS_EDAMAGED);
}
END_TEST

START_TEST(entry_of_a_record)
{
    tus_record_t record = { .id = "a",
                            .size = 7,
                            .is_partial = 1,
                            .ours = 1,
                            .created = CREATED,
                            .finished = CREATED + 1,
                            .owner = "alice",
                            .expire = 1500000,
                            .expired = CREATED + 2 };
    tus_entry_t entry;

    ck_assert_ptr_null(tus_metadata_parse("filename YS50eHQ=", &record.pairs, unit_pool));
    tus_entry_of_record(&entry, &record, unit_pool);
    ck_assert_str_eq(entry.id, "a");
    ck_assert_int_eq(entry.size, 7);
    ck_assert_int_eq(entry.created, CREATED);
    ck_assert_int_eq(entry.finished, CREATED + 1);
    ck_assert_int_eq(entry.is_partial, 1);
    ck_assert_int_eq(entry.is_final, 0);
    ck_assert_str_eq(entry.owner, "alice");
    ck_assert_str_eq(entry.filename, "a.txt");
    ck_assert_int_eq(entry.expire, 1500000);
    ck_assert_int_eq(entry.expired, CREATED + 2);
    ck_assert_ptr_null(entry.data);

    ck_assert_ptr_null(tus_metadata_parse("filename", &record.pairs, unit_pool));
    tus_entry_of_record(&entry, &record, unit_pool);
    ck_assert_ptr_null(entry.filename);
    record.pairs = NULL;
    tus_entry_of_record(&entry, &record, unit_pool);
    ck_assert_ptr_null(entry.filename);
}
END_TEST

START_TEST(entry_of_data_elsewhere)
{
    tus_record_t record = { .id = "a",
                            .storage_path = "/srv/up/sub/b",
                            .storage_info_path = "/srv/up/a.info" };
    tus_entry_t entry;

    tus_entry_of_record(&entry, &record, unit_pool);
    ck_assert_str_eq(entry.data, tus_storage_mark("sub/b", unit_pool));
    record.storage_path = "/srv/up/a";
    tus_entry_of_record(&entry, &record, unit_pool);
    ck_assert_ptr_null(entry.data);
    record.storage_path = "/etc/passwd";
    tus_entry_of_record(&entry, &record, unit_pool);
    ck_assert_str_eq(entry.data, tus_storage_mark("/etc/passwd", unit_pool));
}
END_TEST

Suite *entry_suite(void)
{
    Suite *suite = suite_create("entry");
    TCase *tcase = add_case(suite, "entry");

    tcase_add_test(tcase, entry_round_trips);
    tcase_add_test(tcase, bare_entry_round_trips);
    tcase_add_loop_test(tcase, kinds_are_told_apart, 0, 4);
    tcase_add_test(tcase, entry_without_texts_is_very_short);
    tcase_add_test(tcase, empty_upload_has_a_size);
    tcase_add_loop_test(tcase, entry_is_always_short, 0, COUNT(texts));
    tcase_add_test(tcase, filename_is_cut_between_characters);
    tcase_add_test(tcase, long_owner_is_dropped);
    tcase_add_test(tcase, long_id_displaces_the_rest);
    tcase_add_loop_test(tcase, damaged_entry_is_refused, 0, COUNT(damaged));
    tcase_add_test(tcase, long_entry_is_refused);
    tcase_add_test(tcase, deep_nesting_is_refused);
    tcase_add_test(tcase, entry_of_a_record);
    tcase_add_test(tcase, entry_of_data_elsewhere);
    return suite;
}
