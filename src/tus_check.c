/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What can be judged before a request meets it: directories that User cannot
 * use. All of it may change while the server runs, so it is warned of and never
 * stops a start.
 *
 * Root may do everything, and access(2) asked by root says so. So while we are
 * root a child takes User's place, asks, and answers with its exit status.
 */
#include "tus_httpd.h"

#include <apr_lib.h>
#include <apr_strings.h>
#include <unixd.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- as User ------------------------------------------------------------- */

/* Nonzero if children will run as another user than this process. */
static int will_change_user(void)
{
    return geteuid() == 0 && ap_unixd_config.user_name && ap_unixd_config.user_id != 0;
}

/* What this process could do with a directory: 0 or errno. */
static int try_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) {
        return errno;
    }
    close(fd);
    return access(path, R_OK | W_OK | X_OK) == 0 ? 0 : errno;
}

/* As httpd does before it serves: 0 or errno. */
static int become_user(void)
{
    const char *root = ap_unixd_config.chroot_dir;

    if (root && (chdir(root) || chroot(root))) {
        return errno;
    }
    if (initgroups(ap_unixd_config.user_name, ap_unixd_config.group_id)
        || setgid(ap_unixd_config.group_id) || setuid(ap_unixd_config.user_id)) {
        return errno;
    }
    return 0;
}

apr_status_t tus_check_directory(const char *path, apr_pool_t *p)
{
    pid_t pid;
    int status;
    int err;

    (void)p;
    if (!will_change_user()) {
        return try_directory(path);
    }
    pid = fork();
    if (pid < 0) {
        return errno;
    }
    if (pid == 0) {
        err = become_user();
        _exit(err ? err : try_directory(path));
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return errno;
        }
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : APR_EGENERAL;
}

/* ---- in words ------------------------------------------------------------ */

/*
 * The path as one word for a shell. It may be an .htaccess's, and somebody may
 * paste what we log: one with other than ordinary characters is not repeated.
 */
static const char *quoted(const char *path, apr_pool_t *p)
{
    const char *s = path;

    while (apr_isalnum(*s) || (*s && strchr("/._-+@ ", *s))) {
        s++;
    }
    return *s ? "PATH" : strchr(path, ' ') ? apr_psprintf(p, "'%s'", path) : path;
}

/* What would help; with `remake`, the command that makes the directory helps too. */
static const char *advice(apr_status_t rv, int *remake)
{
    *remake = 1;
    if (APR_STATUS_IS_ENOENT(rv)) {
        return "make it with: ";
    }
    if (APR_STATUS_IS_EACCES(rv) || rv == EPERM) {
        return "let it enter every directory above, and own this one with: ";
    }
    if (APR_STATUS_IS_ENOTDIR(rv)) {
        return "move away what is in the place of a directory, then: ";
    }
    if (rv == TUS_EREFUSED) {
        return "make it its own with: ";
    }
    *remake = 0;
    return rv == EROFS ? "mount its file system for writing"
                       : "see to it that it can be listed, entered and written";
}

/* TUS_EREFUSED is for directories that must be nobody else's: TusStateDir. */
static const char *reason(apr_status_t rv, apr_pool_t *p)
{
    return rv == TUS_EREFUSED ? "others may change it" : apr_psprintf(p, "%pm", &rv);
}

static const char *user_name(apr_uid_t uid, apr_pool_t *p)
{
    char *name;

    return apr_uid_name_get(&name, uid, p) == APR_SUCCESS
               ? name
               : apr_psprintf(p, "%lu", (unsigned long)uid);
}

static const char *group_name(apr_gid_t gid, apr_pool_t *p)
{
    char *name;

    return apr_gid_name_get(&name, gid, p) == APR_SUCCESS
               ? name
               : apr_psprintf(p, "%lu", (unsigned long)gid);
}

const char *tus_check_explain(const char *directive, const char *path, apr_status_t rv,
                              apr_pool_t *p)
{
    int other = will_change_user();
    apr_uid_t uid = other ? ap_unixd_config.user_id : geteuid();
    apr_gid_t gid = other ? ap_unixd_config.group_id : getegid();
    const char *user = user_name(uid, p);
    const char *mode = strcmp(directive, "TusStateDir") ? "0770" : "0700";
    int remake;
    const char *fix = advice(rv, &remake);

    if (remake) {
        fix = apr_psprintf(p, "%sinstall -d -o %s -g %s -m %s %s", fix, user, group_name(gid, p),
                           mode, quoted(path, p));
    }
    return apr_psprintf(p, "%s %s cannot be used by User %s (uid %lu): %s; %s", directive, path,
                        user, (unsigned long)uid, reason(rv, p), fix);
}

/* ---- warnings ----------------------------------------------- */

static void warn_if_unusable(const char *directive, const char *path, server_rec *s, apr_pool_t *p)
{
    apr_status_t rv = tus_check_directory(path, p);

    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s, "%s",
                     tus_check_explain(directive, path, rv, p));
    }
}

/* The start makes it if need be, as whoever starts: then all it takes is a place for it. */
static void check_state_dir(const char *path, server_rec *s, apr_pool_t *p)
{
    apr_finfo_t finfo;
    apr_status_t rv = apr_stat(&finfo, path, APR_FINFO_TYPE, p);
    const char *parent = ap_make_dirstr_parent(p, path);

    if (!APR_STATUS_IS_ENOENT(rv)) {
        warn_if_unusable("TusStateDir", path, s, p);
        return;
    }
    rv = try_directory(parent);
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "TusStateDir %s cannot be made in %s: %pm; make that directory, or say "
                     "another TusStateDir",
                     path, parent, &rv);
    }
}

/* Nonzero if one of the first n stores is a directory of this path. */
static int is_among(const apr_array_header_t *stores, int n, const char *path)
{
    while (n-- > 0) {
        const tus_store_spec_t *store = &APR_ARRAY_IDX(stores, n, tus_store_spec_t);

        if (store->provider->info_dir && !strcmp(store->path, path)) {
            return 1;
        }
    }
    return 0;
}

/* What has no directory for its records is none itself; its path is only a name. */

static void check_stores(const apr_array_header_t *stores, const char *state_dir, server_rec *s,
                         apr_pool_t *p)
{
    int i;

    for (i = 0; i < stores->nelts; i++) {
        const tus_store_spec_t *store = &APR_ARRAY_IDX(stores, i, tus_store_spec_t);

        if (!store->provider->info_dir || is_among(stores, i, store->path)) {
            continue;
        }
        warn_if_unusable("TusStore", store->path, s, p);
        if (tus_path_beneath(store->path, state_dir) || tus_path_beneath(state_dir, store->path)) {
            ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                         "TusStore %s (%s) and TusStateDir %s lie in each other; take directories "
                         "apart, as who owns the store could otherwise change the state",
                         store->path, store->where, state_dir);
        }
    }
}

/* The first TusEngine On of the configuration as it was read, or NULL. */
static const ap_directive_t *find_engine(const ap_directive_t *directive)
{
    const ap_directive_t *found = NULL;

    for (; directive && !found; directive = directive->next) {
        if (!ap_cstr_casecmp(directive->directive, "TusEngine")
            && !ap_cstr_casecmp(directive->args, "On")) {
            return directive;
        }
        found = find_engine(directive->first_child);
    }
    return found;
}

void tus_check_warn(apr_pool_t *p, server_rec *s)
{
    const apr_array_header_t *stores = tus_config_stores();
    const char *state_dir = tus_config_state_dir(s);
    const ap_directive_t *engine = find_engine(ap_conftree);

    check_state_dir(state_dir, s, p);
    check_stores(stores, state_dir, s, p);
    if (engine && !stores->nelts) {
        ap_log_error(APLOG_MARK, APLOG_WARNING, 0, s,
                     "TusEngine is On (%s:%d), but there is no TusStore; unless every .htaccess "
                     "there has one, add: TusStore file /path/of/a/directory",
                     engine->filename, engine->line_num);
    }
}
