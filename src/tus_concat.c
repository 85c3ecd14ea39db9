/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Upload-Concat: "its value MUST be final followed by a semicolon and a
 * space-separated list of partial upload URLs" (tus 1.0, Concatenation).
 */
#include "tus_words.h"

#include <apr_escape.h>
#include <apr_strings.h>

#include <string.h>
#include <strings.h>

#define PARTIAL "partial"
#define FINAL "final;"

/*
 * Percent-decoded, or NULL for a malformed escape and for %00. A slash that is
 * escaped separates no segments and stays as it is; no id has a percent sign.
 */
static const char *decode(const char *url, apr_pool_t *p)
{
    return apr_punescape_url(p, url, NULL, "/", 0);
}

/*
 * Skips the scheme and the host of a URL or network-path reference (RFC 3986,
 * section 4.2): what is left begins with a slash. NULL for one without a path.
 * Other references are returned whole.
 */
static const char *skip_host(const char *url)
{
    const char *host = url;

    if (strncasecmp(url, "http://", 7) == 0) {
        host += 7;
    }
    else if (strncasecmp(url, "https://", 8) == 0) {
        host += 8;
    }
    else if (strncmp(url, "//", 2) == 0) {
        host += 2;
    }
    else {
        return url;
    }
    return *host == '/' ? NULL : strchr(host, '/');
}

/* What follows the base in a path, or NULL if it lies elsewhere. */
static const char *after(const char *base, const char *path)
{
    apr_size_t len = strlen(base);

    return strncmp(path, base, len) == 0 ? path + len : NULL;
}

/* A URL is ASCII. The header is told to others as it was received, in JSON too. */
static int is_printable(const char *url)
{
    while (*url > ' ' && *url < 0x7f) {
        url++;
    }
    return *url == '\0';
}

/* The paths of the bases, decoded. */
static apr_array_header_t *paths_of(const apr_array_header_t *bases, apr_pool_t *p)
{
    apr_array_header_t *paths = apr_array_make(p, bases->nelts, sizeof(const char *));
    int i;

    for (i = 0; i < bases->nelts; i++) {
        const char *path = skip_host(APR_ARRAY_IDX(bases, i, const char *));

        path = path ? decode(path, p) : NULL;
        if (path) {
            APR_ARRAY_PUSH(paths, const char *) = path;
        }
    }
    return paths;
}

/* The id that a decoded path or relative reference names, or NULL. */
static const char *id_of(const char *path, const apr_array_header_t *bases)
{
    int i;

    if (*path != '/') {
        while (strncmp(path, "./", 2) == 0) {
            path += 2;
        }
        return tus_id_is_valid(path) ? path : NULL;
    }
    for (i = 0; i < bases->nelts; i++) {
        const char *id = after(APR_ARRAY_IDX(bases, i, const char *), path);

        if (tus_id_is_valid(id)) {
            return id;
        }
    }
    return NULL;
}

/* Reads one URL of the list, `number` for people. */
static const tus_error_t *parse_url(const char **id, const char *url, int number,
                                    const apr_array_header_t *bases, apr_pool_t *p)
{
    const char *path;

    if (*url == '\0') {
        return tus_error(p, TUS_ERR_INVALID_CONCAT,
                         "Upload-Concat: URL %d is empty; between two URLs stands one space",
                         number);
    }
    if (!is_printable(url)) {
        return tus_error(p, TUS_ERR_INVALID_CONCAT,
                         "Upload-Concat: URL %d has characters that must be percent-encoded",
                         number);
    }
    if (strpbrk(url, "?#")) {
        return tus_error(p, TUS_ERR_INVALID_CONCAT,
                         "Upload-Concat: URL %d has a query or a fragment", number);
    }
    path = skip_host(url);
    if (!path) {
        return tus_error(p, TUS_ERR_INVALID_CONCAT, "Upload-Concat: URL %d has no host or no path",
                         number);
    }
    path = decode(path, p);
    if (!path) {
        return tus_error(p, TUS_ERR_INVALID_CONCAT,
                         "Upload-Concat: URL %d has a malformed percent-escape", number);
    }
    *id = id_of(path, bases);
    if (!*id) {
        return tus_error(p, TUS_ERR_INVALID_CONCAT,
                         "Upload-Concat: URL %d is not that of an upload of this endpoint", number);
    }
    return NULL;
}

static const tus_error_t *parse_list(char *list, const apr_array_header_t *bases,
                                     apr_array_header_t **parts, apr_pool_t *p)
{
    const apr_array_header_t *paths = paths_of(bases, p);
    char *url = list;

    *parts = apr_array_make(p, 4, sizeof(const char *));
    while (url) {
        char *space = strchr(url, ' ');
        const tus_error_t *error;
        const char **id;

        if ((*parts)->nelts == TUS_CONCAT_MAX) {
            return tus_error(p, TUS_ERR_INVALID_CONCAT, "Upload-Concat has more than %d URLs",
                             TUS_CONCAT_MAX);
        }
        if (space) {
            *space++ = '\0';
        }
        id = apr_array_push(*parts);
        error = parse_url(id, url, (*parts)->nelts, paths, p);
        if (error) {
            return error;
        }
        url = space;
    }
    return NULL;
}

/* A copy without the white space around it. */
static char *trimmed(const char *value, apr_pool_t *p)
{
    apr_size_t len;

    value += strspn(value, " \t");
    len = strlen(value);
    while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t')) {
        len--;
    }
    return apr_pstrmemdup(p, value, len);
}

const tus_error_t *tus_concat_parse(const char *value, const apr_array_header_t *bases,
                                    tus_concat_t *concat, apr_pool_t *p)
{
    char *text = trimmed(value ? value : "", p);

    memset(concat, 0, sizeof(*concat));
    if (strcmp(text, PARTIAL) == 0) {
        concat->is_partial = 1;
        return NULL;
    }
    if (strncmp(text, FINAL, strlen(FINAL)) != 0) {
        return tus_error(p, TUS_ERR_INVALID_CONCAT, NULL);
    }
    text += strlen(FINAL);
    if (*text == ' ') {
        text++; /* some clients send it */
    }
    if (*text == '\0') {
        return tus_error(p, TUS_ERR_INVALID_CONCAT, "Upload-Concat: final; names no URL");
    }
    concat->is_final = 1;
    return parse_list(text, bases, &concat->parts, p);
}
