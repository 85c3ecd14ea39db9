/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The first line is the metadata "filetype", the rest "filename". */
#include "fuzz.h"

#include <apr_escape.h>

#include <string.h>
#include <strings.h>

/* What could run a script in this site's name. */
static int is_harmful(const char *type)
{
    static const char *const harmful[] = {
        "html", "xml", "svg", "javascript", "ecmascript", "pdf"
    };
    apr_size_t i;

    for (i = 0; i < sizeof(harmful) / sizeof(harmful[0]); i++) {
        if (strcasestr(type, harmful[i]) && !strchr(type, ';')) {
            return 1;
        }
    }
    return 0;
}

static const char *expect(const char *text, const char *start)
{
    HOLDS(strncmp(text, start, strlen(start)) == 0);
    return text + strlen(start);
}

/* filename="...", and what it stands for where that is more (RFC 6266). Returns that. */
static const char *read_name(const char *text, apr_pool_t *p)
{
    apr_size_t len;
    const char *name;

    text = expect(text, "; filename=\"");
    len = strcspn(text, "\"\\/");
    HOLDS(len > 0 && text[len] == '"');
    name = fuzz_text(text, len, p);
    text += len + 1;
    if (*text) {
        text = expect(text, "; filename*=UTF-8''");
        HOLDS(text[strspn(text, TUS_ALNUM "!#$&+-.^_`|~%")] == '\0');
        name = apr_punescape_url(p, text, NULL, NULL, 0);
        HOLDS(name && *name);
    }
    return name;
}

static void check_name(const char *name)
{
    HOLDS(strlen(name) <= 255 && fuzz_is_header(name) && !strpbrk(name, "/\\\t"));
    HOLDS(strcmp(name, ".") != 0 && strcmp(name, "..") != 0);
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    apr_array_header_t *pairs = apr_array_make(p, 2, sizeof(tus_pair_t));
    const char *filetype = fuzz_line(&data, &len, p), *type, *disposition, *c;
    char *filename = apr_palloc(p, len + 1);

    memcpy(filename, data, len);
    filename[len] = '\0';
    APR_ARRAY_PUSH(pairs, tus_pair_t) = (tus_pair_t){ "filetype", filetype, strlen(filetype) };
    APR_ARRAY_PUSH(pairs, tus_pair_t) = (tus_pair_t){ "filename", filename, len };
    tus_disposition(pairs, &type, &disposition, p);

    HOLDS(strcmp(type, filetype) == 0 || strcmp(type, "application/octet-stream") == 0);
    HOLDS(*type && fuzz_is_header(type) && strlen(type) <= 255);
    for (c = disposition; *c; c++) {
        HOLDS(*c >= ' ' && *c < 0x7f);
    }
    if (strncmp(disposition, "inline", 6) == 0) {
        HOLDS(!is_harmful(type));
        disposition += 6;
    }
    else {
        disposition = expect(disposition, "attachment");
    }
    if (*disposition) {
        check_name(read_name(disposition, p));
    }
}
