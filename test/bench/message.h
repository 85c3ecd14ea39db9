/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* As much of HTTP/1.1 as the floors and the load generator need of each other and of the servers
 * that they are compared with. */
#ifndef BENCH_MESSAGE_H
#define BENCH_MESSAGE_H

#include <stddef.h>

/** The length of a message's head with its empty line; 0 while it is not all there. */
size_t head_length(const char *data, size_t len);

/**
 * The value of a field.
 *
 * @param head what head_length() measured
 * @param len its length
 * @param name in lower case, with its colon
 * @return where the value begins, which ends with the line; NULL if there is no such field
 */
const char *field(const char *head, size_t len, const char *name);

/** The value of a field as a number; 0 if there is none. */
long long field_number(const char *head, size_t len, const char *name);

/** Writes what failed and errno's meaning to stderr, and ends the process. */
void die(const char *what) __attribute__((noreturn));

/** Sends all of it, however often that takes. */
void send_all(int fd, const char *data, size_t len);

#endif
