/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What a download is called, and whether a browser may show it. Both come from
 * the client that uploaded it, so nothing of it is believed.
 */
#include "tus_words.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <jansson.h>

#include <string.h>

#define DEFAULT_TYPE "application/octet-stream"
#define TYPE_MAX 255
#define NAME_BYTES_MAX 255

#define ATTR_CHAR TUS_ALNUM "!#$&+-.^_`|~" /* RFC 8187, section 3.2.1 */

/*
 * What tusd shows inline too. Not HTML, SVG or XML, which can carry scripts
 * that would run in this site's name.
 */
static const char *const inline_types[] = {
    "text/plain", "image/png",  "image/jpeg",  "image/gif",       "image/bmp",  "image/webp",
    "audio/wave", "audio/wav",  "audio/x-wav", "audio/x-pn-wav",  "audio/webm", "audio/ogg",
    "video/mp4",  "video/webm", "video/ogg",   "application/ogg", NULL
};

/* type "/" subtype, and parameters whose values need no quotes (RFC 9110, section 8.3.1). */
static int is_media_type(const char *text)
{
    apr_size_t len = strspn(text, TUS_TCHAR);

    if (len == 0 || text[len] != '/') {
        return 0;
    }
    text += len + 1;
    len = strspn(text, TUS_TCHAR);
    while (len > 0 && text[len]) {
        text += len;
        text += strspn(text, " \t");
        if (*text != ';') {
            return 0;
        }
        text++;
        text += strspn(text, " \t");
        len = strspn(text, TUS_TCHAR);
        if (len == 0 || text[len] != '=') {
            return 0;
        }
        text += len + 1;
        len = strspn(text, TUS_TCHAR);
    }
    return len > 0;
}

static const char *type_of(const tus_pair_t *pair)
{
    if (!pair || pair->len > TYPE_MAX || strlen(pair->value) != pair->len
        || !is_media_type(pair->value)) {
        return DEFAULT_TYPE;
    }
    return pair->value;
}

static int is_inline(const char *type)
{
    const char *const *harmless;

    for (harmless = inline_types; *harmless; harmless++) {
        if (tus_header_is_media_type(type, *harmless)) {
            return 1;
        }
    }
    return 0;
}

static int is_continuation(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* The last component of the file name, short and without control characters, or NULL. */
static char *name_of(const tus_pair_t *pair, apr_pool_t *p)
{
    apr_size_t start, len;
    char *name, *c;

    if (!pair) {
        return NULL;
    }
    for (start = pair->len; start > 0; start--) {
        if (pair->value[start - 1] == '/' || pair->value[start - 1] == '\\') {
            break;
        }
    }
    len = pair->len - start;
    if (len > NAME_BYTES_MAX) {
        len = NAME_BYTES_MAX;
        while (len > 0 && is_continuation(pair->value[start + len])) {
            len--;
        }
    }
    name = apr_pstrmemdup(p, pair->value + start, len);
    for (c = name; c < name + len; c++) {
        /* Not apr_iscntrl(), which a locale may extend to the bytes of UTF-8. */
        if ((unsigned char)*c < ' ' || *c == 0x7f) {
            *c = '_';
        }
    }
    return *name && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 ? name : NULL;
}

static int is_utf8(const char *text)
{
    json_t *json = json_string(text);

    json_decref(json);
    return json != NULL;
}

/* For a quoted-string: "_" for each quote and each character outside ASCII. */
static const char *ascii_of(const char *name, int utf8, apr_pool_t *p)
{
    char *ascii = apr_palloc(p, strlen(name) + 1);
    char *end = ascii;

    for (; *name; name++) {
        if (utf8 && is_continuation(*name)) {
            continue;
        }
        *end++ = apr_isascii(*name) && *name != '"' ? *name : '_';
    }
    *end = '\0';
    return ascii;
}

/* RFC 8187, section 3.2. */
static const char *percent_of(const char *name, apr_pool_t *p)
{
    static const char hex[] = "0123456789ABCDEF";
    char *text = apr_palloc(p, 3 * strlen(name) + 1);
    char *end = text;

    for (; *name; name++) {
        if (strchr(ATTR_CHAR, *name)) {
            *end++ = *name;
        }
        else {
            *end++ = '%';
            *end++ = hex[(unsigned char)*name >> 4];
            *end++ = hex[(unsigned char)*name & 0xf];
        }
    }
    *end = '\0';
    return text;
}

void tus_disposition(const apr_array_header_t *pairs, const char **content_type,
                     const char **disposition, apr_pool_t *p)
{
    const char *type = type_of(tus_metadata_get(pairs, "filetype"));
    const char *name = name_of(tus_metadata_get(pairs, "filename"), p);
    const char *ascii;
    int utf8;

    *content_type = type;
    *disposition = is_inline(type) ? "inline" : "attachment";
    if (!name) {
        return;
    }
    utf8 = is_utf8(name);
    ascii = ascii_of(name, utf8, p);
    *disposition = apr_pstrcat(p, *disposition, "; filename=\"", ascii, "\"", NULL);
    if (utf8 && strcmp(ascii, name) != 0) {
        *disposition =
            apr_pstrcat(p, *disposition, "; filename*=UTF-8''", percent_of(name, p), NULL);
    }
}
