/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The input is the file of an event in the spool; its first line is also taken for a file's name.
 */
#include "fuzz.h"

#include <apr_strings.h>

#include <string.h>

#define HEX "0123456789abcdef"

static int is_hex(const char *text, apr_size_t len)
{
    return strlen(text) == len && strspn(text, HEX) == len;
}

static void check_headers(const apr_table_t *headers)
{
    const apr_array_header_t *all = apr_table_elts(headers);
    int i;

    for (i = 0; i < all->nelts; i++) {
        const apr_table_entry_t *header = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        HOLDS(*header->key && header->key[strspn(header->key, TUS_TCHAR)] == '\0');
        HOLDS(fuzz_is_header(header->val));
    }
}

/* Digits, and commas at their places. */
static void check_hook(const char *hook)
{
    apr_size_t len = strlen(hook), i;

    HOLDS(len >= TUS_HOOK_KEY_SIZE - 1);
    HOLDS(len < TUS_HOOK_KEY_SIZE + TUS_HOOK_SECTIONS_MAX * TUS_HOOK_SECTION_SIZE);
    HOLDS((len - (TUS_HOOK_KEY_SIZE - 1)) % TUS_HOOK_SECTION_SIZE == 0);
    for (i = 0; i < len; i++) {
        int is_comma = i >= TUS_HOOK_KEY_SIZE - 1
                       && (i - (TUS_HOOK_KEY_SIZE - 1)) % TUS_HOOK_SECTION_SIZE == 0;

        HOLDS(is_comma ? hook[i] == ',' : strchr(HEX, hook[i]) != NULL);
    }
}

static void check(const tus_spooled_t *event)
{
    HOLDS(tus_id_is_valid(event->id) && event->created >= 0 && event->at >= 0);
    HOLDS(event->type == TUS_HOOK_POST_CREATE || event->type == TUS_HOOK_POST_FINISH
          || event->type == TUS_HOOK_POST_TERMINATE);
    check_hook(event->hook);
    HOLDS(is_hex(event->event_id, TUS_EVENT_ID_SIZE - 1));
    HOLDS(strlen(event->body) == event->len && !event->is_pending);
    check_headers(event->headers);
}

static void check_name(const tus_spooled_t *event, apr_pool_t *p)
{
    char name[TUS_SPOOLED_NAME_SIZE];

    HOLDS(tus_spooled_name(name, event) == APR_SUCCESS);
    HOLDS(strncmp(strrchr(name, '.') + 1, event->hook, TUS_HOOK_KEY_SIZE - 1) == 0);
    HOLDS(strlen(name) == sizeof(name) - 1 && !strchr(name, '/'));
    HOLDS(tus_spooled_kind(name) == TUS_SPOOLED_READY);
    HOLDS(tus_spooled_kind(apr_pstrcat(p, name, TUS_SPOOLED_PENDING, NULL)) == TUS_SPOOLED_PENDS);
}

/* What is taken for an event has the parts of its name where they are looked for. */
static void check_any_name(const char *name)
{
    tus_spooled_e kind = tus_spooled_kind(name);
    apr_size_t len = strlen(name);

    HOLDS(kind == TUS_SPOOLED_FOREIGN || strspn(name, HEX ".newtmp") == len);
    HOLDS(kind != TUS_SPOOLED_READY || len == TUS_SPOOLED_NAME_SIZE - 1);
    HOLDS(kind != TUS_SPOOLED_PENDS || len == TUS_SPOOLED_NAME_SIZE + 3);
    HOLDS(kind != TUS_SPOOLED_LEFTOVER || len == TUS_SPOOLED_NAME_SIZE + 7);
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *rest = data, *text;
    apr_size_t rest_len = len, size;
    tus_spooled_t event;
    char *copy;

    check_any_name(fuzz_line(&rest, &rest_len, p));
    if (len == 0) {
        return;
    }
    copy = apr_palloc(p, len); /* its memory ends with it */
    memcpy(copy, data, len);
    if (tus_spooled_parse(&event, copy, len, p) != APR_SUCCESS) {
        return;
    }
    check(&event);
    check_name(&event, p);
    HOLDS(tus_spooled_format(&event, &text, &size, p) == APR_SUCCESS);
    HOLDS(size == len && memcmp(text, data, len) == 0);
}
