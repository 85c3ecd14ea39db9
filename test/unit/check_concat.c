/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define ID "7ca65dc92f4022031bad2333978ec47a"

static const tus_error_t *parse_below(const char *const *bases, int count, const char *value,
                                      tus_concat_t *concat)
{
    apr_array_header_t *array = apr_array_make(unit_pool, 2, sizeof(const char *));
    int i;

    for (i = 0; i < count; i++) {
        APR_ARRAY_PUSH(array, const char *) = bases[i];
    }
    memset(concat, 0x55, sizeof(*concat));
    return tus_concat_parse(value, array, concat, unit_pool);
}

static const tus_error_t *parse(const char *value, tus_concat_t *concat)
{
    static const char *const bases[] = { "/files/" };

    return parse_below(bases, 1, value, concat);
}

/* The ids with a comma between them. */
static const char *ids_below(const char *const *bases, int count, const char *value)
{
    tus_concat_t concat;
    const tus_error_t *error = parse_below(bases, count, value, &concat);

    ck_assert_msg(!error, "%s: %s", value, error ? error->message : "");
    ck_assert(concat.is_final && !concat.is_partial);
    return apr_array_pstrcat(unit_pool, concat.parts, ',');
}

static const char *ids(const char *value)
{
    static const char *const bases[] = { "/files/" };

    return ids_below(bases, 1, value);
}

static const char *refusal(const char *value)
{
    tus_concat_t concat;
    const tus_error_t *error = parse(value, &concat);
    const char *c;

    ck_assert_msg(error != NULL, "accepted: %s", value);
    ck_assert_int_eq(error->err, TUS_ERR_INVALID_CONCAT);
    ck_assert_uint_lt(strlen(error->message), 200);
    for (c = error->message; *c; c++) {
        ck_assert(*c >= ' ' && *c <= '~');
    }
    return error->message;
}

/* ---- the forms --------------------------------------------------------------------------- */

static const char *const partials[] = { "partial", " partial", "partial ", "\tpartial \t" };

START_TEST(partial)
{
    tus_concat_t concat;

    ck_assert_ptr_null(parse(partials[_i], &concat));
    ck_assert(concat.is_partial && !concat.is_final);
    ck_assert_ptr_null(concat.parts);
}
END_TEST

static const char *const no_forms[] = {
    NULL,       "",          " ",        "Partial",  "PARTIAL",    "partial;",
    "partials", "partial x", "parti al", "final",    "Final;/f/a", "FINAL;/a",
    "final :",  "final ;",   "finals;",  "/files/a", "x",          "partial, partial",
};

START_TEST(no_form_is_refused)
{
    ck_assert_ptr_nonnull(strstr(refusal(no_forms[_i]), "must be partial, or final;"));
}
END_TEST

static const char *const no_lists[] = { "final;", "final; ", " final; \t" };

START_TEST(empty_list_is_refused)
{
    ck_assert_ptr_nonnull(strstr(refusal(no_lists[_i]), "names no URL"));
}
END_TEST

static const struct {
    const char *value;
    const char *ids;
} lists[] = {
    { "final;/files/a", "a" },
    { "final;/files/a /files/b", "a,b" }, /* the example of tus 1.0 */
    { "final; /files/a /files/b", "a,b" },
    { " \tfinal;/files/a /files/b\t ", "a,b" },
    { "final;/files/b /files/a /files/b", "b,a,b" },
    { "final;/files/a /files/a", "a,a" },
    { "final;http://uploads.example:8080/files/" ID " https://u.example/files/b c /files/d",
      ID ",b,c,d" },
};

START_TEST(list_keeps_its_order)
{
    ck_assert_str_eq(ids(lists[_i].value), lists[_i].ids);
}
END_TEST

static const char *const bad_lists[] = {
    "final;  /files/a",         "final;/files/a  /files/b",   "final;\t/files/a",
    "final;/files/a\t/files/b", "final;/files/a,/files/b",    "final;/files/a, /files/b",
    "final;/files/a;/files/b",  "final;/files/a /files/b x!", "final;;/files/a",
    "final;partial!",           "final;\"/files/a\"",         "final;</files/a>",
};

START_TEST(bad_list_is_refused)
{
    refusal(bad_lists[_i]);
}
END_TEST

START_TEST(refused_url_is_numbered)
{
    ck_assert_ptr_nonnull(strstr(refusal("final;/files/a /other/b /files/c"), "URL 2 is not"));
    ck_assert_ptr_nonnull(strstr(refusal("final;/files/a  /files/b"), "URL 2 is empty"));
    ck_assert_ptr_nonnull(strstr(refusal("final;/files/a?x=1"), "URL 1 has a query"));
    ck_assert_ptr_nonnull(strstr(refusal("final;a b /files/c#d"), "URL 3 has a query"));
    ck_assert_ptr_nonnull(strstr(refusal("final;/files/%4"), "URL 1 has a malformed percent"));
    ck_assert_ptr_nonnull(strstr(refusal("final;http://h"), "URL 1 has no host or no path"));
    ck_assert_ptr_nonnull(strstr(refusal("final;/files/\xc3\xa9"), "must be percent-encoded"));
}
END_TEST

/* ---- URLs -------------------------------------------------------------------------------- */

static const struct {
    const char *url;
    const char *id;
} urls[] = {
    { "/files/" ID, ID },
    { "/files/a/b/c", "a/b/c" },
    { "/files/a.b-c_d~e", "a.b-c_d~e" },
    /* any host */
    { "http://h/files/a", "a" },
    { "https://h/files/a", "a" },
    { "HTTPS://H/files/a", "a" },
    { "http://h:8080/files/a", "a" },
    { "http://[2001:db8::1]:8080/files/a", "a" },
    { "http://user@h/files/a", "a" },
    { "//h/files/a", "a" },
    { "//h:1/files/a/b", "a/b" },
    /* relative */
    { "a", "a" },
    { ID, ID },
    { "a/b", "a/b" },
    { "./a", "a" },
    { "././a/b", "a/b" },
    { "files/a", "files/a" },
    /* percent-encoded */
    { "/files/%61", "a" },
    { "/files/%7Ea%2db", "~a-b" },
    { "/%66iles/a", "a" },
    { "/f%69l%65s/%61%62", "ab" },
    { "http://h/%66iles/a", "a" },
    { "%61", "a" },
};

START_TEST(url_names_an_id)
{
    ck_assert_str_eq(ids(apr_pstrcat(unit_pool, "final;", urls[_i].url, NULL)), urls[_i].id);
}
END_TEST

static const char *const bad_urls[] = {
    /* outside */
    "/",
    "/a",
    "/files",
    "/files/",
    "/Files/a",
    "/filesx/a",
    "/other/a",
    "/x/files/a",
    "//files/a",
    "///files/a",
    "http://h",
    "http://h/",
    "http://h/a",
    "http://h/files",
    "http://h/files/",
    "http:///files/a",
    "http://",
    "https://",
    "http:/files/a",
    "http:files/a",
    "//",
    "//h",
    "//h/",
    "ftp://h/files/a",
    "file:///files/a",
    "javascript:a",
    "\\files\\a",
    /* traversal */
    "..",
    ".",
    "./",
    "../a",
    "../files/a",
    "./../a",
    "a/..",
    "a/../b",
    "a/./b",
    "/files/..",
    "/files/../a",
    "/files/a/../b",
    "/files/./a",
    "/files/a/.",
    "/other/../files/a",
    "/../files/a",
    "/files/%2e%2e/a",
    "/files/%2e%2e",
    "/files/.%2e/files/a",
    "%2e%2e/a",
    "/files/..%2fa",
    "/files/a%2f..%2fb",
    "/files/..\\a",
    /* no ids */
    "/files//a",
    "/files/a/",
    "/files/a//b",
    "/files/.a",
    "/files/a.info",
    "/files/a%2Einfo",
    "/files/a.INFO",
    "/files/a%2Fb",
    "/files/a%2fb",
    "/files%2Fa",
    "/files/a%5cb",
    "/files/a%252Fb",
    "/files/%2561",
    "/files/a%20b",
    "/files/a+b",
    "/files/a*",
    "/files/a:b",
    "/files/a@b",
    "/files/%c3%a9",
    "/files/a%0ab",
    "/files/a%7f",
    /* bad escapes */
    "/files/a%00",
    "/files/a%00.png",
    "%00",
    "/files/%61%00",
    "/files/a%",
    "/files/a%4",
    "/files/%61%4",
    "/files/a%zz",
    "/files/%61%zz",
    "/files/a%%",
    "/files/%u0061",
    "/files/%-1",
    /* queries and fragments */
    "/files/a?",
    "/files/a?b=c",
    "/files/a#",
    "/files/a#b",
    "a?b",
    "?a",
    "#a",
    "http://h?/files/a",
    "http://h#/files/a",
    /* characters that no URL has */
    "/files/a\x01",
    "/files/a\r\nX: y",
    "/files/a\x7f",
    "/files/\xc3\xa9",
    "http://\xff/files/a",
};

START_TEST(bad_url_is_refused)
{
    const char *url = bad_urls[_i];

    ck_assert_ptr_nonnull(strstr(refusal(apr_pstrcat(unit_pool, "final;", url, NULL)), "URL 1 "));
    ck_assert_ptr_nonnull(
        strstr(refusal(apr_pstrcat(unit_pool, "final;/files/a ", url, NULL)), "URL 2 "));
}
END_TEST

START_TEST(escaped_slash_is_told_from_an_escaped_escape)
{
    static const char *const bases[] = { "/a%2Fb/" };
    tus_concat_t concat;

    ck_assert_str_eq(ids_below(bases, 1, "final;/a%2Fb/x"), "x");
    ck_assert_ptr_nonnull(parse_below(bases, 1, "final;/a/b/x", &concat));
}
END_TEST

START_TEST(long_id_is_refused)
{
    char *value = apr_palloc(unit_pool, 4096);

    memset(value, 'a', 4095);
    value[4095] = '\0';
    memcpy(value, "final;/files/", 13);
    refusal(value);
    value[13 + 200] = '\0';
    ck_assert_uint_eq(strlen(ids(value)), 200);
}
END_TEST

/* ---- bases ------------------------------------------------------------------------------- */

static const struct {
    const char *bases[2];
    const char *url;
    const char *id; /* NULL: refused */
} mounts[] = {
    /* TusBaseURL first, then the path that the server has */
    { { "https://cdn.example/up/", "/files/" }, "https://cdn.example/up/a", "a" },
    { { "https://cdn.example/up/", "/files/" }, "http://other.example:81/up/a", "a" },
    { { "https://cdn.example/up/", "/files/" }, "/up/a", "a" },
    { { "https://cdn.example/up/", "/files/" }, "/files/a", "a" },
    { { "https://cdn.example/up/", "/files/" }, "a", "a" },
    { { "https://cdn.example/up/", "/files/" }, "/cdn.example/up/a", NULL },
    { { "https://cdn.example/up/", "/files/" }, "/a", NULL },
    { { "//cdn.example/up/", "/files/" }, "/up/a", "a" },
    /* the root */
    { { "https://cdn.example/", "/" }, "https://cdn.example/a", "a" },
    { { "/", NULL }, "/a", "a" },
    { { "/", NULL }, "http://h/a/b", "a/b" },
    { { "/", NULL }, "http://h/", NULL },
    /* one inside the other: the first rules */
    { { "/files/", "/" }, "/files/a", "a" },
    { { "/", "/files/" }, "/files/a", "files/a" },
    { { "/", "/.x/" }, "/.x/a", "a" },
    /* percent-encoded */
    { { "/d%C3%A9p%C3%B4t/", NULL }, "/d%c3%a9p%c3%b4t/a", "a" },
    { { "/my%20files/", NULL }, "/my%20files/a", "a" },
    { { "/my%20files/", NULL }, "/my+files/a", NULL },
    { { "/files/", NULL }, "/file%73/a", "a" },
    { { "/file%73/", NULL }, "/files/a", "a" },
    { { "/~x/", NULL }, "/%7Ex/a", "a" },
    { { "/%7ex/", NULL }, "/~x/a", "a" },
    /* one that cannot be read serves nobody */
    { { "/bad%/", "/files/" }, "/bad%/a", NULL },
    { { "/bad%/", "/files/" }, "/files/a", "a" },
    { { "https://cdn.example", "/files/" }, "/a", NULL },
};

START_TEST(base_is_compared_by_its_path)
{
    const char *const *bases = mounts[_i].bases;
    const char *value = apr_pstrcat(unit_pool, "final;", mounts[_i].url, NULL);
    int count = bases[1] ? 2 : 1;
    tus_concat_t concat;

    if (mounts[_i].id) {
        ck_assert_str_eq(ids_below(bases, count, value), mounts[_i].id);
    }
    else {
        ck_assert_ptr_nonnull(parse_below(bases, count, value, &concat));
    }
}
END_TEST

/* ---- many -------------------------------------------------------------------------------- */

/* "final;" and so many URLs. */
static char *many(int count, const char *url)
{
    apr_size_t len = strlen(url);
    char *value = apr_palloc(unit_pool, 6 + (len + 1) * (apr_size_t)count);
    char *end = value;
    int i;

    memcpy(value, "final;", 6);
    end += 6;
    for (i = 0; i < count; i++) {
        memcpy(end, url, len);
        end += len;
        *end++ = ' ';
    }
    end[-1] = '\0';
    return value;
}

START_TEST(ten_thousand_parts)
{
    tus_concat_t concat;
    int i;

    ck_assert_ptr_null(parse(many(TUS_CONCAT_MAX, "/files/" ID), &concat));
    ck_assert_int_eq(concat.parts->nelts, TUS_CONCAT_MAX);
    for (i = 0; i < TUS_CONCAT_MAX; i++) {
        ck_assert_str_eq(APR_ARRAY_IDX(concat.parts, i, const char *), ID);
    }
}
END_TEST

START_TEST(more_parts_are_refused)
{
    ck_assert_ptr_nonnull(
        strstr(refusal(many(TUS_CONCAT_MAX + 1, "/files/" ID)), "more than 10000 URLs"));
    ck_assert_ptr_nonnull(strstr(refusal(many(1000000, "a")), "more than 10000 URLs"));
}
END_TEST

/* Quadratic work on any of these would run into Check's timeout. */
static const struct {
    const char *start;
    const char *repeat;
    int is_refused;
} long_values[] = {
    { "final;", "%61", 1 },       { "final;", "./", 1 },
    { "final;/files/", "a/", 1 }, { "final;", "//h/", 1 },
    { "final;http://", "a", 1 },  { "final;http://h/files/", "%2e", 1 },
    { "final;", " ", 1 },         { "", " ", 1 },
    { "partial", " ", 0 },
};

START_TEST(four_megabytes)
{
    const apr_size_t size = 4 << 20;
    apr_size_t len = strlen(long_values[_i].start);
    apr_size_t step = strlen(long_values[_i].repeat);
    char *value = apr_pstrcat(unit_pool, long_values[_i].start, NULL);
    tus_concat_t concat;

    value = memcpy(apr_palloc(unit_pool, size + step + 1), value, len);
    for (; len < size; len += step) {
        memcpy(value + len, long_values[_i].repeat, step);
    }
    value[len] = '\0';
    ck_assert_int_eq(parse(value, &concat) != NULL, long_values[_i].is_refused);
}
END_TEST

Suite *concat_suite(void)
{
    Suite *suite = suite_create("concat");
    TCase *tcase = add_case(suite, "forms");

    tcase_add_loop_test(tcase, partial, 0, COUNT(partials));
    tcase_add_loop_test(tcase, no_form_is_refused, 0, COUNT(no_forms));
    tcase_add_loop_test(tcase, empty_list_is_refused, 0, COUNT(no_lists));
    tcase_add_loop_test(tcase, list_keeps_its_order, 0, COUNT(lists));
    tcase_add_loop_test(tcase, bad_list_is_refused, 0, COUNT(bad_lists));
    tcase_add_test(tcase, refused_url_is_numbered);

    tcase = add_case(suite, "urls");
    tcase_add_loop_test(tcase, url_names_an_id, 0, COUNT(urls));
    tcase_add_loop_test(tcase, bad_url_is_refused, 0, COUNT(bad_urls));
    tcase_add_test(tcase, escaped_slash_is_told_from_an_escaped_escape);
    tcase_add_test(tcase, long_id_is_refused);
    tcase_add_loop_test(tcase, base_is_compared_by_its_path, 0, COUNT(mounts));

    tcase = add_case(suite, "many");
    tcase_add_test(tcase, ten_thousand_parts);
    tcase_add_test(tcase, more_parts_are_refused);
    tcase_add_loop_test(tcase, four_megabytes, 0, COUNT(long_values));
    return suite;
}
