/* Licensed under the Apache License, Version 2.0; see LICENSE. */

#include "peers.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

peer_t spawn_peer(peer_fn fn, void *arg)
{
    int up[2], down[2];
    peer_t peer;

    ck_assert_int_eq(pipe2(up, O_CLOEXEC), 0);
    ck_assert_int_eq(pipe2(down, O_CLOEXEC), 0);
    peer.pid = fork();
    ck_assert_int_ge(peer.pid, 0);
    if (peer.pid == 0) {
        peer_t parent = { getppid(), down[0], up[1] };

        close(up[0]);
        close(down[1]);
        apr_pool_create(&unit_pool, NULL);
        _exit(fn(&parent, arg));
    }
    close(up[1]);
    close(down[0]);
    peer.from = up[0];
    peer.to = down[1];
    return peer;
}

void say(peer_t *peer)
{
    if (write(peer->to, "x", 1) != 1) {
        _exit(90);
    }
}

int hear(peer_t *peer)
{
    char c;
    ssize_t got;

    do {
        got = read(peer->from, &c, 1);
    } while (got < 0 && errno == EINTR);
    return got == 1;
}

int reap_peer(peer_t *peer)
{
    int status;

    while (waitpid(peer->pid, &status, 0) < 0) {
        ck_assert_int_eq(errno, EINTR);
    }
    close(peer->from);
    close(peer->to);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

void kill_peer(peer_t *peer)
{
    siginfo_t info;

    ck_assert_int_eq(kill(peer->pid, SIGKILL), 0);
    ck_assert_int_eq(waitid(P_PID, (id_t)peer->pid, &info, WEXITED | WNOWAIT), 0);
}

void kill_some_time(peer_t *peer, int within)
{
    apr_sleep(rand() % within);
    kill_peer(peer);
    ck_assert_int_eq(reap_peer(peer), -SIGKILL);
}
