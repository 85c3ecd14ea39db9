/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Small files by id, in directories of their own below a store's directory of
 * TusStateDir: DIR/KEY, with the id's tus_id_key(). The directory is made when
 * it is missed, so that what is usual costs one open.
 */
#include "tus_words.h"

#include <apr_strings.h>

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

apr_status_t tus_keyed_path(char path[APR_PATH_MAX], const char *state_dir, const char *dir,
                            const char *id)
{
    char key[TUS_ID_KEY_SIZE];
    int len;

    if (!tus_id_is_valid(id)) {
        return APR_EINVAL;
    }
    len = apr_snprintf(path, APR_PATH_MAX, "%s/%s/%s", state_dir, dir, tus_id_key(id, key));
    return len < APR_PATH_MAX - 1 ? APR_SUCCESS : APR_ENAMETOOLONG;
}

apr_status_t tus_keyed_make_dir(const char *path)
{
    char dir[APR_PATH_MAX];

    apr_cpystrn(dir, path, sizeof(dir));
    *strrchr(dir, '/') = '\0';
    if (mkdir(dir, S_IRWXU) != 0 && errno != EEXIST) {
        return errno;
    }
    return tus_small_sync(dir);
}
