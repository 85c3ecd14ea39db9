/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The input is a path beneath a store that has links, a FIFO and other traps in it. */
#include "fuzz.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static int store;

static void make_store(apr_pool_t *p)
{
    fuzz_mkdir("store");
    fuzz_mkdir("store/d");
    fuzz_mkdir("store/d/e");
    fuzz_mkdir("out");
    fuzz_put("out/secret", "secret", 6);
    fuzz_put("out/two", "secret", 6);
    fuzz_put("store/a", "a", 1);
    fuzz_put("store/d/b", "b", 1);
    fuzz_put("store/d/e/c", "c", 1);
    HOLDS(symlink("../out", fuzz_path("store/l", p)) == 0);
    HOLDS(symlink("../../out/secret", fuzz_path("store/d/l", p)) == 0);
    HOLDS(symlink("b", fuzz_path("store/d/m", p)) == 0);
    HOLDS(symlink("nowhere", fuzz_path("store/n", p)) == 0);
    HOLDS(link(fuzz_path("out/two", p), fuzz_path("store/h", p)) == 0);
    HOLDS(mkfifo(fuzz_path("store/f", p), S_IRWXU) == 0);
}

static int is_ours(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 1;
}

/* What was opened is what the path says, letter by letter. */
static void open_file(const char *path, const char *full)
{
    struct stat st;
    int fd = -1;
    apr_status_t rv = tus_beneath_open(store, path, O_RDWR, 0, &fd);

    HOLDS((tus_beneath_stat(store, path, &st) == APR_SUCCESS) == (rv == APR_SUCCESS));
    if (rv == APR_SUCCESS) {
        HOLDS(is_ours(fd) && fuzz_leads_to(fd, full));
        close(fd);
    }
}

static void open_dir(const char *path, const char *full)
{
    int fd = -1;

    if (tus_beneath_dir(store, path, &fd) == APR_SUCCESS) {
        HOLDS(fuzz_leads_to(fd, full));
        close(fd);
    }
}

static void read_link(const char *path, const char *full)
{
    char text[APR_PATH_MAX];
    struct stat st;

    if (tus_beneath_readlink(store, path, text) == APR_SUCCESS) {
        HOLDS(lstat(full, &st) == 0 && S_ISLNK(st.st_mode));
    }
}

/* A new file lies there, and there alone; and it can be removed again. */
static void make_file(const char *path, const char *full)
{
    int fd = -1;

    if (tus_beneath_open(store, path, O_RDWR | O_CREAT, APR_FPROT_UREAD, &fd) != APR_SUCCESS) {
        return;
    }
    HOLDS(is_ours(fd) && fuzz_leads_to(fd, full));
    close(fd);
    HOLDS(tus_beneath_remove(store, path) == APR_SUCCESS);
    HOLDS(access(full, F_OK) != 0 && errno == ENOENT);
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *path = fuzz_text(data, len, p);
    const char *full = apr_pstrcat(p, fuzz_path("store/", p), path, NULL);

    if (access(fuzz_path("store", p), F_OK) != 0) {
        make_store(p);
    }
    store = open(fuzz_path("store", p), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    HOLDS(store >= 0);
    open_file(path, full);
    open_dir(path, full);
    read_link(path, full);
    make_file(path, full);
    close(store);
    HOLDS(access(fuzz_path("out/secret", p), F_OK) == 0);
}
