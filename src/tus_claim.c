/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The place of a new upload. Ids may have slashes, and then directories stand
 * for them; but no upload may be another's directory, whether it has its data at
 * its id or elsewhere. What tells is its ID.info.
 *
 * Until there is a record, nothing but the id in the journal leads to the data
 * of a request that died. So where the data lies elsewhere, a symbolic link at
 * the id says where. It is read, never followed.
 */
#include "tus_words.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define INFO ".info"

/* A segment of a name, and the record of an upload that has that name. */
typedef struct segment_t {
    char name[NAME_MAX + 1];
    char info[NAME_MAX + sizeof(INFO)];
} segment_t;

/* Copies the segment that path starts with; returns what follows it, or NULL if it is too long. */
static const char *next_segment(const char *path, segment_t *segment)
{
    apr_size_t len = strcspn(path, "/");

    if (len > NAME_MAX) {
        return NULL;
    }
    memcpy(segment->name, path, len);
    segment->name[len] = '\0';
    memcpy(segment->info, path, len);
    memcpy(segment->info + len, INFO, sizeof(INFO));
    return path + len;
}

/* A name that is too long for the file system is one that nothing has. */
static apr_status_t check_unused(int dir, const char *name)
{
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
        return APR_EEXIST;
    }
    return errno == ENOENT || errno == ENAMETOOLONG ? APR_SUCCESS : errno;
}

static void leave(int dir, int at)
{
    if (at != dir) {
        close(at);
    }
}

/* Makes the directories above the last segment; `at` may be `dir` itself: leave() knows. */
static apr_status_t enter(int dir, const char *path, apr_fileperms_t mode, int *at,
                          segment_t *segment)
{
    const char *rest = next_segment(path, segment);

    *at = dir;
    while (rest && *rest == '/') {
        int next = -1;
        apr_status_t rv = check_unused(*at, segment->info);

        if (rv == APR_SUCCESS) {
            rv = tus_beneath_mkdir(*at, segment->name, mode, &next);
        }
        leave(dir, *at);
        if (rv != APR_SUCCESS) {
            return APR_STATUS_IS_ENOTDIR(rv) ? APR_EEXIST : rv;
        }
        *at = next;
        rest = next_segment(rest + 1, segment);
    }
    if (!rest) {
        leave(dir, *at);
        return APR_ENAMETOOLONG;
    }
    return APR_SUCCESS;
}

static apr_status_t write_name(int dir, const char *id, const char *name, apr_fileperms_t mode)
{
    segment_t segment;
    int at;
    apr_status_t rv = enter(dir, id, mode, &at, &segment);

    if (rv == APR_SUCCESS) {
        rv = symlinkat(name, at, segment.name) == 0 ? APR_SUCCESS : errno;
        leave(dir, at);
    }
    return rv;
}

/* Whoever writes the record durably sees to its own directory only. */
static apr_status_t sync_name(int at, const char *name, int fd)
{
    apr_status_t rv = fsync(at) == 0 ? APR_SUCCESS : errno;

    if (rv != APR_SUCCESS) {
        unlinkat(at, name, 0);
        close(fd);
    }
    return rv;
}

static apr_status_t make_file(int dir, const char *name, int is_elsewhere,
                              apr_fileperms_t file_mode, apr_fileperms_t dir_mode, int *fd)
{
    segment_t segment;
    int at;
    apr_status_t rv = enter(dir, name, dir_mode, &at, &segment);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (is_elsewhere) {
        rv = check_unused(at, segment.info);
    }
    if (rv == APR_SUCCESS) {
        rv = tus_beneath_open(at, segment.name, O_RDWR | O_CREAT, file_mode, fd);
    }
    if (rv == APR_SUCCESS && is_elsewhere) {
        rv = sync_name(at, segment.name, *fd);
    }
    leave(dir, at);
    return rv;
}

apr_status_t tus_claim(int dir, const char *id, const char *name, apr_fileperms_t file_mode,
                       apr_fileperms_t dir_mode, int *fd)
{
    int is_elsewhere = strcmp(id, name) != 0;
    apr_status_t rv = is_elsewhere ? write_name(dir, id, name, dir_mode) : APR_SUCCESS;

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = make_file(dir, name, is_elsewhere, file_mode, dir_mode, fd);
    if (rv != APR_SUCCESS && is_elsewhere) {
        tus_claim_end(dir, id, name);
    }
    return rv;
}

apr_status_t tus_claim_name(int dir, const char *id, char name[APR_PATH_MAX])
{
    tus_record_t claimed = { .id = "", .storage_path = name }; /* a name, and no id's path */
    const char *valid;
    apr_status_t rv = tus_beneath_readlink(dir, id, name);

    if (rv == APR_SUCCESS) {
        return tus_storage_name(&claimed, &valid);
    }
    apr_cpystrn(name, id, APR_PATH_MAX);
    return APR_STATUS_IS_EINVAL(rv) ? APR_SUCCESS : rv;
}

apr_status_t tus_claim_end(int dir, const char *id, const char *name)
{
    char claimed[APR_PATH_MAX];

    if (strcmp(id, name) != 0 && tus_beneath_readlink(dir, id, claimed) == APR_SUCCESS
        && strcmp(claimed, name) == 0) {
        return tus_beneath_remove(dir, id);
    }
    return APR_SUCCESS;
}
