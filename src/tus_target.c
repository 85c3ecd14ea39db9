/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Where a hook is called. What other programs read differently is refused, not
 * guessed at: a prefix that was compared must hold for whoever reads the URL next,
 * libcurl, a resolver or the endpoint's own server.
 */
#include "tus_words.h"

#include <apr_lib.h>
#include <apr_strings.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#define DIGITS "0123456789"
#define HEX DIGITS "abcdefABCDEF"

/* RFC 3986: pchar and "/"; and for the query what PHP's arrays need. */
#define PATH_CHARS TUS_UNRESERVED "!$&'()*+,;=:@/%"
#define QUERY_CHARS PATH_CHARS "?[]"

#define NAME_CHARS TUS_ALNUM "-._"
#define NAME_LEN_MAX 253 /* DNS */
#define LABEL_LEN_MAX 63

#define UNIX "unix:"

/* "https://", a name, ":65535" */
#define ORIGIN_SIZE (8 + NAME_LEN_MAX + 6 + 1)

/* An http: or https: URL. */
typedef struct url_t {
    const char *scheme;          /* "http://" or "https://" */
    char host[NAME_LEN_MAX + 1]; /* in lower case, an address in its one way to be written */
    int port, is_own;            /* the scheme's own one */
    const char *rest;            /* of the text: path and query */
} url_t;

/* ---- path and query ------------------------------------------------------- */

/* Bytes of the character that the text begins with, 3 if it is encoded; *c is what it means. */
static apr_size_t decode(const char *text, unsigned *c)
{
    char digits[3] = { 0 };

    *c = (unsigned char)text[0];
    if (text[0] != '%') {
        return 1;
    }
    memcpy(digits, text + 1, 2);
    *c = (unsigned)strtoul(digits, NULL, 16);
    return 3;
}

/* Each "%" begins an encoded byte. */
static int is_encoded(const char *text)
{
    for (text = strchr(text, '%'); text; text = strchr(text + 1, '%')) {
        if (!apr_isxdigit(text[1]) || !apr_isxdigit(text[2])) {
            return 0;
        }
    }
    return 1;
}

/* "." or "..", encoded or not; some servers drop ";" and what follows before they look. */
static int is_dots(const char *segment, const char *end)
{
    int dots = 0;
    unsigned c;

    while (segment < end) {
        segment += decode(segment, &c);
        if (c == ';') {
            break;
        }
        if (c != '.') {
            return 0;
        }
        dots++;
    }
    return dots == 1 || dots == 2;
}

/* What some server might take for a "/", or for the end of the path. */
static int has_hidden(const char *path, const char *end)
{
    unsigned c;

    while (path < end) {
        apr_size_t len = decode(path, &c);

        if (len > 1 && (c == '/' || c == '\\' || apr_iscntrl(c))) {
            return 1;
        }
        path += len;
    }
    return 0;
}

/* NULL, or what is wrong with a path and query. */
static const char *check_rest(const char *rest)
{
    const char *end = rest + strcspn(rest, "?");
    const char *segment = rest;

    if (strchr(rest, '#')) {
        return "it has a fragment";
    }
    if (strspn(rest, PATH_CHARS) < (apr_size_t)(end - rest)
        || rest[strspn(rest, QUERY_CHARS)] != '\0' || !is_encoded(rest)) {
        return "its path or query has a character that must be percent-encoded";
    }
    if (has_hidden(rest, end)) {
        return "its path has an encoded slash, backslash or control character";
    }
    while (segment < end) {
        const char *slash = memchr(segment, '/', (apr_size_t)(end - segment));
        const char *next = slash ? slash : end;

        if (is_dots(segment, next)) {
            return "its path has a segment \".\" or \"..\"";
        }
        segment = slash ? slash + 1 : end;
    }
    return NULL;
}

/* ---- host and port -------------------------------------------------------- */

/* Some take such a name for an IPv4 address: "127.1", "0x7f000001", "1.2.3.0x4". */
static int ends_in_number(const char *host)
{
    const char *dot = strrchr(host, '.');
    const char *label = dot ? dot + 1 : host;

    if (label[0] == '0' && label[1] == 'x') {
        label += 2;
        return label[strspn(label, HEX)] == '\0';
    }
    return label[strspn(label, DIGITS)] == '\0';
}

/* Nonzero if it is an address that is written as inet_ntop() does. */
static int is_dotted_quad(const char *host)
{
    char again[INET_ADDRSTRLEN];
    struct in_addr address;

    return inet_pton(AF_INET, host, &address) == 1
           && inet_ntop(AF_INET, &address, again, sizeof(again)) && strcmp(host, again) == 0;
}

static int has_labels(const char *host)
{
    for (;;) {
        apr_size_t len = strcspn(host, ".");

        if (len < 1 || len > LABEL_LEN_MAX) {
            return 0;
        }
        if (host[len] == '\0') {
            return 1;
        }
        host += len + 1;
    }
}

static const char *read_name(url_t *url, const char *text, apr_size_t len)
{
    apr_size_t i;

    if (len > NAME_LEN_MAX) {
        return "its host is too long";
    }
    for (i = 0; i < len; i++) {
        url->host[i] = apr_tolower(text[i]);
    }
    url->host[len] = '\0';
    if (!apr_isalnum(url->host[0]) || url->host[strspn(url->host, NAME_CHARS)]
        || !has_labels(url->host)) {
        return "its host is no name and no address";
    }
    if (ends_in_number(url->host) && !is_dotted_quad(url->host)) {
        return "its host is a number, but no IPv4 address of four decimal numbers";
    }
    return NULL;
}

/* An IPv6 address without its brackets. */
static const char *read_address(url_t *url, const char *text, apr_size_t len)
{
    char address[INET6_ADDRSTRLEN];
    struct in6_addr bytes;

    if (len >= sizeof(address)) {
        return "its host is no IPv6 address";
    }
    apr_cpystrn(address, text, len + 1);
    if (inet_pton(AF_INET6, address, &bytes) != 1
        || !inet_ntop(AF_INET6, &bytes, address, sizeof(address))) {
        return "its host is no IPv6 address";
    }
    apr_snprintf(url->host, sizeof(url->host), "[%s]", address);
    return NULL;
}

/* Reads ":PORT", or nothing, up to `end`. */
static const char *read_port(url_t *url, const char *text, const char *end)
{
    int own = url->scheme[4] == 's' ? 443 : 80;
    apr_size_t len = (apr_size_t)(end - text);
    int port = 0;

    if (len > 0) {
        if (*text != ':' || len < 2 || strspn(text + 1, DIGITS) < len - 1) {
            return "its port is not from 1 to 65535";
        }
        while (++text < end && port <= 65535) {
            port = port * 10 + (*text - '0');
        }
        if (port < 1 || port > 65535) {
            return "its port is not from 1 to 65535";
        }
    }
    url->port = port ? port : own;
    url->is_own = url->port == own;
    return NULL;
}

static const char *read_authority(url_t *url, const char *text, const char *end)
{
    const char *host_end, *wrong;

    if (memchr(text, '@', (apr_size_t)(end - text))) {
        return "it has user information";
    }
    if (*text == '[') {
        host_end = memchr(text, ']', (apr_size_t)(end - text));
        wrong = host_end ? read_address(url, text + 1, (apr_size_t)(host_end - text - 1))
                         : "its host is no IPv6 address";
        host_end = host_end ? host_end + 1 : end;
    }
    else {
        host_end = memchr(text, ':', (apr_size_t)(end - text));
        host_end = host_end ? host_end : end;
        wrong = read_name(url, text, (apr_size_t)(host_end - text));
    }
    return wrong ? wrong : read_port(url, host_end, end);
}

/* ---- the URL -------------------------------------------------------------- */

/* What the text begins with, or NULL. */
static const char *scheme_of(const char *text)
{
    static const char *const schemes[] = { "http://", "https://" };

    for (int i = 0; i < 2; i++) {
        if (strncasecmp(text, schemes[i], strlen(schemes[i])) == 0) {
            return schemes[i];
        }
    }
    return NULL;
}

/* NULL, or what is wrong with it. */
static const char *read_url(url_t *url, const char *text)
{
    const char *authority, *wrong;

    url->scheme = scheme_of(text);
    if (!url->scheme) {
        return "it begins with neither http://, https://, unix: nor /";
    }
    authority = text + strlen(url->scheme);
    url->rest = authority + strcspn(authority, "/?#");
    wrong = read_authority(url, authority, url->rest);
    return wrong ? wrong : check_rest(url->rest);
}

static const char *origin_of(const url_t *url, char origin[ORIGIN_SIZE])
{
    apr_snprintf(origin, ORIGIN_SIZE, "%s%s:%d", url->scheme, url->host, url->port);
    return origin;
}

/* Without the port that goes without saying, so that no Host has it, and with a path. */
static const char *format_url(const url_t *url, apr_pool_t *p)
{
    return apr_pstrcat(p, url->scheme, url->host,
                       url->is_own ? "" : apr_psprintf(p, ":%d", url->port),
                       *url->rest == '/' ? "" : "/", url->rest, NULL);
}

/* ---- unix sockets --------------------------------------------------------- */

static int is_unix(const char *text)
{
    return strncasecmp(text, UNIX, strlen(UNIX)) == 0;
}

/* NULL, or what is wrong with the text of a socket before its "|". */
static const char *check_socket(const char *path)
{
    apr_size_t len = strcspn(path, "|");

    if (path[0] != '/' || path[len] != '|') {
        return "behind unix: there must be an absolute path and a \"|\"";
    }
    if (len >= sizeof(((struct sockaddr_un *)NULL)->sun_path)) {
        return "the path of its socket is longer than the system takes";
    }
    for (apr_size_t i = 0; i < len; i++) {
        if (apr_iscntrl(path[i])) {
            return "the path of its socket has a control character";
        }
    }
    return NULL;
}

/* ---- targets -------------------------------------------------------------- */

static const char *parse_path(tus_target_t *target, const char *text, apr_pool_t *p)
{
    const char *wrong = check_rest(text);

    if (wrong) {
        return wrong;
    }
    if (text[1] == '/') {
        return "it begins with \"//\", which is how some write a host";
    }
    target->url = apr_pstrdup(p, text);
    return NULL;
}

const char *tus_target_parse(tus_target_t *target, const char *text, apr_pool_t *p)
{
    char origin[ORIGIN_SIZE];
    const char *wrong;
    url_t url;

    *target = (tus_target_t){ NULL, NULL, NULL };
    if (*text == '/') {
        return parse_path(target, text, p);
    }
    if (is_unix(text)) {
        const char *path = text + strlen(UNIX);

        wrong = check_socket(path);
        if (wrong) {
            return wrong;
        }
        text = strchr(path, '|') + 1;
        target->socket = apr_pstrmemdup(p, path, (apr_size_t)(text - path - 1));
    }
    wrong = read_url(&url, text);
    if (wrong) {
        return wrong;
    }
    target->url = format_url(&url, p);
    target->origin = apr_pstrdup(p, origin_of(&url, origin));
    return NULL;
}

/* ---- prefixes ------------------------------------------------------------- */

/* A scheme and nothing behind it. */
static int is_any_host(const char *prefix)
{
    const char *scheme = scheme_of(prefix);

    return scheme && prefix[strlen(scheme)] == '\0';
}

static const char *read_prefix(url_t *url, const char *prefix)
{
    const char *wrong = read_url(url, prefix);

    return !wrong && strchr(url->rest, '?') ? "it has a query" : wrong;
}

static int is_same_socket(const char *socket, const char *prefix)
{
    apr_size_t len = strlen(socket);

    prefix += strlen(UNIX);
    return strncmp(prefix, socket, len) == 0 && strcmp(prefix + len, "|") == 0;
}

/* Whole segments: "/in" is of "/in/x" and "/in?x", not of "/inside". */
static int is_beneath(const char *path, const char *prefix)
{
    apr_size_t len = strlen(prefix);

    if (strncmp(path, prefix, len) != 0) {
        return 0;
    }
    return len == 0 || prefix[len - 1] == '/' || path[len] == '\0' || path[len] == '/'
           || path[len] == '?';
}

static const char *path_of(const char *url)
{
    return strchr(url + strlen(scheme_of(url)), '/');
}

int tus_target_is_allowed(const tus_target_t *target, const char *prefix, int *is_public)
{
    char origin[ORIGIN_SIZE];
    url_t url;

    *is_public = 1;
    if (!target->origin || !target->socket != !is_unix(prefix)) {
        return 0;
    }
    if (is_any_host(prefix)) {
        return strncasecmp(target->origin, prefix, strlen(prefix)) == 0;
    }
    *is_public = 0;
    if (target->socket) {
        return is_same_socket(target->socket, prefix);
    }
    return !read_prefix(&url, prefix) && strcmp(target->origin, origin_of(&url, origin)) == 0
           && is_beneath(path_of(target->url), url.rest);
}

const char *tus_target_check_prefix(const char *prefix)
{
    url_t url;

    if (is_any_host(prefix)) {
        return NULL;
    }
    if (is_unix(prefix)) {
        const char *path = prefix + strlen(UNIX);
        const char *wrong = check_socket(path);

        return !wrong && strchr(path, '|')[1] ? "it goes on behind the \"|\"" : wrong;
    }
    return read_prefix(&url, prefix);
}

/* ---- addresses ------------------------------------------------------------ */

/* What IANA's registries of special-purpose addresses call not globally reachable, and multicast.
 */
static const struct {
    unsigned char net[4];
    int bits;
} private4[] = {
    { { 0, 0, 0, 0 }, 8 },      { { 10, 0, 0, 0 }, 8 },     { { 100, 64, 0, 0 }, 10 },
    { { 127, 0, 0, 0 }, 8 },    { { 169, 254, 0, 0 }, 16 }, { { 172, 16, 0, 0 }, 12 },
    { { 192, 0, 0, 0 }, 24 },   { { 192, 0, 2, 0 }, 24 },   { { 192, 88, 99, 0 }, 24 },
    { { 192, 168, 0, 0 }, 16 }, { { 198, 18, 0, 0 }, 15 },  { { 198, 51, 100, 0 }, 24 },
    { { 203, 0, 113, 0 }, 24 }, { { 224, 0, 0, 0 }, 3 }, /* 224/4 and 240/4 */
};

/* Of 2000::/3: all else is not globally reachable, but for what wraps IPv4. */
static const struct {
    unsigned char net[4];
    int bits;
} private6[] = {
    { { 0x20, 0x01, 0x00, 0x00 }, 23 }, /* of protocols: Teredo, benchmarks, ORCHID */
    { { 0x20, 0x01, 0x0d, 0xb8 }, 32 }, /* documentation */
    { { 0x3f, 0xff, 0x00, 0x00 }, 20 }, /* documentation */
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int is_in(const unsigned char *address, const unsigned char *net, int bits)
{
    int whole = bits / 8;
    unsigned char mask = (unsigned char)(0xff00 >> bits % 8);

    return memcmp(address, net, (apr_size_t)whole) == 0
           && (bits % 8 == 0 || ((address[whole] ^ net[whole]) & mask) == 0);
}

static int is_private4(const unsigned char *address)
{
    for (apr_size_t i = 0; i < COUNT(private4); i++) {
        if (is_in(address, private4[i].net, private4[i].bits)) {
            return 1;
        }
    }
    return 0;
}

/* The IPv4 address within, or NULL. */
static const unsigned char *wrapped(const unsigned char *address)
{
    static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff }, compatible[12] = { 0 };
    static const unsigned char nat64[12] = { 0x00, 0x64, 0xff, 0x9b }, six_to_four[] = { 0x20, 2 };

    if (is_in(address, mapped, 96) || is_in(address, compatible, 96) || is_in(address, nat64, 96)) {
        return address + 12;
    }
    return is_in(address, six_to_four, 16) ? address + 2 : NULL;
}

/* The interface identifier of ISATAP (RFC 5214), its "u" bit set or not. */
static int is_isatap(const unsigned char *address)
{
    return (address[8] & ~0x02) == 0 && address[9] == 0 && address[10] == 0x5e
           && address[11] == 0xfe;
}

static int is_private6(const unsigned char *address)
{
    const unsigned char *within = wrapped(address);

    if (within) {
        return is_private4(within);
    }
    if ((address[0] & 0xe0) != 0x20) {
        return 1;
    }
    for (apr_size_t i = 0; i < COUNT(private6); i++) {
        if (is_in(address, private6[i].net, private6[i].bits)) {
            return 1;
        }
    }
    return is_isatap(address) && is_private4(address + 12);
}

int tus_target_is_private(const char *address)
{
    unsigned char bytes[sizeof(struct in6_addr)];

    if (inet_pton(AF_INET, address, bytes) == 1) {
        return is_private4(bytes);
    }
    return inet_pton(AF_INET6, address, bytes) != 1 || is_private6(bytes);
}
