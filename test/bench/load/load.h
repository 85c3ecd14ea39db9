/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The load generator: clients that cost little beside the servers that they load. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stddef.h>

/** A connection to 127.0.0.1. */
int dial(const char *port);

/** Seconds since some moment. */
double now(void);

/** Ends the process if this is not the head of an answer with the expected status. */
void check_status(const char *head, size_t len, int expected);

/** create, cycle and head: small requests over many connections. */
int load_many(int argc, char **argv);

/** patch, patch-tls and get: one large body. */
int load_one(int argc, char **argv);

/** stall: bodies that stop. */
int load_stall(int argc, char **argv);

#endif
