/* Words with a meaning: what networks are made of. */
#include "address.h"
#include "fields.h"

#include <arpa/inet.h>
#include <string.h>

bool address_parse(const char *s, struct address *out)
{
    struct address a = {0};

    if (inet_pton(AF_INET, s, a.byte) == 1)
        a.size = 4;
    else if (inet_pton(AF_INET6, s, a.byte) == 1)
        a.size = 16;
    else
        return false;
    *out = a;
    return true;
}

int address_order(const struct address *a, const struct address *b)
{
    return a->size != b->size ? (a->size < b->size ? -1 : 1) : memcmp(a->byte, b->byte, a->size);
}

const char *address_text(const struct address *a, char out[static 46])
{
    if (!inet_ntop(a->size == 4 ? AF_INET : AF_INET6, a->byte, out, 46))
        *out = '\0';
    return out;
}

bool subnet_parse(const char *s, struct subnet *out, bool *clean)
{
    const char *slash = strchr(s, '/');
    struct subnet n = {0};
    char address[46];
    uint64_t bits;

    if (!slash || slash - s >= (int)sizeof address)
        return false;
    memcpy(address, s, (size_t)(slash - s));
    address[slash - s] = '\0';
    if (!address_parse(address, &n.first) || !text_to_u64(slash + 1, &bits) || bits > (uint64_t)n.first.size * 8)
        return false;
    n.bits = (unsigned)bits;
    n.last = n.first;
    *clean = true;
    for (unsigned i = n.bits; i < n.first.size * 8; i++) {
        unsigned char bit = (unsigned char)(0x80u >> (i % 8));

        *clean = *clean && !(n.first.byte[i / 8] & bit);
        n.first.byte[i / 8] &= (unsigned char)~bit;
        n.last.byte[i / 8] |= bit;
    }
    *out = n;
    return true;
}

bool subnet_has(const struct subnet *n, const struct address *a)
{
    return a->size == n->first.size && address_order(a, &n->first) >= 0 && address_order(a, &n->last) <= 0;
}

struct address subnet_gateway(const struct subnet *n)
{
    struct address a = n->first;

    a.byte[a.size - 1] |= 1; /* a subnet has at least two host bits */
    return a;
}

/* Addresses that a machine can have: no loopback, multicast, "this network", link-local. */
static bool unicast(const struct address *a)
{
    const unsigned char *b = a->byte;

    if (a->size == 4)
        return b[0] != 0 && b[0] != 127 && b[0] < 224 && !(b[0] == 169 && b[1] == 254);
    for (unsigned i = 0; i < 15; i++)
        if (b[i])
            return b[0] != 0xff && !(b[0] == 0xfe && (b[1] & 0xc0) == 0x80) &&
                   !(i >= 10 && b[10] == 0xff); /* ::ffff:a.b.c.d */
    return false;
}

static json_t *parse_size_of(const char *text, unsigned size, struct word_cx *cx)
{
    struct address a;
    char clean[46];

    if (!address_parse(text, &a) || (size && a.size != size))
        return word_wrong(cx, "\"%.60s\" is not an IP%s address", text, size == 4 ? "v4" : size ? "v6" : "");
    if (!unicast(&a))
        return word_wrong(cx, "%.60s is no address that a machine can have", text);
    return json_string(address_text(&a, clean));
}

static json_t *parse_address(const struct field *f, const char *text, struct word_cx *cx)
{
    (void)f;
    return parse_size_of(text, 0, cx);
}

static json_t *parse_address4(const struct field *f, const char *text, struct word_cx *cx)
{
    (void)f;
    return parse_size_of(text, 4, cx);
}

static json_t *parse_address6(const struct field *f, const char *text, struct word_cx *cx)
{
    (void)f;
    return parse_size_of(text, 16, cx);
}

#define V4 "[0-9]{1,3}(\\.[0-9]{1,3}){3}"
#define V6 "[0-9a-fA-F:.]*:[0-9a-fA-F:.]*"
const struct word word_address = {"address", "an address such as 10.20.0.53", "^(" V4 "|" V6 ")$", SCALAR_STRING,
                                  parse_address, NULL};
const struct word word_address4 = {"IPv4 address", "an address such as 10.20.0.10", "^" V4 "$", SCALAR_STRING,
                                   parse_address4, NULL};
const struct word word_address6 = {"IPv6 address", "an address such as fd00:20::10", "^" V6 "$", SCALAR_STRING,
                                   parse_address6, NULL};

static json_t *parse_cidr(const char *text, unsigned size, unsigned min, unsigned max, struct word_cx *cx)
{
    struct subnet n;
    char first[46], whole[64];
    bool clean;

    if (!subnet_parse(text, &n, &clean) || n.first.size != size)
        return word_wrong(cx, "\"%.60s\" is not an IPv%d subnet", text, size == 4 ? 4 : 6);
    if (n.bits < min || n.bits > max)
        return word_wrong(cx, "the prefix /%u is outside /%u../%u", n.bits, min, max);
    snprintf(whole, sizeof whole, "%s/%u", address_text(&n.first, first), n.bits);
    if (!clean) {
        snprintf(cx->hint, sizeof cx->hint, "write %s", whole);
        return word_wrong(cx, "%.60s is an address in a subnet, not a subnet", text);
    }
    if (!unicast(&n.first))
        return word_wrong(cx, "%.60s has no addresses that machines can have", text);
    return json_string(whole);
}

static json_t *parse_cidr4(const struct field *f, const char *text, struct word_cx *cx)
{
    (void)f;
    return parse_cidr(text, 4, 8, 30, cx);
}

static json_t *parse_cidr6(const struct field *f, const char *text, struct word_cx *cx)
{
    (void)f;
    return parse_cidr(text, 16, 16, 126, cx);
}

const struct word word_cidr4 = {"IPv4 subnet", "a subnet such as 10.20.0.0/24", "^" V4 "/[0-9]{1,2}$", SCALAR_STRING,
                                parse_cidr4, NULL};
const struct word word_cidr6 = {"IPv6 subnet", "a subnet such as fd00:20::/64", "^" V6 "/[0-9]{1,3}$", SCALAR_STRING,
                                parse_cidr6, NULL};

static json_t *parse_domain(const struct field *f, const char *text, struct word_cx *cx)
{
    (void)f;
    return text_is_domain(text) ? json_string(text) : word_wrong(cx, "\"%.60s\" is not a domain name", text);
}

const struct word word_domain = {"domain", "a domain name such as git.example.org, in lower case",
                                 "^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$", SCALAR_STRING,
                                 parse_domain, NULL};

static bool port_of(const char *text, uint16_t *out)
{
    uint64_t v;

    if (!text_to_u64(text, &v) || v < 1 || v > 65535)
        return false;
    *out = (uint16_t)v;
    return true;
}

static json_t *parse_port(const struct field *f, const char *text, struct word_cx *cx)
{
    uint16_t port;

    (void)f;
    if (!port_of(text, &port))
        return word_wrong(cx, "%.40s is outside 1..65535", text);
    return json_integer(port);
}

static bool view_port(const struct field *f, const json_t *v, void *at, struct arena *arena)
{
    json_int_t n = json_integer_value(v);

    (void)f;
    (void)arena;
    *(uint16_t *)at = (uint16_t)n;
    return n >= 1 && n <= 65535;
}

const struct word word_port = {"port", "a port, 1..65535", NULL, SCALAR_INT, parse_port, view_port};

static bool range_of(const char *text, struct spec_range *out)
{
    const char *dash = strchr(text, '-');
    char lo[8];

    if (!dash)
        return port_of(text, &out->lo) && port_of(text, &out->hi);
    if (dash - text >= (int)sizeof lo)
        return false;
    memcpy(lo, text, (size_t)(dash - text));
    lo[dash - text] = '\0';
    return port_of(lo, &out->lo) && port_of(dash + 1, &out->hi);
}

static json_t *parse_ports(const struct field *f, const char *text, struct word_cx *cx)
{
    struct spec_range r = {0};
    char both[16];

    (void)f;
    if (!range_of(text, &r))
        return word_wrong(cx, "\"%.40s\" is not a port", text);
    if (r.lo > r.hi)
        return word_wrong(cx, "%.40s goes down", text);
    if (r.lo == r.hi)
        return json_integer(r.lo);
    snprintf(both, sizeof both, "%u-%u", r.lo, r.hi);
    return json_string(both);
}

static bool view_ports(const struct field *f, const json_t *v, void *at, struct arena *arena)
{
    struct spec_range *r = at;

    if (json_is_string(v))
        return range_of(json_string_value(v), r) && r->lo <= r->hi;
    r->hi = 0;
    if (!view_port(f, v, &r->lo, arena))
        return false;
    r->hi = r->lo;
    return true;
}

const struct word word_ports = {"port or range", "a port or a range such as 8000-8010", "^[0-9]{1,5}-[0-9]{1,5}$",
                                SCALAR_STRING | SCALAR_INT, parse_ports, view_ports};

/* "127.0.0.1:8080" or "[::1]:8080" in its two parts. */
static bool split_host_port(const char *text, struct address *a, uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    bool brackets = *text == '[';
    char address[46];
    size_t n;

    if (!colon)
        return false;
    n = (size_t)(colon - text);
    if (brackets && text[n - 1] != ']')
        return false;
    text += brackets;
    n -= brackets ? 2 : 0;
    if (n >= sizeof address)
        return false;
    memcpy(address, text, n);
    address[n] = '\0';
    return address_parse(address, a) && brackets == (a->size == 16) && port_of(colon + 1, port);
}

static json_t *parse_host_port(const struct field *f, const char *text, struct word_cx *cx)
{
    struct address a;
    char clean[46];
    uint16_t port;

    if (!strchr(text, ':'))
        return parse_port(f, text, cx);
    if (!split_host_port(text, &a, &port))
        return word_wrong(cx, "\"%.60s\" is not a port of the host", text);
    return json_sprintf(a.size == 4 ? "%s:%u" : "[%s]:%u", address_text(&a, clean), port);
}

/* Into two members: the port, and the address or NULL. */
static bool view_host_port(const struct field *f, const json_t *v, void *at, struct arena *arena)
{
    struct spec_port *p = (void *)((char *)at - offsetof(struct spec_port, host));
    struct address a;
    char clean[46];

    if (!json_is_string(v))
        return view_port(f, v, at, arena);
    if (!split_host_port(json_string_value(v), &a, &p->host))
        return false;
    address_text(&a, clean);
    return (p->address = arena_copy(arena, clean, strlen(clean)));
}

const struct word word_host_port = {"port of the host", "a port, or ADDRESS:PORT such as \"127.0.0.1:8080\"",
                                    "^(" V4 "|\\[[0-9a-fA-F:.]+\\]):[0-9]{1,5}$", SCALAR_STRING | SCALAR_INT,
                                    parse_host_port, view_host_port};

static json_t *parse_mac(const struct field *f, const char *text, struct word_cx *cx)
{
    static const char form[] = "xx:xx:xx:xx:xx:xx", hex[] = "0123456789abcdef";
    char mac[sizeof form] = "";

    (void)f;
    if (strlen(text) != sizeof form - 1)
        return word_wrong(cx, "\"%.40s\" is not a MAC address", text);
    for (size_t i = 0; i < sizeof form; i++) {
        mac[i] = (char)(text[i] >= 'A' && text[i] <= 'F' ? text[i] + 32 : text[i]);
        if (form[i] == 'x' ? !mac[i] || !strchr(hex, mac[i]) : mac[i] != form[i])
            return word_wrong(cx, "\"%.40s\" is not a MAC address", text);
    }
    if ((strchr(hex, mac[1]) - hex) & 1 || !strcmp(mac, "00:00:00:00:00:00"))
        return word_wrong(cx, "%.40s is no address that a machine can have", text);
    return json_string(mac);
}

const struct word word_mac = {"MAC address", "a MAC address such as 52:54:00:12:34:56",
                              "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$", SCALAR_STRING, parse_mac, NULL};

/* No dots and slashes: the name becomes a part of sysctl paths, where these stand for each other. */
static json_t *parse_interface(const struct field *f, const char *text, struct word_cx *cx)
{
    static const char *const taken[] = {"lo", "all", "default"};

    (void)f;
    if (!text_is_label(text, 15))
        return word_wrong(cx, "\"%.40s\" is not a name of an interface", text);
    for (size_t i = 0; i < ARRAY_LEN(taken); i++)
        if (!strcmp(text, taken[i]))
            return word_wrong(cx, "\"%s\" has a meaning of its own", text);
    return json_string(text);
}

const struct word word_interface = {"interface", "1 to 15 of a-z, 0-9 and -, no - at the ends",
                                    "^[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?$", SCALAR_STRING, parse_interface, NULL};

static json_t *parse_url_path(const struct field *f, const char *text, struct word_cx *cx)
{
    (void)f;
    for (const unsigned char *s = (const unsigned char *)text; *s; s++)
        if (*s <= ' ' || *s > '~' || strchr("\"<>\\^`{|}#", *s))
            return word_wrong(cx, "\"%.60s\" has characters that a URL has not", text);
    return *text == '/' ? json_string(text) : word_wrong(cx, "\"%.60s\" does not begin with /", text);
}

const struct word word_url_path = {"URL path", "a path such as /health, other characters as %XX", "^/", SCALAR_STRING,
                                   parse_url_path, NULL};

static json_t *parse_url_host(const struct field *f, const char *text, struct word_cx *cx)
{
    struct address a;

    (void)f;
    if (!text_is_domain(text) && !address_parse(text, &a))
        return word_wrong(cx, "\"%.60s\" is not the name of a host", text);
    return json_string(text);
}

const struct word word_url_host = {"host", "a domain name or an address", "^[0-9a-zA-Z.:-]+$", SCALAR_STRING,
                                   parse_url_host, NULL};
