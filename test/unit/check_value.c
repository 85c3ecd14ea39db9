/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Plain JSON is read as jansson does it; all else is left to jansson. */
#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static const char *const plain[] = {
    "{}",
    " {\t}\r\n",
    "{\"ID\":\"a\"}",
    "{ \"a\" : \"b\" , \"c\" : [ ] }",
    "{\"a\":\"\",\"\":\"b\"}",
    "{\"a\":0,\"b\":1,\"c\":10,\"d\":123456789012345678}",
    "{\"a\":true,\"b\":false,\"c\":null}",
    "{\"a\":[1,\"b\",true,[],{}]}",
    "{\"a\":{\"b\":{\"c\":1}}}",
    "{\"a\":\" !#[]^_`{|}~/'\"}",
};

/* Loaded by jansson or not, but not by us. */
static const char *const rest[] = {
    "",
    " ",
    "[]",
    "\"a\"",
    "1",
    "{",
    "}",
    "{}x",
    "{}{}",
    "{,}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{\"a\" 1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\":[}",
    "{\"a\":[1,]}",
    "{\"a\":[1 2]}",
    "{\"a\":1,\"a\":2}",
    "{a:1}",
    "{\"a\":'b'}",
    "{\"a\":\"b}",
    "{\"a\":\"\\n\"}",
    "{\"a\":\"\\u0000\"}",
    "{\"a\\u0062\":1}",
    "{\"a\":\"\xc3\xa4\"}",
    "{\"a\":\"\xff\"}",
    "{\"a\":\"\x7f\"}",
    "{\"a\":\"\t\"}",
    "{\"a\":-1}",
    "{\"a\":01}",
    "{\"a\":00}",
    "{\"a\":1.5}",
    "{\"a\":1e3}",
    "{\"a\":1234567890123456789}",
    "{\"a\":99999999999999999999}",
    "{\"a\":tru}",
    "{\"a\":truest}",
    "{\"a\":nul",
    "{\"a\":[[[[1]]]]}",
};

/* The same type, name and content. */
static int is_equal(const tus_value_t *one, const tus_value_t *other)
{
    const tus_value_t *a = one->first, *b = other->first;

    if (one->type != other->type || one->len != other->len || one->integer != other->integer
        || one->real != other->real || one->count != other->count
        || (one->text && memcmp(one->text, other->text, one->len + 1) != 0)
        || strcmp(one->name ? one->name : "", other->name ? other->name : "") != 0) {
        return 0;
    }
    while (a && b && is_equal(a, b)) {
        a = a->next;
        b = b->next;
    }
    return !a && !b;
}

static tus_value_t *load_plain(const char *text, apr_size_t len)
{
    char *copy = exact_copy(text, len);
    tus_value_t *value = tus_value_plain(copy, len, unit_pool);

    free(copy);
    return value;
}

START_TEST(plain_text_is_loaded)
{
    const char *text = plain[_i];
    tus_value_t *value = load_plain(text, strlen(text));

    ck_assert_ptr_nonnull(value);
    ck_assert(is_equal(value, tus_value_of_jansson(text, strlen(text), unit_pool)));
}
END_TEST

START_TEST(any_part_of_it_is_none)
{
    const char *text = plain[_i];
    apr_size_t end = strlen(text);

    while (text[end - 1] != '}') {
        end--;
    }
    for (apr_size_t len = 0; len < end; len++) {
        ck_assert_ptr_null(load_plain(text, len));
    }
}
END_TEST

START_TEST(all_else_is_left)
{
    ck_assert_ptr_null(load_plain(rest[_i], strlen(rest[_i])));
}
END_TEST

START_TEST(nor_is_text_with_nul_plain)
{
    ck_assert_ptr_null(load_plain("{\"a\":1}\0", 8));
    ck_assert_ptr_null(load_plain("{\"a\":\"b\0\"}", 10));
    ck_assert_ptr_null(load_plain("{\"a\":1\0}", 8));
}
END_TEST

static const char *members(int count)
{
    const char *text = "{\"m0\":0";

    for (int i = 1; i < count; i++) {
        text = apr_psprintf(unit_pool, "%s,\"m%d\":%d", text, i, i);
    }
    return apr_pstrcat(unit_pool, text, "}", NULL);
}

/* Else who writes a record could make each request compare names for long. */
START_TEST(nor_are_very_many_members)
{
    const char *some = members(32), *many = members(33);
    tus_value_t *value = tus_value_load(many, strlen(many), unit_pool);

    ck_assert_ptr_nonnull(load_plain(some, strlen(some)));
    ck_assert_ptr_null(load_plain(many, strlen(many)));
    ck_assert_int_eq(value->count, 33);
    ck_assert_int_eq(tus_value_get(value, "m32")->integer, 32);
}
END_TEST

/* What jansson loads of that is loaded all the same. */
START_TEST(jansson_is_asked)
{
    const char *text = rest[_i];
    tus_value_t *value = tus_value_load(text, strlen(text), unit_pool);
    tus_value_t *expected = tus_value_of_jansson(text, strlen(text), unit_pool);

    ck_assert((!value && !expected) || is_equal(value, expected));
}
END_TEST

/* An object, all of it as it stands there. */
START_TEST(jansson_says_all)
{
    static const char text[] =
        "{\"a\":\"\\u0000\\u00e4\",\"b\":[-1,1.5,true,false,null,{}],\"c\":{\"d\":1}}";
    const tus_value_t *value = tus_value_load(text, strlen(text), unit_pool);
    const tus_value_t *b = tus_value_get(value, "b"), *a = tus_value_get(value, "a");

    ck_assert_int_eq(value->type, TUS_VALUE_OBJECT);
    ck_assert_int_eq(value->count, 3);
    ck_assert_uint_eq(a->len, 3);
    ck_assert_int_eq(memcmp(a->text, "\0\xc3\xa4", 4), 0);
    ck_assert_int_eq(b->count, 6);
    ck_assert_int_eq(b->first->integer, -1);
    ck_assert_double_eq(b->first->next->real, 1.5);
    ck_assert_int_eq(b->first->next->next->type, TUS_VALUE_TRUE);
    ck_assert_int_eq(b->first->next->next->next->type, TUS_VALUE_FALSE);
    ck_assert_int_eq(tus_value_get(tus_value_get(value, "c"), "d")->integer, 1);
}
END_TEST

START_TEST(what_is_no_object_is_none)
{
    static const char *const texts[] = { "[]", "1", "\"a\"", "null", "", "{\"a\":1,\"a\":2}" };

    ck_assert_ptr_null(tus_value_load(texts[_i], strlen(texts[_i]), unit_pool));
}
END_TEST

START_TEST(nor_is_what_lies_too_deep)
{
    char text[200] = "{\"a\":";

    memset(text + 5, '[', 64);
    memset(text + 69, ']', 64);
    strcpy(text + 133, "}");
    ck_assert_ptr_null(tus_value_load(text, strlen(text), unit_pool));
    ck_assert_ptr_null(tus_value_get(NULL, "a"));
}
END_TEST

/* ---- members ------------------------------------------------------------- */

static const tus_value_t *member(const char *json)
{
    const char *text = apr_pstrcat(unit_pool, "{\"m\":", json, "}", NULL);

    return tus_value_get(tus_value_load(text, strlen(text), unit_pool), "m");
}

START_TEST(strings_are_as_in_go)
{
    const char *text = "x";

    ck_assert(tus_value_string(&text, member("\"a b\"")));
    ck_assert_str_eq(text, "a b");
    ck_assert(tus_value_string(&text, member("null")));
    ck_assert_ptr_null(text);
    ck_assert(tus_value_string(&text, NULL));
    ck_assert(!tus_value_string(&text, member("1")));
    ck_assert(!tus_value_string(&text, member("\"a\\u0000\"")));
    ck_assert_ptr_null(text);
}
END_TEST

START_TEST(ids_must_be_there)
{
    const char *id;

    ck_assert(tus_value_id(&id, member("\"abc\"")));
    ck_assert_str_eq(id, "abc");
    ck_assert(!tus_value_id(&id, NULL));
    ck_assert(!tus_value_id(&id, member("null")));
    ck_assert(!tus_value_id(&id, member("\"..\"")));
}
END_TEST

START_TEST(booleans_may_be_absent)
{
    int flag = 2;

    ck_assert(tus_value_boolean(&flag, NULL));
    ck_assert_int_eq(flag, 0);
    ck_assert(tus_value_boolean(&flag, member("true")));
    ck_assert_int_eq(flag, 1);
    ck_assert(tus_value_boolean(&flag, member("false")));
    ck_assert_int_eq(flag, 0);
    ck_assert(!tus_value_boolean(&flag, member("null")));
    ck_assert(!tus_value_boolean(&flag, member("1")));
}
END_TEST

START_TEST(numbers_count)
{
    apr_int64_t number;

    ck_assert(tus_value_number(&number, member("0")));
    ck_assert_int_eq(number, 0);
    ck_assert(tus_value_number(&number, member("9223372036854775807")));
    ck_assert_int_eq(number, APR_INT64_MAX);
    ck_assert(!tus_value_number(&number, NULL));
    ck_assert(!tus_value_number(&number, member("-1")));
    ck_assert(!tus_value_number(&number, member("1.0")));
    ck_assert(!tus_value_number(&number, member("\"1\"")));
}
END_TEST

Suite *value_suite(void)
{
    Suite *suite = suite_create("value");
    TCase *tcase = add_case(suite, "reading");

    tcase_add_loop_test(tcase, plain_text_is_loaded, 0, COUNT(plain));
    tcase_add_loop_test(tcase, any_part_of_it_is_none, 0, COUNT(plain));
    tcase_add_loop_test(tcase, all_else_is_left, 0, COUNT(rest));
    tcase_add_test(tcase, nor_is_text_with_nul_plain);
    tcase_add_test(tcase, nor_are_very_many_members);
    tcase_add_loop_test(tcase, jansson_is_asked, 0, COUNT(rest));
    tcase_add_test(tcase, jansson_says_all);
    tcase_add_loop_test(tcase, what_is_no_object_is_none, 0, 6);
    tcase_add_test(tcase, nor_is_what_lies_too_deep);

    tcase = add_case(suite, "members");
    tcase_add_test(tcase, strings_are_as_in_go);
    tcase_add_test(tcase, ids_must_be_there);
    tcase_add_test(tcase, booleans_may_be_absent);
    tcase_add_test(tcase, numbers_count);
    return suite;
}
