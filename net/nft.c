#include "rtnl.h"
#include "rules.h"
#include "sysctl.h"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <malloc.h>
#include <nftables/libnftables.h>
#include <pthread.h>
#include <string.h>

/* libnftables keeps process-wide caches, so one thread at a time; the kernel takes one transaction at a time anyway. */
static pthread_mutex_t nft_turn = PTHREAD_MUTEX_INITIALIZER;

static int nft_run_here(struct nft_ctx *nft, const char *text, struct vm_err *e)
{
    if (nft_ctx_buffer_output(nft) != 0 || nft_ctx_buffer_error(nft) != 0)
        return vm_no_memory(e);
    if (nft_run_cmd_from_buffer(nft, text) == 0)
        return 0;
    const char *why = nft_ctx_get_error_buffer(nft);
    if (!why || !*why)
        why = "refused, and no reason given";
    return vm_fail(e, VM_E_BACKEND, "nftables: %.*s", (int)strcspn(why, "\n"), why);
}

/* The library ends the whole process when it gets no socket: so one is opened first, and makes room for its own. */
static int nft_start(struct nft_ctx **out, struct vm_err *e)
{
    struct nl_sock *s;
    if (nl_dial(NETLINK_NETFILTER, &s, e) < 0)
        return vm_context(e, "nftables, without which no guest is on a network; see modprobe nf_tables");
    nl_socket_free(s);
    *out = nft_ctx_new(NFT_CTX_DEFAULT);
    return *out ? 0 : vm_fail(e, VM_E_UNAVAILABLE, "nftables: cannot start the library");
}

static int nft_run(const char *text, struct vm_err *e)
{
    struct nft_ctx *nft = NULL;
    char name[16];
    pthread_mutex_lock(&nft_turn);
    pthread_getname_np(pthread_self(), name, sizeof name);
    pthread_setname_np(pthread_self(), NFT_THREAD);
    int rc = nft_start(&nft, e) < 0 ? -1 : nft_run_here(nft, text, e);
    if (nft)
        nft_ctx_free(nft);
    pthread_setname_np(pthread_self(), name);
    pthread_mutex_unlock(&nft_turn);
    malloc_trim(0); /* of large rules it leaves megabytes in small pieces */
    return rc;
}

/* Deleted so that it may be absent. */
#define NOTHING "add table bridge vmsd\ndelete table bridge vmsd\nadd table inet vmsd\ndelete table inet vmsd\n"

int net_rules_apply(const char *rules, struct vm_err *e)
{
    struct vm_err why;
    if (nft_run(rules, &why) == 0)
        return 0;
    /* Another version's sets of the same names, perhaps. */
    OWN(str) char *anew = text_format("%s%s", NOTHING, rules);
    return anew ? nft_run(anew, e) : vm_no_memory(e);
}

int net_rules_remove(struct vm_err *e)
{
    return nft_run(NOTHING, e);
}

static int rule_count(struct nl_msg *m, void *arg)
{
    (void)m;
    ++*(unsigned *)arg;
    return NL_OK;
}

/* Counts the rules of a chain; a chain that is gone has none. */
static int rules_in(struct nl_sock *s, const struct rules_chain *c, unsigned *n)
{
    struct nfgenmsg head = { .nfgen_family = c->bridge ? NFPROTO_BRIDGE : NFPROTO_INET, .version = NFNETLINK_V0 };
    struct nl_msg *m = nl_message(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE, NLM_F_DUMP, &head, sizeof head);
    if (!m)
        return -NLE_NOMEM;
    if (nla_put_string(m, NFTA_RULE_TABLE, "vmsd") < 0 || nla_put_string(m, NFTA_RULE_CHAIN, c->name) < 0) {
        nlmsg_free(m);
        return -NLE_NOMEM;
    }
    *n = 0;
    return nl_list(s, m, rule_count, n);
}

/* Every chain of ours has every rule: a chain that somebody emptied is as open as one that is gone. */
int net_rules_check(bool *present, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = NULL;
    struct rules_chain c;
    unsigned n;
    if (nl_dial(NETLINK_NETFILTER, &s, e) < 0)
        return -1;
    for (size_t at = 0; rules_chain_next(&at, &c);) {
        int rc = rules_in(s, &c, &n);
        if (rc < 0 && rc != -NLE_OBJ_NOTFOUND && rc != -NLE_DUMP_INTR)
            return nl_fail(e, rc, "look for the rules of chain %s", c.name);
        if (rc == -NLE_OBJ_NOTFOUND || (rc == 0 && n != c.n)) { /* changed while we looked: the next look tells */
            *present = false;
            return 0;
        }
    }
    *present = true;
    return 0;
}

/* Made and deleted in one transaction: proves that the kernel takes it, leaves nothing. */
static bool kernel_takes(const char *family, const char *rule)
{
    struct vm_err why;
    OWN(str) char *text = text_format("table %s vmsd_probe {\n\tchain c {\n\t\ttype filter hook forward priority 0;\n"
                                      "\t\t%s\n\t}\n}\ndelete table %s vmsd_probe\n", family, rule, family);
    return text && nft_run(text, &why) == 0;
}

int net_probe(struct net_facts *out, struct vm_err *e)
{
    int forward4 = 0, forward6 = 0;
    struct vm_err why = { 0 };
    if (sysctl_read("ipv4/ip_forward", &forward4, e) < 0)
        return -1;
    if (sysctl_read("ipv6/conf/all/forwarding", &forward6, &why) < 0 && why.code != VM_E_ABSENT)
        return vm_fail(e, why.code, "%s", why.text);
    *out = (struct net_facts){
        .nft = kernel_takes("inet", "accept"),
        .bridge_family = kernel_takes("bridge", "accept"),
        .conntrack = kernel_takes("inet", "ct state established accept"),
        .ip_forward = forward4 != 0,
        .ip6_forward = forward6 != 0,
    };
    return 0;
}
