/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Bytes in a pipe as a bucket, and the network bucket that puts them there. */
#include "scratch.h"
#include "tus_words.h"

#include <apr_portable.h>
#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIPES 4
#define KIB 1024

/* Of the running test: a connection, its reading end, and where buckets come from. */
static int client, server;
static apr_bucket_alloc_t *list;
static apr_bucket_brigade *brigade;
static struct rlimit files;

static void setup(void)
{
    int ends[2], size = 4 * KIB * KIB;

    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    client = ends[0];
    server = ends[1];
    setsockopt(client, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    list = apr_bucket_alloc_create(unit_pool);
    brigade = apr_brigade_create(unit_pool, list);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &files), 0);
    tus_pipe_init(1, PIPES, unit_pool);
}

static void teardown(void)
{
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
    close(client);
    close(server);
}

static void push(const char *text)
{
    ck_assert_int_eq(write(client, text, strlen(text)), (int)strlen(text));
}

static char *letters(apr_size_t len)
{
    char *text = apr_palloc(unit_pool, len + 1);

    for (apr_size_t i = 0; i < len; i++) {
        text[i] = (char)('a' + i % 26);
    }
    text[len] = '\0';
    return text;
}

static apr_bucket *some_bucket(void)
{
    return apr_bucket_immortal_create("", 0, list);
}

static apr_bucket *filled(apr_size_t max)
{
    apr_bucket *bucket = some_bucket();
    apr_size_t len = 0;

    ck_assert_int_eq(tus_pipe_fill(bucket, server, max, &len), APR_SUCCESS);
    ck_assert_uint_gt(len, 0);
    ck_assert_uint_eq(bucket->length, len);
    APR_BRIGADE_INSERT_TAIL(brigade, bucket);
    return bucket;
}

static apr_status_t fill_status(void)
{
    apr_bucket *bucket = some_bucket();
    apr_size_t len = 1;
    apr_status_t rv = tus_pipe_fill(bucket, server, KIB, &len);

    ck_assert_uint_eq(len, 0);
    ck_assert(APR_BUCKET_IS_IMMORTAL(bucket));
    apr_bucket_destroy(bucket);
    return rv;
}

static void assert_reads(apr_bucket *bucket, const char *text)
{
    const char *data;
    apr_size_t len;

    ck_assert_int_eq(apr_bucket_read(bucket, &data, &len, APR_NONBLOCK_READ), APR_SUCCESS);
    ck_assert_uint_eq(len, strlen(text));
    ck_assert_int_eq(memcmp(data, text, len), 0);
    ck_assert(APR_BUCKET_IS_HEAP(bucket));
}

static void take(apr_bucket *bucket, const char *text)
{
    char data[64];
    int fd = tus_pipe_of(bucket);

    ck_assert_int_ge(fd, 0);
    ck_assert_uint_eq(bucket->length, strlen(text));
    ck_assert_int_eq(read(fd, data, bucket->length), (int)strlen(text));
    ck_assert_int_eq(memcmp(data, text, strlen(text)), 0);
    tus_pipe_taken(bucket);
}

/* ---- the bucket ---------------------------------------------------------- */

START_TEST(its_bytes_are_taken_from_the_pipe)
{
    apr_bucket *bucket;
    int fd;

    push("hello");
    bucket = filled(KIB);
    fd = tus_pipe_of(bucket);
    take(bucket, "hello");
    apr_bucket_delete(bucket);

    push("again");
    bucket = filled(KIB);
    ck_assert_int_eq(tus_pipe_of(bucket), fd);
    take(bucket, "again");
}
END_TEST

START_TEST(no_more_are_moved_than_wanted)
{
    push("helloGET /");
    take(filled(5), "hello");
    take(filled(5), "GET /");
    ck_assert_int_eq(fill_status(), APR_EAGAIN);
}
END_TEST

START_TEST(the_end_of_the_socket_leaves_the_bucket)
{
    ck_assert_int_eq(fill_status(), APR_EAGAIN);
    close(client);
    client = -1;
    ck_assert_int_eq(fill_status(), APR_SUCCESS);
}
END_TEST

START_TEST(who_reads_it_has_the_bytes)
{
    apr_bucket *bucket;

    push("hello");
    bucket = filled(KIB);
    assert_reads(bucket, "hello");
    ck_assert_int_eq(tus_pipe_of(bucket), -1);
    assert_reads(bucket, "hello");
}
END_TEST

START_TEST(a_large_one_is_read_whole)
{
    char *text = letters(300 * KIB);

    push(text);
    assert_reads(filled(KIB * KIB), text);
}
END_TEST

START_TEST(it_can_be_set_aside)
{
    apr_bucket *bucket;

    push("hello");
    bucket = filled(KIB);
    ck_assert_int_eq(apr_bucket_setaside(bucket, unit_pool), APR_SUCCESS);
    assert_reads(bucket, "hello");
}
END_TEST

START_TEST(a_copy_has_the_same_bytes)
{
    apr_bucket *bucket, *copy;

    push("hello");
    bucket = filled(KIB);
    ck_assert_int_eq(apr_bucket_copy(bucket, &copy), APR_SUCCESS);
    APR_BRIGADE_INSERT_TAIL(brigade, copy);
    assert_reads(copy, "hello");
    assert_reads(bucket, "hello");
}
END_TEST

START_TEST(halves_are_taken_in_turn)
{
    apr_bucket *bucket, *rest;

    push("helloworld");
    bucket = filled(KIB);
    ck_assert_int_eq(apr_bucket_split(bucket, 5), APR_SUCCESS);
    rest = APR_BUCKET_NEXT(bucket);
    ck_assert_int_eq(tus_pipe_of(rest), -1);
    take(bucket, "hello");
    apr_bucket_delete(bucket);
    assert_reads(rest, "world");
}
END_TEST

/* Rather than another's bytes, there are none. */
START_TEST(out_of_turn_nothing_is_read)
{
    apr_bucket *bucket, *rest;
    const char *data;
    apr_size_t len;

    push("helloworld");
    bucket = filled(KIB);
    ck_assert_int_eq(apr_bucket_split(bucket, 5), APR_SUCCESS);
    rest = APR_BUCKET_NEXT(bucket);
    ck_assert_int_eq(apr_bucket_read(rest, &data, &len, APR_BLOCK_READ), APR_EGENERAL);
    apr_bucket_delete(bucket);
    ck_assert_int_eq(apr_bucket_read(rest, &data, &len, APR_BLOCK_READ), APR_EGENERAL);
}
END_TEST

/* Another bucket never sees what nobody took. */
START_TEST(what_is_left_goes_with_the_bucket)
{
    push("helloworld");
    apr_bucket_delete(filled(5));
    take(filled(KIB), "world");
}
END_TEST

START_TEST(an_emptied_brigade_keeps_no_pipe)
{
    int before = open_descriptors();

    for (int i = 0; i < 3 * PIPES; i++) {
        push("hello");
        filled(KIB);
        apr_brigade_cleanup(brigade);
    }
    ck_assert_int_eq(open_descriptors(), before);
}
END_TEST

/* ---- the pipes ----------------------------------------------------------- */

START_TEST(there_are_only_a_few)
{
    for (int i = 0; i < PIPES; i++) {
        push("x");
        filled(KIB);
    }
    push("y");
    ck_assert_int_eq(fill_status(), APR_EBUSY);
    apr_bucket_delete(APR_BRIGADE_FIRST(brigade));
    take(filled(KIB), "y");
}
END_TEST

START_TEST(they_are_close_on_exec_and_large)
{
    int fd;

    push("x");
    fd = tus_pipe_of(filled(KIB));
    ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    ck_assert_int_eq(fcntl(fd, F_GETPIPE_SZ), KIB * KIB);
}
END_TEST

/* A user's pipes are limited: many processes have small ones, and no more than they have threads.
 */
START_TEST(many_processes_have_less)
{
    tus_pipe_init(200, 1, unit_pool);
    push("x");
    ck_assert_int_eq(fcntl(tus_pipe_of(filled(KIB)), F_GETPIPE_SZ), 128 * KIB);
    ck_assert_int_eq(fill_status(), APR_EBUSY);
}
END_TEST

START_TEST(without_descriptors_there_is_none)
{
    struct rlimit none = { .rlim_cur = 0, .rlim_max = files.rlim_max };

    push("x");
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    ck_assert_int_eq(fill_status(), APR_EBUSY);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
    take(filled(KIB), "x");
}
END_TEST

START_TEST(they_go_with_their_pool)
{
    int before = open_descriptors();
    apr_pool_t *pool;

    apr_pool_create(&pool, unit_pool);
    tus_pipe_init(1, PIPES, pool);
    push("x");
    take(filled(KIB), "x");
    apr_brigade_cleanup(brigade);
    ck_assert_int_eq(open_descriptors(), before + 2);
    apr_pool_destroy(pool);
    ck_assert_int_eq(open_descriptors(), before);
    push("x");
    ck_assert_int_eq(fill_status(), APR_EBUSY);
}
END_TEST

/* ---- the network bucket -------------------------------------------------- */

static tus_network_t network;

static void open_network(void)
{
    apr_socket_t *socket = NULL;

    ck_assert_int_eq(apr_os_sock_put(&socket, &server, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(apr_socket_timeout_set(socket, apr_time_from_msec(50)), APR_SUCCESS);
    network = (tus_network_t){ .socket = socket };
    APR_BRIGADE_INSERT_TAIL(brigade, tus_network_bucket(&network, list));
}

/* What a read of the last bucket says; the bucket before it has what came. */
static apr_status_t read_last(apr_read_type_e block, apr_size_t *len)
{
    const char *data;

    return apr_bucket_read(APR_BRIGADE_LAST(brigade), &data, len, block);
}

/* All that came, as whoever reads buckets sees it. */
static const char *read_all(void)
{
    apr_bucket *last = APR_BRIGADE_LAST(brigade), *bucket;
    char *text = apr_pstrdup(unit_pool, "");

    for (bucket = APR_BRIGADE_FIRST(brigade); bucket != last; bucket = APR_BUCKET_NEXT(bucket)) {
        const char *data;
        apr_size_t len;

        ck_assert_int_eq(apr_bucket_read(bucket, &data, &len, APR_BLOCK_READ), APR_SUCCESS);
        text = apr_pstrcat(unit_pool, text, apr_pstrmemdup(unit_pool, data, len), NULL);
    }
    return text;
}

START_TEST(it_reads_as_any_other)
{
    apr_size_t len;

    open_network();
    ck_assert_int_eq(read_last(APR_NONBLOCK_READ, &len), APR_EAGAIN);
    ck_assert(APR_STATUS_IS_TIMEUP(read_last(APR_BLOCK_READ, &len)));
    push("hello");
    ck_assert_int_eq(read_last(APR_NONBLOCK_READ, &len), APR_SUCCESS);
    ck_assert_uint_eq(len, 5);
    push(" world");
    ck_assert_int_eq(read_last(APR_BLOCK_READ, &len), APR_SUCCESS);
    ck_assert_str_eq(read_all(), "hello world");
}
END_TEST

START_TEST(its_end_is_an_empty_bucket)
{
    apr_size_t len = 1;

    open_network();
    network.left = _i;
    close(client);
    client = -1;
    ck_assert_int_eq(read_last(APR_NONBLOCK_READ, &len), APR_SUCCESS);
    ck_assert_uint_eq(len, 0);
    ck_assert_uint_eq(APR_BRIGADE_LAST(brigade)->length, 0);
}
END_TEST

START_TEST(in_bulk_it_reads_much_at_once)
{
    apr_size_t len;

    open_network();
    push(letters(200 * KIB));
    ck_assert_int_eq(read_last(APR_NONBLOCK_READ, &len), APR_SUCCESS);
    ck_assert_uint_eq(len, APR_BUCKET_BUFF_SIZE);
    network.is_bulk = 1;
    ck_assert_int_eq(read_last(APR_NONBLOCK_READ, &len), APR_SUCCESS);
    ck_assert_uint_eq(len, 64 * KIB);
}
END_TEST

START_TEST(it_moves_what_is_left_and_no_more)
{
    apr_size_t len;

    open_network();
    network.left = 5;
    push("helloGET /");
    ck_assert_int_eq(read_last(APR_NONBLOCK_READ, &len), APR_SUCCESS);
    ck_assert_uint_eq(len, 5);
    ck_assert_int_ge(tus_pipe_of(APR_BRIGADE_FIRST(brigade)), 0);
    ck_assert_int_eq(network.left, 0);
    ck_assert_int_eq(network.moved, 5);
    network.is_shut = 0;
    ck_assert_int_eq(read_last(APR_NONBLOCK_READ, &len), APR_SUCCESS);
    ck_assert_uint_eq(len, 5);
    ck_assert_int_eq(network.moved, 5);
    ck_assert_str_eq(read_all(), "helloGET /");
}
END_TEST

/* So that a brigade has one of them, which no filter needs to split. */
START_TEST(after_a_move_it_is_shut)
{
    apr_size_t len;

    open_network();
    network.left = 10;
    push("hello");
    ck_assert_int_eq(read_last(APR_NONBLOCK_READ, &len), APR_SUCCESS);
    push("world");
    ck_assert_int_eq(read_last(APR_NONBLOCK_READ, &len), APR_EAGAIN);
    ck_assert_int_eq(read_last(APR_BLOCK_READ, &len), APR_SUCCESS);
    ck_assert_int_eq(network.left, 0);
    ck_assert_str_eq(read_all(), "helloworld");
}
END_TEST

START_TEST(without_a_pipe_it_reads)
{
    apr_size_t len;

    tus_pipe_init(1, 0, unit_pool);
    open_network();
    network.left = 10;
    push("helloworldGET /");
    ck_assert_int_eq(read_last(APR_NONBLOCK_READ, &len), APR_SUCCESS);
    ck_assert_int_eq(network.left, 0);
    ck_assert_int_eq(network.moved, 0);
    ck_assert_str_eq(read_all(), "helloworldGET /");
}
END_TEST

/* A filter may look at what a read hands out: as many bytes as it says are there to be seen. */
START_TEST(what_a_move_hands_out_can_be_looked_at)
{
    const char *data;
    apr_size_t len, sum = 0;

    open_network();
    network.left = 200 * KIB;
    push(letters(200 * KIB));
    ck_assert_int_eq(apr_bucket_read(APR_BRIGADE_LAST(brigade), &data, &len, APR_NONBLOCK_READ),
                     APR_SUCCESS);
    for (apr_size_t i = 0; i < len; i++) {
        sum += (unsigned char)data[i];
    }
    ck_assert_uint_eq(sum, 0);
    ck_assert_uint_eq(strlen(read_all()), len);
}
END_TEST

Suite *pipe_suite(void)
{
    Suite *suite = suite_create("pipe");
    TCase *bucket = add_scratch_case(suite, "bucket");
    TCase *pipes = add_scratch_case(suite, "pipes");
    TCase *net = add_scratch_case(suite, "network");

    tcase_add_checked_fixture(bucket, setup, teardown);
    tcase_add_test(bucket, its_bytes_are_taken_from_the_pipe);
    tcase_add_test(bucket, no_more_are_moved_than_wanted);
    tcase_add_test(bucket, the_end_of_the_socket_leaves_the_bucket);
    tcase_add_test(bucket, who_reads_it_has_the_bytes);
    tcase_add_test(bucket, a_large_one_is_read_whole);
    tcase_add_test(bucket, it_can_be_set_aside);
    tcase_add_test(bucket, a_copy_has_the_same_bytes);
    tcase_add_test(bucket, halves_are_taken_in_turn);
    tcase_add_test(bucket, out_of_turn_nothing_is_read);
    tcase_add_test(bucket, what_is_left_goes_with_the_bucket);
    tcase_add_test(bucket, an_emptied_brigade_keeps_no_pipe);

    tcase_add_checked_fixture(pipes, setup, teardown);
    tcase_add_test(pipes, there_are_only_a_few);
    tcase_add_test(pipes, they_are_close_on_exec_and_large);
    tcase_add_test(pipes, many_processes_have_less);
    tcase_add_test(pipes, without_descriptors_there_is_none);
    tcase_add_test(pipes, they_go_with_their_pool);

    tcase_add_checked_fixture(net, setup, teardown);
    tcase_add_test(net, it_reads_as_any_other);
    tcase_add_loop_test(net, its_end_is_an_empty_bucket, 0, 2);
    tcase_add_test(net, in_bulk_it_reads_much_at_once);
    tcase_add_test(net, it_moves_what_is_left_and_no_more);
    tcase_add_test(net, after_a_move_it_is_shut);
    tcase_add_test(net, without_a_pipe_it_reads);
    tcase_add_test(net, what_a_move_hands_out_can_be_looked_at);
    return suite;
}
