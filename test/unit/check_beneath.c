/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "scratch.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define RW (APR_FPROT_UREAD | APR_FPROT_UWRITE)

static int dir; /* the scratch directory */
static int descriptors;

static void open_scratch(void)
{
    dir = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(dir, 0);
}

static void setup(void)
{
    open_scratch();
    descriptors = open_descriptors();
}

/* Every test closes what it was given; nothing else may stay open. */
static void teardown(void)
{
    ck_assert_int_eq(open_descriptors(), descriptors);
    close(dir);
}

static int is_close_on_exec(int fd)
{
    return (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
}

static void ck_opens(const char *path, int flags)
{
    int fd;

    ck_assert_int_eq(tus_beneath_open(dir, path, flags, 0, &fd), APR_SUCCESS);
    close(fd);
}

static void make_new(const char *path, apr_fileperms_t mode)
{
    int fd;

    ck_assert_int_eq(tus_beneath_open(dir, path, O_RDWR | O_CREAT, mode, &fd), APR_SUCCESS);
    ck_assert(is_close_on_exec(fd));
    ck_assert_int_eq(write(fd, "x", 1), 1);
    close(fd);
}

/* ---- paths --------------------------------------------------------------- */

#define LONG_50 "iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii"
#define LONG_255 LONG_50 LONG_50 LONG_50 LONG_50 LONG_50 "iiiii"

/* In a directory that has a/b/file, a/link -> b, a/up -> .., a/self -> . and a FIFO a/fifo. */
static const char *const refused_paths[] = {
    "",
    "/",
    ".",
    "..",
    "./a",
    "../a",
    "a/",
    "a//b/file",
    "a/b//file",
    "a/./b/file",
    "a/../a/b/file",
    "a/b/.",
    "a/b/..",
    "/a/b/file",
    "//a",
    "/etc/passwd",
    "../../../../../../etc/passwd",
    "a/link/file",
    "a/up/a/b/file",
    "a/self/b/file",
    "a/fifo/file",
    LONG_255 "i",
    "a/b/" LONG_255 "i",
    LONG_255 "i/file",
};

static void make_tree(void)
{
    scratch_mkdir("a");
    scratch_mkdir("a/b");
    scratch_put("a/b/file", "text");
    scratch_symlink("b", "a/link");
    scratch_symlink("..", "a/up");
    scratch_symlink(".", "a/self");
    scratch_plant(PLANT_FIFO, "a/fifo");
}

START_TEST(path_is_refused)
{
    const char *path = refused_paths[_i];
    struct stat st;
    int fd;

    make_tree();
    ck_assert_int_eq(tus_beneath_open(dir, path, O_RDONLY, 0, &fd), TUS_EREFUSED);
    ck_assert_int_eq(tus_beneath_open(dir, path, O_RDWR, 0, &fd), TUS_EREFUSED);
    ck_assert_int_eq(tus_beneath_open(dir, path, O_RDWR | O_CREAT, RW, &fd), TUS_EREFUSED);
    ck_assert_int_eq(tus_beneath_stat(dir, path, &st), TUS_EREFUSED);
    ck_assert_int_eq(tus_beneath_remove(dir, path), TUS_EREFUSED);
    ck_assert_int_eq(tus_beneath_dir(dir, path, &fd), TUS_EREFUSED);
    ck_assert_str_eq(scratch_get("a/b/file"), "text");
}
END_TEST

START_TEST(path_goes_through_directories)
{
    struct stat st;

    make_tree();
    ck_opens("a/b/file", O_RDONLY);
    ck_assert_int_eq(tus_beneath_stat(dir, "a/b/file", &st), APR_SUCCESS);
    ck_assert_int_eq(st.st_size, 4);
    make_new("a/b/...", RW);
    make_new("a/b/..file", RW);
    make_new(LONG_255, RW);
    ck_assert_int_eq(tus_beneath_remove(dir, "a/b/file"), APR_SUCCESS);
    ck_assert(!scratch_exists("a/b/file"));
}
END_TEST

START_TEST(missing_directory_is_not_found)
{
    struct stat st;
    int fd;

    ck_assert(APR_STATUS_IS_ENOENT(tus_beneath_open(dir, "a/b", O_RDWR, 0, &fd)));
    ck_assert(APR_STATUS_IS_ENOENT(tus_beneath_open(dir, "a/b", O_RDWR | O_CREAT, RW, &fd)));
    ck_assert(APR_STATUS_IS_ENOENT(tus_beneath_stat(dir, "a/b", &st)));
    ck_assert(APR_STATUS_IS_ENOENT(tus_beneath_dir(dir, "a/b", &fd)));
    ck_assert(!scratch_exists("a"));
}
END_TEST

/* An honest mistake, not a plant. */
START_TEST(file_is_no_directory)
{
    static const char *const paths[] = { "a/b/file/", "a/b/file/file", "a/b/file/file/file" };
    struct stat st;
    int i, fd;

    make_tree();
    for (i = 0; i < COUNT(paths); i++) {
        ck_assert(APR_STATUS_IS_ENOTDIR(tus_beneath_open(dir, paths[i], O_RDWR, 0, &fd)));
        ck_assert(
            APR_STATUS_IS_ENOTDIR(tus_beneath_open(dir, paths[i], O_RDWR | O_CREAT, RW, &fd)));
        ck_assert(APR_STATUS_IS_ENOTDIR(tus_beneath_stat(dir, paths[i], &st)));
        ck_assert(APR_STATUS_IS_ENOTDIR(tus_beneath_dir(dir, paths[i], &fd)));
    }
    ck_assert(APR_STATUS_IS_ENOTDIR(tus_beneath_dir(dir, "a/b/file", &fd)));
    ck_assert_str_eq(scratch_get("a/b/file"), "text");
}
END_TEST

/* ---- directories --------------------------------------------------------- */

START_TEST(dir_of_the_administrator_is_opened_as_it_stands)
{
    int fd;

    make_tree();
    ck_assert_int_eq(tus_beneath_dir(-1, scratch_path("a/up/a/./link//"), &fd), APR_SUCCESS);
    ck_assert(is_close_on_exec(fd));
    ck_assert_int_eq(faccessat(fd, "file", F_OK, 0), 0);
    close(fd);
    ck_assert(APR_STATUS_IS_ENOENT(tus_beneath_dir(-1, scratch_path("none"), &fd)));
    ck_assert_int_ne(tus_beneath_dir(-1, scratch_path("a/b/file"), &fd), APR_SUCCESS);
}
END_TEST

START_TEST(dir_beneath_is_opened)
{
    int fd;

    make_tree();
    ck_assert_int_eq(tus_beneath_dir(dir, "a/b", &fd), APR_SUCCESS);
    ck_assert(is_close_on_exec(fd));
    ck_assert_int_eq(faccessat(fd, "file", F_OK, 0), 0);
    close(fd);
    ck_assert_int_eq(tus_beneath_dir(dir, "a", &fd), APR_SUCCESS);
    close(fd);
    ck_assert(APR_STATUS_IS_ENOENT(tus_beneath_dir(dir, "none", &fd)));
}
END_TEST

START_TEST(dir_that_is_none_is_refused)
{
    static const char *const paths[] = { "a/link", "a/up", "a/self", "a/dangling", "a/fifo" };
    int i, fd;

    make_tree();
    scratch_symlink("nowhere", "a/dangling");
    for (i = 0; i < COUNT(paths); i++) {
        ck_assert_int_eq(tus_beneath_dir(dir, paths[i], &fd), TUS_EREFUSED);
    }
    ck_assert_int_eq(tus_beneath_dir(dir, "a/b/file", &fd), ENOTDIR);
}
END_TEST

/* ---- what is no file of ours --------------------------------------------- */

START_TEST(plant_is_refused)
{
    static const int flags[] = { O_RDONLY, O_WRONLY, O_RDWR };
    struct stat st;
    int i, fd;

    scratch_plant((plant_e)_i, "plant");
    for (i = 0; i < COUNT(flags); i++) {
        ck_assert_int_eq(tus_beneath_open(dir, "plant", flags[i], 0, &fd), TUS_EREFUSED);
    }
    ck_assert_int_eq(tus_beneath_stat(dir, "plant", &st), TUS_EREFUSED);
    ck_assert_str_eq(scratch_get("elsewhere"), "secret");
}
END_TEST

START_TEST(plant_is_in_the_way_of_a_new_file)
{
    struct stat before, after;
    int fd;

    scratch_plant((plant_e)_i, "plant");
    before = scratch_stat("plant");
    ck_assert(APR_STATUS_IS_EEXIST(tus_beneath_open(dir, "plant", O_RDWR | O_CREAT, RW, &fd)));
    ck_assert(
        APR_STATUS_IS_EEXIST(tus_beneath_open(dir, "plant", O_RDWR | O_CREAT | O_TRUNC, RW, &fd)));
    after = scratch_stat("plant");
    ck_assert_uint_eq(after.st_ino, before.st_ino);
    ck_assert_uint_eq(after.st_mode, before.st_mode);
    ck_assert(!scratch_exists("nowhere"));
    ck_assert_str_eq(scratch_get("elsewhere"), "secret");
}
END_TEST

START_TEST(plant_is_removed_itself)
{
    scratch_plant((plant_e)_i, "plant");
    if (_i == PLANT_DIRECTORY) {
        ck_assert_int_ne(tus_beneath_remove(dir, "plant"), APR_SUCCESS);
        ck_assert(scratch_exists("plant"));
    }
    else {
        ck_assert_int_eq(tus_beneath_remove(dir, "plant"), APR_SUCCESS);
        ck_assert(!scratch_exists("plant"));
    }
    ck_assert_str_eq(scratch_get("elsewhere"), "secret");
}
END_TEST

START_TEST(hard_link_is_refused_by_both_names)
{
    struct stat st;
    int fd;

    scratch_plant(PLANT_HARD_LINK, "plant");
    ck_assert_int_eq(tus_beneath_open(dir, "elsewhere", O_RDONLY, 0, &fd), TUS_EREFUSED);
    ck_assert_int_eq(tus_beneath_stat(dir, "elsewhere", &st), TUS_EREFUSED);
    ck_assert_int_eq(unlink(scratch_path("plant")), 0);
    ck_opens("elsewhere", O_RDONLY);
}
END_TEST

/* ---- files --------------------------------------------------------------- */

START_TEST(file_is_opened)
{
    struct stat st;
    int fd;

    scratch_put("file", "text");
    ck_assert_int_eq(tus_beneath_open(dir, "file", O_RDONLY, 0, &fd), APR_SUCCESS);
    ck_assert(is_close_on_exec(fd));
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_uint_eq(st.st_ino, scratch_stat("file").st_ino);
    close(fd);
    ck_opens("file", O_RDWR);
    ck_assert_str_eq(scratch_get("file"), "text");
    ck_assert_int_eq(tus_beneath_stat(dir, "file", &st), APR_SUCCESS);
    ck_assert_uint_eq(st.st_ino, scratch_stat("file").st_ino);
    ck_assert(APR_STATUS_IS_ENOENT(tus_beneath_open(dir, "none", O_RDWR, 0, &fd)));
    ck_assert(APR_STATUS_IS_ENOENT(tus_beneath_stat(dir, "none", &st)));
}
END_TEST

START_TEST(new_file_is_new)
{
    int fd;

    scratch_put("file", "text");
    ck_assert(APR_STATUS_IS_EEXIST(tus_beneath_open(dir, "file", O_RDWR | O_CREAT, RW, &fd)));
    ck_assert(
        APR_STATUS_IS_EEXIST(tus_beneath_open(dir, "file", O_RDWR | O_CREAT | O_TRUNC, RW, &fd)));
    ck_assert_str_eq(scratch_get("file"), "text");
}
END_TEST

static const struct {
    apr_fileperms_t mode;
    unsigned bits;
} modes[] = {
    { RW, 0600 },
    { APR_FPROT_UREAD, 0400 },
    { RW | APR_FPROT_GREAD, 0640 },
    { RW | APR_FPROT_GREAD | APR_FPROT_GWRITE, 0660 },
    { RW | APR_FPROT_GREAD | APR_FPROT_WREAD, 0644 },
    { RW | APR_FPROT_GREAD | APR_FPROT_GWRITE | APR_FPROT_WREAD | APR_FPROT_WWRITE, 0666 },
    { RW | APR_FPROT_WSTICKY, 01600 },
    { RW | APR_FPROT_GREAD | APR_FPROT_GWRITE | APR_FPROT_WSTICKY, 01660 },
};

START_TEST(mode_is_exact_whatever_the_umask)
{
    static const mode_t masks[] = { 0, 022, 027, 077, 0177, 0777 };
    int i;

    for (i = 0; i < COUNT(masks); i++) {
        umask(masks[i]);
        make_new("new", modes[_i].mode);
        ck_assert_msg(scratch_mode("new") == modes[_i].bits, "umask %04o: %04o is %04o",
                      (unsigned)masks[i], modes[_i].bits, scratch_mode("new"));
        ck_assert_int_eq(tus_beneath_remove(dir, "new"), APR_SUCCESS);
    }
}
END_TEST

START_TEST(chmod_is_exact)
{
    int fd;

    umask(077);
    scratch_put("file", "text");
    ck_assert_int_eq(tus_beneath_open(dir, "file", O_RDWR, 0, &fd), APR_SUCCESS);
    ck_assert_int_eq(tus_beneath_chmod(fd, modes[_i].mode), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("file"), modes[_i].bits);
    close(fd);
    ck_assert_int_ne(tus_beneath_chmod(fd, modes[_i].mode), APR_SUCCESS);
}
END_TEST

START_TEST(removing_is_idempotent)
{
    make_new("file", RW);
    ck_assert_int_eq(tus_beneath_remove(dir, "file"), APR_SUCCESS);
    ck_assert(!scratch_exists("file"));
    ck_assert_int_eq(tus_beneath_remove(dir, "file"), APR_SUCCESS);
    ck_assert_int_eq(tus_beneath_remove(dir, "none/file"), APR_SUCCESS);
}
END_TEST

/* ---- writing ------------------------------------------------------------- */

START_TEST(write_is_at_the_offset)
{
    apr_size_t done;
    int fd;

    scratch_put("file", "0123456789");
    ck_assert_int_eq(tus_beneath_open(dir, "file", O_RDWR, 0, &fd), APR_SUCCESS);
    ck_assert_int_eq(tus_beneath_write(fd, 8, "abcd", 4, &done), APR_SUCCESS);
    ck_assert_uint_eq(done, 4);
    ck_assert_int_eq(tus_beneath_write(fd, 1, "XY", 2, &done), APR_SUCCESS);
    ck_assert_uint_eq(done, 2);
    ck_assert_int_eq(tus_beneath_write(fd, 5, "", 0, &done), APR_SUCCESS);
    ck_assert_uint_eq(done, 0);
    ck_assert_str_eq(scratch_get("file"), "0XY34567abcd");
    ck_assert_int_eq(tus_beneath_write(fd, APR_INT64_C(0x300000000), "end", 3, &done), APR_SUCCESS);
    ck_assert_int_eq(scratch_stat("file").st_size, APR_INT64_C(0x300000003));
    close(fd);
}
END_TEST

START_TEST(write_that_fails_stores_nothing)
{
    apr_size_t done = 7;
    int fd;

    scratch_put("file", "text");
    ck_assert_int_eq(tus_beneath_open(dir, "file", O_RDONLY, 0, &fd), APR_SUCCESS);
    ck_assert_int_ne(tus_beneath_write(fd, 0, "abcd", 4, &done), APR_SUCCESS);
    ck_assert_uint_eq(done, 0);
    ck_assert_str_eq(scratch_get("file"), "text");
    close(fd);
}
END_TEST

#define PART 10000
#define ROOM 65536

/* Writes in parts until it fails; each must count what is in the file. */
static apr_status_t fill(const char *path)
{
    char *data = apr_palloc(unit_pool, PART);
    apr_off_t offset = 0;
    apr_size_t done;
    apr_status_t rv;
    int fd;

    memset(data, 'x', PART);
    ck_assert_int_eq(tus_beneath_open(dir, path, O_RDWR | O_CREAT, RW, &fd), APR_SUCCESS);
    do {
        rv = tus_beneath_write(fd, offset, data, PART, &done);
        offset += (apr_off_t)done;
        ck_assert_int_eq(scratch_stat(path).st_size, offset);
    } while (rv == APR_SUCCESS && offset <= ROOM);
    close(fd);
    ck_assert_int_eq(offset, ROOM);
    ck_assert_uint_eq(strspn(scratch_get(path), "x"), ROOM);
    return rv;
}

START_TEST(write_beyond_the_limit_counts_what_is_stored)
{
    apr_status_t rv;

    scratch_limit_files(ROOM);
    rv = fill("file");
    scratch_unlimit_files();
    ck_assert_int_eq(rv, EFBIG);
}
END_TEST

START_TEST(write_to_a_full_disk_counts_what_is_stored)
{
    close(dir);
    scratch_mount("disk", ROOM);
    open_scratch();
    ck_assert(APR_STATUS_IS_ENOSPC(fill("disk/file")));
}
END_TEST

/* ---- directories --------------------------------------------------------- */

#define RWX (RW | APR_FPROT_UEXECUTE)

static void make_dir(const char *name, apr_fileperms_t mode)
{
    struct stat st;
    int fd;

    ck_assert_int_eq(tus_beneath_mkdir(dir, name, mode, &fd), APR_SUCCESS);
    ck_assert(is_close_on_exec(fd));
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_uint_eq(st.st_ino, scratch_stat(name).st_ino);
    close(fd);
}

START_TEST(directory_is_made_or_found)
{
    umask(_i ? 0 : 077);
    make_dir("new", RWX | APR_FPROT_GREAD | APR_FPROT_GEXECUTE);
    ck_assert_uint_eq(scratch_mode("new"), 0750);
    make_dir("new", RWX);
    ck_assert_uint_eq(scratch_mode("new"), 0750);
}
END_TEST

START_TEST(plant_is_no_directory)
{
    int fd;

    scratch_plant((plant_e)_i, "x");
    switch (_i) {
    case PLANT_DIRECTORY:
        make_dir("x", RWX);
        break;
    case PLANT_HARD_LINK:
        ck_assert(APR_STATUS_IS_ENOTDIR(tus_beneath_mkdir(dir, "x", RWX, &fd)));
        break;
    default:
        ck_assert_int_eq(tus_beneath_mkdir(dir, "x", RWX, &fd), TUS_EREFUSED);
    }
    ck_assert(!scratch_exists("nowhere"));
}
END_TEST

Suite *beneath_suite(void)
{
    Suite *suite = suite_create("beneath");
    TCase *tcase = add_scratch_case(suite, "beneath");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, path_is_refused, 0, COUNT(refused_paths));
    tcase_add_test(tcase, path_goes_through_directories);
    tcase_add_test(tcase, missing_directory_is_not_found);
    tcase_add_test(tcase, file_is_no_directory);
    tcase_add_test(tcase, dir_of_the_administrator_is_opened_as_it_stands);
    tcase_add_test(tcase, dir_beneath_is_opened);
    tcase_add_test(tcase, dir_that_is_none_is_refused);
    tcase_add_loop_test(tcase, plant_is_refused, 0, PLANT_COUNT);
    tcase_add_loop_test(tcase, plant_is_in_the_way_of_a_new_file, 0, PLANT_COUNT);
    tcase_add_loop_test(tcase, plant_is_removed_itself, 0, PLANT_COUNT);
    tcase_add_test(tcase, hard_link_is_refused_by_both_names);
    tcase_add_test(tcase, file_is_opened);
    tcase_add_test(tcase, new_file_is_new);
    tcase_add_loop_test(tcase, mode_is_exact_whatever_the_umask, 0, COUNT(modes));
    tcase_add_loop_test(tcase, chmod_is_exact, 0, COUNT(modes));
    tcase_add_test(tcase, removing_is_idempotent);
    tcase_add_test(tcase, write_is_at_the_offset);
    tcase_add_test(tcase, write_that_fails_stores_nothing);
    tcase_add_test(tcase, write_beyond_the_limit_counts_what_is_stored);
    if (scratch_can_mount()) {
        tcase_add_test(tcase, write_to_a_full_disk_counts_what_is_stored);
    }

    tcase = add_scratch_case(suite, "directories");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, directory_is_made_or_found, 0, 2);
    tcase_add_loop_test(tcase, plant_is_no_directory, 0, PLANT_COUNT);
    return suite;
}
