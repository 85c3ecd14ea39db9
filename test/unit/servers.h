/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * servers.h: small HTTP servers for a test, each with threads of its own, which say what a test
 * lets them say, byte by byte. Whatever fails in the test's thread, fails the test.
 */
#ifndef SERVERS_H
#define SERVERS_H

#include "suites.h"

#include <openssl/ssl.h>

typedef struct server_t server_t;

/** A connection, as the server has it. */
typedef struct wire_t {
    server_t *server;
    void *arg;           /**< that the server was started with */
    unsigned number;     /**< of the connection, from 0 */
    const char *request; /**< the last one that was heard, head and body */
    const char *body;    /**< of it */
    apr_size_t len;      /**< of the body */
    const char *name;    /**< that the client asked for by SNI, or NULL */
} wire_t;

/** Serves one connection, in a thread; the connection is closed when it returns. */
typedef void (*serve_fn)(wire_t *wire);

/** Like add_case(); its tests end with all their servers stopped. */
TCase *add_serving_case(Suite *suite, const char *name);

/** The same for a case that was added otherwise. */
void serve_in_case(TCase *tcase);

server_t *serve(serve_fn fn, void *arg);
server_t *serve_at(const char *address, serve_fn fn, void *arg);
server_t *serve_unix(const char *path, serve_fn fn, void *arg);
server_t *serve_tls(SSL_CTX *tls, serve_fn fn, void *arg);

/** Closes all its connections, and waits for its threads. */
void stop_server(server_t *server);

int server_port(const server_t *server);

/** "http://127.0.0.1:PORT" and the path; allocated from unit_pool, like all that follows. */
const char *server_url(const server_t *server, const char *path);

/** How many connections it had, and how many it has. */
unsigned server_connections(server_t *server);
unsigned server_open(server_t *server);

/** How many requests it heard, and what they were, from 0. */
unsigned server_requests(server_t *server);
const char *server_request(server_t *server, unsigned number);

/** A port of 127.0.0.1 where nobody listens. */
int deserted_port(void);

/** Reads a whole request. @return 0 at the end of the connection */
int hear_request(wire_t *wire);

/** Nonzero if it could be sent. */
int answer(wire_t *wire, const char *text);
int answer_bytes(wire_t *wire, const char *bytes, apr_size_t len);

/** Reads on until the client closes. */
void wait_for_end(wire_t *wire);

/** Closes with RST; or with nothing but FIN, also where TLS has a word for it. */
void reset_wire(wire_t *wire);
void cut_wire(wire_t *wire);

#endif /* SERVERS_H */
