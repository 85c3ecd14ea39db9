/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* Two lines are what follows the first slash of a directory and of a path. */
#include "fuzz.h"

#include <apr_strings.h>

#include <string.h>

static const char *absolute(const char *line, apr_pool_t *p)
{
    const char *path = apr_pstrcat(p, "/", line, NULL), *trimmed = tus_path_trim(path, p);
    apr_size_t len = strlen(trimmed);

    HOLDS(len > 0 && strncmp(trimmed, path, len) == 0);
    HOLDS(path[len] == '\0' || strcmp(path + len, "/") == 0);
    HOLDS(len == 1 || path[len] == '/' || trimmed[len - 1] != '/');
    return trimmed;
}

static const char *join(const char *dir, const char *rest, apr_pool_t *p)
{
    return apr_pstrcat(p, strcmp(dir, "/") == 0 ? "" : dir, "/", rest, NULL);
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *dir = absolute(fuzz_line(&data, &len, p), p);
    const char *line = fuzz_line(&data, &len, p), *path = absolute(line, p);
    const char *rest = tus_path_beneath(dir, path);

    HOLDS(fuzz_same(tus_path_beneath(dir, dir), ""));
    HOLDS(fuzz_same(tus_path_beneath(dir, join(dir, line, p)), line));
    HOLDS(fuzz_same(tus_path_beneath("/", path), path + 1));
    if (rest && *rest) {
        HOLDS(strcmp(join(dir, rest, p), path) == 0);
    }
    else if (rest) {
        HOLDS(strcmp(dir, path) == 0 || strcmp(join(dir, "", p), path) == 0);
    }
    else {
        HOLDS(strncmp(dir, path, strlen(dir)) != 0 || path[strlen(dir)] != '/');
    }
}
