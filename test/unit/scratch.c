/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "scratch.h"

#include <apr_strings.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

const char *scratch;

static char base[PATH_MAX]; /* of the running test case */
static char *root;          /* the same, resolved */
static char *mounted;       /* what a test mounted on, or NULL */
static mode_t old_umask;

/* ---- fixture ------------------------------------------------------------- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

static int remove_all(const char *path)
{
    return nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Around all tests of a case, not in their processes: what a failed test leaves goes too. */
static void make_base(void)
{
    const char *temp = getenv("TMPDIR");

    snprintf(base, sizeof(base), "%s/tus-unit-XXXXXX", temp ? temp : "/tmp");
    if (!mkdtemp(base)) {
        perror(base);
        exit(EXIT_FAILURE);
    }
}

static void remove_base(void)
{
    remove_all(base);
}

static void setup(void)
{
    root = realpath(base, NULL);
    ck_assert_ptr_nonnull(root);
    scratch = apr_pstrcat(unit_pool, root, "/test", NULL);
    remove_all(scratch); /* of a test that failed */
    ck_assert_int_eq(mkdir(scratch, 0700), 0);
    mounted = NULL;
    old_umask = umask(022);
}

static void teardown(void)
{
    umask(old_umask);
    scratch_unlimit_files();
    if (mounted) {
        ck_assert_int_eq(umount2(mounted, MNT_DETACH), 0);
        free(mounted);
    }
    ck_assert_int_eq(remove_all(scratch), 0);
    free(root);
    scratch = root = NULL;
}

TCase *add_scratch_case(Suite *suite, const char *name)
{
    TCase *tcase = add_case(suite, name);

    tcase_add_unchecked_fixture(tcase, make_base, remove_base);
    tcase_add_checked_fixture(tcase, setup, teardown);
    return tcase;
}

/* ---- files --------------------------------------------------------------- */

const char *scratch_path(const char *name)
{
    return apr_pstrcat(unit_pool, scratch, "/", name, NULL);
}

void scratch_mkdir(const char *name)
{
    ck_assert_int_eq(mkdir(scratch_path(name), 0755), 0);
}

void scratch_put(const char *name, const char *text)
{
    FILE *file = fopen(scratch_path(name), "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

const char *scratch_get(const char *name)
{
    struct stat st = scratch_stat(name);
    char *text = apr_pcalloc(unit_pool, (apr_size_t)st.st_size + 1);
    FILE *file = fopen(scratch_path(name), "r");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fread(text, 1, (size_t)st.st_size, file), (size_t)st.st_size);
    fclose(file);
    return text;
}

void scratch_symlink(const char *target, const char *name)
{
    ck_assert_int_eq(symlink(target, scratch_path(name)), 0);
}

struct stat scratch_stat(const char *name)
{
    struct stat st;

    ck_assert_msg(lstat(scratch_path(name), &st) == 0, "%s: %s", name, strerror(errno));
    return st;
}

unsigned scratch_mode(const char *name)
{
    return scratch_stat(name).st_mode & 07777;
}

int scratch_exists(const char *name)
{
    struct stat st;

    return lstat(scratch_path(name), &st) == 0;
}

static void plant_socket(const char *path)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    ck_assert_int_ge(fd, 0);
    ck_assert_uint_lt(strlen(path), sizeof(address.sun_path));
    strcpy(address.sun_path, path);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    close(fd);
}

void scratch_plant(plant_e plant, const char *name)
{
    const char *path = scratch_path(name);

    if (!scratch_exists("elsewhere")) {
        scratch_put("elsewhere", "secret");
    }
    switch (plant) {
    case PLANT_SYMLINK:
        scratch_symlink(scratch_path("elsewhere"), name);
        break;
    case PLANT_DANGLING_SYMLINK:
        scratch_symlink(scratch_path("nowhere"), name);
        break;
    case PLANT_HARD_LINK:
        ck_assert_int_eq(link(scratch_path("elsewhere"), path), 0);
        break;
    case PLANT_SOCKET:
        plant_socket(path);
        break;
    case PLANT_DIRECTORY:
        scratch_mkdir(name);
        break;
    case PLANT_DEVICE:
        if (mknod(path, S_IFCHR | 0666, makedev(1, 3)) == 0) {
            break;
        }
        ck_assert_int_eq(errno, EPERM);
        /* fall through */
    default:
        ck_assert_int_eq(mkfifo(path, 0666), 0);
    }
}

int open_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int count = 0;

    ck_assert_ptr_nonnull(dir);
    while (readdir(dir)) {
        count++;
    }
    closedir(dir);
    return count;
}

/* ---- full disks ---------------------------------------------------------- */

static int be_alone(void)
{
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0;
}

static int mount_alone(const char *path, const char *options)
{
    return be_alone() && mount("none", path, "tmpfs", 0, options) == 0;
}

int scratch_can_mount(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(!mount_alone("/tmp", "size=4096"));
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

void scratch_mount(const char *name, unsigned bytes)
{
    scratch_mkdir(name);
    mounted = strdup(scratch_path(name));
    ck_assert_ptr_nonnull(mounted);
    ck_assert(mount_alone(mounted, apr_psprintf(unit_pool, "size=%u", bytes)));
}

void scratch_mount_over(const char *name, const char *path)
{
    mounted = strdup(path);
    ck_assert_ptr_nonnull(mounted);
    ck_assert(be_alone());
    ck_assert_int_eq(mount(scratch_path(name), path, NULL, MS_BIND, NULL), 0);
}

void scratch_limit_files(unsigned bytes)
{
    struct rlimit limit;

    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

void scratch_unlimit_files(void)
{
    struct rlimit limit;

    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}
