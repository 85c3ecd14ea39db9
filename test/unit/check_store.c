/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What mod_tus.h promises of every data store, run through by each of them.
 * Other processes are real ones: a peer opens the store itself, does one thing,
 * and stays until it is told to end, or killed. A store without a fence may live
 * in one process, and is tested in one.
 */
#include "check_store.h"
#include "scratch.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_STORES 8

/* The stores under test; a loop test's index says which. */
static struct {
    const tus_store_provider_t *provider;
    make_place_fn make_place;
} stores[MAX_STORES];
static int store_count;

/* Of the running test. */
static const tus_store_provider_t *provider;
static const tus_place_t *place;
static tus_store_t *store;

static tus_store_t *open_again(void)
{
    tus_store_t *again = NULL;

    ck_assert_int_eq(provider->open(&again, place, unit_pool), APR_SUCCESS);
    ck_assert_ptr_nonnull(again);
    ck_assert_ptr_eq(again->provider, provider);
    return again;
}

static void open_store(int index)
{
    provider = stores[index].provider;
    place = stores[index].make_place();
    store = open_again();
}

static tus_record_t *record_of(const char *id)
{
    tus_record_t *record = apr_pcalloc(unit_pool, sizeof(*record));

    record->id = id;
    record->size = TUS_SIZE_UNKNOWN;
    record->ours = 1;
    record->created = 1;
    return record;
}

static tus_writer_t *create_in(apr_pool_t *p, const char *id)
{
    tus_writer_t *writer = NULL;

    ck_assert_int_eq(provider->create(store, record_of(id), &writer, p), APR_SUCCESS);
    ck_assert_ptr_nonnull(writer);
    return writer;
}

static tus_writer_t *create(const char *id)
{
    return create_in(unit_pool, id);
}

static apr_pool_t *make_pool(void)
{
    apr_pool_t *p;

    ck_assert_int_eq(apr_pool_create(&p, unit_pool), APR_SUCCESS);
    return p;
}

static apr_status_t fence(tus_writer_t *writer)
{
    return provider->fence ? provider->fence(writer) : APR_SUCCESS;
}

static tus_writer_t *resume(const char *id)
{
    tus_writer_t *writer = NULL;

    ck_assert_int_eq(provider->resume(store, record_of(id), &writer, unit_pool), APR_SUCCESS);
    ck_assert_ptr_nonnull(writer);
    return writer;
}

static void put(tus_writer_t *writer, apr_off_t offset, const char *text)
{
    apr_size_t done = 0;

    ck_assert_int_eq(provider->write(writer, offset, text, strlen(text), &done), APR_SUCCESS);
    ck_assert_uint_eq(done, strlen(text));
}

static apr_off_t written(tus_writer_t *writer)
{
    apr_off_t size = -1;
    apr_time_t modified = 0;

    ck_assert_int_eq(provider->written(writer, &size, &modified), APR_SUCCESS);
    ck_assert_int_gt(modified, 0);
    return size;
}

static apr_status_t look(const char *id, apr_off_t *size)
{
    apr_time_t modified = 0;
    apr_status_t rv = provider->size(store, record_of(id), size, &modified);

    if (rv == APR_SUCCESS) {
        ck_assert_int_gt(modified, 0);
    }
    return rv;
}

static apr_off_t size_of(const char *id)
{
    apr_off_t size = -1;

    ck_assert_int_eq(look(id, &size), APR_SUCCESS);
    return size;
}

static int is_there(const char *id)
{
    apr_off_t size;
    apr_status_t rv = look(id, &size);

    ck_assert(rv == APR_SUCCESS || APR_STATUS_IS_ENOENT(rv));
    return rv == APR_SUCCESS;
}

/* A confirmed upload that nobody holds. */
static void make(const char *id, const char *text)
{
    tus_writer_t *writer = create(id);

    ck_assert_int_eq(provider->confirm(writer), APR_SUCCESS);
    put(writer, 0, text);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
}

static const char *content(const char *id)
{
    apr_pool_t *p = make_pool();
    apr_file_t *file;
    apr_finfo_t finfo;
    apr_size_t len;
    char *text;

    ck_assert_int_eq(provider->read(store, record_of(id), 0, &file, &finfo, p), APR_SUCCESS);
    len = (apr_size_t)finfo.size;
    text = apr_pcalloc(unit_pool, len + 1);
    if (len > 0) {
        ck_assert_int_eq(apr_file_read_full(file, text, len, NULL), APR_SUCCESS);
    }
    apr_pool_destroy(p);
    return text;
}

/* ---- another process ----------------------------------------------------- */

typedef struct peer_t {
    pid_t pid;
    int to; /* the peer ends when this is closed */
} peer_t;

/* Says with its result whether it could do it. */
typedef int (*peer_fn)(tus_store_t *own, apr_pool_t *p);

static int run_peer(peer_fn fn, int from, int to)
{
    tus_store_t *own;
    apr_pool_t *p;
    char c;

    if (apr_pool_create(&p, NULL) != APR_SUCCESS || provider->open(&own, place, p) != APR_SUCCESS
        || !fn(own, p) || write(to, "x", 1) != 1) {
        return 1;
    }
    while (read(from, &c, 1) < 0 && errno == EINTR) {
    }
    return 0;
}

/* Returns once the peer has done it. */
static peer_t start_peer(peer_fn fn)
{
    int up[2], down[2];
    peer_t peer;
    char c;

    ck_assert_int_eq(pipe2(up, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(down, O_CLOEXEC), 0);
    peer.pid = fork();
    ck_assert_int_ge(peer.pid, 0);
    if (peer.pid == 0) {
        close(up[0]);
        close(down[1]);
        _exit(run_peer(fn, down[0], up[1]));
    }
    close(up[1]);
    close(down[0]);
    ck_assert_msg(read(up[0], &c, 1) == 1, "the other process could not do it");
    close(up[0]);
    peer.to = down[1];
    return peer;
}

static int reap(const peer_t *peer)
{
    int status;

    while (waitpid(peer->pid, &status, 0) < 0) {
        ck_assert_int_eq(errno, EINTR);
    }
    return status;
}

static void end_peer(peer_t *peer)
{
    close(peer->to);
    ck_assert_int_eq(reap(peer), 0);
}

static void kill_peer(peer_t *peer)
{
    ck_assert_int_eq(kill(peer->pid, SIGKILL), 0);
    ck_assert(WIFSIGNALED(reap(peer)));
    close(peer->to);
}

static int peer_creates(tus_store_t *own, apr_pool_t *p)
{
    tus_writer_t *writer;
    apr_size_t done;

    return provider->create(own, record_of("a"), &writer, p) == APR_SUCCESS
           && provider->write(writer, 0, "text", 4, &done) == APR_SUCCESS;
}

static int peer_creates_and_confirms(tus_store_t *own, apr_pool_t *p)
{
    tus_writer_t *writer;

    return provider->create(own, record_of("a"), &writer, p) == APR_SUCCESS
           && provider->confirm(writer) == APR_SUCCESS;
}

static int peer_fences(tus_store_t *own, apr_pool_t *p)
{
    tus_writer_t *writer;

    return provider->resume(own, record_of("a"), &writer, p) == APR_SUCCESS
           && provider->fence(writer) == APR_SUCCESS;
}

/* ---- opening ------------------------------------------------------------- */

START_TEST(store_is_the_same_each_time)
{
    const char *path = NULL, *path_again = NULL;
    tus_store_t *again;

    open_store(_i);
    again = open_again();
    ck_assert_ptr_ne(again, store);
    ck_assert_uint_eq(again->identity.device, store->identity.device);
    ck_assert_uint_eq(again->identity.inode, store->identity.inode);
    ck_assert_uint_eq(again->identity.owner, store->identity.owner);
    ck_assert_uint_ne(store->identity.inode, 0);
    ck_assert_int_eq(provider->path(store, &path, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(provider->path(again, &path_again, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(path, path_again);
    ck_assert_str_ne(path, "");
}
END_TEST

START_TEST(store_says_where_records_lie)
{
    apr_os_file_t info_dir = -1;

    open_store(_i);
    ck_assert_int_eq(provider->info_dir(store, &info_dir), APR_SUCCESS);
    ck_assert_int_ge(fcntl(info_dir, F_GETFD), 0);
}
END_TEST

START_TEST(pool_closes_the_store)
{
    apr_pool_t *p = make_pool();
    tus_writer_t *writer;
    tus_store_t *own;
    int before;

    open_store(_i);
    before = open_descriptors();
    make("a", "text");
    ck_assert_int_eq(provider->open(&own, place, p), APR_SUCCESS);
    ck_assert_int_eq(provider->create(own, record_of("b"), &writer, p), APR_SUCCESS);
    ck_assert_int_eq(provider->resume(own, record_of("a"), &writer, p), APR_SUCCESS);
    ck_assert_int_eq(fence(writer), APR_SUCCESS);
    apr_pool_destroy(p);
    ck_assert_int_eq(open_descriptors(), before);
    writer = resume("a");
    ck_assert_int_eq(fence(writer), APR_SUCCESS);
}
END_TEST

/* ---- writing ------------------------------------------------------------- */

START_TEST(created_data_is_empty)
{
    tus_record_t *record = record_of("a");
    tus_writer_t *writer = NULL;

    open_store(_i);
    ck_assert_int_eq(provider->create(store, record, &writer, unit_pool), APR_SUCCESS);
    ck_assert_ptr_nonnull(writer);
    ck_assert_int_eq(written(writer), 0);
    ck_assert_int_eq(size_of("a"), 0);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    ck_assert_int_eq(size_of("a"), 0);
}
END_TEST

START_TEST(id_is_created_once)
{
    tus_writer_t *writer = NULL;

    open_store(_i);
    make("a", "text");
    ck_assert(APR_STATUS_IS_EEXIST(provider->create(store, record_of("a"), &writer, unit_pool)));
    ck_assert_int_eq(size_of("a"), 4);
    create("b");
    ck_assert(APR_STATUS_IS_EEXIST(provider->create(store, record_of("b"), &writer, unit_pool)));
    ck_assert(is_there("b"));
}
END_TEST

START_TEST(missing_data_is_not_found)
{
    tus_writer_t *writer = NULL;
    apr_off_t size;

    open_store(_i);
    make("b", "text");
    ck_assert(APR_STATUS_IS_ENOENT(provider->resume(store, record_of("a"), &writer, unit_pool)));
    ck_assert(APR_STATUS_IS_ENOENT(look("a", &size)));
    ck_assert_int_eq(provider->discard(store, "a"), APR_SUCCESS);
    ck_assert(!is_there("a"));
}
END_TEST

START_TEST(bytes_are_appended_in_requests)
{
    tus_writer_t *writer;

    open_store(_i);
    writer = create("a");
    ck_assert_int_eq(provider->confirm(writer), APR_SUCCESS);
    put(writer, 0, "one");
    put(writer, 3, "");
    ck_assert_int_eq(written(writer), 3);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);

    writer = resume("a");
    ck_assert_int_eq(fence(writer), APR_SUCCESS);
    ck_assert_int_eq(written(writer), 3);
    put(writer, 3, "two");
    put(writer, 6, "three");
    ck_assert_int_eq(written(writer), 11);
    ck_assert_int_eq(provider->flush(writer), APR_SUCCESS);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    ck_assert_int_eq(size_of("a"), 11);
    if (provider->read) {
        ck_assert_str_eq(content("a"), "onetwothree");
    }
}
END_TEST

/* A pipe with that text in it; its end to read from. */
static int piped(const char *text)
{
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(write(ends[1], text, strlen(text)), (int)strlen(text));
    close(ends[1]);
    return ends[0];
}

START_TEST(bytes_in_a_pipe_are_appended)
{
    int fd = piped("worldmore");
    tus_writer_t *writer;
    apr_size_t done = 0;

    open_store(_i);
    writer = create("a");
    put(writer, 0, "hello");
    ck_assert_int_eq(provider->splice(writer, 5, fd, 5, &done), APR_SUCCESS);
    ck_assert_uint_eq(done, 5);
    ck_assert_int_eq(written(writer), 10);
    ck_assert_int_eq(provider->splice(writer, 10, fd, 4, &done), APR_SUCCESS);
    ck_assert_uint_eq(done, 4);
    ck_assert_int_eq(provider->confirm(writer), APR_SUCCESS);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    ck_assert_int_eq(size_of("a"), 14);
    if (provider->read) {
        ck_assert_str_eq(content("a"), "helloworldmore");
    }
    close(fd);
}
END_TEST

/* Nor does it leave the pipe. */
START_TEST(a_pipe_fills_no_hole)
{
    int fd = piped("world");
    tus_writer_t *writer;
    apr_size_t done = 1;
    char text[5];

    open_store(_i);
    writer = create("a");
    put(writer, 0, "hell");
    ck_assert_int_eq(provider->splice(writer, 5, fd, 5, &done), TUS_EDAMAGED);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(written(writer), 4);
    ck_assert_int_eq(read(fd, text, 5), 5);
    close(fd);
}
END_TEST

START_TEST(a_pipe_with_too_little_is_an_error)
{
    int fd = piped("wor");
    tus_writer_t *writer;
    apr_size_t done = 0;

    open_store(_i);
    writer = create("a");
    ck_assert_int_ne(provider->splice(writer, 0, fd, 5, &done), APR_SUCCESS);
    ck_assert_uint_eq(done, 3);
    ck_assert_int_eq(written(writer), 3);
    close(fd);
}
END_TEST

START_TEST(flush_takes_any_moment)
{
    tus_writer_t *writer;

    open_store(_i);
    writer = create("a");
    ck_assert_int_eq(provider->flush(writer), APR_SUCCESS);
    put(writer, 0, "text");
    ck_assert_int_eq(provider->flush(writer), APR_SUCCESS);
    ck_assert_int_eq(provider->flush(writer), APR_SUCCESS);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
}
END_TEST

START_TEST(close_keeps_what_is_stored)
{
    tus_writer_t *writer;

    open_store(_i);
    writer = create("a");
    put(writer, 0, "text");
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    ck_assert_int_eq(size_of("a"), 4);
}
END_TEST

START_TEST(upload_is_no_directory_of_another)
{
    tus_writer_t *writer = NULL;

    open_store(_i);
    make("a", "text");
    make("b/c/d", "text");
    ck_assert_int_eq(size_of("b/c/d"), 4);
    ck_assert(APR_STATUS_IS_EEXIST(provider->create(store, record_of("a/b"), &writer, unit_pool)));
    ck_assert(
        APR_STATUS_IS_EEXIST(provider->create(store, record_of("a/b/c"), &writer, unit_pool)));
    ck_assert(APR_STATUS_IS_EEXIST(provider->create(store, record_of("b"), &writer, unit_pool)));
    ck_assert(APR_STATUS_IS_EEXIST(provider->create(store, record_of("b/c"), &writer, unit_pool)));
    ck_assert(!is_there("a/b"));
    make("b/c/e", "more");
    make("b/f", "last");
    ck_assert_int_eq(size_of("a"), 4);
    ck_assert_int_eq(size_of("b/c/d"), 4);
    ck_assert_int_eq(size_of("b/c/e"), 4);
}
END_TEST

/* A record as it may come from anywhere: what is located once stays where it is. */
START_TEST(located_record_leads_to_its_data)
{
    tus_record_t *record = record_of("a/b"), *again = record_of("a/b");
    apr_off_t size = -1;
    apr_time_t modified;

    open_store(_i);
    make("a/b", "text");
    ck_assert_int_eq(provider->locate(store, record, unit_pool), APR_SUCCESS);
    ck_assert_ptr_nonnull(record->storage_type);
    ck_assert_str_eq(record->id, "a/b");
    ck_assert_int_eq(provider->size(store, record, &size, &modified), APR_SUCCESS);
    ck_assert_int_eq(size, 4);
    *again = *record;
    ck_assert_int_eq(provider->locate(store, again, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(again->storage_type, record->storage_type);
    ck_assert_pstr_eq(again->storage_path, record->storage_path);
    ck_assert_pstr_eq(again->storage_info_path, record->storage_info_path);
}
END_TEST

/* ---- cutting back -------------------------------------------------------- */

START_TEST(truncate_cuts_back)
{
    tus_writer_t *writer;

    open_store(_i);
    make("a", "text");
    writer = resume("a");
    ck_assert_int_eq(fence(writer), APR_SUCCESS);
    put(writer, 4, "wrong");
    ck_assert_int_eq(provider->truncate(writer, 4), APR_SUCCESS);
    ck_assert_int_eq(written(writer), 4);
    ck_assert_int_eq(size_of("a"), 4);
    put(writer, 4, "!");
    ck_assert_int_eq(provider->truncate(writer, 5), APR_SUCCESS);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    ck_assert_int_eq(size_of("a"), 5);
    if (provider->read) {
        ck_assert_str_eq(content("a"), "text!");
    }
}
END_TEST

START_TEST(truncate_cuts_back_to_nothing)
{
    tus_writer_t *writer;

    open_store(_i);
    writer = create("a");
    ck_assert_int_eq(provider->truncate(writer, 0), APR_SUCCESS);
    put(writer, 0, "text");
    ck_assert_int_eq(provider->truncate(writer, 0), APR_SUCCESS);
    ck_assert_int_eq(written(writer), 0);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    ck_assert_int_eq(size_of("a"), 0);
}
END_TEST

START_TEST(truncate_makes_nothing_longer)
{
    tus_writer_t *writer;

    open_store(_i);
    writer = create("a");
    put(writer, 0, "text");
    ck_assert_int_ne(provider->truncate(writer, 5), APR_SUCCESS);
    ck_assert_int_ne(provider->truncate(writer, -1), APR_SUCCESS);
    ck_assert_int_eq(written(writer), 4);
}
END_TEST

/* ---- joining ------------------------------------------------------------- */

/* Block sizes of file systems, and what lies beside them. */
static const apr_size_t part_sizes[] = {
    0, 1, 511, 512, 4095, 4096, 4097, 65536, 262144, 262145, 1048576, 3 * 1048576 + 7,
};

#define PART_SIZES ((int)(sizeof(part_sizes) / sizeof(part_sizes[0])))

/* Bytes that are different in each part, at each place. */
static char *bytes_of(int seed, apr_size_t len)
{
    char *bytes = apr_palloc(unit_pool, len + 1);
    unsigned state = (unsigned)seed * 2654435761U + 1;

    for (apr_size_t i = 0; i < len; i++) {
        state = state * 1664525U + 1013904223U;
        bytes[i] = (char)(state >> 24);
    }
    return bytes;
}

static const tus_record_t *make_part(const char *id, const char *bytes, apr_size_t len)
{
    tus_writer_t *writer = create(id);
    tus_record_t *record = record_of(id);
    apr_size_t done;

    record->size = (apr_off_t)len;
    record->is_partial = 1;
    ck_assert_int_eq(provider->confirm(writer), APR_SUCCESS);
    ck_assert_int_eq(provider->write(writer, 0, bytes, len, &done), APR_SUCCESS);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    return record;
}

static apr_array_header_t *list(const tus_record_t *one, const tus_record_t *two)
{
    apr_array_header_t *parts = apr_array_make(unit_pool, 2, sizeof(const tus_record_t *));

    APR_ARRAY_PUSH(parts, const tus_record_t *) = one;
    APR_ARRAY_PUSH(parts, const tus_record_t *) = two;
    return parts;
}

static tus_writer_t *create_final(const char *id)
{
    tus_writer_t *writer = create(id);

    ck_assert_int_eq(provider->confirm(writer), APR_SUCCESS);
    return writer;
}

static void ck_content(const char *id, const apr_array_header_t *texts)
{
    const char *all = content(id);

    for (int i = 0; i < texts->nelts; i++) {
        const struct iovec *text = &APR_ARRAY_IDX(texts, i, struct iovec);

        ck_assert_msg(memcmp(all, text->iov_base, text->iov_len) == 0, "text %d is wrong", i);
        all += text->iov_len;
    }
}

/* Every size behind every other, each part once more at the end. */
START_TEST(parts_are_joined_in_their_order)
{
    apr_array_header_t *parts = apr_array_make(unit_pool, 1, sizeof(const tus_record_t *));
    apr_array_header_t *texts = apr_array_make(unit_pool, 1, sizeof(struct iovec));
    const tus_record_t *made[PART_SIZES];
    tus_writer_t *writer;
    apr_off_t sum = 0;
    int first, i;

    open_store(_i);
    for (i = 0; i < PART_SIZES; i++) {
        made[i] = make_part(apr_psprintf(unit_pool, "part-%d", i), bytes_of(i, part_sizes[i]),
                            part_sizes[i]);
    }
    for (first = 0; first < PART_SIZES; first += 3) {
        for (i = 0; i < PART_SIZES; i++) {
            int at = (first + 5 * i) % PART_SIZES;

            APR_ARRAY_PUSH(parts, const tus_record_t *) = made[at];
            APR_ARRAY_PUSH(texts, struct iovec) =
                (struct iovec){ bytes_of(at, part_sizes[at]), part_sizes[at] };
            sum += (apr_off_t)part_sizes[at];
        }
    }
    writer = create_final("final");
    ck_assert_int_eq(provider->concat(writer, parts, NULL), APR_SUCCESS);
    ck_assert_int_eq(written(writer), sum);
    ck_assert_int_eq(provider->flush(writer), APR_SUCCESS);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    ck_assert_int_eq(size_of("final"), sum);
    if (provider->read) {
        ck_content("final", texts);
    }
    for (i = 0; i < PART_SIZES; i++) {
        ck_assert_int_eq(size_of(made[i]->id), made[i]->size);
    }
}
END_TEST

START_TEST(same_part_is_joined_twice)
{
    const tus_record_t *part;
    tus_writer_t *writer;

    open_store(_i);
    part = make_part("a", "text", 4);
    writer = create_final("final");
    ck_assert_int_eq(provider->concat(writer, list(part, part), NULL), APR_SUCCESS);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    ck_assert_int_eq(size_of("final"), 8);
    ck_assert_int_eq(size_of("a"), 4);
    if (provider->read) {
        ck_assert_str_eq(content("final"), "texttext");
    }
}
END_TEST

START_TEST(no_parts_and_empty_ones_are_joined)
{
    const tus_record_t *part;
    tus_writer_t *writer;

    open_store(_i);
    part = make_part("a", "", 0);
    writer = create_final("final");
    ck_assert_int_eq(
        provider->concat(writer, apr_array_make(unit_pool, 1, sizeof(tus_record_t *)), NULL),
        APR_SUCCESS);
    ck_assert_int_eq(written(writer), 0);
    ck_assert_int_eq(provider->concat(writer, list(part, part), NULL), APR_SUCCESS);
    ck_assert_int_eq(written(writer), 0);
}
END_TEST

/* As much as was joined before stays; whoever wants it otherwise cuts it back first. */
START_TEST(join_starts_at_the_end)
{
    const tus_record_t *one, *two;
    tus_writer_t *writer;

    open_store(_i);
    one = make_part("a", "one", 3);
    two = make_part("b", "two", 3);
    writer = create_final("final");
    put(writer, 0, "zero");
    ck_assert_int_eq(provider->concat(writer, list(one, two), NULL), APR_SUCCESS);
    ck_assert_int_eq(written(writer), 10);
    ck_assert_int_eq(provider->truncate(writer, 4), APR_SUCCESS);
    ck_assert_int_eq(provider->concat(writer, list(two, one), NULL), APR_SUCCESS);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    ck_assert_int_eq(size_of("final"), 10);
    if (provider->read) {
        ck_assert_str_eq(content("final"), "zerotwoone");
    }
}
END_TEST

START_TEST(part_of_another_size_is_damaged)
{
    tus_record_t *part;
    tus_writer_t *writer;

    open_store(_i);
    part = apr_pmemdup(unit_pool, make_part("a", "text", 4), sizeof(*part));
    writer = create_final("final");
    part->size = 3;
    ck_assert_int_eq(provider->concat(writer, list(part, part), NULL), TUS_EDAMAGED);
    part->size = 5;
    ck_assert_int_eq(provider->concat(writer, list(part, part), NULL), TUS_EDAMAGED);
    part->size = TUS_SIZE_UNKNOWN;
    ck_assert_int_eq(provider->concat(writer, list(part, part), NULL), TUS_EDAMAGED);
    part->size = 4;
    ck_assert_int_eq(provider->truncate(writer, 0), APR_SUCCESS);
    ck_assert_int_eq(provider->concat(writer, list(part, part), NULL), APR_SUCCESS);
    ck_assert_int_eq(written(writer), 8);
}
END_TEST

START_TEST(part_that_is_gone_is_not_found)
{
    const tus_record_t *part;
    tus_record_t *gone = record_of("b");
    tus_writer_t *writer;

    open_store(_i);
    part = make_part("a", "text", 4);
    gone->size = 4;
    writer = create_final("final");
    ck_assert(APR_STATUS_IS_ENOENT(provider->concat(writer, list(part, gone), NULL)));
    ck_assert_int_eq(size_of("a"), 4);
}
END_TEST

static int cancel_after(void *baton)
{
    int *left = baton;

    return --*left < 0;
}

START_TEST(join_is_cancelled)
{
    int left = 0;
    tus_cancel_t cancel = { cancel_after, &left };
    const tus_record_t *part;
    tus_writer_t *writer;

    open_store(_i);
    part = make_part("a", "text", 4);
    writer = create_final("final");
    ck_assert_int_eq(provider->concat(writer, list(part, part), &cancel), APR_EINTR);
    ck_assert_int_eq(written(writer), 0);
    left = 1;
    ck_assert_int_eq(provider->concat(writer, list(part, part), &cancel), APR_EINTR);
    ck_assert_int_lt(written(writer), 8);
    ck_assert_int_eq(provider->truncate(writer, 0), APR_SUCCESS);
    left = 1000;
    ck_assert_int_eq(provider->concat(writer, list(part, part), &cancel), APR_SUCCESS);
    ck_assert_int_eq(written(writer), 8);
}
END_TEST

/* ---- reading and removing ------------------------------------------------ */

START_TEST(data_is_read)
{
    apr_off_t size;
    apr_time_t modified;
    apr_file_t *file;
    apr_finfo_t finfo;
    apr_size_t len = 2;
    apr_off_t at = 1;
    char text[3] = "";

    open_store(_i);
    make("a", "text");
    ck_assert_int_eq(provider->read(store, record_of("a"), 0, &file, &finfo, unit_pool),
                     APR_SUCCESS);
    ck_assert_int_eq(provider->size(store, record_of("a"), &size, &modified), APR_SUCCESS);
    ck_assert_int_eq(finfo.size, 4);
    ck_assert_int_eq(finfo.filetype, APR_REG);
    ck_assert_int_eq(finfo.mtime, modified);
    ck_assert_int_eq(apr_file_seek(file, APR_SET, &at), APR_SUCCESS);
    ck_assert_int_eq(apr_file_read(file, text, &len), APR_SUCCESS);
    ck_assert_str_eq(text, "ex");
    len = 1;
    ck_assert_int_ne(apr_file_write(file, "x", &len), APR_SUCCESS);
    ck_assert_str_eq(content("a"), "text");
    ck_assert(
        APR_STATUS_IS_ENOENT(provider->read(store, record_of("b"), 0, &file, &finfo, unit_pool)));
}
END_TEST

START_TEST(data_is_read_while_it_is_written)
{
    tus_writer_t *writer;

    open_store(_i);
    writer = create("a");
    put(writer, 0, "text");
    ck_assert_str_eq(content("a"), "text");
    put(writer, 4, "more");
    ck_assert_str_eq(content("a"), "textmore");
}
END_TEST

/* A file handed to a filter may be closed before its pool ends, or go to another pool. */
START_TEST(read_file_is_closed_once)
{
    apr_pool_t *p = make_pool();
    apr_finfo_t finfo;
    apr_file_t *file;
    apr_os_file_t fd;
    int again;

    open_store(_i);
    make("a", "text");
    ck_assert_int_eq(provider->read(store, record_of("a"), 0, &file, &finfo, p), APR_SUCCESS);
    apr_os_file_get(&fd, file);
    ck_assert_int_eq(apr_file_close(file), APR_SUCCESS);
    again = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, fd); /* somebody else's, with the same number */
    ck_assert_int_eq(again, fd);
    apr_pool_destroy(p);
    ck_assert_msg(fcntl(again, F_GETFD) >= 0, "the pool closed a descriptor that was not its own");
    close(again);
}
END_TEST

START_TEST(read_file_can_be_set_aside)
{
    apr_pool_t *p = make_pool(), *later = make_pool();
    int before;
    apr_finfo_t finfo;
    apr_file_t *file, *aside;
    char text[5] = "";

    open_store(_i);
    make("a", "text");
    before = open_descriptors();
    ck_assert_int_eq(provider->read(store, record_of("a"), 0, &file, &finfo, p), APR_SUCCESS);
    ck_assert_int_eq(apr_file_setaside(&aside, file, later), APR_SUCCESS);
    apr_pool_destroy(p);
    ck_assert_int_eq(apr_file_read_full(aside, text, 4, NULL), APR_SUCCESS);
    ck_assert_str_eq(text, "text");
    apr_pool_destroy(later);
    ck_assert_int_eq(open_descriptors(), before);
}
END_TEST

START_TEST(removed_data_is_gone)
{
    apr_off_t size;

    open_store(_i);
    make("a", "text");
    make("b", "text");
    ck_assert_int_eq(provider->remove(store, record_of("a")), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_ENOENT(look("a", &size)));
    ck_assert_int_eq(provider->remove(store, record_of("a")), APR_SUCCESS);
    ck_assert_int_eq(size_of("b"), 4);
    make("a", "again");
    ck_assert_int_eq(size_of("a"), 5);
}
END_TEST

START_TEST(data_is_removed_while_it_is_held)
{
    tus_writer_t *writer;

    open_store(_i);
    writer = create("a");
    put(writer, 0, "text");
    ck_assert_int_eq(provider->remove(store, record_of("a")), APR_SUCCESS);
    ck_assert(!is_there("a"));
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    ck_assert(!is_there("a"));
}
END_TEST

/* ---- discarding ---------------------------------------------------------- */

START_TEST(discard_removes_what_was_never_confirmed)
{
    tus_writer_t *writer;

    open_store(_i);
    writer = create("a");
    put(writer, 0, "text");
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    ck_assert_int_eq(provider->discard(store, "a"), APR_SUCCESS);
    ck_assert(!is_there("a"));
    ck_assert_int_eq(provider->discard(store, "a"), APR_SUCCESS);
    make("a", "again");
    ck_assert_int_eq(size_of("a"), 5);
}
END_TEST

START_TEST(discard_leaves_what_was_confirmed)
{
    tus_writer_t *writer;

    open_store(_i);
    make("a", "text");
    ck_assert_int_eq(provider->discard(store, "a"), APR_SUCCESS);
    ck_assert_int_eq(size_of("a"), 4);
    writer = create("b");
    ck_assert_int_eq(provider->confirm(writer), APR_SUCCESS);
    ck_assert_int_eq(provider->confirm(writer), APR_SUCCESS);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    ck_assert_int_eq(provider->discard(store, "b"), APR_SUCCESS);
    ck_assert(is_there("b"));
}
END_TEST

START_TEST(confirmed_tells_what_was_confirmed)
{
    tus_writer_t *writer;
    apr_off_t size = 0;

    open_store(_i);
    ck_assert(!provider->confirmed(store, record_of("a"), &size));
    writer = create("a");
    ck_assert(!provider->confirmed(store, record_of("a"), &size));
    put(writer, 0, "text");
    ck_assert(!provider->confirmed(store, record_of("a"), &size));
    ck_assert_int_eq(provider->confirm(writer), APR_SUCCESS);
    ck_assert(provider->confirmed(store, record_of("a"), &size));
    ck_assert_int_eq(size, 4);
    ck_assert_int_eq(provider->close(writer), APR_SUCCESS);
    ck_assert(provider->confirmed(store, record_of("a"), &size));
    ck_assert(!provider->confirmed(store, record_of("b"), &size));
}
END_TEST

START_TEST(discard_removes_what_a_dead_process_made)
{
    peer_t peer;

    open_store(_i);
    peer = start_peer(peer_creates);
    kill_peer(&peer);
    ck_assert_int_eq(size_of("a"), 4);
    ck_assert_int_eq(provider->discard(store, "a"), APR_SUCCESS);
    ck_assert(!is_there("a"));
}
END_TEST

START_TEST(discard_leaves_what_a_dead_process_confirmed)
{
    peer_t peer;

    open_store(_i);
    peer = start_peer(peer_creates_and_confirms);
    kill_peer(&peer);
    ck_assert_int_eq(provider->discard(store, "a"), APR_SUCCESS);
    ck_assert(is_there("a"));
}
END_TEST

START_TEST(discard_leaves_what_a_process_is_making)
{
    peer_t peer;

    open_store(_i);
    peer = start_peer(peer_creates);
    ck_assert_int_ne(provider->discard(store, "a"), APR_SUCCESS);
    ck_assert_int_eq(size_of("a"), 4);
    end_peer(&peer);
    ck_assert_int_eq(provider->discard(store, "a"), APR_SUCCESS);
    ck_assert(!is_there("a"));
}
END_TEST

START_TEST(discard_leaves_what_a_request_is_making)
{
    tus_writer_t *writer;

    open_store(_i);
    writer = create("a");
    ck_assert_int_ne(provider->discard(store, "a"), APR_SUCCESS);
    put(writer, 0, "text");
    ck_assert_int_eq(provider->confirm(writer), APR_SUCCESS);
    ck_assert_int_eq(size_of("a"), 4);
}
END_TEST

/* ---- the fence ----------------------------------------------------------- */

START_TEST(fence_excludes_another_writer)
{
    tus_writer_t *first, *second;

    open_store(_i);
    make("a", "text");
    make("b", "text");
    first = resume("a");
    second = resume("a");
    ck_assert_int_eq(provider->fence(first), APR_SUCCESS);
    ck_assert_int_eq(provider->fence(first), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_EAGAIN(provider->fence(second)));
    ck_assert_int_eq(provider->fence(resume("b")), APR_SUCCESS);
    put(first, 4, "more");
    ck_assert_int_eq(provider->close(first), APR_SUCCESS);
    ck_assert_int_eq(provider->fence(second), APR_SUCCESS);
    ck_assert_int_eq(written(second), 8);
    put(second, 8, "!");
    ck_assert_int_eq(provider->close(second), APR_SUCCESS);
    ck_assert_int_eq(size_of("a"), 9);
}
END_TEST

START_TEST(writer_that_got_no_fence_changes_nothing)
{
    tus_writer_t *first, *second;

    open_store(_i);
    make("a", "text");
    first = resume("a");
    second = resume("a");
    ck_assert_int_eq(provider->fence(first), APR_SUCCESS);
    put(first, 4, "more");
    ck_assert(APR_STATUS_IS_EAGAIN(provider->fence(second)));
    ck_assert_int_eq(provider->close(second), APR_SUCCESS);
    ck_assert_int_eq(size_of("a"), 8);
    ck_assert(APR_STATUS_IS_EAGAIN(provider->fence(resume("a"))));
}
END_TEST

START_TEST(creation_is_fenced)
{
    tus_writer_t *maker, *other;

    open_store(_i);
    maker = create("a");
    other = resume("a");
    ck_assert(APR_STATUS_IS_EAGAIN(provider->fence(other)));
    ck_assert_int_eq(provider->confirm(maker), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_EAGAIN(provider->fence(other)));
    ck_assert_int_eq(provider->close(maker), APR_SUCCESS);
    ck_assert_int_eq(provider->fence(other), APR_SUCCESS);
}
END_TEST

START_TEST(fence_ends_with_its_pool)
{
    apr_pool_t *p = make_pool();
    tus_writer_t *other;

    open_store(_i);
    create_in(p, "a");
    other = resume("a");
    ck_assert(APR_STATUS_IS_EAGAIN(provider->fence(other)));
    apr_pool_destroy(p);
    ck_assert_int_eq(provider->fence(other), APR_SUCCESS);
}
END_TEST

START_TEST(fence_excludes_another_process)
{
    tus_writer_t *writer;
    peer_t peer;

    open_store(_i);
    make("a", "text");
    writer = resume("a");
    peer = start_peer(peer_fences);
    ck_assert(APR_STATUS_IS_EAGAIN(provider->fence(writer)));
    end_peer(&peer);
    ck_assert_int_eq(provider->fence(writer), APR_SUCCESS);
}
END_TEST

START_TEST(fence_ends_with_its_process)
{
    tus_writer_t *writer;
    peer_t peer;

    open_store(_i);
    make("a", "text");
    writer = resume("a");
    peer = start_peer(peer_fences);
    ck_assert(APR_STATUS_IS_EAGAIN(provider->fence(writer)));
    kill_peer(&peer);
    ck_assert_int_eq(provider->fence(writer), APR_SUCCESS);
}
END_TEST

#define THREADS 8
#define ROUNDS 200

static int inside, worst, fenced;
static const tus_record_t *contended;

/* Each has a store of its own, as requests have. */
static void *fence_often(void *unused)
{
    apr_pool_t *p;
    tus_store_t *own;

    (void)unused;
    if (apr_pool_create(&p, NULL) != APR_SUCCESS || provider->open(&own, place, p) != APR_SUCCESS) {
        return "open";
    }
    for (int round = 0; round < ROUNDS;) {
        tus_writer_t *writer;
        apr_status_t rv;

        if (provider->resume(own, contended, &writer, p) != APR_SUCCESS) {
            return "resume";
        }
        rv = provider->fence(writer);
        if (rv == APR_SUCCESS) {
            int now = __sync_add_and_fetch(&inside, 1);

            worst = now > worst ? now : worst;
            fenced++;
            round++;
            __sync_sub_and_fetch(&inside, 1);
        }
        else if (!APR_STATUS_IS_EAGAIN(rv)) {
            return "fence";
        }
        if (provider->close(writer) != APR_SUCCESS) {
            return "close";
        }
    }
    apr_pool_destroy(p);
    return NULL;
}

START_TEST(fence_excludes_other_threads)
{
    pthread_t threads[THREADS];
    void *failed;
    int i;

    open_store(_i);
    make("a", "text");
    contended = record_of("a");
    inside = worst = fenced = 0;
    for (i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, fence_often, NULL), 0);
    }
    for (i = 0; i < THREADS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], &failed), 0);
        ck_assert_msg(!failed, "%s failed in a thread", (const char *)failed);
    }
    ck_assert_int_eq(worst, 1);
    ck_assert_int_eq(fenced, THREADS * ROUNDS);
}
END_TEST

START_TEST(fence_tells_of_removal)
{
    tus_writer_t *holder, *waiter, *late;

    open_store(_i);
    make("a", "text");
    holder = resume("a");
    waiter = resume("a");
    late = resume("a");
    ck_assert_int_eq(provider->fence(holder), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_EAGAIN(provider->fence(waiter)));
    ck_assert_int_eq(provider->remove(store, record_of("a")), APR_SUCCESS);
    ck_assert_int_eq(provider->close(holder), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_ENOENT(provider->fence(waiter)));
    ck_assert_int_eq(provider->close(waiter), APR_SUCCESS);
    make("a", "another");
    ck_assert(APR_STATUS_IS_ENOENT(provider->fence(late)));
    ck_assert_int_eq(provider->close(late), APR_SUCCESS);
    ck_assert_int_eq(size_of("a"), 7);
}
END_TEST

/* ---- the suite ----------------------------------------------------------- */

void store_conformance(Suite *suite, const tus_store_provider_t *under_test,
                       make_place_fn make_place)
{
    TCase *tcase = add_scratch_case(suite, under_test->name);
    int i = store_count++;

    if (i >= MAX_STORES) {
        abort();
    }
    stores[i].provider = under_test;
    stores[i].make_place = make_place;
    tcase_set_timeout(tcase, 120); /* there are processes and threads to wait for */

#define HOLDS(test) tcase_add_loop_test(tcase, test, i, i + 1)
    HOLDS(store_is_the_same_each_time);
    HOLDS(pool_closes_the_store);
    HOLDS(created_data_is_empty);
    HOLDS(id_is_created_once);
    HOLDS(missing_data_is_not_found);
    HOLDS(bytes_are_appended_in_requests);
    HOLDS(flush_takes_any_moment);
    HOLDS(close_keeps_what_is_stored);
    HOLDS(upload_is_no_directory_of_another);
    HOLDS(located_record_leads_to_its_data);
    HOLDS(discard_removes_what_was_never_confirmed);
    HOLDS(discard_leaves_what_was_confirmed);
    if (under_test->confirmed) {
        HOLDS(confirmed_tells_what_was_confirmed);
    }
    if (under_test->truncate) {
        HOLDS(truncate_cuts_back);
        HOLDS(truncate_cuts_back_to_nothing);
        HOLDS(truncate_makes_nothing_longer);
    }
    if (under_test->truncate && under_test->concat) {
        HOLDS(parts_are_joined_in_their_order);
        HOLDS(same_part_is_joined_twice);
        HOLDS(no_parts_and_empty_ones_are_joined);
        HOLDS(join_starts_at_the_end);
        HOLDS(part_of_another_size_is_damaged);
        HOLDS(part_that_is_gone_is_not_found);
        HOLDS(join_is_cancelled);
    }
    if (under_test->splice) {
        HOLDS(bytes_in_a_pipe_are_appended);
        HOLDS(a_pipe_fills_no_hole);
        HOLDS(a_pipe_with_too_little_is_an_error);
    }
    if (under_test->info_dir) {
        HOLDS(store_says_where_records_lie);
    }
    if (under_test->read) {
        HOLDS(data_is_read);
        HOLDS(data_is_read_while_it_is_written);
        HOLDS(read_file_is_closed_once);
        HOLDS(read_file_can_be_set_aside);
    }
    if (under_test->remove) {
        HOLDS(removed_data_is_gone);
        HOLDS(data_is_removed_while_it_is_held);
    }
    if (under_test->fence) {
        HOLDS(discard_removes_what_a_dead_process_made);
        HOLDS(discard_leaves_what_a_dead_process_confirmed);
        HOLDS(discard_leaves_what_a_process_is_making);
        HOLDS(discard_leaves_what_a_request_is_making);
        HOLDS(fence_excludes_another_writer);
        HOLDS(writer_that_got_no_fence_changes_nothing);
        HOLDS(creation_is_fenced);
        HOLDS(fence_ends_with_its_pool);
        HOLDS(fence_excludes_another_process);
        HOLDS(fence_ends_with_its_process);
        HOLDS(fence_excludes_other_threads);
    }
    if (under_test->fence && under_test->remove) {
        HOLDS(fence_tells_of_removal);
    }
#undef HOLDS
}
