/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/**
 * check_caller.h: what mod_tus.h promises of every hook provider, and what its tests share.
 */
#ifndef CHECK_CALLER_H
#define CHECK_CALLER_H

#include "servers.h"
#include "mod_tus.h"

/** Adds the tests that hold for every hook provider. */
void caller_conformance(Suite *suite, const tus_hook_provider_t *provider);

/** A call that sends "{}" to that URL, and is patient; for a test to change. */
tus_call_t a_call(const char *url);

/** Calls, and looks whether all members of `called` are as they should be. */
apr_status_t make_call(tus_caller_t *caller, const tus_call_t *call, tus_called_t *called);

/** Calls that URL. @return what call() did, or the status if there was an answer */
int call_url(tus_caller_t *caller, const char *url);

/** Answers 200 and "{}" to all that it hears. */
void say_yes(wire_t *wire);

#define YES "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

#endif /* CHECK_CALLER_H */
