/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "suites.h"
#include "tus_words.h"

#include <apr_strings.h>

#include <string.h>

#define SECOND APR_USEC_PER_SEC
#define MAX 32

static const apr_time_t now = APR_TIME_C(1700000000000000);

static tus_healths_t *all;
static tus_health_waiter_t waiters[8];
static apr_array_header_t *woken; /* of const char * */

static void wake(tus_health_waiter_t *waiter, apr_time_t due)
{
    const char *what = waiter->given ? "in" : due > now ? "later" : "?";

    APR_ARRAY_PUSH(woken, const char *) =
        apr_psprintf(unit_pool, "%d:%s", (int)(waiter - waiters), what);
}

static const char *all_woken(void)
{
    const char *text = apr_array_pstrcat(unit_pool, woken, ' ');

    apr_array_clear(woken);
    return text;
}

static void setup(void)
{
    all = tus_health_open(MAX, wake, unit_pool);
    memset(waiters, 0, sizeof(waiters));
    woken = apr_array_make(unit_pool, 8, sizeof(const char *));
}

static tus_health_t *named(const char *key)
{
    return tus_health_find(all, key);
}

static void answer(const char *key)
{
    tus_health_note(named(key), 0, SECOND, now);
}

static int enter_all(const char *key)
{
    int n = 0;

    while (tus_health_enter(named(key), now)) {
        n++;
    }
    return n;
}

START_TEST(test_one_is_known_by_its_key)
{
    char key[] = "one";
    tus_health_t *one = named(key);

    key[0] = 'O';
    ck_assert_ptr_eq(named("one"), one);
    ck_assert_ptr_ne(named("One"), one);
}
END_TEST

static const char *key_of(const char *scope, int n)
{
    return apr_psprintf(unit_pool, "%s%08d", scope, n);
}

static int enter_strangers(const char *scope)
{
    int n = 0;

    for (int i = 0; i < MAX; i++) {
        n += tus_health_enter(named(key_of(scope, i)), now);
    }
    return n;
}

/* Whoever has many hooks that hang. */
START_TEST(test_strangers_of_one_scope_leave_places_to_others)
{
    ck_assert_int_eq(enter_strangers("01234567"), MAX / 8);
    ck_assert_int_eq(enter_strangers("89abcdef"), MAX / 8);
    ck_assert_int_eq(enter_strangers("01234567"), 0);
}
END_TEST

/* One that answers is no stranger any more, one that left has no place. */
START_TEST(test_the_next_stranger_of_a_scope)
{
    enter_strangers("01234567");
    answer(key_of("01234567", 0));
    ck_assert_int_eq(tus_health_enter(named(key_of("01234567", MAX)), now), 1);
    tus_health_leave(named(key_of("01234567", 0)), now);
    ck_assert_int_eq(tus_health_enter(named(key_of("01234567", MAX + 1)), now), 0);
    tus_health_note(named(key_of("01234567", 1)), 1, SECOND, now);
    tus_health_leave(named(key_of("01234567", 1)), now);
    ck_assert_int_eq(tus_health_enter(named(key_of("01234567", MAX + 1)), now), 1);
}
END_TEST

START_TEST(test_a_stranger_has_one_place)
{
    ck_assert_int_eq(enter_all("new"), 1);
    tus_health_leave(named("new"), now);
    answer("new");
    ck_assert_int_eq(enter_all("new"), 8);
}
END_TEST

START_TEST(test_one_that_is_down)
{
    apr_time_t until;

    answer("one");
    ck_assert(!tus_health_note(named("one"), 0, SECOND, now));
    ck_assert(tus_health_note(named("one"), 1, SECOND, now));
    until = tus_health_down(named("one"), now);
    ck_assert_int_ge(until, now + SECOND * 3 / 4);
    ck_assert_int_le(until, now + SECOND * 5 / 4);
    ck_assert_int_eq(enter_all("one"), 0);
    ck_assert(!tus_health_note(named("one"), 1, SECOND, now));
    ck_assert_int_eq(tus_health_down(named("one"), now), until);
    ck_assert_int_eq(tus_health_down(named("one"), until), 0);
    ck_assert(tus_health_enter(named("one"), until));
    ck_assert(!tus_health_enter(named("one"), until));
    ck_assert(tus_health_note(named("one"), 0, SECOND, until));
    ck_assert_int_eq(tus_health_down(named("one"), now), 0);
}
END_TEST

/* Twice as long each time, but not for ever; from anew when it was there in between. */
START_TEST(test_backoff)
{
    apr_time_t at = now, want = SECOND;

    for (int i = 0; i < 20; i++) {
        tus_health_note(named("one"), 1, SECOND, at);
        want = tus_health_clamp(want, 0);
        ck_assert_int_ge(tus_health_down(named("one"), at), at + want * 3 / 4);
        ck_assert_int_le(tus_health_down(named("one"), at), at + want * 5 / 4);
        at = tus_health_down(named("one"), at);
        want *= 2;
    }
    ck_assert_int_eq(tus_health_clamp(want, 0), TUS_HEALTH_BACKOFF_MAX);
    answer("one");
    tus_health_note(named("one"), 1, SECOND, now);
    ck_assert_int_le(tus_health_down(named("one"), now), now + 2 * SECOND);
}
END_TEST

START_TEST(test_hope)
{
    apr_time_t at = now;
    int i;

    answer("one");
    ck_assert(tus_health_is_hopeless(named("one"), SECOND));
    for (i = 0; i < 4; i++) {
        ck_assert_int_eq(tus_health_is_hopeless(named("two"), 8 * SECOND), i == 0);
        tus_health_note(named("two"), 1, SECOND, at);
        at = tus_health_down(named("two"), at);
    }
    ck_assert(tus_health_is_hopeless(named("two"), 8 * SECOND));
    ck_assert(!tus_health_is_hopeless(named("two"), 9 * SECOND));
}
END_TEST

/* All at once, and none of them leaves: the next one still has a place. */
START_TEST(test_shares)
{
    const char *keys[] = { "a", "b", "c", "d", "e", "f" };
    int last = MAX;

    for (int i = 0; i < 6; i++) {
        int n;

        answer(keys[i]);
        n = enter_all(keys[i]);
        ck_assert_int_ge(n, 1);
        ck_assert_int_le(n, last);
        last = n;
    }
}
END_TEST

/* However many strangers hang, some places are for those that are known to answer. */
START_TEST(test_strangers_leave_room)
{
    int n = 0;

    for (int i = 0; i < 2 * MAX; i++) {
        n += enter_all(apr_itoa(unit_pool, i));
    }
    ck_assert_int_eq(n, MAX * 3 / 4);
    answer("known");
    ck_assert_int_ge(enter_all("known"), 2);
}
END_TEST

/* However many that answer are slow, they leave a place to find out about others. */
START_TEST(test_the_known_leave_room)
{
    int room = MAX;

    for (int i = 0; i < 6; i++) {
        const char *known = apr_itoa(unit_pool, i);

        answer(known);
        room -= enter_all(known);
    }
    ck_assert_int_lt(room, MAX / 4); /* which strangers would leave to the known */
    ck_assert_int_eq(enter_all("new"), 1);
}
END_TEST

START_TEST(test_who_waits_is_next)
{
    tus_health_t *one = named("one");

    answer("one");
    enter_all("one");
    for (int i = 0; i < 3; i++) {
        tus_health_wait(one, &waiters[i]);
        tus_health_wait(one, &waiters[i]);
    }
    ck_assert_str_eq(all_woken(), "");
    tus_health_leave(one, now);
    ck_assert_str_eq(all_woken(), "0:in");
    ck_assert(!tus_health_enter(one, now));
    ck_assert_ptr_eq(tus_health_begin(&waiters[0]), one);
    ck_assert_ptr_null(tus_health_begin(&waiters[0]));
    ck_assert_ptr_null(tus_health_begin(&waiters[1])); /* it waits no longer */
    tus_health_leave(one, now);
    ck_assert_str_eq(all_woken(), "2:in");
    tus_health_leave(one, now);
    ck_assert_str_eq(all_woken(), "");
    ck_assert(tus_health_enter(one, now));
}
END_TEST

/* A stranger that answers has more places; one that does not is not tried by each of them. */
START_TEST(test_waiting_for_a_stranger)
{
    tus_health_enter(named("one"), now);
    tus_health_enter(named("two"), now);
    for (int i = 0; i < 4; i++) {
        tus_health_wait(named(i % 2 ? "one" : "two"), &waiters[i]);
    }
    answer("one");
    ck_assert_str_eq(all_woken(), "1:in 3:in");
    tus_health_note(named("two"), 1, SECOND, now);
    ck_assert_str_eq(all_woken(), "0:later 2:later");
    tus_health_leave(named("two"), now);
    ck_assert_str_eq(all_woken(), "");
}
END_TEST

/* Places that others leave are theirs as well who have none. */
START_TEST(test_who_has_none_is_next)
{
    int n = 0;

    answer("known");
    for (int i = 0; n < MAX; i++) {
        answer(apr_itoa(unit_pool, i));
        n += tus_health_enter(named(apr_itoa(unit_pool, i)), now);
    }
    tus_health_wait(named("0"), &waiters[0]);
    tus_health_wait(named("known"), &waiters[1]);
    tus_health_leave(named("1"), now);
    ck_assert_str_eq(all_woken(), "1:in");
    tus_health_leave(named("0"), now);
    ck_assert_str_eq(all_woken(), "0:in");
}
END_TEST

START_TEST(test_one_waits_for_one)
{
    tus_health_enter(named("one"), now);
    tus_health_enter(named("two"), now);
    tus_health_wait(named("one"), &waiters[0]);
    tus_health_wait(named("two"), &waiters[0]);
    tus_health_leave(named("two"), now);
    ck_assert_str_eq(all_woken(), "");
    tus_health_leave(named("one"), now);
    ck_assert_str_eq(all_woken(), "0:in");
}
END_TEST

/* Another pass of it was under way when its turn came. */
START_TEST(test_a_place_that_was_given_is_kept)
{
    tus_health_enter(named("one"), now);
    tus_health_enter(named("two"), now);
    tus_health_wait(named("one"), &waiters[0]);
    tus_health_leave(named("one"), now);
    ck_assert_str_eq(all_woken(), "0:in");
    tus_health_wait(named("two"), &waiters[0]);
    tus_health_leave(named("two"), now);
    ck_assert_str_eq(all_woken(), "");
    ck_assert_ptr_eq(tus_health_begin(&waiters[0]), named("one"));
    tus_health_leave(named("one"), now);
    ck_assert(tus_health_enter(named("one"), now));
    ck_assert(tus_health_enter(named("two"), now));
}
END_TEST

START_TEST(test_jitter)
{
    apr_interval_time_t least = 4 * SECOND, most = 0;

    for (int i = 0; i < 1000; i++) {
        apr_interval_time_t time = tus_health_jitter(4 * SECOND);

        ck_assert_int_ge(time, 3 * SECOND);
        ck_assert_int_le(time, 5 * SECOND);
        least = time < least ? time : least;
        most = time > most ? time : most;
    }
    ck_assert_int_lt(least + SECOND, most);
}
END_TEST

Suite *health_suite(void)
{
    Suite *suite = suite_create("health");
    TCase *tcase = add_case(suite, "health");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, test_one_is_known_by_its_key);
    tcase_add_test(tcase, test_strangers_of_one_scope_leave_places_to_others);
    tcase_add_test(tcase, test_the_next_stranger_of_a_scope);
    tcase_add_test(tcase, test_a_stranger_has_one_place);
    tcase_add_test(tcase, test_one_that_is_down);
    tcase_add_test(tcase, test_backoff);
    tcase_add_test(tcase, test_hope);
    tcase_add_test(tcase, test_shares);
    tcase_add_test(tcase, test_strangers_leave_room);
    tcase_add_test(tcase, test_the_known_leave_room);
    tcase_add_test(tcase, test_who_waits_is_next);
    tcase_add_test(tcase, test_waiting_for_a_stranger);
    tcase_add_test(tcase, test_who_has_none_is_next);
    tcase_add_test(tcase, test_one_waits_for_one);
    tcase_add_test(tcase, test_a_place_that_was_given_is_kept);
    tcase_add_test(tcase, test_jitter);
    return suite;
}
