/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The mark of a whole index: the file `clean`, which says what the index's files
 * looked like when they were last closed, and the list of a rebuild that goes on.
 *
 * It is removed before a change and written anew after it. Where it is missing,
 * or the files are no longer those, or another boot has begun (nothing here is
 * synced), the index is not opened but made anew: gdbm and db crash on damaged
 * files, and a truncated sdbm loses entries without a word.
 */
#include "tus_words.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT "mod_tus index 2"
#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define CLEAN "clean"

/* More entries than any index has. */
#define COUNT_MAX APR_INT64_C(1000000000000)

typedef struct driver_t {
    const char *name;
    const char *files[2];
    const char *leftover; /* of one that died; no new index can be made beside it */
} driver_t;

static const driver_t drivers[] = {
    { "sdbm", { "index.sdbm.pag", "index.sdbm.dir" }, NULL },
    { "gdbm", { "index.gdbm", NULL }, NULL },
    { "db", { "index.db", NULL }, "__db.index.db" },
};

#define DRIVERS (sizeof(drivers) / sizeof(drivers[0]))

static const driver_t *find_driver(const char *name)
{
    apr_size_t i;

    if (!name) {
        return &drivers[0];
    }
    for (i = 0; i < DRIVERS; i++) {
        if (strcmp(drivers[i].name, name) == 0) {
            return &drivers[i];
        }
    }
    return NULL;
}

const char *tus_mark_driver(const char *name)
{
    const driver_t *driver = find_driver(name);

    return driver ? driver->name : NULL;
}

/* ---- files --------------------------------------------------------------- */

static const char *file_path(const tus_meta_place_t *place, const char *name, apr_pool_t *p)
{
    return apr_pstrcat(p, place->state_dir, "/", name, NULL);
}

static apr_status_t remove_file(const char *dir, const char *name, apr_pool_t *p)
{
    return tus_small_remove(apr_pstrcat(p, dir, "/", name, NULL));
}

/* The whole of a small file, or "". */
static const char *read_small(const char *path, apr_pool_t *p)
{
    char text[1024];
    ssize_t len;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        return "";
    }
    len = read(fd, text, sizeof(text));
    close(fd);
    return len > 0 ? apr_pstrmemdup(p, text, (apr_size_t)len) : "";
}

/* ---- the mark ------------------------------------------------------------ */

/* A restored copy has the times of modification of the original, but not these. */
static const char *describe_file(const tus_meta_place_t *place, const char *name, apr_pool_t *p)
{
    struct stat st;

    if (stat(file_path(place, name, p), &st) != 0) {
        return NULL;
    }
    return apr_psprintf(
        p, "%s %" APR_UINT64_T_FMT " %" APR_INT64_T_FMT " %" APR_INT64_T_FMT ".%09ld\n", name,
        (apr_uint64_t)st.st_ino, (apr_int64_t)st.st_size, (apr_int64_t)st.st_ctim.tv_sec,
        (long)st.st_ctim.tv_nsec);
}

/* All that must be as it was, or NULL if a file is missing. A rebuild has a list of its own. */
static const char *describe(const tus_meta_place_t *place, const driver_t *driver, apr_pool_t *p)
{
    const char *list = describe_file(place, TUS_INDEX_LIST, p);
    const char *one = describe_file(place, driver->files[0], p);
    const char *two = driver->files[1] ? describe_file(place, driver->files[1], p) : "";
    const char *rebuild = describe_file(place, TUS_REBUILD_LIST, p);

    if (!list || !one || !two) {
        return NULL;
    }
    return apr_pstrcat(p, FORMAT "\n", read_small(BOOT_ID, p), list, one, two,
                       rebuild ? rebuild : "", NULL);
}

/* Each live entry has a line. What else stands there cannot be reckoned with. */
static int are_counts(const tus_mark_t *mark)
{
    return mark->live >= 0 && mark->live <= mark->lines && mark->lines <= COUNT_MAX;
}

apr_status_t tus_mark_read(const tus_meta_place_t *place, tus_mark_t *mark, apr_pool_t *p)
{
    const driver_t *driver = find_driver(place->driver);
    const char *now = driver ? describe(place, driver, p) : NULL;
    const char *then = read_small(file_path(place, CLEAN, p), p);
    char *end;

    if (!now || strncmp(now, then, strlen(now)) != 0) {
        return TUS_EDAMAGED;
    }
    mark->live = apr_strtoi64(then + strlen(now), &end, 10);
    mark->lines = apr_strtoi64(end, &end, 10);
    return strcmp(end, "\n") == 0 && are_counts(mark) ? APR_SUCCESS : TUS_EDAMAGED;
}

int tus_mark_is_of_now(const tus_meta_place_t *place, apr_pool_t *p)
{
    const driver_t *driver = find_driver(place->driver);
    const char *begin = apr_pstrcat(p, FORMAT "\n", read_small(BOOT_ID, p), TUS_INDEX_LIST, NULL);
    const char *then = read_small(file_path(place, CLEAN, p), p);

    return driver && strncmp(begin, then, strlen(begin)) == 0 && strstr(then, driver->files[0]);
}

apr_status_t tus_mark_write(const tus_meta_place_t *place, const tus_mark_t *mark, apr_pool_t *p)
{
    const driver_t *driver = find_driver(place->driver);
    const char *now = driver ? describe(place, driver, p) : NULL;

    if (!now) {
        return TUS_EDAMAGED;
    }
    return tus_small_replace(file_path(place, CLEAN, p),
                             apr_psprintf(p, "%s%" APR_INT64_T_FMT " %" APR_INT64_T_FMT "\n", now,
                                          mark->live, mark->lines),
                             0, p);
}

apr_status_t tus_mark_drop(const char *state_dir, apr_pool_t *p)
{
    return remove_file(state_dir, CLEAN, p);
}

apr_status_t tus_mark_clear(const tus_meta_place_t *place, apr_pool_t *p)
{
    apr_status_t rv = tus_mark_drop(place->state_dir, p);
    apr_size_t i, j;

    for (i = 0; i < DRIVERS; i++) {
        for (j = 0; j < 2 && rv == APR_SUCCESS && drivers[i].files[j]; j++) {
            rv = remove_file(place->state_dir, drivers[i].files[j], p);
        }
        if (rv == APR_SUCCESS && drivers[i].leftover) {
            rv = remove_file(place->state_dir, drivers[i].leftover, p);
        }
    }
    return rv == APR_SUCCESS ? remove_file(place->state_dir, TUS_INDEX_LIST, p) : rv;
}
