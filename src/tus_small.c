/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Small files in TusStateDir. Each is replaced as a whole, by rename, so that
 * whoever reads it finds what it said or what it says.
 */
#include "tus_words.h"

#include <apr_escape.h>
#include <apr_general.h>
#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static apr_status_t write_new(const char *path, const char *text, int durable)
{
    apr_size_t done;
    apr_status_t rv;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, S_IRUSR | S_IWUSR);

    if (fd < 0) {
        return errno;
    }
    rv = tus_beneath_write(fd, 0, text, strlen(text), &done);
    if (rv == APR_SUCCESS && durable && fsync(fd) != 0) {
        rv = errno;
    }
    close(fd);
    return rv;
}

apr_status_t tus_small_replace(const char *path, const char *text, int durable, apr_pool_t *p)
{
    const char *temp = apr_pstrcat(p, path, ".tmp", NULL);
    apr_status_t rv = tus_small_remove(temp); /* of one that died */

    if (rv == APR_SUCCESS) {
        rv = write_new(temp, text, durable);
    }
    if (rv == APR_SUCCESS && rename(temp, path) != 0) {
        rv = errno;
    }
    if (rv != APR_SUCCESS) {
        tus_small_remove(temp);
        return rv;
    }
    return durable ? tus_small_sync(path) : APR_SUCCESS;
}

apr_status_t tus_small_publish(const char *path, const char *text, apr_pool_t *p)
{
    unsigned char random[8];
    const char *fresh;
    apr_status_t rv = apr_generate_random_bytes(random, sizeof(random));

    if (rv != APR_SUCCESS) {
        return rv;
    }
    fresh = apr_psprintf(p, "%s.%s", path, apr_pescape_hex(p, random, sizeof(random), 0));
    rv = write_new(fresh, text, 1);
    if (rv == APR_SUCCESS && rename(fresh, path) != 0) {
        rv = errno;
    }
    if (rv != APR_SUCCESS) {
        tus_small_remove(fresh);
        return rv;
    }
    return tus_small_sync(path);
}

apr_status_t tus_small_get(char *text, apr_size_t size, apr_size_t *len, const char *path)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    ssize_t got;
    apr_status_t rv;

    if (fd < 0) {
        return errno;
    }
    got = read(fd, text, size - 1);
    rv = got < 0 ? errno : APR_SUCCESS;
    close(fd);
    if (rv == APR_SUCCESS) {
        text[got] = '\0';
        *len = (apr_size_t)got;
    }
    return rv;
}

apr_status_t tus_small_remove(const char *path)
{
    return unlink(path) == 0 || errno == ENOENT ? APR_SUCCESS : errno;
}

apr_status_t tus_small_sync(const char *path)
{
    char dir[APR_PATH_MAX];
    int fd;
    apr_status_t rv;

    apr_cpystrn(dir, path, sizeof(dir));
    *strrchr(dir, '/') = '\0';
    rv = tus_beneath_dir(-1, dir, &fd);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = fsync(fd) == 0 ? APR_SUCCESS : errno;
    close(fd);
    return rv;
}
