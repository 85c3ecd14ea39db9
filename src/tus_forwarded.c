/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* What a proxy says of the request that it got: Forwarded (RFC 7239) and X-Forwarded-*. */
#include "tus_words.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#define SPACE " \t"

/* More than a token has: proxies that leave out the quotes around a port or an IPv6 address. */
#define VALUE_CHARS TUS_TCHAR ":[]"

/* Of a registered name, beside percent-encoded ones (RFC 3986, section 3.2.2). */
#define NAME_CHARS TUS_ALNUM "-._"
#define NAME_LEN_MAX 255

/* ---- the headers ------------------------------------------------------------------------- */

/* Reads a quoted-string. Returns what follows it, or NULL for one that does not end. */
static const char *read_quoted(const char *text, const char **value, apr_pool_t *p)
{
    const char *end;
    char *to;

    text++;
    for (end = text; *end && *end != '"'; end++) {
        if (*end == '\\' && end[1]) {
            end++;
        }
    }
    if (!*end) {
        return NULL;
    }
    *value = to = apr_palloc(p, (apr_size_t)(end - text) + 1);
    while (text < end) {
        if (*text == '\\') {
            text++;
        }
        *to++ = *text++;
    }
    *to = '\0';
    return end + 1;
}

/* Reads a value. Returns what follows it, or NULL for a malformed one. */
static const char *read_value(const char *text, const char **value, apr_pool_t *p)
{
    apr_size_t len;

    if (*text == '"') {
        return read_quoted(text, value, p);
    }
    len = strspn(text, VALUE_CHARS);
    *value = apr_pstrmemdup(p, text, len);
    return len > 0 ? text + len : NULL;
}

/* Where the value of this parameter belongs, or NULL. */
static const char **member_of(tus_forwarded_t *said, const char *name, apr_size_t len)
{
    if (len == 5 && strncasecmp(name, "proto", len) == 0) {
        return &said->scheme;
    }
    if (len == 4 && strncasecmp(name, "host", len) == 0) {
        return &said->host;
    }
    return NULL;
}

/* Reads NAME=VALUE. Returns the separator that follows it, or NULL for a malformed pair. */
static const char *read_pair(const char *text, tus_forwarded_t *said, apr_pool_t *p)
{
    apr_size_t len = strspn(text, TUS_TCHAR);
    const char **member = member_of(said, text, len);
    const char *value;

    if (len == 0 || text[len] != '=') {
        return NULL;
    }
    text = read_value(text + len + 1, &value, p);
    if (!text) {
        return NULL;
    }
    if (member) {
        /* "Each parameter MUST NOT occur more than once" (RFC 7239, section 4). */
        if (*member) {
            return NULL;
        }
        *member = value;
    }
    text += strspn(text, SPACE);
    return *text == ';' || *text == ',' || *text == '\0' ? text : NULL;
}

/* What the first element of Forwarded says, unchecked; nothing if it is malformed. */
static tus_forwarded_t first_element(const char *text, apr_pool_t *p)
{
    tus_forwarded_t said = { NULL, NULL };
    int pairs = 0;

    for (;;) {
        text += strspn(text, SPACE);
        if (*text == ';' || (*text == ',' && pairs == 0)) {
            text++; /* an empty pair, or an empty element */
            continue;
        }
        if (*text == ',' || *text == '\0') {
            return said;
        }
        text = read_pair(text, &said, p);
        if (!text) {
            return (tus_forwarded_t){ NULL, NULL };
        }
        pairs++;
    }
}

/* The first value of a list that is not empty; "" if there is none. */
static const char *first_value(const char *list, apr_pool_t *p)
{
    apr_size_t len;

    list += strspn(list, SPACE ",");
    len = strcspn(list, ",");
    while (len > 0 && strchr(SPACE, list[len - 1])) {
        len--;
    }
    return apr_pstrmemdup(p, list, len);
}

/* ---- what they say ----------------------------------------------------------------------- */

/* The scheme in lower case, or NULL if it is not one of HTTP's. */
static const char *scheme_of(const char *text)
{
    if (strcasecmp(text, "http") == 0) {
        return "http";
    }
    return strcasecmp(text, "https") == 0 ? "https" : NULL;
}

/* The length of the IPv6 address, with its brackets, that the text begins with; or 0. */
static apr_size_t address_length(const char *text, apr_pool_t *p)
{
    apr_size_t len = strcspn(text, "]");
    struct in6_addr address;

    if (text[len] != ']'
        || inet_pton(AF_INET6, apr_pstrmemdup(p, text + 1, len - 1), &address) != 1) {
        return 0;
    }
    return len + 1;
}

/* The length of the name or IPv4 address that the text begins with, or 0: what DNS can have. */
static apr_size_t name_length(const char *text)
{
    apr_size_t len = strspn(text, NAME_CHARS);

    if (!apr_isalnum(*text) || len > NAME_LEN_MAX) {
        return 0;
    }
    for (apr_size_t i = 1; i < len; i++) {
        if (text[i] == '.' && text[i - 1] == '.') {
            return 0;
        }
    }
    return len;
}

/* The host, with its port if that is not the scheme's own; NULL if the text is no host. */
static const char *host_of(const char *text, const char *scheme, apr_pool_t *p)
{
    apr_size_t len = *text == '[' ? address_length(text, p) : name_length(text);
    apr_off_t own = strcmp(scheme, "https") == 0 ? 443 : 80;
    apr_off_t port = own;
    const char *host;

    if (len == 0) {
        return NULL;
    }
    if (text[len] == ':') {
        if (tus_header_integer(text + len + 1, &port) != APR_SUCCESS || port < 1 || port > 65535) {
            return NULL;
        }
    }
    else if (text[len]) {
        return NULL;
    }
    host = apr_pstrmemdup(p, text, len);
    return port == own ? host : apr_psprintf(p, "%s:%d", host, (int)port);
}

void tus_forwarded_parse(tus_forwarded_t *to, const char *forwarded, const char *proto,
                         const char *host, const char *scheme, apr_pool_t *p)
{
    tus_forwarded_t said = first_element(forwarded ? forwarded : "", p);

    to->scheme = said.scheme ? scheme_of(said.scheme) : NULL;
    if (!to->scheme && proto) {
        to->scheme = scheme_of(first_value(proto, p));
    }
    if (to->scheme) {
        scheme = to->scheme;
    }
    to->host = said.host ? host_of(said.host, scheme, p) : NULL;
    if (!to->host && host) {
        to->host = host_of(first_value(host, p), scheme, p);
    }
}
