/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "fuzz.h"

#include <apr_general.h>
#include <apr_strings.h>
#include <jansson.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[PATH_MAX];
static pid_t owner; /* of it, and no process that is forked from that */

void fuzz_fail(const char *property, const char *file, int line)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, property);
    abort();
}

/* How many of the first descriptors are open: one call, and no list of them to read. */
static int open_descriptors(void)
{
    struct pollfd fds[64];
    int count = 0, i;

    for (i = 0; i < 64; i++) {
        fds[i] = (struct pollfd){ .fd = i };
    }
    HOLDS(poll(fds, 64, 0) >= 0);
    for (i = 0; i < 64; i++) {
        count += !(fds[i].revents & POLLNVAL);
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int is_initialized;
    apr_pool_t *p;
    int descriptors;

    if (!is_initialized) {
        HOLDS(apr_initialize() == APR_SUCCESS);
        fuzz_dir();
        is_initialized = 1;
    }
    descriptors = open_descriptors();
    HOLDS(apr_pool_create(&p, NULL) == APR_SUCCESS);
    fuzz((const char *)data, size, p);
    apr_pool_destroy(p);
    HOLDS(open_descriptors() == descriptors);
    return 0;
}

/* ---- inputs -------------------------------------------------------------- */

char *fuzz_text(const char *data, apr_size_t len, apr_pool_t *p)
{
    return apr_pstrndup(p, len > 0 ? data : "", len);
}

char *fuzz_line(const char **data, apr_size_t *len, apr_pool_t *p)
{
    const char *newline = *len > 0 ? memchr(*data, '\n', *len) : NULL;
    apr_size_t line_len = newline ? (apr_size_t)(newline - *data) : *len;
    char *line = fuzz_text(*data, line_len, p);

    *data += line_len + (newline != NULL);
    *len -= line_len + (newline != NULL);
    return line;
}

char *fuzz_padding(const char **data, apr_size_t *len, apr_size_t *lines, apr_pool_t *p)
{
    char *padding;

    *lines = *len > 1 ? (apr_size_t)(unsigned char)**data << 8 | (unsigned char)(*data)[1] : 0;
    *data += *len > 1 ? 2 : 0;
    *len -= *len > 1 ? 2 : 0;
    padding = apr_palloc(p, *lines);
    return memset(padding, '\n', *lines);
}

/* ---- properties ---------------------------------------------------------- */

int fuzz_same(const char *one, const char *other)
{
    return one && other ? strcmp(one, other) == 0 : one == other;
}

int fuzz_is_header(const char *text)
{
    for (; *text; text++) {
        if (((unsigned char)*text < ' ' && *text != '\t') || *text == 0x7f) {
            return 0;
        }
    }
    return 1;
}

static int is_utf8(const char *text)
{
    json_t *json = json_string(text);

    json_decref(json);
    return json != NULL;
}

int fuzz_is_error(const tus_error_t *error, tus_err_e err)
{
    return error->err == err && error->status >= 400 && error->status < 500 && error->message
           && *error->message && fuzz_is_header(error->message) && is_utf8(error->message);
}

int fuzz_is_name(const char *name, apr_size_t max)
{
    for (;;) {
        apr_size_t len = strcspn(name, "/");

        if (len < 1 || len > max || name[0] == '.'
            || (len >= 5 && strncasecmp(name + len - 5, ".info", 5) == 0)) {
            return 0;
        }
        if (name[len] == '\0') {
            return 1;
        }
        name += len + 1;
    }
}

int fuzz_leads_to(int fd, const char *path)
{
    char name[64], found[PATH_MAX];
    ssize_t len;

    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    len = readlink(name, found, sizeof(found));
    return len == (ssize_t)strlen(path) && memcmp(found, path, (size_t)len) == 0;
}

/* ---- files --------------------------------------------------------------- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static void remove_all(const char *path)
{
    HOLDS(nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0 || errno == ENOENT);
}

static void remove_dir(void)
{
    if (owner == getpid()) {
        remove_all(dir);
    }
}

/* In memory, where there is such a place: some thousand inputs a second want a file. */
const char *fuzz_dir(void)
{
    const char *temp = getenv("TMPDIR");

    if (!*dir) {
        if (!temp) {
            temp = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
        }
        snprintf(dir, sizeof(dir), "%s/tus-fuzz-XXXXXX", temp);
        HOLDS(mkdtemp(dir) != NULL);
        owner = getpid();
        atexit(remove_dir);
    }
    return dir;
}

void fuzz_clear(void)
{
    remove_all(fuzz_dir());
    HOLDS(mkdir(dir, S_IRWXU) == 0);
}

const char *fuzz_path(const char *name, apr_pool_t *p)
{
    return apr_pstrcat(p, fuzz_dir(), "/", name, NULL);
}

static const char *path_of(const char *name)
{
    static char path[PATH_MAX];

    HOLDS(snprintf(path, sizeof(path), "%s/%s", fuzz_dir(), name) < (int)sizeof(path));
    return path;
}

void fuzz_mkdir(const char *name)
{
    HOLDS(mkdir(path_of(name), S_IRWXU) == 0 || errno == EEXIST);
}

void fuzz_put(const char *name, const char *data, apr_size_t len)
{
    int fd = open(path_of(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);

    HOLDS(fd >= 0);
    HOLDS(write(fd, data, len) == (ssize_t)len);
    close(fd);
}

const char *fuzz_get(const char *name, apr_size_t *len, apr_pool_t *p)
{
    int fd = open(path_of(name), O_RDONLY | O_CLOEXEC);
    struct stat st;
    char *data;

    HOLDS(fd >= 0 && fstat(fd, &st) == 0);
    *len = (apr_size_t)st.st_size;
    data = apr_pcalloc(p, *len + 1);
    HOLDS(read(fd, data, *len) == st.st_size);
    close(fd);
    return data;
}

void fuzz_remove(const char *name)
{
    remove_all(path_of(name));
}
