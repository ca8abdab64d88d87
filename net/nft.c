#include "rtnl.h"
#include "sysctl.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
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
    int line = why ? (int)strcspn(why, "\n") : 0;
    return vm_fail(e, VM_E_BACKEND, "nftables: %.*s", line ? line : 14, line ? why : "refused, no why");
}

static int nft_run(const char *text, struct vm_err *e)
{
    pthread_mutex_lock(&nft_turn);
    struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
    int rc = nft ? nft_run_here(nft, text, e) : vm_fail(e, VM_E_UNAVAILABLE, "nftables: cannot start the library");
    if (nft)
        nft_ctx_free(nft);
    pthread_mutex_unlock(&nft_turn);
    return rc;
}

int net_rules_apply(const char *rules, struct vm_err *e)
{
    return nft_run(rules, e);
}

int net_rules_remove(struct vm_err *e)
{
    return nft_run("add table bridge vmsd\ndelete table bridge vmsd\nadd table inet vmsd\ndelete table inet vmsd\n", e);
}

/* The chains that hook into the kernel. One that is gone, or emptied, is an open door. */
static const struct { uint8_t family; const char *chain; } doors[] = {
    { NFPROTO_BRIDGE, "prerouting" }, { NFPROTO_BRIDGE, "from_port" },  { NFPROTO_BRIDGE, "forward" },
    { NFPROTO_INET, "early" },        { NFPROTO_INET, "publish_in" },   { NFPROTO_INET, "publish_own" },
    { NFPROTO_INET, "leave" },        { NFPROTO_INET, "forward" },      { NFPROTO_INET, "from_guest" },
    { NFPROTO_INET, "from_outside" }, { NFPROTO_INET, "input" },        { NFPROTO_INET, "to_host" },
    { NFPROTO_INET, "output" },       { NFPROTO_INET, "from_host" },    { NFPROTO_INET, "denied" },
};
enum { NF_GETCHAIN = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN };

struct chain_look { bool any_rule; };

static int chain_see(struct nl_msg *m, void *arg)
{
    struct chain_look *look = arg;
    struct nlattr *tb[NFTA_CHAIN_MAX + 1];
    if (nlmsg_parse(nlmsg_hdr(m), sizeof(struct nfgenmsg), tb, NFTA_CHAIN_MAX, NULL) >= 0 && tb[NFTA_CHAIN_USE])
        look->any_rule = ntohl(nla_get_u32(tb[NFTA_CHAIN_USE])) > 0;
    return NL_OK;
}

/* 0, or a negative libnl error; -NLE_OBJ_NOTFOUND: no such chain. */
static int chain_look(struct nl_sock *s, uint8_t family, const char *chain, struct chain_look *out)
{
    struct nfgenmsg head = { .nfgen_family = family, .version = NFNETLINK_V0 };
    struct nl_msg *m = nl_message(NF_GETCHAIN, 0, &head, sizeof head);
    if (!m)
        return -NLE_NOMEM;
    if (nla_put_string(m, NFTA_CHAIN_TABLE, "vmsd") < 0 || nla_put_string(m, NFTA_CHAIN_NAME, chain) < 0) {
        nlmsg_free(m);
        return -NLE_NOMEM;
    }
    return nl_ask_for(s, m, chain_see, out);
}

int net_rules_check(bool *present, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = NULL;
    if (nl_dial(NETLINK_NETFILTER, &s, e) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(doors); i++) {
        struct chain_look look = { 0 };
        int rc = chain_look(s, doors[i].family, doors[i].chain, &look);
        if (rc < 0 && rc != -NLE_OBJ_NOTFOUND)
            return nl_fail(e, rc, "look for chain %s", doors[i].chain);
        if (rc < 0 || !look.any_rule) {
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
    OWN(str) char *text = text_format("table %s vmsd_probe {\n\tchain c {\n\t\ttype filter hook forward priority 0;\n\t\t%s\n\t}\n}\n"
                                      "delete table %s vmsd_probe\n", family, rule, family);
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
