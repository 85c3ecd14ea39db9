/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* 2026-11-22T14:10:00.123456Z */
#define CREATED APR_INT64_C(1795356600123456)

/* As tusd 2 writes it. */
#define TUSD                                                                                       \
    "{\"ID\":\"ec51914a29d19cee4c965a4c6a33a0a9\",\"Size\":6,\"SizeIsDeferred\":false,"            \
    "\"Offset\":0,\"MetaData\":{\"empty\":\"\",\"filename\":\"na\xc3\xafve \\\"x\\\".txt\","       \
    "\"filetype\":\"text/plain\",\"note\":\"a\\nb\"},\"IsPartial\":false,\"IsFinal\":true,"        \
    "\"PartialUploads\":[\"057fac39129352266d720b3bd3f525b8\","                                    \
    "\"77ec6d493348f3eae9d1584093f3cc56\"],\"Storage\":{\"InfoPath\":\"/srv/up/x.info\","          \
    "\"Path\":\"/srv/up/x\",\"Type\":\"filestore\"}}"

static apr_status_t parse_bytes(tus_record_t **record, const char *json, apr_size_t len)
{
    char *copy = exact_copy(json, len);
    apr_status_t rv = tus_record_parse(record, copy, len, unit_pool);

    /* The record keeps nothing of the buffer. */
    memset(copy, '#', len);
    free(copy);
    return rv;
}

static tus_record_t *parse(const char *json)
{
    tus_record_t *record = NULL;

    ck_assert_msg(parse_bytes(&record, json, strlen(json)) == APR_SUCCESS, "refused: %s", json);
    return record;
}

static const char *format(const tus_record_t *record)
{
    const char *json = NULL;
    apr_size_t len = 0;

    ck_assert_int_eq(tus_record_format(record, &json, &len, unit_pool), APR_SUCCESS);
    ck_assert_uint_eq(strlen(json), len);
    return json;
}

static void assert_value(const tus_record_t *record, const char *key, const char *value,
                         apr_size_t len)
{
    const tus_pair_t *pair = tus_metadata_get(record->pairs, key);

    ck_assert_ptr_nonnull(pair);
    ck_assert_uint_eq(pair->len, len);
    ck_assert_mem_eq(pair->value, value, len);
    ck_assert_int_eq(pair->value[len], '\0');
}

static tus_record_t *sample(const char *header)
{
    tus_record_t *record = apr_pcalloc(unit_pool, sizeof(*record));

    record->id = "user-7/report.pdf";
    record->size = 10;
    record->metadata = header;
    ck_assert_ptr_null(tus_metadata_parse(header, &record->pairs, unit_pool));
    record->storage_type = "filestore";
    record->storage_path = "/srv/up/user-7/report.pdf";
    record->storage_info_path = "/srv/up/user-7/report.pdf.info";
    record->ours = 1;
    record->created = CREATED;
    return record;
}

/* ---- reading what tusd wrote --------------------------------------------- */

START_TEST(tusd_record_is_read)
{
    tus_record_t *record = parse(TUSD);

    ck_assert_str_eq(record->id, "ec51914a29d19cee4c965a4c6a33a0a9");
    ck_assert_int_eq(record->size, 6);
    ck_assert_int_eq(record->pairs->nelts, 4);
    assert_value(record, "empty", "", 0);
    assert_value(record, "filename", "na\xc3\xafve \"x\".txt", 14);
    assert_value(record, "note", "a\nb", 3);
    ck_assert_int_eq(record->is_partial, 0);
    ck_assert_int_eq(record->is_final, 1);
    ck_assert_int_eq(record->parts->nelts, 2);
    ck_assert_str_eq(APR_ARRAY_IDX(record->parts, 1, const char *),
                     "77ec6d493348f3eae9d1584093f3cc56");
    ck_assert_str_eq(record->storage_type, "filestore");
    ck_assert_str_eq(record->storage_path, "/srv/up/x");
    ck_assert_str_eq(record->storage_info_path, "/srv/up/x.info");
    ck_assert_int_eq(record->ours, 0);
    ck_assert_ptr_null(record->metadata);
    ck_assert_ptr_null(record->owner);
    ck_assert_int_eq(record->created, 0);
    ck_assert_int_eq(record->finished, 0);
}
END_TEST

START_TEST(tusd_record_is_written_as_it_was)
{
    ck_assert_str_eq(format(parse(TUSD)), TUSD);
}
END_TEST

START_TEST(deferred_size)
{
    tus_record_t *record = parse("{\"ID\":\"a\",\"Size\":0,\"SizeIsDeferred\":true}");

    ck_assert_int_eq(record->size, TUS_SIZE_UNKNOWN);
    ck_assert_ptr_nonnull(strstr(format(record), "\"Size\":0,\"SizeIsDeferred\":true,"));
    ck_assert_int_eq(parse("{\"ID\":\"a\",\"SizeIsDeferred\":true}")->size, TUS_SIZE_UNKNOWN);
}
END_TEST

START_TEST(absent_and_null_members)
{
    static const char *const records[] = {
        "{\"ID\":\"a\",\"Size\":1}",
        "{\"ID\":\"a\",\"Size\":1,\"MetaData\":null,\"PartialUploads\":null,\"Storage\":null}",
        "{\"ID\":\"a\",\"Size\":1,\"MetaData\":{},\"Storage\":{\"Type\":null}}",
        " {\"Size\":1, \"ID\":\"a\"}\n",
        "{\"ID\":\"a\",\"Size\":1,\"Offset\":\"x\",\"Extra\":[{\"ID\":3}],\"id\":4}",
    };
    int i;

    for (i = 0; i < COUNT(records); i++) {
        tus_record_t *record = parse(records[i]);

        ck_assert_str_eq(record->id, "a");
        ck_assert_int_eq(record->size, 1);
        ck_assert_int_eq(record->pairs->nelts, 0);
        ck_assert_ptr_null(record->parts);
        ck_assert_ptr_null(record->storage_type);
        ck_assert_ptr_null(record->storage_path);
    }
}
END_TEST

START_TEST(largest_size)
{
    tus_record_t *record = parse("{\"ID\":\"a\",\"Size\":9223372036854775807}");

    ck_assert_int_eq(record->size, APR_INT64_MAX);
    ck_assert_ptr_nonnull(strstr(format(record), "\"Size\":9223372036854775807,"));
}
END_TEST

START_TEST(metadata_value_with_nul)
{
    tus_record_t *record = parse("{\"ID\":\"a\",\"Size\":1,\"MetaData\":{\"k\":\"a\\u0000b\"}}");

    assert_value(record, "k", "a\0b", 3);
    ck_assert_ptr_nonnull(strstr(format(record), "{\"k\":\"a\\u0000b\"}"));
}
END_TEST

/* ---- our own ------------------------------------------------------------- */

START_TEST(our_record_round_trips)
{
    tus_record_t *record = sample("filename cmVwb3J0LnBkZg==,flag");
    tus_record_t *again;

    record->finished = CREATED + 1;
    record->owner = "alice \"\xc3\xa4\"";
    record->is_partial = 1;
    ck_assert_str_eq(
        format(record),
        "{\"ID\":\"user-7/report.pdf\",\"Size\":10,\"SizeIsDeferred\":false,\"Offset\":0,"
        "\"MetaData\":{\"filename\":\"report.pdf\",\"flag\":\"\"},\"IsPartial\":true,"
        "\"IsFinal\":false,\"PartialUploads\":null,\"Storage\":{\"InfoPath\":"
        "\"/srv/up/user-7/report.pdf.info\",\"Path\":\"/srv/up/user-7/report.pdf\",\"Type\":"
        "\"filestore\"},\"ModTus\":{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Finished\":"
        "\"2026-11-22T14:10:00.123457Z\",\"UploadMetadata\":\"filename cmVwb3J0LnBkZg==,flag\","
        "\"Owner\":\"alice \\\"\xc3\xa4\\\"\"}}");

    again = parse(format(record));
    ck_assert_int_eq(again->ours, 1);
    ck_assert_int_eq(again->created, record->created);
    ck_assert_int_eq(again->finished, record->finished);
    ck_assert_str_eq(again->owner, record->owner);
    ck_assert_str_eq(again->metadata, record->metadata);
    ck_assert_str_eq(format(again), format(record));
}
END_TEST

START_TEST(what_expires_round_trips)
{
    tus_record_t *record = sample(NULL);
    tus_record_t *again;

    record->expire = apr_time_from_sec(604800);
    record->expired = CREATED + 2;
    record->concat = "final;/files/a /files/b";
    ck_assert_ptr_nonnull(strstr(
        format(record), "\"ModTus\":{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":604800,"
                        "\"Expired\":\"2026-11-22T14:10:00.123458Z\",\"UploadConcat\":"
                        "\"final;/files/a /files/b\"}}"));
    again = parse(format(record));
    ck_assert_int_eq(again->expire, record->expire);
    ck_assert_int_eq(again->expired, record->expired);
    ck_assert_str_eq(again->concat, record->concat);
    ck_assert_str_eq(format(again), format(record));
}
END_TEST

/* Microseconds, and as what they are written. */
static const struct {
    apr_interval_time_t expire;
    const char *text;
} expires[] = {
    { 1, "1e-6" },
    { 999, "0.000999" },
    { 50000, "0.05" },
    { 100000, "0.1" },
    { 300000, "0.3" },
    { 1000000, "1" },
    { 1500000, "1.5" },
    { 9700000, "9.7" },
    { 1234567891, "1234.567891" },
    { APR_INT64_C(86400000000), "86400" },
    { APR_INT64_C(123456789123456), "123456789.123456" },
    { TUS_EXPIRE_MAX - 1, "999999998.999999" },
    { TUS_EXPIRE_MAX, "999999999" },
};

START_TEST(expire_is_seconds)
{
    tus_record_t *record = sample(NULL);
    const char *text, *end;

    record->expire = expires[_i].expire;
    text = strstr(format(record), "\"Expire\":");
    ck_assert_ptr_nonnull(text);
    text += strlen("\"Expire\":");
    end = text + strcspn(text, ",}");
    ck_assert_str_eq(apr_pstrmemdup(unit_pool, text, (apr_size_t)(end - text)), expires[_i].text);
    ck_assert_int_eq(parse(format(record))->expire, expires[_i].expire);
}
END_TEST

START_TEST(expire_is_read_as_people_write_it)
{
    static const struct {
        const char *text;
        apr_interval_time_t expire;
    } texts[] = {
        { "0", 0 },          { "0.0", 0 },         { "1.0", 1000000 },
        { "6e1", 60000000 }, { "2.5E0", 2500000 }, { "0.0000019", 2 },
    };
    int i;

    for (i = 0; i < COUNT(texts); i++) {
        tus_record_t *record = parse(apr_pstrcat(
            unit_pool,
            "{\"ID\":\"a\",\"Size\":1,\"ModTus\":{\"Created\":\"2026-11-22T14:10:00.123456Z\","
            "\"Expire\":",
            texts[i].text, "}}", NULL));

        ck_assert_int_eq(record->expire, texts[i].expire);
    }
}
END_TEST

START_TEST(unset_members_are_not_written)
{
    tus_record_t *record = sample(NULL);
    const char *json = format(record);

    ck_assert_ptr_nonnull(
        strstr(json, "\"ModTus\":{\"Created\":\"2026-11-22T14:10:00.123456Z\"}}"));
    ck_assert_int_eq(parse(json)->finished, 0);
    ck_assert_ptr_null(parse(json)->metadata);
    ck_assert_ptr_null(parse(json)->concat);
    ck_assert_int_eq(parse(json)->expire, 0);
    ck_assert_int_eq(parse(json)->expired, 0);
    record->ours = 0;
    ck_assert_ptr_null(strstr(format(record), "ModTus"));
}
END_TEST

START_TEST(header_has_the_exact_bytes)
{
    /* 61 ff 00 c3, and a stray space that Upload-Metadata is to be echoed with. */
    tus_record_t *record = sample("name Yf8Aww== ,flag ");
    const char *json = format(record);
    tus_record_t *again = parse(json);

    ck_assert_ptr_nonnull(strstr(json, "{\"name\":\"a\xef\xbf\xbd\\u0000\xef\xbf\xbd\","));
    ck_assert_str_eq(again->metadata, "name Yf8Aww== ,flag ");
    assert_value(again, "name", "a\xff\0\xc3", 4);
    assert_value(again, "flag", "", 0);
}
END_TEST

START_TEST(invalid_utf8_is_replaced_byte_by_byte)
{
    static const struct {
        const char *bytes, *text;
    } values[] = {
        { "na\xefve", "na\xef\xbf\xbdve" },
        { "\xc3\xaf\xff\xf0\x9f\x98\x80\xe2\x82\xac",
          "\xc3\xaf\xef\xbf\xbd\xf0\x9f\x98\x80\xe2\x82\xac" },
        { "\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd" },                 /* overlong */
        { "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" }, /* a surrogate */
        { "a\xe2\x82", "a\xef\xbf\xbd\xef\xbf\xbd" },               /* cut off */
        { "\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
    };
    int i;

    for (i = 0; i < COUNT(values); i++) {
        tus_record_t *record = sample(NULL);
        tus_pair_t *pair = apr_array_push(record->pairs);
        const char *text = values[i].text;

        pair->key = "k";
        pair->len = strlen(values[i].bytes);
        pair->value = exact_copy(values[i].bytes, pair->len);
        assert_value(parse(format(record)), "k", text, strlen(text));
        free((char *)pair->value);
    }
}
END_TEST

static const struct {
    const char *members;
    const char *value;
    const char *header; /* NULL if MetaData rules */
} edits[] = {
    { "\"MetaData\":{\"a\":\"f\",\"b\":\"\"},\"ModTus\":{\"UploadMetadata\":\"b,a Zg==\"", "f",
      "b,a Zg==" },
    { "\"MetaData\":{\"a\":\"edited\"},\"ModTus\":{\"UploadMetadata\":\"a Zg==\"", "edited", NULL },
    { "\"MetaData\":{\"a\":\"f\",\"new\":\"\"},\"ModTus\":{\"UploadMetadata\":\"a Zg==\"", "f",
      NULL },
    { "\"MetaData\":{\"a\":\"f\"},\"ModTus\":{\"UploadMetadata\":\"a Zg==,gone\"", "f", NULL },
    { "\"MetaData\":{\"a\":\"f\"},\"ModTus\":{\"UploadMetadata\":\"a Zg\"", "f", NULL },
    { "\"MetaData\":{\"a\":\"f\"},\"ModTus\":{\"UploadMetadata\":\"a Zg==\\r\\nX: y\"", "f", NULL },
    { "\"MetaData\":{\"a\":\"f\"},\"ModTus\":{\"UploadMetadata\":\"\"", "f", NULL },
};

START_TEST(edited_metadata_rules)
{
    tus_record_t *record =
        parse(apr_pstrcat(unit_pool, "{\"ID\":\"a\",\"Size\":1,", edits[_i].members,
                          ",\"Created\":\"2026-11-22T14:10:00.123456Z\"}}", NULL));

    assert_value(record, "a", edits[_i].value, strlen(edits[_i].value));
    if (edits[_i].header) {
        ck_assert_str_eq(record->metadata, edits[_i].header);
    }
    else {
        ck_assert_ptr_null(record->metadata);
    }
}
END_TEST

START_TEST(path_that_is_not_utf8_is_left_out)
{
    tus_record_t *record = sample(NULL);

    record->storage_path = "/srv/\xff/x";
    ck_assert_ptr_nonnull(strstr(format(record),
                                 "\"Storage\":{\"InfoPath\":\"/srv/up/user-7/report.pdf.info\","
                                 "\"Type\":\"filestore\"}"));
}
END_TEST

/* Data elsewhere than at the id is found again whatever the store's own path is made of. */
START_TEST(place_survives_a_path_that_is_not_utf8)
{
    tus_record_t *record = sample(NULL), *again;
    const char *name, *json = NULL;
    apr_size_t len;

    record->storage_path = "/srv/\xff/sub/x";
    record->storage_info_path = "/srv/\xff/user-7/report.pdf.info";
    ck_assert_ptr_nonnull(strstr(format(record),
                                 "\"Storage\":{\"InfoPath\":\"user-7/report.pdf.info\","
                                 "\"Path\":\"sub/x\",\"Type\":\"filestore\"}"));
    again = parse(format(record));
    ck_assert_int_eq(tus_storage_name(again, &name), APR_SUCCESS);
    ck_assert_str_eq(name, "sub/x");

    record->storage_path = "/srv/\xff/user-7/report.pdf";
    ck_assert_ptr_nonnull(strstr(format(record), "\"Storage\":{\"Type\":\"filestore\"}"));

    record->storage_path = "/srv/up/sub/\xff";
    record->storage_info_path = "/srv/up/user-7/report.pdf.info";
    ck_assert_int_eq(tus_record_format(record, &json, &len, unit_pool), APR_EINVAL);
    record->storage_path = "/srv/\xfe/sub/\xff";
    record->storage_info_path = "/srv/\xfe/user-7/report.pdf.info";
    ck_assert_int_eq(tus_record_format(record, &json, &len, unit_pool), APR_EINVAL);
    ck_assert_ptr_null(json);
}
END_TEST

#define HOOK "0123456789abcdef"
#define CREATED_TEXT "\"Created\":\"2026-11-22T14:10:00.123456Z\""

START_TEST(hooks_round_trip)
{
    static const char json[] = "\"Hooks\":[\"" HOOK "\",\"" HOOK ",01234567\"]";
    apr_array_header_t *hooks = apr_array_make(unit_pool, 2, sizeof(const char *));
    tus_record_t *record = sample("a YQ==");

    APR_ARRAY_PUSH(hooks, const char *) = HOOK;
    APR_ARRAY_PUSH(hooks, const char *) = HOOK ",01234567";
    record->hooks = hooks;
    ck_assert_ptr_nonnull(strstr(format(record), json));
    record = parse(format(record));
    ck_assert_int_eq(record->hooks->nelts, 2);
    ck_assert_str_eq(APR_ARRAY_IDX(record->hooks, 0, const char *), HOOK);
    ck_assert_str_eq(APR_ARRAY_IDX(record->hooks, 1, const char *), HOOK ",01234567");
    ck_assert_ptr_nonnull(strstr(format(record), json));
}
END_TEST

START_TEST(times_round_trip)
{
    static const apr_time_t times[] = {
        1,       APR_INT64_C(951782400000000), /* 2000-02-29 */
        CREATED, APR_INT64_C(4102444799999999), APR_INT64_C(253402300799999999),
    };
    int i;

    for (i = 0; i < COUNT(times); i++) {
        tus_record_t *record = sample(NULL);

        record->created = times[i];
        ck_assert_int_eq(parse(format(record))->created, times[i]);
    }
}
END_TEST

/* ---- what is refused ----------------------------------------------------- */

static const char *const damaged[] = {
    " ",
    "null",
    "[]",
    "\"ID\"",
    "{}",
    "{\"ID\":\"a\"}",
    "{\"Size\":1}",
    "{\"ID\":\"a\",\"Size\":1",
    "{\"ID\":\"a\",\"Size\":1}x",
    "{\"ID\":\"a\",\"Size\":1}{}",
    "{\"ID\":\"a\",\"Size\":1,}",
    "\xef\xbb\xbf{\"ID\":\"a\",\"Size\":1}",
    /* duplicate keys, at each level */
    "{\"ID\":\"a\",\"Size\":1,\"Size\":2}",
    "{\"ID\":\"a\",\"Size\":1,\"MetaData\":{\"k\":\"\",\"k\":\"\"}}",
    /* ids */
    "{\"ID\":null,\"Size\":1}",
    "{\"ID\":1,\"Size\":1}",
    "{\"ID\":\"\",\"Size\":1}",
    "{\"ID\":\"../a\",\"Size\":1}",
    "{\"ID\":\"a.info\",\"Size\":1}",
    "{\"ID\":\"a\\u0000b\",\"Size\":1}",
    "{\"ID\":\"a\\u0000\",\"Size\":1}",
    "{\"ID\":\"\xff\",\"Size\":1}",
    /* sizes */
    "{\"ID\":\"a\",\"Size\":-1}",
    "{\"ID\":\"a\",\"Size\":-9223372036854775808}",
    "{\"ID\":\"a\",\"Size\":9223372036854775808}",
    "{\"ID\":\"a\",\"Size\":1000000000000000000000000000000}",
    "{\"ID\":\"a\",\"Size\":1e3}",
    "{\"ID\":\"a\",\"Size\":1.0}",
    "{\"ID\":\"a\",\"Size\":1e999}",
    "{\"ID\":\"a\",\"Size\":\"1\"}",
    "{\"ID\":\"a\",\"Size\":null}",
    "{\"ID\":\"a\",\"Size\":true}",
    "{\"ID\":\"a\",\"Size\":01}",
    "{\"ID\":\"a\",\"Size\":-1,\"SizeIsDeferred\":true}",
    "{\"ID\":\"a\",\"Size\":\"\",\"SizeIsDeferred\":true}",
    "{\"ID\":\"a\",\"SizeIsDeferred\":false}",
    /* booleans */
    "{\"ID\":\"a\",\"Size\":1,\"SizeIsDeferred\":1}",
    "{\"ID\":\"a\",\"Size\":1,\"SizeIsDeferred\":null}",
    "{\"ID\":\"a\",\"Size\":1,\"IsPartial\":\"true\"}",
    "{\"ID\":\"a\",\"Size\":1,\"IsFinal\":0}",
    /* metadata */
    "{\"ID\":\"a\",\"Size\":1,\"MetaData\":[]}",
    "{\"ID\":\"a\",\"Size\":1,\"MetaData\":\"k\"}",
    "{\"ID\":\"a\",\"Size\":1,\"MetaData\":{\"k\":1}}",
    "{\"ID\":\"a\",\"Size\":1,\"MetaData\":{\"k\":null}}",
    "{\"ID\":\"a\",\"Size\":1,\"MetaData\":{\"k\\u0000x\":\"\"}}",
    "{\"ID\":\"a\",\"Size\":1,\"MetaData\":{\"k\":\"\\ud800\"}}",
    /* parts */
    "{\"ID\":\"a\",\"Size\":1,\"PartialUploads\":{}}",
    "{\"ID\":\"a\",\"Size\":1,\"PartialUploads\":\"b\"}",
    "{\"ID\":\"a\",\"Size\":1,\"PartialUploads\":[1]}",
    "{\"ID\":\"a\",\"Size\":1,\"PartialUploads\":[null]}",
    "{\"ID\":\"a\",\"Size\":1,\"PartialUploads\":[\"b\",\"../c\"]}",
    /* storage */
    "{\"ID\":\"a\",\"Size\":1,\"Storage\":[]}",
    "{\"ID\":\"a\",\"Size\":1,\"Storage\":{\"Path\":1}}",
    "{\"ID\":\"a\",\"Size\":1,\"Storage\":{\"Path\":\"/a\\u0000b\"}}",
    "{\"ID\":\"a\",\"Size\":1,\"Storage\":{\"InfoPath\":[]}}",
    "{\"ID\":\"a\",\"Size\":1,\"Storage\":{\"Type\":{}}}",
};

START_TEST(damaged_record_is_refused)
{
    tus_record_t *record = NULL;

    ck_assert_int_eq(parse_bytes(&record, damaged[_i], strlen(damaged[_i])), TUS_EDAMAGED);
    ck_assert_ptr_null(record);
}
END_TEST

static const char *const damaged_ours[] = {
    "null",
    "[]",
    "1",
    "{}",
    "{\"Created\":null}",
    "{\"Created\":1795356600}",
    "{\"Created\":\"\"}",
    "{\"Created\":\"now\"}",
    "{\"Created\":\"2026-11-22T14:10:00Z\"}",
    "{\"Created\":\"2026-11-22T14:10:00.123456\"}",
    "{\"Created\":\"2026-11-22T14:10:00.123456+00:00\"}",
    "{\"Created\":\"2026-11-22 14:10:00.123456Z\"}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Zx\"}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\\u0000\"}",
    "{\"Created\":\"2026-02-29T14:10:00.123456Z\"}",
    "{\"Created\":\"2026-00-22T14:10:00.123456Z\"}",
    "{\"Created\":\"2026-13-22T14:10:00.123456Z\"}",
    "{\"Created\":\"2026-99-99T99:99:99.999999Z\"}",
    "{\"Created\":\"2026-11-00T14:10:00.123456Z\"}",
    "{\"Created\":\"2026-11-22T24:00:00.123456Z\"}",
    "{\"Created\":\"2026-11-22T14:60:00.123456Z\"}",
    "{\"Created\":\"2026-11-22T14:10:60.123456Z\"}",
    "{\"Created\":\"1970-01-01T00:00:00.000000Z\"}",
    "{\"Created\":\"1969-12-31T23:59:59.999999Z\"}",
    "{\"Created\":\"0000-00-00T00:00:00.000000Z\"}",
    "{\"Created\":\"0000-01-01T00:00:00.000000Z\"}",
    "{\"Created\":\"-026-11-22T14:10:00.123456Z\"}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Finished\":0}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Finished\":\"\"}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Finished\":\"1970-01-01T00:00:00.000000Z\"}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"UploadMetadata\":1}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"UploadMetadata\":\"a\\u0000\"}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Owner\":1}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Owner\":\"a\\u0000b\"}",
    "{" CREATED_TEXT ",\"Hooks\":\"" HOOK "\"}",
    "{" CREATED_TEXT ",\"Hooks\":{\"" HOOK "\":1}}",
    "{" CREATED_TEXT ",\"Hooks\":[1]}",
    "{" CREATED_TEXT ",\"Hooks\":[\"\"]}",
    "{" CREATED_TEXT ",\"Hooks\":[\"http://a/bcdefghi\"]}",
    "{" CREATED_TEXT ",\"Hooks\":[\"" HOOK "\",\"" HOOK ",\"]}",
    "{" CREATED_TEXT ",\"Hooks\":[\"" HOOK ",0123456\"]}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":null}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":\"1\"}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":true}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":[]}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":{}}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":-1}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":-0.5}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":-1e-9}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":1e-7}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":0.0000004}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":1000000000}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":999999999.5}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":1e300}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":1e999}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":9223372036854775808}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":NaN}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":Infinity}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":01}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expire\":.5}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expired\":0}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expired\":\"\"}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expired\":\"now\"}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expired\":\"1970-01-01T00:00:00.000000Z\"}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expired\":\"2026-02-30T00:00:00.000000Z\"}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"Expired\":true}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"UploadConcat\":1}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"UploadConcat\":[]}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"UploadConcat\":true}",
    "{\"Created\":\"2026-11-22T14:10:00.123456Z\",\"UploadConcat\":\"a\\u0000b\"}",
};

START_TEST(damaged_part_of_ours_is_refused)
{
    tus_record_t *record = NULL;
    const char *json = apr_pstrcat(
        unit_pool, "{\"ID\":\"a\",\"Size\":1,\"MetaData\":{},\"ModTus\":", damaged_ours[_i], "}",
        NULL);

    ck_assert_int_eq(parse_bytes(&record, json, strlen(json)), TUS_EDAMAGED);
    ck_assert_ptr_null(record);
}
END_TEST

static const struct {
    const char *begin, *again;
} nestings[] = {
    { "", "[" },
    { "", "{\"a\":" },
    { "{\"ID\":\"a\",\"Size\":1,\"x\":", "[" },
    { "{\"ID\":\"a\",\"Size\":1,\"MetaData\":", "{\"a\":" },
    { "{\"ID\":\"a\",\"Size\":1,\"x]\\\"]\":", "[[]," },
    { "{\"ID\":\"a\",\"Size\":1,\"x\":", "{\"]\\\\\":" },
};

/* What is nested, and what became of it. */
static const char *nested;
static apr_size_t nested_len;
static apr_status_t nested_rv;

static void parse_nested(void)
{
    tus_record_t *record;

    nested_rv = parse_bytes(&record, nested, nested_len);
}

/* As large as a record may be. */
START_TEST(deep_nesting_is_refused)
{
    const char *begin = nestings[_i].begin, *again = nestings[_i].again;
    char *json = apr_palloc(unit_pool, TUS_RECORD_MAX);
    apr_size_t i;

    memcpy(json, begin, strlen(begin));
    for (i = strlen(begin); i + strlen(again) <= TUS_RECORD_MAX; i += strlen(again)) {
        memcpy(json + i, again, strlen(again));
    }
    nested = json;
    nested_len = i;
    on_small_stack(parse_nested);
    ck_assert_int_eq(nested_rv, TUS_EDAMAGED);
}
END_TEST

/* In a member that nobody knows. */
START_TEST(some_nesting_is_read)
{
    static const char begin[] = "{\"ID\":\"a\",\"Size\":1,\"x\":";
    int depth;

    for (depth = 63; depth <= 64; depth++) {
        char *json = apr_palloc(unit_pool, sizeof(begin) + 2 * (apr_size_t)depth + 1);

        strcpy(json, begin);
        memset(json + strlen(begin), '[', (apr_size_t)depth);
        memset(json + strlen(begin) + depth, ']', (apr_size_t)depth);
        strcpy(json + strlen(begin) + 2 * depth, "}");
        nested = json;
        nested_len = strlen(json);
        on_small_stack(parse_nested);
        ck_assert_int_eq(nested_rv, depth == 63 ? APR_SUCCESS : TUS_EDAMAGED);
    }
}
END_TEST

START_TEST(length_is_bounded)
{
    char *json = apr_palloc(unit_pool, TUS_RECORD_MAX + 1);
    tus_record_t *record = NULL;

    memset(json, ' ', TUS_RECORD_MAX + 1);
    memcpy(json, "{\"ID\":\"a\",\"Size\":1}", 19);
    ck_assert_int_eq(parse_bytes(&record, json, TUS_RECORD_MAX), APR_SUCCESS);
    ck_assert_int_eq(parse_bytes(&record, json, TUS_RECORD_MAX + 1), TUS_EDAMAGED);
}
END_TEST

START_TEST(nul_bytes_are_refused)
{
    static const char json[] = "{\"ID\":\"a\",\"Size\":1}\0";
    static const char inside[] = "{\"ID\":\"a\0\",\"Size\":1}";
    tus_record_t *record = NULL;

    ck_assert_int_eq(parse_bytes(&record, json, sizeof(json) - 1), TUS_EDAMAGED);
    ck_assert_int_eq(parse_bytes(&record, inside, sizeof(inside) - 1), TUS_EDAMAGED);
}
END_TEST

/* But nothing else is how a record looks that never reached the disk. */
START_TEST(unwritten_record_is_told_apart)
{
    static const apr_size_t lengths[] = { 0, 1, 4095, 4096, 70000 };
    tus_record_t *record = NULL;

    for (int i = 0; i < COUNT(lengths); i++) {
        char *zeros = apr_pcalloc(unit_pool, lengths[i] + 1);

        ck_assert_int_eq(parse_bytes(&record, zeros, lengths[i]), TUS_EUNWRITTEN);
        zeros[lengths[i]] = '{';
        ck_assert_int_eq(parse_bytes(&record, zeros, lengths[i] + 1), TUS_EDAMAGED);
    }
    ck_assert_ptr_null(record);
}
END_TEST

/* Cut off anywhere, and with any byte turned into others: an answer, never a crash. */
START_TEST(every_damage_has_an_answer)
{
    static const char others[] = {
        '\0', '"', '\\', '{', '}', '[', ',', ':', '-', '9', '\xff', 'u'
    };
    tus_record_t *record = sample("name Yf8Aww==,flag");
    const char *json;
    apr_size_t len, at;
    apr_pool_t *p;
    int i;

    record->owner = "alice";
    record->finished = CREATED;
    record->expire = 1500000;
    record->expired = CREATED;
    record->concat = "partial";
    json = format(record);
    len = strlen(json);
    apr_pool_create(&p, unit_pool);
    for (at = 0; at < len; at++) {
        char *copy = exact_copy(json, at);

        ck_assert_int_eq(tus_record_parse(&record, copy, at, p),
                         at ? TUS_EDAMAGED : TUS_EUNWRITTEN);
        free(copy);
        copy = exact_copy(json, len);
        for (i = 0; i < COUNT(others); i++) {
            apr_status_t rv;

            copy[at] = others[i];
            record = NULL;
            rv = tus_record_parse(&record, copy, len, p);
            ck_assert(rv == TUS_EDAMAGED || (rv == APR_SUCCESS && tus_id_is_valid(record->id)));
        }
        free(copy);
        apr_pool_clear(p);
    }
}
END_TEST

START_TEST(what_could_not_be_read_is_not_written)
{
    tus_record_t *record = sample(NULL);
    const char *json = NULL;
    apr_size_t len = 0;

    record->id = "../a";
    ck_assert_int_eq(tus_record_format(record, &json, &len, unit_pool), APR_EINVAL);
    record = sample(NULL);
    record->size = -2;
    ck_assert_int_eq(tus_record_format(record, &json, &len, unit_pool), APR_EINVAL);
    record = sample(NULL);
    record->created = 0;
    ck_assert_int_eq(tus_record_format(record, &json, &len, unit_pool), APR_EINVAL);
    record = sample(NULL);
    record->expire = -1;
    ck_assert_int_eq(tus_record_format(record, &json, &len, unit_pool), APR_EINVAL);
    record->expire = TUS_EXPIRE_MAX + 1;
    ck_assert_int_eq(tus_record_format(record, &json, &len, unit_pool), APR_EINVAL);
    record = sample(NULL);
    record->expired = -1;
    ck_assert_int_eq(tus_record_format(record, &json, &len, unit_pool), APR_EINVAL);
    record = sample(NULL);
    record->parts = apr_array_make(unit_pool, 1, sizeof(const char *));
    APR_ARRAY_PUSH(record->parts, const char *) = "../b";
    ck_assert_int_eq(tus_record_format(record, &json, &len, unit_pool), APR_EINVAL);
    record = sample(NULL);
    record->hooks = apr_array_make(unit_pool, 1, sizeof(const char *));
    APR_ARRAY_PUSH((apr_array_header_t *)record->hooks, const char *) = HOOK ",";
    ck_assert_int_eq(tus_record_format(record, &json, &len, unit_pool), APR_EINVAL);
    record = sample(NULL);
    record->owner = apr_palloc(unit_pool, TUS_RECORD_MAX);
    memset((char *)record->owner, 'a', TUS_RECORD_MAX - 1);
    ((char *)record->owner)[TUS_RECORD_MAX - 1] = '\0';
    ck_assert_int_eq(tus_record_format(record, &json, &len, unit_pool), APR_EINVAL);
    ck_assert_ptr_null(json);
}
END_TEST

/* The longest header, made of what JSON writes longest, is well within the limit. */
START_TEST(longest_metadata_fits)
{
    char *header = apr_palloc(unit_pool, 65536 + 1);
    tus_record_t *record;

    memset(header, 'A', 65536);
    memcpy(header, "abc ", 4);
    header[65536] = '\0';
    record = sample(header);
    ck_assert_int_eq(APR_ARRAY_IDX(record->pairs, 0, tus_pair_t).len, 49149);
    ck_assert_uint_lt(strlen(format(record)), TUS_RECORD_MAX / 2);
    assert_value(parse(format(record)), "abc", APR_ARRAY_IDX(record->pairs, 0, tus_pair_t).value,
                 49149);
}
END_TEST

Suite *record_suite(void)
{
    Suite *suite = suite_create("record");
    TCase *tcase = add_case(suite, "tusd");

    tcase_add_test(tcase, tusd_record_is_read);
    tcase_add_test(tcase, tusd_record_is_written_as_it_was);
    tcase_add_test(tcase, deferred_size);
    tcase_add_test(tcase, absent_and_null_members);
    tcase_add_test(tcase, largest_size);
    tcase_add_test(tcase, metadata_value_with_nul);

    tcase = add_case(suite, "ours");
    tcase_add_test(tcase, our_record_round_trips);
    tcase_add_test(tcase, what_expires_round_trips);
    tcase_add_loop_test(tcase, expire_is_seconds, 0, COUNT(expires));
    tcase_add_test(tcase, expire_is_read_as_people_write_it);
    tcase_add_test(tcase, unset_members_are_not_written);
    tcase_add_test(tcase, header_has_the_exact_bytes);
    tcase_add_test(tcase, invalid_utf8_is_replaced_byte_by_byte);
    tcase_add_loop_test(tcase, edited_metadata_rules, 0, COUNT(edits));
    tcase_add_test(tcase, path_that_is_not_utf8_is_left_out);
    tcase_add_test(tcase, place_survives_a_path_that_is_not_utf8);
    tcase_add_test(tcase, hooks_round_trip);
    tcase_add_test(tcase, times_round_trip);
    tcase_add_test(tcase, what_could_not_be_read_is_not_written);
    tcase_add_test(tcase, longest_metadata_fits);

    tcase = add_case(suite, "damage");
    tcase_add_loop_test(tcase, damaged_record_is_refused, 0, COUNT(damaged));
    tcase_add_loop_test(tcase, damaged_part_of_ours_is_refused, 0, COUNT(damaged_ours));
    tcase_add_loop_test(tcase, deep_nesting_is_refused, 0, COUNT(nestings));
    tcase_add_test(tcase, some_nesting_is_read);
    tcase_add_test(tcase, length_is_bounded);
    tcase_add_test(tcase, nul_bytes_are_refused);
    tcase_add_test(tcase, unwritten_record_is_told_apart);
    tcase_add_test(tcase, every_damage_has_an_answer);
    return suite;
}
