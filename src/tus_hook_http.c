/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The hook provider "http": one request of HTTP/1.1 by libcurl, and what came back.
 *
 * Each call takes a line (tus_line.c) that leads to one place, under one policy. So it never gets a
 * connection that was opened under another one: to a private address where only public ones are
 * allowed, or to a server whose certificate nobody looked at.
 *
 * HTTP/1.1 it is, also with TLS. A line has one call at a time, which HTTP/2 would not make faster,
 * and with HTTP/1.1 there is one case only in which libcurl sends a body again: on a new
 * connection, where a kept one ended before the first byte of an answer. The server may have seen
 * the first copy. So it is with every retry, and events have ids for that.
 *
 * The environment says nothing here. A proxy in it is one for what this server fetches elsewhere;
 * hooks go to the application, mostly on this host, and a proxy would resolve names and choose
 * addresses in our place.
 */
#include "tus_words.h"

#include <apr_strings.h>

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

/* Bytes of all header fields of an answer, interim responses and trailers among them. */
#define HEADER_MAX (64 * 1024)
/* In milliseconds: some twelve days, which no libcurl adds to another time in vain. */
#define TIMEOUT_MAX (INT_MAX / 2)

typedef struct http_caller_t {
    tus_caller_t base;
    tus_lines_t *lines;
} http_caller_t;

/* One call, as libcurl's functions know it. */
typedef struct exchange_t {
    const tus_call_t *call;
    CURLU *url;
    struct curl_slist *headers;
    struct curl_slist *connect_to;
    int is_tls;
    int is_last;         /**< the connection is not kept */
    const char *place;   /**< for `why`: "unix:SOCKET", or scheme, host and port */
    const char *origin;  /**< scheme, host and port */
    char *body;          /**< malloc'ed */
    apr_size_t len;      /**< of the body */
    apr_size_t size;     /**< of what is allocated for it */
    apr_size_t received; /**< bytes of header fields */
    int is_headed;       /**< the last response's head was whole */
    int is_framed;       /**< and it says where its body ends */
    const char *fault;   /**< why we ended it, in words, or NULL */
    char private_address[INET6_ADDRSTRLEN]; /**< that was not connected to, or "" */
    char said[CURL_ERROR_SIZE];             /**< by libcurl */
    apr_pool_t *pool;
} exchange_t;

/* ---- what libcurl calls -------------------------------------------------- */

static size_t end_exchange(exchange_t *exchange, const char *fault)
{
    exchange->fault = fault;
    return 0;
}

static size_t take_body(char *data, size_t one, size_t len, void *baton)
{
    exchange_t *exchange = baton;
    apr_size_t need;

    len *= one;
    if (len > exchange->call->max - exchange->len) {
        return end_exchange(exchange,
                            apr_psprintf(exchange->pool, "more than %" APR_SIZE_T_FMT " bytes",
                                         exchange->call->max));
    }
    need = exchange->len + len;
    if (need > exchange->size) {
        apr_size_t size = need > APR_SIZE_MAX / 2 ? need : need * 2;
        char *body = realloc(exchange->body, size);

        if (!body) {
            return 0;
        }
        exchange->body = body;
        exchange->size = size;
    }
    memcpy(exchange->body + exchange->len, data, len);
    exchange->len = need;
    return len;
}

static int begins(const char *data, size_t len, const char *with)
{
    return len >= strlen(with) && strncasecmp(data, with, strlen(with)) == 0;
}

/* A line, of interim responses and of trailers too. */
static size_t take_header(char *data, size_t one, size_t len, void *baton)
{
    exchange_t *exchange = baton;

    len *= one;
    exchange->received += len;
    if (begins(data, len, "HTTP/")) {
        exchange->is_headed = exchange->is_framed = 0;
    }
    else if (begins(data, len, "\r") || begins(data, len, "\n")) {
        exchange->is_headed = 1;
    }
    else if (begins(data, len, "Content-Length:") || begins(data, len, "Transfer-Encoding:")) {
        exchange->is_framed = 1;
    }
    return exchange->received <= HEADER_MAX ? len
                                            : end_exchange(exchange, "too many header fields");
}

/* The text of an address; NULL for a unix socket, which is of this host. */
static const char *address_text(const struct curl_sockaddr *to, char text[INET6_ADDRSTRLEN])
{
    const void *addr = &to->addr;

    switch (to->family) {
    case AF_INET:
        return inet_ntop(AF_INET, &((const struct sockaddr_in *)addr)->sin_addr, text,
                         INET6_ADDRSTRLEN);
    case AF_INET6:
        return inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)addr)->sin6_addr, text,
                         INET6_ADDRSTRLEN);
    default:
        return NULL;
    }
}

/* Judges what is about to be connected to, whatever a name meant when somebody else looked. */
static curl_socket_t open_socket(void *baton, curlsocktype purpose, struct curl_sockaddr *to)
{
    exchange_t *exchange = baton;

    (void)purpose;
    if (exchange->call->is_public) {
        char text[INET6_ADDRSTRLEN];
        const char *address = address_text(to, text);

        if (!address || tus_target_is_private(address)) {
            apr_cpystrn(exchange->private_address, address ? address : "a unix socket",
                        sizeof(exchange->private_address));
            return CURL_SOCKET_BAD;
        }
    }
    return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

/* ---- a request ----------------------------------------------------------- */

/* Fields that say where a message ends, or are between two ends of a connection. */
static int is_of_connection(const char *name)
{
    static const char *const names[] = {
        "Connection",       "Content-Length",    "Expect", "Host",    "Keep-Alive",
        "Proxy-Connection", "Transfer-Encoding", "TE",     "Trailer", "Upgrade"
    };
    apr_size_t i;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcasecmp(name, names[i]) == 0) {
            return 1;
        }
    }
    return 0;
}

static int is_control(char c)
{
    return (unsigned char)c < 0x20 || c == 0x7f;
}

static int is_field(const char *name, const char *value)
{
    if (!*name || name[strspn(name, TUS_TCHAR)]) {
        return 0;
    }
    while (*value && (*value == '\t' || !is_control(*value))) {
        value++;
    }
    return !*value;
}

static int append(struct curl_slist **list, const char *text)
{
    struct curl_slist *longer = curl_slist_append(*list, text);

    if (longer) {
        *list = longer;
    }
    return longer != NULL;
}

/* For apr_table_do(), which ends where this returns 0. */
static int add_header(void *baton, const char *name, const char *value)
{
    exchange_t *exchange = baton;

    if (!is_field(name, value)) {
        exchange->fault = "a header field to be sent is malformed";
        return 0;
    }
    if (is_of_connection(name)) {
        exchange->is_last |= strcasecmp(name, "Connection") == 0 && strcasecmp(value, "close") == 0;
        return 1;
    }
    /* libcurl wants "Name;" for an empty field, and takes "Name:" for one to be left out. */
    value += strspn(value, " \t");
    return append(&exchange->headers, *value ? apr_pstrcat(exchange->pool, name, ": ", value, NULL)
                                             : apr_pstrcat(exchange->pool, name, ";", NULL));
}

static apr_status_t make_headers(exchange_t *exchange)
{
    const apr_table_t *headers = exchange->call->headers;

    if (headers && !apr_table_do(add_header, exchange, headers, NULL)) {
        return exchange->fault ? TUS_EREFUSED : APR_ENOMEM;
    }
    if (!(headers && apr_table_get(headers, "Content-Type"))
        && !append(&exchange->headers, "Content-Type: application/json")) {
        return APR_ENOMEM;
    }
    if (exchange->is_last && !append(&exchange->headers, "Connection: close")) {
        return APR_ENOMEM;
    }
    return append(&exchange->headers, "Expect:") ? APR_SUCCESS : APR_ENOMEM;
}

static char *url_part(exchange_t *exchange, CURLUPart part)
{
    char *text, *copy;

    if (curl_url_get(exchange->url, part, &text, CURLU_DEFAULT_PORT) != CURLUE_OK) {
        return NULL;
    }
    copy = apr_pstrdup(exchange->pool, text);
    curl_free(text);
    return copy;
}

static apr_status_t read_url(exchange_t *exchange)
{
    const tus_call_t *call = exchange->call;
    const char *scheme = NULL, *host = NULL, *port = NULL;

    exchange->url = curl_url();
    if (!exchange->url) {
        return APR_ENOMEM;
    }
    if (curl_url_set(exchange->url, CURLUPART_URL, call->url, CURLU_DISALLOW_USER) == CURLUE_OK) {
        scheme = url_part(exchange, CURLUPART_SCHEME);
        host = url_part(exchange, CURLUPART_HOST);
        port = url_part(exchange, CURLUPART_PORT);
    }
    if (!scheme || !host || !port
        || (strcasecmp(scheme, "http") != 0 && strcasecmp(scheme, "https") != 0)) {
        exchange->fault = "it is no http: or https: URL";
        return TUS_EREFUSED;
    }
    exchange->is_tls = strcasecmp(scheme, "https") == 0;
    exchange->origin = apr_pstrcat(exchange->pool, scheme, "://", host, ":", port, NULL);
    exchange->place =
        call->socket ? apr_pstrcat(exchange->pool, "unix:", call->socket, NULL) : exchange->origin;
    return APR_SUCCESS;
}

static apr_status_t make_connect_to(exchange_t *exchange)
{
    const char *address = exchange->call->address;

    if (!address) {
        return APR_SUCCESS;
    }
    /* Whatever host and whatever port: there. */
    return append(&exchange->connect_to, apr_pstrcat(exchange->pool, "::", address, NULL))
               ? APR_SUCCESS
               : APR_ENOMEM;
}

static apr_status_t begin_exchange(exchange_t *exchange, const tus_call_t *call, apr_pool_t *p)
{
    apr_status_t rv;

    memset(exchange, 0, sizeof(*exchange));
    exchange->call = call;
    exchange->pool = p;
    rv = read_url(exchange);
    if (rv == APR_SUCCESS) {
        rv = make_headers(exchange);
    }
    return rv == APR_SUCCESS ? make_connect_to(exchange) : rv;
}

static void free_exchange(exchange_t *exchange)
{
    curl_url_cleanup(exchange->url);
    curl_slist_free_all(exchange->headers);
    curl_slist_free_all(exchange->connect_to);
    free(exchange->body);
}

static const char *way_of(const exchange_t *exchange)
{
    const tus_call_t *call = exchange->call;

    return apr_psprintf(exchange->pool, "%d %d %s %s %s", call->is_public != 0,
                        call->is_verified != 0, exchange->origin,
                        call->address ? call->address : "-", call->socket ? call->socket : "-");
}

/* In milliseconds, of which 0 would mean "for ever" to libcurl. */
static long timeout_of(const tus_call_t *call)
{
    apr_interval_time_t timeout = call->timeout / 1000;

    return timeout < 1 ? 1 : timeout > TIMEOUT_MAX ? TIMEOUT_MAX : (long)timeout;
}

static CURLcode set_protocols(CURL *easy)
{
#if CURL_AT_LEAST_VERSION(7, 85, 0)
    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

/* Else a call whose time is over waits for the resolver. */
static CURLcode set_quick_exit(CURL *easy)
{
#if CURL_AT_LEAST_VERSION(7, 87, 0)
    return curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#else
    (void)easy;
    return CURLE_OK;
#endif
}

#define SET(option, value)                                                                         \
    do {                                                                                           \
        if (code == CURLE_OK) {                                                                    \
            code = curl_easy_setopt(easy, CURLOPT_##option, value);                                \
        }                                                                                          \
    } while (0)

static CURLcode set_policy(CURL *easy, const tus_call_t *call)
{
    CURLcode code = set_protocols(easy);

    SET(FOLLOWLOCATION, 0L);
    SET(PROXY, "");
    SET(HTTP09_ALLOWED, 0L);
    SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(SSL_VERIFYPEER, call->is_verified ? 1L : 0L);
    SET(SSL_VERIFYHOST, call->is_verified ? 2L : 0L);
    SET(NOSIGNAL, 1L);
    SET(TIMEOUT_MS, timeout_of(call));
    SET(UNIX_SOCKET_PATH, call->socket);
    return code == CURLE_OK ? set_quick_exit(easy) : code;
}

static CURLcode set_exchange(CURL *easy, exchange_t *exchange)
{
    const tus_call_t *call = exchange->call;
    CURLcode code = set_policy(easy, call);

    SET(CURLU, exchange->url);
    SET(CONNECT_TO, exchange->connect_to);
    SET(FORBID_REUSE, exchange->is_last ? 1L : 0L);
    SET(USERAGENT, "mod_tus");
    SET(HTTPHEADER, exchange->headers);
    SET(POST, 1L);
    SET(POSTFIELDS, call->len > 0 ? call->body : "");
    SET(POSTFIELDSIZE_LARGE, (curl_off_t)call->len);
    SET(OPENSOCKETFUNCTION, open_socket);
    SET(OPENSOCKETDATA, exchange);
    SET(HEADERFUNCTION, take_header);
    SET(HEADERDATA, exchange);
    SET(WRITEFUNCTION, take_body);
    SET(WRITEDATA, exchange);
    SET(ERRORBUFFER, exchange->said);
    return code;
}

#undef SET

/* ---- a call -------------------------------------------------------------- */

static apr_interval_time_t clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return apr_time_from_sec(now.tv_sec) + now.tv_nsec / 1000;
}

/* Nobody listens at a unix socket that is not there, too. */
static apr_status_t status_of_connection(CURL *easy, const exchange_t *exchange)
{
    long system = 0;

    if (*exchange->private_address) {
        return TUS_EREFUSED;
    }
    curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &system);
    return system == ECONNREFUSED || system == ENOENT ? APR_ECONNREFUSED : APR_EGENERAL;
}

static apr_status_t status_of(CURLcode code, CURL *easy, const exchange_t *exchange)
{
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        return APR_TIMEUP;
    case CURLE_ABORTED_BY_CALLBACK:
        return APR_EINTR;
    case CURLE_COULDNT_CONNECT:
        return status_of_connection(easy, exchange);
    case CURLE_WRITE_ERROR:
        return exchange->fault ? TUS_EDAMAGED : APR_ENOMEM;
    case CURLE_UNSUPPORTED_PROTOCOL: /* HTTP/0.9, or another version that is none */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING:
    case CURLE_OUT_OF_MEMORY: /* a line of more than 100 KB; memory that is scarce ends httpd */
#if CURL_AT_LEAST_VERSION(8, 6, 0)
    case CURLE_TOO_LARGE: /* the same, since then */
#endif
        return TUS_EDAMAGED;
    default:
        return APR_EGENERAL;
    }
}

/* Words of the server's may be among it. */
static const char *printable(char *text)
{
    char *c;

    for (c = text; *c; c++) {
        if (is_control(*c)) {
            *c = ' ';
        }
    }
    return text;
}

static const char *why_of(apr_status_t rv, CURLcode code, const exchange_t *exchange)
{
    const char *said = *exchange->said ? exchange->said : curl_easy_strerror(code);
    const char *happened = " gave no answer: ";

    switch (rv) {
    case TUS_EREFUSED:
        happened = " was not called: not a public address, ";
        said = exchange->private_address;
        break;
    case TUS_EDAMAGED:
        happened = exchange->fault ? " answered with " : " answered with what is not HTTP: ";
        said = exchange->fault ? exchange->fault : said;
        break;
    case APR_EINTR:
        happened = " was given up: ";
        said = "cancelled";
        break;
    }
    return printable(apr_pstrcat(exchange->pool, exchange->place, happened, said, NULL));
}

static int has_body(long status)
{
    return status != 204 && status != 304;
}

/*
 * What libcurl takes for an answer and is none: 101, to an upgrade that nobody asked for; one whose
 * head broke off; and over TLS one that ends with the connection, which anybody on the way can end:
 * libcurl does not ask whether the server did.
 */
static CURLcode judge_answer(long status, exchange_t *exchange)
{
    if (status < 200) {
        return CURLE_WEIRD_SERVER_REPLY;
    }
    if (!exchange->is_headed) {
        return CURLE_PARTIAL_FILE;
    }
    if (exchange->is_tls && !exchange->is_framed && has_body(status)) {
        exchange->fault = "no word of where the answer ends, which TLS needs";
        return CURLE_WRITE_ERROR;
    }
    return CURLE_OK;
}

static CURLcode take_answer(CURL *easy, exchange_t *exchange, tus_called_t *called)
{
    long status = 0;
    char *type = NULL;
    CURLcode code;

    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(easy, CURLINFO_CONTENT_TYPE, &type);
    code = judge_answer(status, exchange);
    if (code != CURLE_OK) {
        return code;
    }
    called->status = (int)status;
    called->content_type = apr_pstrdup(exchange->pool, type);
    called->body =
        apr_pstrmemdup(exchange->pool, exchange->body ? exchange->body : "", exchange->len);
    called->len = exchange->len;
    return CURLE_OK;
}

/* A line on which something failed is not used again, whatever is left of it. */
static apr_status_t call_on(tus_line_t *line, tus_lines_t *lines, exchange_t *exchange,
                            tus_called_t *called)
{
    CURL *easy = tus_line_handle(line);
    CURLcode code = set_exchange(easy, exchange);
    apr_status_t rv;

    if (code == CURLE_OK) {
        code = (CURLcode)tus_line_perform(line, exchange->call->cancel);
    }
    if (code == CURLE_OK) {
        code = take_answer(easy, exchange, called);
    }
    if (code == CURLE_OK) {
        tus_line_keep(lines, line);
        return APR_SUCCESS;
    }
    rv = status_of(code, easy, exchange);
    called->why = why_of(rv, code, exchange);
    tus_line_close(line);
    return rv;
}

static const char *why_without_call(apr_status_t rv, const exchange_t *exchange)
{
    if (exchange->fault) {
        return exchange->fault;
    }
    return APR_STATUS_IS_EINVAL(rv) ? "the connections are another process's"
                                    : "there is no memory for a call";
}

static apr_status_t http_call(tus_caller_t *base, const tus_call_t *call, tus_called_t *called,
                              apr_pool_t *p)
{
    http_caller_t *caller = (http_caller_t *)base;
    apr_interval_time_t start = clock_now();
    tus_line_t *line = NULL;
    exchange_t exchange;
    apr_status_t rv;

    memset(called, 0, sizeof(*called));
    rv = begin_exchange(&exchange, call, p);
    if (rv == APR_SUCCESS) {
        rv = tus_line_take(&line, caller->lines, way_of(&exchange));
    }
    if (line) {
        rv = call_on(line, caller->lines, &exchange, called);
    }
    else {
        called->why = why_without_call(rv, &exchange);
    }
    free_exchange(&exchange);
    called->time = clock_now() - start;
    return rv;
}

static apr_status_t http_open(tus_caller_t **result, apr_pool_t *p)
{
    http_caller_t *caller = apr_pcalloc(p, sizeof(*caller));
    apr_status_t rv = tus_line_open(&caller->lines, p);

    if (rv == APR_SUCCESS) {
        caller->base.provider = &tus_hook_http;
        *result = &caller->base;
    }
    return rv;
}

const tus_hook_provider_t tus_hook_http = { "http", http_open, http_call };
