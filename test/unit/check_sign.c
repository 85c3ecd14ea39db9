/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static const struct {
    const char *secret;
    const char *event_id;
    apr_time_t seconds;
    const char *body;
    apr_size_t len;
    const char *signature;
} calls[] = {
    /* the example of Standard Webhooks */
    { "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
      "{\"test\": 2432232314}", 20, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" },
    { "secret", "0123456789abcdef0123456789abcdef", 1700000000, "{\"Type\":\"post-finish\"}", 22,
      "v1,R0lndhJrNelG4ZHTd9eDXchrftMGtn1BUdh5bPQm/WQ=" },
    { "secret", "id", 1, "a\0b", 3, "v1,Vj3pnxl0m90GqR6tayiNBSUDtAgwjsHFHGHY9uxkDs0=" },
    { "", "id", 0, "", 0, "v1,gz1sM8aA5qHXvLH+5eY0EQphy1f4G6DwEWnQt3iAVLw=" },
    { "whsec_AAE=", "id", 0, "", 0, "v1,nBzmMfSKTYOCGu1F7Br0UAgIRQysUxDyYn6UmFMa780=" },
};

START_TEST(call_is_signed)
{
    char *body = exact_copy(calls[_i].body, calls[_i].len);
    const char *signature = NULL;

    /* of the time, whole seconds count */
    ck_assert_int_eq(tus_sign(&signature, calls[_i].secret, calls[_i].event_id,
                              apr_time_from_sec(calls[_i].seconds) + 999999, body, calls[_i].len,
                              unit_pool),
                     APR_SUCCESS);
    free(body);
    ck_assert_str_eq(signature, calls[_i].signature);
}
END_TEST

static const char *const no_secrets[] = {
    "whsec_", "whsec_ ", "whsec_A", "whsec_AAE", "whsec_AAE=x", "whsec_AAF=", "whsec_-_-_",
};

START_TEST(secret_is_refused)
{
    const char *signature = "unset";

    ck_assert_int_eq(tus_sign(&signature, no_secrets[_i], "id", 0, "", 0, unit_pool), APR_EINVAL);
    ck_assert_str_eq(signature, "unset");
}
END_TEST

Suite *sign_suite(void)
{
    Suite *suite = suite_create("sign");
    TCase *tcase = add_case(suite, "sign");

    tcase_add_loop_test(tcase, call_is_signed, 0, COUNT(calls));
    tcase_add_loop_test(tcase, secret_is_refused, 0, COUNT(no_secrets));
    return suite;
}
