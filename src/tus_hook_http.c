/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The hook provider "http": libcurl.
 *
 * A line is an easy handle in a multi handle of its own, and so with a kept connection of its own.
 * It leads one way: to one place, under one policy. So a call never gets a connection that was
 * opened under another one: a private address where only public ones are allowed, or a certificate
 * that nobody looked at. Lines that nobody uses are kept, up to IDLE_MAX, and the one that was
 * unused for longest is closed for a newer one. One on which a call failed is closed at once.
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
#include <apr_thread_mutex.h>

#include <arpa/inet.h>
#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Lines kept in a process that nobody uses. */
#define IDLE_MAX 16
/* Bytes of all header fields of an answer, interim responses and trailers among them. */
#define HEADER_MAX (64 * 1024)
/* In milliseconds: some twelve days, which no libcurl adds to another time in vain. */
#define TIMEOUT_MAX (INT_MAX / 2)
/* How often a call looks whether it is cancelled, in milliseconds. */
#define LOOK_AGAIN 100

typedef struct line_t {
    struct line_t *next; /**< among the idle ones, the last used first */
    CURLM *multi;
    CURL *easy;
    curl_socket_t socket; /**< of the kept connection */
    char way[];           /**< where it leads, and under which policy */
} line_t;

/* Lines are malloc'ed: they come and go as long as the process lives, and in all threads. */
typedef struct http_caller_t {
    tus_caller_t base;
    apr_thread_mutex_t *mutex; /**< guards `idle` */
    line_t *idle;
    pid_t pid; /**< who opened it */
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

/* ---- libcurl in this process --------------------------------------------- */

static pthread_once_t once = PTHREAD_ONCE_INIT;
static CURLcode readied;

static void ready_libcurl(void)
{
    readied = curl_global_init(CURL_GLOBAL_DEFAULT);
}

apr_status_t tus_hook_http_init(void)
{
    return pthread_once(&once, ready_libcurl) == 0 && readied == CURLE_OK ? APR_SUCCESS
                                                                          : APR_EGENERAL;
}

/* ---- lines --------------------------------------------------------------- */

static void close_line(line_t *line)
{
    curl_easy_cleanup(line->easy);
    curl_multi_cleanup(line->multi);
    free(line);
}

static line_t *open_line(const char *way)
{
    apr_size_t size = strlen(way) + 1;
    line_t *line = malloc(sizeof(*line) + size);

    if (!line) {
        return NULL;
    }
    line->next = NULL;
    line->socket = CURL_SOCKET_BAD;
    line->multi = curl_multi_init();
    line->easy = curl_easy_init();
    memcpy(line->way, way, size);
    if (!line->multi || !line->easy
        || curl_multi_setopt(line->multi, CURLMOPT_MAXCONNECTS, 1L) != CURLM_OK) {
        close_line(line);
        return NULL;
    }
    return line;
}

/* Nothing is to be said on a connection that nobody asks anything: it has ended, or an answer lies
 * there that would be taken for the next one. */
static int is_quiet(const line_t *line)
{
    struct pollfd pollfd = { line->socket, POLLIN, 0 };

    return poll(&pollfd, 1, 0) == 0;
}

/* One that leads there, out of the idle ones; or NULL. */
static line_t *find_line(http_caller_t *caller, const char *way)
{
    line_t **link, *line;

    apr_thread_mutex_lock(caller->mutex);
    for (link = &caller->idle; *link && strcmp((*link)->way, way) != 0; link = &(*link)->next) {
    }
    line = *link;
    if (line) {
        *link = line->next;
        line->next = NULL;
    }
    apr_thread_mutex_unlock(caller->mutex);
    return line;
}

static line_t *take_line(http_caller_t *caller, const char *way)
{
    line_t *line;

    while ((line = find_line(caller, way)) && !is_quiet(line)) {
        close_line(line);
    }
    return line ? line : open_line(way);
}

static void keep_line(http_caller_t *caller, line_t *line)
{
    line_t **link, *oldest;
    int count = 0;

    if (line->socket == CURL_SOCKET_BAD) {
        close_line(line);
        return;
    }
    curl_easy_reset(line->easy); /* it points into the call, which ends */
    apr_thread_mutex_lock(caller->mutex);
    line->next = caller->idle;
    caller->idle = line;
    for (link = &caller->idle; *link && count < IDLE_MAX; link = &(*link)->next) {
        count++;
    }
    oldest = *link;
    *link = NULL;
    apr_thread_mutex_unlock(caller->mutex);
    if (oldest) {
        close_line(oldest);
    }
}

/* A child that was forked later has copies, and to close those would speak on connections that the
 * parent uses. */
static apr_status_t close_idle(void *baton)
{
    http_caller_t *caller = baton;

    while (caller->idle && caller->pid == getpid()) {
        line_t *line = caller->idle;

        caller->idle = line->next;
        close_line(line);
    }
    return APR_SUCCESS;
}

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

static int is_cancelled(const tus_cancel_t *cancel)
{
    return cancel && cancel->cancelled(cancel->baton);
}

/* Whatever moves on the connection ends the poll, so that LOOK_AGAIN delays nothing else. */
static CURLcode drive(line_t *line, const tus_cancel_t *cancel)
{
    CURLMcode code;
    CURLMsg *message;
    int running, left;

    do {
        if (is_cancelled(cancel)) {
            return CURLE_ABORTED_BY_CALLBACK;
        }
        code = curl_multi_perform(line->multi, &running);
        if (code == CURLM_OK && running) {
            code = curl_multi_poll(line->multi, NULL, 0, LOOK_AGAIN, NULL);
        }
    } while (code == CURLM_OK && running);
    message = curl_multi_info_read(line->multi, &left);
    return code == CURLM_OK && message ? message->data.result : CURLE_FAILED_INIT;
}

static CURLcode perform(line_t *line, exchange_t *exchange)
{
    CURLcode code = set_exchange(line->easy, exchange);

    if (code != CURLE_OK) {
        return code;
    }
    if (curl_multi_add_handle(line->multi, line->easy) != CURLM_OK) {
        return CURLE_FAILED_INIT;
    }
    code = drive(line, exchange->call->cancel);
    if (curl_easy_getinfo(line->easy, CURLINFO_ACTIVESOCKET, &line->socket) != CURLE_OK) {
        line->socket = CURL_SOCKET_BAD;
    }
    curl_multi_remove_handle(line->multi, line->easy);
    return code;
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
    case CURLE_OUT_OF_MEMORY: /* one line of more than 100 KB */
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

    if (*exchange->private_address) {
        happened = " was not called: not a public address, ";
        said = exchange->private_address;
    }
    else if (exchange->fault) {
        happened = " answered with ";
        said = exchange->fault;
    }
    else if (rv == TUS_EDAMAGED) {
        happened = " answered with what is not HTTP: ";
    }
    else if (rv == APR_EINTR) {
        happened = " was given up: ";
        said = "cancelled";
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
static apr_status_t call_on(line_t *line, http_caller_t *caller, exchange_t *exchange,
                            tus_called_t *called)
{
    CURLcode code = perform(line, exchange);
    apr_status_t rv;

    if (code == CURLE_OK) {
        code = take_answer(line->easy, exchange, called);
    }
    if (code == CURLE_OK) {
        keep_line(caller, line);
        return APR_SUCCESS;
    }
    rv = status_of(code, line->easy, exchange);
    called->why = why_of(rv, code, exchange);
    close_line(line);
    return rv;
}

static apr_status_t exchange_with(http_caller_t *caller, const tus_call_t *call,
                                  tus_called_t *called, apr_pool_t *p)
{
    exchange_t exchange;
    apr_status_t rv = begin_exchange(&exchange, call, p);
    line_t *line = rv == APR_SUCCESS ? take_line(caller, way_of(&exchange)) : NULL;

    if (line) {
        rv = call_on(line, caller, &exchange, called);
    }
    else {
        rv = rv == APR_SUCCESS ? APR_ENOMEM : rv;
        called->why = exchange.fault ? exchange.fault : "there is no memory for a call";
    }
    free_exchange(&exchange);
    return rv;
}

static apr_status_t http_call(tus_caller_t *base, const tus_call_t *call, tus_called_t *called,
                              apr_pool_t *p)
{
    http_caller_t *caller = (http_caller_t *)base;
    apr_interval_time_t start = clock_now();
    apr_status_t rv = APR_EGENERAL;

    memset(called, 0, sizeof(*called));
    if (caller->pid == getpid()) {
        rv = exchange_with(caller, call, called, p);
    }
    else {
        called->why = "another process opened these connections";
    }
    called->time = clock_now() - start;
    return rv;
}

static apr_status_t http_open(tus_caller_t **result, apr_pool_t *p)
{
    http_caller_t *caller = apr_pcalloc(p, sizeof(*caller));
    apr_status_t rv = tus_hook_http_init();

    if (rv == APR_SUCCESS) {
        rv = apr_thread_mutex_create(&caller->mutex, APR_THREAD_MUTEX_DEFAULT, p);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    caller->base.provider = &tus_hook_http;
    caller->pid = getpid();
    apr_pool_pre_cleanup_register(p, caller, close_idle);
    *result = &caller->base;
    return APR_SUCCESS;
}

const tus_hook_provider_t tus_hook_http = { "http", http_open, http_call };
