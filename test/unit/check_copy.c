/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Copying between files, on one file system and from another. */
#include "scratch.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define MIB 1048576
#define SHARED "/dev/shm/tus-unit-XXXXXX"

/* Of the running test. */
static int from, to;

static int open_new(const char *name)
{
    int fd = open(scratch_path(name), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    ck_assert_int_ge(fd, 0);
    return fd;
}

static void setup(void)
{
    from = open_new("from");
    to = open_new("to");
}

static void teardown(void)
{
    close(from);
    close(to);
}

/* Another file system than that of the scratch directory: nothing but a copy by hand will do. */
static void move_source(void)
{
    struct stat here, there;
    char path[] = SHARED;

    close(from);
    from = mkstemp(path);
    ck_assert_int_ge(from, 0);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(fstat(from, &there), 0);
    ck_assert_int_eq(fstat(to, &here), 0);
    ck_assert_uint_ne(here.st_dev, there.st_dev);
}

static int has_shared_memory(void)
{
    return access("/dev/shm", W_OK) == 0;
}

static char *bytes_of(int seed, apr_size_t len)
{
    char *bytes = apr_palloc(unit_pool, len + 1);
    unsigned state = (unsigned)seed;

    for (apr_size_t i = 0; i < len; i++) {
        state = state * 1664525U + 1013904223U;
        bytes[i] = (char)(state >> 24);
    }
    return bytes;
}

static void put(int fd, apr_off_t at, const char *bytes, apr_size_t len)
{
    apr_size_t done;

    ck_assert_int_eq(tus_beneath_write(fd, at, bytes, len, &done), APR_SUCCESS);
}

static void ck_holds(int fd, apr_off_t at, const char *bytes, apr_size_t len)
{
    char *found = apr_palloc(unit_pool, len + 1);

    ck_assert_int_eq(pread(fd, found, len, at), (ssize_t)len);
    ck_assert_msg(memcmp(found, bytes, len) == 0, "%lu bytes at %ld are wrong", (unsigned long)len,
                  (long)at);
}

static apr_off_t size_of(int fd)
{
    struct stat st;

    ck_assert_int_eq(fstat(fd, &st), 0);
    return st.st_size;
}

/* Blocks, parts of them, and more than a slice. */
static const apr_size_t offsets[] = { 0, 1, 4095, 4096, 65536, 65537 };
static const apr_size_t lengths[] = { 0, 1, 4095, 4096, 4097, 65536, 100000, 33 * MIB + 5 };

static void copy_all(apr_size_t offset)
{
    int i;

    for (i = 0; i < COUNT(lengths); i++) {
        const char *bytes = bytes_of(i, lengths[i]);
        const char *before = bytes_of(100 + i, offset);

        ck_assert_int_eq(ftruncate(from, 0), 0);
        ck_assert_int_eq(ftruncate(to, 0), 0);
        put(from, 0, bytes, lengths[i]);
        put(to, 0, before, offset);
        ck_assert_int_eq(tus_copy(from, to, (apr_off_t)offset, (apr_off_t)lengths[i], NULL),
                         APR_SUCCESS);
        ck_assert_int_eq(size_of(to), (apr_off_t)(offset + lengths[i]));
        ck_holds(to, 0, before, offset);
        ck_holds(to, (apr_off_t)offset, bytes, lengths[i]);
        ck_holds(from, 0, bytes, lengths[i]);
    }
}

START_TEST(bytes_are_copied)
{
    copy_all(offsets[_i]);
}
END_TEST

START_TEST(bytes_are_copied_from_another_file_system)
{
    move_source();
    copy_all(offsets[_i]);
}
END_TEST

START_TEST(no_more_is_copied_than_asked_for)
{
    put(from, 0, bytes_of(1, 10000), 10000);
    ck_assert_int_eq(tus_copy(from, to, 0, 5000, NULL), APR_SUCCESS);
    ck_assert_int_eq(size_of(to), 5000);
    ck_holds(to, 0, bytes_of(1, 10000), 5000);
}
END_TEST

START_TEST(position_of_the_files_means_nothing)
{
    put(from, 0, "text", 4);
    ck_assert_int_eq(lseek(from, 2, SEEK_SET), 2);
    ck_assert_int_eq(lseek(to, 9, SEEK_SET), 9);
    ck_assert_int_eq(tus_copy(from, to, 0, 4, NULL), APR_SUCCESS);
    ck_holds(to, 0, "text", 4);
    ck_assert_int_eq(size_of(to), 4);
}
END_TEST

static void ck_short_source_is_damaged(void)
{
    put(from, 0, bytes_of(1, 5000), 5000);
    ck_assert_int_eq(tus_copy(from, to, 0, 5001, NULL), TUS_EDAMAGED);
    ck_assert_int_eq(ftruncate(from, 0), 0);
    ck_assert_int_eq(tus_copy(from, to, 0, 1, NULL), TUS_EDAMAGED);
}

START_TEST(short_source_is_damaged)
{
    ck_short_source_is_damaged();
}
END_TEST

START_TEST(short_source_on_another_file_system_is_damaged)
{
    move_source();
    ck_short_source_is_damaged();
}
END_TEST

static int cancel_after(void *baton)
{
    int *left = baton;

    return --*left < 0;
}

static void ck_cancelled(void)
{
    int left = 0, looks;
    tus_cancel_t cancel = { cancel_after, &left };

    ck_assert_int_eq(ftruncate(from, 64 * MIB), 0);
    put(from, 64 * MIB, "x", 1); /* so that there is no whole block at the end */
    ck_assert_int_eq(tus_copy(from, to, 0, 64 * MIB + 1, &cancel), APR_EINTR);
    ck_assert_int_eq(size_of(to), 0);
    left = looks = 1000;
    ck_assert_int_eq(tus_copy(from, to, 1, 64 * MIB + 1, &cancel), APR_SUCCESS);
    ck_assert_msg(looks - left >= 4, "asked %d times only", looks - left);
    left = 3;
    ck_assert_int_eq(ftruncate(to, 1), 0);
    ck_assert_int_eq(tus_copy(from, to, 1, 64 * MIB + 1, &cancel), APR_EINTR);
    ck_assert_int_lt(size_of(to), 64 * MIB + 2);
}

START_TEST(copying_is_cancelled)
{
    ck_cancelled();
}
END_TEST

START_TEST(copying_from_another_file_system_is_cancelled)
{
    move_source();
    ck_cancelled();
}
END_TEST

START_TEST(unwritable_target_is_an_error)
{
    int reader = open(scratch_path("to"), O_RDONLY | O_CLOEXEC);

    put(from, 0, "text", 4);
    ck_assert_int_ne(tus_copy(from, reader, 0, 4, NULL), APR_SUCCESS);
    ck_assert_int_ne(tus_copy(to, -1, 0, 4, NULL), APR_SUCCESS);
    ck_assert_int_ne(tus_copy(-1, to, 0, 4, NULL), APR_SUCCESS);
    close(reader);
}
END_TEST

START_TEST(full_disk_is_an_error)
{
    apr_status_t rv;

    put(from, 0, bytes_of(1, 200000), 200000);
    scratch_limit_files(65536);
    rv = tus_copy(from, to, 0, 200000, NULL);
    scratch_unlimit_files();
    ck_assert_int_eq(rv, EFBIG);
    ck_assert_int_le(size_of(to), 65536);

    scratch_mount("disk", 65536);
    close(to);
    to = open_new("disk/to");
    ck_assert(APR_STATUS_IS_ENOSPC(tus_copy(from, to, 0, 200000, NULL)));
}
END_TEST

Suite *copy_suite(void)
{
    Suite *suite = suite_create("copy");
    TCase *tcase = add_scratch_case(suite, "copy");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, bytes_are_copied, 0, COUNT(offsets));
    tcase_add_test(tcase, no_more_is_copied_than_asked_for);
    tcase_add_test(tcase, position_of_the_files_means_nothing);
    tcase_add_test(tcase, short_source_is_damaged);
    tcase_add_test(tcase, copying_is_cancelled);
    tcase_add_test(tcase, unwritable_target_is_an_error);
    if (has_shared_memory()) {
        tcase_add_loop_test(tcase, bytes_are_copied_from_another_file_system, 0, COUNT(offsets));
        tcase_add_test(tcase, short_source_on_another_file_system_is_damaged);
        tcase_add_test(tcase, copying_from_another_file_system_is_cancelled);
    }
    if (scratch_can_mount()) {
        tcase_add_test(tcase, full_disk_is_an_error);
    }
    return suite;
}
