/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * peers.h: other processes for a test, which tell each other of progress
 * through pipes. Whatever fails, fails the test.
 */
#ifndef PEERS_H
#define PEERS_H

#include "suites.h"

#include <sys/types.h>

/** Far longer than anything takes that must happen "soon". */
#define PATIENT apr_time_from_sec(30)

/** Another process, and a pipe each way. */
typedef struct peer_t {
    pid_t pid;
    int from; /**< what it says */
    int to;   /**< what it is told */
} peer_t;

/** What a peer does; the result is its exit code, below 90. ASSERT_FAILED is that of an assert. */
typedef int (*peer_fn)(peer_t *parent, void *arg);

/** Runs fn in a new process, whose unit_pool is its own. */
peer_t spawn_peer(peer_fn fn, void *arg);

void say(peer_t *peer);

/** Nonzero once the other said something; 0 if it ended. */
int hear(peer_t *peer);

/** Waits for its end. @return the exit code, or minus the signal */
int reap_peer(peer_t *peer);

/** Kills it and waits until only the zombie is left, which is not reaped yet. */
void kill_peer(peer_t *peer);

/** Kills it with SIGKILL after up to so many microseconds, at random, and reaps it. */
void kill_some_time(peer_t *peer, int within);

#endif /* PEERS_H */
