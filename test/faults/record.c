/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The log: one write for each call, so that processes do not mix theirs. */
#include "faults.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int log_fd = -1;

__attribute__((constructor)) static void open_log(void)
{
    const char *path = getenv("FAULTS");
    char name[MAX_PATH];

    if (path) {
        snprintf(name, sizeof(name), "%s.log", path);
        log_fd = REAL(open)(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    }
}

/* Of an open file, or of the name. */
static uint64_t inode_of(const call_t *call)
{
    struct stat st;
    int rv = call->fd >= 0 ? fstat(call->fd, &st) : lstat(call->path, &st);

    return rv == 0 ? st.st_ino : 0;
}

static char *append(char *at, const void *bytes, size_t len)
{
    memcpy(at, bytes, len);
    return at + len;
}

/* What the kernel copied was never in our memory. */
static char *append_data(char *at, const call_t *call)
{
    ssize_t n = (ssize_t)call->len;

    if (call->data) {
        return append(at, call->data, call->len);
    }
    if (call->len) {
        n = pread(call->fd, at, call->len, call->offset);
    }
    return at + (n > 0 ? n : 0);
}

void write_record(const call_t *call)
{
    record_t record = { .kind = call->kind,
                        .path_len = (uint32_t)strlen(call->path),
                        .to_len = (uint32_t)strlen(call->to),
                        .mode = call->mode,
                        .pid = (uint32_t)getpid(),
                        .inode = inode_of(call),
                        .offset = call->offset };
    char *text = malloc(sizeof(record) + record.path_len + record.to_len + call->len);
    char *data, *stop;

    if (!text) {
        abort();
    }
    data = append(text + sizeof(record), call->path, record.path_len);
    data = append(data, call->to, record.to_len);
    stop = append_data(data, call);
    record.data_len = (uint32_t)(stop - data);
    memcpy(text, &record, sizeof(record));
    if (REAL(write)(log_fd, text, (size_t)(stop - text)) != stop - text) {
        abort();
    }
    free(text);
}
