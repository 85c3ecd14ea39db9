/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Rebuilding an index by a scan of all records, in slices and while serving.
 *
 *   rebuild      a line "=ID" for each record that the scan found; the mark of the
 *                index vouches for it too
 *   rebuild.at   how far in it the slices have come
 *
 * The names are listed at once, for a directory that changes has no place to
 * come back to. What is made or changed meanwhile stands in the journal.
 */
#include "tus_words.h"

#include <apr_strings.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEPTH_MAX 8
#define INFO ".info"
#define CANCEL_CHECK 1024 /* names between two looks */

typedef struct scan_t {
    apr_file_t *list;
    const tus_cancel_t *cancel;
    unsigned names;
    char id[TUS_ID_MAX + NAME_MAX + 2]; /* what leads to the name at hand */
} scan_t;

/* ---- listing ------------------------------------------------------------- */

static int is_cancelled(scan_t *scan)
{
    return ++scan->names % CANCEL_CHECK == 0 && scan->cancel
           && scan->cancel->cancelled(scan->cancel->baton);
}

static apr_status_t list_record(scan_t *scan)
{
    apr_size_t len = strlen(scan->id), info = strlen(INFO);
    apr_status_t rv;

    if (len <= info || strcmp(scan->id + len - info, INFO) != 0) {
        return APR_SUCCESS;
    }
    scan->id[len - info] = '\0';
    if (!tus_id_is_valid(scan->id)) {
        return APR_SUCCESS;
    }
    rv = apr_file_putc('=', scan->list);
    if (rv == APR_SUCCESS) {
        rv = apr_file_puts(scan->id, scan->list);
    }
    return rv == APR_SUCCESS ? apr_file_putc('\n', scan->list) : rv;
}

static apr_status_t scan_dir(scan_t *scan, int fd, int depth);

/* What is no directory of this store, or was one, or may not be read, has no records. */
static apr_status_t descend(scan_t *scan, int dir, const char *name, int depth)
{
    int fd;
    apr_status_t rv = tus_beneath_dir(dir, name, &fd);

    if (rv == TUS_EREFUSED || APR_STATUS_IS_ENOENT(rv) || APR_STATUS_IS_EACCES(rv)) {
        return APR_SUCCESS;
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    strcat(scan->id, "/");
    return scan_dir(scan, fd, depth);
}

static apr_status_t scan_name(scan_t *scan, int dir, const struct dirent *name, int depth)
{
    apr_size_t len = strlen(scan->id);
    apr_status_t rv = APR_SUCCESS;

    if (is_cancelled(scan)) {
        return APR_EINTR;
    }
    if (name->d_name[0] == '.' || len > TUS_ID_MAX) {
        return APR_SUCCESS;
    }
    apr_cpystrn(scan->id + len, name->d_name, sizeof(scan->id) - len - 1);
    if ((name->d_type == DT_DIR || name->d_type == DT_UNKNOWN) && depth < DEPTH_MAX) {
        rv = descend(scan, dir, name->d_name, depth + 1);
        scan->id[len + strlen(name->d_name)] = '\0';
    }
    if (rv == APR_SUCCESS && (name->d_type == DT_REG || name->d_type == DT_UNKNOWN)) {
        rv = list_record(scan);
    }
    scan->id[len] = '\0';
    return rv;
}

/* Closes fd. */
static apr_status_t scan_dir(scan_t *scan, int fd, int depth)
{
    apr_status_t rv = APR_SUCCESS;
    struct dirent *name;
    DIR *dir = fdopendir(fd);

    if (!dir) {
        rv = errno;
        close(fd);
        return rv;
    }
    while (rv == APR_SUCCESS) {
        errno = 0;
        name = readdir(dir);
        if (!name) {
            rv = errno;
            break;
        }
        rv = scan_name(scan, fd, name, depth);
    }
    closedir(dir);
    return rv;
}

static apr_status_t list_records(const char *path, int records, const tus_cancel_t *cancel,
                                 apr_pool_t *p)
{
    scan_t scan = { .cancel = cancel };
    apr_status_t rv, close_rv;
    int fd;

    rv = apr_file_open(&scan.list, path,
                       APR_FOPEN_WRITE | APR_FOPEN_CREATE | APR_FOPEN_TRUNCATE | APR_FOPEN_BUFFERED
                           | APR_FOPEN_BINARY,
                       APR_FPROT_UREAD | APR_FPROT_UWRITE, p);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (records != -1) {
        /* Not dup(): that would share the place in the directory with others. */
        fd = openat(records, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        rv = fd < 0 ? errno : scan_dir(&scan, fd, 0);
    }
    close_rv = apr_file_close(scan.list);
    return rv == APR_SUCCESS ? close_rv : rv;
}

static const char *list_path(const char *state_dir, apr_pool_t *p)
{
    return apr_pstrcat(p, state_dir, "/" TUS_REBUILD_LIST, NULL);
}

static const char *at_path(const char *state_dir, apr_pool_t *p)
{
    return apr_pstrcat(p, state_dir, "/" TUS_REBUILD_LIST ".at", NULL);
}

apr_status_t tus_rebuild_start(const char *state_dir, int records, const tus_cancel_t *cancel,
                               apr_pool_t *p)
{
    const char *list = list_path(state_dir, p);
    const char *temp = apr_pstrcat(p, list, ".tmp", NULL);
    apr_status_t rv = list_records(temp, records, cancel, p);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = tus_small_remove(at_path(state_dir, p));
    if (rv != APR_SUCCESS) {
        return rv;
    }
    return rename(temp, list) == 0 ? APR_SUCCESS : errno;
}

/* ---- slices -------------------------------------------------------------- */

/* Zeros in front, so that each position overwrites the one before. */
#define AT_FORMAT "%020" APR_OFF_T_FMT
#define AT_LEN 20

/* Nothing is lost by starting over, where it does not tell a place in the list. */
static apr_off_t read_at(int fd, int list)
{
    char text[AT_LEN + 1];
    struct stat st;
    apr_off_t at;
    char *end;

    if (pread(fd, text, AT_LEN, 0) != AT_LEN || fstat(list, &st) != 0) {
        return 0;
    }
    text[AT_LEN] = '\0';
    if (apr_strtoff(&at, text, &end, 10) != APR_SUCCESS || *end != '\0' || at < 0
        || at > st.st_size) {
        return 0;
    }
    return at;
}

static apr_status_t write_at(int fd, apr_off_t at)
{
    char text[AT_LEN + 1];
    apr_size_t done;

    apr_snprintf(text, sizeof(text), AT_FORMAT, at);
    return tus_beneath_write(fd, 0, text, AT_LEN, &done);
}

static apr_status_t do_slice(int list, int at, const char *journal, tus_noted_fn fn, void *baton,
                             apr_pool_t *p)
{
    apr_off_t from = read_at(at, list), to = from;
    apr_array_header_t *noted;
    int listed;
    apr_status_t rv = tus_journal_read(list, &to, &noted, p);

    if (rv != APR_SUCCESS || to == from) {
        return rv == APR_SUCCESS ? APR_EOF : rv;
    }
    listed = noted->nelts;
    rv = listed > 0 ? fn(baton, noted, p) : APR_SUCCESS;
    if (rv == APR_SUCCESS && noted->nelts < listed) {
        to = noted->nelts > 0 ? APR_ARRAY_IDX(noted, noted->nelts - 1, tus_noted_t).end : from;
    }
    if (rv == APR_SUCCESS) {
        rv = tus_journal_carry(journal, noted, p);
    }
    if (rv == APR_SUCCESS) {
        rv = write_at(at, to);
    }
    return rv == APR_SUCCESS ? APR_INCOMPLETE : rv;
}

apr_status_t tus_rebuild_slice(const char *state_dir, const char *journal, tus_noted_fn fn,
                               void *baton, apr_pool_t *p)
{
    int list = open(list_path(state_dir, p), O_RDONLY | O_CLOEXEC);
    apr_status_t rv;
    int at;

    if (list < 0) {
        return errno == ENOENT ? APR_SUCCESS : errno;
    }
    at = open(at_path(state_dir, p), O_RDWR | O_CREAT | O_CLOEXEC, S_IRUSR | S_IWUSR);
    rv = at < 0 ? errno : do_slice(list, at, journal, fn, baton, p);
    close(list);
    if (at >= 0) {
        close(at);
    }
    return rv;
}

apr_status_t tus_rebuild_end(const char *state_dir, apr_pool_t *p)
{
    apr_status_t rv = tus_small_remove(list_path(state_dir, p));

    return rv == APR_SUCCESS ? tus_small_remove(at_path(state_dir, p)) : rv;
}
