/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Calls that change the bytes of a file. */
#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

/* Where write() is about to write. */
static off_t position(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    return lseek(fd, 0, flags & O_APPEND ? SEEK_END : SEEK_CUR);
}

static ssize_t stored(call_t *call, ssize_t n)
{
    call->kind = KIND_WRITE; /* however it came */
    call->len = n > 0 ? (size_t)n : 0;
    end(call, n > 0);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t offset)
{
    call_t call;

    if (!meant_fd(&call, KIND_WRITE, fd)) {
        return REAL(pwrite)(fd, data, len, offset);
    }
    call.data = data;
    call.offset = offset;
    return begin(&call, &len) ? stored(&call, REAL(pwrite)(fd, data, len, offset)) : -1;
}

ssize_t write(int fd, const void *data, size_t len)
{
    call_t call;

    if (!meant_fd(&call, KIND_WRITE, fd)) {
        return REAL(write)(fd, data, len);
    }
    call.data = data;
    call.offset = position(fd);
    return begin(&call, &len) ? stored(&call, REAL(write)(fd, data, len)) : -1;
}

/* As so many calls of write(), which is how it may be understood. */
ssize_t writev(int fd, const struct iovec *parts, int count)
{
    call_t call;
    ssize_t sum = 0;

    if (!meant_fd(&call, KIND_WRITE, fd)) {
        return REAL(writev)(fd, parts, count);
    }
    for (int i = 0; i < count; i++) {
        ssize_t n = write(fd, parts[i].iov_base, parts[i].iov_len);

        if (n < 0) {
            return sum ? sum : -1;
        }
        sum += n;
        if ((size_t)n < parts[i].iov_len) {
            break;
        }
    }
    return sum;
}

ssize_t copy_file_range(int in, off64_t *from, int fd, off64_t *offset, size_t len, unsigned flags)
{
    call_t call;

    if (!meant_fd(&call, KIND_COPY, fd)) {
        return REAL(copy_file_range)(in, from, fd, offset, len, flags);
    }
    call.offset = offset ? *offset : position(fd);
    return begin(&call, &len)
               ? stored(&call, REAL(copy_file_range)(in, from, fd, offset, len, flags))
               : -1;
}

ssize_t splice(int in, off64_t *from, int fd, off64_t *offset, size_t len, unsigned flags)
{
    call_t call;

    if (!meant_fd(&call, KIND_WRITE, fd)) {
        return REAL(splice)(in, from, fd, offset, len, flags);
    }
    call.offset = offset ? *offset : position(fd);
    return begin(&call, &len) ? stored(&call, REAL(splice)(in, from, fd, offset, len, flags)) : -1;
}

int ftruncate(int fd, off_t size)
{
    call_t call;
    int rv;

    if (!meant_fd(&call, KIND_TRUNCATE, fd)) {
        return REAL(ftruncate)(fd, size);
    }
    call.offset = size;
    if (!begin(&call, NULL)) {
        return -1;
    }
    rv = REAL(ftruncate)(fd, size);
    end(&call, rv == 0);
    return rv;
}

/* The same where off_t has 64 bits anyway. */
_Static_assert(sizeof(off_t) == sizeof(off64_t), "off_t has 64 bits");
ssize_t pwrite64(int fd, const void *data, size_t len, off64_t offset)
    __attribute__((alias("pwrite")));
int ftruncate64(int fd, off64_t size) __attribute__((alias("ftruncate")));

static int share(int fd, const struct file_clone_range *range)
{
    call_t call;
    int rv;

    if (!meant_fd(&call, KIND_SHARE, fd)) {
        return REAL(ioctl)(fd, FICLONERANGE, range);
    }
    call.offset = (off_t)range->dest_offset;
    if (!begin(&call, NULL)) {
        return -1;
    }
    rv = REAL(ioctl)(fd, FICLONERANGE, range);
    stored(&call, rv == 0 ? (ssize_t)range->src_length : -1);
    return rv;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    void *argument;

    va_start(arguments, request);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    return request == FICLONERANGE ? share(fd, argument) : REAL(ioctl)(fd, request, argument);
}
