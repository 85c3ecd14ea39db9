/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* An event's file: its name, and its text, of which there is one only; and names in batches. */
#include "spooling.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define ID "id: one\n"
#define FIELDS                                                                                     \
    "created: 1700000000000000\ntype: post-finish\nhook: " HOOK_A                                  \
    "\nevent-id: 0123456789abcdef0123456789abcdef\nat: 0\n"
#define HEAD "tus-event 1\n" ID FIELDS

static apr_status_t parse_bytes(tus_spooled_t *event, const char *text, apr_size_t len)
{
    char *copy = exact_copy(text, len);
    apr_status_t rv = tus_spooled_parse(event, copy, len, unit_pool);

    free(copy);
    return rv;
}

static apr_status_t parse(tus_spooled_t *event, const char *text)
{
    return parse_bytes(event, text, strlen(text));
}

START_TEST(test_there_and_back)
{
    tus_spooled_t event = spooled("a/b", TUS_HOOK_POST_TERMINATE, HOOK_B ",01234567,89abcdef"),
                  again;
    apr_table_t *headers = apr_table_make(unit_pool, 4);
    const apr_array_header_t *read;
    const char *text, *text_again;
    apr_size_t len, len_again;

    apr_table_addn(headers, "Cookie", "a=b; c=\"d\"");
    apr_table_addn(headers, "cookie", "");
    apr_table_addn(headers, "X-Any", "\ttab : \xff ");
    event.headers = headers;
    event.body = "line\n\nline\n";
    event.len = strlen(event.body);
    event.at = APR_INT64_MAX;
    event.created = APR_INT64_MAX;
    ck_assert_int_eq(tus_spooled_format(&event, &text, &len, unit_pool), APR_SUCCESS);
    ck_assert_uint_eq(strlen(text), len);
    ck_assert_int_eq(parse_bytes(&again, text, len), APR_SUCCESS);
    ck_assert_str_eq(again.id, event.id);
    ck_assert_str_eq(again.hook, event.hook);
    ck_assert_str_eq(again.event_id, event.event_id);
    ck_assert_str_eq(again.body, event.body);
    ck_assert_uint_eq(again.len, event.len);
    ck_assert_int_eq(again.created, event.created);
    ck_assert_int_eq(again.at, event.at);
    ck_assert_int_eq(again.type, event.type);
    ck_assert_int_eq(again.is_pending, 0);
    read = apr_table_elts(again.headers);
    ck_assert_int_eq(read->nelts, 3);
    ck_assert_str_eq(APR_ARRAY_IDX(read, 1, apr_table_entry_t).key, "cookie");
    ck_assert_str_eq(APR_ARRAY_IDX(read, 1, apr_table_entry_t).val, "");
    ck_assert_str_eq(APR_ARRAY_IDX(read, 2, apr_table_entry_t).val, "\ttab : \xff ");
    ck_assert_int_eq(tus_spooled_format(&again, &text_again, &len_again, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(text_again, text);
}
END_TEST

START_TEST(test_bad_texts)
{
    static const char *const texts[] = {
        "",
        "\n",
        "tus-event 1",
        "tus-event 2\n" ID FIELDS "length: 2\n\n{}",
        "tus-event 1\r\n" ID FIELDS "length: 2\n\n{}",
        HEAD,
        HEAD "length: 2",
        HEAD "length: 2\n",
        HEAD "length: 2\n{}",
        HEAD "length: 2\n\n{",
        HEAD "length: 2\n\n{}\n",
        HEAD "length: 02\n\n{}",
        HEAD "length: +2\n\n{}",
        HEAD "length: -1\n\n{}",
        HEAD "length: \n\n",
        HEAD "length: 99999999999999999999\n\n{}",
        HEAD "length: 18446744073709551618\n\n{}",
        HEAD "Length: 2\n\n{}",
        HEAD "length: 2\r\n\r\n{}",
        HEAD "length: 2\n \n{}",
        HEAD "url: http://example.org/\nlength: 2\n\n{}",
        HEAD "header: A\nlength: 2\n\n{}",
        HEAD "header: A:b\nlength: 2\n\n{}",
        HEAD "header: : b\nlength: 2\n\n{}",
        HEAD "header: A B: c\nlength: 2\n\n{}",
        HEAD "header: A\tB: c\nlength: 2\n\n{}",
        HEAD "header: A: b\rX: c\nlength: 2\n\n{}",
        HEAD "header: A: \x01\nlength: 2\n\n{}",
        HEAD "header: A: \x7f\nlength: 2\n\n{}",
        "tus-event 1\n" FIELDS "length: 2\n\n{}",
        "tus-event 1\n" ID ID FIELDS "length: 2\n\n{}",
        "tus-event 1\nid: \n" FIELDS "length: 2\n\n{}",
        "tus-event 1\nid: ../one\n" FIELDS "length: 2\n\n{}",
        "tus-event 1\nid: one \n" FIELDS "length: 2\n\n{}",
        "tus-event 1\n" ID "created: -1\ntype: post-finish\nhook: " HOOK_A
        "\nevent-id: 0123456789abcdef0123456789abcdef\nat: 0\nlength: 2\n\n{}",
        "tus-event 1\n" ID "created: 01\ntype: post-finish\nhook: " HOOK_A
        "\nevent-id: 0123456789abcdef0123456789abcdef\nat: 0\nlength: 2\n\n{}",
        "tus-event 1\n" ID "created: 1\ntype: pre-finish\nhook: " HOOK_A
        "\nevent-id: 0123456789abcdef0123456789abcdef\nat: 0\nlength: 2\n\n{}",
        "tus-event 1\n" ID "created: 1\ntype: post-receive\nhook: " HOOK_A
        "\nevent-id: 0123456789abcdef0123456789abcdef\nat: 0\nlength: 2\n\n{}",
        "tus-event 1\n" ID "created: 1\ntype: \nhook: " HOOK_A
        "\nevent-id: 0123456789abcdef0123456789abcdef\nat: 0\nlength: 2\n\n{}",
        "tus-event 1\n" ID "created: 1\ntype: post-finish\nhook: AAAAAAAAAAAAAAAA"
        "\nevent-id: 0123456789abcdef0123456789abcdef\nat: 0\nlength: 2\n\n{}",
        "tus-event 1\n" ID "created: 1\ntype: post-finish\nhook: " HOOK_A ",0123456"
        "\nevent-id: 0123456789abcdef0123456789abcdef\nat: 0\nlength: 2\n\n{}",
        "tus-event 1\n" ID "created: 1\ntype: post-finish\nhook: http://a"
        "\nevent-id: 0123456789abcdef0123456789abcdef\nat: 0\nlength: 2\n\n{}",
        "tus-event 1\n" ID "created: 1\ntype: post-finish\nhook: " HOOK_A
        "\nevent-id: 0123456789abcdef0123456789abcde\nat: 0\nlength: 2\n\n{}",
        "tus-event 1\n" ID "created: 1\ntype: post-finish\nhook: " HOOK_A
        "\nevent-id: 0123456789abcdef0123456789abcdef\nat: now\nlength: 2\n\n{}",
        "tus-event 1\n" ID "created: 1\ntype: post-finish\nhook: " HOOK_A
        "\nevent-id: 0123456789abcdef0123456789abcdef\nlength: 2\n\n{}",
    };
    tus_spooled_t event;
    apr_size_t i;

    ck_assert_int_eq(parse(&event, HEAD "length: 2\n\n{}"), APR_SUCCESS);
    ck_assert_int_eq(parse(&event, HEAD "length: 0\n\n"), APR_SUCCESS);
    ck_assert_uint_eq(event.len, 0);
    for (i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        ck_assert_msg(parse(&event, texts[i]) == TUS_EDAMAGED, "it was read: %s", texts[i]);
    }
}
END_TEST

START_TEST(test_nul_and_size)
{
    static const char nul_in_line[] = "tus-event 1\nid: one\0\n" FIELDS "length: 2\n\n{}";
    static const char nul_in_body[] = HEAD "length: 2\n\n{\0";
    static const char nul_in_header[] = HEAD "header: A: b\0c\nlength: 2\n\n{}";
    char *large = apr_pcalloc(unit_pool, TUS_SPOOLED_MAX + 2);
    const char *head = apr_psprintf(unit_pool, HEAD "length: %d\n\n", TUS_SPOOLED_MAX - 1000);
    apr_size_t len = strlen(head) + TUS_SPOOLED_MAX - 1000;
    tus_spooled_t event;

    ck_assert_int_eq(parse_bytes(&event, nul_in_line, sizeof(nul_in_line) - 1), TUS_EDAMAGED);
    ck_assert_int_eq(parse_bytes(&event, nul_in_body, sizeof(nul_in_body) - 1), TUS_EDAMAGED);
    ck_assert_int_eq(parse_bytes(&event, nul_in_header, sizeof(nul_in_header) - 1), TUS_EDAMAGED);
    memset(large, ' ', TUS_SPOOLED_MAX + 1);
    memcpy(large, head, strlen(head));
    ck_assert_int_eq(parse_bytes(&event, large, len), APR_SUCCESS);
    ck_assert_int_eq(parse_bytes(&event, large, TUS_SPOOLED_MAX + 1), TUS_EDAMAGED);
}
END_TEST

START_TEST(test_what_cannot_be_read_back_is_not_written)
{
    static const char *const headers[][2] = {
        { "", "x" }, { "A B", "x" }, { "A:", "x" }, { "A", "x\r\nB: y" }, { "A\n", "x" },
    };
    tus_spooled_t good = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A), event;
    const char *text;
    apr_size_t len, i;

#define REFUSED(member, value)                                                                     \
    do {                                                                                           \
        event = good;                                                                              \
        event.member = value;                                                                      \
        ck_assert_int_eq(tus_spooled_format(&event, &text, &len, unit_pool), APR_EINVAL);          \
    } while (0)
    REFUSED(id, NULL);
    REFUSED(id, "a\nb");
    REFUSED(created, -1);
    REFUSED(at, -1);
    REFUSED(type, TUS_HOOK_POST_RECEIVE);
    REFUSED(type, TUS_HOOK_COUNT);
    REFUSED(hook, NULL);
    REFUSED(hook, HOOK_A "a");
    REFUSED(hook, HOOK_A ",");
    REFUSED(event_id, NULL);
    REFUSED(event_id, "x");
    REFUSED(body, NULL);
#undef REFUSED
    for (i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        apr_table_t *table = apr_table_make(unit_pool, 1);

        apr_table_addn(table, headers[i][0], headers[i][1]);
        event = good;
        event.headers = table;
        ck_assert_int_eq(tus_spooled_format(&event, &text, &len, unit_pool), APR_EINVAL);
    }
}
END_TEST

START_TEST(test_number_of_headers)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A), again;
    apr_table_t *table = apr_table_make(unit_pool, 1000);
    const char *text;
    apr_size_t len;
    int i;

    event.headers = table;
    for (i = 0; i < 1000; i++) {
        apr_table_addn(table, "A", "b");
    }
    ck_assert_int_eq(tus_spooled_format(&event, &text, &len, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(parse_bytes(&again, text, len), APR_SUCCESS);
    text = strstr(text, "header: A: b\n");
    text = apr_pstrcat(unit_pool, HEAD "header: A: b\n", text, NULL);
    ck_assert_int_eq(parse(&again, text), TUS_EDAMAGED);
    apr_table_addn(table, "A", "b");
    ck_assert_int_eq(tus_spooled_format(&event, &text, &len, unit_pool), APR_EINVAL);
}
END_TEST

START_TEST(test_names)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_B), later = event;
    char name[TUS_SPOOLED_NAME_SIZE], other[TUS_SPOOLED_NAME_SIZE], key[TUS_SPOOLED_KEY_LEN + 1];
    const char *bad;
    int i;

    ck_assert_int_eq(tus_spooled_name(name, &event), APR_SUCCESS);
    ck_assert_uint_eq(strlen(name), sizeof(name) - 1);
    ck_assert_int_eq(strncmp(name, tus_spooled_key("one", key), TUS_SPOOLED_KEY_LEN), 0);
    ck_assert_uint_eq(strlen(key), TUS_SPOOLED_KEY_LEN);
    ck_assert_int_eq(strtol(apr_pstrndup(unit_pool, key, 2), NULL, 16), tus_spool_shard("one"));
    ck_assert_str_ne(tus_spooled_key("two", other), key);
    later.hook = HOOK_B ",01234567"; /* the key alone is in the name */
    ck_assert_int_eq(tus_spooled_name(other, &later), APR_SUCCESS);
    ck_assert_str_eq(name, other);
    later.type = TUS_HOOK_POST_FINISH;
    later.hook = HOOK_A;
    ck_assert_int_eq(tus_spooled_name(other, &later), APR_SUCCESS);
    ck_assert_int_lt(strcmp(name, other), 0);
    later = event;
    later.created = APR_INT64_MAX;
    ck_assert_int_eq(tus_spooled_name(other, &later), APR_SUCCESS);
    ck_assert_int_lt(strcmp(name, other), 0);
    later.created = -1;
    ck_assert_int_eq(tus_spooled_name(other, &later), APR_EINVAL);

    ck_assert_int_eq(tus_spooled_kind(name), TUS_SPOOLED_READY);
    ck_assert_int_eq(tus_spooled_kind(apr_pstrcat(unit_pool, name, ".new", NULL)),
                     TUS_SPOOLED_PENDS);
    ck_assert_int_eq(tus_spooled_kind(apr_pstrcat(unit_pool, name, ".new.tmp", NULL)),
                     TUS_SPOOLED_LEFTOVER);
    ck_assert_int_eq(tus_spooled_kind(apr_pstrcat(unit_pool, name, ".tmp", NULL)),
                     TUS_SPOOLED_FOREIGN);
    ck_assert_int_eq(tus_spooled_kind(""), TUS_SPOOLED_FOREIGN);
    for (i = 0; name[i]; i++) { /* each character has but one meaning, and none is left out */
        bad = apr_pstrdup(unit_pool, name);
        ((char *)bad)[i] = 'G';
        ck_assert_int_eq(tus_spooled_kind(bad), TUS_SPOOLED_FOREIGN);
        bad = exact_copy(name, (apr_size_t)i + 1);
        ((char *)bad)[i] = '\0';
        ck_assert_int_eq(tus_spooled_kind(bad), TUS_SPOOLED_FOREIGN);
        free((char *)bad);
    }
}
END_TEST

/* ---- batches ------------------------------------------------------------- */

#define UPLOADS 5000 /* of two events each: some batches */

static const char *name_of(int upload, int type)
{
    static char name[TUS_SPOOLED_NAME_SIZE + 8];

    apr_snprintf(name, sizeof(name), "%08x%024x.%016x.%d." HOOK_A "%s",
                 (unsigned)upload * 0x9e3779b1U, 0, 1, type, upload % 3 ? "" : ".new");
    return name;
}

/* In no order, every name; but for one upload, which only the second reading has. */
static void read_names(tus_spool_batch_t *batch, int reading)
{
    int i;

    for (i = 0; i < UPLOADS; i++) {
        int upload = i * 7919 % UPLOADS;

        if (reading == 1 || upload != 17) {
            tus_spool_batch_add(batch, name_of(upload, 4), reading);
        }
        tus_spool_batch_add(batch, name_of(upload, 1), reading);
    }
}

/* Where it comes in a round that starts elsewhere. */
static const char *turn_of(const char *name, const char *start)
{
    return apr_pstrcat(unit_pool, strcmp(name, start) < 0 ? "1" : "0", name, NULL);
}

START_TEST(test_batches)
{
    const char *start = "8000", *last = "";
    tus_spool_batch_t *batch = tus_spool_batch_make(start, unit_pool);
    int i, count, more, is_new, all = 0, batches = 0, of_second = 0;

    do {
        tus_spool_batch_begin(batch);
        read_names(batch, 0);
        read_names(batch, 1);
        more = tus_spool_batch_end(batch, &count);
        ck_assert_int_gt(count, 0);
        ck_assert_int_le(count, TUS_SPOOL_BATCH);
        ck_assert_int_eq(count % 2, 0); /* of whole uploads */
        for (i = 0; i < count; i++) {
            const char *name = tus_spool_batch_name(batch, i, &is_new);
            const char *turn = turn_of(name, start);

            ck_assert_int_lt(strcmp(last, turn), 0);
            ck_assert_int_eq(is_new, strcmp(name, name_of(17, 4)) == 0);
            of_second += is_new;
            last = turn;
        }
        all += count;
        batches++;
    } while (more);
    ck_assert_int_eq(all, 2 * UPLOADS);
    ck_assert_int_eq(batches, 3);
    ck_assert_int_eq(of_second, 1);
}
END_TEST

/* An event that nobody saw before goes into a batch that was cut already, and one leaves it. */
START_TEST(test_batch_that_changes)
{
    tus_spool_batch_t *batch = tus_spool_batch_make("0", unit_pool);
    int i, count, is_new;

    tus_spool_batch_begin(batch);
    for (i = 1; i <= 3 * TUS_SPOOL_BATCH; i++) {
        tus_spool_batch_add(batch, apr_psprintf(unit_pool, "%032x.x", (unsigned)i), 0);
    }
    for (i = 0; i <= 3 * TUS_SPOOL_BATCH; i++) {
        tus_spool_batch_add(batch, apr_psprintf(unit_pool, "%032x.x", (unsigned)i), 1);
    }
    ck_assert_int_ne(tus_spool_batch_end(batch, &count), 0);
    ck_assert_int_eq(count, TUS_SPOOL_BATCH - 1);
    for (i = 0; i < count; i++) {
        ck_assert_str_eq(tus_spool_batch_name(batch, i, &is_new),
                         apr_psprintf(unit_pool, "%032x.x", (unsigned)i));
        ck_assert_int_eq(is_new, i == 0);
    }
}
END_TEST

START_TEST(test_empty_batch)
{
    tus_spool_batch_t *batch = tus_spool_batch_make("0", unit_pool);
    int count = -1;

    tus_spool_batch_begin(batch);
    ck_assert_int_eq(tus_spool_batch_end(batch, &count), 0);
    ck_assert_int_eq(count, 0);
}
END_TEST

Suite *spooled_suite(void)
{
    Suite *suite = suite_create("spooled");
    TCase *tcase = add_case(suite, "spooled");

    tcase_add_test(tcase, test_there_and_back);
    tcase_add_test(tcase, test_bad_texts);
    tcase_add_test(tcase, test_nul_and_size);
    tcase_add_test(tcase, test_what_cannot_be_read_back_is_not_written);
    tcase_add_test(tcase, test_number_of_headers);
    tcase_add_test(tcase, test_names);
    tcase_add_test(tcase, test_batches);
    tcase_add_test(tcase, test_batch_that_changes);
    tcase_add_test(tcase, test_empty_batch);
    return suite;
}
