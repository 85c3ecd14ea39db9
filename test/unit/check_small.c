/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "scratch.h"
#include "tus_words.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static int descriptors;

static void setup(void)
{
    descriptors = open_descriptors();
}

static void teardown(void)
{
    ck_assert_int_eq(open_descriptors(), descriptors);
}

/* ---- reading ------------------------------------------------------------- */

static const char *const texts[] = { "", "1", "12345", "1234567", "12345678", "123456789" };

START_TEST(file_is_read_as_far_as_it_fits)
{
    apr_size_t whole = strlen(texts[_i]), fits = whole < 7 ? whole : 7, len;
    char text[9];

    scratch_put("file", texts[_i]);
    memset(text, 'x', sizeof(text));
    ck_assert_int_eq(tus_small_get(text, 8, &len, scratch_path("file")), APR_SUCCESS);
    ck_assert_uint_eq(len, fits);
    ck_assert_mem_eq(text, texts[_i], fits);
    ck_assert_int_eq(text[fits], '\0');
    ck_assert_int_eq(text[8], 'x');
}
END_TEST

START_TEST(what_was_replaced_is_read)
{
    const char *path = scratch_path("file");
    char text[8];
    apr_size_t len;

    ck_assert_int_eq(tus_small_replace(path, "one", 0, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(tus_small_replace(path, "three", 1, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(tus_small_get(text, sizeof(text), &len, path), APR_SUCCESS);
    ck_assert_str_eq(text, "three");
    ck_assert_uint_eq(len, 5);
}
END_TEST

START_TEST(what_was_published_is_read)
{
    const char *path = scratch_path("file");
    char text[8];
    apr_size_t len;

    ck_assert_int_eq(tus_small_publish(path, "one", unit_pool), APR_SUCCESS);
    ck_assert_int_eq(tus_small_publish(path, "three", unit_pool), APR_SUCCESS);
    ck_assert_int_eq(tus_small_get(text, sizeof(text), &len, path), APR_SUCCESS);
    ck_assert_str_eq(text, "three");
}
END_TEST

START_TEST(nothing_is_published_without_its_directory)
{
    ck_assert(APR_STATUS_IS_ENOENT(tus_small_publish(scratch_path("none/file"), "one", unit_pool)));
}
END_TEST

START_TEST(nul_is_a_byte)
{
    int fd = open(scratch_path("file"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    char text[8];
    apr_size_t len;

    ck_assert_int_eq(write(fd, "a\0b", 3), 3);
    close(fd);
    ck_assert_int_eq(tus_small_get(text, sizeof(text), &len, scratch_path("file")), APR_SUCCESS);
    ck_assert_uint_eq(len, 3);
    ck_assert_mem_eq(text, "a\0b", 4);
}
END_TEST

START_TEST(missing_file_is_not_found)
{
    char text[8];
    apr_size_t len;

    ck_assert(APR_STATUS_IS_ENOENT(tus_small_get(text, sizeof(text), &len, scratch_path("none"))));
}
END_TEST

static const struct {
    plant_e plant;
    apr_status_t rv;
} plants[] = { { PLANT_SYMLINK, ELOOP },
               { PLANT_DANGLING_SYMLINK, ELOOP },
               { PLANT_SOCKET, ENXIO },
               { PLANT_DIRECTORY, EISDIR } };

START_TEST(plant_is_not_read)
{
    char text[8] = "";
    apr_size_t len;

    scratch_plant(plants[_i].plant, "plant");
    ck_assert_int_eq(tus_small_get(text, sizeof(text), &len, scratch_path("plant")), plants[_i].rv);
    ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(pipe_is_not_waited_for)
{
    char text[8];
    apr_size_t len;

    scratch_plant(PLANT_FIFO, "pipe");
    ck_assert_int_eq(tus_small_get(text, sizeof(text), &len, scratch_path("pipe")), APR_SUCCESS);
    ck_assert_uint_eq(len, 0);
}
END_TEST

Suite *small_suite(void)
{
    Suite *suite = suite_create("small");
    TCase *tcase = add_scratch_case(suite, "reading");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, file_is_read_as_far_as_it_fits, 0, COUNT(texts));
    tcase_add_test(tcase, what_was_replaced_is_read);
    tcase_add_test(tcase, what_was_published_is_read);
    tcase_add_test(tcase, nothing_is_published_without_its_directory);
    tcase_add_test(tcase, nul_is_a_byte);
    tcase_add_test(tcase, missing_file_is_not_found);
    tcase_add_loop_test(tcase, plant_is_not_read, 0, COUNT(plants));
    tcase_add_test(tcase, pipe_is_not_waited_for);
    return suite;
}
