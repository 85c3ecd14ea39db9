/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * An offset that is noted of an upload: DIR/KEY, a symbolic link to "OFFSET" or
 * "OFFSET durable".
 *
 * It leads nowhere. A symbolic link is made with all that it says in one step,
 * so that there is a whole note or none whoever dies, and it reaches stable
 * storage together with its name. To look for one that is not there is one
 * system call.
 */
#include "tus_words.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define DURABLE " durable"
#define TEXT_SIZE 64

/* A sign that no id has. */
#define REPLACING "+"

typedef struct note_t {
    apr_off_t offset;
    int durable;
} note_t;

static apr_status_t parse(note_t *note, const char *text)
{
    char *end;

    if (!apr_isdigit(text[0]) || apr_strtoff(&note->offset, text, &end, 10) != APR_SUCCESS) {
        return TUS_EDAMAGED;
    }
    note->durable = strcmp(end, DURABLE) == 0;
    return *end == '\0' || note->durable ? APR_SUCCESS : TUS_EDAMAGED;
}

static apr_status_t read_note(note_t *note, const char *path)
{
    char text[TEXT_SIZE];
    ssize_t len = readlink(path, text, sizeof(text) - 1);

    if (len < 0) {
        return errno == EINVAL ? TUS_EDAMAGED : errno; /* it is no link */
    }
    if (len == sizeof(text) - 1) {
        return TUS_EDAMAGED; /* there may be more of it */
    }
    text[len] = '\0';
    return parse(note, text);
}

/* ---- noting -------------------------------------------------------------- */

static apr_status_t make_link(const char *text, const char *path)
{
    return symlink(text, path) == 0 ? APR_SUCCESS : errno;
}

static apr_status_t replacing(char temp[APR_PATH_MAX], const char *path)
{
    return apr_snprintf(temp, APR_PATH_MAX, "%s" REPLACING, path) < APR_PATH_MAX - 1
               ? APR_SUCCESS
               : APR_ENAMETOOLONG;
}

static apr_status_t replace(const char *text, const char *path)
{
    char temp[APR_PATH_MAX];
    apr_status_t rv = replacing(temp, path);

    if (rv == APR_SUCCESS) {
        rv = tus_small_remove(temp); /* of a request that died; nobody else has the upload */
    }
    if (rv == APR_SUCCESS) {
        rv = make_link(text, temp);
    }
    if (rv == APR_SUCCESS && rename(temp, path) != 0) {
        rv = errno;
    }
    return rv;
}

apr_status_t tus_offset_note(const char *state_dir, const char *dir, const char *id,
                             apr_off_t offset, int durable)
{
    char path[APR_PATH_MAX], text[TEXT_SIZE];
    apr_status_t rv = offset < 0 ? APR_EINVAL : tus_keyed_path(path, state_dir, dir, id);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    apr_snprintf(text, sizeof(text), "%" APR_OFF_T_FMT "%s", offset, durable ? DURABLE : "");
    rv = make_link(text, path);
    if (APR_STATUS_IS_ENOENT(rv)) {
        rv = tus_keyed_make_dir(path);
        if (rv == APR_SUCCESS) {
            rv = make_link(text, path);
        }
    }
    if (APR_STATUS_IS_EEXIST(rv)) {
        rv = replace(text, path);
    }
    return rv == APR_SUCCESS && durable ? tus_small_sync(path) : rv;
}

/* ---- dropping and reading ------------------------------------------------ */

/* A durable note must not come back after a power failure: what it covers is acknowledged then. */
apr_status_t tus_offset_drop(const char *state_dir, const char *dir, const char *id)
{
    char path[APR_PATH_MAX], temp[APR_PATH_MAX];
    note_t note = { 0, 0 };
    apr_status_t rv = tus_keyed_path(path, state_dir, dir, id);

    if (rv == APR_SUCCESS) {
        rv = read_note(&note, path);
    }
    if (APR_STATUS_IS_ENOENT(rv)) {
        return APR_SUCCESS;
    }
    if (rv == APR_SUCCESS || rv == TUS_EDAMAGED) {
        rv = replacing(temp, path);
    }
    if (rv == APR_SUCCESS) {
        rv = tus_small_remove(temp);
    }
    if (rv == APR_SUCCESS) {
        rv = tus_small_remove(path);
    }
    return rv == APR_SUCCESS && note.durable ? tus_small_sync(path) : rv;
}

apr_status_t tus_offset_read(const char *state_dir, const char *dir, const char *id,
                             apr_off_t *offset)
{
    char path[APR_PATH_MAX];
    note_t note;
    apr_status_t rv = tus_keyed_path(path, state_dir, dir, id);

    if (rv == APR_SUCCESS) {
        rv = read_note(&note, path);
    }
    if (rv == APR_SUCCESS) {
        *offset = note.offset;
    }
    return rv;
}
