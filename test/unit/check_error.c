/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <errno.h>
#include <string.h>

static const struct {
    tus_err_e err;
    const char *code;
    int status;
} expected[] = {
    { TUS_ERR_UNSUPPORTED_VERSION, "ERR_UNSUPPORTED_VERSION", 412 },
    { TUS_ERR_MAX_SIZE_EXCEEDED, "ERR_MAX_SIZE_EXCEEDED", 413 },
    { TUS_ERR_INVALID_CONTENT_TYPE, "ERR_INVALID_CONTENT_TYPE", 415 },
    { TUS_ERR_INVALID_UPLOAD_LENGTH, "ERR_INVALID_UPLOAD_LENGTH", 400 },
    { TUS_ERR_INVALID_OFFSET, "ERR_INVALID_OFFSET", 400 },
    { TUS_ERR_UPLOAD_NOT_FOUND, "ERR_UPLOAD_NOT_FOUND", 404 },
    { TUS_ERR_UPLOAD_GONE, "ERR_UPLOAD_GONE", 410 },
    { TUS_ERR_UPLOAD_LOCKED, "ERR_UPLOAD_LOCKED", 423 },
    { TUS_ERR_MISMATCHED_OFFSET, "ERR_MISMATCHED_OFFSET", 409 },
    { TUS_ERR_UPLOAD_SIZE_EXCEEDED, "ERR_UPLOAD_SIZE_EXCEEDED", 413 },
    { TUS_ERR_NOT_IMPLEMENTED, "ERR_NOT_IMPLEMENTED", 501 },
    { TUS_ERR_UPLOAD_NOT_FINISHED, "ERR_UPLOAD_NOT_FINISHED", 400 },
    { TUS_ERR_INVALID_CONCAT, "ERR_INVALID_CONCAT", 400 },
    { TUS_ERR_CONCATENATION_UNSUPPORTED, "ERR_CONCATENATION_UNSUPPORTED", 400 },
    { TUS_ERR_MODIFY_FINAL, "ERR_MODIFY_FINAL", 403 },
    { TUS_ERR_AMBIGUOUS_UPLOAD_LENGTH, "ERR_AMBIGUOUS_UPLOAD_LENGTH", 400 },
    { TUS_ERR_INVALID_UPLOAD_LENGTH_DEFER, "ERR_INVALID_UPLOAD_LENGTH_DEFER", 400 },
    { TUS_ERR_INVALID_METADATA, "ERR_INVALID_METADATA", 400 },
    { TUS_ERR_INVALID_CHECKSUM, "ERR_INVALID_CHECKSUM", 400 },
    { TUS_ERR_UNSUPPORTED_CHECKSUM, "ERR_UNSUPPORTED_CHECKSUM", 400 },
    { TUS_ERR_CHECKSUM_MISMATCH, "ERR_CHECKSUM_MISMATCH", 460 },
    { TUS_ERR_UPLOAD_STOPPED, "ERR_UPLOAD_STOPPED", 400 },
    { TUS_ERR_UPLOAD_REJECTED, "ERR_UPLOAD_REJECTED", 400 },
    { TUS_ERR_TERMINATION_REJECTED, "ERR_UPLOAD_TERMINATION_REJECTED", 400 },
    { TUS_ERR_UPLOAD_INTERRUPTED, "ERR_UPLOAD_INTERRUPTED", 503 },
    { TUS_ERR_READ_TIMEOUT, "ERR_READ_TIMEOUT", 503 },
    { TUS_ERR_TOO_BUSY, "ERR_TOO_BUSY", 503 },
    { TUS_ERR_ORIGIN_NOT_ALLOWED, "ERR_ORIGIN_NOT_ALLOWED", 403 },
    { TUS_ERR_METHOD_NOT_ALLOWED, "ERR_METHOD_NOT_ALLOWED", 405 },
    { TUS_ERR_HOOK_FAILED, "ERR_HOOK_FAILED", 502 },
    { TUS_ERR_HOOK_BUSY, "ERR_TOO_BUSY", 503 },
    { TUS_ERR_INSUFFICIENT_STORAGE, "ERR_INSUFFICIENT_STORAGE", 507 },
    { TUS_ERR_INTERNAL_SERVER_ERROR, "ERR_INTERNAL_SERVER_ERROR", 500 },
};

START_TEST(table_has_every_error)
{
    const tus_error_t *error = tus_error(unit_pool, expected[_i].err, NULL);

    ck_assert_int_eq(error->err, expected[_i].err);
    ck_assert_str_eq(error->code, expected[_i].code);
    ck_assert_int_eq(error->status, expected[_i].status);
    ck_assert_uint_gt(strlen(error->message), 10);
    ck_assert_int_eq(error->rv, APR_SUCCESS);
    ck_assert_ptr_null(error->detail);
    ck_assert_ptr_null(error->reply);
}
END_TEST

START_TEST(none_is_left_out_here)
{
    ck_assert_uint_eq(sizeof(expected) / sizeof(expected[0]), TUS_ERR_COUNT);
}
END_TEST

START_TEST(mismatch_says_what_to_do)
{
    const tus_error_t *error = tus_error(unit_pool, TUS_ERR_MISMATCHED_OFFSET, NULL);

    ck_assert_ptr_nonnull(strstr(error->message, "HEAD"));
}
END_TEST

START_TEST(own_sentence_replaces_the_default)
{
    const tus_error_t *error = tus_error(unit_pool, TUS_ERR_INVALID_OFFSET, "%s is %d", "it", 42);

    ck_assert_str_eq(error->message, "it is 42");
    ck_assert_str_eq(error->code, "ERR_INVALID_OFFSET");
}
END_TEST

START_TEST(full_disk_is_507)
{
    const tus_error_t *error = tus_error_system(unit_pool, ENOSPC, "cannot write %s", "/srv/x");

    ck_assert_int_eq(error->err, TUS_ERR_INSUFFICIENT_STORAGE);
    ck_assert_int_eq(error->status, 507);
    ck_assert_int_eq(error->rv, ENOSPC);
    ck_assert_str_eq(error->detail, "cannot write /srv/x");
    ck_assert_ptr_null(strstr(error->message, "/srv/x"));
    ck_assert_int_eq(tus_error_system(unit_pool, EDQUOT, "x")->status, 507);
}
END_TEST

START_TEST(other_failures_are_500)
{
    static const apr_status_t failures[] = { EACCES, EIO, EFBIG, TUS_EDAMAGED, TUS_EREFUSED };
    const tus_error_t *error =
        tus_error_system(unit_pool, failures[_i], "cannot open %s", "/srv/x");

    ck_assert_int_eq(error->err, TUS_ERR_INTERNAL_SERVER_ERROR);
    ck_assert_int_eq(error->status, 500);
    ck_assert_int_eq(error->rv, failures[_i]);
    ck_assert_str_eq(error->detail, "cannot open /srv/x");
    ck_assert_ptr_null(strstr(error->message, "/srv/x"));
}
END_TEST

START_TEST(module_may_choose_the_status)
{
    static const tus_reply_t replies[] = { { .status = 418, .body = "no" }, { .body = "no" } };
    const tus_error_t *error =
        tus_error_reply(unit_pool, TUS_ERR_TERMINATION_REJECTED, &replies[_i]);

    ck_assert_int_eq(error->err, TUS_ERR_TERMINATION_REJECTED);
    ck_assert_str_eq(error->code, "ERR_UPLOAD_TERMINATION_REJECTED");
    ck_assert_int_eq(error->status, _i == 0 ? 418 : 400);
    ck_assert_ptr_eq(error->reply, &replies[_i]);
    ck_assert_int_eq(error->rv, APR_SUCCESS);
}
END_TEST

START_TEST(copy_keeps_no_text_of_the_first)
{
    char message[] = "no", type[] = "text/html", body[] = "<p>no</p>", value[] = "b";
    tus_reply_t reply = { .content_type = type,
                          .body = body,
                          .headers = apr_table_make(unit_pool, 1) };
    const tus_error_t error = { .message = message, .reply = &reply };
    const tus_error_t *copy;

    apr_table_setn(reply.headers, "X-A", value);
    copy = tus_error_copy(&error, unit_pool);
    memset(message, 'x', 1);
    memset(type, 'x', 1);
    memset(body, 'x', 1);
    memset(value, 'x', 1);
    apr_table_clear(reply.headers);
    ck_assert_str_eq(copy->message, "no");
    ck_assert_ptr_null(copy->detail);
    ck_assert_str_eq(copy->reply->content_type, "text/html");
    ck_assert_str_eq(copy->reply->body, "<p>no</p>");
    ck_assert_str_eq(apr_table_get(copy->reply->headers, "X-A"), "b");
}
END_TEST

START_TEST(copy_of_an_empty_reply)
{
    const tus_reply_t *copy = tus_reply_copy(&(tus_reply_t){ .status = 418 }, unit_pool);

    ck_assert_int_eq(copy->status, 418);
    ck_assert_ptr_null(copy->content_type);
    ck_assert_ptr_null(copy->body);
    ck_assert_ptr_null(copy->headers);
}
END_TEST

START_TEST(reason_is_a_sentence_for_our_own_statuses)
{
    ck_assert_ptr_nonnull(tus_error_reason(TUS_EDAMAGED));
    ck_assert_ptr_nonnull(tus_error_reason(TUS_EREFUSED));
    ck_assert_str_ne(tus_error_reason(TUS_EDAMAGED), tus_error_reason(TUS_EREFUSED));
    ck_assert_ptr_null(tus_error_reason(APR_SUCCESS));
    ck_assert_ptr_null(tus_error_reason(EIO));
}
END_TEST

Suite *error_suite(void)
{
    Suite *suite = suite_create("error");
    TCase *tcase = add_case(suite, "error");

    tcase_add_loop_test(tcase, table_has_every_error, 0, TUS_ERR_COUNT);
    tcase_add_test(tcase, none_is_left_out_here);
    tcase_add_test(tcase, mismatch_says_what_to_do);
    tcase_add_test(tcase, own_sentence_replaces_the_default);
    tcase_add_test(tcase, full_disk_is_507);
    tcase_add_loop_test(tcase, other_failures_are_500, 0, 5);
    tcase_add_loop_test(tcase, module_may_choose_the_status, 0, 2);
    tcase_add_test(tcase, copy_keeps_no_text_of_the_first);
    tcase_add_test(tcase, copy_of_an_empty_reply);
    tcase_add_test(tcase, reason_is_a_sentence_for_our_own_statuses);
    return suite;
}
