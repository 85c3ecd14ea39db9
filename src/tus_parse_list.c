/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * Arguments that are names. Some of them replace what outer scopes said or, with
 * a sign, change it; scopes are merged with each other before it is known what
 * they inherit, so such a change is kept as one until then.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <string.h>

static char *lower(apr_pool_t *p, const char *name)
{
    char *copy = apr_pstrdup(p, name);

    ap_str_tolower(copy);
    return copy;
}

/* Nonzero if this is the only argument. */
static int is_alone(const char *word, int argc, char *const argv[])
{
    return argc == 1 && !ap_cstr_casecmp(argv[0], word);
}

/* Nonzero if all of the arguments, or none, have a sign; `sign` is that of the first, or 0. */
static int agree(int argc, char *const argv[], const char *signs, char *sign)
{
    int i;

    *sign = *argv[0] && strchr(signs, *argv[0]) ? *argv[0] : '\0';
    for (i = 1; i < argc; i++) {
        if (!*sign != !(*argv[i] && strchr(signs, *argv[i]))) {
            return 0;
        }
    }
    return 1;
}

/* ---- extensions ---------------------------------------------------------- */

static const char *parse_extension(cmd_parms *cmd, const char *name, unsigned *bit)
{
    *bit = tus_endpoint_extension(lower(cmd->temp_pool, name));
    return *bit ? NULL
                : apr_psprintf(cmd->pool, "'%s' is no extension; known are: %s", name,
                               tus_endpoint_extensions(TUS_EXT_ALL, cmd->temp_pool));
}

static const char *parse_choice(cmd_parms *cmd, tus_choice_t *choice, int argc, char *const argv[])
{
    int i;

    for (i = 0; i < argc; i++) {
        const char *name = argv[i] + !choice->absolute;
        unsigned bit;
        const char *wrong = parse_extension(cmd, name, &bit);

        if (wrong) {
            return wrong;
        }
        if (*argv[i] == '-') {
            choice->on &= ~bit;
            choice->off |= bit;
        }
        else {
            choice->on |= bit;
            choice->off &= ~bit;
        }
    }
    return NULL;
}

const char *tus_parse_extensions(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    tus_choice_t *choice = &to->extensions;
    unsigned lost;
    const char *wrong;
    char sign;

    *choice = (tus_choice_t){ .absolute = 1 };
    if (is_alone("all", argc, argv)) {
        choice->on = TUS_EXT_ALL;
        return NULL;
    }
    if (is_alone("none", argc, argv)) {
        return NULL;
    }
    if (!agree(argc, argv, "+-", &sign)) {
        return "names with and without a sign are mixed; as with Options, give one to all of them, "
               "to change what is inherited, or to none, to replace it";
    }
    choice->absolute = !sign;
    wrong = parse_choice(cmd, choice, argc, argv);
    lost = choice->absolute ? choice->on & ~tus_config_extensions(to) : 0;
    if (!wrong && lost) {
        return apr_psprintf(cmd->pool,
                            "%s cannot be offered without what it extends: creation for "
                            "creation-with-upload, creation-defer-length and concatenation, "
                            "concatenation for concatenation-unfinished, checksum for "
                            "checksum-trailer",
                            tus_endpoint_extensions(lost, cmd->temp_pool));
    }
    return wrong;
}

void tus_parse_join_choice(void *to, const void *add, apr_pool_t *p)
{
    tus_choice_t *choice = to;
    const tus_choice_t *change = add;

    (void)p;
    if (change->absolute) {
        *choice = *change;
        return;
    }
    choice->on = (choice->on & ~change->off) | change->on;
    choice->off = (choice->off & ~change->on) | change->off;
}

/* ---- protocols and checksums --------------------------------------------- */

const char *tus_parse_protocols(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    int i;

    to->protocols = 0;
    for (i = 0; i < argc; i++) {
        if (!ap_cstr_casecmp(argv[i], "ietf")) {
            return "ietf is not spoken by this version yet; say tus";
        }
        if (ap_cstr_casecmp(argv[i], "tus")) {
            return apr_psprintf(cmd->pool, "'%s' is no protocol; known is: tus", argv[i]);
        }
        to->protocols |= TUS_PROTOCOL_TUS;
    }
    return NULL;
}

const char *tus_parse_checksums(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    int i;

    to->checksums = 0;
    if (is_alone("none", argc, argv)) {
        return "to offer none, say: TusExtensions -checksum -checksum-trailer";
    }
    for (i = 0; i < argc; i++) {
        unsigned bit = tus_checksum_named(lower(cmd->temp_pool, argv[i]));

        if (!bit) {
            return apr_psprintf(cmd->pool, "'%s' is no algorithm; known are: %s", argv[i],
                                tus_checksum_names(TUS_CHECKSUMS_ALL, cmd->temp_pool));
        }
        if (!tus_checksum_available(bit)) {
            return apr_psprintf(
                cmd->pool,
                "OpenSSL does not compute '%s' here (in FIPS mode there is no "
                "md5); it computes: %s",
                argv[i],
                tus_checksum_names(tus_checksum_available(TUS_CHECKSUMS_ALL), cmd->temp_pool));
        }
        to->checksums |= bit;
    }
    return NULL;
}

/* ---- lists of header fields and methods ----------------------------------- */

/* Nonzero if the list has exactly this name. */
static int has_name(const char *names, const char *name, apr_size_t len)
{
    while (*names) {
        apr_size_t n = strcspn(names, ",");

        if (n == len && !strncmp(names, name, len)) {
            return 1;
        }
        names += n;
        names += strspn(names, ", ");
    }
    return 0;
}

/* The names of both lists, each once; `names` itself where that has them all. */
static const char *join_names(apr_pool_t *p, const char *names, const char *more)
{
    while (*more) {
        apr_size_t len = strcspn(more, ",");

        if (!has_name(names, more, len)) {
            names = apr_pstrcat(p, names, *names ? ", " : "", apr_pstrmemdup(p, more, len), NULL);
        }
        more += len;
        more += strspn(more, ", ");
    }
    return names;
}

/* A token of RFC 9110; these words mean something on their own only, so here they are slips. */
static const char *check_name(cmd_parms *cmd, const char *name, const char *what)
{
    if (!*name || *ap_scan_http_token(name)) {
        return apr_psprintf(cmd->pool,
                            "'%s' is no %s (a token of RFC 9110); write names with spaces between "
                            "them, without commas",
                            name, what);
    }
    if (!ap_cstr_casecmp(name, "none") || !ap_cstr_casecmp(name, "default")) {
        return apr_psprintf(cmd->pool, "'%s' has to be the only argument", name);
    }
    return NULL;
}

static const char *parse_names(cmd_parms *cmd, tus_list_t *list, int argc, char *const argv[],
                               const char *what)
{
    const char *names = "";
    char sign;
    int i;

    if (is_alone("none", argc, argv)) {
        *list = (tus_list_t){ .names = "" };
        return NULL;
    }
    if (!agree(argc, argv, "+-", &sign)) {
        return "names with and without a + are mixed; give one to all of them, to add to what is "
               "inherited, or to none, to replace it";
    }
    for (i = 0; i < argc; i++) {
        const char *name = argv[i] + (sign != '\0');
        const char *wrong = check_name(cmd, name, what);

        if (wrong) {
            return wrong;
        }
        if (*argv[i] == '-') {
            return apr_psprintf(cmd->pool,
                                "'%s' cannot be taken away; write the list without it, and "
                                "without signs",
                                name);
        }
        names = join_names(cmd->pool, names, name);
    }
    list->names = sign ? join_names(cmd->pool, list->names, names) : names;
    list->added = sign ? names : NULL;
    return NULL;
}

const char *tus_parse_cors_methods(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    return parse_names(cmd, &to->cors_methods, argc, argv, "method");
}

const char *tus_parse_cors_headers(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    return parse_names(cmd, &to->cors_headers, argc, argv, "name of a header field");
}

const char *tus_parse_cors_expose(cmd_parms *cmd, tus_settings_t *to, int argc, char *const argv[])
{
    return parse_names(cmd, &to->cors_expose, argc, argv, "name of a header field");
}

void tus_parse_join_list(void *to, const void *add, apr_pool_t *p)
{
    tus_list_t *list = to;
    const tus_list_t *more = add;

    if (!more->added) {
        *list = *more;
        return;
    }
    list->names = join_names(p, list->names, more->added);
    if (list->added) {
        list->added = join_names(p, list->added, more->added);
    }
}
