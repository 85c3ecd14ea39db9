/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The data store "file": STORE/ID has the bytes and nothing else, so the offset
 * of an upload is the size of its file. A record can name another place for it
 * in the store; ID.info lies at the id all the same.
 *
 * A data file is born with the sticky bit, which says nothing to the system but
 * tells us that no record stands for it yet: a file like that, whose id is in
 * our journal, is what a request left that died, and may be removed. confirm()
 * takes the bit away.
 */
#include "tus_words.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct file_store_t {
    tus_store_t base;
    int dir;
    const char *path; /* absolute, as configured */
    apr_fileperms_t file_mode, dir_mode;
} file_store_t;

struct tus_writer_t {
    file_store_t *store;
    const char *id;
    const char *name; /* of the data, beneath the store */
    int fd;           /* -1 once closed */
};

static file_store_t *of(tus_store_t *store)
{
    return (file_store_t *)store;
}

static apr_status_t close_fd(void *fd)
{
    close(*(int *)fd);
    return APR_SUCCESS;
}

/* ---- opening ------------------------------------------------------------- */

static apr_status_t file_open(tus_store_t **result, const tus_place_t *place, apr_pool_t *p)
{
    file_store_t *store = apr_pcalloc(p, sizeof(*store));
    struct stat st;
    apr_status_t rv = tus_locate_dir(place, &store->dir);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    apr_pool_cleanup_register(p, &store->dir, close_fd, apr_pool_cleanup_null);
    if (fstat(store->dir, &st) != 0) {
        return errno;
    }
    store->base.provider = &tus_store_file;
    store->base.identity.device = st.st_dev;
    store->base.identity.inode = st.st_ino;
    store->base.identity.owner = st.st_uid;
    store->path = tus_locate_path(place, p);
    store->file_mode = place->file_mode;
    store->dir_mode = place->dir_mode;
    *result = &store->base;
    return APR_SUCCESS;
}

static const char *fd_path(int fd, apr_pool_t *p)
{
    return apr_psprintf(p, "/proc/self/fd/%d", fd);
}

static apr_status_t file_path(tus_store_t *store, const char **path, apr_pool_t *p)
{
    char buffer[APR_PATH_MAX];
    ssize_t len = readlink(fd_path(of(store)->dir, p), buffer, sizeof(buffer));

    if (len < 0) {
        return errno;
    }
    if (len == sizeof(buffer)) {
        return ENAMETOOLONG;
    }
    *path = apr_pstrmemdup(p, buffer, len);
    return APR_SUCCESS;
}

static apr_status_t file_info_dir(tus_store_t *store, apr_os_file_t *dir)
{
    *dir = of(store)->dir;
    return APR_SUCCESS;
}

/* ---- names --------------------------------------------------------------- */

/* A file where a directory is looked for: there is nothing beneath it. */
static apr_status_t find(apr_status_t rv)
{
    return APR_STATUS_IS_ENOTDIR(rv) ? APR_ENOENT : rv;
}

static apr_status_t open_data(tus_store_t *store, const tus_record_t *record, int flags,
                              const char **name, int *fd)
{
    apr_status_t rv = tus_storage_name(record, name);

    return rv == APR_SUCCESS ? find(tus_beneath_open(of(store)->dir, *name, flags, 0, fd)) : rv;
}

static apr_status_t file_locate(tus_store_t *store, tus_record_t *record, apr_pool_t *p)
{
    const char *dir = of(store)->path, *name;
    apr_status_t rv = tus_storage_name(record, &name);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (strcmp(dir, "/") == 0) {
        dir = "";
    }
    record->storage_type = "filestore";
    record->storage_path = apr_pstrcat(p, dir, "/", name, NULL);
    record->storage_info_path = apr_pstrcat(p, dir, "/", record->id, ".info", NULL);
    return APR_SUCCESS;
}

/* ---- writing ------------------------------------------------------------- */

static apr_status_t close_writer(void *baton)
{
    tus_writer_t *writer = baton;

    if (writer->fd >= 0) {
        close(writer->fd);
        writer->fd = -1;
    }
    return APR_SUCCESS;
}

static tus_writer_t *make_writer(file_store_t *store, const char *id, const char *name, int fd,
                                 apr_pool_t *p)
{
    tus_writer_t *writer = apr_pcalloc(p, sizeof(*writer));

    writer->store = store;
    writer->id = apr_pstrdup(p, id);
    writer->name = apr_pstrdup(p, name);
    writer->fd = fd;
    apr_pool_cleanup_register(p, writer, close_writer, apr_pool_cleanup_null);
    return writer;
}

/* What no name leads to any more is lost on close. */
static apr_status_t stat_writer(const tus_writer_t *writer, struct stat *st)
{
    if (fstat(writer->fd, st) != 0) {
        return errno;
    }
    return st->st_nlink ? APR_SUCCESS : APR_ENOENT;
}

/*
 * flock, not fcntl: it belongs to the open file, so it excludes threads of one
 * process too, and ends with it. Whoever waited may hold a file that has been
 * removed meanwhile, or was given another name: neither is ours to write.
 */
static apr_status_t fence(const tus_writer_t *writer, struct stat *st)
{
    apr_status_t rv;

    if (flock(writer->fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK || errno == EINTR ? APR_EAGAIN : errno;
    }
    rv = stat_writer(writer, st);
    return rv == APR_SUCCESS && st->st_nlink > 1 ? TUS_EREFUSED : rv;
}

static apr_status_t file_confirm(tus_writer_t *writer)
{
    apr_status_t rv = tus_claim_end(writer->store->dir, writer->id, writer->name);

    return rv == APR_SUCCESS ? tus_beneath_chmod(writer->fd, writer->store->file_mode) : rv;
}

/* Its maker may live in another server, whose lock table we do not see: the fence tells. */
static apr_status_t discard(file_store_t *store, const char *name)
{
    struct stat st;
    int fd;
    apr_status_t rv = find(tus_beneath_open(store->dir, name, O_RDWR, 0, &fd));

    if (APR_STATUS_IS_ENOENT(rv)) {
        return APR_SUCCESS;
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 || fstat(fd, &st) != 0) {
        rv = errno;
    }
    else if (st.st_mode & S_ISVTX && st.st_nlink == 1) { /* still the one of that name */
        rv = tus_beneath_remove(store->dir, name);
    }
    close(fd);
    return rv;
}

static apr_status_t file_discard(tus_store_t *store, const char *id)
{
    char name[APR_PATH_MAX];
    apr_status_t rv = find(tus_claim_name(of(store)->dir, id, name));

    if (rv == APR_SUCCESS) {
        rv = discard(of(store), name);
    }
    if (rv == APR_SUCCESS) {
        rv = tus_claim_end(of(store)->dir, id, name);
    }
    return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS : rv;
}

static apr_status_t file_create(tus_store_t *base, const tus_record_t *record,
                                tus_writer_t **writer, apr_pool_t *p)
{
    file_store_t *store = of(base);
    const char *name;
    struct stat st;
    int fd;
    apr_status_t rv = tus_storage_name(record, &name);

    if (rv == APR_SUCCESS) {
        rv = tus_claim(store->dir, record->id, name, store->file_mode | APR_FPROT_WSTICKY,
                       store->dir_mode, &fd);
    }
    if (rv != APR_SUCCESS) {
        return rv;
    }
    *writer = make_writer(store, record->id, name, fd, p);
    rv = fence(*writer, &st); /* whoever tidies up may have been quicker */
    if (rv != APR_SUCCESS) {
        close_writer(*writer);
        file_discard(base, record->id);
    }
    return rv;
}

static apr_status_t file_resume(tus_store_t *store, const tus_record_t *record,
                                tus_writer_t **writer, apr_pool_t *p)
{
    const char *name;
    int fd;
    apr_status_t rv = open_data(store, record, O_RDWR, &name, &fd);

    if (rv == APR_SUCCESS) {
        *writer = make_writer(of(store), record->id, name, fd, p);
    }
    return rv;
}

/* The maker of data that has a record may have died before it could confirm it. */
static apr_status_t file_fence(tus_writer_t *writer)
{
    struct stat st;
    apr_status_t rv = fence(writer, &st);

    if (rv != APR_SUCCESS || !(st.st_mode & S_ISVTX)) {
        return rv;
    }
    rv = tus_claim_end(writer->store->dir, writer->id, writer->name);
    if (rv == APR_SUCCESS && fchmod(writer->fd, st.st_mode & ACCESSPERMS) != 0) {
        rv = errno;
    }
    return rv;
}

static int file_confirmed(tus_store_t *store, const tus_record_t *record, apr_off_t *size)
{
    struct stat st;
    const char *name;

    if (tus_storage_name(record, &name) != APR_SUCCESS
        || tus_beneath_stat(of(store)->dir, name, &st) != APR_SUCCESS || st.st_mode & S_ISVTX) {
        return 0;
    }
    *size = st.st_size;
    return 1;
}

static apr_time_t modified_at(const struct stat *st)
{
    return apr_time_from_sec((apr_time_t)st->st_mtim.tv_sec) + st->st_mtim.tv_nsec / 1000;
}

static apr_status_t file_written(tus_writer_t *writer, apr_off_t *size, apr_time_t *modified)
{
    struct stat st;
    apr_status_t rv = stat_writer(writer, &st);

    if (rv == APR_SUCCESS) {
        *size = st.st_size;
        *modified = modified_at(&st);
    }
    return rv;
}

/* Behind a hole nothing counts. */
static apr_status_t check_start(const tus_writer_t *writer, apr_off_t offset)
{
    struct stat st;
    apr_status_t rv = stat_writer(writer, &st);

    return rv == APR_SUCCESS && st.st_size < offset ? TUS_EDAMAGED : rv;
}

static apr_status_t file_write(tus_writer_t *writer, apr_off_t offset, const char *data,
                               apr_size_t len, apr_size_t *done)
{
    apr_status_t rv = check_start(writer, offset);

    *done = 0;
    return rv == APR_SUCCESS ? tus_beneath_write(writer->fd, offset, data, len, done) : rv;
}

static apr_status_t file_splice(tus_writer_t *writer, apr_off_t offset, apr_os_file_t pipe,
                                apr_size_t len, apr_size_t *done)
{
    loff_t at = offset;
    apr_status_t rv = check_start(writer, offset);

    *done = 0;
    while (rv == APR_SUCCESS && *done < len) {
        ssize_t n = splice(pipe, NULL, writer->fd, &at, len - *done, SPLICE_F_MOVE);

        if (n > 0) {
            *done += (apr_size_t)n;
        }
        else if (n == 0) {
            rv = APR_EOF; /* whoever filled the pipe did not count right */
        }
        else if (errno != EINTR) {
            rv = errno;
        }
    }
    return rv;
}

static apr_status_t file_flush(tus_writer_t *writer)
{
    return fdatasync(writer->fd) == 0 ? APR_SUCCESS : errno;
}

static void file_write_back(tus_writer_t *writer, apr_off_t offset, apr_off_t len)
{
    sync_file_range(writer->fd, offset, len, SYNC_FILE_RANGE_WRITE);
}

static apr_status_t file_close(tus_writer_t *writer)
{
    return close_writer(writer);
}

static apr_status_t file_truncate(tus_writer_t *writer, apr_off_t size)
{
    struct stat st;

    if (fstat(writer->fd, &st) != 0) {
        return errno;
    }
    if (size < 0 || size > st.st_size) {
        return APR_EINVAL;
    }
    return ftruncate(writer->fd, size) == 0 ? APR_SUCCESS : errno;
}

/* ---- joining ------------------------------------------------------------- */

static apr_status_t check_size(int fd, apr_off_t size)
{
    struct stat st;

    if (fstat(fd, &st) != 0) {
        return errno;
    }
    return st.st_size == size ? APR_SUCCESS : TUS_EDAMAGED;
}

/* Nobody is kept from the part meanwhile: what came of it is seen afterwards. */
static apr_status_t append_part(tus_writer_t *writer, const tus_record_t *part,
                                const tus_cancel_t *cancel)
{
    const char *name;
    struct stat st;
    int fd;
    apr_status_t rv = open_data(&writer->store->base, part, O_RDONLY, &name, &fd);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = check_size(fd, part->size);
    if (rv == APR_SUCCESS && fstat(writer->fd, &st) != 0) {
        rv = errno;
    }
    if (rv == APR_SUCCESS) {
        rv = tus_copy(fd, writer->fd, st.st_size, part->size, cancel);
    }
    if (rv == APR_SUCCESS) {
        rv = check_size(fd, part->size);
    }
    close(fd);
    return rv;
}

static apr_status_t file_concat(tus_writer_t *writer, const apr_array_header_t *parts,
                                const tus_cancel_t *cancel)
{
    apr_status_t rv = APR_SUCCESS;

    for (int i = 0; i < parts->nelts && rv == APR_SUCCESS; i++) {
        rv = append_part(writer, APR_ARRAY_IDX(parts, i, const tus_record_t *), cancel);
    }
    return rv;
}

/* ---- reading and removing ------------------------------------------------ */

static apr_status_t file_size(tus_store_t *store, const tus_record_t *record, apr_off_t *size,
                              apr_time_t *modified)
{
    struct stat st;
    const char *name;
    apr_status_t rv = tus_storage_name(record, &name);

    if (rv == APR_SUCCESS) {
        rv = find(tus_beneath_stat(of(store)->dir, name, &st));
    }
    if (rv == APR_SUCCESS) {
        *size = st.st_size;
        *modified = modified_at(&st);
    }
    return rv;
}

/* Opened once more, so that the file is APR's own and can be handed on to another pool. */
static apr_status_t file_read(tus_store_t *store, const tus_record_t *record, apr_int32_t flags,
                              apr_file_t **file, apr_finfo_t *finfo, apr_pool_t *p)
{
    const char *name;
    int fd;
    apr_status_t rv = open_data(store, record, O_RDONLY, &name, &fd);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = apr_file_open(file, fd_path(fd, p), APR_FOPEN_READ | APR_FOPEN_BINARY | flags,
                       APR_FPROT_OS_DEFAULT, p);
    close(fd);
    return rv == APR_SUCCESS ? apr_file_info_get(finfo, APR_FINFO_NORM, *file) : rv;
}

static apr_status_t file_remove(tus_store_t *store, const tus_record_t *record)
{
    const char *name;
    apr_status_t rv = tus_storage_name(record, &name);

    if (rv == APR_SUCCESS) {
        rv = find(tus_beneath_remove(of(store)->dir, name));
    }
    if (rv == APR_SUCCESS) {
        rv = tus_claim_end(of(store)->dir, record->id, name);
    }
    return APR_STATUS_IS_ENOENT(rv) ? APR_SUCCESS : rv;
}

const tus_store_provider_t tus_store_file = {
    .name = "file",
    .open = file_open,
    .path = file_path,
    .info_dir = file_info_dir,
    .create = file_create,
    .locate = file_locate,
    .confirm = file_confirm,
    .confirmed = file_confirmed,
    .discard = file_discard,
    .resume = file_resume,
    .fence = file_fence,
    .written = file_written,
    .write = file_write,
    .splice = file_splice,
    .flush = file_flush,
    .write_back = file_write_back,
    .close = file_close,
    .truncate = file_truncate,
    .concat = file_concat,
    .size = file_size,
    .read = file_read,
    .remove = file_remove,
};
