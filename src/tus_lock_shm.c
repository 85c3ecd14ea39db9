/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The lock provider "shm": a hash table in shared memory.
 *
 * Layout: table_t, a process_t for each process that may attach, the entries.
 * Changes are made under the mutex, but for the one store that lets an upload go;
 * and a process may be killed between any two of them, and the next one goes on
 * with what it left. So one word decides, and is stored last: a slot is taken
 * while process_t.self is not 0, and an entry is held while entry_t.holder is the
 * self of a taken slot. To clear self frees all that the process held, in one
 * store; the generation in self keeps the slot's next owner from inheriting it.
 *
 * An entry stands in one of WINDOW places after its hash. A lookup reads them
 * all, so that freeing leaves no gap to mark.
 *
 * Waking: each slot has an eventfd, made before the first fork and so the same
 * number in every process; where descriptors are scarce there is none, and holders
 * look by themselves. All holders of a process poll the one. It is readable
 * from the asking until every holder that was asked has looked. One that is busy
 * elsewhere must not keep the others awake: after PATIENCE any of them silences
 * it, and whoever waits rings again, so that no wakeup is lost for good.
 *
 * A tus_locks_t serves all threads of the process that attached, and no process
 * forked from that one later. It outlives its locks, and a lock is used by one
 * thread at a time.
 */
#include "tus_words.h"

#include <apr_general.h>
#include <apr_siphash.h>
#include <apr_strings.h>
#include <apr_thread_proc.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#define MAGIC 0x74757321u

/* Places for each entry asked for, so that windows do not fill before the table. */
#define PLACES_PER_ENTRY 2
#define WINDOW 64

/* How long a holder that was asked may keep the event readable. */
#define PATIENCE apr_time_from_msec(10)
/* How often a waiter looks whether the holder lives, and rings again. */
#define AGAIN apr_time_from_msec(100)
#define NAP_MIN apr_time_from_msec(1)
#define NAP_MAX apr_time_from_msec(10)

/* To enter the table without waiting for it: first at once, then after whoever is to run. */
#define SPINS 100
#define YIELDS 100

/* For what is read without the mutex. APR's 64-bit atomics may use a mutex of their process. */
#define LOAD(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define STORE(p, value) __atomic_store_n((p), (value), __ATOMIC_RELEASE)

typedef struct table_t {
    apr_uint32_t magic; /**< written last */
    apr_uint32_t layout;
    apr_uint64_t size; /**< of all of it */
    apr_uint32_t processes;
    apr_uint32_t places;
    /** Random: nobody can choose an id that stands in another's place. */
    unsigned char key[APR_SIPHASH_KSIZE];
    apr_uint64_t tickets; /**< drawn so far; all above stays as it is */
} table_t;

typedef struct process_t {
    apr_uint64_t self;       /**< generation << 32 | number from 1; 0: free */
    apr_uint64_t started;    /**< in clock ticks since boot, 0: unknown */
    apr_int64_t rung;        /**< when the event was last rung */
    apr_uint32_t ringing;    /**< the event is readable */
    apr_uint32_t generation; /**< of the last owner */
    apr_int32_t pid;
    apr_int32_t event; /**< the eventfd, or -1 */
} process_t;

typedef struct entry_t {
    apr_uint64_t holder; /**< process_t.self */
    apr_uint64_t ticket; /**< of the holder: only those that came later may interrupt it */
    apr_uint64_t device;
    apr_uint64_t inode;
    apr_uint64_t hash;
    apr_uint32_t asked;    /**< tus_asked_e */
    apr_uint32_t answered; /**< its holder has seen that */
} entry_t;

typedef struct shm_locks_t {
    tus_locks_t base;
    table_t *table;
    process_t *process;
    apr_uint64_t self;
    apr_global_mutex_t *mutex;
    apr_file_t *event; /**< NULL where there is none */
    apr_pool_t *pool;
} shm_locks_t;

struct tus_lock_t {
    shm_locks_t *locks;
    entry_t *entry; /**< NULL once released */
};

static process_t *processes_of(table_t *table)
{
    return (process_t *)(table + 1);
}

static entry_t *entries_of(table_t *table)
{
    return (entry_t *)(processes_of(table) + table->processes);
}

static process_t *process_of(table_t *table, apr_uint64_t self)
{
    return processes_of(table) + (apr_uint32_t)self - 1;
}

static int is_held(table_t *table, entry_t *entry)
{
    apr_uint64_t holder = LOAD(&entry->holder);

    return holder != 0 && LOAD(&process_of(table, holder)->self) == holder;
}

/* A process forked from ours may clean up copies of our pools. */
static int is_ours(const shm_locks_t *locks)
{
    return LOAD(&locks->process->pid) == getpid();
}

/* A clock that was set back counts as elapsed. */
static int has_elapsed(apr_interval_time_t interval, apr_time_t since, apr_time_t now)
{
    return now < since || now - since >= interval;
}

/* ---- the mutex ----------------------------------------------------------- */

/*
 * It is held for less than it takes to go to sleep, and to be woken. Who leaves it
 * hands it to the first that sleeps, so that until that one runs all others go to
 * sleep as well: such a line does not end by itself while requests come.
 */
static apr_status_t enter(const shm_locks_t *locks)
{
    for (int i = 0; i < SPINS + YIELDS; i++) {
        apr_status_t rv = apr_global_mutex_trylock(locks->mutex);

        if (!APR_STATUS_IS_EBUSY(rv)) {
            return APR_STATUS_IS_ENOTIMPL(rv) ? apr_global_mutex_lock(locks->mutex) : rv;
        }
        if (i >= SPINS) {
            apr_thread_yield();
        }
    }
    return apr_global_mutex_lock(locks->mutex);
}

static apr_status_t leave(const shm_locks_t *locks)
{
    return apr_global_mutex_unlock(locks->mutex);
}

/* ---- the dead ------------------------------------------------------------ */

/* In the place of a start time: only a zombie is left. */
#define STARTED_GONE UINT64_MAX

/* When a process was started, 0 where the system does not say, or STARTED_GONE. */
static apr_uint64_t started(pid_t pid)
{
    char path[32];
    char line[1024];
    char state;
    long threads;
    apr_uint64_t ticks;
    const char *rest;
    apr_ssize_t len;
    int fd;

    apr_snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    len = read(fd, line, sizeof(line) - 1);
    close(fd);
    if (len <= 0) {
        return 0;
    }
    line[len] = '\0';

    /* Field 2 is the program's name, with any characters. We want 3, 20 and 22. */
    rest = strrchr(line, ')');
    if (!rest
        || sscanf(rest + 1,
                  " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s"
                  " %ld %*s %" APR_UINT64_T_FMT,
                  &state, &threads, &ticks)
               != 3) {
        return 0;
    }
    /* While other threads are still on their way out, so may be a write. */
    return (state == 'Z' || state == 'X') && threads <= 1 ? STARTED_GONE : ticks;
}

static int is_dead(pid_t pid, apr_uint64_t since)
{
    apr_uint64_t now;

    if (kill(pid, 0) != 0 && errno == ESRCH) {
        return 1;
    }
    now = started(pid);
    return now == STARTED_GONE || (now != 0 && since != 0 && now != since);
}

/* Frees the slot, and thereby all that it holds, unless it is another's by now. */
static int vacate(process_t *process, apr_uint64_t self)
{
    return __atomic_compare_exchange_n(&process->self, &self, 0, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE);
}

/* Frees what a process held, if it is dead. Without the mutex: this makes system calls. */
static int bury(table_t *table, apr_uint64_t self)
{
    process_t *process;
    apr_uint64_t since;
    pid_t pid;

    if (self == 0) {
        return 0;
    }
    process = process_of(table, self);
    pid = LOAD(&process->pid);
    since = LOAD(&process->started);
    /* Only now is it certain whose pid and start that were. */
    if (LOAD(&process->self) != self || !is_dead(pid, since)) {
        return 0;
    }
    return vacate(process, self);
}

static int bury_all(table_t *table)
{
    apr_uint32_t i;
    int buried = 0;

    for (i = 0; i < table->processes; i++) {
        buried += bury(table, LOAD(&processes_of(table)[i].self));
    }
    return buried;
}

/* ---- waking; all but asked() under the mutex ----------------------------- */

/* A write that fails is made good by the next one, or by the holder's own look. */
static void ring(process_t *process, apr_time_t now)
{
    STORE(&process->rung, now);
    STORE(&process->ringing, 1);
    eventfd_write(process->event, 1);
}

static void silence(process_t *process)
{
    eventfd_t count;

    STORE(&process->ringing, 0);
    eventfd_read(process->event, &count);
}

static int is_unanswered(entry_t *entry)
{
    return LOAD(&entry->asked) != TUS_ASKED_NOTHING && !LOAD(&entry->answered);
}

static int is_overdue(process_t *process)
{
    return LOAD(&process->ringing) && has_elapsed(PATIENCE, LOAD(&process->rung), apr_time_now());
}

/*
 * What is asked for can only become more. A holder that has answered the less is rung for again.
 * @param holder who was seen to hold it, and may have let go since; 0 for nobody any more
 */
static void ask(table_t *table, entry_t *entry, apr_uint64_t holder, tus_asked_e what)
{
    apr_time_t now = apr_time_now();
    process_t *process;

    if (!holder) {
        return;
    }
    process = process_of(table, holder);
    if (entry->asked < (apr_uint32_t)what) {
        STORE(&entry->answered, 0);
        STORE(&entry->asked, what);
        ring(process, now);
    }
    else if (is_unanswered(entry) && has_elapsed(AGAIN, process->rung, now)) {
        ring(process, now);
    }
}

/* Notes that the holder knows, and silences the event if none is left to know. */
static void answer(shm_locks_t *locks, entry_t *entry)
{
    entry_t *other = entries_of(locks->table);
    entry_t *end = other + locks->table->places;

    STORE(&entry->answered, 1);
    for (; other < end; other++) {
        if (LOAD(&other->holder) == locks->self && is_unanswered(other)) {
            return;
        }
    }
    silence(locks->process);
}

static tus_asked_e asked(tus_lock_t *lock)
{
    shm_locks_t *locks = lock->locks;
    entry_t *entry = lock->entry;

    if (!entry) {
        return TUS_ASKED_NOTHING;
    }
    if ((is_unanswered(entry) || is_overdue(locks->process)) && enter(locks) == APR_SUCCESS) {
        if (is_unanswered(entry)) {
            answer(locks, entry);
        }
        else if (is_overdue(locks->process)) {
            silence(locks->process);
        }
        leave(locks);
    }
    /* Read last: what was answered must also be told. */
    return (tus_asked_e)LOAD(&entry->asked);
}

static tus_asked_e peek(tus_lock_t *lock)
{
    return (tus_asked_e)LOAD(&lock->entry->asked);
}

static apr_status_t wakeup(tus_locks_t *base, apr_pollfd_t *pollfd)
{
    shm_locks_t *locks = (shm_locks_t *)base;

    memset(pollfd, 0, sizeof(*pollfd));
    if (!locks->event) {
        return APR_ENOTIMPL;
    }
    pollfd->p = locks->pool;
    pollfd->desc_type = APR_POLL_FILE;
    pollfd->reqevents = APR_POLLIN;
    pollfd->desc.f = locks->event;
    return APR_SUCCESS;
}

/* ---- holding ------------------------------------------------------------- */

/* Unless it is another's by now: we may have been taken for dead. */
static void free_entry(entry_t *entry, apr_uint64_t self)
{
    __atomic_compare_exchange_n(&entry->holder, &self, 0, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/*
 * The store that frees the entry needs no mutex. Who asks at this very moment may
 * ring for nobody: any holder silences that.
 */
static void release(tus_lock_t *lock)
{
    entry_t *entry = lock->entry;
    shm_locks_t *locks = lock->locks;

    if (!entry) {
        return;
    }
    lock->entry = NULL;
    if (is_unanswered(entry) && enter(locks) == APR_SUCCESS) {
        answer(locks, entry);
        leave(locks);
    }
    free_entry(entry, locks->self);
}

/* Not by the mutex, which this thread may have: prefork ends a child in a signal's handler. */
static apr_status_t release_cleanup(void *data)
{
    tus_lock_t *lock = data;

    if (lock->entry && is_ours(lock->locks)) {
        free_entry(lock->entry, lock->locks->self);
        lock->entry = NULL;
    }
    return APR_SUCCESS;
}

/* An upload as an entry of ours would name it. */
static entry_t name_entry(const shm_locks_t *locks, const tus_identity_t *store, const char *id)
{
    return (entry_t){ .holder = locks->self,
                      .device = store->device,
                      .inode = store->inode,
                      .hash = apr_siphash24(id, strlen(id), locks->table->key) };
}

static int is_same(const entry_t *one, const entry_t *two)
{
    return one->hash == two->hash && one->inode == two->inode && one->device == two->device;
}

/*
 * Finds who holds what `wanted` names.
 * @param spare set to a free place for it, or NULL
 */
static entry_t *find(table_t *table, const entry_t *wanted, entry_t **spare)
{
    entry_t *entries = entries_of(table);
    apr_uint32_t start = (apr_uint32_t)((wanted->hash ^ wanted->inode) % table->places);
    apr_uint32_t window = table->places < WINDOW ? table->places : WINDOW;
    apr_uint32_t i;

    *spare = NULL;
    for (i = 0; i < window; i++) {
        entry_t *entry = &entries[(start + i) % table->places];

        if (is_held(table, entry)) {
            if (is_same(entry, wanted)) {
                return entry;
            }
        }
        else if (!*spare) {
            *spare = entry;
        }
    }
    return NULL;
}

static void take(entry_t *entry, const entry_t *wanted)
{
    entry->ticket = wanted->ticket;
    entry->device = wanted->device;
    entry->inode = wanted->inode;
    entry->hash = wanted->hash;
    STORE(&entry->asked, TUS_ASKED_NOTHING);
    STORE(&entry->answered, 0);
    STORE(&entry->holder, wanted->holder);
}

/*
 * Takes the upload, or asks its holder, unless that one came later: a client that
 * came back is not interrupted by its own dead request that still waits.
 * @param holder set for APR_EBUSY
 * @return APR_SUCCESS; APR_EBUSY; APR_ENOSPC; or what the mutex said
 */
static apr_status_t try_take(tus_lock_t *lock, const entry_t *wanted, int asking,
                             apr_uint64_t *holder)
{
    table_t *table = lock->locks->table;
    entry_t *held, *spare;
    apr_status_t rv;

    rv = enter(lock->locks);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    held = find(table, wanted, &spare);
    if (held) {
        *holder = LOAD(&held->holder);
        if (asking && held->ticket < wanted->ticket) {
            ask(table, held, *holder, TUS_ASKED_RELEASE);
        }
        rv = APR_EBUSY;
    }
    else if (spare) {
        take(spare, wanted);
        lock->entry = spare;
    }
    else {
        rv = APR_ENOSPC;
    }
    leave(lock->locks);
    return rv;
}

/* Who comes later has the higher one, in whatever process. */
static apr_uint64_t draw_ticket(table_t *table)
{
    return __atomic_add_fetch(&table->tickets, 1, __ATOMIC_ACQ_REL);
}

static apr_status_t acquire(tus_locks_t *base, const tus_identity_t *store, const char *id,
                            apr_time_t deadline, const tus_cancel_t *cancel, tus_lock_t **result,
                            apr_pool_t *p)
{
    shm_locks_t *locks = (shm_locks_t *)base;
    tus_lock_t *lock = apr_pcalloc(p, sizeof(*lock));
    entry_t wanted = name_entry(locks, store, id);
    apr_interval_time_t nap = NAP_MIN;
    apr_time_t looked = 0;
    apr_uint64_t holder = 0;
    apr_status_t rv;

    lock->locks = locks;
    wanted.ticket = draw_ticket(locks->table);
    while ((rv = try_take(lock, &wanted, deadline != 0, &holder)) != APR_SUCCESS) {
        apr_time_t now = apr_time_now();

        if (APR_STATUS_IS_ENOSPC(rv) && bury_all(locks->table)) {
            continue;
        }
        if (rv != APR_EBUSY) {
            return rv;
        }
        if (has_elapsed(AGAIN, looked, now)) {
            looked = now;
            if (bury(locks->table, holder)) {
                continue;
            }
        }
        if (deadline == 0) {
            return rv;
        }
        if (cancel && cancel->cancelled(cancel->baton)) {
            return APR_EINTR;
        }
        if (now >= deadline) {
            return APR_TIMEUP;
        }
        apr_sleep(nap < deadline - now ? nap : deadline - now);
        nap = nap * 2 < NAP_MAX ? nap * 2 : NAP_MAX;
    }
    apr_pool_cleanup_register(p, lock, release_cleanup, apr_pool_cleanup_null);
    *result = lock;
    return APR_SUCCESS;
}

/* ---- holders of any process ---------------------------------------------- */

/* @param holder set to who holds the upload, 0 for nobody; asked, if it is `whom` */
static apr_status_t look_or_ask(shm_locks_t *locks, const entry_t *wanted, apr_uint64_t whom,
                                apr_uint64_t *holder)
{
    entry_t *held, *spare;
    apr_status_t rv = enter(locks);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    held = find(locks->table, wanted, &spare);
    *holder = held ? LOAD(&held->holder) : 0;
    if (held && *holder == whom) {
        ask(locks->table, held, *holder, TUS_ASKED_STOP);
    }
    return leave(locks);
}

/* Whether the holder lives is seen before it is asked: once asked, it may soon be gone. */
static apr_status_t stop(tus_locks_t *base, const tus_identity_t *store, const char *id)
{
    shm_locks_t *locks = (shm_locks_t *)base;
    entry_t wanted = name_entry(locks, store, id);
    apr_uint64_t holder, asked_one;
    apr_status_t rv = look_or_ask(locks, &wanted, 0, &holder);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    if (!holder || bury(locks->table, holder)) {
        return APR_ENOENT;
    }
    rv = look_or_ask(locks, &wanted, holder, &asked_one);
    if (rv == APR_SUCCESS && asked_one != holder) {
        rv = APR_ENOENT;
    }
    return rv;
}

/* Without the mutex: what changes meanwhile may count or not. */
static apr_status_t count(tus_locks_t *base, unsigned *held)
{
    table_t *table = ((shm_locks_t *)base)->table;
    apr_uint32_t i;

    bury_all(table);
    *held = 0;
    for (i = 0; i < table->places; i++) {
        *held += is_held(table, &entries_of(table)[i]) != 0;
    }
    return APR_SUCCESS;
}

const tus_lock_provider_t tus_lock_shm = {
    .name = "shm",
    .acquire = acquire,
    .asked = asked,
    .release = release,
    .peek = peek,
    .wakeup = wakeup,
    .stop = stop,
    .count = count,
};

/* ---- the table ----------------------------------------------------------- */

static apr_size_t table_size(apr_size_t places, apr_size_t processes)
{
    return sizeof(table_t) + processes * sizeof(process_t) + places * sizeof(entry_t);
}

apr_size_t tus_lock_shm_size(unsigned entries, unsigned processes)
{
    return table_size((apr_size_t)entries * PLACES_PER_ENTRY, processes);
}

/* A quarter of the descriptors that a process may have: the rest is for what httpd is there for. */
static unsigned events_at_most(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 0;
    }
    return limit.rlim_cur / 4 < UINT_MAX ? (unsigned)(limit.rlim_cur / 4) : UINT_MAX;
}

apr_status_t tus_lock_shm_init(void *base, apr_size_t size, unsigned entries, unsigned processes)
{
    table_t *table = base;
    unsigned events = events_at_most();
    apr_status_t rv;
    unsigned i;

    if (entries == 0 || processes == 0 || size < tus_lock_shm_size(entries, processes)) {
        return APR_EINVAL;
    }
    rv = apr_generate_random_bytes(table->key, sizeof(table->key));
    if (rv != APR_SUCCESS) {
        return rv;
    }
    for (i = 0; i < processes; i++) {
        processes_of(table)[i].event = i < events ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1;
    }
    table->layout = TUS_LOCK_SHM_LAYOUT;
    table->size = tus_lock_shm_size(entries, processes);
    table->processes = processes;
    table->places = entries * PLACES_PER_ENTRY;
    STORE(&table->magic, MAGIC);
    return APR_SUCCESS;
}

static int is_our_layout(table_t *table, apr_size_t size)
{
    return size >= sizeof(*table) && LOAD(&table->magic) == MAGIC
           && table->layout == TUS_LOCK_SHM_LAYOUT && table->processes > 0 && table->places > 0
           && size >= table->size && table->size == table_size(table->places, table->processes);
}

/* Takes a free slot for this process; APR_ENOSPC if there is none. */
static apr_status_t take_slot(shm_locks_t *locks)
{
    apr_uint64_t since = started(getpid());
    apr_status_t rv;
    apr_uint32_t i;

    rv = enter(locks);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    rv = APR_ENOSPC;
    for (i = 0; i < locks->table->processes; i++) {
        process_t *process = &processes_of(locks->table)[i];

        if (LOAD(&process->self) != 0) {
            continue;
        }
        process->generation++;
        STORE(&process->pid, getpid());
        STORE(&process->started, since);
        silence(process);
        locks->process = process;
        locks->self = (apr_uint64_t)process->generation << 32 | (i + 1);
        STORE(&process->self, locks->self);
        rv = APR_SUCCESS;
        break;
    }
    leave(locks);
    return rv;
}

static apr_status_t detach(void *data)
{
    shm_locks_t *locks = data;

    if (is_ours(locks)) {
        vacate(locks->process, locks->self);
    }
    return APR_SUCCESS;
}

apr_status_t tus_lock_shm_attach(tus_locks_t **result, void *base, apr_size_t size,
                                 apr_global_mutex_t *mutex, apr_pool_t *p)
{
    shm_locks_t *locks = apr_pcalloc(p, sizeof(*locks));
    apr_os_file_t fd;
    apr_status_t rv;

    if (!is_our_layout(base, size)) {
        return TUS_EDAMAGED;
    }
    locks->base.provider = &tus_lock_shm;
    locks->table = base;
    locks->mutex = mutex;
    locks->pool = p;
    do {
        rv = take_slot(locks);
    } while (APR_STATUS_IS_ENOSPC(rv) && bury_all(locks->table));
    if (rv != APR_SUCCESS) {
        return rv;
    }
    apr_pool_cleanup_register(p, locks, detach, apr_pool_cleanup_null);

    fd = locks->process->event;
    rv = fd < 0 ? APR_SUCCESS : apr_os_file_put(&locks->event, &fd, APR_FOPEN_READ, p);
    if (rv != APR_SUCCESS) {
        return rv;
    }
    *result = &locks->base;
    return APR_SUCCESS;
}
