/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * The kernel asks about each of these calls (seccomp_unotify(2)); a thread that
 * none of this applies to answers.
 */
#include "calls.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const int counted[] = {
    __NR_openat,     __NR_pread64,  __NR_pwrite64, __NR_fsync,   __NR_flock,
    __NR_getdents64, __NR_renameat, __NR_unlinkat, __NR_mkdirat, __NR_utimensat,
#ifdef __NR_renameat2
    __NR_renameat2,
#endif
#ifdef __NR_rename
    __NR_rename,
#endif
#ifdef __NR_unlink
    __NR_unlink,
#endif
#ifdef __NR_mkdir
    __NR_mkdir,
#endif
#ifdef __NR_newfstatat
    __NR_newfstatat,
#endif
};

typedef struct trap_t {
    int nth, error;
    int *was_hit; /* shared with the parent */
    int ready[2]; /* a pipe with the descriptor that the kernel asks at */
} trap_t;

static int answer(trap_t *trap, int asked_at, int number)
{
    struct seccomp_notif call;
    struct seccomp_notif_resp response;

    memset(&call, 0, sizeof(call));
    memset(&response, 0, sizeof(response));
    if (ioctl(asked_at, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) {
        return errno == EINTR;
    }
    response.id = call.id;
    if (number == trap->nth) {
        *trap->was_hit = 1;
        if (!trap->error) {
            kill(getpid(), SIGKILL);
        }
        response.error = -trap->error;
    }
    else {
        response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    }
    return ioctl(asked_at, SECCOMP_IOCTL_NOTIF_SEND, &response) == 0;
}

static void *answer_all(void *arg)
{
    trap_t *trap = arg;
    int asked_at, number = 1;

    if (read(trap->ready[0], &asked_at, sizeof(asked_at)) == sizeof(asked_at)) {
        while (answer(trap, asked_at, number)) {
            number++;
        }
    }
    _exit(91); /* without an answer the other thread would stand still */
}

/* Of this thread alone. */
static int set_filter(void)
{
    struct sock_filter filter[COUNT(counted) + 3];
    struct sock_fprog program = { .len = COUNT(filter), .filter = filter };
    unsigned i, n = COUNT(counted);

    filter[0] =
        (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (i = 0; i < n; i++) {
        filter[1 + i] = (struct sock_filter)BPF_JUMP(
            BPF_JMP | BPF_JEQ | BPF_K, (unsigned)counted[i], (unsigned char)(n - i), 0);
    }
    filter[n + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[n + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return -1;
    }
    return (int)syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                        &program);
}

static void run(trap_t *trap, calls_fn fn, void *arg)
{
    pthread_t thread;
    int asked_at;

    apr_pool_create(&unit_pool, NULL);
    if (pipe(trap->ready) != 0 || pthread_create(&thread, NULL, answer_all, trap) != 0) {
        _exit(92);
    }
    asked_at = set_filter();
    if (asked_at < 0 || write(trap->ready[1], &asked_at, sizeof(asked_at)) != sizeof(asked_at)) {
        _exit(93);
    }
    _exit(fn(arg));
}

calls_end_t run_with_call(int nth, int error, calls_fn fn, void *arg)
{
    trap_t trap = { .nth = nth, .error = error };
    calls_end_t end;
    int status;
    pid_t pid;

    trap.was_hit =
        mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(trap.was_hit, MAP_FAILED);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        run(&trap, fn, arg);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    end.was_hit = *trap.was_hit;
    end.code = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    ck_assert_int_lt(end.code, 90);
    munmap(trap.was_hit, sizeof(int));
    return end;
}
