/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The data store "file": what holds for all stores, and what lies on disk. The
 * owner of the directory is taken to be hostile.
 */
#include "check_store.h"
#include "scratch.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#define RW (APR_FPROT_UREAD | APR_FPROT_UWRITE)
#define RWG (RW | APR_FPROT_GREAD | APR_FPROT_GWRITE)
#define RWX (RW | APR_FPROT_UEXECUTE)
#define RWXG (RWG | APR_FPROT_UEXECUTE | APR_FPROT_GEXECUTE)
#define BIRTH 01660

static const tus_store_provider_t *const file = &tus_store_file;
static tus_store_t *store; /* in "store" */

static const tus_place_t *make_place(void)
{
    tus_place_t *place = apr_pcalloc(unit_pool, sizeof(*place));

    scratch_mkdir("place");
    place->path = scratch_path("place");
    place->file_mode = RWG;
    place->dir_mode = RWXG;
    return place;
}

static void open_at(const char *path, apr_fileperms_t file_mode, apr_fileperms_t dir_mode)
{
    tus_place_t place = { .path = path, .file_mode = file_mode, .dir_mode = dir_mode };

    ck_assert_int_eq(file->open(&store, &place, unit_pool), APR_SUCCESS);
}

static void setup(void)
{
    scratch_mkdir("store");
    open_at(scratch_path("store"), RWG, RWXG);
}

static tus_record_t *record_of(const char *id)
{
    tus_record_t *record = apr_pcalloc(unit_pool, sizeof(*record));

    record->id = id;
    record->ours = 1;
    return record;
}

static tus_writer_t *create(const char *id)
{
    tus_writer_t *writer = NULL;

    ck_assert_int_eq(file->create(store, record_of(id), &writer, unit_pool), APR_SUCCESS);
    return writer;
}

static tus_writer_t *resume(const char *id)
{
    tus_writer_t *writer = NULL;

    ck_assert_int_eq(file->resume(store, record_of(id), &writer, unit_pool), APR_SUCCESS);
    return writer;
}

static void put(tus_writer_t *writer, apr_off_t offset, const char *text)
{
    apr_size_t done;

    ck_assert_int_eq(file->write(writer, offset, text, strlen(text), &done), APR_SUCCESS);
    ck_assert_uint_eq(done, strlen(text));
}

/* ---- where a store lies -------------------------------------------------- */

static void make_tree(void)
{
    scratch_mkdir("site");
    scratch_mkdir("site/up");
    scratch_mkdir("site/up/loads");
    scratch_symlink("up", "site/link");
    scratch_symlink("../store", "site/out");
    scratch_symlink("loads", "site/up/link");
    scratch_put("site/file", "");
}

/* The root as it is found when the configuration is read. */
static tus_place_t beneath_site(const char *path)
{
    struct stat st = scratch_stat("site");

    return (tus_place_t){ .root = scratch_path("site"),
                          .path = path,
                          .root_device = st.st_dev,
                          .root_inode = st.st_ino,
                          .file_mode = RW,
                          .dir_mode = RWX };
}

static void ck_lies_in(const tus_place_t *place, const char *name)
{
    struct stat st = scratch_stat(name);
    const char *path = NULL;
    tus_store_t *found = NULL;

    ck_assert_int_eq(file->open(&found, place, unit_pool), APR_SUCCESS);
    ck_assert_uint_eq(found->identity.device, st.st_dev);
    ck_assert_uint_eq(found->identity.inode, st.st_ino);
    ck_assert_uint_eq(found->identity.owner, st.st_uid);
    ck_assert_int_eq(file->path(found, &path, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(path, scratch_path(name));
}

static void ck_refused(const tus_place_t *place)
{
    int before = open_descriptors();
    tus_store_t *found;

    ck_assert_int_eq(file->open(&found, place, unit_pool), TUS_EREFUSED);
    ck_assert_int_eq(open_descriptors(), before);
}

START_TEST(place_of_the_administrator)
{
    tus_place_t place = { .file_mode = RW, .dir_mode = RWX };
    tus_store_t *found;
    int before;

    make_tree();
    place.path = scratch_path("site/up/loads");
    ck_lies_in(&place, "site/up/loads");
    place.path = scratch_path("site/link/../link//link/");
    ck_lies_in(&place, "site/up/loads");
    place.path = scratch_path("site/out");
    ck_lies_in(&place, "store");

    before = open_descriptors();
    place.path = scratch_path("none");
    ck_assert(APR_STATUS_IS_ENOENT(file->open(&found, &place, unit_pool)));
    place.path = scratch_path("site/file");
    ck_assert_int_ne(file->open(&found, &place, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(open_descriptors(), before);
}
END_TEST

START_TEST(place_beneath_a_root)
{
    tus_place_t place;
    tus_store_t *found;

    make_tree();
    place = beneath_site("up/loads");
    ck_lies_in(&place, "site/up/loads");
    place = beneath_site("up");
    ck_lies_in(&place, "site/up");
    place = beneath_site(".");
    ck_lies_in(&place, "site");
    place.root_inode = 0;
    place.path = "up";
    ck_lies_in(&place, "site/up");
    place = beneath_site("none");
    ck_assert(APR_STATUS_IS_ENOENT(file->open(&found, &place, unit_pool)));
    place = beneath_site("file");
    ck_assert(APR_STATUS_IS_ENOTDIR(file->open(&found, &place, unit_pool)));
    place = beneath_site("file/x");
    ck_assert(APR_STATUS_IS_ENOTDIR(file->open(&found, &place, unit_pool)));
    place.root = scratch_path("none");
    ck_assert(APR_STATUS_IS_ENOENT(file->open(&found, &place, unit_pool)));
}
END_TEST

static const char *const refused_places[] = {
    "",     "..",   "../store",  "/",    "/tmp", "up/..",      "up/../up", "up//loads",
    "./up", "up/.", "up/loads/", "link", "out",  "link/loads", "up/link",  "../site/up",
};

START_TEST(place_is_refused)
{
    tus_place_t place;

    make_tree();
    place = beneath_site(refused_places[_i]);
    ck_refused(&place);
    place.root_inode = 0;
    ck_refused(&place);
}
END_TEST

START_TEST(swapped_root_is_refused)
{
    tus_place_t here, below;

    make_tree();
    here = beneath_site(".");
    below = beneath_site("up");
    ck_assert_int_eq(rename(scratch_path("site"), scratch_path("old")), 0);
    make_tree();
    ck_refused(&here);
    ck_refused(&below);

    ck_assert_int_eq(rename(scratch_path("site"), scratch_path("other")), 0);
    scratch_symlink("other", "site");
    ck_refused(&below);
    ck_assert_int_eq(unlink(scratch_path("site")), 0);
    scratch_symlink("old", "site"); /* leads to the very same directory */
    ck_lies_in(&below, "old/up");

    below.root_device++;
    ck_refused(&below);
}
END_TEST

START_TEST(swapped_place_is_refused)
{
    tus_place_t place;

    make_tree();
    place = beneath_site("up/loads");
    ck_lies_in(&place, "site/up/loads");
    ck_assert_int_eq(rename(scratch_path("site/up"), scratch_path("site/was")), 0);
    scratch_symlink("../store", "site/up");
    ck_refused(&place);
}
END_TEST

START_TEST(opened_store_stays_where_it_was)
{
    const char *path;

    ck_assert_int_eq(rename(scratch_path("store"), scratch_path("moved")), 0);
    scratch_mkdir("store");
    create("a");
    ck_assert(scratch_exists("moved/a"));
    ck_assert(!scratch_exists("store/a"));
    ck_assert_int_eq(file->path(store, &path, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(path, scratch_path("moved"));
}
END_TEST

START_TEST(records_lie_with_the_data)
{
    apr_os_file_t dir;
    struct stat st;

    ck_assert_int_eq(file->info_dir(store, &dir), APR_SUCCESS);
    ck_assert_int_eq(fstat(dir, &st), 0);
    ck_assert_uint_eq(st.st_ino, scratch_stat("store").st_ino);
    ck_assert(fcntl(dir, F_GETFD) & FD_CLOEXEC);
}
END_TEST

/* ---- what is made -------------------------------------------------------- */

static void ck_located(const char *store_path)
{
    tus_record_t *record = record_of("a/b");

    ck_assert_int_eq(file->locate(store, record, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(record->storage_type, "filestore");
    ck_assert_str_eq(record->storage_path, apr_pstrcat(unit_pool, store_path, "/a/b", NULL));
    ck_assert_str_eq(record->storage_info_path,
                     apr_pstrcat(unit_pool, store_path, "/a/b.info", NULL));
}

START_TEST(record_says_where_the_data_lies)
{
    tus_place_t place;

    open_at(apr_pstrcat(unit_pool, scratch, "//store///", NULL), RW, RWX);
    ck_located(scratch_path("store"));
    make_tree();
    place = beneath_site("up/loads");
    ck_assert_int_eq(file->open(&store, &place, unit_pool), APR_SUCCESS);
    ck_located(scratch_path("site/up/loads"));
    place = beneath_site(".");
    ck_assert_int_eq(file->open(&store, &place, unit_pool), APR_SUCCESS);
    ck_located(scratch_path("site"));
    open_at("/", RW, RWX);
    ck_located("");
}
END_TEST

static const mode_t masks[] = { 077, 022, 0, 0777 };

START_TEST(data_is_born_marked_and_gets_its_mode)
{
    tus_writer_t *writer;

    umask(masks[_i]);
    writer = create("a");
    ck_assert_uint_eq(scratch_mode("store/a"), BIRTH);
    put(writer, 0, "text");
    ck_assert_uint_eq(scratch_mode("store/a"), BIRTH);
    ck_assert_int_eq(file->confirm(writer), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("store/a"), 0660);
    ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("store/a"), 0660);

    open_at(scratch_path("store"), RW, RWX);
    writer = create("b");
    ck_assert_int_eq(file->confirm(writer), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("store/b"), 0600);
}
END_TEST

START_TEST(data_takes_the_group_of_a_setgid_store)
{
    tus_writer_t *writer;
    gid_t group = geteuid() == 0 ? 4711 : getegid();

    ck_assert_int_eq(chown(scratch_path("store"), (uid_t)-1, group), 0);
    ck_assert_int_eq(chmod(scratch_path("store"), 02770), 0);
    writer = create("a");
    ck_assert_int_eq(file->confirm(writer), APR_SUCCESS);
    ck_assert_uint_eq(scratch_stat("store/a").st_gid, group);
    ck_assert_uint_eq(scratch_mode("store/a"), 0660);
}
END_TEST

/* Its maker died after the record was written, but before confirm. */
START_TEST(fence_confirms_what_has_a_record)
{
    tus_writer_t *writer = create("a");

    put(writer, 0, "text");
    ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("store/a"), BIRTH);
    writer = resume("a");
    ck_assert_uint_eq(scratch_mode("store/a"), BIRTH);
    ck_assert_int_eq(file->fence(writer), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("store/a"), 0660);
}
END_TEST

START_TEST(what_the_fence_confirmed_is_confirmed)
{
    tus_record_t *outside = record_of("a");
    apr_off_t size;
    int before;

    ck_assert_int_eq(file->close(create("a")), APR_SUCCESS);
    before = open_descriptors();
    ck_assert(!file->confirmed(store, record_of("a"), &size));
    ck_assert(!file->confirmed(store, record_of("missing"), &size));
    ck_assert(!file->confirmed(store, record_of("a/b"), &size)); /* beneath a file */
    ck_assert_int_eq(open_descriptors(), before);
    ck_assert_uint_eq(scratch_mode("store/a"), BIRTH);
    ck_assert_int_eq(file->fence(resume("a")), APR_SUCCESS);
    ck_assert(file->confirmed(store, record_of("a"), &size));
    scratch_put("elsewhere", "secret");
    outside->storage_type = "filestore";
    outside->storage_path = scratch_path("elsewhere");
    outside->storage_info_path = scratch_path("store/a.info");
    ck_assert(!file->confirmed(store, outside, &size));
}
END_TEST

START_TEST(fence_leaves_a_foreign_mode)
{
    scratch_put("store/a", "text");
    ck_assert_int_eq(chmod(scratch_path("store/a"), 0604), 0);
    ck_assert_int_eq(file->fence(resume("a")), APR_SUCCESS);
    ck_assert_uint_eq(scratch_mode("store/a"), 0604);
}
END_TEST

START_TEST(discard_leaves_foreign_files)
{
    scratch_put("store/a", "text");
    ck_assert_int_eq(file->discard(store, "a"), APR_SUCCESS);
    ck_assert_str_eq(scratch_get("store/a"), "text");
    scratch_put("store/empty", "");
    ck_assert_int_eq(file->discard(store, "empty"), APR_SUCCESS);
    ck_assert(scratch_exists("store/empty"));
}
END_TEST

START_TEST(discard_closes_what_it_opened)
{
    int before;

    ck_assert_int_eq(file->close(create("a")), APR_SUCCESS);
    scratch_put("store/b", "text");
    before = open_descriptors();
    ck_assert_int_eq(file->discard(store, "a"), APR_SUCCESS);
    ck_assert_int_eq(file->discard(store, "b"), APR_SUCCESS);
    ck_assert_int_eq(file->discard(store, "c"), APR_SUCCESS);
    ck_assert_int_eq(open_descriptors(), before);
}
END_TEST

/* ---- what was planted ---------------------------------------------------- */

START_TEST(planted_data_is_refused)
{
    int before = open_descriptors();
    tus_writer_t *writer;
    apr_off_t size;
    apr_time_t modified;
    apr_file_t *opened;
    apr_finfo_t finfo;

    scratch_plant((plant_e)_i, "store/a");
    ck_assert_int_eq(file->resume(store, record_of("a"), &writer, unit_pool), TUS_EREFUSED);
    ck_assert_int_eq(file->size(store, record_of("a"), &size, &modified), TUS_EREFUSED);
    ck_assert_int_eq(file->read(store, record_of("a"), 0, &opened, &finfo, unit_pool),
                     TUS_EREFUSED);
    ck_assert(!file->confirmed(store, record_of("a"), &size));
    ck_assert_int_ne(file->discard(store, "a"), APR_SUCCESS);
    ck_assert(APR_STATUS_IS_EEXIST(file->create(store, record_of("a"), &writer, unit_pool)));
    ck_assert(scratch_exists("store/a"));
    ck_assert(!scratch_exists("nowhere"));
    ck_assert_str_eq(scratch_get("elsewhere"), "secret");
    ck_assert_int_eq(open_descriptors(), before);
}
END_TEST

START_TEST(data_replaced_by_a_plant_is_not_found_at_the_fence)
{
    tus_writer_t *writer;

    ck_assert_int_eq(file->close(create("a")), APR_SUCCESS);
    writer = resume("a");
    ck_assert_int_eq(unlink(scratch_path("store/a")), 0);
    scratch_plant((plant_e)_i, "store/a");
    ck_assert(APR_STATUS_IS_ENOENT(file->fence(writer)));
    ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    ck_assert_str_eq(scratch_get("elsewhere"), "secret");
}
END_TEST

START_TEST(data_linked_elsewhere_is_refused_at_the_fence)
{
    tus_writer_t *writer;

    ck_assert_int_eq(file->close(create("a")), APR_SUCCESS);
    writer = resume("a");
    ck_assert_int_eq(link(scratch_path("store/a"), scratch_path("link")), 0);
    ck_assert_int_eq(file->fence(writer), TUS_EREFUSED);
}
END_TEST

START_TEST(data_replaced_by_a_file_is_not_found_at_the_fence)
{
    tus_writer_t *writer;

    scratch_put("store/a", "text");
    writer = resume("a");
    scratch_put("store/b", "other");
    ck_assert_int_eq(rename(scratch_path("store/b"), scratch_path("store/a")), 0);
    ck_assert(APR_STATUS_IS_ENOENT(file->fence(writer)));
    ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    ck_assert_str_eq(scratch_get("store/a"), "other");
}
END_TEST

START_TEST(replaced_file_is_left_alone)
{
    tus_writer_t *writer;
    apr_size_t done;
    apr_off_t size;
    apr_time_t modified;

    scratch_put("store/a", "text");
    writer = resume("a");
    ck_assert_int_eq(file->fence(writer), APR_SUCCESS);
    scratch_put("store/b", "other");
    ck_assert_int_eq(rename(scratch_path("store/b"), scratch_path("store/a")), 0);
    ck_assert_int_eq(file->write(writer, 4, "more", 4, &done), APR_ENOENT);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(file->written(writer, &size, &modified), APR_ENOENT);
    ck_assert_int_eq(file->truncate(writer, 2), APR_SUCCESS);
    ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    ck_assert_str_eq(scratch_get("store/a"), "other");
}
END_TEST

START_TEST(planted_data_is_removed_itself)
{
    scratch_plant((plant_e)_i, "store/a");
    if (_i == PLANT_DIRECTORY) {
        ck_assert_int_ne(file->remove(store, record_of("a")), APR_SUCCESS);
    }
    else {
        ck_assert_int_eq(file->remove(store, record_of("a")), APR_SUCCESS);
        ck_assert(!scratch_exists("store/a"));
    }
    ck_assert_str_eq(scratch_get("elsewhere"), "secret");
}
END_TEST

START_TEST(planted_directory_on_the_way_is_refused)
{
    tus_writer_t *writer;
    apr_off_t size;
    apr_time_t modified;

    scratch_put("a", "secret");
    scratch_symlink("..", "store/up");
    ck_assert_int_eq(file->resume(store, record_of("up/a"), &writer, unit_pool), TUS_EREFUSED);
    ck_assert_int_eq(file->size(store, record_of("up/a"), &size, &modified), TUS_EREFUSED);
    ck_assert_int_eq(file->create(store, record_of("up/b"), &writer, unit_pool), TUS_EREFUSED);
    ck_assert_int_eq(file->remove(store, record_of("up/a")), TUS_EREFUSED);
    ck_assert_int_eq(file->discard(store, "up/a"), TUS_EREFUSED);
    ck_assert_str_eq(scratch_get("a"), "secret");
    ck_assert(!scratch_exists("b"));
}
END_TEST

/* Between making the file and fencing it, another server may have discarded it. */
START_TEST(creation_that_lost_its_name_fails)
{
    tus_writer_t *writer;
    pid_t pid = fork();
    int i, status, lost = 0;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
            file->discard(store, "a");
        }
    }
    for (i = 0; i < 3000; i++) {
        if (file->create(store, record_of("a"), &writer, unit_pool) != APR_SUCCESS) {
            continue;
        }
        lost += !scratch_exists("store/a");
        ck_assert_int_eq(file->remove(store, record_of("a")), APR_SUCCESS);
        ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    }
    kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    ck_assert_msg(lost == 0, "%d uploads were made without a name", lost);
}
END_TEST

/* ---- bytes --------------------------------------------------------------- */

START_TEST(bytes_are_in_the_file_and_nothing_else)
{
    tus_writer_t *writer = create("a");

    put(writer, 0, "text");
    ck_assert_str_eq(scratch_get("store/a"), "text");
    put(writer, 4, "more");
    ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    ck_assert_str_eq(scratch_get("store/a"), "textmore");
    ck_assert_int_eq(file->close(writer), APR_SUCCESS); /* ended already */
    ck_assert_str_eq(scratch_get("store/a"), "textmore");
}
END_TEST

START_TEST(large_offsets_are_right)
{
    const apr_off_t big = APR_INT64_C(0x280000001);
    tus_writer_t *writer = create("a");
    apr_off_t size;
    apr_time_t modified;
    apr_file_t *opened;
    apr_finfo_t finfo;

    ck_assert_int_eq(truncate(scratch_path("store/a"), big), 0);
    put(writer, big, "end");
    ck_assert_int_eq(file->written(writer, &size, &modified), APR_SUCCESS);
    ck_assert_int_eq(size, big + 3);
    ck_assert_int_eq(file->size(store, record_of("a"), &size, &modified), APR_SUCCESS);
    ck_assert_int_eq(size, big + 3);
    ck_assert_int_eq(file->read(store, record_of("a"), 0, &opened, &finfo, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(finfo.size, big + 3);
}
END_TEST

START_TEST(read_has_the_flags_asked_for)
{
    apr_finfo_t finfo;
    apr_file_t *opened;
    apr_os_file_t fd;

    scratch_put("store/a", "text");
    ck_assert_int_eq(
        file->read(store, record_of("a"), APR_FOPEN_SENDFILE_ENABLED, &opened, &finfo, unit_pool),
        APR_SUCCESS);
    ck_assert(apr_file_flags_get(opened) & APR_FOPEN_SENDFILE_ENABLED);
    ck_assert(apr_file_flags_get(opened) & APR_FOPEN_READ);
    ck_assert(!(apr_file_flags_get(opened) & APR_FOPEN_WRITE));
    ck_assert(finfo.valid & APR_FINFO_MTIME);
    ck_assert(finfo.valid & APR_FINFO_SIZE);
    ck_assert_uint_eq(finfo.inode, scratch_stat("store/a").st_ino);
    apr_os_file_get(&fd, opened);
    ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
}
END_TEST

START_TEST(writer_is_not_inherited_by_programs)
{
    struct stat mine = scratch_stat("store");
    int fd, seen = 0;

    create("a");
    resume("a");
    for (fd = 3; fd < 1024; fd++) {
        struct stat st;

        if (fstat(fd, &st) == 0 && st.st_dev == mine.st_dev && S_ISREG(st.st_mode)
            && st.st_ino == scratch_stat("store/a").st_ino) {
            ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
            seen++;
        }
    }
    ck_assert_int_eq(seen, 2);
}
END_TEST

#define ROOM 65536

/* One write of twice what there is room for. */
static apr_status_t overfill(const char *name)
{
    tus_writer_t *writer = create("a");
    char *data = apr_palloc(unit_pool, 2 * ROOM);
    apr_size_t done = 0;
    apr_off_t size;
    apr_time_t modified;
    apr_status_t rv;

    memset(data, 'x', 2 * ROOM);
    rv = file->write(writer, 0, data, 2 * ROOM, &done);
    ck_assert_uint_eq(done, ROOM);
    ck_assert_int_eq(file->written(writer, &size, &modified), APR_SUCCESS);
    ck_assert_int_eq(size, ROOM);
    ck_assert_int_ne(file->write(writer, size, data, 1, &done), APR_SUCCESS);
    ck_assert_uint_eq(done, 0);
    ck_assert_int_eq(file->close(writer), APR_SUCCESS);
    ck_assert_uint_eq(strspn(scratch_get(name), "x"), ROOM);
    return rv;
}

START_TEST(limited_splice_counts_what_is_stored)
{
    tus_writer_t *writer = create("a");
    char *data = apr_palloc(unit_pool, ROOM);
    apr_size_t done = 0;
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    memset(data, 'x', ROOM);
    ck_assert_int_eq(write(ends[1], data, ROOM), ROOM);
    put(writer, 0, "hello");
    scratch_limit_files(ROOM);
    ck_assert_int_eq(file->splice(writer, 5, ends[0], ROOM, &done), EFBIG);
    scratch_unlimit_files();
    ck_assert_uint_eq(done, ROOM - 5);
    ck_assert_uint_eq(scratch_stat("store/a").st_size, ROOM);
    close(ends[0]);
    close(ends[1]);
}
END_TEST

START_TEST(limited_write_counts_what_is_stored)
{
    apr_status_t rv;

    scratch_limit_files(ROOM);
    rv = overfill("store/a");
    scratch_unlimit_files();
    ck_assert_int_eq(rv, EFBIG);
}
END_TEST

START_TEST(full_disk_counts_what_is_stored)
{
    scratch_mount("disk", ROOM);
    open_at(scratch_path("disk"), RW, RWX);
    ck_assert(APR_STATUS_IS_ENOSPC(overfill("disk/a")));
}
END_TEST

Suite *store_file_suite(void)
{
    Suite *suite = suite_create("store_file");
    TCase *tcase;

    store_conformance(suite, file, make_place);

    tcase = add_scratch_case(suite, "place");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, place_of_the_administrator);
    tcase_add_test(tcase, place_beneath_a_root);
    tcase_add_loop_test(tcase, place_is_refused, 0, COUNT(refused_places));
    tcase_add_test(tcase, swapped_root_is_refused);
    tcase_add_test(tcase, swapped_place_is_refused);
    tcase_add_test(tcase, opened_store_stays_where_it_was);
    tcase_add_test(tcase, records_lie_with_the_data);

    tcase = add_scratch_case(suite, "made");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, record_says_where_the_data_lies);
    tcase_add_loop_test(tcase, data_is_born_marked_and_gets_its_mode, 0, COUNT(masks));
    tcase_add_test(tcase, data_takes_the_group_of_a_setgid_store);
    tcase_add_test(tcase, fence_confirms_what_has_a_record);
    tcase_add_test(tcase, what_the_fence_confirmed_is_confirmed);
    tcase_add_test(tcase, fence_leaves_a_foreign_mode);
    tcase_add_test(tcase, discard_leaves_foreign_files);
    tcase_add_test(tcase, discard_closes_what_it_opened);

    tcase = add_scratch_case(suite, "raced");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, creation_that_lost_its_name_fails);

    tcase = add_scratch_case(suite, "planted");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_loop_test(tcase, planted_data_is_refused, 0, PLANT_COUNT);
    tcase_add_loop_test(tcase, data_replaced_by_a_plant_is_not_found_at_the_fence, 0, PLANT_COUNT);
    tcase_add_test(tcase, data_linked_elsewhere_is_refused_at_the_fence);
    tcase_add_test(tcase, data_replaced_by_a_file_is_not_found_at_the_fence);
    tcase_add_test(tcase, replaced_file_is_left_alone);
    tcase_add_loop_test(tcase, planted_data_is_removed_itself, 0, PLANT_COUNT);
    tcase_add_test(tcase, planted_directory_on_the_way_is_refused);

    tcase = add_scratch_case(suite, "bytes");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, bytes_are_in_the_file_and_nothing_else);
    tcase_add_test(tcase, large_offsets_are_right);
    tcase_add_test(tcase, read_has_the_flags_asked_for);
    tcase_add_test(tcase, writer_is_not_inherited_by_programs);
    tcase_add_test(tcase, limited_write_counts_what_is_stored);
    tcase_add_test(tcase, limited_splice_counts_what_is_stored);
    if (scratch_can_mount()) {
        tcase_add_test(tcase, full_disk_counts_what_is_stored);
    }
    return suite;
}
