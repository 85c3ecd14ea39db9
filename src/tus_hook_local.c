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
#include <http_main.h>
#include <http_protocol.h>

#include <openssl/crypto.h>

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

/* With the name of an interface behind it. */
#define IP_MAX 64

#define HOST_CHARACTERS TUS_ALNUM "-._:" /* the colons of an IPv6 address */

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
    return retained && strlen(value) == TOKEN_DIGITS
           && CRYPTO_memcmp(value, retained->token, TOKEN_DIGITS) == 0;
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

/* apr_sockaddr_ip_get() would allocate from the address's own pool, which other threads use. */
static const char *text_of(apr_sockaddr_t *address, apr_pool_t *p)
{
    char ip[IP_MAX];

    if (apr_sockaddr_ip_getbuf(ip, sizeof(ip), address) != APR_SUCCESS) {
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

static int is_any(const apr_sockaddr_t *address)
{
    static const unsigned char any[16];

    return memcmp(address->ipaddr_ptr, any, (apr_size_t)address->ipaddr_len) == 0;
}

/* Does what comes in by the listener, at some address of this host, get there? */
static int leads_to(const ap_listen_rec *listener, const server_addr_rec *addr)
{
    const apr_sockaddr_t *here = listener->bind_addr;

    return (addr->host_port == 0 || addr->host_port == here->port)
           && (is_any(addr->host_addr) || is_any(here)
               || apr_sockaddr_equal(addr->host_addr, here));
}

/* An address that stands for all of this host's is reached by one of them. */
static const char *reach(const ap_listen_rec *listener, const server_addr_rec *addr, apr_pool_t *p)
{
    apr_sockaddr_t address = *listener->bind_addr;

    if (is_any(&address) && addr && !is_any(addr->host_addr)) {
        address = *addr->host_addr;
        address.port = listener->bind_addr->port;
    }
    if (!is_any(&address)) {
        return text_of(&address, p);
    }
    return apr_psprintf(p, address.family == APR_INET ? "127.0.0.1:%u" : "[::1]:%u", address.port);
}

static const char *scheme_of(const ap_listen_rec *listener)
{
    return listener->protocol ? listener->protocol : "http";
}

/* Where the server listens, if it can be by that scheme; no listener knows of SSLEngine. */
static apr_status_t spot_of_server(spot_t *spot, const server_rec *s, const char *scheme,
                                   apr_pool_t *p)
{
    spot->address = NULL;
    for (const ap_listen_rec *listener = ap_listeners; listener; listener = listener->next) {
        const server_addr_rec *addr = s->is_virtual ? s->addrs : NULL;
        int is_wanted = !strcmp(scheme_of(listener), scheme);

        while (addr && listener->bind_addr && !leads_to(listener, addr)) {
            addr = addr->next;
        }
        if (!listener->bind_addr || (s->is_virtual && !addr) || (spot->address && !is_wanted)) {
            continue;
        }
        spot->address = reach(listener, addr, p);
        spot->scheme = *scheme ? scheme : scheme_of(listener);
        if (is_wanted) {
            break;
        }
    }
    return spot->address ? APR_SUCCESS : APR_ENOENT;
}

static int is_in(const char *name, const apr_array_header_t *names)
{
    for (int i = 0; names && i < names->nelts; i++) {
        const char *known = APR_ARRAY_IDX(names, i, const char *);

        if (known && !ap_strcasecmp_match(name, known)) {
            return 1;
        }
    }
    return 0;
}

static int is_called(const server_rec *s, const char *name)
{
    return (s->server_hostname && !ap_cstr_casecmp(s->server_hostname, name))
           || is_in(name, s->names) || is_in(name, s->wild_names);
}

/* A name that no virtual host has leads to the one that takes all others. */
static int may_lead_to(const char *name, const server_rec *to)
{
    const server_rec *s = ap_server_conf;

    while (s && (s == to || !is_called(s, name))) {
        s = s->next;
    }
    return !s || is_called(to, name);
}

/* The name that led the client to that server; the server's own where there is none. */
static const char *name_told(const char *host, const server_rec *s, apr_pool_t *p)
{
    const char *own = s->server_hostname ? s->server_hostname : "localhost";
    apr_port_t port;
    char *name, *zone;

    if (apr_parse_addr_port(&name, &zone, &port, host, p) != APR_SUCCESS || !name || zone) {
        return own;
    }
    return may_lead_to(name, s) ? name : own;
}

/* As the event says, when its request is over. */
static apr_status_t aim_later(const tus_call_t *call, const char **name, spot_t *spot,
                              const server_rec *s, apr_pool_t *p)
{
    const char *scheme, *host;

    tus_hook_json_origin(&scheme, &host, call->body, call->len, p);
    if (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0) {
        scheme = "";
    }
    *name = name_told(host, s, p);
    return spot_of_server(spot, s, scheme, p);
}

/* With HttpProtocolOptions Unsafe a Host may be anything. */
static int is_host(const char *name)
{
    return name && *name && !name[strspn(name, HOST_CHARACTERS)];
}

/* By the name that led the client here, so that the same virtual host answers. */
static apr_status_t aim_now(const char **name, spot_t *spot, const request_rec *r, apr_pool_t *p)
{
    *name = is_host(r->hostname) ? r->hostname : r->server->server_hostname;
    if (!*name) {
        *name = "localhost";
    }
    return spot_of_request(spot, r, p);
}

apr_status_t tus_hook_local_aim(tus_call_t *call, apr_table_t *headers, const tus_hook_t *hook,
                                const request_rec *r, apr_pool_t *p)
{
    const char *name;
    spot_t spot;
    apr_status_t rv =
        r ? aim_now(&name, &spot, r, p) : aim_later(call, &name, &spot, hook->server, p);

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
