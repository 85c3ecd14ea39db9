/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <pthread.h>
#include <stdlib.h>

static void *bell;
static apr_uint64_t heard;

static void setup(void)
{
    bell = calloc(1, tus_bell_size());
    heard = 0;
}

static void teardown(void)
{
    free(bell);
}

static void write_down(void *baton, int place, int shard)
{
    APR_ARRAY_PUSH((apr_array_header_t *)baton, const char *) =
        apr_psprintf(unit_pool, "%02x/%02x", (unsigned)place, (unsigned)shard);
}

static const char *take(void)
{
    apr_array_header_t *list = apr_array_make(unit_pool, 4, sizeof(const char *));

    tus_bell_take(bell, write_down, list);
    return apr_array_pstrcat(unit_pool, list, ' ');
}

START_TEST(test_what_is_rung_is_heard_once)
{
    ck_assert(!tus_bell_heard(bell, &heard));
    ck_assert_str_eq(take(), "");
    tus_bell_ring(bell, "/state/a70123456789abcd", 0);
    tus_bell_ring(bell, "/state/a70123456789abcd", 0);
    tus_bell_ring(bell, "/state/a7ffffffffffffff", 255);
    tus_bell_ring(bell, "/state/00ffffffffffffff", 63);
    tus_bell_ring(bell, "/state/ffffffffffffffff", 64);
    ck_assert(tus_bell_heard(bell, &heard));
    ck_assert(!tus_bell_heard(bell, &heard));
    ck_assert_str_eq(take(), "00/3f a7/00 a7/ff ff/40");
    ck_assert_str_eq(take(), "");
}
END_TEST

static const struct {
    const char *dir;
    int place;
} places[] = {
    { "/state/a70123456789abcd", 0xa7 },
    { "a70123456789abcd", 0xa7 },
    { "/b/00", 0 },
    { "/b/ff", 255 },
    { "", 0 },
    { "/", 0 },
    { "/b/c", 0 },
};

START_TEST(test_places)
{
    ck_assert_int_eq(tus_bell_place(places[_i].dir), places[_i].place);
}
END_TEST

/* Of no registry, but then it is not beyond the memory. */
START_TEST(test_any_name_has_a_place)
{
    char name[3] = "xx";

    for (int i = 1; i < 256 * 256; i++) {
        name[0] = (char)(i >> 8);
        name[1] = (char)i;
        ck_assert_int_ge(tus_bell_place(name), 0);
        ck_assert_int_lt(tus_bell_place(name), TUS_BELL_PLACES);
    }
}
END_TEST

#define RINGS 20000

static void *ring_all(void *unused)
{
    (void)unused;
    for (int i = 0; i < RINGS; i++) {
        tus_bell_ring(bell, "/state/42", i % TUS_SPOOL_SHARDS);
    }
    return NULL;
}

/* In which round each shard was last heard. */
static void note_round(void *baton, int place, int shard)
{
    int *counts = baton;

    ck_assert_int_eq(place, 0x42);
    counts[shard]++;
}

START_TEST(test_no_ring_is_lost)
{
    int counts[TUS_SPOOL_SHARDS] = { 0 };
    pthread_t threads[2];

    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, ring_all, NULL), 0);
    }
    for (int i = 0; i < 1000; i++) {
        tus_bell_take(bell, note_round, counts);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    tus_bell_take(bell, note_round, counts);
    for (int i = 0; i < TUS_SPOOL_SHARDS; i++) {
        ck_assert_int_gt(counts[i], 0);
    }
    ck_assert_str_eq(take(), "");
    ck_assert(tus_bell_heard(bell, &heard));
    ck_assert_uint_eq(heard, 2 * RINGS);
}
END_TEST

Suite *bell_suite(void)
{
    Suite *suite = suite_create("bell");
    TCase *tcase = add_case(suite, "bell");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_what_is_rung_is_heard_once);
    tcase_add_loop_test(tcase, test_places, 0, (int)(sizeof(places) / sizeof(places[0])));
    tcase_add_test(tcase, test_any_name_has_a_place);
    tcase_add_test(tcase, test_no_ring_is_lost);
    return suite;
}
