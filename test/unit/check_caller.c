/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What mod_tus.h promises of every hook provider, run through by each of them, with servers that
 * say what they should not.
 */
#include "check_caller.h"
#include "peers.h"
#include "scratch.h"

#include <apr_strings.h>
#include <apr_thread_proc.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_PROVIDERS 4
#define MAX 65536
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* Those under test; a loop test's index is theirs, or, where a test has cases, theirs times CASES
 * and the number of the case. */
#define CASES 100

static const tus_hook_provider_t *providers[MAX_PROVIDERS];
static int provider_count;
static tus_caller_t *caller;

static void begin(int index)
{
    const tus_hook_provider_t *provider = providers[index];

    ck_assert_int_eq(provider->open(&caller, unit_pool), APR_SUCCESS);
    ck_assert_ptr_eq(caller->provider, provider);
}

/* ---- short forms --------------------------------------------------------- */

tus_call_t a_call(const char *url)
{
    tus_call_t call = { .url = url, .body = "{}", .len = 2, .timeout = PATIENT, .max = MAX };

    return call;
}

static int is_clean(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20) {
            return 0;
        }
    }
    return 1;
}

apr_status_t make_call(tus_caller_t *with, const tus_call_t *call, tus_called_t *called)
{
    apr_status_t rv;

    memset(called, 0x5a, sizeof(*called));
    rv = with->provider->call(with, call, called, unit_pool);
    ck_assert_int_ge(called->time, 0);
    ck_assert_int_lt(called->time, 2 * PATIENT);
    if (rv == APR_SUCCESS) {
        ck_assert_int_ge(called->status, 200);
        ck_assert_ptr_nonnull(called->body);
        ck_assert_int_eq(called->body[called->len], '\0');
        ck_assert_uint_le(called->len, call->max);
        ck_assert_ptr_null(called->why);
    }
    else {
        ck_assert_int_eq(called->status, 0);
        ck_assert_ptr_null(called->content_type);
        ck_assert_ptr_null(called->body);
        ck_assert_uint_eq(called->len, 0);
        ck_assert_ptr_nonnull(called->why);
        ck_assert_msg(is_clean(called->why), "%s", called->why);
    }
    return rv;
}

int call_url(tus_caller_t *with, const char *url)
{
    tus_call_t call = a_call(url);
    tus_called_t called;
    apr_status_t rv = make_call(with, &call, &called);

    return rv == APR_SUCCESS ? called.status : rv;
}

void say_yes(wire_t *wire)
{
    while (hear_request(wire) && answer(wire, YES)) {
    }
}

static int call_server(server_t *server)
{
    return call_url(caller, server_url(server, "/hook"));
}

/* Bytes that a server says. */
typedef struct words_t {
    const char *text;
    apr_size_t len;
} words_t;

/* Says them to each request, once, and hangs up. */
static void say_words(wire_t *wire)
{
    const words_t *words = wire->arg;

    if (hear_request(wire)) {
        answer_bytes(wire, words->text, words->len);
    }
}

static void hang_up(wire_t *wire)
{
    hear_request(wire);
}

static void reset(wire_t *wire)
{
    hear_request(wire);
    reset_wire(wire);
}

static void wait_until_closed(server_t *server)
{
    apr_time_t deadline = apr_time_now() + PATIENT;

    while (server_open(server) > 0) {
        ck_assert_int_lt(apr_time_now(), deadline);
        apr_sleep(1000);
    }
}

/* ---- an answer ----------------------------------------------------------- */

static void say_tea(wire_t *wire)
{
    while (hear_request(wire)) {
        answer(wire,
               "HTTP/1.1 418 No\r\nContent-Type: text/tea; v=1\r\nContent-Length: 5\r\n\r\nblack");
    }
}

START_TEST(answer_comes_back)
{
    server_t *server = serve(say_tea, NULL);
    tus_call_t call = a_call(server_url(server, "/a/b?c=d"));
    tus_called_t called;
    const char *request;

    begin(_i);
    call.body = "{\"a\":1}";
    call.len = 7;
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    ck_assert_int_eq(called.status, 418);
    ck_assert_str_eq(called.content_type, "text/tea; v=1");
    ck_assert_str_eq(called.body, "black");
    ck_assert_uint_eq(called.len, 5);
    ck_assert_int_gt(called.time, 0);
    request = server_request(server, 0);
    ck_assert(strncmp(request, "POST /a/b?c=d HTTP/1.1\r\n", 24) == 0);
    ck_assert_ptr_nonnull(strstr(request, "\r\nContent-Type: application/json\r\n"));
    ck_assert_ptr_nonnull(strstr(request, "\r\nContent-Length: 7\r\n"));
    ck_assert_ptr_nonnull(strstr(
        request, apr_psprintf(unit_pool, "\r\nHost: 127.0.0.1:%d\r\n", server_port(server))));
    ck_assert_ptr_nonnull(strstr(request, "\r\n\r\n{\"a\":1}"));
}
END_TEST

static const int statuses[] = { 200, 201, 202, 203, 205, 206, 226, 300, 301, 302, 303, 305,
                                307, 308, 400, 401, 403, 404, 405, 407, 408, 411, 417, 421,
                                425, 426, 429, 499, 500, 501, 503, 505, 599, 600, 999 };

static void say_status(wire_t *wire)
{
    char text[300];

    while (hear_request(wire)) {
        snprintf(text, sizeof(text),
                 "HTTP/1.1 %d Well\r\nLocation: /elsewhere\r\nWWW-Authenticate: Basic\r\n"
                 "Proxy-Authenticate: Basic\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\nno",
                 *(int *)wire->arg);
        answer(wire, text);
    }
}

/* No redirect is followed, and nothing is tried a second time. */
START_TEST(every_status_is_returned)
{
    int status;
    server_t *server = serve(say_status, &status);
    int i;

    begin(_i);
    for (i = 0; i < COUNT(statuses); i++) {
        status = statuses[i];
        ck_assert_int_eq(call_server(server), status);
        ck_assert_uint_eq(server_requests(server), (unsigned)i + 1);
    }
}
END_TEST

static const char *const bodiless[] = {
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\n",
    "HTTP/1.0 200 OK\r\n\r\n",
    "HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 Well\r\n\r\n",
};

START_TEST(answer_may_be_empty)
{
    const char *text = bodiless[_i % CASES];
    words_t words = { text, strlen(text) };
    tus_call_t call = a_call(server_url(serve(say_words, &words), "/"));
    tus_called_t called;

    begin(_i / CASES);
    call.max = 0;
    call.body = NULL;
    call.len = 0;
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    ck_assert_uint_eq(called.len, 0);
    ck_assert_str_eq(called.body, "");
    ck_assert_ptr_null(called.content_type);
}
END_TEST

#define WORDS(text)                                                                                \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }

/* Framed by length, by chunks, and by the end. */
static const words_t framed[] = {
    WORDS("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\na\0b\r\n\0\0c"),
    WORDS("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
          "3;x=y\r\na\0b\r\n5\r\n\r\n\0\0c\r\n0\r\nX: y\r\n\r\n"),
    WORDS("HTTP/1.0 200 OK\r\n\r\na\0b\r\n\0\0c"),
    /* Nobody asked for it, and nobody decodes it. */
    WORDS("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\na\0b\r\n\0\0c"),
};

START_TEST(body_comes_as_it_is)
{
    words_t words = framed[_i % CASES];
    tus_call_t call = a_call(server_url(serve(say_words, &words), "/"));
    tus_called_t called;

    begin(_i / CASES);
    call.max = 8;
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    ck_assert_uint_eq(called.len, 8);
    ck_assert_mem_eq(called.body, "a\0b\r\n\0\0c", 9);
}
END_TEST

START_TEST(body_of_one_byte_too_many_is_refused)
{
    words_t words = framed[_i % CASES];
    tus_call_t call = a_call(server_url(serve(say_words, &words), "/"));
    tus_called_t called;

    begin(_i / CASES);
    call.max = 7;
    ck_assert_int_eq(make_call(caller, &call, &called), TUS_EDAMAGED);
    ck_assert_ptr_nonnull(strstr(called.why, "7 bytes"));
}
END_TEST

typedef struct endless_t {
    const char *beginning;
    apr_status_t rv;
} endless_t;

static const endless_t endless[] = {
    { "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n", TUS_EDAMAGED },
    { "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n", TUS_EDAMAGED },
    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", TUS_EDAMAGED },
    { "HTTP/1.1 200 OK\r\n\r\n", TUS_EDAMAGED },
    { "HTTP/1.1 200 ", TUS_EDAMAGED },
    { "HTTP/1.1 200 OK\r\nX: ", TUS_EDAMAGED },
    { "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", APR_EGENERAL },
};

static void say_without_end(wire_t *wire)
{
    static char more[65536];
    const endless_t *with = wire->arg;
    int i;

    memset(more, 'x', sizeof(more));
    if (hear_request(wire) && answer(wire, with->beginning)) {
        for (i = 0; i < 100000000 / (int)sizeof(more) && answer_bytes(wire, more, sizeof(more));
             i++) {
        }
        wait_for_end(wire);
    }
}

/* Long before the 100 MB of it. */
START_TEST(answer_without_end_is_ended)
{
    const endless_t *with = &endless[_i % CASES];
    server_t *server = serve(say_without_end, (void *)with);
    tus_call_t call = a_call(server_url(server, "/"));
    tus_called_t called;

    begin(_i / CASES);
    ck_assert_int_eq(make_call(caller, &call, &called), with->rv);
    wait_until_closed(server);
}
END_TEST

static const char *const floods[] = { "HTTP/1.1 200 OK\r\n", "HTTP/1.1 103 Early\r\n\r\n",
                                      "HTTP/1.1 100 Continue\r\n\r\n", "X: y\r\n" };

static void say_again_and_again(wire_t *wire)
{
    const char *const *text = wire->arg;

    if (hear_request(wire) && answer(wire, "HTTP/1.1 103 Early\r\n")) {
        if (**text == 'H') {
            answer(wire, "\r\n");
        }
        while (answer(wire, *text)) {
        }
    }
}

START_TEST(flood_of_header_fields_is_ended)
{
    server_t *server = serve(say_again_and_again, (void *)&floods[_i % CASES]);

    begin(_i / CASES);
    ck_assert_int_eq(call_server(server), TUS_EDAMAGED);
    wait_until_closed(server);
}
END_TEST

/* ---- no answer ----------------------------------------------------------- */

typedef struct broken_t {
    const char *text;
    apr_size_t len;
    apr_status_t rv;
} broken_t;

#define SAYS(text, rv)                                                                             \
    {                                                                                              \
        text, sizeof(text) - 1, rv                                                                 \
    }

static const broken_t broken[] = {
    SAYS("", APR_EGENERAL),
    SAYS("{}", TUS_EDAMAGED),
    SAYS("\0", TUS_EDAMAGED),
    SAYS("\r\n\r\n", TUS_EDAMAGED),
    SAYS("<html>HTTP/1.1 200 OK\r\n\r\n", TUS_EDAMAGED),
    SAYS("HTTP/1.1\r\n\r\n", TUS_EDAMAGED),
    SAYS("HTTP/1.1 abc\r\n\r\n", TUS_EDAMAGED),
    SAYS("HTTP/1.1 20\r\n\r\n", TUS_EDAMAGED),
    SAYS("HTTP/1.1 099 No\r\n\r\n", TUS_EDAMAGED),
    SAYS("HTTP/4.2 200 OK\r\nContent-Length: 0\r\n\r\n", TUS_EDAMAGED),
    SAYS("HTTP/3 200 OK\r\nContent-Length: 0\r\n\r\n", TUS_EDAMAGED),
    SAYS("SSH-2.0-OpenSSH_9.2\r\n", TUS_EDAMAGED),
    SAYS("\x16\x03\x01\x02\x00\x01\x00\x01\xfc", TUS_EDAMAGED),
    SAYS("HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nhello",
         TUS_EDAMAGED),
    SAYS("HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", TUS_EDAMAGED),
    SAYS("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", TUS_EDAMAGED),
    SAYS("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", TUS_EDAMAGED),
    SAYS("HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}", TUS_EDAMAGED),
    SAYS("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", APR_EGENERAL),
    SAYS("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}oh\r\n0\r\n\r\n",
         APR_EGENERAL),
    SAYS("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n{}",
         APR_EGENERAL),
    SAYS("HTTP/1.1 200 OK\r\nTransfer-Encoding: wood\r\n\r\n{}", TUS_EDAMAGED),
    SAYS("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", APR_EGENERAL),
    SAYS("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", APR_EGENERAL),
    SAYS("HTTP/1.1 200 OK\r\nContent-Le", APR_EGENERAL),
    SAYS("HTTP/1.1 103 Early\r\n\r\n", APR_EGENERAL),
};

/* What is cut short may become whole another time; what is no HTTP will not. */
START_TEST(broken_answer_is_none)
{
    const broken_t *with = &broken[_i % CASES];
    words_t words = { with->text, with->len };
    server_t *server = serve(say_words, &words);
    tus_call_t call = a_call(server_url(server, "/hook?token=secret"));
    tus_called_t called;

    begin(_i / CASES);
    ck_assert_int_eq(make_call(caller, &call, &called), with->rv);
    ck_assert_ptr_nonnull(strstr(called.why, "127.0.0.1"));
    ck_assert_ptr_null(strstr(called.why, "secret"));
    ck_assert_uint_eq(server_requests(server), 1);
}
END_TEST

START_TEST(reset_is_no_answer)
{
    server_t *server = serve(reset, NULL);

    begin(_i);
    ck_assert_int_eq(call_server(server), APR_EGENERAL);
    ck_assert_uint_eq(server_requests(server), 1);
}
END_TEST

static void make_deaf_socket(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    apr_cpystrn(address.sun_path, path, sizeof(address.sun_path));
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
}

START_TEST(nobody_listens)
{
    const char *path = scratch_path("socket");
    tus_call_t call;
    tus_called_t called;

    begin(_i);
    call = a_call(apr_psprintf(unit_pool, "http://127.0.0.1:%d/?k=secret", deserted_port()));
    ck_assert_int_eq(make_call(caller, &call, &called), APR_ECONNREFUSED);
    ck_assert_ptr_nonnull(strstr(called.why, "http://127.0.0.1:"));
    ck_assert_ptr_null(strstr(called.why, "secret"));

    call.socket = path;
    ck_assert_int_eq(make_call(caller, &call, &called), APR_ECONNREFUSED);
    ck_assert_ptr_nonnull(strstr(called.why, path));
    make_deaf_socket(path);
    ck_assert_int_eq(make_call(caller, &call, &called), APR_ECONNREFUSED);

    call.socket = scratch_path("a\r\nb");
    ck_assert_int_eq(make_call(caller, &call, &called), APR_ECONNREFUSED);

    call = a_call("http://hooks.example/");
    call.address = apr_psprintf(unit_pool, "127.0.0.1:%d", deserted_port());
    ck_assert_int_eq(make_call(caller, &call, &called), APR_ECONNREFUSED);
}
END_TEST

/* ---- time ---------------------------------------------------------------- */

/* A byte now and then, for ever. */
static void drip(wire_t *wire)
{
    const char *const *beginning = wire->arg;

    if (hear_request(wire) && answer(wire, *beginning)) {
        while (answer(wire, "x")) {
            apr_sleep(10000);
        }
    }
}

static const char *const drips[] = {
    "HTTP/1.1 200 ",
    "HTTP/1.1 200 OK\r\nX: ",
    "HTTP/1.1 200 OK\r\nContent-Length: 50000\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n",
    "HTTP/1.1 200 OK\r\n\r\n",
};

START_TEST(time_is_for_all_of_it)
{
    int number = _i % CASES;
    server_t *server =
        number < COUNT(drips) ? serve(drip, (void *)&drips[number]) : serve(wait_for_end, NULL);
    tus_call_t call = a_call(server_url(server, "/"));
    tus_called_t called;

    begin(_i / CASES);
    call.timeout = apr_time_from_msec(150);
    ck_assert_int_eq(make_call(caller, &call, &called), APR_TIMEUP);
    ck_assert_int_ge(called.time, call.timeout / 2);
    ck_assert_int_lt(called.time, PATIENT / 2);
    wait_until_closed(server);
}
END_TEST

START_TEST(no_time_is_none)
{
    static const apr_interval_time_t times[] = { 0, -1, 1, 999 };
    server_t *server = serve(wait_for_end, NULL);
    tus_call_t call = a_call(server_url(server, "/"));
    tus_called_t called;
    int i;

    begin(_i);
    for (i = 0; i < COUNT(times); i++) {
        call.timeout = times[i];
        ck_assert_int_eq(make_call(caller, &call, &called), APR_TIMEUP);
    }
}
END_TEST

START_TEST(time_may_be_without_end)
{
    server_t *server = serve(say_yes, NULL);
    tus_call_t call = a_call(server_url(server, "/"));
    tus_called_t called;

    begin(_i);
    call.timeout = APR_INT64_MAX;
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
}
END_TEST

/* Cancelled once the server has the request. */
static int has_heard(void *baton)
{
    return server_requests(baton) > 0;
}

static void hear_and_wait(wire_t *wire)
{
    hear_request(wire);
    wait_for_end(wire);
}

START_TEST(cancel_ends_a_call)
{
    server_t *server = serve(hear_and_wait, NULL);
    tus_call_t call = a_call(server_url(server, "/"));
    tus_cancel_t cancel = { has_heard, server };
    tus_called_t called;

    begin(_i);
    call.cancel = &cancel;
    ck_assert_int_eq(make_call(caller, &call, &called), APR_EINTR);
    ck_assert_int_lt(called.time, PATIENT / 2);
    wait_until_closed(server);
}
END_TEST

static int at_once(void *baton)
{
    (void)baton;
    return 1;
}

START_TEST(cancelled_before_it_begins)
{
    server_t *server = serve(say_yes, NULL);
    tus_call_t call = a_call(server_url(server, "/"));
    tus_cancel_t cancel = { at_once, NULL };
    tus_called_t called;

    begin(_i);
    call.cancel = &cancel;
    ck_assert_int_eq(make_call(caller, &call, &called), APR_EINTR);
    ck_assert_uint_eq(server_connections(server), 0);
}
END_TEST

/* ---- what is sent -------------------------------------------------------- */

static void must_have(const char *request, const char *line)
{
    ck_assert_msg(strstr(request, apr_pstrcat(unit_pool, "\r\n", line, "\r\n", NULL)) != NULL,
                  "'%s' in: %s", line, request);
}

static void must_lack(const char *request, const char *name)
{
    ck_assert_msg(strcasestr(request, apr_pstrcat(unit_pool, "\r\n", name, ":", NULL)) == NULL,
                  "%s in: %s", name, request);
}

START_TEST(fields_are_sent)
{
    server_t *server = serve(say_yes, NULL);
    tus_call_t call = a_call(server_url(server, "/"));
    apr_table_t *headers = apr_table_make(unit_pool, 8);
    tus_called_t called;
    const char *request;

    begin(_i);
    call.headers = headers;
    apr_table_addn(headers, "X-A", "1");
    apr_table_addn(headers, "X-A", "2, \"\xc3\xbc\"\t;");
    apr_table_addn(headers, "X-Empty", "");
    apr_table_addn(headers, "X-Blank", "  ");
    apr_table_addn(headers, "Cookie", "a=b; c=d");
    apr_table_addn(headers, "content-type", "application/x-tea");
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    request = server_request(server, 0);
    must_have(request, "X-A: 1");
    must_have(request, "X-A: 2, \"\xc3\xbc\"\t;");
    must_have(request, "X-Empty:");
    must_have(request, "X-Blank:");
    must_have(request, "Cookie: a=b; c=d");
    must_have(request, "content-type: application/x-tea");
    ck_assert_ptr_null(strstr(request, "application/json"));
}
END_TEST

/* They would say something else of the message than what is true. */
START_TEST(fields_of_the_connection_are_not_sent)
{
    static const char *const names[] = {
        "Content-Length", "transfer-encoding", "Host",   "TE", "Expect", "Upgrade", "Connection",
        "Keep-Alive",     "Proxy-Connection",  "Trailer"
    };
    server_t *server = serve(say_yes, NULL);
    tus_call_t call = a_call(server_url(server, "/"));
    apr_table_t *headers = apr_table_make(unit_pool, 8);
    tus_called_t called;
    const char *request;
    int i;

    begin(_i);
    call.headers = headers;
    for (i = 0; i < COUNT(names); i++) {
        apr_table_addn(headers, names[i], "forged");
    }
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    request = server_request(server, 0);
    ck_assert_ptr_null(strstr(request, "forged"));
    must_have(request, "Content-Length: 2");
    must_lack(request, "Expect");
    must_lack(request, "Transfer-Encoding");
}
END_TEST

typedef struct field_t {
    const char *name;
    const char *value;
} field_t;

static const field_t malformed[] = {
    { "X-A", "1\r\nX-B: 2" }, { "X-A", "1\n" },  { "X-A", "1\r" },
    { "X-A", "\x01" },        { "X-A", "\x7f" }, { "X-A:", "1" },
    { "X-A: 1\r\nX", "" },    { "X A", "1" },    { "", "1" },
    { "X-\xc3\xbc", "1" },    { "X-A;", "1" },   { "@/etc/passwd", "" },
};

START_TEST(malformed_field_is_refused)
{
    const field_t *field = &malformed[_i % CASES];
    server_t *server = serve(say_yes, NULL);
    tus_call_t call = a_call(server_url(server, "/"));
    apr_table_t *headers = apr_table_make(unit_pool, 8);
    tus_called_t called;

    begin(_i / CASES);
    apr_table_addn(headers, "X-Good", "1");
    apr_table_addn(headers, field->name, field->value);
    call.headers = headers;
    ck_assert_int_eq(make_call(caller, &call, &called), TUS_EREFUSED);
    ck_assert_uint_eq(server_connections(server), 0);
}
END_TEST

static void echo(wire_t *wire)
{
    char head[100];

    while (hear_request(wire)) {
        snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %lu\r\n\r\n",
                 (unsigned long)wire->len);
        if (!answer(wire, head) || !answer_bytes(wire, wire->body, wire->len)) {
            return;
        }
    }
}

/* Also more than one read of a socket takes, and more than what libraries ask before they send. */
START_TEST(body_is_sent_as_it_is)
{
    static const apr_size_t sizes[] = { 0, 1, 8, 65536, 3 * 1024 * 1024 };
    server_t *server = serve(echo, NULL);
    tus_call_t call = a_call(server_url(server, "/"));
    char *body = apr_palloc(unit_pool, sizes[4]);
    tus_called_t called;
    apr_size_t i;

    begin(_i);
    for (i = 0; i < sizes[4]; i++) {
        body[i] = (char)(i * 7 + i / 256);
    }
    call.body = body;
    call.max = sizes[4];
    for (i = 0; i < 5; i++) {
        call.len = sizes[i];
        ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
        ck_assert_uint_eq(called.len, sizes[i]);
        ck_assert_mem_eq(called.body, body, sizes[i]);
        must_lack(server_request(server, (unsigned)i), "Expect");
    }
}
END_TEST

static void give_cookie(wire_t *wire)
{
    while (hear_request(wire)
           && answer(wire, "HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nAlt-Svc: h2=\":1\"\r\n"
                           "Strict-Transport-Security: max-age=9999\r\n"
                           "Content-Length: 0\r\n\r\n")) {
    }
}

START_TEST(nothing_is_remembered)
{
    server_t *server = serve(give_cookie, NULL);
    const char *first, *second;

    begin(_i);
    ck_assert_int_eq(call_server(server), 200);
    ck_assert_int_eq(call_server(server), 200);
    first = server_request(server, 0);
    second = server_request(server, 1);
    ck_assert_str_eq(first, second);
    must_lack(second, "Cookie");
    must_lack(second, "Accept-Encoding");
    must_lack(second, "Authorization");
}
END_TEST

/* ---- where to ------------------------------------------------------------ */

START_TEST(other_urls_are_refused)
{
    static const char *const urls[] = { "",
                                        "/hook",
                                        "127.0.0.1",
                                        "ftp://127.0.0.1/",
                                        "file:///etc/passwd",
                                        "gopher://127.0.0.1/x",
                                        "dict://127.0.0.1:1/",
                                        "smtp://127.0.0.1/",
                                        "nonsense://x/",
                                        "http://",
                                        "http://u:secret@127.0.0.1/",
                                        "http://secret@127.0.0.1/",
                                        "http://127.0.0.1:port/",
                                        "http://127.0.0.1:99999/",
                                        "http://a b/",
                                        "http://127.0.0.1/a\r\nX: y",
                                        "unix:/run/x|http://localhost/",
                                        "ws://127.0.0.1/" };
    tus_called_t called;
    int i;

    begin(_i);
    for (i = 0; i < COUNT(urls); i++) {
        tus_call_t call = a_call(urls[i]);

        ck_assert_msg(make_call(caller, &call, &called) == TUS_EREFUSED, "%s: %s", urls[i],
                      called.why);
        ck_assert_ptr_null(strstr(called.why, "secret"));
    }
}
END_TEST

START_TEST(socket_is_called)
{
    const char *path = scratch_path("socket");
    server_t *server = serve_unix(path, say_yes, NULL);
    tus_call_t call = a_call("http://hooks.example:81/path");
    tus_called_t called;

    begin(_i);
    call.socket = path;
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    must_have(server_request(server, 0), "Host: hooks.example:81");
    ck_assert_uint_eq(server_connections(server), 1);
    call.socket = apr_psprintf(unit_pool, "%s%0200d", path, 0); /* longer than any can be */
    ck_assert_int_ne(make_call(caller, &call, &called), APR_SUCCESS);
}
END_TEST

START_TEST(address_is_called)
{
    static const char *const addresses[] = { "127.0.0.1", "127.0.0.2", "::1" };
    tus_called_t called;
    int i;

    begin(_i);
    for (i = 0; i < COUNT(addresses); i++) {
        server_t *server = serve_at(addresses[i], say_yes, NULL);
        tus_call_t call = a_call("http://hooks.example/path");

        call.address =
            apr_psprintf(unit_pool, i < 2 ? "%s:%d" : "[%s]:%d", addresses[i], server_port(server));
        ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
        must_have(server_request(server, 0), "Host: hooks.example");
        call.url = "http://127.0.0.1:1/other";
        ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
        must_have(server_request(server, 1), "Host: 127.0.0.1:1");
    }
}
END_TEST

static const char *const proxies[] = { "http_proxy",  "HTTP_PROXY", "https_proxy",
                                       "HTTPS_PROXY", "all_proxy",  "ALL_PROXY" };

START_TEST(proxy_of_the_environment_is_not_used)
{
    server_t *server = serve(say_yes, NULL), *proxy = serve(say_yes, NULL);
    int i;

    for (i = 0; i < COUNT(proxies); i++) {
        setenv(proxies[i], server_url(proxy, ""), 1);
    }
    begin(_i);
    ck_assert_int_eq(call_server(server), 200);
    ck_assert_uint_eq(server_connections(server), 1);
    ck_assert_uint_eq(server_connections(proxy), 0);
    for (i = 0; i < COUNT(proxies); i++) {
        unsetenv(proxies[i]);
    }
}
END_TEST

/* ---- public addresses only ----------------------------------------------- */

START_TEST(private_address_is_refused)
{
    static const char *const hosts[] = { "127.0.0.1",  "localhost", "[::1]", "[::ffff:127.0.0.1]",
                                         "2130706433", "0x7f.1",    "0",     "127.0.0.2" };
    server_t *server = serve(say_yes, NULL), *server6 = serve_at("::1", say_yes, NULL);
    tus_called_t called;
    int i;

    begin(_i);
    for (i = 0; i < COUNT(hosts); i++) {
        tus_call_t call = a_call(apr_psprintf(unit_pool, "http://%s:%d/?k=secret", hosts[i],
                                              server_port(i == 2 ? server6 : server)));

        call.is_public = 1;
        ck_assert_msg(make_call(caller, &call, &called) == TUS_EREFUSED, "%s: %s", hosts[i],
                      called.why);
        ck_assert_ptr_null(strstr(called.why, "secret"));
    }
    ck_assert_uint_eq(server_connections(server) + server_connections(server6), 0);
}
END_TEST

START_TEST(private_place_is_refused)
{
    server_t *server = serve(say_yes, NULL);
    server_t *local = serve_unix(scratch_path("socket"), say_yes, NULL);
    tus_call_t call = a_call("http://hooks.example/");
    tus_called_t called;

    begin(_i);
    call.is_public = 1;
    call.address = apr_psprintf(unit_pool, "127.0.0.1:%d", server_port(server));
    ck_assert_int_eq(make_call(caller, &call, &called), TUS_EREFUSED);
    call.address = NULL;
    call.socket = scratch_path("socket");
    ck_assert_int_eq(make_call(caller, &call, &called), TUS_EREFUSED);
    ck_assert_uint_eq(server_connections(server) + server_connections(local), 0);
}
END_TEST

/* What one call may connect to, another may not use. */
START_TEST(kept_connection_opens_no_private_address)
{
    const char *path = scratch_path("socket");
    server_t *server = serve(say_yes, NULL);
    server_t *local = serve_unix(path, say_yes, NULL);
    tus_call_t call = a_call(server_url(server, "/"));
    tus_called_t called;
    int i;

    begin(_i);
    for (i = 0; i < 3; i++) {
        call.is_public = 0;
        ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
        call.is_public = 1;
        ck_assert_int_eq(make_call(caller, &call, &called), TUS_EREFUSED);
    }
    ck_assert_uint_eq(server_requests(server), 3);
    ck_assert_uint_eq(server_connections(server), 1);
    call.socket = path;
    call.is_public = 0;
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    call.is_public = 1;
    ck_assert_int_eq(make_call(caller, &call, &called), TUS_EREFUSED);
    ck_assert_uint_eq(server_requests(local), 1);
}
END_TEST

/* ---- kept connections ---------------------------------------------------- */

START_TEST(connection_is_kept)
{
    server_t *server = serve(say_yes, NULL);
    int i;

    begin(_i);
    for (i = 0; i < 10; i++) {
        ck_assert_int_eq(call_url(caller, server_url(server, i % 2 ? "/a" : "/b?c")), 200);
    }
    ck_assert_uint_eq(server_connections(server), 1);
    ck_assert_uint_eq(server_requests(server), 10);
}
END_TEST

/* One leads elsewhere, though the URL is the same. */
START_TEST(connection_is_kept_for_its_place)
{
    const char *paths[] = { scratch_path("a"), scratch_path("b") };
    server_t *servers[] = { serve_unix(paths[0], say_yes, NULL),
                            serve_unix(paths[1], say_yes, NULL), serve(say_yes, NULL),
                            serve(say_yes, NULL) };
    tus_called_t called;
    int i;

    begin(_i);
    for (i = 0; i < 12; i++) {
        tus_call_t call = a_call("http://hooks.example/");

        if (i % 4 < 2) {
            call.socket = paths[i % 4];
        }
        else {
            call.address = apr_psprintf(unit_pool, "127.0.0.1:%d", server_port(servers[i % 4]));
        }
        ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    }
    for (i = 0; i < 4; i++) {
        ck_assert_uint_eq(server_requests(servers[i]), 3);
        ck_assert_uint_eq(server_connections(servers[i]), 1);
    }
}
END_TEST

START_TEST(close_is_obeyed)
{
    server_t *server = serve(say_yes, NULL);
    apr_table_t *headers = apr_table_make(unit_pool, 1);
    tus_call_t call = a_call(server_url(server, "/"));
    tus_called_t called;
    int i;

    begin(_i);
    apr_table_addn(headers, "Connection", "close");
    call.headers = headers;
    for (i = 0; i < 3; i++) {
        ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
        wait_until_closed(server);
        must_have(server_request(server, (unsigned)i), "Connection: close");
    }
    ck_assert_uint_eq(server_connections(server), 3);
}
END_TEST

/* It said "keep-alive", and changed its mind. */
static void say_yes_once(wire_t *wire)
{
    if (hear_request(wire)) {
        answer(wire, YES);
    }
}

START_TEST(connection_that_ended_is_replaced)
{
    server_t *server = serve(say_yes_once, NULL);
    int i;

    begin(_i);
    for (i = 0; i < 5; i++) {
        ck_assert_int_eq(call_server(server), 200);
        wait_until_closed(server);
    }
    ck_assert_uint_eq(server_requests(server), 5);
}
END_TEST

/* The first connection ends when it has brought a second request. */
static void die_at_the_second(wire_t *wire)
{
    if (hear_request(wire) && answer(wire, YES) && hear_request(wire)) {
        if (wire->number > 0) {
            answer(wire, YES);
        }
        else if (wire->arg) {
            reset_wire(wire);
        }
    }
}

START_TEST(connection_that_ends_unanswered_is_replaced)
{
    server_t *server = serve(die_at_the_second, _i % CASES ? "by a reset" : NULL);
    tus_call_t call = a_call(server_url(server, "/"));
    tus_called_t called;

    begin(_i / CASES);
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    call.body = "{\"second\":2}";
    call.len = 12;
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    ck_assert_uint_eq(server_connections(server), 2);
    ck_assert_uint_eq(server_requests(server), 3);
    ck_assert_str_eq(server_request(server, 1), server_request(server, 2));
    ck_assert_ptr_nonnull(strstr(server_request(server, 2), "{\"second\":2}"));
}
END_TEST

/* An answer that began is no reason to ask again. */
static void break_the_second(wire_t *wire)
{
    if (hear_request(wire) && answer(wire, YES) && hear_request(wire)) {
        answer(wire, "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{");
    }
}

START_TEST(connection_that_broke_off_is_not_replaced)
{
    server_t *server = serve(break_the_second, NULL);

    begin(_i);
    ck_assert_int_eq(call_server(server), 200);
    ck_assert_int_eq(call_server(server), APR_EGENERAL);
    ck_assert_uint_eq(server_requests(server), 2);
    ck_assert_int_eq(call_server(server), 200);
}
END_TEST

START_TEST(new_connection_has_the_body_once)
{
    server_t *server = serve(_i % CASES ? reset : hang_up, NULL);
    unsigned i;

    begin(_i / CASES);
    for (i = 1; i <= 3; i++) {
        ck_assert_int_eq(call_server(server), APR_EGENERAL);
        ck_assert_uint_eq(server_requests(server), i);
        ck_assert_uint_eq(server_connections(server), i);
    }
}
END_TEST

static unsigned planted;

static void wait_until_planted(unsigned count)
{
    apr_time_t deadline = apr_time_now() + PATIENT;

    while (__atomic_load_n(&planted, __ATOMIC_SEQ_CST) < count) {
        ck_assert_int_lt(apr_time_now(), deadline);
        apr_sleep(1000);
    }
}

/* A second answer to the first request, before there is another. */
static void say_too_much(wire_t *wire)
{
    if (hear_request(wire)) {
        answer(wire, YES);
        apr_sleep(wire->arg ? 20000 : 0);
        answer(wire, "HTTP/1.1 299 Planted\r\nContent-Length: 0\r\n\r\n");
        __atomic_add_fetch(&planted, 1, __ATOMIC_SEQ_CST);
        say_yes(wire);
    }
}

START_TEST(answer_to_nothing_is_no_answer)
{
    server_t *server = serve(say_too_much, _i % CASES ? "later" : NULL);

    planted = 0;
    begin(_i / CASES);
    for (unsigned i = 1; i <= 3; i++) {
        ck_assert_int_eq(call_server(server), 200);
        wait_until_planted(i);
        apr_sleep(10000); /* on its way */
    }
}
END_TEST

START_TEST(pool_closes_what_is_kept)
{
    server_t *server = serve(say_yes, NULL);
    const tus_hook_provider_t *provider = providers[_i];
    int before = open_descriptors();
    apr_pool_t *p;

    apr_pool_create(&p, unit_pool);
    ck_assert_int_eq(provider->open(&caller, p), APR_SUCCESS);
    ck_assert_int_eq(call_server(server), 200);
    apr_pool_destroy(p);
    wait_until_closed(server);
    ck_assert_int_eq(open_descriptors(), before);
}
END_TEST

/* ---- processes, threads, descriptors ------------------------------------- */

static apr_pool_t *opened; /* what the caller was opened with */

static int call_in_child(peer_t *parent, void *url)
{
    tus_call_t call = a_call(url);
    tus_called_t called;
    apr_status_t rv;

    (void)parent;
    rv = caller->provider->call(caller, &call, &called, unit_pool);
    if (rv != APR_EINVAL || !called.why || called.body) {
        return 1;
    }
    apr_pool_destroy(opened);
    return 0;
}

/* Its copies of kept connections are the parent's. */
START_TEST(child_does_not_touch_what_the_parent_opened)
{
    server_t *server = serve(say_yes, NULL);
    const char *url = server_url(server, "/");
    peer_t peer;

    apr_pool_create(&opened, unit_pool);
    ck_assert_int_eq(providers[_i]->open(&caller, opened), APR_SUCCESS);
    ck_assert_int_eq(call_url(caller, url), 200);
    peer = spawn_peer(call_in_child, (void *)url);
    ck_assert_int_eq(reap_peer(&peer), 0);
    ck_assert_int_eq(call_url(caller, url), 200);
    ck_assert_uint_eq(server_connections(server), 1);
    ck_assert_uint_eq(server_requests(server), 2);
}
END_TEST

static int open_in_child(peer_t *parent, void *url)
{
    (void)parent;
    return providers[0]->open(&caller, unit_pool) == APR_SUCCESS && call_url(caller, url) == 200
               ? 0
               : 1;
}

START_TEST(children_open_their_own)
{
    server_t *server = serve(say_yes, NULL);
    const char *url = server_url(server, "/");
    peer_t peers[3];
    int i;

    begin(_i);
    ck_assert_int_eq(call_url(caller, url), 200);
    for (i = 0; i < COUNT(peers); i++) {
        peers[i] = spawn_peer(open_in_child, (void *)url);
    }
    for (i = 0; i < COUNT(peers); i++) {
        ck_assert_int_eq(reap_peer(&peers[i]), 0);
    }
    ck_assert_uint_eq(server_connections(server), 4);
}
END_TEST

#define THREADS 8
#define ROUNDS 150

typedef struct thread_t {
    int number;
    const char *urls[3];
    int good;
} thread_t;

/* Its own answer to each call; every third is to a server that says nothing of use. */
static void *APR_THREAD_FUNC call_often(apr_thread_t *self, void *arg)
{
    thread_t *thread = arg;
    int i;

    (void)self;
    for (i = 0; i < ROUNDS; i++) {
        char body[40];
        tus_call_t call = a_call(thread->urls[i % 3]);
        tus_called_t called;
        apr_status_t rv;
        apr_pool_t *p;

        apr_pool_create(&p, NULL);
        snprintf(body, sizeof(body), "{\"%d\":%d}", thread->number, i);
        call.body = body;
        call.len = strlen(body);
        rv = caller->provider->call(caller, &call, &called, p);
        thread->good +=
            i % 3 == 2 ? rv == TUS_EDAMAGED : rv == APR_SUCCESS && strcmp(called.body, body) == 0;
        apr_pool_destroy(p);
    }
    return NULL;
}

START_TEST(threads_call_at_once)
{
    words_t garbage = { "garbage\r\n\r\n", 11 };
    server_t *servers[] = { serve(echo, NULL), serve(echo, NULL), serve(say_words, &garbage) };
    apr_thread_t *running[THREADS];
    thread_t threads[THREADS];
    apr_status_t rv;
    int i, j;

    begin(_i);
    for (i = 0; i < THREADS; i++) {
        threads[i].number = i;
        threads[i].good = 0;
        for (j = 0; j < 3; j++) {
            threads[i].urls[j] = server_url(servers[j], "/");
        }
        ck_assert_int_eq(apr_thread_create(&running[i], NULL, call_often, &threads[i], unit_pool),
                         APR_SUCCESS);
    }
    for (i = 0; i < THREADS; i++) {
        ck_assert_int_eq(apr_thread_join(&rv, running[i]), APR_SUCCESS);
        ck_assert_int_eq(threads[i].good, ROUNDS);
    }
    ck_assert_uint_le(server_connections(servers[0]), THREADS);
    ck_assert_uint_eq(server_requests(servers[0]), THREADS * ROUNDS / 3);
}
END_TEST

#define FAILURES 1000

/* One call that fails, of several kinds in turn. */
static void call_in_vain(int i, server_t *garbage, server_t *silent, const char *deserted)
{
    tus_cancel_t cancel = { has_heard, silent };
    tus_call_t call = a_call(deserted);
    tus_called_t called;

    switch (i % 5) {
    case 0:
        call.url = server_url(garbage, "/");
        break;
    case 1:
        call.url = server_url(garbage, "/");
        call.is_public = 1;
        break;
    case 2:
        call.url = server_url(silent, "/");
        call.timeout = 1000;
        break;
    case 3:
        call.url = server_url(silent, "/");
        call.cancel = &cancel;
        break;
    }
    ck_assert_int_ne(make_call(caller, &call, &called), APR_SUCCESS);
}

START_TEST(failures_leave_no_descriptor)
{
    words_t words = { "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", 40 };
    server_t *garbage = serve(say_words, &words), *silent = serve(hear_and_wait, NULL);
    const char *deserted = apr_psprintf(unit_pool, "http://127.0.0.1:%d/", deserted_port());
    int i, before = 0;

    begin(_i);
    for (i = 0; i < FAILURES; i++) {
        if (i == 5) {
            wait_until_closed(garbage);
            wait_until_closed(silent);
            before = open_descriptors();
        }
        call_in_vain(i, garbage, silent, deserted);
    }
    wait_until_closed(garbage);
    wait_until_closed(silent);
    ck_assert_int_eq(open_descriptors(), before);
}
END_TEST

static int leads_to(int fd, int port)
{
    struct sockaddr_in address = { .sin_family = AF_UNSPEC };
    socklen_t len = sizeof(address);

    return getpeername(fd, (struct sockaddr *)&address, &len) == 0 && address.sin_family == AF_INET
           && ntohs(address.sin_port) == port;
}

START_TEST(connection_is_not_inherited_by_programs)
{
    server_t *server = serve(say_yes, NULL);
    int fd, found = 0;

    begin(_i);
    ck_assert_int_eq(call_server(server), 200);
    for (fd = 0; fd < 256; fd++) {
        if (leads_to(fd, server_port(server))) {
            found++;
            ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
        }
    }
    ck_assert_int_eq(found, 1);
}
END_TEST

/* ---- the suite ----------------------------------------------------------- */

void caller_conformance(Suite *suite, const tus_hook_provider_t *provider)
{
    TCase *tcase = add_serving_case(suite, provider->name);
    int i = provider_count++;

    if (i >= MAX_PROVIDERS) {
        abort();
    }
    providers[i] = provider;

#define HOLDS(test) tcase_add_loop_test(tcase, test, i, i + 1)
#define HOLDS_FOR(test, count) tcase_add_loop_test(tcase, test, i *CASES, i *CASES + (count))
    HOLDS(answer_comes_back);
    HOLDS(every_status_is_returned);
    HOLDS_FOR(answer_may_be_empty, COUNT(bodiless));
    HOLDS_FOR(body_comes_as_it_is, COUNT(framed));
    HOLDS_FOR(body_of_one_byte_too_many_is_refused, COUNT(framed));
    HOLDS_FOR(answer_without_end_is_ended, COUNT(endless));
    HOLDS_FOR(flood_of_header_fields_is_ended, COUNT(floods));
    HOLDS_FOR(broken_answer_is_none, COUNT(broken));
    HOLDS(reset_is_no_answer);
    HOLDS_FOR(time_is_for_all_of_it, COUNT(drips) + 1);
    HOLDS(no_time_is_none);
    HOLDS(time_may_be_without_end);
    HOLDS(cancel_ends_a_call);
    HOLDS(cancelled_before_it_begins);
    HOLDS(fields_are_sent);
    HOLDS(fields_of_the_connection_are_not_sent);
    HOLDS_FOR(malformed_field_is_refused, COUNT(malformed));
    HOLDS(body_is_sent_as_it_is);
    HOLDS(nothing_is_remembered);
    HOLDS(other_urls_are_refused);
    HOLDS(address_is_called);
    HOLDS(proxy_of_the_environment_is_not_used);
    HOLDS(private_address_is_refused);
    HOLDS(connection_is_kept);
    HOLDS(close_is_obeyed);
    HOLDS(connection_that_ended_is_replaced);
    HOLDS_FOR(connection_that_ends_unanswered_is_replaced, 2);
    HOLDS(connection_that_broke_off_is_not_replaced);
    HOLDS_FOR(new_connection_has_the_body_once, 2);
    HOLDS_FOR(answer_to_nothing_is_no_answer, 2);
    HOLDS(pool_closes_what_is_kept);
    HOLDS(child_does_not_touch_what_the_parent_opened);
    HOLDS(children_open_their_own);
    HOLDS(threads_call_at_once);
    HOLDS(failures_leave_no_descriptor);
    HOLDS(connection_is_not_inherited_by_programs);

    tcase = add_scratch_case(suite, "sockets");
    serve_in_case(tcase);
    HOLDS(nobody_listens);
    HOLDS(socket_is_called);
    HOLDS(private_place_is_refused);
    HOLDS(kept_connection_opens_no_private_address);
    HOLDS(connection_is_kept_for_its_place);
#undef HOLDS_FOR
#undef HOLDS
}
