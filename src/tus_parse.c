/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Arguments that are one value: text in, a member of tus_settings_t out, or what
 * is wrong with it. What can be judged without a request is judged here.
 */
#include "tus_httpd.h"

#include <ap_provider.h>
#include <apr_lib.h>
#include <apr_strings.h>
#include <apr_uri.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- numbers ------------------------------------------------------------- */

typedef struct unit_t {
    const char *name;
    apr_int64_t factor;
} unit_t;

static const unit_t size_units[] = {
    { "", 1 },
    { "K", APR_INT64_C(1) << 10 },
    { "M", APR_INT64_C(1) << 20 },
    { "G", APR_INT64_C(1) << 30 },
    { "T", APR_INT64_C(1) << 40 },
    { NULL, 0 },
};

static const unit_t duration_units[] = {
    { "", APR_USEC_PER_SEC },
    { "ms", 1000 },
    { "s", APR_USEC_PER_SEC },
    { "mi", 60 * APR_USEC_PER_SEC },
    { "h", 3600 * APR_USEC_PER_SEC },
    { "d", 86400 * APR_USEC_PER_SEC },
    { "w", 7 * 86400 * APR_USEC_PER_SEC },
    { NULL, 0 },
};

/* Digits and one of the units; stricter than ap_timeout_parameter_parse(), and it knows days. */
static const char *parse_number(cmd_parms *cmd, const char *arg, const unit_t *unit,
                                apr_int64_t *number)
{
    char *end;
    apr_int64_t n;

    if (!apr_isdigit(*arg)) {
        return apr_psprintf(cmd->pool, "'%s' does not start with a digit", arg);
    }
    errno = 0;
    n = apr_strtoi64(arg, &end, 10);
    if (errno) {
        return apr_psprintf(cmd->pool, "'%s' is too large", arg);
    }
    while (unit->name && ap_cstr_casecmp(end, unit->name)) {
        unit++;
    }
    if (!unit->name) {
        return apr_psprintf(cmd->pool, "'%s' is no unit", end);
    }
    if (n > APR_INT64_MAX / unit->factor) {
        return apr_psprintf(cmd->pool, "'%s' is too large", arg);
    }
    *number = n * unit->factor;
    return NULL;
}

const char *tus_parse_max_size(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    (void)argc;
    return parse_number(cmd, argv[0], size_units, &to->max_size);
}

const char *tus_parse_allow_max_size(cmd_parms *cmd, tus_settings_t *to, int argc,
                                     char *const argv[])
{
    (void)argc;
    return parse_number(cmd, argv[0], size_units, &to->allow_max_size);
}

#define MSEC APR_INT64_C(1000)
#define DAY (86400 * APR_USEC_PER_SEC)

const char *tus_parse_duration(cmd_parms *cmd, const char *arg, apr_interval_time_t min,
                               apr_interval_time_t max, const char *range,
                               apr_interval_time_t *duration)
{
    const char *wrong = parse_number(cmd, arg, duration_units, duration);

    if (!wrong && (*duration < min || *duration > max)) {
        return apr_psprintf(cmd->pool, "'%s' is not %s", arg, range);
    }
    return wrong;
}

const char *tus_parse_lock_timeout(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    (void)argc;
    return tus_parse_duration(cmd, argv[0], MSEC, DAY, "from 1ms to 1d", &to->lock_timeout);
}

/* How long an upload is kept; `never` is the word for 0. */
static const char *parse_expiry(cmd_parms *cmd, const char *arg, const char *never,
                                apr_interval_time_t *duration)
{
    *duration = 0;
    if (!ap_cstr_casecmp(arg, never)) {
        return NULL;
    }
    return tus_parse_duration(cmd, arg, MSEC, 3650 * DAY,
                              apr_psprintf(cmd->temp_pool, "%s, nor from 1ms to 3650d", never),
                              duration);
}

const char *tus_parse_expire(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    (void)argc;
    return parse_expiry(cmd, argv[0], "off", &to->expire);
}

const char *tus_parse_allow_expire(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    (void)argc;
    return parse_expiry(cmd, argv[0], "none", &to->allow_expire);
}

const char *tus_parse_cors_max_age(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    const char *wrong =
        tus_parse_duration(cmd, argv[0], 0, 365 * DAY, "from 0 to 365d", &to->cors_max_age);

    (void)argc;
    if (!wrong && to->cors_max_age % APR_USEC_PER_SEC) {
        return apr_psprintf(cmd->pool, "'%s' is no number of whole seconds", argv[0]);
    }
    return wrong;
}

static const char *parse_mode(cmd_parms *cmd, const char *arg, apr_fileperms_t *perms)
{
    apr_size_t len = strlen(arg);

    if (len < 3 || len > 4 || strspn(arg, "01234567") != len) {
        return apr_psprintf(cmd->pool, "'%s' is not three or four octal digits", arg);
    }
    *perms = tus_beneath_permissions((unsigned)strtol(arg, NULL, 8));
    return NULL;
}

/* The permissions that a mode may have, for owner, group and others alike. */
#define READ_WRITE                                                                                 \
    (APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_GREAD | APR_FPROT_GWRITE | APR_FPROT_WREAD     \
     | APR_FPROT_WWRITE)
#define EXECUTE (APR_FPROT_UEXECUTE | APR_FPROT_GEXECUTE | APR_FPROT_WEXECUTE)

const char *tus_parse_file_mode(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    const apr_fileperms_t needed = APR_FPROT_UREAD | APR_FPROT_UWRITE;
    const char *wrong = parse_mode(cmd, argv[0], &to->file_mode);

    (void)argc;
    if (wrong) {
        return wrong;
    }
    if (to->file_mode & ~READ_WRITE) {
        return apr_psprintf(cmd->pool, "'%s' has more than read and write bits; uploads are data",
                            argv[0]);
    }
    if ((to->file_mode & needed) != needed) {
        return apr_psprintf(cmd->pool, "'%s' does not let the owner read and write, which is us",
                            argv[0]);
    }
    return NULL;
}

const char *tus_parse_dir_mode(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    const apr_fileperms_t needed = APR_FPROT_UREAD | APR_FPROT_UWRITE | APR_FPROT_UEXECUTE;
    const char *wrong = parse_mode(cmd, argv[0], &to->dir_mode);

    (void)argc;
    if (wrong) {
        return wrong;
    }
    if (to->dir_mode & ~(READ_WRITE | EXECUTE)) {
        return apr_psprintf(cmd->pool, "'%s' has more than read, write and execute bits", argv[0]);
    }
    if ((to->dir_mode & needed) != needed) {
        return apr_psprintf(
            cmd->pool, "'%s' does not let the owner read, write and enter, which is us", argv[0]);
    }
    return NULL;
}

/* ---- words --------------------------------------------------------------- */

const char *tus_parse_flag(cmd_parms *cmd, const char *arg, int *flag)
{
    *flag = !ap_cstr_casecmp(arg, "On");
    return *flag || !ap_cstr_casecmp(arg, "Off") ? NULL
                                                 : apr_psprintf(cmd->pool, "there is no '%s'", arg);
}

const char *tus_parse_download(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    (void)argc;
    return tus_parse_flag(cmd, argv[0], &to->download);
}

const char *tus_parse_forwarded(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    (void)argc;
    return tus_parse_flag(cmd, argv[0], &to->forwarded);
}

const char *tus_parse_cors(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    (void)argc;
    return tus_parse_flag(cmd, argv[0], &to->cors);
}

const char *tus_parse_cors_credentials(cmd_parms *cmd, tus_settings_t *to, int argc,
                                       char *const argv[])
{
    (void)argc;
    return tus_parse_flag(cmd, argv[0], &to->cors_credentials);
}

const char *tus_parse_status(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    (void)argc;
    return tus_parse_flag(cmd, argv[0], &to->status);
}

const char *tus_parse_sync(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    static const char *const words[] = {
        [TUS_SYNC_NONE] = "none",
        [TUS_SYNC_FINISH] = "finish",
        [TUS_SYNC_ALWAYS] = "always",
    };
    unsigned i;

    (void)argc;
    for (i = 0; i < sizeof words / sizeof *words; i++) {
        if (!ap_cstr_casecmp(argv[0], words[i])) {
            to->sync = (tus_sync_e)i;
            return NULL;
        }
    }
    return apr_psprintf(cmd->pool, "there is no '%s'", argv[0]);
}

/* ---- URLs and origins ----------------------------------------------------- */

/* Nonzero for characters that RFC 3986 has in a path, with all % escapes whole. */
static int is_url_text(const char *s)
{
    for (; *s; s++) {
        if (*s == '%' && !(apr_isxdigit(s[1]) && apr_isxdigit(s[2]))) {
            return 0;
        }
        if (!apr_isalnum(*s) && !strchr("-._~%:/@!$&'()*+,;=[]", *s)) {
            return 0;
        }
    }
    return 1;
}

const char *tus_parse_base_url(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    const char *url = argv[0];
    apr_uri_t uri;

    (void)argc;
    if (!is_url_text(url)) {
        return apr_psprintf(
            cmd->pool, "'%s' has a query, a fragment or characters that must be %%-escaped", url);
    }
    if (apr_uri_parse(cmd->pool, url, &uri) != APR_SUCCESS) {
        return apr_psprintf(cmd->pool, "'%s' is no URL", url);
    }
    /* A browser takes "//name/" for a host, not for a path. */
    if (url[0] != '/' || url[1] == '/') {
        if (!uri.scheme
            || (ap_cstr_casecmp(uri.scheme, "http") && ap_cstr_casecmp(uri.scheme, "https"))
            || !uri.hostname || !*uri.hostname) {
            return apr_psprintf(cmd->pool, "'%s' is neither a path nor an http(s) URL", url);
        }
        if (uri.user) {
            return apr_psprintf(cmd->pool, "'%s' has a user in it, which every client would see",
                                url);
        }
    }
    to->base_url = url[strlen(url) - 1] == '/' ? apr_pstrdup(cmd->pool, url)
                                               : apr_pstrcat(cmd->pool, url, "/", NULL);
    return NULL;
}

/* Why a regular expression is none, in the words of the library, which pads them. */
static const char *regex_error(apr_pool_t *p, const char *pattern)
{
    char said[200];
    apr_size_t len;
    ap_regex_t regex;
    int rc = ap_regcomp(&regex, pattern, AP_REG_EXTENDED);

    if (!rc) {
        ap_regfree(&regex);
        return "memory is short";
    }
    ap_regerror(rc, &regex, said, sizeof said);
    len = strlen(said);
    while (len && said[len - 1] == ' ') {
        len--;
    }
    return apr_pstrmemdup(p, said, len);
}

const char *tus_parse_cors_origin(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    const char *pattern = argv[0];

    (void)argc;
    to->cors_origin.regex = ap_pregcomp(cmd->pool, pattern, AP_REG_EXTENDED);
    if (!to->cors_origin.regex) {
        return apr_psprintf(cmd->pool, "'%s' is no regular expression: %s", pattern,
                            regex_error(cmd->temp_pool, pattern));
    }
    to->cors_origin.pattern = apr_pstrdup(cmd->pool, pattern);
    return NULL;
}

/* ---- metadata ------------------------------------------------------------ */

const char *tus_parse_meta(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    char *driver;
    char *name = apr_strtok(apr_pstrdup(cmd->pool, argv[0]), ":", &driver);

    (void)argc;
    to->meta.provider =
        name ? ap_lookup_provider(TUS_META_GROUP, name, TUS_PROVIDER_VERSION) : NULL;
    if (!to->meta.provider) {
        return apr_psprintf(cmd->pool, "there is no metadata '%s'", argv[0]);
    }
    to->meta.driver = strchr(argv[0], ':') ? driver : NULL;
    return to->meta.provider->check(to->meta.driver, cmd->pool);
}
