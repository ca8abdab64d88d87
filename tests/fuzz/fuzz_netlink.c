/* What the kernel lists of neighbours and connections, which guests and their peers fill: read within its bounds, whole
 * messages or not. The input is a list of answers: u8 what every request gets, then for each dump u16 length and messages. */
#include "fuzz.h"

#include <net/bridge.h>
#include <net/conntrack.h>
#include <net/rtnl.h>

static const uint8_t *input;
static size_t left;
static int refusal;

int fake_nl_dial(int protocol, struct nl_sock **out, struct vm_err *e);
int fake_nl_dial(int protocol, struct nl_sock **out, struct vm_err *e)
{
    (void)protocol, (void)e;
    MUST(*out = nl_socket_alloc());
    return 0;
}

int fake_nl_ask(struct nl_sock *s, struct nl_msg *m);
int fake_nl_ask(struct nl_sock *s, struct nl_msg *m)
{
    (void)s;
    MUST(m && nlmsg_hdr(m)->nlmsg_len >= NLMSG_HDRLEN);
    nlmsg_free(m);
    return refusal;
}

/* As libnl does it: messages whose length is theirs, each in a buffer of its own. */
int fake_nl_list(struct nl_sock *s, struct nl_msg *m, int (*each)(struct nl_msg *m, void *arg), void *arg);
int fake_nl_list(struct nl_sock *s, struct nl_msg *m, int (*each)(struct nl_msg *m, void *arg), void *arg)
{
    size_t n = next_byte(&input, &left);
    OWN(mem) struct nlmsghdr *answers = NULL;
    int rest, rc = NL_OK;

    (void)s;
    MUST(m);
    nlmsg_free(m);
    n |= (size_t)next_byte(&input, &left) << 8;
    n = n < left ? n : left;
    MUST(answers = malloc(n + 1));
    memcpy(answers, input, n);
    input += n;
    left -= n;
    rest = (int)n;
    for (struct nlmsghdr *h = answers; rc == NL_OK && nlmsg_ok(h, rest); h = nlmsg_next(h, &rest)) {
        struct nl_msg *one = nlmsg_convert(h);
        MUST(one);
        rc = each(one, arg);
        nlmsg_free(one);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const int refusals[] = { 0, -NLE_OBJ_NOTFOUND, -NLE_INVAL, -NLE_PERM, -NLE_NODEV };
    static struct nl_sock *s;
    struct vm_err e = { 0 };

    refusal = refusals[next_byte(&data, &n) % ARRAY_LEN(refusals)];
    input = data;
    left = n;
    if (!s)
        MUST(s = nl_socket_alloc());
    if (bridge_prune(s, 7, &e) < 0)
        MUST(e.text[0]);
    return 0;
}
