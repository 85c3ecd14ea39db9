/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Copying between files, by the quickest way that there is: the file system
 * gives the same blocks to both, or the kernel copies, or we do, where the files
 * lie on different file systems or the kernel is of no help.
 *
 * Each way takes up where the one before left off, so one that fails half-way,
 * or at once, costs a system call.
 */
#include "tus_words.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Between two looks at `cancel`. Multiples of any block size. */
#define CLONE_SLICE (APR_INT64_C(1024) * 1024 * 1024)
#define COPY_SLICE (APR_INT64_C(16) * 1024 * 1024)

/* On the stack, which may be small. */
#define BUFFER_SIZE 32768

/* What is to be copied yet. */
typedef struct copy_t {
    int from, to;
    apr_off_t at;     /* in `from` */
    apr_off_t offset; /* in `to` of what is at 0 in `from` */
    apr_off_t len;
} copy_t;

/* Goes on for a slice. @return APR_ENOTIMPL if it is no way for these files */
typedef apr_status_t (*slice_fn)(copy_t *copy, apr_off_t slice);

static apr_status_t share_slice(copy_t *copy, apr_off_t slice)
{
#ifdef FICLONERANGE
    struct file_clone_range range = { .src_fd = copy->from,
                                      .src_offset = (apr_uint64_t)copy->at,
                                      .src_length = (apr_uint64_t)slice,
                                      .dest_offset = (apr_uint64_t)(copy->offset + copy->at) };

    if (ioctl(copy->to, FICLONERANGE, &range) == 0) {
        copy->at += slice;
        return APR_SUCCESS;
    }
#endif
    return APR_ENOTIMPL; /* what else is wrong, copying will meet too */
}

static int is_no_help(int error)
{
    switch (error) {
    case EXDEV:
    case EINVAL:
    case ENOSYS:
    case EOPNOTSUPP:
    case EPERM: /* of a sandbox */
        return 1;
    default:
        return 0;
    }
}

static apr_status_t hand_slice(copy_t *copy, apr_off_t slice)
{
    const apr_off_t end = copy->at + slice;

    while (copy->at < end) {
        loff_t in = copy->at, out = copy->offset + copy->at;
        ssize_t n = copy_file_range(copy->from, &in, copy->to, &out, (size_t)(end - copy->at), 0);

        if (n > 0) {
            copy->at += n;
        }
        else if (n == 0) {
            return APR_ENOTIMPL; /* the end of the file, or of what this file system can do */
        }
        else if (errno != EINTR) {
            return is_no_help(errno) ? APR_ENOTIMPL : errno;
        }
    }
    return APR_SUCCESS;
}

static apr_status_t carry_slice(copy_t *copy, apr_off_t slice)
{
    const apr_off_t end = copy->at + slice;
    char buffer[BUFFER_SIZE];

    while (copy->at < end) {
        apr_off_t left = end - copy->at;
        ssize_t n =
            pread(copy->from, buffer, left < BUFFER_SIZE ? (size_t)left : BUFFER_SIZE, copy->at);
        apr_size_t done;
        apr_status_t rv;

        if (n == 0) {
            return TUS_EDAMAGED;
        }
        if (n < 0) {
            if (errno == EINTR) {
                continue;
            }
            return errno;
        }
        rv = tus_beneath_write(copy->to, copy->offset + copy->at, buffer, (apr_size_t)n, &done);
        copy->at += (apr_off_t)done;
        if (rv != APR_SUCCESS) {
            return rv;
        }
    }
    return APR_SUCCESS;
}

static apr_status_t copy_by(slice_fn fn, apr_off_t slice, copy_t *copy, const tus_cancel_t *cancel)
{
    apr_status_t rv = APR_SUCCESS;

    while (rv == APR_SUCCESS && copy->at < copy->len) {
        apr_off_t left = copy->len - copy->at;

        if (cancel && cancel->cancelled(cancel->baton)) {
            return APR_EINTR;
        }
        rv = fn(copy, left < slice ? left : slice);
    }
    return rv;
}

apr_status_t tus_copy(int from, int to, apr_off_t offset, apr_off_t len, const tus_cancel_t *cancel)
{
    copy_t copy = { .from = from, .to = to, .offset = offset, .len = len };
    apr_status_t rv = copy_by(share_slice, CLONE_SLICE, &copy, cancel);

    if (APR_STATUS_IS_ENOTIMPL(rv)) {
        rv = copy_by(hand_slice, COPY_SLICE, &copy, cancel);
    }
    if (APR_STATUS_IS_ENOTIMPL(rv)) {
        rv = copy_by(carry_slice, COPY_SLICE, &copy, cancel);
    }
    return rv;
}
