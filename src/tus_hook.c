/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Hooks and their events by name. */
#include "tus_words.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_sha1.h>
#include <apr_strings.h>

#include <stdio.h>
#include <string.h>

/* Of the hash of what they name. */
#define EVENT_BYTES ((TUS_EVENT_ID_SIZE - 1) / 2)
#define KEY_BYTES ((TUS_HOOK_KEY_SIZE - 1) / 4) /* of each half */
#define SECTION_BYTES ((TUS_HOOK_SECTION_SIZE - 1) / 2)

#define HEX "0123456789abcdef"

static const char *const names[TUS_HOOK_COUNT] = {
    [TUS_HOOK_PRE_CREATE] = "pre-create",         [TUS_HOOK_POST_CREATE] = "post-create",
    [TUS_HOOK_POST_RECEIVE] = "post-receive",     [TUS_HOOK_PRE_FINISH] = "pre-finish",
    [TUS_HOOK_POST_FINISH] = "post-finish",       [TUS_HOOK_PRE_TERMINATE] = "pre-terminate",
    [TUS_HOOK_POST_TERMINATE] = "post-terminate",
};

const char *tus_hook_name(tus_hook_e type)
{
    return names[type];
}

tus_hook_e tus_hook_named(const char *name)
{
    int type = 0;

    while (type < TUS_HOOK_COUNT && strcmp(name, names[type]) != 0) {
        type++;
    }
    return (tus_hook_e)type;
}

/* With its NUL, so that no two lists of texts have the same hash. */
static void hash(apr_sha1_ctx_t *sha1, const char *text)
{
    apr_sha1_update_binary(sha1, (const unsigned char *)text, (unsigned)strlen(text) + 1);
}

const char *tus_hook_key(char key[TUS_HOOK_KEY_SIZE], const char *server, const char *scope,
                         const char *url)
{
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    apr_sha1_ctx_t sha1;

    apr_sha1_init(&sha1);
    hash(&sha1, server);
    if (scope) {
        hash(&sha1, scope);
    }
    apr_sha1_final(digest, &sha1);
    apr_escape_hex(key, digest, KEY_BYTES, 0, NULL);

    apr_sha1_init(&sha1);
    hash(&sha1, url);
    apr_sha1_final(digest, &sha1);
    apr_escape_hex(key + 2 * KEY_BYTES, digest, KEY_BYTES, 0, NULL);
    return key;
}

const char *tus_hook_section_key(char key[TUS_HOOK_SECTION_SIZE], const char *server,
                                 const char *section, unsigned n)
{
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    char number[16];
    apr_sha1_ctx_t sha1;

    snprintf(number, sizeof(number), "%u", n);
    apr_sha1_init(&sha1);
    hash(&sha1, server);
    hash(&sha1, section);
    hash(&sha1, number);
    apr_sha1_final(digest, &sha1);
    apr_escape_hex(key, digest, SECTION_BYTES, 0, NULL);
    return key;
}

const char *tus_hook_reference(const char *key, const apr_array_header_t *sections, apr_pool_t *p)
{
    int n = sections ? sections->nelts : 0;
    int first = n > TUS_HOOK_SECTIONS_MAX ? n - TUS_HOOK_SECTIONS_MAX : 0;
    apr_size_t size = TUS_HOOK_KEY_SIZE + (apr_size_t)(n - first) * TUS_HOOK_SECTION_SIZE;
    char *reference = apr_palloc(p, size);
    char *end = apr_cpystrn(reference, key, TUS_HOOK_KEY_SIZE);

    for (int i = first; i < n; i++) {
        *end++ = ',';
        end = apr_cpystrn(end, APR_ARRAY_IDX(sections, i, const char *), TUS_HOOK_SECTION_SIZE);
    }
    return reference;
}

int tus_hook_is_reference(const char *text)
{
    if (!text || strspn(text, HEX) != TUS_HOOK_KEY_SIZE - 1) {
        return 0;
    }
    text += TUS_HOOK_KEY_SIZE - 1;
    for (int n = 0; *text == ',' && n < TUS_HOOK_SECTIONS_MAX; n++) {
        if (strspn(text + 1, HEX) != TUS_HOOK_SECTION_SIZE - 1) {
            return 0;
        }
        text += TUS_HOOK_SECTION_SIZE;
    }
    return *text == '\0';
}

/* Before it happens: each time anew, for the answer may be another each time. */
static int is_asked(tus_hook_e type)
{
    return type == TUS_HOOK_PRE_CREATE || type == TUS_HOOK_PRE_FINISH
           || type == TUS_HOOK_PRE_TERMINATE;
}

const char *tus_hook_event_id(char event_id[TUS_EVENT_ID_SIZE], tus_hook_e type,
                              const tus_record_t *record, apr_off_t offset)
{
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    char when[64];
    apr_sha1_ctx_t sha1;

    if (!record->id || is_asked(type)) {
        if (apr_generate_random_bytes(digest, EVENT_BYTES) != APR_SUCCESS) {
            return NULL;
        }
        apr_escape_hex(event_id, digest, EVENT_BYTES, 0, NULL);
        return event_id;
    }
    snprintf(when, sizeof(when), "%" APR_TIME_T_FMT " %" APR_OFF_T_FMT, record->created,
             type == TUS_HOOK_POST_RECEIVE ? offset : 0);
    apr_sha1_init(&sha1);
    hash(&sha1, names[type]);
    hash(&sha1, record->id);
    hash(&sha1, when);
    apr_sha1_final(digest, &sha1);
    apr_escape_hex(event_id, digest, EVENT_BYTES, 0, NULL);
    return event_id;
}
