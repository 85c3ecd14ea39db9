/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The directories of the spool, and the times of its files: mtime is when an
 * event is due (when a pending one was written), atime since when it waits.
 */
#include "tus_words.h"

#include <apr_strings.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define SPOOL "spool"

apr_status_t tus_spool_dir_open(const char *state_dir, int *spool)
{
    int dir;
    apr_status_t rv = tus_beneath_dir(-1, state_dir, &dir);

    if (rv == APR_SUCCESS) {
        rv = tus_beneath_dir(dir, SPOOL, spool);
        close(dir);
    }
    return rv;
}

const char *tus_spool_dir_name(int shard, char name[TUS_SPOOL_SHARD_SIZE])
{
    apr_snprintf(name, TUS_SPOOL_SHARD_SIZE, "%02x", (unsigned)shard % TUS_SPOOL_SHARDS);
    return name;
}

apr_status_t tus_spool_dir_shard(int spool, int shard, int *dir)
{
    char name[TUS_SPOOL_SHARD_SIZE];

    return tus_beneath_dir(spool, tus_spool_dir_name(shard, name), dir);
}

/* The lock goes with the handle, or with its process. */
static apr_status_t lock_shard(tus_spool_shard_t *shard)
{
    apr_status_t rv = tus_spool_dir_shard(shard->spool, shard->number, &shard->dir);

    if (rv == APR_SUCCESS && flock(shard->dir, LOCK_EX | LOCK_NB) != 0) {
        rv = errno == EWOULDBLOCK ? APR_EBUSY : errno;
        close(shard->dir);
    }
    return rv;
}

apr_status_t tus_spool_dir_lock(tus_spool_shard_t *shard, const char *state_dir, int number)
{
    apr_status_t rv = tus_spool_dir_open(state_dir, &shard->spool);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    shard->number = number;
    rv = lock_shard(shard);
    if (rv != APR_SUCCESS) {
        close(shard->spool);
    }
    return rv;
}

void tus_spool_dir_unlock(tus_spool_shard_t *shard)
{
    close(shard->dir);
    close(shard->spool);
}

apr_status_t tus_spool_dir_each(int dir, tus_spool_dir_fn fn, void *baton)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    apr_status_t rv;

    if (!list) {
        rv = errno;
        if (fd >= 0) {
            close(fd);
        }
        return rv;
    }
    while ((errno = 0, entry = readdir(list)) != NULL) {
        if (entry->d_name[0] != '.') {
            fn(baton, dir, entry->d_name);
        }
    }
    rv = errno;
    closedir(list);
    return rv;
}

apr_time_t tus_spool_dir_time(const struct timespec *time)
{
    const apr_int64_t max = APR_INT64_MAX / APR_USEC_PER_SEC / 2;

    return time->tv_sec < 0 || time->tv_sec > max
               ? 0
               : apr_time_make(time->tv_sec, time->tv_nsec / 1000);
}

static struct timespec timespec_of(apr_time_t time)
{
    return (struct timespec){ .tv_sec = apr_time_sec(time), .tv_nsec = apr_time_usec(time) * 1000 };
}

static apr_time_t pending_for(const char *name)
{
    return tus_spooled_kind(name) == TUS_SPOOLED_PENDS ? TUS_SPOOL_PENDING : 0;
}

apr_status_t tus_spool_dir_times(int dir, const char *name, tus_spool_times_t *times)
{
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno;
    }
    times->since = tus_spool_dir_time(&st.st_atim);
    times->due = tus_spool_dir_time(&st.st_mtim) + pending_for(name);
    return APR_SUCCESS;
}

apr_status_t tus_spool_dir_set_times(int fd, const char *name, const tus_spool_times_t *times)
{
    const struct timespec both[2] = { timespec_of(times->since),
                                      timespec_of(times->due - pending_for(name)) };

    return futimens(fd, both) == 0 ? APR_SUCCESS : errno;
}
