/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Calls that change directories. */
#include "faults.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- open ---------------------------------------------------------------- */

/* The two may come together: then it is counted once, and recorded as what it did. */
static int create(call_t *call, int dir, const char *name, int flags, mode_t mode)
{
    int is_new = faccessat(AT_FDCWD, call->path, F_OK, AT_SYMLINK_NOFOLLOW) != 0;
    int fd;

    if (!begin(call, NULL)) {
        return -1;
    }
    fd = REAL(openat)(dir, name, flags, mode);
    call->fd = fd;
    call->mode = mode;
    call->kind = is_new ? KIND_CREATE : KIND_TRUNCATE;
    end(call, fd >= 0 && (is_new || flags & O_TRUNC));
    return fd;
}

static int open_at(int dir, const char *name, int flags, mode_t mode)
{
    call_t call;

    if (flags & (O_CREAT | O_TRUNC) && meant_name(&call, KIND_CREATE, dir, name)) {
        return create(&call, dir, name, flags, mode);
    }
    return REAL(openat)(dir, name, flags, mode);
}

static mode_t mode_of(int flags, va_list *arguments)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(*arguments, mode_t) : 0;
}

int open(const char *name, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = mode_of(flags, &arguments);
    va_end(arguments);
    return open_at(AT_FDCWD, name, flags, mode);
}

int openat(int dir, const char *name, int flags, ...)
{
    va_list arguments;
    mode_t mode;

    va_start(arguments, flags);
    mode = mode_of(flags, &arguments);
    va_end(arguments);
    return open_at(dir, name, flags, mode);
}

/* The same where off_t has 64 bits anyway. */
int open64(const char *name, int flags, ...) __attribute__((alias("open")));
int openat64(int dir, const char *name, int flags, ...) __attribute__((alias("openat")));

/* ---- the others ---------------------------------------------------------- */

/* What a call does besides: two names, or one and a number. */
typedef struct names_t {
    int from_dir;
    const char *from;
    int dir;
    const char *name;
    int flags;
} names_t;

typedef int (*names_fn)(const names_t *names);

static int see(call_t *call, names_fn fn, const names_t *names)
{
    int rv;

    if (!begin(call, NULL)) {
        return -1;
    }
    rv = fn(names);
    end(call, rv == 0);
    return rv;
}

static int real_rename(const names_t *names)
{
    return REAL(renameat2)(names->from_dir, names->from, names->dir, names->name,
                           (unsigned)names->flags);
}

static int real_link(const names_t *names)
{
    return REAL(linkat)(names->from_dir, names->from, names->dir, names->name, names->flags);
}

static int real_symlink(const names_t *names)
{
    return REAL(symlinkat)(names->from, names->dir, names->name);
}

static int real_unlink(const names_t *names)
{
    return REAL(unlinkat)(names->dir, names->name, names->flags);
}

static int real_mkdir(const names_t *names)
{
    return REAL(mkdirat)(names->dir, names->name, (mode_t)names->flags);
}

int renameat2(int from_dir, const char *from, int dir, const char *name, unsigned flags)
{
    const names_t names = { from_dir, from, dir, name, (int)flags };
    call_t call;

    if (!meant_name(&call, KIND_RENAME, dir, name)) {
        return real_rename(&names);
    }
    full_path(call.to, from_dir, from);
    return see(&call, real_rename, &names);
}

int renameat(int from_dir, const char *from, int dir, const char *name)
{
    return renameat2(from_dir, from, dir, name, 0);
}

int rename(const char *from, const char *name)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, name);
}

int linkat(int from_dir, const char *from, int dir, const char *name, int flags)
{
    const names_t names = { from_dir, from, dir, name, flags };
    call_t call;

    if (!meant_name(&call, KIND_LINK, dir, name)) {
        return real_link(&names);
    }
    full_path(call.to, from_dir, from);
    return see(&call, real_link, &names);
}

int link(const char *from, const char *name)
{
    return linkat(AT_FDCWD, from, AT_FDCWD, name, 0);
}

int symlinkat(const char *text, int dir, const char *name)
{
    const names_t names = { AT_FDCWD, text, dir, name, 0 };
    call_t call;

    if (!meant_name(&call, KIND_SYMLINK, dir, name)) {
        return real_symlink(&names);
    }
    snprintf(call.to, sizeof(call.to), "%s", text);
    return see(&call, real_symlink, &names);
}

int symlink(const char *text, const char *name)
{
    return symlinkat(text, AT_FDCWD, name);
}

int unlinkat(int dir, const char *name, int flags)
{
    const names_t names = { AT_FDCWD, NULL, dir, name, flags };
    call_t call;

    return meant_name(&call, KIND_UNLINK, dir, name) ? see(&call, real_unlink, &names)
                                                     : real_unlink(&names);
}

int unlink(const char *name)
{
    return unlinkat(AT_FDCWD, name, 0);
}

int mkdirat(int dir, const char *name, mode_t mode)
{
    const names_t names = { AT_FDCWD, NULL, dir, name, (int)mode };
    call_t call;

    if (!meant_name(&call, KIND_MKDIR, dir, name)) {
        return real_mkdir(&names);
    }
    call.mode = mode;
    return see(&call, real_mkdir, &names);
}

int mkdir(const char *name, mode_t mode)
{
    return mkdirat(AT_FDCWD, name, mode);
}
