/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The registry: the file `stores` in TusStateDir, a line for each store that was
 * ever used.
 *
 *   NAME \t PROVIDER \t DRIVER \t DEVICE \t INODE \t OWNER \t PATH \n
 *
 * Words and path are percent-escaped; a word that is not said is "-". A path
 * may come from the owner of an .htaccess, and hold any byte. The file is only
 * ever replaced as a whole; a line that is not as above is skipped, and dropped
 * then.
 */
#include "tus_words.h"

#include <apr_escape.h>
#include <apr_lib.h>
#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIELDS 7
#define UNSAID "-"

/* ---- lines --------------------------------------------------------------- */

static const char *escape(const char *text, apr_pool_t *p)
{
    return text ? apr_pescape_path(p, text, 1) : UNSAID;
}

static int read_text(const char **text, const char *field, apr_pool_t *p)
{
    *text = strcmp(field, UNSAID) == 0 ? NULL : apr_punescape_url(p, field, NULL, NULL, 0);
    /* Written again, a word like that would be none. */
    return *text ? strcmp(*text, UNSAID) != 0 : strcmp(field, UNSAID) == 0;
}

static int read_number(apr_uint64_t *number, const char *field)
{
    char *end;

    errno = 0;
    *number = strtoull(field, &end, 10);
    return apr_isdigit(*field) && *end == '\0' && errno == 0;
}

/* As it becomes part of a path. */
static int is_name(const char *name)
{
    return strlen(name) == TUS_STATE_NAME_LEN
           && strspn(name, "0123456789abcdef") == TUS_STATE_NAME_LEN;
}

/* The line is changed. */
static int read_line(tus_state_store_t *store, char *line, apr_pool_t *p)
{
    apr_uint64_t owner;
    char *fields[FIELDS], *last, *field;
    int n = 0;

    for (field = apr_strtok(line, "\t", &last); field; field = apr_strtok(NULL, "\t", &last)) {
        if (n == FIELDS) {
            return 0;
        }
        fields[n++] = field;
    }
    if (n != FIELDS || !is_name(fields[0]) || !read_text(&store->provider, fields[1], p)
        || !read_text(&store->driver, fields[2], p)
        || !read_number(&store->identity.device, fields[3])
        || !read_number(&store->identity.inode, fields[4]) || !read_number(&owner, fields[5])
        || !read_text(&store->path, fields[6], p) || !store->provider || !store->path) {
        return 0;
    }
    store->name = fields[0];
    store->identity.owner = (apr_uint32_t)owner;
    return owner == store->identity.owner;
}

static const char *line_of(const tus_state_store_t *store, apr_pool_t *p)
{
    return apr_psprintf(p, "%s\t%s\t%s\t%" APR_UINT64_T_FMT "\t%" APR_UINT64_T_FMT "\t%u\t%s\n",
                        store->name, escape(store->provider, p), escape(store->driver, p),
                        store->identity.device, store->identity.inode, store->identity.owner,
                        escape(store->path, p));
}

/* ---- the file ------------------------------------------------------------ */

static const char *path_in(const char *state_dir, apr_pool_t *p)
{
    return apr_pstrcat(p, state_dir, "/stores", NULL);
}

/* No such file is an empty one. */
static apr_status_t read_file(const char *path, char **text, apr_size_t *len, apr_pool_t *p)
{
    apr_file_t *file;
    apr_finfo_t finfo;
    apr_status_t rv = apr_file_open(&file, path, APR_FOPEN_READ, APR_FPROT_OS_DEFAULT, p);

    *text = apr_pstrdup(p, "");
    *len = 0;
    if (rv != APR_SUCCESS) {
        return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS : rv;
    }
    rv = apr_file_info_get(&finfo, APR_FINFO_SIZE, file);
    if (rv == APR_SUCCESS && finfo.size > 0) {
        *text = apr_palloc(p, (apr_size_t)finfo.size);
        rv = apr_file_read_full(file, *text, (apr_size_t)finfo.size, len);
    }
    apr_file_close(file);
    return rv;
}

apr_status_t tus_registry_read(const char *state_dir, apr_array_header_t **stores, apr_pool_t *p)
{
    char *line, *newline, *end;
    apr_size_t len;
    apr_status_t rv = read_file(path_in(state_dir, p), &line, &len, p);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    *stores = apr_array_make(p, 16, sizeof(tus_state_store_t));
    end = line + len;
    while (line < end && (newline = memchr(line, '\n', (apr_size_t)(end - line))) != NULL) {
        tus_state_store_t store;

        *newline = '\0';
        if (strlen(line) == (apr_size_t)(newline - line) && read_line(&store, line, p)) {
            APR_ARRAY_PUSH(*stores, tus_state_store_t) = store;
        }
        line = newline + 1;
    }
    return APR_SUCCESS;
}

apr_status_t tus_registry_write(const char *state_dir, const apr_array_header_t *stores,
                                apr_pool_t *p)
{
    apr_array_header_t *lines = apr_array_make(p, stores->nelts, sizeof(const char *));
    int i;

    for (i = 0; i < stores->nelts; i++) {
        APR_ARRAY_PUSH(lines, const char *) =
            line_of(&APR_ARRAY_IDX(stores, i, tus_state_store_t), p);
    }
    return tus_small_replace(path_in(state_dir, p), apr_array_pstrcat(p, lines, 0), 1, p);
}
