/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Where a store lies: from the administrator's word, or what an .htaccess was allowed to say. */
#include "tus_words.h"

#include <apr_strings.h>

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

apr_status_t tus_locate_dir(const tus_place_t *place, int *dir)
{
    struct stat st;
    apr_status_t rv;
    int root;

    if (!place->root) {
        return tus_beneath_dir(-1, place->path, dir);
    }
    rv = tus_beneath_dir(-1, place->root, &root);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (place->root_inode
        && (fstat(root, &st) != 0 || st.st_dev != place->root_device
            || st.st_ino != place->root_inode)) {
        close(root);
        return TUS_EREFUSED;
    }
    if (strcmp(place->path, ".") == 0) {
        *dir = root;
        return APR_SUCCESS;
    }
    rv = tus_beneath_dir(root, place->path, dir);
    close(root);
    return rv;
}

static const char *place_path(const tus_place_t *place, apr_pool_t *p)
{
    if (!place->root) {
        return place->path;
    }
    if (strcmp(place->path, ".") == 0) {
        return place->root;
    }
    return apr_pstrcat(p, place->root, "/", place->path, NULL);
}

/* Without a "/" at the end, and none doubled where the root had one. */
static const char *tidy_path(const char *path, apr_pool_t *p)
{
    char *tidy = apr_pstrdup(p, path);
    char *out = tidy;

    for (const char *in = path; *in; in++) {
        if (*in != '/' || out == tidy || out[-1] != '/') {
            *out++ = *in;
        }
    }
    if (out > tidy + 1 && out[-1] == '/') {
        out--;
    }
    *out = '\0';
    return tidy;
}

const char *tus_locate_path(const tus_place_t *place, apr_pool_t *p)
{
    return tidy_path(place_path(place, p), p);
}
