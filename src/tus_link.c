/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Which finals are made of a part: links/KEY, a line for each in the form of
 * the journal. A line that was torn, when the disk was full, spoils no other.
 */
#include "tus_words.h"

#include <apr_hash.h>
#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR "links"

/* What is read of a file at the most: its end. */
#define READ_MAX (1024 * 1024)

static apr_status_t append(const char *path, const char *final)
{
    apr_status_t rv = tus_journal_note(path, final, 0);

    if (APR_STATUS_IS_ENOENT(rv)) {
        rv = tus_keyed_make_dir(path);
        if (rv == APR_SUCCESS) {
            rv = tus_journal_note(path, final, 0);
        }
    }
    return rv;
}

/* All that anybody wrote to it. A file that is gone by now was forgotten, which is no failure. */
static apr_status_t sync_file(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    apr_status_t rv;

    if (fd < 0) {
        return errno == ENOENT ? APR_SUCCESS : errno;
    }
    rv = fsync(fd) == 0 ? APR_SUCCESS : errno;
    close(fd);
    return rv;
}

apr_status_t tus_link_add(const char *state_dir, const char *part, const char *final)
{
    char path[APR_PATH_MAX];
    apr_status_t rv = tus_keyed_path(path, state_dir, DIR, part);

    if (rv == APR_SUCCESS) {
        rv = append(path, final);
    }
    if (rv == APR_SUCCESS) {
        rv = sync_file(path);
    }
    /* Always: whoever made the file may not have got so far. */
    return rv == APR_SUCCESS ? tus_small_sync(path) : rv;
}

static void add_ids(apr_array_header_t *finals, apr_hash_t *seen, const apr_array_header_t *noted)
{
    int i;

    for (i = 0; i < noted->nelts; i++) {
        const char *id = APR_ARRAY_IDX(noted, i, tus_noted_t).id;

        if (!apr_hash_get(seen, id, APR_HASH_KEY_STRING)) {
            id = apr_pstrdup(finals->pool, id);
            apr_hash_set(seen, id, APR_HASH_KEY_STRING, id);
            APR_ARRAY_PUSH(finals, const char *) = id;
        }
    }
}

static apr_status_t read_ids(int fd, apr_array_header_t *finals, apr_pool_t *p)
{
    apr_hash_t *seen = apr_hash_make(p);
    apr_off_t offset, before;
    apr_array_header_t *noted;
    apr_pool_t *pblock;
    struct stat st;
    apr_status_t rv;

    if (fstat(fd, &st) != 0) {
        return errno;
    }
    offset = st.st_size > READ_MAX ? st.st_size - READ_MAX : 0;
    apr_pool_create(&pblock, p);
    do {
        apr_pool_clear(pblock);
        before = offset;
        rv = tus_journal_read(fd, &offset, &noted, pblock);
        add_ids(finals, seen, noted);
    } while (rv == APR_SUCCESS && offset > before && offset < st.st_size);
    apr_pool_destroy(pblock);
    return rv;
}

apr_status_t tus_link_list(const char *state_dir, const char *part, apr_array_header_t **finals,
                           apr_pool_t *p)
{
    char path[APR_PATH_MAX];
    apr_status_t rv = tus_keyed_path(path, state_dir, DIR, part);
    int fd;

    if (rv != APR_SUCCESS) {
        return rv;
    }
    *finals = apr_array_make(p, 4, sizeof(const char *));
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? APR_SUCCESS : errno;
    }
    rv = read_ids(fd, *finals, p);
    close(fd);
    return rv;
}

apr_status_t tus_link_remove(const char *state_dir, const char *part)
{
    char path[APR_PATH_MAX];
    apr_status_t rv = tus_keyed_path(path, state_dir, DIR, part);

    return rv == APR_SUCCESS ? tus_small_remove(path) : rv;
}
