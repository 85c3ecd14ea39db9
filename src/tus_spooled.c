/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * An event in the spool: the name of its file, and its text.
 *
 *   KEY.CREATED.TYPE.HOOK     hex digits, microseconds in hex, a digit, hex digits
 *
 *   tus-event 1
 *   id: 0123456789abcdef0123456789abcdef
 *   created: 1700000000000000
 *   type: post-finish
 *   hook: 0123456789abcdef,01234567
 *   event-id: 0123456789abcdef0123456789abcdef
 *   at: 1700000000000001
 *   header: NAME: VALUE       for each
 *   length: 2
 *
 *   {}
 *
 * There is one way only to write an event, and nothing else is read: all fields,
 * in this order, no digit that could be left out. None of them says where the
 * event is sent. HOOK in the name is the key that the reference starts with.
 */
#include "tus_words.h"

#include <apr_escape.h>
#include <apr_sha1.h>
#include <apr_strings.h>

#include <string.h>

#define MAGIC "tus-event 1"
#define HEADER "header: "
#define HEADERS_MAX 1000

/* As tus_small_replace() writes a pending one. */
#define LEFTOVER TUS_SPOOLED_PENDING ".tmp"

#define HEX "0123456789abcdef"
#define CREATED_LEN 16
#define HOOK_LEN (TUS_HOOK_KEY_SIZE - 1)
#define EVENT_ID_LEN (TUS_EVENT_ID_SIZE - 1)

/* ---- members ------------------------------------------------------------- */

static int is_hex(const char *text, apr_size_t len)
{
    return text && strlen(text) == len && strspn(text, HEX) == len;
}

static int is_type(int type)
{
    return type == TUS_HOOK_POST_CREATE || type == TUS_HOOK_POST_FINISH
           || type == TUS_HOOK_POST_TERMINATE;
}

static int is_token(const char *text)
{
    return *text && text[strspn(text, TUS_TCHAR)] == '\0';
}

static int is_value(const char *text)
{
    while (*text == '\t' || ((unsigned char)*text >= ' ' && *text != 0x7f)) {
        text++;
    }
    return *text == '\0';
}

static int are_headers(const apr_table_t *headers)
{
    const apr_array_header_t *all = headers ? apr_table_elts(headers) : NULL;
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *header = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        if (!is_token(header->key) || !is_value(header->val)) {
            return 0;
        }
    }
    return !all || all->nelts <= HEADERS_MAX;
}

static int has_name(const tus_spooled_t *event)
{
    return tus_id_is_valid(event->id) && event->created >= 0 && is_type(event->type)
           && tus_hook_is_reference(event->hook);
}

static int is_whole(const tus_spooled_t *event)
{
    return has_name(event) && is_hex(event->event_id, EVENT_ID_LEN) && event->at >= 0
           && are_headers(event->headers) && event->body && !memchr(event->body, '\0', event->len);
}

/* ---- names --------------------------------------------------------------- */

/* Of any id, for one that a hook named is not spread evenly, nor is its start its own. */
const char *tus_spooled_key(const char *id, char key[TUS_SPOOLED_KEY_LEN + 1])
{
    unsigned char digest[APR_SHA1_DIGESTSIZE];
    apr_sha1_ctx_t sha1;

    apr_sha1_init(&sha1);
    apr_sha1_update_binary(&sha1, (const unsigned char *)id, (unsigned)strlen(id));
    apr_sha1_final(digest, &sha1);
    apr_escape_hex(key, digest, TUS_SPOOLED_KEY_LEN / 2, 0, NULL);
    return key;
}

apr_status_t tus_spooled_name(char name[TUS_SPOOLED_NAME_SIZE], const tus_spooled_t *event)
{
    char key[TUS_SPOOLED_KEY_LEN + 1];

    if (!has_name(event)) {
        return APR_EINVAL;
    }
    apr_snprintf(name, TUS_SPOOLED_NAME_SIZE, "%s.%016" APR_UINT64_T_HEX_FMT ".%d.%.*s",
                 tus_spooled_key(event->id, key), (apr_uint64_t)event->created, (int)event->type,
                 HOOK_LEN, event->hook);
    return APR_SUCCESS;
}

/* Skips so many hex digits and the dot behind them; NULL if they are not there. */
static const char *skip_hex(const char *text, apr_size_t len)
{
    return text && strspn(text, HEX) == len && text[len] == '.' ? text + len + 1 : NULL;
}

static int is_name(const char *name)
{
    const char *type = skip_hex(skip_hex(name, TUS_SPOOLED_KEY_LEN), CREATED_LEN);
    const char *hook = skip_hex(type, 1);

    return hook && is_type(*type - '0') && strspn(hook, HEX) == HOOK_LEN;
}

tus_spooled_e tus_spooled_kind(const char *name)
{
    const char *suffix;

    if (!is_name(name)) {
        return TUS_SPOOLED_FOREIGN;
    }
    suffix = name + TUS_SPOOLED_NAME_SIZE - 1;
    if (*suffix == '\0') {
        return TUS_SPOOLED_READY;
    }
    if (strcmp(suffix, TUS_SPOOLED_PENDING) == 0) {
        return TUS_SPOOLED_PENDS;
    }
    return strcmp(suffix, LEFTOVER) == 0 ? TUS_SPOOLED_LEFTOVER : TUS_SPOOLED_FOREIGN;
}

void tus_spooled_read_name(tus_spooled_name_t *read, const char *name)
{
    const char *created = name + TUS_SPOOLED_KEY_LEN + 1;
    const char *type = created + CREATED_LEN + 1;

    read->created = (apr_time_t)apr_strtoi64(created, NULL, 16);
    read->type = (tus_hook_e)(*type - '0');
    apr_cpystrn(read->hook, type + 2, sizeof(read->hook));
}

/* ---- writing ------------------------------------------------------------- */

static const char *header_lines(const apr_table_t *headers, apr_pool_t *p)
{
    const apr_array_header_t *all = headers ? apr_table_elts(headers) : NULL;
    apr_array_header_t *parts = apr_array_make(p, 16, sizeof(const char *));
    int i;

    for (i = 0; all && i < all->nelts; i++) {
        const apr_table_entry_t *header = &APR_ARRAY_IDX(all, i, apr_table_entry_t);

        APR_ARRAY_PUSH(parts, const char *) =
            apr_pstrcat(p, HEADER, header->key, ": ", header->val, "\n", NULL);
    }
    return apr_array_pstrcat(p, parts, 0);
}

apr_status_t tus_spooled_format(const tus_spooled_t *event, const char **text, apr_size_t *len,
                                apr_pool_t *p)
{
    const char *head;
    apr_size_t head_len;
    char *all;

    if (!is_whole(event)) {
        return APR_EINVAL;
    }
    head = apr_psprintf(p,
                        MAGIC "\nid: %s\ncreated: %" APR_TIME_T_FMT "\ntype: %s\nhook: %s\n"
                              "event-id: %s\nat: %" APR_TIME_T_FMT "\n%slength: %" APR_SIZE_T_FMT
                              "\n\n",
                        event->id, event->created, tus_hook_name(event->type), event->hook,
                        event->event_id, event->at, header_lines(event->headers, p), event->len);
    head_len = strlen(head);
    if (head_len + event->len > TUS_SPOOLED_MAX) {
        return APR_EINVAL;
    }
    *len = head_len + event->len;
    *text = all = apr_palloc(p, *len + 1);
    memcpy(all, head, head_len);
    memcpy(all + head_len, event->body, event->len);
    all[*len] = '\0';
    return APR_SUCCESS;
}

/* ---- reading ------------------------------------------------------------- */

/* What is left of a text; NULL once it was found wrong. */
typedef struct rest_t {
    char *at;
    char *end;
} rest_t;

/* Takes the next line, which is changed; NULL if there is none, or a NUL in it. */
static char *take_line(rest_t *rest)
{
    char *line = rest->at;
    char *newline = line ? memchr(line, '\n', (apr_size_t)(rest->end - line)) : NULL;

    rest->at = newline ? newline + 1 : NULL;
    if (!newline || memchr(line, '\0', (apr_size_t)(newline - line))) {
        return NULL;
    }
    *newline = '\0';
    return line;
}

/* What follows that word on the line. */
static char *value_of(char *line, const char *word)
{
    apr_size_t len = strlen(word);

    return line && strncmp(line, word, len) == 0 ? line + len : NULL;
}

static char *take(rest_t *rest, const char *word)
{
    return value_of(take_line(rest), word);
}

static int read_number(apr_off_t *number, const char *text)
{
    return tus_header_integer(text, number) == APR_SUCCESS && (*text != '0' || text[1] == '\0');
}

static int take_time(rest_t *rest, const char *word, apr_time_t *time)
{
    apr_off_t number = 0;
    int is_number = read_number(&number, take(rest, word));

    *time = number;
    return is_number;
}

/* Also takes the line that follows them. */
static char *take_headers(rest_t *rest, apr_table_t *headers)
{
    char *line, *name, *value;
    int count = 0;

    while ((name = value_of(line = take_line(rest), HEADER)) != NULL) {
        value = strstr(name, ": ");
        if (!value || ++count > HEADERS_MAX) {
            return NULL;
        }
        *value = '\0';
        apr_table_addn(headers, name, value + 2);
    }
    return line;
}

static int take_body(rest_t *rest, const char *length, tus_spooled_t *event)
{
    const char *empty = take_line(rest);
    apr_off_t len;

    if (!read_number(&len, length) || !empty || *empty || rest->end - rest->at != len) {
        return 0;
    }
    event->body = rest->at;
    event->len = (apr_size_t)len;
    return 1;
}

apr_status_t tus_spooled_parse(tus_spooled_t *event, const char *text, apr_size_t len,
                               apr_pool_t *p)
{
    apr_table_t *headers = apr_table_make(p, 8);
    const char *magic, *type;
    rest_t rest;

    memset(event, 0, sizeof(*event));
    if (len > TUS_SPOOLED_MAX) {
        return TUS_EDAMAGED;
    }
    rest.at = apr_pstrmemdup(p, text, len);
    rest.end = rest.at + len;
    magic = take_line(&rest);
    if (!magic || strcmp(magic, MAGIC) != 0 || !(event->id = take(&rest, "id: "))
        || !take_time(&rest, "created: ", &event->created) || !(type = take(&rest, "type: "))
        || !(event->hook = take(&rest, "hook: ")) || !(event->event_id = take(&rest, "event-id: "))
        || !take_time(&rest, "at: ", &event->at)
        || !take_body(&rest, value_of(take_headers(&rest, headers), "length: "), event)) {
        return TUS_EDAMAGED;
    }
    event->type = tus_hook_named(type);
    event->headers = headers;
    return is_whole(event) ? APR_SUCCESS : TUS_EDAMAGED;
}
