/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * A hook that an .htaccess says is not known when its events are told later: no
 * request leads to that file. So it is noted, in a file by its key, as lines of
 * a name and a value. Whoever can write there is httpd's User; what the note says
 * is held against the server's own configuration all the same.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <string.h>

#define DIRECTORY "hooks"
#define FORMAT "mod_tus hook 1"
#define NOTE_MAX 8192

#define TIME_MAX (3600 * APR_USEC_PER_SEC)

static const char *path_of(const char *state_dir, const char *key, apr_pool_t *p)
{
    return apr_pstrcat(p, state_dir, "/" DIRECTORY "/", key, NULL);
}

static apr_status_t read_text(const char **text, const char *path, apr_pool_t *p)
{
    char *buffer = apr_palloc(p, NOTE_MAX + 1);
    apr_size_t len;
    apr_status_t rv = tus_small_get(buffer, NOTE_MAX + 1, &len, path);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    *text = buffer;
    return len < NOTE_MAX && strlen(buffer) == len ? APR_SUCCESS : TUS_EDAMAGED;
}

static const char *names_of(unsigned events, apr_pool_t *p)
{
    const char *names = "";

    for (int type = 0; type < TUS_HOOK_COUNT; type++) {
        if (events & TUS_HOOK_BIT(type)) {
            names = apr_pstrcat(p, names, *names ? " " : "", tus_hook_name((tus_hook_e)type), NULL);
        }
    }
    return names;
}

static int read_names(unsigned *events, char *names)
{
    char *state;

    for (char *name = apr_strtok(names, " ", &state); name; name = apr_strtok(NULL, " ", &state)) {
        tus_hook_e type = tus_hook_named(name);

        if (type == TUS_HOOK_COUNT) {
            return 0;
        }
        *events |= TUS_HOOK_BIT(type);
    }
    return *events != 0;
}

static const char *format(const tus_hook_note_t *note, apr_pool_t *p)
{
    return apr_psprintf(p,
                        FORMAT "\nserver %s\ndir %s\nurl %s\nevents %s"
                               "\ntimeout %" APR_TIME_T_FMT "\nbackoff %" APR_TIME_T_FMT "\n%s%s%s",
                        note->server, note->dir, note->url, names_of(note->events, p),
                        note->timeout, note->backoff, note->secret ? "secret " : "",
                        note->secret ? note->secret : "", note->secret ? "\n" : "");
}

static int has_newline(const tus_hook_note_t *note)
{
    return strchr(note->server, '\n') || strchr(note->dir, '\n') || strchr(note->url, '\n')
           || (note->secret && strchr(note->secret, '\n'));
}

apr_status_t tus_hook_note_write(const char *state_dir, const char *key,
                                 const tus_hook_note_t *note, apr_pool_t *p)
{
    const char *path = path_of(state_dir, key, p);
    const char *text = format(note, p), *there;
    apr_status_t rv;

    if (has_newline(note) || strlen(text) >= NOTE_MAX) {
        return APR_EINVAL;
    }
    if (read_text(&there, path, p) == APR_SUCCESS && strcmp(there, text) == 0) {
        return APR_SUCCESS;
    }
    rv = tus_small_publish(path, text, p);
    if (APR_STATUS_IS_ENOENT(rv)) {
        rv = tus_keyed_make_dir(path);
        if (rv == APR_SUCCESS) {
            rv = tus_small_publish(path, text, p);
        }
    }
    return rv;
}

static int read_time(apr_interval_time_t *time, const char *value)
{
    return tus_header_integer(value, time) == APR_SUCCESS && *time > 0 && *time <= TIME_MAX;
}

/* Nonzero if it is a line of a note. */
static int read_line(tus_hook_note_t *note, const char *name, char *value)
{
    if (strcmp(name, "server") == 0) {
        note->server = value;
    }
    else if (strcmp(name, "dir") == 0) {
        note->dir = value;
    }
    else if (strcmp(name, "url") == 0) {
        note->url = value;
    }
    else if (strcmp(name, "secret") == 0) {
        note->secret = value;
    }
    else if (strcmp(name, "events") == 0) {
        return read_names(&note->events, value);
    }
    else if (strcmp(name, "timeout") == 0) {
        return read_time(&note->timeout, value);
    }
    else {
        return strcmp(name, "backoff") == 0 && read_time(&note->backoff, value);
    }
    return 1;
}

static apr_status_t parse(tus_hook_note_t *note, const char *text, apr_pool_t *p)
{
    char *state, *line = apr_strtok(apr_pstrdup(p, text), "\n", &state);

    memset(note, 0, sizeof(*note));
    if (!line || strcmp(line, FORMAT) != 0) {
        return TUS_EDAMAGED;
    }
    while ((line = apr_strtok(NULL, "\n", &state)) != NULL) {
        char *space = strchr(line, ' ');

        if (!space) {
            return TUS_EDAMAGED;
        }
        *space = '\0';
        if (!read_line(note, line, space + 1)) {
            return TUS_EDAMAGED;
        }
    }
    return note->server && note->dir && note->url && note->events && note->timeout && note->backoff
               ? APR_SUCCESS
               : TUS_EDAMAGED;
}

apr_status_t tus_hook_note_read(tus_hook_note_t *note, const char *state_dir, const char *key,
                                apr_pool_t *p)
{
    const char *text;
    apr_status_t rv = read_text(&text, path_of(state_dir, key, p), p);

    return rv == APR_SUCCESS ? parse(note, text, p) : rv;
}
