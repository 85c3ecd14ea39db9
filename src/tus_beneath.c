/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Names beneath a directory handle. Whoever owns a store's directory may swap
 * anything in it at any time, so nothing is opened by a path that the kernel
 * resolves freely: each segment is opened beneath the one before, and what is
 * found there is judged by its handle.
 */
#include "tus_words.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DIR_FLAGS (O_RDONLY | O_DIRECTORY | O_CLOEXEC)

/* How often a name is looked up, should another file take its place each time. */
#define LOOKUPS 100

/* Copies the segment that path starts with; returns what follows it, or NULL if it is none. */
static const char *next_segment(const char *path, char segment[NAME_MAX + 1])
{
    apr_size_t len = strcspn(path, "/");

    if (len == 0 || len > NAME_MAX) {
        return NULL;
    }
    memcpy(segment, path, len);
    segment[len] = '\0';
    if (strcmp(segment, ".") == 0 || strcmp(segment, "..") == 0) {
        return NULL;
    }
    return path + len;
}

/* With O_NOFOLLOW a symbolic link is ELOOP, or ENOTDIR where a directory is asked for. */
static apr_status_t refusal(int error)
{
    return error == ELOOP || error == ENOTDIR ? TUS_EREFUSED : error;
}

/* A plain file in the place of a directory is an honest mistake; all else was planted. */
static apr_status_t not_entered(int at, const char *segment, int error)
{
    struct stat st;

    if (error == ENOTDIR && fstatat(at, segment, &st, AT_SYMLINK_NOFOLLOW) == 0
        && S_ISREG(st.st_mode)) {
        return ENOTDIR;
    }
    return refusal(error);
}

/*
 * Opens the directory in which the last segment of path lies; `leaf` is that
 * segment. The handle may be `dir` itself: close_parent() knows.
 */
static apr_status_t open_parent(int dir, const char *path, char leaf[NAME_MAX + 1], int *parent)
{
    const char *rest = next_segment(path, leaf);
    int at = dir;

    while (rest && *rest == '/') {
        int next = openat(at, leaf, DIR_FLAGS | O_NOFOLLOW);
        apr_status_t rv = next < 0 ? not_entered(at, leaf, errno) : APR_SUCCESS;

        if (at != dir) {
            close(at);
        }
        if (rv != APR_SUCCESS) {
            return rv;
        }
        at = next;
        rest = next_segment(rest + 1, leaf);
    }
    if (!rest) {
        if (at != dir) {
            close(at);
        }
        return TUS_EREFUSED;
    }
    *parent = at;
    return APR_SUCCESS;
}

static void close_parent(int dir, int parent)
{
    if (parent != dir) {
        close(parent);
    }
}

apr_status_t tus_beneath_dir(int dir, const char *path, int *fd)
{
    char leaf[NAME_MAX + 1];
    apr_status_t rv;
    int parent;

    if (dir == -1) {
        *fd = open(path, DIR_FLAGS);
        return *fd < 0 ? errno : APR_SUCCESS;
    }
    rv = open_parent(dir, path, leaf, &parent);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    *fd = openat(parent, leaf, DIR_FLAGS | O_NOFOLLOW);
    rv = *fd < 0 ? not_entered(parent, leaf, errno) : APR_SUCCESS;
    close_parent(dir, parent);
    return rv;
}

/*
 * A file that somebody else can reach by another name, or that is none, is not
 * ours. One without a name was replaced or removed since it was looked up.
 */
static apr_status_t judge(const struct stat *st)
{
    if (S_ISREG(st->st_mode) && st->st_nlink == 0) {
        return ESTALE;
    }
    return S_ISREG(st->st_mode) && st->st_nlink == 1 ? APR_SUCCESS : TUS_EREFUSED;
}

static mode_t unix_mode(apr_fileperms_t mode)
{
    mode_t bits = 0;

    bits |= mode & APR_FPROT_UREAD ? S_IRUSR : 0;
    bits |= mode & APR_FPROT_UWRITE ? S_IWUSR : 0;
    bits |= mode & APR_FPROT_UEXECUTE ? S_IXUSR : 0;
    bits |= mode & APR_FPROT_GREAD ? S_IRGRP : 0;
    bits |= mode & APR_FPROT_GWRITE ? S_IWGRP : 0;
    bits |= mode & APR_FPROT_GEXECUTE ? S_IXGRP : 0;
    bits |= mode & APR_FPROT_WREAD ? S_IROTH : 0;
    bits |= mode & APR_FPROT_WWRITE ? S_IWOTH : 0;
    bits |= mode & APR_FPROT_WEXECUTE ? S_IXOTH : 0;
    bits |= mode & APR_FPROT_WSTICKY ? S_ISVTX : 0;
    return bits;
}

/* Only where it must: who is not of the group loses the setgid bit with it. */
static apr_status_t settle_dir(int parent, int fd, mode_t mode)
{
    struct stat st;

    if (fstat(fd, &st) != 0) {
        return errno;
    }
    if ((st.st_mode & ACCESSPERMS) != mode && fchmod(fd, mode | (st.st_mode & S_ISGID)) != 0) {
        return errno;
    }
    return fsync(parent) == 0 ? APR_SUCCESS : errno;
}

apr_status_t tus_beneath_mkdir(int dir, const char *name, apr_fileperms_t mode, int *fd)
{
    const mode_t bits = unix_mode(mode) & ACCESSPERMS;
    int is_new = mkdirat(dir, name, bits) == 0;
    apr_status_t rv = is_new || errno == EEXIST ? tus_beneath_dir(dir, name, fd) : errno;

    if (rv == APR_SUCCESS && is_new) {
        rv = settle_dir(dir, *fd, bits);
        if (rv != APR_SUCCESS) {
            close(*fd);
        }
    }
    return rv;
}

static apr_status_t open_new(int parent, const char *leaf, int flags, mode_t mode, int *fd)
{
    const mode_t others = S_IRWXG | S_IRWXO;

    *fd = openat(parent, leaf, flags | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode & ~others);
    if (*fd < 0) {
        return errno;
    }
    if (fchmod(*fd, mode) != 0) { /* exactly, whatever the umask */
        int error = errno;

        close(*fd);
        unlinkat(parent, leaf, 0);
        return error;
    }
    return APR_SUCCESS;
}

/* O_NONBLOCK: a FIFO without a peer must not hold us up; it means nothing to a regular file. */
static apr_status_t open_once(int parent, const char *leaf, int flags, int *fd, struct stat *st)
{
    apr_status_t rv;

    *fd = openat(parent, leaf, flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (*fd < 0) {
        switch (errno) {
        case EISDIR: /* a directory, opened for writing */
        case ENXIO:  /* a FIFO or device that nobody has open */
        case ENODEV:
            return TUS_EREFUSED;
        default:
            return refusal(errno);
        }
    }
    rv = fstat(*fd, st) != 0 ? errno : judge(st);
    if (rv != APR_SUCCESS) {
        close(*fd);
    }
    return rv;
}

static apr_status_t open_existing(int parent, const char *leaf, int flags, int *fd, struct stat *st)
{
    apr_status_t rv;
    int i;

    for (i = 0, rv = ESTALE; rv == ESTALE && i < LOOKUPS; i++) {
        rv = open_once(parent, leaf, flags, fd, st);
    }
    return rv;
}

apr_status_t tus_beneath_open(int dir, const char *path, int flags, apr_fileperms_t mode, int *fd)
{
    char leaf[NAME_MAX + 1];
    struct stat st;
    int parent;
    apr_status_t rv;

    if (!(flags & O_CREAT)) {
        return tus_beneath_open_stat(dir, path, flags, fd, &st);
    }
    rv = open_parent(dir, path, leaf, &parent);
    if (rv == APR_SUCCESS) {
        rv = open_new(parent, leaf, flags, unix_mode(mode), fd);
        close_parent(dir, parent);
    }
    return rv;
}

apr_status_t tus_beneath_open_stat(int dir, const char *path, int flags, int *fd, struct stat *st)
{
    char leaf[NAME_MAX + 1];
    int parent;
    apr_status_t rv = open_parent(dir, path, leaf, &parent);

    if (rv == APR_SUCCESS) {
        rv = open_existing(parent, leaf, flags, fd, st);
        close_parent(dir, parent);
    }
    return rv;
}

/* APR has a hex digit where the system has an octal one. */
apr_fileperms_t tus_beneath_permissions(unsigned mode)
{
    return (apr_fileperms_t)(((mode & 07000) << 4) | ((mode & 0700) << 2) | ((mode & 070) << 1)
                             | (mode & 07));
}

apr_status_t tus_beneath_chmod(int fd, apr_fileperms_t mode)
{
    return fchmod(fd, unix_mode(mode)) == 0 ? APR_SUCCESS : errno;
}

apr_status_t tus_beneath_stat(int dir, const char *path, struct stat *st)
{
    char leaf[NAME_MAX + 1];
    int parent, i;
    apr_status_t rv = open_parent(dir, path, leaf, &parent);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    for (i = 0, rv = ESTALE; rv == ESTALE && i < LOOKUPS; i++) {
        rv = fstatat(parent, leaf, st, AT_SYMLINK_NOFOLLOW) != 0 ? errno : judge(st);
    }
    close_parent(dir, parent);
    return rv;
}

apr_status_t tus_beneath_remove(int dir, const char *path)
{
    char leaf[NAME_MAX + 1];
    int parent;
    apr_status_t rv = open_parent(dir, path, leaf, &parent);

    if (APR_STATUS_IS_ENOENT(rv)) {
        return APR_SUCCESS;
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = unlinkat(parent, leaf, 0) == 0 || errno == ENOENT ? APR_SUCCESS : errno;
    close_parent(dir, parent);
    return rv;
}

apr_status_t tus_beneath_readlink(int dir, const char *path, char text[APR_PATH_MAX])
{
    char leaf[NAME_MAX + 1];
    int parent;
    ssize_t len;
    apr_status_t rv = open_parent(dir, path, leaf, &parent);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    len = readlinkat(parent, leaf, text, APR_PATH_MAX);
    rv = len < 0 ? errno : len == APR_PATH_MAX ? APR_ENAMETOOLONG : APR_SUCCESS;
    if (rv == APR_SUCCESS) {
        text[len] = '\0';
    }
    close_parent(dir, parent);
    return rv;
}

apr_status_t tus_beneath_write(int fd, apr_off_t offset, const char *data, apr_size_t len,
                               apr_size_t *done)
{
    *done = 0;
    while (*done < len) {
        ssize_t n = pwrite(fd, data + *done, len - *done, offset + (apr_off_t)*done);

        if (n > 0) {
            *done += (apr_size_t)n;
        }
        else if (n == 0) {
            return ENOSPC;
        }
        else if (errno != EINTR) {
            return errno;
        }
    }
    return APR_SUCCESS;
}
