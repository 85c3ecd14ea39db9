/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Which calls are meant, and what becomes of them. */
#include "faults.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SWEEP_LOCK "/fold.lock"

static control_t *shared;
static __thread unsigned who = WHO_REQUEST;

void *find_real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);

    if (!found) {
        abort();
    }
    return found;
}

/* Before httpd gives up root: children share the mapping of their parent. */
__attribute__((constructor)) static void open_control(void)
{
    const char *path = getenv("FAULTS");
    void *map = MAP_FAILED;
    int fd = path ? REAL(open)(path, O_RDWR | O_CLOEXEC) : -1;

    if (fd >= 0) {
        map = mmap(NULL, sizeof(control_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
    }
    if (map != MAP_FAILED) {
        shared = map;
    }
}

control_t *control(void)
{
    return shared;
}

static int is_active(void)
{
    return shared && (shared->armed || shared->recording);
}

/* ---- what is meant ------------------------------------------------------- */

static void path_of_fd(char path[MAX_PATH], int fd)
{
    char link[64];
    ssize_t len;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    len = readlink(link, path, MAX_PATH - 1);
    path[len > 0 ? len : 0] = '\0';
}

void full_path(char path[MAX_PATH], int dir, const char *name)
{
    size_t len;

    path[0] = '\0';
    if (name[0] != '/' && dir == AT_FDCWD && !getcwd(path, MAX_PATH)) {
        return;
    }
    if (name[0] != '/' && dir != AT_FDCWD) {
        path_of_fd(path, dir);
    }
    len = strlen(path);
    snprintf(path + len, MAX_PATH - len, "%s%s", name[0] == '/' ? "" : "/", name);
}

/* A root's own name stands in a directory that is not meant. */
static int is_below(const char *path, int or_same)
{
    for (int i = 0; i < MAX_ROOTS; i++) {
        size_t len = strlen(shared->roots[i]);

        if (len && strncmp(path, shared->roots[i], len) == 0
            && (path[len] == '/' || (or_same && path[len] == '\0'))) {
            return 1;
        }
    }
    return 0;
}

static void begin_call(call_t *call, kind_e kind, int fd)
{
    call->kind = kind;
    call->fd = fd;
    call->to[0] = '\0';
    call->mode = 0;
    call->offset = 0;
    call->len = 0;
    call->data = NULL;
    call->dies = 0;
}

int meant_fd(call_t *call, kind_e kind, int fd)
{
    if (!is_active()) {
        return 0;
    }
    begin_call(call, kind, fd);
    path_of_fd(call->path, fd);
    return is_below(call->path, 1);
}

static int ends_with(const char *text, const char *end)
{
    size_t len = strlen(text), end_len = strlen(end);

    return len >= end_len && strcmp(text + len - end_len, end) == 0;
}

int meant_name(call_t *call, kind_e kind, int dir, const char *name)
{
    if (kind == KIND_CREATE && ends_with(name, SWEEP_LOCK)) {
        who = WHO_SWEEP;
    }
    if (!is_active()) {
        return 0;
    }
    begin_call(call, kind, -1);
    full_path(call->path, dir, name);
    return is_below(call->path, 0);
}

/* ---- what becomes of it -------------------------------------------------- */

static void wait_for_disarm(void)
{
    while (__atomic_load_n(&shared->armed, __ATOMIC_SEQ_CST)) {
        usleep(1000);
    }
}

static void die(void)
{
    for (;;) {
        kill(getpid(), SIGKILL);
    }
}

/* The number of this call if it is hit, or 0. */
static uint32_t count(const call_t *call)
{
    uint32_t number;

    if (!shared->armed || !(shared->kinds & 1u << call->kind) || !(shared->who & who)
        || !ends_with(call->path, shared->suffix)) {
        return 0;
    }
    number = __atomic_add_fetch(&shared->count, 1, __ATOMIC_SEQ_CST);
    if (shared->action == ACTION_NONE || number < shared->first || number > shared->last) {
        return 0;
    }
    if (__atomic_add_fetch(&shared->hits, 1, __ATOMIC_SEQ_CST) == 1) {
        shared->hit_kind = call->kind;
        snprintf(shared->hit_path, sizeof(shared->hit_path), "%s", call->path);
    }
    return number;
}

int begin(call_t *call, size_t *len)
{
    uint32_t number = count(call);

    if (!number) {
        return 1;
    }
    switch (shared->action) {
    case ACTION_DIE_BEFORE:
        die();
        break;
    case ACTION_DIE_AFTER:
        call->dies = 1;
        return 1;
    case ACTION_WAIT:
        wait_for_disarm();
        return 1;
    case ACTION_SHORT:
        if (number == shared->first && len && *len > 1) {
            *len /= 2;
            return 1;
        }
        break;
    default:
        break;
    }
    errno = shared->error;
    return 0;
}

void end(const call_t *call, int changed)
{
    int error = errno;

    if (changed && shared->recording) {
        write_record(call);
    }
    if (call->dies) {
        die();
    }
    errno = error;
}
