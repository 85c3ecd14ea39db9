/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The data store "file": STORE/ID has the bytes and nothing else, so the offset
 * of an upload is the size of its file.
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
    apr_fileperms_t mode;
} file_store_t;

struct tus_writer_t {
    file_store_t *store;
    const char *name; /* beneath the store */
    int fd;           /* -1 once closed */
    apr_off_t size;   /* when the fence went up; -1 before */
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

static apr_status_t open_place(const tus_place_t *place, int *dir)
{
    struct stat st;
    apr_status_t rv;
    int root;

    if (!place->root) {
        return tus_beneath_dir(-1, place->path, dir);
    }
    rv = tus_beneath_dir(-1, place->root, &root);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (place->root_inode
        && (fstat(root, &st) != 0 || st.st_dev != place->root_device
            || st.st_ino != place->root_inode)) {
        close(root);
        return TUS_EREFUSED;
    }
    if (strcmp(place->path, ".") == 0) {
        *dir = root;
        return APR_SUCCESS;
    }
    rv = tus_beneath_dir(root, place->path, dir);
    close(root);
    return rv;
}

static const char *place_path(const tus_place_t *place, apr_pool_t *p)
{
    if (!place->root) {
        return place->path;
    }
    if (strcmp(place->path, ".") == 0) {
        return place->root;
    }
    return apr_pstrcat(p, place->root, "/", place->path, NULL);
}

/* Without a "/" at the end, and none doubled where the root had one. */
static const char *tidy_path(const char *path, apr_pool_t *p)
{
    char *tidy = apr_pstrdup(p, path);
    char *out = tidy;

    for (const char *in = path; *in; in++) {
        if (*in != '/' || out == tidy || out[-1] != '/') {
            *out++ = *in;
        }
    }
    if (out > tidy + 1 && out[-1] == '/') {
        out--;
    }
    *out = '\0';
    return tidy;
}

static apr_status_t file_open(tus_store_t **result, const tus_place_t *place, apr_fileperms_t mode,
                              apr_pool_t *p)
{
    file_store_t *store = apr_pcalloc(p, sizeof(*store));
    struct stat st;
    apr_status_t rv = open_place(place, &store->dir);

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
    store->path = tidy_path(place_path(place, p), p);
    store->mode = mode;
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

static tus_writer_t *make_writer(file_store_t *store, const char *name, int fd, apr_pool_t *p)
{
    tus_writer_t *writer = apr_pcalloc(p, sizeof(*writer));

    writer->store = store;
    writer->name = name;
    writer->fd = fd;
    writer->size = -1;
    apr_pool_cleanup_register(p, writer, close_writer, apr_pool_cleanup_null);
    return writer;
}

/*
 * flock, not fcntl: it belongs to the open file, so it excludes threads of one
 * process too, and ends with it. Whoever waited may hold a file that has been
 * removed meanwhile: the name must still lead to it.
 */
static apr_status_t fence(tus_writer_t *writer, struct stat *mine)
{
    struct stat named;
    apr_status_t rv;

    if (flock(writer->fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK || errno == EINTR ? APR_EAGAIN : errno;
    }
    if (fstat(writer->fd, mine) != 0) {
        return errno;
    }
    rv = tus_beneath_stat(writer->store->dir, writer->name, &named);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (mine->st_dev != named.st_dev || mine->st_ino != named.st_ino) {
        return APR_ENOENT;
    }
    writer->size = mine->st_size;
    return APR_SUCCESS;
}

static apr_status_t file_confirm(tus_writer_t *writer)
{
    return tus_beneath_chmod(writer->fd, writer->store->mode);
}

/* Its maker may live in another server, whose lock table we do not see: the fence tells. */
static apr_status_t file_discard(tus_store_t *store, const char *id)
{
    struct stat st;
    int fd;
    apr_status_t rv = tus_beneath_open(of(store)->dir, id, O_RDWR, 0, &fd);

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
        rv = tus_beneath_remove(of(store)->dir, id);
    }
    close(fd);
    return rv;
}

static apr_status_t file_create(tus_store_t *base, tus_record_t *record, tus_writer_t **writer,
                                apr_pool_t *p)
{
    file_store_t *store = of(base);
    struct stat st;
    int fd;
    apr_status_t rv = tus_beneath_open(store->dir, record->id, O_RDWR | O_CREAT,
                                       store->mode | APR_FPROT_WSTICKY, &fd);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    *writer = make_writer(store, record->id, fd, p);
    rv = fence(*writer, &st); /* whoever tidies up may have been quicker */
    if (rv != APR_SUCCESS) {
        close_writer(*writer);
        file_discard(base, record->id);
        return rv;
    }
    record->storage_type = "filestore";
    record->storage_path = apr_pstrcat(p, store->path, "/", record->id, NULL);
    record->storage_info_path = apr_pstrcat(p, record->storage_path, ".info", NULL);
    return APR_SUCCESS;
}

static apr_status_t file_resume(tus_store_t *base, const tus_record_t *record,
                                tus_writer_t **writer, apr_pool_t *p)
{
    file_store_t *store = of(base);
    int fd;
    apr_status_t rv = tus_beneath_open(store->dir, record->id, O_RDWR, 0, &fd);

    if (rv == APR_SUCCESS) {
        *writer = make_writer(store, record->id, fd, p);
    }
    return rv;
}

static apr_status_t file_fence(tus_writer_t *writer)
{
    struct stat st;
    apr_status_t rv = fence(writer, &st);

    if (rv == APR_SUCCESS && st.st_mode & S_ISVTX /* its maker died before it could confirm */
        && fchmod(writer->fd, st.st_mode & ACCESSPERMS) != 0) {
        rv = errno;
    }
    return rv;
}

static apr_time_t modified_at(const struct stat *st)
{
    return apr_time_from_sec((apr_time_t)st->st_mtim.tv_sec) + st->st_mtim.tv_nsec / 1000;
}

static apr_status_t file_written(tus_writer_t *writer, apr_off_t *size, apr_time_t *modified)
{
    struct stat st;

    if (fstat(writer->fd, &st) != 0) {
        return errno;
    }
    *size = st.st_size;
    *modified = modified_at(&st);
    return APR_SUCCESS;
}

static apr_status_t file_write(tus_writer_t *writer, apr_off_t offset, const char *data,
                               apr_size_t len, apr_size_t *done)
{
    return tus_beneath_write(writer->fd, offset, data, len, done);
}

static apr_status_t file_flush(tus_writer_t *writer)
{
    return fdatasync(writer->fd) == 0 ? APR_SUCCESS : errno;
}

static apr_status_t file_close(tus_writer_t *writer, int keep)
{
    apr_status_t rv = APR_SUCCESS;

    if (writer->fd < 0) {
        return APR_SUCCESS;
    }
    if (!keep && writer->size >= 0 && ftruncate(writer->fd, writer->size) != 0) {
        rv = errno;
    }
    close_writer(writer);
    return rv;
}

/* ---- reading and removing ------------------------------------------------ */

static apr_status_t file_size(tus_store_t *store, const tus_record_t *record, apr_off_t *size,
                              apr_time_t *modified)
{
    struct stat st;
    apr_status_t rv = tus_beneath_stat(of(store)->dir, record->id, &st);

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
    int fd;
    apr_status_t rv = tus_beneath_open(of(store)->dir, record->id, O_RDONLY, 0, &fd);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = apr_file_open(file, fd_path(fd, p), APR_FOPEN_READ | APR_FOPEN_BINARY | flags,
                       APR_FPROT_OS_DEFAULT, p);
    close(fd);
    return rv == APR_SUCCESS ? apr_file_info_get(finfo, APR_FINFO_NORM, *file) : rv;
}

static apr_status_t file_remove(tus_store_t *store, const char *id)
{
    return tus_beneath_remove(of(store)->dir, id);
}

const tus_store_provider_t tus_store_file = { .name = "file",
                                              .open = file_open,
                                              .path = file_path,
                                              .info_dir = file_info_dir,
                                              .create = file_create,
                                              .confirm = file_confirm,
                                              .discard = file_discard,
                                              .resume = file_resume,
                                              .fence = file_fence,
                                              .written = file_written,
                                              .write = file_write,
                                              .flush = file_flush,
                                              .close = file_close,
                                              .size = file_size,
                                              .read = file_read,
                                              .remove = file_remove };
