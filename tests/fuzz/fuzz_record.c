/* A record out of the store, damaged: an error, or a guest, network or host that is written and read again as the same. */
#include "fuzz.h"

#include <vmsd/json.h>
#include <vmsd/spec.h>

static void host(const char *text)
{
    OWN(host_spec) struct host_spec *h = NULL, *again = NULL;
    OWN(str) char *first = NULL, *second = NULL;
    struct vm_err e = { 0 };

    if (host_spec_load(text, &h, &e) < 0) {
        MUST(!h && e.text[0]);
        return;
    }
    MUST((first = json_to_text(h->json)) && host_spec_load(first, &again, &e) == 0);
    MUST((second = json_to_text(again->json)) && strcmp(first, second) == 0);
}

static void network(const char *text)
{
    OWN(network_spec) struct network_spec *w = NULL, *again = NULL;
    OWN(str) char *first = NULL, *second = NULL;
    struct vm_err e = { 0 };

    if (network_spec_load(text, &w, &e) < 0) {
        MUST(!w && e.text[0]);
        host(text);
        return;
    }
    MUST((first = json_to_text(w->json)) && network_spec_load(first, &again, &e) == 0);
    MUST((second = json_to_text(again->json)) && strcmp(first, second) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    OWN(guest_spec) struct guest_spec *g = NULL, *again = NULL;
    OWN(str) char *text = strndup((const char *)data, n), *first = NULL, *second = NULL;
    struct vm_err e = { 0 };

    MUST(text);
    if (guest_spec_load(text, &g, &e) < 0) {
        MUST(!g && e.text[0]);
        network(text);
        return 0;
    }
    MUST((first = json_to_text(g->json)) && guest_spec_load(first, &again, &e) == 0);
    MUST((second = json_to_text(again->json)) && strcmp(first, second) == 0);
    return 0;
}
