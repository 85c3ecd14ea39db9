/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Three lines are the URL of a hook, how such a URL may begin, and an address. */
#include "fuzz.h"

#include <apr_strings.h>
#include <curl/curl.h>

#include <arpa/inet.h>
#include <string.h>

#define URL_CHARS TUS_UNRESERVED "!$&'()*+,;=:@/%?[]"

/* ---- targets --------------------------------------------------------------- */

static const char *part_of(CURLU *url, CURLUPart part, apr_pool_t *p)
{
    char *text = NULL;
    const char *copy;

    if (curl_url_get(url, part, &text, CURLU_DEFAULT_PORT) != CURLUE_OK) {
        return NULL;
    }
    copy = apr_pstrdup(p, text);
    curl_free(text);
    return copy;
}

/* libcurl, which is given the URL, reads the same: scheme, host, port and path, and nothing else.
 */
static void check_as_curl_does(const tus_target_t *target, apr_pool_t *p)
{
    CURLU *url = curl_url();
    const char *origin, *path, *query;

    HOLDS(url && curl_url_set(url, CURLUPART_URL, target->url, 0) == CURLUE_OK);
    origin =
        apr_pstrcat(p, part_of(url, CURLUPART_SCHEME, p), "://", part_of(url, CURLUPART_HOST, p),
                    ":", part_of(url, CURLUPART_PORT, p), NULL);
    HOLDS(fuzz_same(origin, target->origin));
    HOLDS(!part_of(url, CURLUPART_USER, p) && !part_of(url, CURLUPART_PASSWORD, p));
    HOLDS(!part_of(url, CURLUPART_FRAGMENT, p));
    path = part_of(url, CURLUPART_PATH, p);
    query = part_of(url, CURLUPART_QUERY, p);
    HOLDS(fuzz_same(strchr(strstr(target->url, "://") + 3, '/'),
                    query ? apr_pstrcat(p, path, "?", query, NULL) : path)
          || !query); /* an empty query is none */
    curl_url_cleanup(url);
}

static void check_path(const char *url, apr_pool_t *p)
{
    const char *path = apr_pstrmemdup(p, url, strcspn(url, "?"));

    path = apr_pstrcat(p, path, "/", NULL);
    HOLDS(!strstr(path, "/./") && !strstr(path, "/../") && !strchr(path, '\\'));
    HOLDS(!strcasestr(path, "%2f") && !strcasestr(path, "%5c") && !strstr(path, "%00"));
}

static void again(const tus_target_t *target, const char *text, apr_pool_t *p)
{
    tus_target_t second;

    HOLDS(!tus_target_parse(&second, text, p));
    HOLDS(fuzz_same(second.url, target->url) && fuzz_same(second.origin, target->origin));
    HOLDS(fuzz_same(second.socket, target->socket));
}

static void check(const tus_target_t *target, apr_pool_t *p)
{
    int is_public;

    HOLDS(*target->url && target->url[strspn(target->url, URL_CHARS)] == '\0');
    check_path(target->url, p);
    if (!target->origin) {
        HOLDS(target->url[0] == '/' && target->url[1] != '/' && !target->socket);
        again(target, target->url, p);
        return;
    }
    check_as_curl_does(target, p);
    if (target->socket) {
        const char *prefix = apr_pstrcat(p, "unix:", target->socket, "|", NULL);

        HOLDS(!tus_target_check_prefix(prefix));
        HOLDS(tus_target_is_allowed(target, prefix, &is_public) && !is_public);
        HOLDS(!tus_target_is_allowed(target, "http://", &is_public));
        HOLDS(!tus_target_is_allowed(target, target->origin, &is_public));
        again(target, apr_pstrcat(p, prefix, target->url, NULL), p);
        return;
    }
    HOLDS(!tus_target_check_prefix(target->origin));
    HOLDS(tus_target_is_allowed(target, target->origin, &is_public) && !is_public);
    HOLDS(tus_target_is_allowed(target, "https://", &is_public)
          != tus_target_is_allowed(target, "http://", &is_public));
    HOLDS(is_public);
    again(target, target->url, p);
}

/* ---- prefixes -------------------------------------------------------------- */

static void check_prefix(const tus_target_t *target, const char *prefix, apr_pool_t *p)
{
    tus_target_t allowed;
    int is_public = -1, is_allowed = tus_target_is_allowed(target, prefix, &is_public);
    const char *wrong = tus_target_check_prefix(prefix);

    HOLDS(is_public == 0 || is_public == 1);
    HOLDS(!wrong || (*wrong && !is_allowed));
    if (!is_allowed || is_public || target->socket) {
        return;
    }
    HOLDS(!tus_target_parse(&allowed, prefix, p));
    HOLDS(fuzz_same(allowed.origin, target->origin));
    HOLDS(strncmp(target->url, allowed.url, strlen(allowed.url)) == 0);
}

/* ---- addresses ------------------------------------------------------------- */

/* Wrapped it is what it is. */
static void check_wrapped(const char *address, apr_pool_t *p)
{
    static const char *const prefixes[] = { "::ffff:", "::", "64:ff9b::", "2a00:1450::5efe:" };
    int is_private = tus_target_is_private(address);
    struct in_addr bytes;
    const unsigned char *b = (const unsigned char *)&bytes;

    if (inet_pton(AF_INET, address, &bytes) != 1) {
        return;
    }
    for (int i = 0; i < 4; i++) {
        HOLDS(tus_target_is_private(apr_pstrcat(p, prefixes[i], address, NULL)) == is_private);
    }
    HOLDS(
        tus_target_is_private(apr_psprintf(p, "2002:%02x%02x:%02x%02x::1", b[0], b[1], b[2], b[3]))
        == is_private);
}

static void check_address(const char *address, apr_pool_t *p)
{
    char again[INET6_ADDRSTRLEN];
    struct in6_addr bytes;

    check_wrapped(address, p);
    if (inet_pton(AF_INET, address, &bytes) != 1 && inet_pton(AF_INET6, address, &bytes) != 1) {
        HOLDS(tus_target_is_private(address));
    }
    if (inet_pton(AF_INET6, address, &bytes) == 1) {
        HOLDS(tus_target_is_private(inet_ntop(AF_INET6, &bytes, again, sizeof(again)))
              == tus_target_is_private(address));
        HOLDS((bytes.s6_addr[0] & 0xfe) != 0xfc || tus_target_is_private(address));
    }
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *text = fuzz_line(&data, &len, p);
    const char *prefix = fuzz_line(&data, &len, p);
    const char *address = fuzz_line(&data, &len, p);
    tus_target_t target;
    const char *wrong = tus_target_parse(&target, text, p);

    check_address(address, p);
    if (wrong) {
        HOLDS(*wrong && fuzz_is_header(wrong));
        return;
    }
    check(&target, p);
    check_prefix(&target, prefix, p);
}
