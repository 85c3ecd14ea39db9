/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <stdlib.h>
#include <string.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define EVENT_ID "0123456789abcdef0123456789abcdef"
#define UPLOAD_ID "7ca65dc92f4022031bad2333978ec47a"
#define REPLACEMENT "\xef\xbf\xbd"

/* ---- what a hook is told ------------------------------------------------------ */

static tus_record_t record;
static tus_cause_t cause;

static void setup(void)
{
    apr_table_t *headers = apr_table_make(unit_pool, 8);

    memset(&record, 0, sizeof(record));
    record.id = UPLOAD_ID;
    record.size = 11;
    record.created = 1;
    apr_table_addn(headers, "Host", "uploads.example:8080");
    apr_table_addn(headers, "Connection", "close");
    cause = (tus_cause_t){ .method = "PATCH",
                           .uri = "/files/" UPLOAD_ID,
                           .remote = "127.0.0.1:52762",
                           .headers = headers,
                           .user = "joe",
                           .scheme = "https",
                           .host = "uploads.example:8443" };
}

static void add_pair(const char *key, const char *value, apr_size_t len)
{
    if (!record.pairs) {
        record.pairs = apr_array_make(unit_pool, 4, sizeof(tus_pair_t));
    }
    APR_ARRAY_PUSH(record.pairs, tus_pair_t) =
        (tus_pair_t){ key, apr_pstrmemdup(unit_pool, value, len), len };
}

static void add_header(const char *name, const char *value)
{
    apr_table_addn((apr_table_t *)cause.headers, name, value);
}

static const char *format_with(tus_hook_e type, apr_off_t offset, const tus_cause_t *of,
                               int without_secrets, const apr_array_header_t *forward)
{
    const char *json;
    apr_size_t len;

    ck_assert_int_eq(tus_hook_json_format(&json, &len, type, EVENT_ID, &record, offset, of,
                                          without_secrets, forward, unit_pool),
                     APR_SUCCESS);
    ck_assert_uint_eq(strlen(json), len);
    return json;
}

static const char *format(void)
{
    return format_with(TUS_HOOK_POST_RECEIVE, 5, &cause, 0, NULL);
}

static void assert_has(const char *json, const char *part)
{
    ck_assert_msg(strstr(json, part) != NULL, "no %s in %s", part, json);
}

/* As tusd v2 says it, to the byte, and ours behind it. */
START_TEST(event_is_tusds)
{
    record.storage_type = "filestore";
    record.storage_path = "/srv/uploads/" UPLOAD_ID;
    record.storage_info_path = "/srv/uploads/" UPLOAD_ID ".info";
    add_pair("filename", "na\xc3\xafve \"x\".txt", 14);
    add_pair("filetype", "text/plain", 10);
    add_pair("empty", "", 0);
    add_pair("note", "a\nb", 3);
    add_header("Tus-Resumable", "1.0.0");
    add_header("Content-Type", "application/offset+octet-stream");
    add_header("Upload-Offset", "0");
    add_header("Content-Length", "5");
    ck_assert_str_eq(
        format(),
        "{\"Type\":\"post-receive\",\"Event\":{\"Upload\":{\"ID\":\"" UPLOAD_ID
        "\",\"Size\":11,\"SizeIsDeferred\":false,\"Offset\":5,\"MetaData\":{\"empty\":\"\","
        "\"filename\":\"na\xc3\xafve \\\"x\\\".txt\",\"filetype\":\"text/plain\","
        "\"note\":\"a\\nb\"},\"IsPartial\":false,\"IsFinal\":false,\"PartialUploads\":null,"
        "\"Storage\":{\"InfoPath\":\"/srv/uploads/" UPLOAD_ID
        ".info\",\"Path\":\"/srv/uploads/" UPLOAD_ID
        "\",\"Type\":\"filestore\"}},\"HTTPRequest\":{\"Method\":\"PATCH\",\"URI\":\"/"
        "files/" UPLOAD_ID
        "\",\"RemoteAddr\":\"127.0.0.1:52762\",\"Header\":{\"Connection\":[\"close\"],"
        "\"Content-Length\":[\"5\"],\"Content-Type\":[\"application/offset+octet-stream\"],"
        "\"Host\":[\"uploads.example:8080\"],\"Tus-Resumable\":[\"1.0.0\"],\"Upload-Offset\":["
        "\"0\"]}},\"ModTus\":{\"EventID\":\"" EVENT_ID
        "\",\"User\":\"joe\",\"Scheme\":\"https\",\"Host\":\"uploads.example:8443\"}}}");
}
END_TEST

/* What Go's json.Marshal makes of the same, to the byte. */
START_TEST(text_is_spelled_as_go_does)
{
    record.id = NULL;
    add_pair("nul", "a\0b", 3);
    add_pair("\xc3\xa9", "\\/\t\b\f\r", 6);
    add_pair("bin", "\0\x01\x1f\x7f\xff\xc3", 6);
    add_pair("A<", "&>\xe2\x80\xa8\xe2\x80\xa9", 8);
    cause.uri = "/files/?a=1&b=<2>";
    add_header("TUS-RESUMABLE", "1.0.0");
    add_header("x-http-method-override", "DELETE");
    add_header("cookie", "a=1");
    add_header("X-b", "1");
    add_header("Cookie", "b=<2>");
    add_header("x-B", "2");
    add_header("dnt", "1");
    add_header("Foo_bar-baz", "q");
    add_header("X-Latin", "na\xefve");
    ck_assert_str_eq(
        format_with(TUS_HOOK_PRE_CREATE, 0, &cause, 0, NULL),
        "{\"Type\":\"pre-create\",\"Event\":{\"Upload\":{\"ID\":\"\",\"Size\":11,"
        "\"SizeIsDeferred\":false,\"Offset\":0,\"MetaData\":{\"A\\u003c\":"
        "\"\\u0026\\u003e\\u2028\\u2029\",\"bin\":\"\\u0000\\u0001\\u001f\x7f\\ufffd\\ufffd\","
        "\"nul\":\"a\\u0000b\",\"\xc3\xa9\":\"\\\\/\\t\\b\\f\\r\"},\"IsPartial\":false,"
        "\"IsFinal\":false,\"PartialUploads\":null,\"Storage\":null},\"HTTPRequest\":{"
        "\"Method\":\"PATCH\",\"URI\":\"/files/?a=1\\u0026b=\\u003c2\\u003e\","
        "\"RemoteAddr\":\"127.0.0.1:52762\",\"Header\":{\"Connection\":[\"close\"],"
        "\"Cookie\":[\"a=1\",\"b=\\u003c2\\u003e\"],\"Dnt\":[\"1\"],\"Foo_bar-Baz\":[\"q\"],"
        "\"Host\":[\"uploads.example:8080\"],\"Tus-Resumable\":[\"1.0.0\"],"
        "\"X-B\":[\"1\",\"2\"],\"X-Http-Method-Override\":[\"DELETE\"],"
        "\"X-Latin\":[\"na\\ufffdve\"]}},\"ModTus\":{\"EventID\":\"" EVENT_ID
        "\",\"User\":\"joe\",\"Scheme\":\"https\",\"Host\":\"uploads.example:8443\"}}}");
}
END_TEST

static const struct {
    const char *text;
    const char *json;
} texts[] = {
    { "\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd" },            /* a surrogate */
    { "\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd" }, /* beyond Unicode */
    { "\xe2\x82", "\\ufffd\\ufffd" },                       /* cut short */
    { "\xc0\x80", "\\ufffd\\ufffd" },                       /* overlong */
    { "\xe2\x80\xa7", "\xe2\x80\xa7" },                     /* beside U+2028 and U+FFFD */
    { "\xef\xbf\xbe", "\xef\xbf\xbe" },
    { "\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80" },
    { "\\u003C\\n", "\\\\u003C\\\\n" }, /* no escape, but a backslash */
    { "\\\x1f", "\\\\\\u001f" },
    { "\\<", "\\\\\\u003c" },
    { REPLACEMENT, "\\ufffd" }, /* the one that Go leaves alone */
};

START_TEST(text_is_escaped)
{
    cause.uri = texts[_i].text;
    assert_has(format(), apr_pstrcat(unit_pool, "\"URI\":\"", texts[_i].json, "\",", NULL));
}
END_TEST

/* Every member that is a text may hold any bytes. */
START_TEST(any_bytes_may_come)
{
    const char *json;

    record.storage_type = "file\xff";
    record.storage_path = "/\xff<";
    record.storage_info_path = "/\xff>";
    add_pair("k\xff", "v", 1);
    cause = (tus_cause_t){ .method = "P\xff",
                           .uri = "/\xff",
                           .remote = "\xff",
                           .user = "u\xff",
                           .scheme = "s\xff",
                           .host = "h\xff",
                           .headers = cause.headers };
    add_header("n\xff", "w\xff");
    json = format();
    assert_has(json, "{\"InfoPath\":\"/\\ufffd\\u003e\",\"Path\":\"/\\ufffd\\u003c\","
                     "\"Type\":\"file\\ufffd\"}");
    assert_has(json, "{\"k\\ufffd\":\"v\"}");
    assert_has(json, "\"Method\":\"P\\ufffd\",\"URI\":\"/\\ufffd\",\"RemoteAddr\":\"\\ufffd\"");
    assert_has(json, "\"n\\ufffd\":[\"w\\ufffd\"]"); /* no token: its case stays */
    assert_has(json, "\"User\":\"u\\ufffd\",\"Scheme\":\"s\\ufffd\",\"Host\":\"h\\ufffd\"");
}
END_TEST

static const struct {
    const char *name;
    const char *canonical;
} names[] = {
    { "x-http-method-override", "X-Http-Method-Override" },
    { "TUS-RESUMABLE", "Tus-Resumable" },
    { "DNT", "Dnt" },
    { "foo_bar-baz", "Foo_bar-Baz" },
    { "-a--b-", "-A--B-" },
    { "1a-2b", "1a-2b" },
    { "x!y-z", "X!y-Z" },
    { "a~b`c", "A~b`c" },
    { "a b", "a b" },
    { "x-\xc3\xa9", "x-\xc3\xa9" },
};

START_TEST(name_is_canonical)
{
    add_header(names[_i].name, "value");
    assert_has(format(), apr_pstrcat(unit_pool, "\"", names[_i].canonical, "\":[\"value\"]", NULL));
}
END_TEST

START_TEST(fields_are_sorted)
{
    add_header("b", "2");
    add_header("Z", "1");
    add_header("a", "1");
    add_header("B", "1");
    add_header("b", "0");
    add_header("A", "");
    assert_has(format(), "\"Header\":{\"A\":[\"1\",\"\"],\"B\":[\"2\",\"1\",\"0\"],\"Connection\":"
                         "[\"close\"],\"Host\":[\"uploads.example:8080\"],\"Z\":[\"1\"]}");
}
END_TEST

/* Go's server keeps them to itself. */
START_TEST(fields_of_the_body_are_left_out)
{
    add_header("Transfer-Encoding", "chunked");
    add_header("trailer", "X");
    assert_has(format(), "\"Header\":{\"Connection\":[\"close\"],\"Host\":[");
}
END_TEST

START_TEST(secrets_are_left_out)
{
    apr_array_header_t *forward = apr_array_make(unit_pool, 2, sizeof(const char *));

    add_header("authorization", "Basic x");
    add_header("Cookie", "a");
    add_header("COOKIE", "b");
    add_header("Proxy-Authorization", "y");
    add_header("Cookies", "no secret");
    assert_has(format_with(TUS_HOOK_POST_FINISH, 11, &cause, 1, NULL),
               "\"Header\":{\"Connection\":[\"close\"],\"Cookies\":[\"no secret\"],\"Host\":[");
    APR_ARRAY_PUSH(forward, const char *) = "X-Other";
    APR_ARRAY_PUSH(forward, const char *) = "cookie";
    assert_has(format_with(TUS_HOOK_POST_FINISH, 11, &cause, 1, forward),
               "\"Header\":{\"Connection\":[\"close\"],\"Cookie\":[\"a\",\"b\"],\"Cookies\":");
    assert_has(format_with(TUS_HOOK_PRE_FINISH, 11, &cause, 0, NULL),
               "\"Header\":{\"Authorization\":[\"Basic x\"],\"Connection\":[\"close\"],"
               "\"Cookie\":[\"a\",\"b\"],\"Cookies\":[\"no secret\"],\"Host\":["
               "\"uploads.example:8080\"],\"Proxy-Authorization\":[\"y\"]}");
}
END_TEST

START_TEST(nothing_may_be_the_cause)
{
    const tus_cause_t empty = { 0 };
    const char *json = format_with(TUS_HOOK_POST_TERMINATE, 3, NULL, 1, NULL);

    assert_has(json, "\"HTTPRequest\":{\"Method\":\"\",\"URI\":\"\",\"RemoteAddr\":\"\","
                     "\"Header\":{}},\"ModTus\":{\"EventID\":\"" EVENT_ID
                     "\",\"User\":\"\",\"Scheme\":\"\",\"Host\":\"\"}}}");
    ck_assert_str_eq(format_with(TUS_HOOK_POST_TERMINATE, 3, &empty, 0, NULL), json);
}
END_TEST

START_TEST(upload_is_told_as_it_is)
{
    apr_array_header_t *parts = apr_array_make(unit_pool, 2, sizeof(const char *));

    record.size = TUS_SIZE_UNKNOWN;
    record.is_partial = 1;
    assert_has(format(), "\"Size\":0,\"SizeIsDeferred\":true,\"Offset\":5,\"MetaData\":{},"
                         "\"IsPartial\":true,\"IsFinal\":false,\"PartialUploads\":null,"
                         "\"Storage\":null}");
    record.size = APR_INT64_MAX;
    record.is_partial = 0;
    record.is_final = 1;
    record.parts = parts;
    record.storage_type = "filestore";
    assert_has(format(), "\"Size\":9223372036854775807,\"SizeIsDeferred\":false,");
    assert_has(format(), "\"IsFinal\":true,\"PartialUploads\":[],\"Storage\":{\"Type\":"
                         "\"filestore\"}}");
    APR_ARRAY_PUSH(parts, const char *) = "b/c";
    APR_ARRAY_PUSH(parts, const char *) = "a";
    APR_ARRAY_PUSH(parts, const char *) = "a";
    assert_has(format(), "\"PartialUploads\":[\"b/c\",\"a\",\"a\"]");
}
END_TEST

START_TEST(no_part_is_refused)
{
    const char *json = "unset";
    apr_size_t len;

    record.parts = apr_array_make(unit_pool, 1, sizeof(const char *));
    APR_ARRAY_PUSH(record.parts, const char *) = "../a";
    ck_assert_int_eq(tus_hook_json_format(&json, &len, TUS_HOOK_POST_CREATE, EVENT_ID, &record, 0,
                                          &cause, 0, NULL, unit_pool),
                     APR_EINVAL);
    ck_assert_str_eq(json, "unset");
}
END_TEST

START_TEST(no_event_id_is_refused)
{
    const char *json;
    apr_size_t len;

    ck_assert_int_eq(tus_hook_json_format(&json, &len, TUS_HOOK_PRE_CREATE, NULL, &record, 0,
                                          &cause, 0, NULL, unit_pool),
                     APR_EINVAL);
}
END_TEST

/* Escaped it may be too large where it was not before. */
START_TEST(size_is_bounded)
{
    static const char fillers[] = { 'a', '<', '\x01', '\xff' };
    apr_size_t each = fillers[_i] == 'a' ? 1 : strlen("\\u0000"), room, count;
    const char *json;
    apr_size_t len;
    char *uri;

    cause.uri = "";
    room = TUS_HOOK_JSON_MAX - strlen(format());
    count = room / each;
    uri = apr_pcalloc(unit_pool, count + room % each + 2);
    memset(uri, fillers[_i], count);
    memset(uri + count, 'a', room % each);
    cause.uri = uri;
    ck_assert_uint_eq(strlen(format()), TUS_HOOK_JSON_MAX);
    uri[count + room % each] = 'a';
    ck_assert_int_eq(tus_hook_json_format(&json, &len, TUS_HOOK_POST_RECEIVE, EVENT_ID, &record, 5,
                                          &cause, 0, NULL, unit_pool),
                     APR_EINVAL);
}
END_TEST

/* ---- what it says --------------------------------------------------------------- */

static const char *parse_bytes(tus_verdict_t **verdict, const char *text, apr_size_t len)
{
    char *copy = exact_copy(text, len);
    const char *wrong = tus_hook_json_parse(verdict, copy, len, unit_pool);

    free(copy);
    return wrong;
}

static tus_verdict_t *parse(const char *text)
{
    tus_verdict_t *verdict;
    const char *wrong = parse_bytes(&verdict, text, strlen(text));

    ck_assert_msg(!wrong, "%s: %s", text, wrong);
    return verdict;
}

static const char *left_of(const tus_verdict_t *verdict)
{
    return apr_array_pstrcat(unit_pool, verdict->left, '|');
}

static void assert_says_nothing(const tus_verdict_t *verdict)
{
    ck_assert(!verdict->reject_upload && !verdict->reject_termination && !verdict->stop_upload);
    ck_assert_int_eq(verdict->status, 0);
    ck_assert_ptr_null(verdict->body);
    ck_assert(apr_is_empty_table(verdict->headers));
    ck_assert_ptr_null(verdict->id);
    ck_assert_ptr_null(verdict->pairs);
    ck_assert_ptr_null(verdict->storage_path);
    ck_assert_int_eq(verdict->left->nelts, 0);
}

static const char *const consents[] = {
    "",
    " \t\r\n",
    "{}",
    " { } \n",
    "null",
    "{\"HTTPResponse\":null,\"RejectUpload\":null,\"RejectTermination\":null,"
    "\"ChangeFileInfo\":null,\"StopUpload\":null}",
    "{\"HTTPResponse\":{},\"ChangeFileInfo\":{}}",
    "{\"HTTPResponse\":{\"StatusCode\":null,\"Body\":null,\"Header\":null},"
    "\"ChangeFileInfo\":{\"ID\":null,\"MetaData\":null,\"Storage\":null}}",
    "{\"HTTPResponse\":{\"StatusCode\":0,\"Body\":\"\",\"Header\":{}},"
    "\"ChangeFileInfo\":{\"ID\":\"\",\"Storage\":{\"Path\":\"\"}},\"RejectUpload\":false}",
    "{\"HTTPResponse\":{\"StatusCode\":-0}}",
    "{\"ChangeFileInfo\":{\"Storage\":{\"Path\":null,\"path\":\"x\",\"Type\":\"y\"}}}",
    "{\"a\":1,\"b\":[[[{}]]],\"RejectUploads\":true,\"Upload\":{\"RejectUpload\":true},"
    "\"\\u0001\":\"\\u0000\",\"ID\":\"../\",\"StatusCode\":1}",
};

START_TEST(consent_is_read)
{
    assert_says_nothing(parse(consents[_i]));
}
END_TEST

START_TEST(answer_is_read)
{
    const tus_verdict_t *verdict =
        parse("{\"HTTPResponse\":{\"StatusCode\":403,\"Body\":\"{\\\"why\\\":\\\"not today\\\"}\","
              "\"Header\":{\"Content-Type\":\"application/json\",\"X-Why\":\"quota\","
              "\"Set-Cookie\":\"a=b\",\"X-Empty\":null,\"X-T\":\"a\\tb\xc3\xa9\"}},"
              "\"RejectUpload\":true,\"RejectTermination\":true,\"StopUpload\":true,"
              "\"ChangeFileInfo\":{\"ID\":\"user-7/report.pdf\",\"MetaData\":{\"filename\":"
              "\"report.pdf\",\"b\":\"x\\u0000y\",\"a\":null},\"Storage\":{\"Path\":"
              "\"sub/place.bin\",\"Type\":\"filestore\"}}}");
    const tus_pair_t *pairs = (const tus_pair_t *)(const void *)verdict->pairs->elts;

    ck_assert(verdict->reject_upload && verdict->reject_termination && verdict->stop_upload);
    ck_assert_int_eq(verdict->status, 403);
    ck_assert_str_eq(verdict->body, "{\"why\":\"not today\"}");
    ck_assert_int_eq(apr_table_elts(verdict->headers)->nelts, 5);
    ck_assert_str_eq(apr_table_get(verdict->headers, "Content-Type"), "application/json");
    ck_assert_str_eq(apr_table_get(verdict->headers, "X-Why"), "quota");
    ck_assert_str_eq(apr_table_get(verdict->headers, "Set-Cookie"), "a=b");
    ck_assert_str_eq(apr_table_get(verdict->headers, "X-Empty"), "");
    ck_assert_str_eq(apr_table_get(verdict->headers, "X-T"), "a\tb\xc3\xa9");
    ck_assert_str_eq(verdict->id, "user-7/report.pdf");
    ck_assert_str_eq(verdict->storage_path, "sub/place.bin");
    ck_assert_int_eq(verdict->pairs->nelts, 3);
    ck_assert_str_eq(pairs[0].key, "filename");
    ck_assert_str_eq(pairs[0].value, "report.pdf");
    ck_assert_str_eq(pairs[1].key, "b");
    ck_assert_uint_eq(pairs[1].len, 3);
    ck_assert_mem_eq(pairs[1].value, "x\0y", 4);
    ck_assert_str_eq(pairs[2].key, "a");
    ck_assert_uint_eq(pairs[2].len, 0);
    ck_assert_str_eq(pairs[2].value, "");
    ck_assert_int_eq(verdict->left->nelts, 0);
}
END_TEST

START_TEST(no_metadata_is_not_unchanged)
{
    const tus_verdict_t *verdict = parse("{\"ChangeFileInfo\":{\"MetaData\":{}}}");

    ck_assert_ptr_nonnull(verdict->pairs);
    ck_assert_int_eq(verdict->pairs->nelts, 0);
}
END_TEST

START_TEST(names_are_in_any_case)
{
    const tus_verdict_t *verdict =
        parse("{\"httpresponse\":{\"STATUSCODE\":402,\"bODY\":\"b\",\"header\":{\"x-a\":\"1\"}},"
              "\"rejectUpload\":true,\"changefileinfo\":{\"id\":\"i\",\"METADATA\":{\"k\":\"v\"},"
              "\"storage\":{\"Path\":\"p\"}},\"STOPUPLOAD\":true}");

    ck_assert_int_eq(verdict->status, 402);
    ck_assert_str_eq(verdict->body, "b");
    ck_assert_str_eq(apr_table_get(verdict->headers, "X-A"), "1");
    ck_assert(verdict->reject_upload && verdict->stop_upload);
    ck_assert_str_eq(verdict->id, "i");
    ck_assert_int_eq(verdict->pairs->nelts, 1);
    ck_assert_str_eq(verdict->storage_path, "p");
}
END_TEST

START_TEST(last_of_two_counts)
{
    const tus_verdict_t *verdict =
        parse("{\"RejectUpload\":true,\"RejectUpload\":false,\"StopUpload\":false,"
              "\"stopupload\":true,\"HTTPResponse\":{\"StatusCode\":400,\"statuscode\":1000,"
              "\"Body\":\"a\",\"Body\":\"b\",\"Header\":{\"X-A\":\"1\",\"x-a\":\"2\"}},"
              "\"httpResponse\":{\"header\":{\"X-B\":\"3\"}}}");

    ck_assert(!verdict->reject_upload && verdict->stop_upload);
    ck_assert_int_eq(verdict->status, 0);
    ck_assert_str_eq(verdict->body, "b");
    ck_assert_int_eq(apr_table_elts(verdict->headers)->nelts, 2);
    ck_assert_str_eq(apr_table_get(verdict->headers, "X-A"), "2");
    ck_assert_str_eq(apr_table_get(verdict->headers, "X-B"), "3");
}
END_TEST

static const struct {
    const char *status;
    int taken;
    const char *left;
} statuses[] = {
    { "200", 200, "" },
    { "201", 201, "" },
    { "203", 203, "" },
    { "206", 206, "" },
    { "299", 299, "" },
    { "303", 303, "" },
    { "422", 422, "" },
    { "599", 599, "" },
    { "0", 0, "" },
    { "100", 0, "StatusCode 100" },
    { "101", 0, "StatusCode 101" },
    { "103", 0, "StatusCode 103" },
    { "199", 0, "StatusCode 199" },
    { "204", 0, "StatusCode 204" },
    { "205", 0, "StatusCode 205" },
    { "304", 0, "StatusCode 304" },
    { "600", 0, "StatusCode 600" },
    { "1000", 0, "StatusCode 1000" },
    { "-1", 0, "StatusCode -1" },
    { "-200", 0, "StatusCode -200" },
    { "4294967496", 0, "StatusCode 4294967496" }, /* 2^32 + 200 */
    { "9223372036854775807", 0, "StatusCode 9223372036854775807" },
    { "-9223372036854775808", 0, "StatusCode -9223372036854775808" },
};

START_TEST(status_is_judged)
{
    const tus_verdict_t *verdict = parse(apr_pstrcat(
        unit_pool, "{\"HTTPResponse\":{\"StatusCode\":", statuses[_i].status, "}}", NULL));

    ck_assert_int_eq(verdict->status, statuses[_i].taken);
    ck_assert_str_eq(left_of(verdict), statuses[_i].left);
}
END_TEST

/* As they stand in JSON. */
static const char *const no_fields[] = {
    "\"X-A\":\"b\\r\\nX-C: d\"",
    "\"X-A\":\"b\\nc\"",
    "\"X-A\":\"b\\rc\"",
    "\"X-A\":\"b\\u0000\"",
    "\"X-A\":\"\\u0000\"",
    "\"X-A\":\"\\u007f\"",
    "\"X-A\":\"\\u0001\"",
    "\"\":\"a\"",
    "\"X A\":\"a\"",
    "\"X-A:\":\"a\"",
    "\"X-A\\r\\nX-B\":\"a\"",
    "\"X-\xc3\xa9\":\"a\"",
    "\"Content-Length\":\"0\"",
    "\"content-length\":\"0\"",
    "\"Transfer-Encoding\":\"chunked\"",
    "\"Connection\":\"close\"",
    "\"Keep-Alive\":\"1\"",
    "\"TE\":\"trailers\"",
    "\"Trailer\":\"X\"",
    "\"Upgrade\":\"h2c\"",
    "\"Location\":\"http://evil.example/\"",
    "\"Upload-Offset\":\"7\"",
    "\"UPLOAD-EXPIRES\":\"x\"",
    "\"Tus-Resumable\":\"9\"",
    "\"Date\":\"x\"",
    "\"Server\":\"x\"",
    "\"Access-Control-Allow-Origin\":\"*\"",
    "\"X-Content-Type-Options\":\"x\"",
    "\"X-Accel-Redirect\":\"/etc/passwd\"",
    "\"X-Sendfile\":\"/etc/passwd\"",
};

START_TEST(field_is_left_out)
{
    const tus_verdict_t *verdict =
        parse(apr_pstrcat(unit_pool, "{\"RejectUpload\":true,\"HTTPResponse\":{\"Header\":{",
                          no_fields[_i], ",\"X-Good\":\"1\"}}}", NULL));

    ck_assert(verdict->reject_upload);
    ck_assert_int_eq(apr_table_elts(verdict->headers)->nelts, 1);
    ck_assert_str_eq(apr_table_get(verdict->headers, "X-Good"), "1");
    ck_assert_int_eq(verdict->left->nelts, 1);
    ck_assert_int_eq(strncmp(APR_ARRAY_IDX(verdict->left, 0, const char *), "field '", 7), 0);
}
END_TEST

START_TEST(what_was_left_out_is_named)
{
    const tus_verdict_t *verdict =
        parse("{\"HTTPResponse\":{\"StatusCode\":204,\"Header\":{\"Location\":\"x\",\"a b\":\"\","
              "\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\xc3\xa9\":"
              "\"x\"}}}");

    ck_assert_str_eq(left_of(verdict),
                     "StatusCode 204|field 'Location'|field 'a b'|"
                     "field 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'");
}
END_TEST

static const char *answer_of_fields(int count, apr_size_t value_len)
{
    apr_array_header_t *fields = apr_array_make(unit_pool, count, sizeof(const char *));
    char *value = apr_pcalloc(unit_pool, value_len + 1);

    memset(value, 'v', value_len);
    for (int i = 0; i < count; i++) {
        APR_ARRAY_PUSH(fields, const char *) =
            apr_psprintf(unit_pool, "\"X-%04d\":\"%s\"", i, value);
    }
    return apr_pstrcat(unit_pool, "{\"HTTPResponse\":{\"Header\":{",
                       apr_array_pstrcat(unit_pool, fields, ','), "}}}", NULL);
}

START_TEST(fields_are_bounded)
{
    const tus_verdict_t *verdict = parse(answer_of_fields(100, 8190 - 6));

    ck_assert_int_eq(apr_table_elts(verdict->headers)->nelts, 100);
    ck_assert_int_eq(verdict->left->nelts, 0);
    verdict = parse(answer_of_fields(110, 1));
    ck_assert_int_eq(apr_table_elts(verdict->headers)->nelts, 100);
    ck_assert_int_eq(verdict->left->nelts, 10);
    verdict = parse(answer_of_fields(1000, 8190 - 5));
    ck_assert(apr_is_empty_table(verdict->headers));
    ck_assert_int_eq(verdict->left->nelts, 20);
}
END_TEST

static const char *const no_answers[] = {
    /* no JSON */
    "{",
    "}",
    "{} x",
    "{}{}",
    "OK",
    "<html>",
    "{\"a\":1,}",
    "{\"a\":01}",
    "{'a':1}",
    "{\"HTTPResponse\":{\"StatusCode\":00}}",
    "{\"a\":\"b\nc\"}",
    "{\"a\":\"\xff\"}",
    "{\"a\":\"\\ud800\"}",
    "{\"a\\u0000b\":1}",
    "{\"a\":1e999}",
    "{\"a\":99999999999999999999}",
    "{\"HTTPResponse\":{\"StatusCode\":99999999999999999999}}",
    "\xef\xbb\xbf{}",
    "\v{}",
    /* another type than tusd's */
    "[]",
    "[{\"RejectUpload\":true}]",
    "\"\"",
    "1",
    "true",
    "false",
    "{\"RejectUpload\":1}",
    "{\"RejectUpload\":0}",
    "{\"RejectUpload\":\"true\"}",
    "{\"RejectUpload\":[]}",
    "{\"rejecttermination\":\"\"}",
    "{\"RejectTermination\":{}}",
    "{\"StopUpload\":1.0}",
    "{\"HTTPResponse\":[]}",
    "{\"HTTPResponse\":\"\"}",
    "{\"HTTPResponse\":403}",
    "{\"HTTPResponse\":false}",
    "{\"HTTPResponse\":{\"StatusCode\":\"403\"}}",
    "{\"HTTPResponse\":{\"StatusCode\":403.0}}",
    "{\"HTTPResponse\":{\"StatusCode\":1e9}}",
    "{\"HTTPResponse\":{\"StatusCode\":true}}",
    "{\"HTTPResponse\":{\"StatusCode\":[]}}",
    "{\"HTTPResponse\":{\"Body\":1}}",
    "{\"HTTPResponse\":{\"Body\":{}}}",
    "{\"HTTPResponse\":{\"Body\":false}}",
    "{\"HTTPResponse\":{\"Header\":[]}}",
    "{\"HTTPResponse\":{\"Header\":\"X: y\"}}",
    "{\"HTTPResponse\":{\"Header\":{\"X\":[\"y\"]}}}",
    "{\"HTTPResponse\":{\"Header\":{\"X\":1}}}",
    "{\"HTTPResponse\":{\"Header\":{\"Location\":{}}}}",
    "{\"ChangeFileInfo\":[]}",
    "{\"ChangeFileInfo\":\"\"}",
    "{\"ChangeFileInfo\":{\"ID\":7}}",
    "{\"ChangeFileInfo\":{\"MetaData\":[]}}",
    "{\"ChangeFileInfo\":{\"MetaData\":\"a b\"}}",
    "{\"ChangeFileInfo\":{\"MetaData\":{\"a\":1}}}",
    "{\"ChangeFileInfo\":{\"MetaData\":{\"a\":\"b\",\"c\":[]}}}",
    "{\"ChangeFileInfo\":{\"Storage\":\"/x\"}}",
    "{\"ChangeFileInfo\":{\"Storage\":{\"Path\":1}}}",
    "{\"ChangeFileInfo\":{\"Storage\":{\"Path\":\"a\",\"Size\":1}}}",
    /* not to be held */
    "{\"HTTPResponse\":{\"Body\":\"a\\u0000b\"}}",
    "{\"ChangeFileInfo\":{\"Storage\":{\"Path\":\"a\\u0000\"}}}",
    "{\"ChangeFileInfo\":{\"ID\":\"a\\u0000\"}}",
    /* ids that no upload can have */
    "{\"ChangeFileInfo\":{\"ID\":\"../a\"}}",
    "{\"ChangeFileInfo\":{\"ID\":\"/a\"}}",
    "{\"ChangeFileInfo\":{\"ID\":\"a.info\"}}",
    "{\"ChangeFileInfo\":{\"ID\":\".htaccess\"}}",
    "{\"ChangeFileInfo\":{\"ID\":\"a b\"}}",
    "{\"ChangeFileInfo\":{\"ID\":\"a\\nb\"}}",
    "{\"ChangeFileInfo\":{\"ID\":\"\xc3\xa9\"}}",
    "{\"ChangeFileInfo\":{\"ID\":\"a%2fb\"}}",
};

START_TEST(no_answer_is_refused)
{
    tus_verdict_t *verdict;
    const char *wrong = parse_bytes(&verdict, no_answers[_i], strlen(no_answers[_i]));

    ck_assert_msg(wrong && *wrong, "%s", no_answers[_i]);
}
END_TEST

START_TEST(nul_is_no_end)
{
    tus_verdict_t *verdict;

    ck_assert_ptr_nonnull(parse_bytes(&verdict, "{}\0", 3));
    ck_assert_ptr_nonnull(parse_bytes(&verdict, "\0", 1));
    ck_assert_ptr_nonnull(parse_bytes(&verdict, "{\"a\":\"\0\"}", 9));
    ck_assert_ptr_null(parse_bytes(&verdict, "{}garbage", 2));
}
END_TEST

static const char *nested(const char *open, const char *close, int depth)
{
    char *text = apr_pstrdup(unit_pool, "");

    for (int i = 0; i < depth; i++) {
        text = apr_pstrcat(unit_pool, open, text, close, NULL);
    }
    return apr_pstrcat(unit_pool, "{\"a\":\"[{\\\"\\\\\",\"b]\\\"\":[],\"c\":[", text, "]}", NULL);
}

START_TEST(depth_is_bounded)
{
    tus_verdict_t *verdict;
    const char *text;

    assert_says_nothing(parse(nested("[", "]", 62)));
    text = nested("[", "]", 63);
    ck_assert_ptr_nonnull(parse_bytes(&verdict, text, strlen(text)));
    assert_says_nothing(parse(nested("{\"[{\":[", "]}", 31)));
    text = nested("{\"[{\":[", "]}", 32);
    ck_assert_ptr_nonnull(parse_bytes(&verdict, text, strlen(text)));
    assert_says_nothing(
        parse("{\"a\":[[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],"
              "[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],"
              "[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[]]}"));
}
END_TEST

/* Deep or long, it ends, and soon. */
static const char *const repeated[] = {
    "[", "{\"a\":", "[[],", "\"\\u0000", "{\"RejectUpload\":true,", "1", "\\", "\xe2\x80",
};

START_TEST(two_megabytes)
{
    const apr_size_t size = 2 << 20, step = strlen(repeated[_i]);
    char *text = apr_palloc(unit_pool, size + step);
    tus_verdict_t *verdict;
    apr_size_t len;

    for (len = 0; len < size; len += step) {
        memcpy(text + len, repeated[_i], step);
    }
    ck_assert_ptr_nonnull(parse_bytes(&verdict, text, len));
}
END_TEST

START_TEST(many_members)
{
    apr_array_header_t *members = apr_array_make(unit_pool, 100000, sizeof(const char *));
    const tus_verdict_t *verdict;

    for (int i = 0; i < 100000; i++) {
        APR_ARRAY_PUSH(members, const char *) = apr_psprintf(unit_pool, "\"%d\":\"\"", i);
    }
    verdict = parse(apr_pstrcat(unit_pool, "{\"ChangeFileInfo\":{\"MetaData\":{",
                                apr_array_pstrcat(unit_pool, members, ','), "}}}", NULL));
    ck_assert_int_eq(verdict->pairs->nelts, 100000);
}
END_TEST

/* What a spool may hold, and which host is taken from it; of no JSON at all none is. */
static const struct {
    const char *json;
    const char *scheme;
    const char *host;
} origins[] = {
    { "{\"Event\":{\"ModTus\":{\"Scheme\":\"https\",\"Host\":\"a.b:443\"}}}", "https", "a.b:443" },
    { "{\"Event\":{\"ModTus\":{\"Scheme\":\"http\",\"Host\":\"[::1]:80\"}}}", "http", "[::1]:80" },
    { "{\"Event\":{\"ModTus\":{\"Scheme\":\"http\",\"Host\":\"\"}}}", "http", "" },
    { "{\"Event\":{\"ModTus\":{\"Host\":\"a/b\"}}}", "", "" },
    { "{\"Event\":{\"ModTus\":{\"Host\":\"a@b\"}}}", "", "" },
    { "{\"Event\":{\"ModTus\":{\"Host\":\"a\\r\\nb\"}}}", "", "" },
    { "{\"Event\":{\"ModTus\":{\"Scheme\":1,\"Host\":[]}}}", "", "" },
    { "{\"Event\":{\"ModTus\":[]}}", "", "" },
    { "{\"Event\":null}", "", "" },
    { "[]", "", "" },
    { "", "", "" },
    { "{\"Event\":", "", "" },
};

START_TEST(origin_is_read)
{
    const char *scheme, *host;

    tus_hook_json_origin(&scheme, &host, origins[_i].json, strlen(origins[_i].json), unit_pool);
    ck_assert_str_eq(scheme, origins[_i].scheme);
    ck_assert_str_eq(host, origins[_i].host);
}
END_TEST

START_TEST(origin_is_what_was_written)
{
    const char *json = format(), *scheme, *host;

    tus_hook_json_origin(&scheme, &host, json, strlen(json), unit_pool);
    ck_assert_str_eq(scheme, cause.scheme);
    ck_assert_str_eq(host, cause.host);
}
END_TEST

START_TEST(origin_has_no_endless_host)
{
    char name[300] = "";
    const char *json, *scheme, *host;

    memset(name, 'a', sizeof(name) - 1);
    json = apr_psprintf(unit_pool, "{\"Event\":{\"ModTus\":{\"Host\":\"%s\"}}}", name);
    tus_hook_json_origin(&scheme, &host, json, strlen(json), unit_pool);
    ck_assert_str_eq(host, "");
}
END_TEST

Suite *hook_json_suite(void)
{
    Suite *suite = suite_create("hook_json");
    TCase *tcase = add_case(suite, "format");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, event_is_tusds);
    tcase_add_test(tcase, text_is_spelled_as_go_does);
    tcase_add_loop_test(tcase, text_is_escaped, 0, COUNT(texts));
    tcase_add_test(tcase, any_bytes_may_come);
    tcase_add_loop_test(tcase, name_is_canonical, 0, COUNT(names));
    tcase_add_test(tcase, fields_are_sorted);
    tcase_add_test(tcase, fields_of_the_body_are_left_out);
    tcase_add_test(tcase, secrets_are_left_out);
    tcase_add_test(tcase, nothing_may_be_the_cause);
    tcase_add_test(tcase, upload_is_told_as_it_is);
    tcase_add_test(tcase, no_part_is_refused);
    tcase_add_test(tcase, no_event_id_is_refused);
    tcase_add_loop_test(tcase, size_is_bounded, 0, 4);
    tcase_add_loop_test(tcase, origin_is_read, 0, COUNT(origins));
    tcase_add_test(tcase, origin_is_what_was_written);
    tcase_add_test(tcase, origin_has_no_endless_host);

    tcase = add_case(suite, "parse");
    tcase_add_loop_test(tcase, consent_is_read, 0, COUNT(consents));
    tcase_add_test(tcase, answer_is_read);
    tcase_add_test(tcase, no_metadata_is_not_unchanged);
    tcase_add_test(tcase, names_are_in_any_case);
    tcase_add_test(tcase, last_of_two_counts);
    tcase_add_loop_test(tcase, status_is_judged, 0, COUNT(statuses));
    tcase_add_loop_test(tcase, field_is_left_out, 0, COUNT(no_fields));
    tcase_add_test(tcase, what_was_left_out_is_named);
    tcase_add_test(tcase, fields_are_bounded);
    tcase_add_loop_test(tcase, no_answer_is_refused, 0, COUNT(no_answers));
    tcase_add_test(tcase, nul_is_no_end);
    tcase_add_test(tcase, depth_is_bounded);
    tcase_add_loop_test(tcase, two_megabytes, 0, COUNT(repeated));
    tcase_add_test(tcase, many_members);
    return suite;
}
