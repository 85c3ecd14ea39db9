/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static const char *type, *disposition;

static void judge_bytes(const char *filetype, apr_size_t type_len, const char *filename,
                        apr_size_t name_len)
{
    apr_array_header_t *pairs = apr_array_make(unit_pool, 2, sizeof(tus_pair_t));

    if (filetype) {
        APR_ARRAY_PUSH(pairs, tus_pair_t) = (tus_pair_t){ "filetype", filetype, type_len };
    }
    if (filename) {
        APR_ARRAY_PUSH(pairs, tus_pair_t) = (tus_pair_t){ "filename", filename, name_len };
    }
    tus_disposition(pairs, &type, &disposition, unit_pool);
}

static void judge(const char *filetype, const char *filename)
{
    judge_bytes(filetype, filetype ? strlen(filetype) : 0, filename,
                filename ? strlen(filename) : 0);
}

static const char *const shown[] = {
    "text/plain",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/bmp",
    "image/webp",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/webm",
    "audio/ogg",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "application/ogg",
    "IMAGE/PNG",
    "Text/Plain",
    "text/plain; charset=utf-8",
    "text/plain;charset=UTF-8;format=flowed",
};

static const char *const saved[] = {
    "text/html",
    "image/svg+xml",
    "application/xhtml+xml",
    "text/xml",
    "application/pdf",
    "image/pngx",
    "text/plainx",
    "application/x-httpd-php",
    "application/vnd.ms-excel",
    "multipart/form-data;boundary=x",
};

static const char *const malformed[] = {
    "",
    "text",
    "text/",
    "/plain",
    "/",
    "text//plain",
    "text/plain/x",
    "te xt/plain",
    "text/pl ain",
    " text/plain",
    "text/plain ",
    "text/plain;",
    "text/plain; ",
    "text/plain; charset",
    "text/plain; charset=",
    "text/plain; charset=\"utf-8\"",
    "text/plain\r\nSet-Cookie: a=b",
    "text/plain;a=b\r\n",
    "text/pl\xc3\xa4in",
    "text/html,text/plain",
    "text/plain;a=b,c",
    "text\001/plain",
    "text/plain\x7f",
};

START_TEST(harmless_type_is_inline)
{
    judge(shown[_i], NULL);
    ck_assert_str_eq(type, shown[_i]);
    ck_assert_str_eq(disposition, "inline");
}
END_TEST

START_TEST(other_type_is_attachment)
{
    judge(saved[_i], NULL);
    ck_assert_str_eq(type, saved[_i]);
    ck_assert_str_eq(disposition, "attachment");
}
END_TEST

START_TEST(malformed_type_is_octet_stream)
{
    judge(malformed[_i], NULL);
    ck_assert_str_eq(type, "application/octet-stream");
    ck_assert_str_eq(disposition, "attachment");
}
END_TEST

START_TEST(type_with_nul_is_octet_stream)
{
    judge_bytes("text/plain\0", 11, NULL, 0);
    ck_assert_str_eq(type, "application/octet-stream");
    ck_assert_str_eq(disposition, "attachment");
}
END_TEST

START_TEST(type_has_a_length)
{
    char *text = apr_palloc(unit_pool, 257);

    memset(text, 'a', 256);
    text[4] = '/';
    text[256] = '\0';
    judge(text, NULL);
    ck_assert_str_eq(type, "application/octet-stream");
    text[255] = '\0';
    judge(text, NULL);
    ck_assert_str_eq(type, text);
}
END_TEST

START_TEST(no_metadata)
{
    tus_disposition(NULL, &type, &disposition, unit_pool);
    ck_assert_str_eq(type, "application/octet-stream");
    ck_assert_str_eq(disposition, "attachment");
}
END_TEST

static const struct {
    const char *filename;
    const char *parameters;
} names[] = {
    { "a.txt", "; filename=\"a.txt\"" },
    { "with space;and=100%.txt", "; filename=\"with space;and=100%.txt\"" },
    { "say \"x\".txt", "; filename=\"say _x_.txt\"; filename*=UTF-8''say%20%22x%22.txt" },
    { "na\xc3\xafve.txt", "; filename=\"na_ve.txt\"; filename*=UTF-8''na%C3%AFve.txt" },
    { "\xf0\x9f\x98\x80", "; filename=\"_\"; filename*=UTF-8''%F0%9F%98%80" },
    { "a\r\nSet-Cookie: x=y", "; filename=\"a__Set-Cookie: x=y\"" },
    { "a\x7f\x01z", "; filename=\"a__z\"" },
    { "../../etc/passwd", "; filename=\"passwd\"" },
    { "C:\\fakepath\\x.png", "; filename=\"x.png\"" },
    { "a/b\\c", "; filename=\"c\"" },
    { "a\\b/c", "; filename=\"c\"" },
    { ".htaccess", "; filename=\".htaccess\"" },
    { "na\xefve.txt", "; filename=\"na_ve.txt\"" }, /* ISO 8859-1 */
    { "\x80\xff\"", "; filename=\"___\"" },
    { "cut\xc3", "; filename=\"cut_\"" },
    { "a'b(c)*.txt", "; filename=\"a'b(c)*.txt\"" },
    { "\xc3\xa9'(*)!", "; filename=\"_'(*)!\"; filename*=UTF-8''%C3%A9%27%28%2A%29!" },
    { "", "" },
    { "/", "" },
    { "dir/", "" },
    { "dir\\", "" },
    { ".", "" },
    { "..", "" },
    { "x/..", "" },
};

START_TEST(filename_is_clean)
{
    judge("text/plain", names[_i].filename);
    ck_assert_str_eq(disposition, apr_pstrcat(unit_pool, "inline", names[_i].parameters, NULL));
    judge(NULL, names[_i].filename);
    ck_assert_str_eq(disposition, apr_pstrcat(unit_pool, "attachment", names[_i].parameters, NULL));
}
END_TEST

START_TEST(filename_with_nul)
{
    judge_bytes(NULL, 0, "a.php\0.txt", 10);
    ck_assert_str_eq(disposition, "attachment; filename=\"a.php_.txt\"");
    judge_bytes(NULL, 0, "\0", 1);
    ck_assert_str_eq(disposition, "attachment; filename=\"_\"");
}
END_TEST

START_TEST(filename_has_a_length)
{
    char *name = apr_palloc(unit_pool, 400);
    const char *plain;

    memset(name, 'a', 400);
    judge_bytes(NULL, 0, name, 300);
    plain = apr_pstrcat(unit_pool, "attachment; filename=\"", apr_pstrmemdup(unit_pool, name, 255),
                        "\"", NULL);
    ck_assert_str_eq(disposition, plain);
    judge_bytes(NULL, 0, name, 255);
    ck_assert_str_eq(disposition, plain);

    /* A character that the limit would cut in two goes as a whole. */
    memcpy(name + 254, "\xc3\xaf", 2);
    judge_bytes(NULL, 0, name, 300);
    ck_assert_str_eq(disposition, apr_pstrcat(unit_pool, "attachment; filename=\"",
                                              apr_pstrmemdup(unit_pool, name, 254), "\"", NULL));
}
END_TEST

/* Whatever comes in, what goes out is one header value of printable ASCII with closed quotes. */
START_TEST(every_byte_makes_a_safe_header)
{
    char name[5] = "x?\0yz";
    const char *c;
    int quotes = 0;

    name[1] = (char)_i;
    judge_bytes(name, sizeof(name), name, sizeof(name));
    for (c = disposition; *c; c++) {
        ck_assert(*c >= ' ' && *c <= '~');
        ck_assert(*c != '\\');
        quotes += *c == '"';
    }
    ck_assert_int_eq(quotes, 2);
    ck_assert_str_eq(type, "application/octet-stream");
}
END_TEST

Suite *disposition_suite(void)
{
    Suite *suite = suite_create("disposition");
    TCase *tcase = add_case(suite, "type");

    tcase_add_loop_test(tcase, harmless_type_is_inline, 0, COUNT(shown));
    tcase_add_loop_test(tcase, other_type_is_attachment, 0, COUNT(saved));
    tcase_add_loop_test(tcase, malformed_type_is_octet_stream, 0, COUNT(malformed));
    tcase_add_test(tcase, type_with_nul_is_octet_stream);
    tcase_add_test(tcase, type_has_a_length);
    tcase_add_test(tcase, no_metadata);

    tcase = add_case(suite, "filename");
    tcase_add_loop_test(tcase, filename_is_clean, 0, COUNT(names));
    tcase_add_test(tcase, filename_with_nul);
    tcase_add_test(tcase, filename_has_a_length);
    tcase_add_loop_test(tcase, every_byte_makes_a_safe_header, 0, 256);
    return suite;
}
