/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The floors: the least that a server can do for the requests that are measured. They check
 * nothing, remember nothing and expect well-behaved clients. */
#ifndef BENCH_FLOOR_H
#define BENCH_FLOOR_H

#include <stddef.h>
#include <sys/types.h>

/** What a request asks for. */
typedef struct {
    char method;    /* its second letter: pOst, pAtch, hEad */
    const char *id; /* of the upload: the last segment of the path; not terminated */
    size_t id_len;
    off_t offset;      /* Upload-Offset */
    off_t body_length; /* Content-Length */
} request_t;

/** Begins to serve a directory, which becomes the working directory; a listening socket. */
int begin(const char *port, const char *directory);

/** Understands a head that is whole; parts of it are referred to. */
void parse_request(request_t *request, const char *head, size_t len);

/** Opens the data file that a POST creates or a PATCH continues. POST gets its id made. */
int open_upload(request_t *request);

/** Writes the answer to a request whose body is stored; its length. */
size_t make_answer(char *answer, size_t size, const request_t *request);

#endif
