/* Licensed under the Apache License, Version 2.0; see LICENSE. */

/*
 * What is changed of httpd core's configuration, for one request of ours. The
 * core makes the struct, since its size is that of the running httpd, and it is
 * merged like one more section.
 */
#include "tus_httpd.h"

#include <apr_strings.h>

#include <http_core.h>
#include <util_filter.h>

static core_dir_config *make_section(request_rec *r, ap_conf_vector_t **section)
{
    core_dir_config *core = core_module.create_dir_config(r->pool, NULL);

    *section = ap_create_per_dir_config(r->pool);
    ap_set_core_module_config(*section, core);
    return core;
}

static void merge_section(request_rec *r, ap_conf_vector_t *section)
{
    r->per_dir_config = ap_merge_per_dir_configs(r->pool, r->per_dir_config, section);
}

static int is_limit_unset(const request_rec *r)
{
    const core_dir_config *core = ap_get_core_module_config(r->per_dir_config);

    return core->limit_req_body == (apr_off_t)-1;
}

apr_off_t tus_amend_limit(const request_rec *r)
{
    return is_limit_unset(r) ? 0 : ap_get_limit_req_body(r);
}

/* The built-in 1 GiB would only break what an endpoint is for. */
void tus_amend_lift_limit(request_rec *r)
{
    ap_conf_vector_t *section;

    if (is_limit_unset(r)) {
        make_section(r, &section)->limit_req_body = 0;
        merge_section(r, section);
    }
}

/* Options None stops the filter where mod_filter adds it later, by the type that we set. */
void tus_amend_forbid_includes(request_rec *r)
{
    ap_conf_vector_t *section;
    ap_filter_t *filter = r->output_filters;

    make_section(r, &section)->opts = OPT_NONE;
    merge_section(r, section);
    while (filter && filter->frec->ftype < AP_FTYPE_PROTOCOL) {
        ap_filter_t *next = filter->next;

        if (ap_cstr_casecmp(filter->frec->name, "includes") == 0) {
            ap_remove_output_filter(filter);
        }
        filter = next;
    }
}
