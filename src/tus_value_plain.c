/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Plain JSON, read fast: objects and arrays that do not lie deep in one another,
 * strings of printable ASCII without escapes, integers without a sign. At
 * anything else, and that includes all that is wrong, this gives up.
 */
#include "tus_words.h"

#include <apr_strings.h>

#include <string.h>

/* A record has three levels. */
#define DEPTH_MAX 4

/* Each name is compared with all before it. */
#define MEMBERS_MAX 32

/* So many fit into 64 bits. */
#define DIGITS_MAX 18

/* Of a copy, so that strings can be ended where they stand. It has a NUL behind its end. */
typedef struct reader_t {
    char *at;
    apr_pool_t *pool;
} reader_t;

static tus_value_t *read_value(reader_t *reader, int depth);

/* Skips white space, and the character if it comes next; nonzero if so. */
static int skip(reader_t *reader, char c)
{
    while (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\t'
           || *reader->at == '\r') {
        reader->at++;
    }
    if (*reader->at != c) {
        return 0;
    }
    reader->at++;
    return 1;
}

/* The text of a string that begins behind its first quote; NULL unless it is plain. */
static const char *read_text(reader_t *reader, apr_size_t *len)
{
    char *text = reader->at, *end = text;

    while (tus_value_is_plain(*end)) {
        end++;
    }
    if (*end != '"') {
        return NULL;
    }
    *end = '\0';
    *len = (apr_size_t)(end - text);
    reader->at = end + 1;
    return text;
}

static tus_value_t *make(const reader_t *reader, tus_value_e type)
{
    tus_value_t *value = apr_pcalloc(reader->pool, sizeof(*value));

    value->type = type;
    return value;
}

static tus_value_t *read_string(reader_t *reader)
{
    apr_size_t len;
    const char *text = read_text(reader, &len);
    tus_value_t *value = text ? make(reader, TUS_VALUE_STRING) : NULL;

    if (value) {
        value->text = text;
        value->len = len;
    }
    return value;
}

static int is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A fraction, or more digits, are no end of a value. */
static tus_value_t *read_integer(reader_t *reader)
{
    const char *start = reader->at;
    tus_value_t *value = make(reader, TUS_VALUE_INTEGER);

    while (is_digit(*reader->at) && reader->at - start < DIGITS_MAX) {
        value->integer = value->integer * 10 + (*reader->at++ - '0');
    }
    return *start == '0' && reader->at - start > 1 ? NULL : value;
}

static tus_value_t *read_word(reader_t *reader)
{
    static const struct {
        const char *word;
        apr_size_t len;
        tus_value_e type;
    } words[] = { { "false", 5, TUS_VALUE_FALSE },
                  { "true", 4, TUS_VALUE_TRUE },
                  { "null", 4, TUS_VALUE_NULL } };

    for (int i = 0; i < 3; i++) {
        if (strncmp(reader->at, words[i].word, words[i].len) == 0) {
            reader->at += words[i].len;
            return make(reader, words[i].type);
        }
    }
    return NULL;
}

static tus_value_t *read_member(reader_t *reader, const tus_value_t *object, int depth)
{
    apr_size_t len;
    const char *name = skip(reader, '"') ? read_text(reader, &len) : NULL;
    tus_value_t *member;

    if (!name || object->count == MEMBERS_MAX || tus_value_get(object, name)
        || !skip(reader, ':')) {
        return NULL;
    }
    member = read_value(reader, depth);
    if (member) {
        member->name = name;
    }
    return member;
}

/* Behind the bracket that begins it. */
static tus_value_t *read_list(reader_t *reader, tus_value_e type, char end, int depth)
{
    tus_value_t *list = make(reader, type);
    tus_value_t **next = &list->first;

    if (skip(reader, end)) {
        return list;
    }
    do {
        *next =
            type == TUS_VALUE_OBJECT ? read_member(reader, list, depth) : read_value(reader, depth);
        if (!*next) {
            return NULL;
        }
        next = &(*next)->next;
        list->count++;
    } while (skip(reader, ','));
    return skip(reader, end) ? list : NULL;
}

static tus_value_t *read_value(reader_t *reader, int depth)
{
    if (depth == DEPTH_MAX) {
        return NULL;
    }
    if (skip(reader, '"')) {
        return read_string(reader);
    }
    if (skip(reader, '{')) {
        return read_list(reader, TUS_VALUE_OBJECT, '}', depth + 1);
    }
    if (skip(reader, '[')) {
        return read_list(reader, TUS_VALUE_ARRAY, ']', depth + 1);
    }
    return is_digit(*reader->at) ? read_integer(reader) : read_word(reader);
}

tus_value_t *tus_value_plain(const char *text, apr_size_t len, apr_pool_t *p)
{
    char *copy = apr_pstrmemdup(p, text, len);
    reader_t reader = { .at = copy, .pool = p };
    tus_value_t *root = skip(&reader, '{') ? read_list(&reader, TUS_VALUE_OBJECT, '}', 1) : NULL;

    skip(&reader, '\0');
    return reader.at == copy + len + 1 ? root : NULL;
}
