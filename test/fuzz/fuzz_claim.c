/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Two lines are an id and the name of its data; the rest is what the owner of the
 * store wrote into a symbolic link at an id.
 */
#include "fuzz.h"

#include <apr_strings.h>

#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#define MODE (APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_UEXECUTE)

static int is_name(const char *name)
{
    return strlen(name) < PATH_MAX && fuzz_is_name(name, NAME_MAX);
}

static void claim(int store, const char *id, const char *name, apr_pool_t *p)
{
    char claimed[APR_PATH_MAX];
    int fd = -1, again = -1;

    if (tus_claim(store, id, name, MODE, MODE, &fd) != APR_SUCCESS) {
        return;
    }
    HOLDS(fuzz_leads_to(fd, apr_pstrcat(p, fuzz_path("store/", p), name, NULL)));
    close(fd);
    HOLDS(tus_claim_name(store, id, claimed) == APR_SUCCESS && strcmp(claimed, name) == 0);
    HOLDS(tus_claim(store, id, name, MODE, MODE, &again) != APR_SUCCESS); /* it is in use */
    HOLDS(tus_claim_end(store, id, name) == APR_SUCCESS);
    HOLDS(tus_claim_name(store, id, claimed) == APR_SUCCESS ? strcmp(claimed, id) == 0
                                                            : strcmp(id, name) != 0);
}

/* Whatever stands there, no name leads out of the store. */
static void plant(int store, const char *text, apr_pool_t *p)
{
    char claimed[APR_PATH_MAX];

    if (!*text || symlink(text, fuzz_path("store/planted", p)) != 0) {
        return;
    }
    if (tus_claim_name(store, "planted", claimed) == APR_SUCCESS) {
        HOLDS(strcmp(claimed, text) == 0 && is_name(claimed));
    }
}

void fuzz(const char *data, apr_size_t len, apr_pool_t *p)
{
    const char *id = fuzz_line(&data, &len, p), *name = fuzz_line(&data, &len, p);
    int store;

    fuzz_mkdir("store");
    store = open(fuzz_path("store", p), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    HOLDS(store >= 0);
    if (tus_id_is_valid(id) && is_name(name)) {
        claim(store, id, name, p);
    }
    plant(store, fuzz_text(data, len, p), p);
    close(store);
    fuzz_remove("store");
}
