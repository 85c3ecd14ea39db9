/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The input is what somebody scribbles over the files of an index with sdbm:
 *
 *   FILE OFFSET OFFSET OFFSET LENGTH BYTE...   and the next
 *
 * FILE is a place in the table below. With its highest bit set the file is cut
 * there before. sdbm survives no scribbled page, so the mark has to notice; the
 * list and the mark itself are read by our own code.
 */
#include "fuzz.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES 40
#define UPLOAD "upload-"

/* Those that sdbm reads come first. */
static const char *const files[] = { "index.sdbm.pag", "index.sdbm.dir", TUS_INDEX_LIST, "clean" };

#define FILES (sizeof(files) / sizeof(files[0]))
#define SDBM_FILES 2
#define MARK 3

static tus_meta_place_t place = { .info_dir = -1, .mode = APR_FPROT_UREAD | APR_FPROT_UWRITE };

static void open_place(apr_pool_t *p)
{
    static apr_pool_t *forever;

    if (!forever) {
        HOLDS(apr_pool_create(&forever, NULL) == APR_SUCCESS);
        HOLDS(apr_global_mutex_create(&place.mutex, NULL, APR_LOCK_PROC_PTHREAD, forever)
              == APR_SUCCESS);
        fuzz_mkdir("state");
    }
    place.state_dir = fuzz_path("state", p);
}

/* ---- using it ------------------------------------------------------------ */

/* Every id has an entry. */
static apr_status_t write_all(apr_pool_t *p)
{
    apr_array_header_t *changes = apr_array_make(p, ENTRIES, sizeof(tus_index_change_t));
    tus_entry_t *entries = apr_pcalloc(p, ENTRIES * sizeof(*entries));
    int i;

    for (i = 0; i < ENTRIES; i++) {
        entries[i].id = apr_psprintf(p, UPLOAD "%d", i);
        entries[i].size = i;
        entries[i].filename = "a file name of some length, so that there are some pages of them";
        APR_ARRAY_PUSH(changes, tus_index_change_t) =
            (tus_index_change_t){ entries[i].id, &entries[i] };
    }
    return tus_index_write(&place, changes, p);
}

/* It is one of those that were written. */
static apr_status_t count(void *baton, const tus_entry_t *entry)
{
    HOLDS(strncmp(entry->id, UPLOAD, strlen(UPLOAD)) == 0);
    HOLDS(entry->size == atoi(entry->id + strlen(UPLOAD)) && entry->size < ENTRIES);
    *(int *)baton += 1;
    return APR_SUCCESS;
}

static apr_status_t walk(int *walked, apr_pool_t *p)
{
    *walked = 0;
    return tus_index_walk(&place, count, walked, p);
}

static void make_index(apr_pool_t *p)
{
    int walked;

    HOLDS(tus_index_reset(&place, p) == APR_SUCCESS);
    HOLDS(write_all(p) == APR_SUCCESS);
    HOLDS(tus_index_judge(&place, p) == APR_SUCCESS);
    HOLDS(walk(&walked, p) == APR_SUCCESS && walked == ENTRIES);
}

/* ---- scribbling ---------------------------------------------------------- */

static int take_byte(const char **data, apr_size_t *len)
{
    if (*len == 0) {
        return 0;
    }
    *len -= 1;
    return (unsigned char)*(*data)++;
}

static const char *path_of(unsigned which, apr_pool_t *p)
{
    return apr_pstrcat(p, place.state_dir, "/", files[which], NULL);
}

/* One operation; returns its file. */
static unsigned take_operation(const char **data, apr_size_t *len, apr_pool_t *p)
{
    int op = take_byte(data, len);
    unsigned which = (unsigned)(op & 0x7f) % FILES;
    int fd = open(path_of(which, p), O_WRONLY | O_CLOEXEC);
    apr_off_t offset = take_byte(data, len);
    apr_size_t bytes;

    offset = offset << 8 | take_byte(data, len);
    offset = offset << 8 | take_byte(data, len);
    bytes = (apr_size_t)take_byte(data, len);
    bytes = bytes < *len ? bytes : *len;
    HOLDS(fd >= 0);
    HOLDS(!(op & 0x80) || ftruncate(fd, offset) == 0);
    HOLDS(pwrite(fd, *data, bytes, offset) == (ssize_t)bytes);
    close(fd);
    *data += bytes;
    *len -= bytes;
    return which;
}

/* Until the file's time is another: the kernel's clock takes some milliseconds for a step. */
static void touch(const char *path, const struct stat *before)
{
    struct stat now;

    do {
        HOLDS(chmod(path, S_IRUSR | S_IWUSR) == 0 && stat(path, &now) == 0);
    } while (now.st_ctim.tv_sec == before->st_ctim.tv_sec
             && now.st_ctim.tv_nsec == before->st_ctim.tv_nsec);
}

/* Returns the bits of the files that are not as they were. */
static unsigned scribble(const char *data, apr_size_t len, apr_pool_t *p)
{
    unsigned touched = 0, i;
    struct stat before[FILES];

    for (i = 0; i < FILES; i++) {
        HOLDS(stat(path_of(i, p), &before[i]) == 0);
    }
    while (len > 0) {
        touched |= 1U << take_operation(&data, &len, p);
    }
    for (i = 0; i < MARK; i++) {
        if (touched & 1U << i) {
            touch(path_of(i, p), &before[i]);
        }
    }
    return touched;
}

/* ---- afterwards ---------------------------------------------------------- */

static void refused(apr_pool_t *p)
{
    int walked;

    HOLDS(tus_index_judge(&place, p) != APR_SUCCESS);
    HOLDS(walk(&walked, p) == TUS_EDAMAGED && walked == 0);
    HOLDS(write_all(p) == TUS_EDAMAGED);
}

/* The list was scribbled over and nobody noticed: one may be missing, or there twice. */
static void use(apr_pool_t *p)
{
    const tus_mark_t whole = { .live = ENTRIES, .lines = ENTRIES };
    tus_mark_t mark;
    int walked;

    HOLDS(tus_mark_write(&place, &whole, p) == APR_SUCCESS);
    HOLDS(tus_mark_read(&place, &mark, p) == APR_SUCCESS);
    HOLDS(mark.live == ENTRIES && mark.lines == ENTRIES);
    HOLDS(walk(&walked, p) == APR_SUCCESS);
    HOLDS(write_all(p) == APR_SUCCESS);
    HOLDS(walk(&walked, p) == APR_SUCCESS);
}

/* The files are as they were; only what the mark counts is not. */
static void judge(const char *data, apr_size_t len, apr_pool_t *p)
{
    tus_mark_t odd = { .live = ENTRIES, .lines = ENTRIES };
    int walked;

    memcpy(&odd, data, len < sizeof(odd) ? len : sizeof(odd));
    HOLDS(tus_mark_write(&place, &odd, p) == APR_SUCCESS);
    if (tus_index_judge(&place, p) == APR_SUCCESS) {
        HOLDS(odd.live >= 0 && odd.live <= odd.lines);
        HOLDS(walk(&walked, p) == APR_SUCCESS && walked == ENTRIES);
        HOLDS(write_all(p) == APR_SUCCESS);
    }
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    unsigned touched;

    open_place(p);
    make_index(p);
    judge(data, len, p);
    make_index(p);
    touched = scribble(data, len, p);
    if (touched & ~(1U << MARK)) {
        refused(p);
    }
    if (!(touched & ((1U << SDBM_FILES) - 1))) {
        use(p);
    }
    make_index(p); /* as good as new */
}
