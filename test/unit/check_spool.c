/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The spool: who is asked about which event, and when. What it does when processes die, calls
 * fail or many work at once is in check_spool_faults.c.
 */
#include "peers.h"
#include "scratch.h"
#include "spooling.h"

#include <apr_hash.h>
#include <apr_strings.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define SECOND apr_time_from_sec(1)

static apr_time_t now;  /* that events are told at; they were put before */
static apr_time_t next; /* as the last pass said */

/* What is answered about an event as spooled_text() has it. */
typedef struct answer_t {
    tus_spool_e what;
    apr_time_t due;
    void (*meanwhile)(void); /* or NULL: what happens while it is asked about */
} answer_t;

static apr_hash_t *answers;
static apr_array_header_t *told;

static void setup(void)
{
    answers = apr_hash_make(unit_pool);
    told = apr_array_make(unit_pool, 16, sizeof(const char *));
    now = apr_time_now() + SECOND;
}

static void reply(const char *text, tus_spool_e what, apr_time_t due, void (*meanwhile)(void))
{
    answer_t *answer = apr_palloc(unit_pool, sizeof(*answer));

    *answer = (answer_t){ what, due, meanwhile };
    apr_hash_set(answers, text, APR_HASH_KEY_STRING, answer);
}

/* Without another answer, what is pending happened, and all is told. */
static tus_spool_e tell(void *baton, const tus_spooled_t *event, apr_time_t *due, apr_pool_t *p)
{
    const char *text = spooled_text(event, unit_pool);
    const answer_t *answer = apr_hash_get(answers, text, APR_HASH_KEY_STRING);

    ck_assert_ptr_eq(baton, &now);
    ck_assert_ptr_nonnull(p);
    APR_ARRAY_PUSH(told, const char *) = text;
    if (!answer) {
        return event->is_pending ? TUS_SPOOL_READY : TUS_SPOOL_DONE;
    }
    if (answer->meanwhile) {
        answer->meanwhile();
    }
    *due = answer->due;
    return answer->what;
}

static const tus_spool_teller_t teller = { .tell = tell, .baton = &now };

static apr_status_t work(int shard)
{
    apr_array_clear(told);
    return work_shard(shard, now, 0, &teller, &next, unit_pool);
}

static const char *all_told(void)
{
    return apr_array_pstrcat(unit_pool, told, ' ');
}

#define TELLS(id, want)                                                                            \
    do {                                                                                           \
        ck_assert_int_eq(work(tus_spool_shard(id)), APR_SUCCESS);                                  \
        ck_assert_str_eq(all_told(), want);                                                        \
    } while (0)

static apr_uint64_t waiting(void)
{
    apr_uint64_t count;
    apr_time_t oldest;

    ck_assert_int_eq(tus_spool_count(scratch, &count, &oldest, unit_pool), APR_SUCCESS);
    ck_assert(count || !oldest);
    return count;
}

/* ---- files --------------------------------------------------------------- */

START_TEST(test_file)
{
    tus_spooled_t event = spooled("0123456789abcdef0123456789abcdef", TUS_HOOK_POST_FINISH, HOOK_A);
    const char *path;
    apr_table_t *headers = apr_table_make(unit_pool, 2);

    apr_table_addn(headers, "X-One", "two");
    apr_table_addn(headers, "X-One", "three: 3");
    event.headers = headers;
    ck_assert_int_eq(tus_spool_put(scratch, &event, 1, unit_pool), APR_SUCCESS);
    path = spooled_path(&event, ".new");
    ck_assert_uint_eq(scratch_mode("spool"), 0700);
    ck_assert_uint_eq(scratch_mode(path), 0600);
    ck_assert_str_eq(scratch_get(path),
                     "tus-event 1\nid: 0123456789abcdef0123456789abcdef\n"
                     "created: 1700000000000000\ntype: post-finish\nhook: " HOOK_A
                     "\nevent-id: 0123456789abcdef0123456789abcdef\nat: 1700000000000001\n"
                     "header: X-One: two\nheader: X-One: three: 3\nlength: 2\n\n{}");
    ck_assert_int_eq(tus_spool_confirm(scratch, &event, unit_pool), APR_SUCCESS);
    ck_assert(!scratch_exists(path));
    ck_assert(scratch_exists(spooled_path(&event, "")));
    ck_assert_str_eq(strrchr(path, '/') + 1 + 32, ".00060a24181e4000.4." HOOK_A ".new");
}
END_TEST

static apr_time_t changed_of(const char *id)
{
    apr_time_t changed[TUS_SPOOL_SHARDS];

    tus_spool_changed(scratch, changed);
    return changed[tus_spool_shard(id)];
}

START_TEST(test_nothing_was_ever_put)
{
    tus_spool_shard_t files;

    TELLS("one", "");
    ck_assert_int_eq(next, 0);
    ck_assert_uint_eq(waiting(), 0);
    ck_assert_int_eq(tus_spool_touched(scratch), 0);
    ck_assert_int_eq(changed_of("one"), 0);
    ck_assert_int_eq(tus_spool_dir_lock(&files, "/nonexistent", 1), APR_ENOENT);
}
END_TEST

START_TEST(test_put_confirm_tell)
{
    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    confirm("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ck_assert_uint_eq(waiting(), 1);
    TELLS("one", "one/create/a");
    ck_assert_int_eq(next, 0);
    TELLS("one", "");
    ck_assert_uint_eq(waiting(), 0);
}
END_TEST

START_TEST(test_retract)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);

    ck_assert_int_eq(tus_spool_retract(scratch, &event, unit_pool), APR_SUCCESS);
    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ck_assert_int_eq(tus_spool_retract(scratch, &event, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(tus_spool_retract(scratch, &event, unit_pool), APR_SUCCESS);
    ck_assert_uint_eq(waiting(), 0);
    ck_assert(APR_STATUS_IS_ENOENT(tus_spool_confirm(scratch, &event, unit_pool)));
    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ck_assert_int_eq(tus_spool_retract(scratch, &event, unit_pool), APR_SUCCESS);
    TELLS("one", "one/create/a");
}
END_TEST

/* One that may be told already stays until the new one is confirmed. */
START_TEST(test_put_again)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);

    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    event.body = "{\"second\":2}";
    event.len = strlen(event.body);
    ck_assert_int_eq(tus_spool_put(scratch, &event, 0, unit_pool), APR_SUCCESS);
    ck_assert_ptr_nonnull(strstr(scratch_get(spooled_path(&event, ".new")), "second"));
    confirm("one", TUS_HOOK_POST_CREATE, HOOK_A);
    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ck_assert_ptr_nonnull(strstr(scratch_get(spooled_path(&event, "")), "second"));
    confirm("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ck_assert_ptr_null(strstr(scratch_get(spooled_path(&event, "")), "second"));
    TELLS("one", "one/create/a");
}
END_TEST

START_TEST(test_what_is_no_event_is_not_put)
{
    tus_spooled_t event = spooled("../one", TUS_HOOK_POST_CREATE, HOOK_A);

    ck_assert_int_eq(tus_spool_put(scratch, &event, 0, unit_pool), APR_EINVAL);
    ck_assert_int_eq(tus_spool_confirm(scratch, &event, unit_pool), APR_EINVAL);
    ck_assert_int_eq(tus_spool_retract(scratch, &event, unit_pool), APR_EINVAL);
    event = spooled("one", TUS_HOOK_POST_CREATE, "../" HOOK_A);
    ck_assert_int_eq(tus_spool_confirm(scratch, &event, unit_pool), APR_EINVAL);
    event = spooled("one", TUS_HOOK_PRE_CREATE, HOOK_A);
    ck_assert_int_eq(tus_spool_put(scratch, &event, 0, unit_pool), APR_EINVAL);
    event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);
    event.body = "{\0}";
    event.len = 3;
    ck_assert_int_eq(tus_spool_put(scratch, &event, 0, unit_pool), APR_EINVAL);
    event.body = apr_pcalloc(unit_pool, TUS_SPOOLED_MAX);
    memset((char *)event.body, ' ', TUS_SPOOLED_MAX);
    event.len = TUS_SPOOLED_MAX;
    ck_assert_int_eq(tus_spool_put(scratch, &event, 0, unit_pool), APR_EINVAL);
    ck_assert(!scratch_exists("spool"));
    event.len = TUS_SPOOLED_MAX - 1024;
    ck_assert_int_eq(tus_spool_put(scratch, &event, 0, unit_pool), APR_SUCCESS);
    confirm("one", TUS_HOOK_POST_CREATE, HOOK_A);
    TELLS("one", "one/create/a");
}
END_TEST

/* ---- order --------------------------------------------------------------- */

static void a_life(const char *id)
{
    ready(id, TUS_HOOK_POST_TERMINATE, HOOK_A);
    ready(id, TUS_HOOK_POST_CREATE, HOOK_B);
    ready(id, TUS_HOOK_POST_FINISH, HOOK_A);
    ready(id, TUS_HOOK_POST_FINISH, HOOK_B);
    ready(id, TUS_HOOK_POST_CREATE, HOOK_A);
}

START_TEST(test_order)
{
    a_life("one");
    TELLS("one", "one/create/a one/create/b one/finish/a one/finish/b one/terminate/a");
}
END_TEST

START_TEST(test_what_follows_waits)
{
    a_life("one");
    reply("one/create/a", TUS_SPOOL_LATER, now + 10 * SECOND, NULL);
    TELLS("one", "one/create/a one/create/b one/finish/b");
    ck_assert_int_eq(next, now + 10 * SECOND);
    ck_assert_uint_eq(waiting(), 3);
    now += 10 * SECOND - 1;
    TELLS("one", "");
    ck_assert_int_eq(next, now + 1);
    now += 1;
    reply("one/create/a", TUS_SPOOL_DONE, 0, NULL);
    reply("one/finish/a", TUS_SPOOL_LATER, now + 5 * SECOND, NULL);
    TELLS("one", "one/create/a one/finish/a");
    ck_assert_int_eq(next, now + 5 * SECOND);
    now += 5 * SECOND;
    reply("one/finish/a", TUS_SPOOL_DONE, 0, NULL);
    TELLS("one", "one/finish/a one/terminate/a");
    ck_assert_int_eq(next, 0);
}
END_TEST

START_TEST(test_what_follows_a_failed_one_does_not_wait)
{
    a_life("one");
    reply("one/create/a", TUS_SPOOL_FAILED, 0, NULL);
    TELLS("one", "one/create/a one/create/b one/finish/a one/finish/b one/terminate/a");
    ck_assert_uint_eq(waiting(), 0);
    ck_assert_int_eq(count_failed(), 1);
    ck_assert(scratch_exists(failed_path("one", TUS_HOOK_POST_CREATE, HOOK_A)));
}
END_TEST

/* What was created anew under an id is told of after what was there before. */
START_TEST(test_an_id_again)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);

    event.created += 1;
    ck_assert_int_eq(tus_spool_put(scratch, &event, 0, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(tus_spool_confirm(scratch, &event, unit_pool), APR_SUCCESS);
    ready("one", TUS_HOOK_POST_TERMINATE, HOOK_A);
    reply("one/terminate/a", TUS_SPOOL_LATER, now + SECOND, NULL);
    TELLS("one", "one/terminate/a");
    now += SECOND;
    reply("one/terminate/a", TUS_SPOOL_DONE, 0, NULL);
    TELLS("one", "one/terminate/a one+1/create/a");
}
END_TEST

/* Uploads whose ids have the same beginning have nothing to do with each other. */
START_TEST(test_long_ids)
{
    const char *one = apr_psprintf(unit_pool, "%064d", 1);
    int i, shard = tus_spool_shard(one);
    const char *other = one;

    for (i = 2; tus_spool_shard(other) != shard || other == one; i++) {
        other = apr_psprintf(unit_pool, "%064d", i);
    }
    ready(one, TUS_HOOK_POST_CREATE, HOOK_A);
    ready(other, TUS_HOOK_POST_CREATE, HOOK_A);
    ck_assert_uint_eq(waiting(), 2);
    reply(apr_pstrcat(unit_pool, one, "/create/a", NULL), TUS_SPOOL_LATER, now + 1, NULL);
    ck_assert_int_eq(work(shard), APR_SUCCESS);
    ck_assert_int_eq(told->nelts, 2);
    ck_assert_uint_eq(waiting(), 1);
}
END_TEST

/* ---- pending ones -------------------------------------------------------- */

START_TEST(test_pending_ones_wait_and_are_judged)
{
    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ready("one", TUS_HOOK_POST_FINISH, HOOK_A);
    ready("one", TUS_HOOK_POST_FINISH, HOOK_B);
    now = apr_time_now();
    TELLS("one", "one/finish/b");
    ck_assert_int_gt(next, now);
    ck_assert_int_le(next, now + TUS_SPOOL_PENDING);
    now = next - 1;
    TELLS("one", "");
    now = next;
    TELLS("one", "one/create/a? one/create/a one/finish/a");
    ck_assert_int_eq(next, 0);
    ck_assert_uint_eq(waiting(), 0);
}
END_TEST

START_TEST(test_a_pending_one_never_happened)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);

    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ready("one", TUS_HOOK_POST_FINISH, HOOK_A);
    now += TUS_SPOOL_PENDING;
    reply("one/create/a?", TUS_SPOOL_DONE, 0, NULL);
    TELLS("one", "one/create/a? one/finish/a");
    ck_assert_uint_eq(waiting(), 0);
    ck_assert(APR_STATUS_IS_ENOENT(tus_spool_confirm(scratch, &event, unit_pool)));
}
END_TEST

static void retract_it(void)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);

    ck_assert_int_eq(tus_spool_retract(scratch, &event, unit_pool), APR_SUCCESS);
}

static void retract_it_and_put_again(void)
{
    retract_it();
    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
}

/* As whoever judges does while he holds the upload. */
START_TEST(test_a_pending_one_is_retracted)
{
    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ready("one", TUS_HOOK_POST_FINISH, HOOK_A);
    now += TUS_SPOOL_PENDING;
    reply("one/create/a?", TUS_SPOOL_DONE, 0, retract_it_and_put_again);
    TELLS("one", "one/create/a?");
    ck_assert_int_eq(next, now);
    ck_assert_uint_eq(waiting(), 2);
    reply("one/create/a?", TUS_SPOOL_DONE, 0, retract_it);
    TELLS("one", "one/create/a?");
    ck_assert_int_eq(next, now);
    TELLS("one", "one/finish/a");
    ck_assert_int_eq(next, 0);
}
END_TEST

START_TEST(test_a_pending_one_is_judged_later)
{
    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ready("one", TUS_HOOK_POST_FINISH, HOOK_A);
    now += TUS_SPOOL_PENDING;
    reply("one/create/a?", TUS_SPOOL_LATER, now + 7 * SECOND, NULL);
    TELLS("one", "one/create/a?");
    ck_assert_int_eq(next, now + 7 * SECOND);
    confirm("one", TUS_HOOK_POST_CREATE, HOOK_A);
    TELLS("one", "");
    now = next;
    TELLS("one", "one/create/a one/finish/a");
}
END_TEST

/* It is ready, though nobody could be told yet. */
START_TEST(test_judged_and_then_later)
{
    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    now += TUS_SPOOL_PENDING;
    reply("one/create/a", TUS_SPOOL_LATER, now + 3 * SECOND, NULL);
    TELLS("one", "one/create/a? one/create/a");
    ck_assert_int_eq(next, now + 3 * SECOND);
    reply("one/create/a", TUS_SPOOL_READY, 0, NULL);
    now = next;
    TELLS("one", "one/create/a");
    ck_assert_int_eq(next, now); /* no answer for it: at once */
    reply("one/create/a", TUS_SPOOL_FAILED, 0, NULL);
    TELLS("one", "one/create/a");
    ck_assert_uint_eq(waiting(), 0);
}
END_TEST

START_TEST(test_delays_have_a_limit)
{
    struct timespec far[2] = { { 1, 0 }, { 4000000000, 0 } };
    const char *path;
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);

    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    reply("one/create/a", TUS_SPOOL_LATER, APR_INT64_MAX, NULL);
    TELLS("one", "one/create/a");
    ck_assert_int_eq(next, now + TUS_SPOOL_DELAY_MAX);
    TELLS("one", "");
    ck_assert_int_eq(next, now + TUS_SPOOL_DELAY_MAX);
    reply("one/create/a", TUS_SPOOL_LATER, 0, NULL);
    path = scratch_path(spooled_path(&event, ""));
    ck_assert_int_eq(utimensat(AT_FDCWD, path, far, 0), 0);
    TELLS("one", "one/create/a"); /* nobody ever says so long */
    ck_assert_int_eq(next, now);
    far[1].tv_sec = -1;
    ck_assert_int_eq(utimensat(AT_FDCWD, path, far, 0), 0);
    TELLS("one", "one/create/a");
}
END_TEST

/* ---- while it is asked about --------------------------------------------- */

static void put_the_next(void)
{
    ready("one", TUS_HOOK_POST_FINISH, HOOK_A);
}

static void put_the_same(void)
{
    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
}

static void put_the_same_pending(void)
{
    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
}

static void confirm_it(void)
{
    confirm("one", TUS_HOOK_POST_CREATE, HOOK_A);
}

static void remove_it(void)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);

    ck_assert_int_eq(tus_small_remove(scratch_path(spooled_path(&event, ""))), APR_SUCCESS);
    ck_assert_int_eq(tus_small_remove(scratch_path(spooled_path(&event, ".new"))), APR_SUCCESS);
}

START_TEST(test_put_meanwhile)
{
    apr_time_t changed;

    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    changed = changed_of("one");
    ck_assert_int_gt(changed, 0);
    reply("one/create/a", TUS_SPOOL_DONE, 0, put_the_next);
    apr_sleep(20000); /* the clock of file times goes in steps */
    TELLS("one", "one/create/a");
    ck_assert_int_gt(changed_of("one"), changed);
    TELLS("one", "one/finish/a");
}
END_TEST

/* What was told is removed, and not what took its name. */
START_TEST(test_replaced_meanwhile)
{
    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ready("one", TUS_HOOK_POST_FINISH, HOOK_A);
    reply("one/create/a", TUS_SPOOL_DONE, 0, put_the_same);
    TELLS("one", "one/create/a");
    ck_assert_int_eq(next, now);
    ck_assert_uint_eq(waiting(), 2);
    reply("one/create/a", TUS_SPOOL_FAILED, 0, put_the_same);
    TELLS("one", "one/create/a");
    ck_assert_uint_eq(waiting(), 2);
    reply("one/create/a", TUS_SPOOL_LATER, now + SECOND, put_the_same);
    TELLS("one", "one/create/a");
    reply("one/create/a", TUS_SPOOL_DONE, 0, NULL);
    TELLS("one", "one/create/a one/finish/a"); /* the new one is due at once */
}
END_TEST

START_TEST(test_a_pending_one_is_replaced_meanwhile)
{
    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    now += TUS_SPOOL_PENDING;
    reply("one/create/a?", TUS_SPOOL_DONE, 0, put_the_same_pending);
    TELLS("one", "one/create/a?");
    confirm("one", TUS_HOOK_POST_CREATE, HOOK_A);
    TELLS("one", "one/create/a");
}
END_TEST

START_TEST(test_confirmed_meanwhile)
{
    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ready("one", TUS_HOOK_POST_FINISH, HOOK_A);
    now += TUS_SPOOL_PENDING;
    reply("one/create/a?", TUS_SPOOL_READY, 0, confirm_it);
    TELLS("one", "one/create/a?");
    ck_assert_int_eq(next, now);
    TELLS("one", "one/create/a one/finish/a");
    put("two", TUS_HOOK_POST_CREATE, HOOK_A);
}
END_TEST

START_TEST(test_removed_meanwhile)
{
    static const tus_spool_e all[] = { TUS_SPOOL_DONE, TUS_SPOOL_LATER, TUS_SPOOL_FAILED };
    int i;

    for (i = 0; i < 3; i++) {
        ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
        reply("one/create/a", all[i], now, remove_it);
        TELLS("one", "one/create/a");
        ck_assert_uint_eq(waiting(), 0);
        TELLS("one", "");
        ck_assert_int_eq(next, 0);
    }
    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    now += TUS_SPOOL_PENDING;
    reply("one/create/a?", TUS_SPOOL_READY, 0, remove_it);
    TELLS("one", "one/create/a?");
    TELLS("one", "");
    ck_assert_int_eq(next, 0);
}
END_TEST

/* ---- what others planted ------------------------------------------------- */

static const char *in_shard_of(const char *id, const char *name)
{
    return apr_psprintf(unit_pool, "spool/%02x/%s", tus_spool_shard(id), name);
}

START_TEST(test_foreign_names_are_moved_aside)
{
    static const char *const names[] = { "foreign", "x.new", "0", "a b\n" };
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);
    const char *leaf;
    unsigned i;

    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    leaf = strrchr(spooled_path(&event, ""), '/') + 1;
    for (i = 0; i < 4; i++) {
        scratch_put(in_shard_of("one", names[i]), "x");
    }
    scratch_put(in_shard_of("one", apr_pstrcat(unit_pool, leaf, ".old", NULL)), "x");
    scratch_put(in_shard_of("one", apr_pstrcat(unit_pool, leaf, ".tmp", NULL)), "x");
    scratch_put(in_shard_of("one", apr_pstrcat(unit_pool, leaf, "0", NULL)), "x");
    scratch_mkdir(in_shard_of("one", "directory"));
    scratch_put(in_shard_of("one", "directory/in"), "x");
    scratch_put(in_shard_of("one", ".hidden"), "x");
    ck_assert_int_eq(work(tus_spool_shard("one")), TUS_EDAMAGED);
    ck_assert_str_eq(all_told(), "one/create/a");
    ck_assert_int_eq(next, 0);
    ck_assert_int_eq(count_failed(), 8);
    ck_assert(scratch_exists("spool/failed/directory/in"));
    ck_assert(scratch_exists(in_shard_of("one", ".hidden")));
    TELLS("one", "");
}
END_TEST

START_TEST(test_what_is_no_file_is_moved_aside)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);
    int plant, before;

    for (plant = 0; plant < PLANT_COUNT; plant++) {
        ready("one", TUS_HOOK_POST_FINISH, HOOK_A);
        scratch_plant((plant_e)plant, spooled_path(&event, ""));
        before = open_descriptors();
        ck_assert_int_eq(work(tus_spool_shard("one")), TUS_EDAMAGED);
        ck_assert_int_eq(open_descriptors(), before);
        ck_assert_str_eq(all_told(), "one/finish/a");
        ck_assert(scratch_exists(failed_path("one", TUS_HOOK_POST_CREATE, HOOK_A)));
        ck_assert_int_eq(remove(scratch_path(failed_path("one", TUS_HOOK_POST_CREATE, HOOK_A))), 0);
        ck_assert_str_eq(scratch_get("elsewhere"), "secret");
    }
}
END_TEST

START_TEST(test_damaged_files_are_moved_aside)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);
    tus_spooled_t other = spooled("two", TUS_HOOK_POST_CREATE, HOOK_A);
    const char *path = spooled_path(&event, ""), *text;
    int i;

    put("two", TUS_HOOK_POST_CREATE, HOOK_A);
    text = scratch_get(spooled_path(&other, ".new"));
    for (i = 0; i < 4; i++) {
        ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
        ready("one", TUS_HOOK_POST_FINISH, HOOK_A);
        switch (i) {
        case 0: /* another's event */
            scratch_put(path, text);
            break;
        case 1:
            scratch_put(path, "");
            break;
        case 2: /* half */
            ck_assert_int_eq(truncate(scratch_path(path), 100), 0);
            break;
        default:
            ck_assert_int_eq(truncate(scratch_path(path), TUS_SPOOLED_MAX + 1), 0);
        }
        ck_assert_int_eq(work(tus_spool_shard("one")), TUS_EDAMAGED);
        ck_assert_str_eq(all_told(), "one/finish/a");
        ck_assert_int_eq(count_failed(), 1);
    }
    ck_assert_uint_eq(waiting(), 1);
}
END_TEST

/* In the directory of another shard nobody finds it by its name. */
START_TEST(test_another_shard)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);
    const char *path;

    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ready("two", TUS_HOOK_POST_CREATE, HOOK_A);
    ck_assert_int_ne(tus_spool_shard("one"), tus_spool_shard("two"));
    path = spooled_path(&event, "");
    ck_assert_int_eq(rename(scratch_path(path), scratch_path(in_shard_of("two", path + 9))), 0);
    ck_assert_int_eq(work(tus_spool_shard("two")), TUS_EDAMAGED);
    ck_assert_str_eq(all_told(), "two/create/a");
    ck_assert_int_eq(count_failed(), 1);
}
END_TEST

START_TEST(test_directories_that_are_links)
{
    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ck_assert_int_eq(rename(scratch_path("spool"), scratch_path("moved")), 0);
    scratch_symlink("moved", "spool");
    ck_assert_int_eq(work(tus_spool_shard("one")), TUS_EREFUSED);
    ck_assert_int_gt(next, now);
    ck_assert_int_eq(told->nelts, 0);
    ck_assert_int_eq(unlink(scratch_path("spool")), 0);
    ck_assert_int_eq(rename(scratch_path("moved"), scratch_path("spool")), 0);
    scratch_symlink("..", "spool/failed");
    reply("one/create/a", TUS_SPOOL_FAILED, 0, NULL);
    ck_assert_int_eq(work(tus_spool_shard("one")), TUS_EREFUSED);
    ck_assert_int_gt(next, now);
    ck_assert_uint_eq(waiting(), 1);
}
END_TEST

/* What cannot be moved aside holds up nothing but what follows it. */
START_TEST(test_no_place_aside)
{
    a_life("one");
    ready("two", TUS_HOOK_POST_CREATE, HOOK_A);
    scratch_mkdir("spool/failed");
    scratch_mkdir(failed_path("one", TUS_HOOK_POST_CREATE, HOOK_A));
    reply("one/create/a", TUS_SPOOL_FAILED, 0, NULL);
    ck_assert_int_ne(work(tus_spool_shard("one")), APR_SUCCESS);
    ck_assert_str_eq(all_told(), "one/create/a one/create/b one/finish/b");
    ck_assert_int_gt(next, now);
    TELLS("two", "two/create/a");
}
END_TEST

START_TEST(test_leftovers)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);
    const char *path;

    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    path = spooled_path(&event, ".new.tmp");
    scratch_put(path, "tus-event 1\nid: on");
    ck_assert_uint_eq(waiting(), 1);
    TELLS("one", "one/create/a");
    ck_assert_int_gt(next, now + 3500 * SECOND);
    ck_assert(scratch_exists(path));
    now = next;
    TELLS("one", "");
    ck_assert(!scratch_exists(path));
    ck_assert_int_eq(next, 0);
    scratch_mkdir(path);
    now += 7200 * SECOND;
    ck_assert_int_eq(work(tus_spool_shard("one")), TUS_EDAMAGED);
    scratch_put(path, "tus-event 1\nid: on"); /* it is in nobody's way */
    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ck_assert(!scratch_exists(path));
}
END_TEST

/* ---- one at a time, and not for ever -------------------------------------- */

static apr_status_t work_of_another;

static void work_as_another(void)
{
    apr_time_t when = 0;

    work_of_another = work_shard(tus_spool_shard("one"), now, 0, &teller, &when, unit_pool);
}

static int hold_shard(peer_t *parent, void *path)
{
    int fd = open(path, O_RDONLY);

    if (flock(fd, LOCK_EX) != 0) {
        return 1;
    }
    say(parent);
    return !hear(parent);
}

START_TEST(test_one_works_at_a_time)
{
    peer_t peer;

    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    reply("one/create/a", TUS_SPOOL_LATER, now, work_as_another);
    TELLS("one", "one/create/a");
    ck_assert_int_eq(work_of_another, APR_EBUSY);

    peer = spawn_peer(hold_shard, (void *)scratch_path(in_shard_of("one", "")));
    ck_assert(hear(&peer));
    ck_assert_int_eq(work(tus_spool_shard("one")), APR_EBUSY);
    kill_peer(&peer);
    ck_assert_int_lt(reap_peer(&peer), 0);
    apr_hash_clear(answers);
    TELLS("one", "one/create/a");
}
END_TEST

START_TEST(test_deadline)
{
    const char *ids[8];
    int i, n = 0, passes = 0, shard = tus_spool_shard("0");

    for (i = 0; n < 8; i++) {
        ids[n] = apr_itoa(unit_pool, i);
        if (tus_spool_shard(ids[n]) == shard) {
            ready(ids[n++], TUS_HOOK_POST_CREATE, HOOK_A);
        }
    }
    while (waiting() > 0) {
        apr_array_clear(told);
        ck_assert_int_eq(work_shard(shard, now, now - SECOND * 2, &teller, &next, unit_pool),
                         APR_INCOMPLETE);
        ck_assert_int_eq(told->nelts, 1);
        ck_assert_int_eq(next, now);
        passes++;
    }
    ck_assert_int_eq(passes, 8);
}
END_TEST

/* With so many hooks that not all of them can be kept in mind. */
START_TEST(test_many_hooks)
{
    char hook[TUS_HOOK_KEY_SIZE];
    tus_spooled_t event;
    int i, pass;

    for (i = 0; i < 100; i++) {
        apr_snprintf(hook, sizeof(hook), "%016x", (unsigned)i);
        ready("one", TUS_HOOK_POST_CREATE, hook);
        ready("one", TUS_HOOK_POST_FINISH, hook);
        event = spooled("one", TUS_HOOK_POST_CREATE, hook);
        reply(spooled_text(&event, unit_pool), TUS_SPOOL_LATER, now + SECOND, NULL);
    }
    ck_assert_int_eq(work(tus_spool_shard("one")), APR_SUCCESS);
    for (i = 0; i < told->nelts; i++) {
        ck_assert_ptr_nonnull(strstr(APR_ARRAY_IDX(told, i, const char *), "/create/"));
    }
    apr_hash_clear(answers);
    now += SECOND;
    for (pass = 0, i = 0; waiting() > 0; pass++) {
        ck_assert_int_eq(work(tus_spool_shard("one")), APR_SUCCESS);
        i += told->nelts;
    }
    ck_assert_int_eq(i, 200);
}
END_TEST

/* ---- what is held back --------------------------------------------------- */

/* Hook A is, until then; or its files are not opened. */
static apr_time_t held_until;
static apr_time_t untaken_until;
static int taken;

static apr_time_t hold(void *baton, const tus_spooled_name_t *name)
{
    ck_assert_ptr_eq(baton, &now);
    ck_assert_int_eq(name->created, CREATED);
    ck_assert(name->type == TUS_HOOK_POST_CREATE || name->type == TUS_HOOK_POST_FINISH);
    return strcmp(name->hook, HOOK_A) == 0 ? held_until : 0;
}

static apr_time_t take(void *baton, const tus_spooled_name_t *name)
{
    ck_assert_ptr_eq(baton, &now);
    taken++;
    return strcmp(name->hook, HOOK_A) == 0 ? untaken_until : 0;
}

static apr_status_t work_held(const char *id)
{
    static const tus_spool_teller_t holding = {
        .tell = tell, .hold = hold, .take = take, .baton = &now
    };

    taken = 0;
    apr_array_clear(told);
    return work_shard(tus_spool_shard(id), now, 0, &holding, &next, unit_pool);
}

START_TEST(test_held_back)
{
    held_until = now + 100 * SECOND;
    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ready("one", TUS_HOOK_POST_CREATE, HOOK_B);
    put("one", TUS_HOOK_POST_FINISH, HOOK_A);
    now += 10 * SECOND;
    ck_assert_int_eq(work_held("one"), APR_SUCCESS);
    ck_assert_str_eq(all_told(), "one/create/b");
    ck_assert_int_eq(taken, 1);
    ck_assert_int_eq(next, held_until);
    held_until = 0;
    ck_assert_int_eq(work_held("one"), APR_SUCCESS);
    ck_assert_str_eq(all_told(), "one/create/a one/finish/a? one/finish/a");
    ck_assert_int_eq(next, 0);
}
END_TEST

/* Those that are held back are not opened: not even seen to be no event. */
START_TEST(test_held_back_unopened)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);

    held_until = now + 100 * SECOND;
    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    scratch_put(spooled_path(&event, ""), "nonsense");
    now += 10 * SECOND;
    ck_assert_int_eq(work_held("one"), APR_SUCCESS);
    held_until = 0;
    untaken_until = now + SECOND;
    ck_assert_int_eq(work_held("one"), APR_SUCCESS);
    ck_assert_int_eq(taken, 1);
    ck_assert_int_eq(next, untaken_until);
    untaken_until = 0;
    ck_assert_int_eq(work_held("one"), TUS_EDAMAGED);
}
END_TEST

/* With all that follows for the same upload and hook. */
START_TEST(test_not_taken)
{
    untaken_until = now + 100 * SECOND;
    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ready("one", TUS_HOOK_POST_FINISH, HOOK_A);
    ready("one", TUS_HOOK_POST_FINISH, HOOK_B);
    now += 10 * SECOND;
    ck_assert_int_eq(work_held("one"), APR_SUCCESS);
    ck_assert_str_eq(all_told(), "one/finish/b");
    ck_assert_int_eq(taken, 2);
    ck_assert_int_eq(next, untaken_until);
}
END_TEST

/* The next pass asks again, whenever that is: nothing is noted. */
START_TEST(test_waits_for_this_pass_alone)
{
    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ready("one", TUS_HOOK_POST_FINISH, HOOK_A);
    reply("one/create/a", TUS_SPOOL_WAIT, now + 100 * SECOND, NULL);
    TELLS("one", "one/create/a");
    ck_assert_int_eq(next, now + 100 * SECOND);
    TELLS("one", "one/create/a");
    apr_hash_clear(answers);
    TELLS("one", "one/create/a one/finish/a");
}
END_TEST

/* Who dies before he wrote anything has touched it. */
START_TEST(test_touched)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);
    apr_time_t before = apr_time_now() - 50000;

    put("one", TUS_HOOK_POST_CREATE, HOOK_A);
    ck_assert_int_gt(tus_spool_touched(scratch), before);
    apr_file_mtime_set(scratch_path("spool"), before - 100 * SECOND, unit_pool);
    ck_assert_int_lt(tus_spool_touched(scratch), before);
    scratch_mkdir(spooled_path(&event, ".new.tmp"));
    ck_assert_int_ne(tus_spool_put(scratch, &event, 0, unit_pool), APR_SUCCESS);
    ck_assert_int_gt(tus_spool_touched(scratch), before);
}
END_TEST

/* ---- many ---------------------------------------------------------------- */

#define MANY (TUS_SPOOL_BATCH + 500)

/* Which events of which uploads were told, in order. */
typedef struct tally_t {
    apr_hash_t *last; /* the type of the last one, of each upload */
    int told;
} tally_t;

static tus_spool_e tally_up(void *baton, const tus_spooled_t *event, apr_time_t *due, apr_pool_t *p)
{
    tally_t *tally = baton;
    const char *id = apr_pstrdup(unit_pool, event->id);
    intptr_t last = (intptr_t)apr_hash_get(tally->last, id, APR_HASH_KEY_STRING);

    (void)due;
    (void)p;
    ck_assert_int_gt(event->type, last);
    apr_hash_set(tally->last, id, APR_HASH_KEY_STRING, (void *)(intptr_t)event->type);
    tally->told++;
    return TUS_SPOOL_DONE;
}

/* Of many uploads, which are in more than one batch. */
START_TEST(test_many_uploads)
{
    tally_t tally = { apr_hash_make(unit_pool), 0 };
    const tus_spool_teller_t counter = { .tell = tally_up, .baton = &tally };
    apr_pool_t *p;
    int i, n = 0;

    apr_pool_create(&p, unit_pool);
    for (i = 0; n < MANY; i++) {
        const char *id = apr_itoa(p, i);

        if (tus_spool_shard(id) == 7) {
            ready(id, TUS_HOOK_POST_FINISH, HOOK_A);
            ready(id, TUS_HOOK_POST_CREATE, HOOK_A);
            n += 2;
        }
        if (i % 1000 == 0) {
            apr_pool_clear(p);
        }
    }
    ck_assert_uint_eq(waiting(), (unsigned)n);
    now = apr_time_now() + SECOND;
    ck_assert_int_eq(work_shard(7, now, 0, &counter, &next, p), APR_SUCCESS);
    ck_assert_int_eq(tally.told, n);
    ck_assert_int_eq(next, 0);
    ck_assert_uint_eq(waiting(), 0);
}
END_TEST

static tus_spool_e count_in_order(void *baton, const tus_spooled_t *event, apr_time_t *due,
                                  apr_pool_t *p)
{
    apr_time_t *last = baton;

    (void)due;
    (void)p;
    ck_assert_int_gt(event->created, *last);
    *last = event->created;
    return TUS_SPOOL_DONE;
}

/* Of one alone, which are more than a batch. */
START_TEST(test_many_of_one_upload)
{
    tus_spooled_t event = spooled("one", TUS_HOOK_POST_CREATE, HOOK_A);
    apr_time_t last = 0;
    const tus_spool_teller_t in_order = { .tell = count_in_order, .baton = &last };
    int i;

    for (i = 0; i < MANY; i++) {
        event.created = 1 + (i * 7919) % MANY;
        ck_assert_int_eq(tus_spool_put(scratch, &event, 0, unit_pool), APR_SUCCESS);
        ck_assert_int_eq(tus_spool_confirm(scratch, &event, unit_pool), APR_SUCCESS);
    }
    now = apr_time_now() + SECOND;
    ck_assert_int_eq(work_shard(tus_spool_shard("one"), now, 0, &in_order, &next, unit_pool),
                     APR_SUCCESS);
    ck_assert_int_eq(last, MANY);
    ck_assert_uint_eq(waiting(), 0);
}
END_TEST

START_TEST(test_count)
{
    apr_uint64_t count;
    apr_time_t oldest, before = apr_time_now() - SECOND;
    tus_spooled_t event = spooled("three", TUS_HOOK_POST_CREATE, HOOK_A);

    ready("one", TUS_HOOK_POST_CREATE, HOOK_A);
    put("two", TUS_HOOK_POST_CREATE, HOOK_A);
    ck_assert_int_eq(tus_spool_count(scratch, &count, &oldest, unit_pool), APR_SUCCESS);
    ck_assert_uint_eq(count, 2);
    ck_assert_int_ge(oldest, before);
    ck_assert_int_le(oldest, apr_time_now());
    event.at = apr_time_from_sec(1700000000);
    ck_assert_int_eq(tus_spool_put(scratch, &event, 0, unit_pool), APR_SUCCESS);
    ck_assert_int_eq(tus_spool_confirm(scratch, &event, unit_pool), APR_SUCCESS);
    reply("three/create/a", TUS_SPOOL_LATER, now + 600 * SECOND, NULL);
    TELLS("three", "three/create/a");
    ck_assert_int_eq(tus_spool_count(scratch, &count, &oldest, unit_pool), APR_SUCCESS);
    ck_assert_uint_eq(count, 3);
    ck_assert_int_eq(oldest, event.at); /* however often it was put off */
    scratch_put(in_shard_of("one", "foreign"), "x");
    ck_assert_uint_eq(waiting(), 3);
}
END_TEST

Suite *spool_suite(void)
{
    Suite *suite = suite_create("spool");
    TCase *tcase = add_scratch_case(suite, "spool");

    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, test_file);
    tcase_add_test(tcase, test_nothing_was_ever_put);
    tcase_add_test(tcase, test_put_confirm_tell);
    tcase_add_test(tcase, test_retract);
    tcase_add_test(tcase, test_put_again);
    tcase_add_test(tcase, test_what_is_no_event_is_not_put);
    tcase_add_test(tcase, test_order);
    tcase_add_test(tcase, test_what_follows_waits);
    tcase_add_test(tcase, test_what_follows_a_failed_one_does_not_wait);
    tcase_add_test(tcase, test_an_id_again);
    tcase_add_test(tcase, test_long_ids);
    tcase_add_test(tcase, test_pending_ones_wait_and_are_judged);
    tcase_add_test(tcase, test_a_pending_one_never_happened);
    tcase_add_test(tcase, test_a_pending_one_is_retracted);
    tcase_add_test(tcase, test_a_pending_one_is_judged_later);
    tcase_add_test(tcase, test_judged_and_then_later);
    tcase_add_test(tcase, test_delays_have_a_limit);
    tcase_add_test(tcase, test_put_meanwhile);
    tcase_add_test(tcase, test_replaced_meanwhile);
    tcase_add_test(tcase, test_a_pending_one_is_replaced_meanwhile);
    tcase_add_test(tcase, test_confirmed_meanwhile);
    tcase_add_test(tcase, test_removed_meanwhile);
    tcase_add_test(tcase, test_foreign_names_are_moved_aside);
    tcase_add_test(tcase, test_what_is_no_file_is_moved_aside);
    tcase_add_test(tcase, test_damaged_files_are_moved_aside);
    tcase_add_test(tcase, test_another_shard);
    tcase_add_test(tcase, test_directories_that_are_links);
    tcase_add_test(tcase, test_no_place_aside);
    tcase_add_test(tcase, test_leftovers);
    tcase_add_test(tcase, test_one_works_at_a_time);
    tcase_add_test(tcase, test_deadline);
    tcase_add_test(tcase, test_many_hooks);
    tcase_add_test(tcase, test_held_back);
    tcase_add_test(tcase, test_held_back_unopened);
    tcase_add_test(tcase, test_not_taken);
    tcase_add_test(tcase, test_waits_for_this_pass_alone);
    tcase_add_test(tcase, test_touched);
    tcase_add_test(tcase, test_many_uploads);
    tcase_add_test(tcase, test_many_of_one_upload);
    tcase_add_test(tcase, test_count);
    return suite;
}
