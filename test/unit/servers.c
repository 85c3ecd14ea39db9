/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "servers.h"

#include <apr_strings.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUESTS_MAX 20000

typedef struct connection_t {
    wire_t wire;
    struct connection_t *next;
    pthread_t thread;
    int fd; /**< -1 once it is closed */
    SSL *tls;
    char *bytes; /**< malloc'ed, with a NUL behind them */
    apr_size_t have;
} connection_t;

struct server_t {
    server_t *next;
    serve_fn fn;
    void *arg;
    SSL_CTX *tls;
    int listener;
    int port;
    pthread_t thread;
    pthread_mutex_t mutex; /**< guards all that follows */
    int stopping;
    connection_t *connections;
    unsigned connected;
    unsigned open;
    unsigned heard;
    char *requests[REQUESTS_MAX];
};

static server_t *running;

/* ---- a connection, in its thread ----------------------------------------- */

static ssize_t receive(connection_t *connection, void *to, size_t len)
{
    return connection->tls ? SSL_read(connection->tls, to, (int)len)
                           : recv(connection->fd, to, len, 0);
}

int answer_bytes(wire_t *wire, const char *bytes, apr_size_t len)
{
    connection_t *connection = (connection_t *)wire;

    while (len > 0) {
        int part = len > 65536 ? 65536 : (int)len;
        ssize_t sent = connection->tls ? SSL_write(connection->tls, bytes, part)
                                       : send(connection->fd, bytes, (size_t)part, MSG_NOSIGNAL);

        if (sent <= 0) {
            return 0;
        }
        bytes += sent;
        len -= (apr_size_t)sent;
    }
    return 1;
}

int answer(wire_t *wire, const char *text)
{
    return answer_bytes(wire, text, strlen(text));
}

/* Nonzero if there are more bytes now. */
static int hear_more(connection_t *connection)
{
    ssize_t got;

    connection->bytes = realloc(connection->bytes, connection->have + 65537);
    if (!connection->bytes) {
        abort();
    }
    got = receive(connection, connection->bytes + connection->have, 65536);
    if (got <= 0) {
        return 0;
    }
    connection->have += (apr_size_t)got;
    connection->bytes[connection->have] = '\0';
    return 1;
}

static void note_request(server_t *server, const char *bytes)
{
    pthread_mutex_lock(&server->mutex);
    if (server->heard == REQUESTS_MAX) {
        abort();
    }
    server->requests[server->heard++] = strdup(bytes);
    pthread_mutex_unlock(&server->mutex);
}

int hear_request(wire_t *wire)
{
    connection_t *connection = (connection_t *)wire;
    const char *end = NULL, *field;

    connection->have = 0;
    do {
        if (!hear_more(connection)) {
            return 0;
        }
        end = strstr(connection->bytes, "\r\n\r\n");
    } while (!end);
    field = strcasestr(connection->bytes, "\r\nContent-Length:");
    wire->len = field && field < end ? strtoul(field + 17, NULL, 10) : 0;
    while (connection->have < (apr_size_t)(end + 4 - connection->bytes) + wire->len) {
        apr_size_t head = (apr_size_t)(end - connection->bytes);

        if (!hear_more(connection)) {
            return 0;
        }
        end = connection->bytes + head;
    }
    wire->request = connection->bytes;
    wire->body = end + 4;
    note_request(wire->server, wire->request);
    return 1;
}

void wait_for_end(wire_t *wire)
{
    connection_t *connection = (connection_t *)wire;

    do {
        connection->have = 0;
    } while (hear_more(connection));
}

static void close_connection(connection_t *connection)
{
    server_t *server = connection->wire.server;

    pthread_mutex_lock(&server->mutex);
    if (connection->fd >= 0) {
        close(connection->fd);
        connection->fd = -1;
        server->open--;
    }
    pthread_mutex_unlock(&server->mutex);
}

void reset_wire(wire_t *wire)
{
    connection_t *connection = (connection_t *)wire;
    struct linger now = { 1, 0 };

    setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close_connection(connection);
}

void cut_wire(wire_t *wire)
{
    close_connection((connection_t *)wire);
}

static int shake_hands(connection_t *connection)
{
    if (!connection->wire.server->tls) {
        return 1;
    }
    connection->tls = SSL_new(connection->wire.server->tls);
    if (!connection->tls || !SSL_set_fd(connection->tls, connection->fd)
        || SSL_accept(connection->tls) != 1) {
        return 0;
    }
    connection->wire.name = SSL_get_servername(connection->tls, TLSEXT_NAMETYPE_host_name);
    return 1;
}

static void *serve_connection(void *arg)
{
    connection_t *connection = arg;

    if (shake_hands(connection)) {
        connection->wire.server->fn(&connection->wire);
        if (connection->tls && connection->fd >= 0) {
            SSL_shutdown(connection->tls);
        }
    }
    close_connection(connection);
    return NULL;
}

/* ---- a server ------------------------------------------------------------ */

/* The mutex held. */
static void begin_connection(server_t *server, int fd)
{
    connection_t *connection = calloc(1, sizeof(*connection));
    int on = 1;

    if (!connection || server->stopping) {
        close(fd);
        free(connection);
        return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    connection->fd = fd;
    connection->wire.server = server;
    connection->wire.arg = server->arg;
    connection->wire.number = server->connected++;
    connection->next = server->connections;
    server->connections = connection;
    server->open++;
    if (pthread_create(&connection->thread, NULL, serve_connection, connection) != 0) {
        abort();
    }
}

static void *accept_connections(void *arg)
{
    server_t *server = arg;
    int fd;

    while ((fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        pthread_mutex_lock(&server->mutex);
        begin_connection(server, fd);
        pthread_mutex_unlock(&server->mutex);
    }
    return NULL;
}

static server_t *start(int listener, SSL_CTX *tls, serve_fn fn, void *arg)
{
    server_t *server = calloc(1, sizeof(*server));
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);

    ck_assert_ptr_nonnull(server);
    ck_assert_int_eq(listen(listener, 128), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &len), 0);
    server->port = ntohs(((struct sockaddr_in *)&address)->sin_port); /* IPv6 has it there, too */
    server->fn = fn;
    server->arg = arg;
    server->tls = tls;
    server->listener = listener;
    pthread_mutex_init(&server->mutex, NULL);
    ck_assert_int_eq(pthread_create(&server->thread, NULL, accept_connections, server), 0);
    server->next = running;
    running = server;
    return server;
}

static int listener_at(const char *text)
{
    struct sockaddr_in in = { .sin_family = AF_INET };
    struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
    int is6 = inet_pton(AF_INET6, text, &in6.sin6_addr) == 1;
    int fd = socket(is6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    if (is6) {
        ck_assert_int_eq(bind(fd, (struct sockaddr *)&in6, sizeof(in6)), 0);
        return fd;
    }
    ck_assert_int_eq(inet_pton(AF_INET, text, &in.sin_addr), 1);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
    return fd;
}

server_t *serve_at(const char *address, serve_fn fn, void *arg)
{
    return start(listener_at(address), NULL, fn, arg);
}

server_t *serve(serve_fn fn, void *arg)
{
    return serve_at("127.0.0.1", fn, arg);
}

server_t *serve_tls(SSL_CTX *tls, serve_fn fn, void *arg)
{
    return start(listener_at("127.0.0.1"), tls, fn, arg);
}

server_t *serve_unix(const char *path, serve_fn fn, void *arg)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_uint_lt(strlen(path), sizeof(address.sun_path));
    strcpy(address.sun_path, path);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return start(fd, NULL, fn, arg);
}

static void end_connections(server_t *server)
{
    connection_t *connection;

    pthread_mutex_lock(&server->mutex);
    server->stopping = 1;
    for (connection = server->connections; connection; connection = connection->next) {
        if (connection->fd >= 0) {
            shutdown(connection->fd, SHUT_RDWR);
        }
    }
    pthread_mutex_unlock(&server->mutex);
    while ((connection = server->connections)) {
        server->connections = connection->next;
        pthread_join(connection->thread, NULL);
        SSL_free(connection->tls);
        free(connection->bytes);
        free(connection);
    }
}

void stop_server(server_t *server)
{
    server_t **link;
    unsigned i;

    for (link = &running; *link != server; link = &(*link)->next) {
        ck_assert_ptr_nonnull(*link);
    }
    *link = server->next;
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->listener);
    end_connections(server);
    for (i = 0; i < server->heard; i++) {
        free(server->requests[i]);
    }
    pthread_mutex_destroy(&server->mutex);
    free(server);
}

/* ---- what a test asks ---------------------------------------------------- */

int server_port(const server_t *server)
{
    return server->port;
}

const char *server_url(const server_t *server, const char *path)
{
    return apr_psprintf(unit_pool, "http%s://127.0.0.1:%d%s", server->tls ? "s" : "", server->port,
                        path);
}

static unsigned look_at(server_t *server, const unsigned *number)
{
    unsigned value;

    pthread_mutex_lock(&server->mutex);
    value = *number;
    pthread_mutex_unlock(&server->mutex);
    return value;
}

unsigned server_connections(server_t *server)
{
    return look_at(server, &server->connected);
}

unsigned server_open(server_t *server)
{
    return look_at(server, &server->open);
}

unsigned server_requests(server_t *server)
{
    return look_at(server, &server->heard);
}

const char *server_request(server_t *server, unsigned number)
{
    ck_assert_uint_lt(number, server_requests(server));
    return apr_pstrdup(unit_pool, server->requests[number]);
}

int deserted_port(void)
{
    struct sockaddr_in address;
    socklen_t len = sizeof(address);
    int fd = listener_at("127.0.0.1");

    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    close(fd);
    return ntohs(address.sin_port);
}

/* ---- a case -------------------------------------------------------------- */

/* As httpd does. */
static void ignore_sigpipe(void)
{
    signal(SIGPIPE, SIG_IGN);
}

static void stop_servers(void)
{
    while (running) {
        stop_server(running);
    }
}

void serve_in_case(TCase *tcase)
{
    tcase_add_checked_fixture(tcase, ignore_sigpipe, stop_servers);
    tcase_set_timeout(tcase, 120); /* also with valgrind */
}

TCase *add_serving_case(Suite *suite, const char *name)
{
    TCase *tcase = add_case(suite, name);

    serve_in_case(tcase);
    return tcase;
}
