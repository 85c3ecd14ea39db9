/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/* The hook provider "http": what holds of every caller, and TLS, names, and what is kept. */
#include "check_caller.h"
#include "peers.h"
#include "scratch.h"
#include "tus_words.h"

#include <apr_strings.h>
#include <apr_thread_proc.h>

#include <arpa/inet.h>
#include <curl/curl.h>
#include <dlfcn.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static tus_caller_t *caller;

static void open_caller(void)
{
    ck_assert_int_eq(tus_hook_http.open(&caller, unit_pool), APR_SUCCESS);
}

/* ---- names --------------------------------------------------------------- */

/* As far as any network goes, a public address; nothing is ever sent there but in a network of
 * this process alone. */
#define PUBLIC "11.22.33.44"

/* The resolver is at work on "slow.test", and whether it may go on. */
static int resolving, may_resolve;
/* How often "rebind.test" was asked for. */
static int rebound;

static int numeric(const char *address, const char *service, struct addrinfo **result)
{
    struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
                              .ai_family = AF_INET,
                              .ai_socktype = SOCK_STREAM };
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(
            RTLD_NEXT, "getaddrinfo");

    return real(address, service, &hints, result);
}

static int resolve_slowly(const char *service, struct addrinfo **result)
{
    int rc;

    __atomic_store_n(&resolving, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&may_resolve, __ATOMIC_SEQ_CST)) {
        apr_sleep(1000);
    }
    rc = numeric("127.0.0.1", service, result);
    __atomic_store_n(&resolving, 0, __ATOMIC_SEQ_CST);
    return rc;
}

static int resolve_both(const char *service, struct addrinfo **result)
{
    struct addrinfo *one, *other;
    int rc = numeric("127.0.0.1", service, &one);

    if (rc == 0 && (rc = numeric(PUBLIC, service, &other)) == 0) {
        one->ai_next = other;
        *result = one;
    }
    return rc;
}

/* The one of libc, but for names of ours. libcurl and all others of this process call it. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **result)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        (int (*)(const char *, const char *, const struct addrinfo *, struct addrinfo **))dlsym(
            RTLD_NEXT, "getaddrinfo");

    if (name && strcmp(name, "slow.test") == 0) {
        return resolve_slowly(service, result);
    }
    if (name && strcmp(name, "rebind.test") == 0) {
        return numeric(rebound++ ? "127.0.0.1" : PUBLIC, service, result);
    }
    if (name && strcmp(name, "both.test") == 0) {
        return resolve_both(service, result);
    }
    return real(name, service, hints, result);
}

static void let_resolve(void)
{
    apr_time_t deadline = apr_time_now() + PATIENT;

    __atomic_store_n(&may_resolve, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&resolving, __ATOMIC_SEQ_CST)) {
        ck_assert_int_lt(apr_time_now(), deadline);
        apr_sleep(1000);
    }
    __atomic_store_n(&may_resolve, 0, __ATOMIC_SEQ_CST); /* for tests of the same process */
}

/* The resolver has not ended when the call does. */
START_TEST(slow_name_is_not_waited_for)
{
    tus_call_t call = a_call("http://slow.test/");
    tus_called_t called;

    open_caller();
    call.timeout = apr_time_from_msec(100);
    ck_assert_int_eq(make_call(caller, &call, &called), APR_TIMEUP);
    ck_assert_int_eq(__atomic_load_n(&resolving, __ATOMIC_SEQ_CST), 1);
    let_resolve();
}
END_TEST

static int is_resolving(void *baton)
{
    (void)baton;
    return __atomic_load_n(&resolving, __ATOMIC_SEQ_CST);
}

START_TEST(cancel_does_not_wait_for_a_name)
{
    tus_cancel_t cancel = { is_resolving, NULL };
    tus_call_t call = a_call("http://slow.test/");
    tus_called_t called;

    open_caller();
    call.cancel = &cancel;
    ck_assert_int_eq(make_call(caller, &call, &called), APR_EINTR);
    ck_assert_int_eq(__atomic_load_n(&resolving, __ATOMIC_SEQ_CST), 1);
    let_resolve();
}
END_TEST

START_TEST(unknown_name_is_no_place)
{
    tus_call_t call = a_call("http://nowhere.invalid/?k=secret");
    tus_called_t called;

    open_caller();
    ck_assert_int_eq(make_call(caller, &call, &called), APR_EGENERAL);
    ck_assert_ptr_nonnull(strstr(called.why, "nowhere.invalid"));
    ck_assert_ptr_null(strstr(called.why, "secret"));
}
END_TEST

/* Who looked before saw a public address. */
START_TEST(name_that_changed_its_mind_is_judged_again)
{
    server_t *server = serve(say_yes, NULL);
    tus_call_t call =
        a_call(apr_psprintf(unit_pool, "http://rebind.test:%d/", server_port(server)));
    struct addrinfo *before;
    tus_called_t called;

    open_caller();
    ck_assert_int_eq(getaddrinfo("rebind.test", NULL, NULL, &before), 0);
    freeaddrinfo(before);
    call.is_public = 1;
    ck_assert_int_eq(make_call(caller, &call, &called), TUS_EREFUSED);
    ck_assert_ptr_nonnull(strstr(called.why, "rebind.test"));
    ck_assert_ptr_nonnull(strstr(called.why, "127.0.0.1"));
    ck_assert_int_eq(rebound, 2);
    ck_assert_uint_eq(server_connections(server), 0);
}
END_TEST

/* ---- a network of this process alone ------------------------------------- */

static int set_up_network(void)
{
    struct ifreq request = { .ifr_name = "lo" };
    struct sockaddr_in *address = (struct sockaddr_in *)&request.ifr_addr;
    int fd, good;

    if (unshare(CLONE_NEWNET) != 0 || (fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) < 0) {
        return 0;
    }
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    good = ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    strcpy(request.ifr_name, "lo:1");
    memset(address, 0, sizeof(*address));
    address->sin_family = AF_INET;
    inet_pton(AF_INET, PUBLIC, &address->sin_addr);
    good = good && ioctl(fd, SIOCSIFADDR, &request) == 0;
    close(fd);
    return good;
}

static int can_have_a_network(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(!set_up_network());
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

START_TEST(public_address_is_called)
{
    server_t *server;
    tus_call_t call;
    tus_called_t called;
    int i;

    ck_assert(set_up_network());
    server = serve_at("0.0.0.0", say_yes, NULL);
    open_caller();
    for (i = 0; i < 2; i++) {
        call = a_call(apr_psprintf(unit_pool, "http://%s:%d/", PUBLIC, server_port(server)));
        call.is_public = 1;
        ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    }
    ck_assert_uint_eq(server_connections(server), 1);

    /* The private one of the two addresses is passed over. */
    call.url = apr_psprintf(unit_pool, "http://both.test:%d/", server_port(server));
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    ck_assert_uint_eq(server_connections(server), 2);
}
END_TEST

/* ---- TLS ----------------------------------------------------------------- */

typedef struct identity_t {
    X509 *certificate;
    EVP_PKEY *key;
} identity_t;

static void extend(X509 *certificate, int nid, const char *value)
{
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

    ck_assert_ptr_nonnull(extension);
    ck_assert_int_eq(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

/* Of that host, or an authority where there is no issuer. */
static identity_t make_identity(const char *name, const identity_t *issuer)
{
    identity_t identity = { X509_new(), EVP_EC_gen("P-256") };
    X509 *certificate = identity.certificate;
    X509_NAME *subject = X509_get_subject_name(certificate);

    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), issuer ? 2 : 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -86400);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_set_pubkey(certificate, identity.key);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate,
                         X509_get_subject_name(issuer ? issuer->certificate : certificate));
    if (issuer) {
        extend(certificate, NID_subject_alt_name, apr_pstrcat(unit_pool, "DNS:", name, NULL));
    }
    else {
        extend(certificate, NID_basic_constraints, "critical,CA:TRUE");
    }
    ck_assert_int_gt(X509_sign(certificate, issuer ? issuer->key : identity.key, EVP_sha256()), 0);
    return identity;
}

static apr_status_t free_identity(void *baton)
{
    identity_t *identity = baton;

    X509_free(identity->certificate);
    EVP_PKEY_free(identity->key);
    return APR_SUCCESS;
}

static apr_status_t free_context(void *tls)
{
    SSL_CTX_free(tls);
    return APR_SUCCESS;
}

static identity_t *an_authority(void)
{
    identity_t *authority = apr_palloc(unit_pool, sizeof(*authority));

    *authority = make_identity("an authority of this test", NULL);
    apr_pool_cleanup_register(unit_pool, authority, free_identity, apr_pool_cleanup_null);
    return authority;
}

/* HTTP/2 where the client offers it; then it will not understand us. */
static int choose_http2(SSL *tls, const unsigned char **out, unsigned char *len,
                        const unsigned char *offered, unsigned offered_len, void *arg)
{
    static const unsigned char h2[] = { 2, 'h', '2', 8, 'h', 't', 't', 'p', '/', '1', '.', '1' };

    (void)tls;
    (void)arg;
    return SSL_select_next_proto((unsigned char **)out, len, h2, sizeof(h2), offered, offered_len)
                   == OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_NOACK;
}

/* The server's side, as hooks.example. */
static SSL_CTX *be_hooks_example(const identity_t *authority)
{
    identity_t identity = make_identity("hooks.example", authority);
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());

    ck_assert_ptr_nonnull(tls);
    apr_pool_cleanup_register(unit_pool, tls, free_context, apr_pool_cleanup_null);
    ck_assert_int_eq(SSL_CTX_use_certificate(tls, identity.certificate), 1);
    ck_assert_int_eq(SSL_CTX_use_PrivateKey(tls, identity.key), 1);
    SSL_CTX_set_alpn_select_cb(tls, choose_http2, NULL);
    free_identity(&identity);
    return tls;
}

/* Puts it in the place of all authorities that this system trusts. */
static void trust(const identity_t *authority)
{
    CURL *easy = curl_easy_init();
    char *bundle = NULL;
    FILE *file = fopen(scratch_path("authorities"), "w");

    ck_assert_ptr_nonnull(file);
    ck_assert_int_eq(PEM_write_X509(file, authority->certificate), 1);
    fclose(file);
    ck_assert_int_eq(curl_easy_getinfo(easy, CURLINFO_CAINFO, &bundle), CURLE_OK);
    ck_assert_ptr_nonnull(bundle);
    scratch_mount_over("authorities", bundle);
    curl_easy_cleanup(easy);
}

static tus_call_t a_call_to(const char *url, server_t *server, int is_verified)
{
    tus_call_t call = a_call(url);

    call.address = apr_psprintf(unit_pool, "127.0.0.1:%d", server_port(server));
    call.is_verified = is_verified;
    return call;
}

static void tell_name(wire_t *wire)
{
    char text[200];

    snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %lu\r\n\r\n%s",
             (unsigned long)strlen(wire->name), wire->name);
    while (hear_request(wire) && answer(wire, text)) {
    }
}

/* The name is the URL's, wherever the call goes. */
START_TEST(good_certificate_is_accepted)
{
    identity_t *authority = an_authority();
    server_t *server;
    tus_call_t call;
    tus_called_t called;
    int i;

    trust(authority);
    server = serve_tls(be_hooks_example(authority), tell_name, NULL);
    call = a_call_to("https://hooks.example/path", server, 1);
    open_caller();
    for (i = 0; i < 3; i++) {
        ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
        ck_assert_str_eq(called.body, "hooks.example");
    }
    ck_assert_uint_eq(server_connections(server), 1);
    ck_assert_ptr_nonnull(strstr(server_request(server, 0), "\r\nHost: hooks.example\r\n"));
}
END_TEST

START_TEST(certificate_of_another_name_is_refused)
{
    identity_t *authority = an_authority();
    server_t *server;
    tus_call_t call;
    tus_called_t called;

    trust(authority);
    server = serve_tls(be_hooks_example(authority), tell_name, NULL);
    call = a_call_to("https://other.example/?k=secret", server, 1);
    open_caller();
    ck_assert_int_eq(make_call(caller, &call, &called), APR_EGENERAL);
    ck_assert_ptr_nonnull(strstr(called.why, "certificate"));
    ck_assert_ptr_nonnull(strstr(called.why, "other.example"));
    ck_assert_ptr_null(strstr(called.why, "secret"));
    ck_assert_uint_eq(server_requests(server), 0);
    call.is_verified = 0;
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
}
END_TEST

/* Nobody trusts the authority here; and a connection that nobody verified is not used by a call
 * that wants it. */
START_TEST(certificate_of_a_stranger_is_refused)
{
    server_t *server = serve_tls(be_hooks_example(an_authority()), tell_name, NULL);
    tus_call_t verified = a_call_to("https://hooks.example/", server, 1);
    tus_call_t other = a_call_to("https://hooks.example/", server, 0);
    tus_called_t called;
    int i;

    open_caller();
    for (i = 0; i < 2; i++) {
        ck_assert_int_eq(make_call(caller, &verified, &called), APR_EGENERAL);
        ck_assert_ptr_nonnull(strstr(called.why, "certificate"));
        ck_assert_int_eq(make_call(caller, &other, &called), APR_SUCCESS);
    }
    ck_assert_uint_eq(server_requests(server), 2);
    ck_assert_uint_eq(server_connections(server), 3);
}
END_TEST

START_TEST(old_tls_is_refused)
{
    SSL_CTX *tls = be_hooks_example(an_authority());
    server_t *server;
    tus_call_t call;
    tus_called_t called;

    SSL_CTX_set_min_proto_version(tls, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(tls, TLS1_1_VERSION);
    ck_assert_int_eq(SSL_CTX_set_cipher_list(tls, "ALL:@SECLEVEL=0"), 1);
    server = serve_tls(tls, tell_name, NULL);
    call = a_call_to("https://hooks.example/", server, 0);
    open_caller();
    ck_assert_int_eq(make_call(caller, &call, &called), APR_EGENERAL);
    ck_assert_uint_eq(server_requests(server), 0);
}
END_TEST

static void say_and_cut(wire_t *wire)
{
    if (hear_request(wire)) {
        answer(wire, wire->arg);
        cut_wire(wire);
    }
}

typedef struct cut_t {
    const char *text;
    apr_status_t rv;
} cut_t;

/* Anybody on the way can end a connection; only the server can say that its answer has ended. */
static const cut_t cuts[] = {
    { "HTTP/1.1 200 OK\r\n\r\n", TUS_EDAMAGED },
    { "HTTP/1.1 200 OK\r\n\r\n{}", TUS_EDAMAGED },
    { "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n{}", TUS_EDAMAGED },
    { "HTTP/1.1 200 OK\r\n", APR_EGENERAL },
    { "HTTP/1.1 103 Early\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", TUS_EDAMAGED },
    { "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}", APR_EGENERAL },
    { "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n", APR_EGENERAL },
    { "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", APR_SUCCESS },
    { "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", APR_SUCCESS },
    { "HTTP/1.1 204 No Content\r\n\r\n", APR_SUCCESS },
};

START_TEST(end_of_a_connection_is_not_the_end_of_an_answer)
{
    server_t *server =
        serve_tls(be_hooks_example(an_authority()), say_and_cut, (void *)cuts[_i].text);
    tus_call_t call = a_call_to("https://hooks.example/", server, 0);
    tus_called_t called;

    open_caller();
    ck_assert_int_eq(make_call(caller, &call, &called), cuts[_i].rv);
}
END_TEST

static int destroy_copy(peer_t *parent, void *pool)
{
    (void)parent;
    apr_pool_destroy(pool);
    return 0;
}

/* Who closes a connection of TLS says so to the server. */
START_TEST(child_says_nothing_on_a_connection_of_its_parent)
{
    server_t *server = serve_tls(be_hooks_example(an_authority()), tell_name, NULL);
    tus_call_t call = a_call_to("https://hooks.example/", server, 0);
    tus_called_t called;
    apr_pool_t *p;
    peer_t peer;

    apr_pool_create(&p, unit_pool);
    ck_assert_int_eq(tus_hook_http.open(&caller, p), APR_SUCCESS);
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    peer = spawn_peer(destroy_copy, p);
    ck_assert_int_eq(reap_peer(&peer), 0);
    ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    ck_assert_uint_eq(server_connections(server), 1);
}
END_TEST

static void say_at_once(wire_t *wire)
{
    answer(wire, YES);
    wait_for_end(wire);
}

START_TEST(server_that_speaks_no_tls)
{
    server_t *server = serve(say_at_once, NULL), *silent = serve(wait_for_end, NULL);
    tus_call_t call = a_call_to("https://hooks.example/", server, 0);
    tus_called_t called;

    open_caller();
    ck_assert_int_eq(make_call(caller, &call, &called), APR_EGENERAL);
    call = a_call_to("https://hooks.example/", silent, 0);
    call.timeout = apr_time_from_msec(100);
    ck_assert_int_eq(make_call(caller, &call, &called), APR_TIMEUP);
}
END_TEST

/* ---- what is kept -------------------------------------------------------- */

#define PLACES 40
#define KEPT 16

static const char *place(server_t *server, int number)
{
    return apr_psprintf(unit_pool, "http://127.0.0.%d:%d/", number + 1, server_port(server));
}

START_TEST(so_many_connections_are_kept)
{
    server_t *server = serve_at("0.0.0.0", say_yes, NULL);
    apr_time_t deadline = apr_time_now() + PATIENT;
    int i;

    open_caller();
    for (i = 0; i < PLACES; i++) {
        ck_assert_int_eq(call_url(caller, place(server, i)), 200);
    }
    while (server_open(server) > KEPT) {
        ck_assert_int_lt(apr_time_now(), deadline);
        apr_sleep(1000);
    }
    /* The last ones. */
    for (i = PLACES - 1; i >= PLACES - KEPT; i--) {
        ck_assert_int_eq(call_url(caller, place(server, i)), 200);
    }
    ck_assert_uint_eq(server_connections(server), PLACES);
    ck_assert_uint_eq(server_open(server), KEPT);
}
END_TEST

START_TEST(closed_connections_take_no_place)
{
    server_t *server = serve(say_yes, NULL), *other = serve_at("0.0.0.0", say_yes, NULL);
    apr_table_t *headers = apr_table_make(unit_pool, 1);
    tus_called_t called;
    int i;

    open_caller();
    apr_table_addn(headers, "Connection", "close");
    ck_assert_int_eq(call_url(caller, server_url(server, "/")), 200);
    for (i = 0; i < PLACES; i++) {
        tus_call_t call = a_call(place(other, i));

        call.headers = headers;
        ck_assert_int_eq(make_call(caller, &call, &called), APR_SUCCESS);
    }
    ck_assert_int_eq(call_url(caller, server_url(server, "/")), 200);
    ck_assert_uint_eq(server_connections(server), 1);
}
END_TEST

static void *APR_THREAD_FUNC init(apr_thread_t *thread, void *result)
{
    (void)thread;
    *(apr_status_t *)result = tus_line_init();
    return NULL;
}

START_TEST(libcurl_is_readied_once)
{
    apr_thread_t *threads[8];
    apr_status_t results[8], rv;
    int i;

    for (i = 0; i < 8; i++) {
        ck_assert_int_eq(apr_thread_create(&threads[i], NULL, init, &results[i], unit_pool),
                         APR_SUCCESS);
    }
    for (i = 0; i < 8; i++) {
        ck_assert_int_eq(apr_thread_join(&rv, threads[i]), APR_SUCCESS);
        ck_assert_int_eq(results[i], APR_SUCCESS);
    }
}
END_TEST

Suite *hook_http_suite(void)
{
    Suite *suite = suite_create("hook_http");
    TCase *tcase;

    caller_conformance(suite, &tus_hook_http);

    tcase = add_serving_case(suite, "names");
    tcase_add_test(tcase, slow_name_is_not_waited_for);
    tcase_add_test(tcase, cancel_does_not_wait_for_a_name);
    tcase_add_test(tcase, unknown_name_is_no_place);
    tcase_add_test(tcase, name_that_changed_its_mind_is_judged_again);
    if (can_have_a_network()) {
        tcase_add_test(tcase, public_address_is_called);
    }

    tcase = add_scratch_case(suite, "TLS");
    serve_in_case(tcase);
    if (scratch_can_mount()) {
        tcase_add_test(tcase, good_certificate_is_accepted);
        tcase_add_test(tcase, certificate_of_another_name_is_refused);
    }
    tcase_add_test(tcase, certificate_of_a_stranger_is_refused);
    tcase_add_test(tcase, old_tls_is_refused);
    tcase_add_loop_test(tcase, end_of_a_connection_is_not_the_end_of_an_answer, 0,
                        (int)(sizeof(cuts) / sizeof(cuts[0])));
    tcase_add_test(tcase, server_that_speaks_no_tls);
    tcase_add_test(tcase, child_says_nothing_on_a_connection_of_its_parent);

    tcase = add_serving_case(suite, "kept");
    tcase_add_test(tcase, so_many_connections_are_kept);
    tcase_add_test(tcase, closed_connections_take_no_place);
    tcase_add_test(tcase, libcurl_is_readied_once);
    return suite;
}
