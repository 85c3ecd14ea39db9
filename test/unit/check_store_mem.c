/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The data store of a module built elsewhere keeps the promises of mod_tus.h, too. */
#include "check_store.h"

#include <apr_strings.h>

#include <string.h>

/* Its module is no part of this program; the store itself needs no httpd. */
#include "../modules/store_mem.c"

/* In a server the data live as long as their process; here, as long as a test. */
static apr_status_t drop_all(void *baton)
{
    apr_hash_index_t *index = uploads ? apr_hash_first(NULL, uploads) : NULL;

    (void)baton;
    for (; index; index = apr_hash_next(index)) {
        data_t *data = apr_hash_this_val(index);

        free(data->bytes);
        free(data);
    }
    uploads = NULL;
    return APR_SUCCESS;
}

static const tus_place_t *make_place(void)
{
    static int places;
    tus_place_t *place = apr_pcalloc(unit_pool, sizeof *place);

    apr_pool_cleanup_register(unit_pool, NULL, drop_all, apr_pool_cleanup_null);
    place->path = apr_psprintf(unit_pool, "/any/path/%d", ++places);
    return place;
}

/* What the extensions are computed from. */
START_TEST(offers_nothing_that_is_optional)
{
    ck_assert_ptr_null(store_mem.info_dir);
    ck_assert_ptr_null(store_mem.fence);
    ck_assert_ptr_null(store_mem.truncate);
    ck_assert_ptr_null(store_mem.concat);
    ck_assert_ptr_null(store_mem.read);
    ck_assert_ptr_null(store_mem.remove);
}
END_TEST

/* As the sweep finds it again from the registry. */
START_TEST(is_the_same_beneath_a_root)
{
    tus_place_t beneath = { .root = "/", .path = "any/path" }, plain = { .path = "/any/path" };
    tus_store_t *first, *again;
    const char *path;

    ck_assert_int_eq(store_mem.open(&first, &plain, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(store_mem.open(&again, &beneath, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(memcmp(&first->identity, &again->identity, sizeof first->identity), 0);
    ck_assert_int_eq(store_mem.path(again, &path, unit_pool), APR_SUCCESS);
    ck_assert_str_eq(path, "/any/path");
}
END_TEST

Suite *store_mem_suite(void)
{
    Suite *suite = suite_create("store_mem");
    TCase *tcase = add_case(suite, "mem");

    tcase_add_test(tcase, offers_nothing_that_is_optional);
    tcase_add_test(tcase, is_the_same_beneath_a_root);
    store_conformance(suite, &store_mem, make_place);
    return suite;
}
