/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Three lines are Forwarded, X-Forwarded-Proto and X-Forwarded-Host; an empty one is absent. */
#include "fuzz.h"

#include <apr_strings.h>

#include <string.h>

/* What Location may have for a host, brackets and port included (RFC 3986, section 3.2). */
#define HOST_CHARS TUS_UNRESERVED "!$&'()*+,;=%:[]"

#define NAME_MAX_BYTES 255

/* Said again, in either header, it is the same. */
static void again(const tus_forwarded_t *to, const char *scheme, apr_pool_t *p)
{
    tus_forwarded_t second;
    int can_stand_in_list = strchr(to->host, ',') == NULL;

    if (can_stand_in_list) {
        tus_forwarded_parse(&second, NULL, NULL, to->host, scheme, p);
        HOLDS(!second.scheme && fuzz_same(second.host, to->host));
    }
    tus_forwarded_parse(&second, apr_psprintf(p, "host=\"%s\";proto=%s", to->host, scheme), "ftp",
                        "x y", "http", p);
    HOLDS(fuzz_same(second.scheme, scheme) && fuzz_same(second.host, to->host));
}

static void parse(const char *lines[3], const char *scheme, apr_pool_t *p)
{
    tus_forwarded_t to;

    tus_forwarded_parse(&to, lines[0], lines[1], lines[2], scheme, p);
    HOLDS(!to.scheme || strcmp(to.scheme, "http") == 0 || strcmp(to.scheme, "https") == 0);
    if (!to.host) {
        return;
    }
    HOLDS(*to.host && *to.host != ':');
    HOLDS(strlen(to.host) <= NAME_MAX_BYTES || strchr(to.host, ':'));
    HOLDS(strlen(to.host) <= NAME_MAX_BYTES + strlen(":65535"));
    HOLDS(lines[0] || lines[2][strspn(lines[2], HOST_CHARS " \t")] == '\0'
          || strchr(lines[2], ','));
    HOLDS(to.host[strspn(to.host, HOST_CHARS)] == '\0');
    again(&to, to.scheme ? to.scheme : scheme, p);
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *lines[3];
    int i;

    for (i = 0; i < 3; i++) {
        lines[i] = fuzz_line(&data, &len, p);
        if (!*lines[i]) {
            lines[i] = NULL;
        }
    }
    parse(lines, "http", p);
    parse(lines, "https", p);
}
