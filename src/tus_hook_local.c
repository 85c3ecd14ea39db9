/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Hooks that are a path of this very virtual host. The call is an ordinary
 * request to our own address, whatever the name resolves to, and has a field that
 * nobody else can know: what answers it finds TUS_HOOK=1 in its environment.
 *
 * Who waits for such a call has a worker, and the call needs another one. So only
 * some may wait at once, or all workers might wait for one that never comes free.
 */
#include "tus_httpd.h"

#include <ap_listen.h>
#include <ap_mpm.h>
#include <apr_escape.h>
#include <apr_general.h>
#include <apr_strings.h>

#include <http_core.h>
#include <http_protocol.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TOKEN_FIELD "Mod-Tus-Token"
#define TOKEN_BYTES 16
#define TOKEN_DIGITS (2 * TOKEN_BYTES)

/* In a request's notes, which internal redirects and subrequests do not inherit. */
#define NOTE "tus-hook-call"

#define ENVIRONMENT "TUS_HOOK"

/* Kept across restarts: a call may come in after the generation that made it. */
typedef struct retained_t {
    char token[TOKEN_DIGITS + 1];
    int slots; /* a file without a name, a byte for each who waits */
} retained_t;

#define RETAINED_KEY "mod_tus-hooks-1"

static retained_t *retained;
static int slots_max = 1;

/* ---- the token ---------------------------------------------------------------- */

static apr_status_t make_retained(void)
{
    unsigned char random[TOKEN_BYTES];
    apr_status_t rv = apr_generate_random_bytes(random, sizeof(random));

    if (rv != APR_SUCCESS) {
        return rv;
    }
    retained = ap_retained_data_create(RETAINED_KEY, sizeof(*retained));
    apr_escape_hex(retained->token, random, sizeof(random), 0, NULL);
    retained->slots = memfd_create("mod_tus hooks", MFD_CLOEXEC);
    return retained->slots < 0 ? errno : APR_SUCCESS;
}

/* A quarter, so that most are there to answer. */
static int count_slots(void)
{
    int daemons, threads;

    if (ap_mpm_query(AP_MPMQ_MAX_DAEMONS, &daemons) != APR_SUCCESS
        || ap_mpm_query(AP_MPMQ_MAX_THREADS, &threads) != APR_SUCCESS) {
        return 1;
    }
    daemons = daemons * (threads > 0 ? threads : 1) / 4;
    return daemons > 0 ? daemons : 1;
}

apr_status_t tus_hook_local_init(server_rec *s)
{
    apr_status_t rv = APR_SUCCESS;

    retained = ap_retained_data_get(RETAINED_KEY);
    if (!retained) {
        rv = make_retained();
    }
    slots_max = count_slots();
    if (rv != APR_SUCCESS) {
        ap_log_error(APLOG_MARK, APLOG_CRIT, rv, s, "cannot make what TusHook PATH needs");
    }
    return rv;
}

/* In a time that does not tell how much of it was right. */
static int is_token(const char *value)
{
    unsigned char differs = 0;

    if (!retained || strlen(value) != TOKEN_DIGITS) {
        return 0;
    }
    for (int i = 0; i < TOKEN_DIGITS; i++) {
        differs |= (unsigned char)(value[i] ^ retained->token[i]);
    }
    return !differs;
}

int tus_hook_local_read(request_rec *r)
{
    const char *value = apr_table_get(r->headers_in, TOKEN_FIELD);

    if (value) {
        if (is_token(value)) {
            apr_table_setn(r->notes, NOTE, "");
        }
        apr_table_unset(r->headers_in, TOKEN_FIELD);
    }
    return DECLINED;
}

int tus_hook_local_is_call(const request_rec *r)
{
    while (r->main || r->prev) {
        r = r->main ? r->main : r->prev;
    }
    return apr_table_get(r->notes, NOTE) != NULL;
}

int tus_hook_local_environment(request_rec *r)
{
    if (tus_hook_local_is_call(r)) {
        apr_table_setn(r->subprocess_env, ENVIRONMENT, "1");
    }
    else {
        apr_table_unset(r->subprocess_env, ENVIRONMENT);
    }
    return DECLINED;
}

/* ---- where this server listens -------------------------------------------------- */

typedef struct spot_t {
    const char *address; /* "ADDRESS:PORT" */
    const char *scheme;
} spot_t;

static const char *text_of(apr_sockaddr_t *address, apr_pool_t *p)
{
    char *ip;

    if (apr_sockaddr_ip_get(&ip, address) != APR_SUCCESS) {
        return NULL;
    }
    return apr_psprintf(p, strchr(ip, ':') ? "[%s]:%u" : "%s:%u", ip, address->port);
}

/* The request came in there, so there somebody listens. */
static apr_status_t spot_of_request(spot_t *spot, const request_rec *r, apr_pool_t *p)
{
    const conn_rec *c = r->connection->master ? r->connection->master : r->connection;

    spot->address = text_of(c->local_addr, p);
    spot->scheme = ap_http_scheme(r);
    return spot->address ? APR_SUCCESS : APR_EGENERAL;
}

static int serves(const server_rec *s, const ap_listen_rec *listener)
{
    for (const server_addr_rec *addr = s->addrs; addr; addr = addr->next) {
        if (addr->host_port == 0 || addr->host_port == listener->bind_addr->port) {
            return 1;
        }
    }
    return !s->is_virtual;
}

/* An address that stands for all of this host's is reached by one of them. */
static const char *reach(const ap_listen_rec *listener, apr_pool_t *p)
{
    apr_sockaddr_t *address = listener->bind_addr;
    static const unsigned char any[16];

    if (memcmp(address->ipaddr_ptr, any, (apr_size_t)address->ipaddr_len) != 0) {
        return text_of(address, p);
    }
    return apr_psprintf(p, address->family == APR_INET ? "127.0.0.1:%u" : "[::1]:%u",
                        address->port);
}

static apr_status_t spot_of_server(spot_t *spot, const server_rec *s, apr_pool_t *p)
{
    for (const ap_listen_rec *listener = ap_listeners; listener; listener = listener->next) {
        if (listener->bind_addr && serves(s, listener)) {
            spot->address = reach(listener, p);
            spot->scheme = listener->protocol ? listener->protocol : "http";
            return spot->address ? APR_SUCCESS : APR_EGENERAL;
        }
    }
    return APR_ENOENT;
}

/* By the name that led the client here, so that the same virtual host answers. */
static const char *name_of(const tus_hook_t *hook, const request_rec *r)
{
    const char *name = r && r->hostname ? r->hostname : hook->server->server_hostname;

    return name ? name : "localhost";
}

apr_status_t tus_hook_local_aim(tus_call_t *call, apr_table_t *headers, const tus_hook_t *hook,
                                const request_rec *r, apr_pool_t *p)
{
    const char *name = name_of(hook, r);
    spot_t spot;
    apr_status_t rv = r ? spot_of_request(&spot, r, p) : spot_of_server(&spot, hook->server, p);

    if (rv != APR_SUCCESS) {
        return rv;
    }
    call->url = apr_psprintf(p, strchr(name, ':') ? "%s://[%s]%s%s" : "%s://%s%s%s", spot.scheme,
                             name, strrchr(spot.address, ':'), hook->spec->target.url);
    call->address = spot.address;
    call->is_verified = 0; /* it is ourselves: the address says so */
    apr_table_setn(headers, TOKEN_FIELD, retained->token);
    apr_table_setn(headers, "Connection", "close"); /* kept, it would hold one of our workers */
    return APR_SUCCESS;
}

/* ---- who may wait ---------------------------------------------------------------- */

/* The lock belongs to the open file: the kernel lifts it, should this process die. */
static apr_status_t lock_any(int fd)
{
    for (int i = 0; i < slots_max; i++) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = i, .l_len = 1 };

        if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
            return APR_SUCCESS;
        }
        if (errno != EAGAIN && errno != EACCES) {
            return errno;
        }
    }
    return APR_EBUSY;
}

apr_status_t tus_hook_local_enter(int *slot)
{
    char path[64];
    apr_status_t rv;

    apr_snprintf(path, sizeof(path), "/proc/self/fd/%d", retained->slots);
    *slot = open(path, O_RDWR | O_CLOEXEC);
    if (*slot < 0) {
        return errno;
    }
    rv = lock_any(*slot);
    if (rv != APR_SUCCESS) {
        close(*slot);
    }
    return rv;
}

void tus_hook_local_leave(int slot)
{
    close(slot);
}
