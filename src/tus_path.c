/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Paths as text: nothing here asks the file system. */
#include "tus_words.h"

#include <apr_strings.h>

#include <string.h>

const char *tus_path_beneath(const char *dir, const char *path)
{
    apr_size_t len = strlen(dir);

    if (len == 1) {
        len = 0; /* "/" */
    }
    if (strncmp(dir, path, len) != 0 || (path[len] && path[len] != '/')) {
        return NULL;
    }
    return path[len] ? path + len + 1 : path + len;
}

const char *tus_path_trim(const char *path, apr_pool_t *p)
{
    apr_size_t len = strlen(path);

    return len > 1 && path[len - 1] == '/' ? apr_pstrmemdup(p, path, len - 1) : path;
}
