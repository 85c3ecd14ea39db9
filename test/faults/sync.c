/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Calls that make changes durable; modes and locks. */
#include "faults.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* With an int for all: what a call is about besides the file, if anything. */
typedef int (*call_fn)(int fd, int argument);

static int see(call_t *call, call_fn fn, int argument)
{
    int rv;

    if (!begin(call, NULL)) {
        return -1;
    }
    rv = fn(call->fd, argument);
    end(call, rv == 0);
    return rv;
}

static int real_fsync(int fd, int argument)
{
    (void)argument;
    return REAL(fsync)(fd);
}

static int real_fdatasync(int fd, int argument)
{
    (void)argument;
    return REAL(fdatasync)(fd);
}

static int real_syncfs(int fd, int argument)
{
    (void)argument;
    return REAL(syncfs)(fd);
}

static int real_fchmod(int fd, int mode)
{
    return REAL(fchmod)(fd, (mode_t)mode);
}

static int real_flock(int fd, int operation)
{
    return REAL(flock)(fd, operation);
}

int fsync(int fd)
{
    call_t call;

    return meant_fd(&call, KIND_SYNC, fd) ? see(&call, real_fsync, 0) : REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    call_t call;

    return meant_fd(&call, KIND_DATASYNC, fd) ? see(&call, real_fdatasync, 0) : REAL(fdatasync)(fd);
}

int syncfs(int fd)
{
    call_t call;

    return meant_fd(&call, KIND_SYNCALL, fd) ? see(&call, real_syncfs, 0) : REAL(syncfs)(fd);
}

int fchmod(int fd, mode_t mode)
{
    call_t call;

    if (!meant_fd(&call, KIND_MODE, fd)) {
        return REAL(fchmod)(fd, mode);
    }
    call.mode = mode;
    return see(&call, real_fchmod, (int)mode);
}

int flock(int fd, int operation)
{
    call_t call;

    return meant_fd(&call, KIND_LOCK, fd) ? see(&call, real_flock, operation)
                                          : REAL(flock)(fd, operation);
}
