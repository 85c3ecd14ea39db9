/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define HEX "0123456789abcdef"

static const char *const names[] = {
    "pre-create",  "post-create",   "post-receive",   "pre-finish",
    "post-finish", "pre-terminate", "post-terminate",
};

START_TEST(events_have_names)
{
    ck_assert_int_eq(COUNT(names), TUS_HOOK_COUNT);
    ck_assert_str_eq(tus_hook_name((tus_hook_e)_i), names[_i]);
    ck_assert_int_eq(tus_hook_named(names[_i]), _i);
}
END_TEST

static const char *const no_names[] = {
    "", "pre-creat", "pre-created", "Pre-Create", "pre_create", " pre-create", "finish", "all",
};

START_TEST(other_names_are_none)
{
    ck_assert_int_eq(tus_hook_named(no_names[_i]), TUS_HOOK_COUNT);
}
END_TEST

START_TEST(default_is_that_of_tusd)
{
    ck_assert_uint_eq(TUS_HOOK_DEFAULT, TUS_HOOK_BIT(tus_hook_named("pre-create"))
                                            | TUS_HOOK_BIT(tus_hook_named("post-create"))
                                            | TUS_HOOK_BIT(tus_hook_named("post-receive"))
                                            | TUS_HOOK_BIT(tus_hook_named("post-finish"))
                                            | TUS_HOOK_BIT(tus_hook_named("post-terminate")));
}
END_TEST

/* ---- ids of events --------------------------------------------------------- */

static const tus_record_t record = { .id = "abc", .created = APR_TIME_C(1700000000000001) };

/* It is kept across an upgrade: events in the spool have it already. */
START_TEST(event_id_is_known)
{
    char id[TUS_EVENT_ID_SIZE];

    ck_assert_ptr_eq(tus_hook_event_id(id, TUS_HOOK_POST_FINISH, &record, 0), id);
    ck_assert_str_eq(id, "fa0f44bdc121255957fa86f86784ffe8");
}
END_TEST

START_TEST(event_id_is_the_same_for_the_same)
{
    tus_record_t again = record;
    char id[TUS_EVENT_ID_SIZE], other[TUS_EVENT_ID_SIZE];

    again.size = 7;
    again.finished = 9;
    again.storage_path = "/moved/abc";
    tus_hook_event_id(id, TUS_HOOK_POST_FINISH, &record, 1);
    tus_hook_event_id(other, TUS_HOOK_POST_FINISH, &again, 2);
    ck_assert_str_eq(id, other);
    tus_hook_event_id(id, TUS_HOOK_POST_RECEIVE, &record, 1);
    tus_hook_event_id(other, TUS_HOOK_POST_RECEIVE, &again, 1);
    ck_assert_str_eq(id, other);
}
END_TEST

START_TEST(event_id_is_another_for_another)
{
    tus_record_t anew = record, named = record;
    char ids[TUS_HOOK_COUNT + 3][TUS_EVENT_ID_SIZE];
    int i, j;

    for (i = 0; i < TUS_HOOK_COUNT; i++) {
        tus_hook_event_id(ids[i], (tus_hook_e)i, &record, 0);
    }
    tus_hook_event_id(ids[i++], TUS_HOOK_POST_RECEIVE, &record, 1);
    anew.created++;
    tus_hook_event_id(ids[i++], TUS_HOOK_POST_FINISH, &anew, 0);
    named.id = "abd";
    tus_hook_event_id(ids[i++], TUS_HOOK_POST_FINISH, &named, 0);
    for (i = 0; i < COUNT(ids); i++) {
        ck_assert_uint_eq(strlen(ids[i]), 32);
        ck_assert_uint_eq(strspn(ids[i], HEX), 32);
        for (j = 0; j < i; j++) {
            ck_assert_str_ne(ids[i], ids[j]);
        }
    }
}
END_TEST

/* Who was asked before is asked anew, and may answer otherwise. */
START_TEST(event_id_of_a_question_is_new)
{
    static const tus_hook_e asked[] = { TUS_HOOK_PRE_CREATE, TUS_HOOK_PRE_FINISH,
                                        TUS_HOOK_PRE_TERMINATE };
    char id[TUS_EVENT_ID_SIZE], other[TUS_EVENT_ID_SIZE];

    tus_hook_event_id(id, asked[_i], &record, 0);
    tus_hook_event_id(other, asked[_i], &record, 0);
    ck_assert_str_ne(id, other);
}
END_TEST

START_TEST(event_id_without_an_id_is_new)
{
    tus_record_t nameless = { .created = record.created };
    char id[TUS_EVENT_ID_SIZE], other[TUS_EVENT_ID_SIZE];

    ck_assert_ptr_eq(tus_hook_event_id(id, TUS_HOOK_PRE_CREATE, &nameless, 0), id);
    ck_assert_ptr_eq(tus_hook_event_id(other, TUS_HOOK_PRE_CREATE, &nameless, 0), other);
    ck_assert_uint_eq(strspn(id, HEX), 32);
    ck_assert_str_ne(id, other);
}
END_TEST

/* ---- keys of hooks ----------------------------------------------------------- */

START_TEST(key_tells_where_and_what)
{
    char key[TUS_HOOK_KEY_SIZE], other[TUS_HOOK_KEY_SIZE];

    ck_assert_ptr_eq(tus_hook_key(key, "a:80", "/x", "/hook.php"), key);
    ck_assert_str_eq(key, "a357370b2aebbfed"); /* names of files have it */

    tus_hook_key(other, "a:80", "/x", "/other.php"); /* another URL at the same place */
    ck_assert_int_eq(strncmp(key, other, 8), 0);
    ck_assert_str_ne(key + 8, other + 8);

    tus_hook_key(other, "a:80", "/y", "/hook.php"); /* the same URL elsewhere */
    ck_assert_int_ne(strncmp(key, other, 8), 0);
    ck_assert_str_eq(key + 8, other + 8);

    tus_hook_key(other, "b:80", "/x", "/hook.php");
    ck_assert_int_ne(strncmp(key, other, 8), 0);
}
END_TEST

START_TEST(no_two_places_are_one)
{
    char key[TUS_HOOK_KEY_SIZE], other[TUS_HOOK_KEY_SIZE];

    tus_hook_key(key, "a:80", NULL, "/");
    tus_hook_key(other, "a:80", "", "/");
    ck_assert_str_ne(key, other);
    tus_hook_key(key, "a:8", "0", "/");
    tus_hook_key(other, "a:", "80", "/");
    ck_assert_str_ne(key, other);
}
END_TEST

/* ---- references ---------------------------------------------------------------- */

#define KEY "0123456789abcdef"

START_TEST(section_key_tells_where_and_which)
{
    char key[TUS_HOOK_SECTION_SIZE], other[TUS_HOOK_SECTION_SIZE];

    ck_assert_ptr_eq(tus_hook_section_key(key, "a:80", "<Location /x>", 0), key);
    ck_assert_str_eq(key, "7e62adc6"); /* events in the spool have it */
    ck_assert_str_ne(tus_hook_section_key(other, "b:80", "<Location /x>", 0), key);
    ck_assert_str_ne(tus_hook_section_key(other, "a:80", "<Location /y>", 0), key);
    ck_assert_str_ne(tus_hook_section_key(other, "a:80", "<Location /x>", 1), key);
    ck_assert_str_ne(tus_hook_section_key(other, "a:8", "0<Location /x>", 0), key);
    ck_assert_str_eq(tus_hook_section_key(other, "a:80", "<Location /x>", 0), key);
}
END_TEST

START_TEST(reference_is_key_and_sections)
{
    apr_array_header_t *sections = apr_array_make(unit_pool, 4, sizeof(const char *));

    ck_assert_str_eq(tus_hook_reference(KEY, NULL, unit_pool), KEY);
    ck_assert_str_eq(tus_hook_reference(KEY, sections, unit_pool), KEY);
    APR_ARRAY_PUSH(sections, const char *) = "00000001";
    ck_assert_str_eq(tus_hook_reference(KEY, sections, unit_pool), KEY ",00000001");
    APR_ARRAY_PUSH(sections, const char *) = "fffffff0";
    ck_assert_str_eq(tus_hook_reference(KEY, sections, unit_pool), KEY ",00000001,fffffff0");
}
END_TEST

/* The innermost have the last word, so the outermost are left out. */
START_TEST(reference_is_bounded)
{
    apr_array_header_t *sections = apr_array_make(unit_pool, 4, sizeof(const char *));
    const char *reference;

    for (int i = 0; i < TUS_HOOK_SECTIONS_MAX; i++) {
        APR_ARRAY_PUSH(sections, const char *) = apr_psprintf(unit_pool, "%08x", (unsigned)i);
    }
    reference = tus_hook_reference(KEY, sections, unit_pool);
    ck_assert_ptr_eq(strstr(reference, ",00000000,00000001,"), reference + 16);
    ck_assert_int_eq(tus_hook_is_reference(reference), 1);
    ck_assert_int_eq(tus_hook_is_reference(apr_pstrcat(unit_pool, reference, ",00000000", NULL)),
                     0);
    APR_ARRAY_PUSH(sections, const char *) = "ffffffff";
    reference = tus_hook_reference(KEY, sections, unit_pool);
    ck_assert_ptr_eq(strstr(reference, ",00000001,00000002,"), reference + 16);
    ck_assert_ptr_eq(strstr(reference, ",ffffffff"), reference + strlen(reference) - 9);
    ck_assert_int_eq(tus_hook_is_reference(reference), 1);
}
END_TEST

static const char *const no_references[] = {
    "",
    "0123456789abcde",
    KEY "0",
    "0123456789ABCDEF",
    "0123456789abcdeg",
    KEY ",",
    KEY ",0123456",
    KEY ",012345678",
    KEY ",0123456G",
    KEY ",01234567,",
    KEY ",01234567,0123456",
    KEY ",01234567 ",
    KEY ",,01234567",
    KEY ";01234567",
    ",01234567",
    "01234567," KEY,
    " " KEY,
    KEY "\n",
};

START_TEST(other_texts_are_none)
{
    char *copy = exact_copy(no_references[_i], strlen(no_references[_i]) + 1);

    ck_assert_int_eq(tus_hook_is_reference(copy), 0);
    free(copy);
}
END_TEST

START_TEST(references_are_known)
{
    ck_assert_int_eq(tus_hook_is_reference(NULL), 0);
    ck_assert_int_eq(tus_hook_is_reference(KEY), 1);
    ck_assert_int_eq(tus_hook_is_reference(KEY ",01234567"), 1);
    ck_assert_int_eq(tus_hook_is_reference(KEY ",01234567,01234567"), 1);
}
END_TEST

Suite *hook_suite(void)
{
    Suite *suite = suite_create("hook");
    TCase *tcase = add_case(suite, "names");

    tcase_add_loop_test(tcase, events_have_names, 0, COUNT(names));
    tcase_add_loop_test(tcase, other_names_are_none, 0, COUNT(no_names));
    tcase_add_test(tcase, default_is_that_of_tusd);

    tcase = add_case(suite, "ids");
    tcase_add_test(tcase, event_id_is_known);
    tcase_add_test(tcase, event_id_is_the_same_for_the_same);
    tcase_add_test(tcase, event_id_is_another_for_another);
    tcase_add_loop_test(tcase, event_id_of_a_question_is_new, 0, 3);
    tcase_add_test(tcase, event_id_without_an_id_is_new);
    tcase_add_test(tcase, key_tells_where_and_what);
    tcase_add_test(tcase, no_two_places_are_one);

    tcase = add_case(suite, "references");
    tcase_add_test(tcase, section_key_tells_where_and_which);
    tcase_add_test(tcase, reference_is_key_and_sections);
    tcase_add_test(tcase, reference_is_bounded);
    tcase_add_loop_test(tcase, other_texts_are_none, 0, COUNT(no_references));
    tcase_add_test(tcase, references_are_known);
    return suite;
}
