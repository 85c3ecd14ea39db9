/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * JSON as it is read, in a pool, and members as strict as Go's.
 *
 * Each request reads a record, and many write one. jansson takes some 170
 * instructions for each byte that it reads: more than all the rest of a HEAD. So
 * what records are usually made of is read here (tus_value_plain.c), and jansson
 * is asked for all else, which includes all that is wrong.
 */
#include "tus_words.h"

#include <apr_strings.h>
#include <jansson.h>

#include <string.h>

/* ---- what jansson has loaded --------------------------------------------- */

static tus_value_t *convert(json_t *json, apr_pool_t *p);

static void convert_object(tus_value_t *value, json_t *json, apr_pool_t *p)
{
    tus_value_t **end = &value->first;
    json_t *member;
    const char *name;

    json_object_foreach(json, name, member) {
        *end = convert(member, p);
        (*end)->name = apr_pstrdup(p, name);
        end = &(*end)->next;
        value->count++;
    }
}

static void convert_array(tus_value_t *value, json_t *json, apr_pool_t *p)
{
    tus_value_t **end = &value->first;
    json_t *element;
    size_t i;

    json_array_foreach(json, i, element) {
        *end = convert(element, p);
        end = &(*end)->next;
        value->count++;
    }
}

static tus_value_t *convert(json_t *json, apr_pool_t *p)
{
    tus_value_t *value = apr_pcalloc(p, sizeof(*value));

    switch (json_typeof(json)) {
    case JSON_OBJECT:
        value->type = TUS_VALUE_OBJECT;
        convert_object(value, json, p);
        break;
    case JSON_ARRAY:
        value->type = TUS_VALUE_ARRAY;
        convert_array(value, json, p);
        break;
    case JSON_STRING:
        value->type = TUS_VALUE_STRING;
        value->len = json_string_length(json);
        value->text = apr_pstrmemdup(p, json_string_value(json), value->len);
        break;
    case JSON_INTEGER:
        value->type = TUS_VALUE_INTEGER;
        value->integer = json_integer_value(json);
        break;
    case JSON_REAL:
        value->type = TUS_VALUE_REAL;
        value->real = json_real_value(json);
        break;
    case JSON_TRUE:
        value->type = TUS_VALUE_TRUE;
        break;
    case JSON_FALSE:
        value->type = TUS_VALUE_FALSE;
        break;
    case JSON_NULL:
        break;
    }
    return value;
}

tus_value_t *tus_value_of_jansson(const char *text, apr_size_t len, apr_pool_t *p)
{
    tus_value_t *value;
    json_t *json = NULL;

    if (tus_json_is_shallow(text, len)) {
        json = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    }
    value = json_is_object(json) ? convert(json, p) : NULL;
    json_decref(json);
    return value;
}

tus_value_t *tus_value_load(const char *text, apr_size_t len, apr_pool_t *p)
{
    tus_value_t *value = tus_value_plain(text, len, p);

    return value ? value : tus_value_of_jansson(text, len, p);
}

/* ---- members ------------------------------------------------------------- */

const tus_value_t *tus_value_get(const tus_value_t *object, const char *name)
{
    const tus_value_t *member = tus_value_is(object, TUS_VALUE_OBJECT) ? object->first : NULL;

    while (member && (member->name[0] != name[0] || strcmp(member->name, name) != 0)) {
        member = member->next;
    }
    return member;
}

int tus_value_is(const tus_value_t *value, tus_value_e type)
{
    return value && value->type == type;
}

int tus_value_is_absent(const tus_value_t *value)
{
    return !value || value->type == TUS_VALUE_NULL;
}

int tus_value_string(const char **text, const tus_value_t *value)
{
    *text = NULL;
    if (tus_value_is_absent(value)) {
        return 1;
    }
    if (value->type != TUS_VALUE_STRING || strlen(value->text) != value->len) {
        return 0;
    }
    *text = value->text;
    return 1;
}

int tus_value_id(const char **id, const tus_value_t *value)
{
    return tus_value_string(id, value) && tus_id_is_valid(*id);
}

int tus_value_boolean(int *flag, const tus_value_t *value)
{
    *flag = tus_value_is(value, TUS_VALUE_TRUE);
    return !value || *flag || value->type == TUS_VALUE_FALSE;
}

int tus_value_number(apr_int64_t *number, const tus_value_t *value)
{
    *number = tus_value_is(value, TUS_VALUE_INTEGER) ? value->integer : -1;
    return *number >= 0;
}
