#include "profile.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <limits.h>
#include <math.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/path.h>
#include <vmsd/text.h>

enum { READ_MAX = 256 << 10 };

char *profile_read(const char *path)
{
    OWN(fd) int fd = path_open_host(path, O_RDONLY | O_NONBLOCK, NULL);
    char *s = NULL;
    size_t n;

    return fd >= 0 && path_read_fd(fd, path, READ_MAX, &s, &n, NULL) == 0 ? s : NULL;
}

/* The value of KEY= in a file of shell assignments, quotes taken off. */
static json_t *assignment(const char *text, const char *key)
{
    size_t n = strlen(key);

    for (const char *line = text; line; line = text_next_line(line)) {
        if (strncmp(line, key, n) || line[n] != '=')
            continue;
        const char *v = line + n + 1;
        char quote = (char)(*v == '"' || *v == '\'' ? *v++ : '\n');

        return json_stringn(v, quote == '\n' ? strcspn(v, "\n") : strcspn(v, (char[]){quote, '\n', '\0'}));
    }
    return json_null();
}

json_t *profile_os_release(const char *text)
{
    json_t *os = json_object();

    json_put(os, "id", assignment(text, "ID"));
    json_put(os, "name", assignment(text, "PRETTY_NAME"));
    json_put(os, "version", assignment(text, "VERSION_ID"));
    return os;
}

static json_t *os(void)
{
    OWN(str) char *text = profile_read("/etc/os-release");

    return profile_os_release(text ? text : "");
}

/* The first value of a key in a file of "key : value" lines. */
static json_t *colon_value(const char *text, const char *key)
{
    const char *at = text ? strstr(text, key) : NULL, *colon = at ? strchr(at, ':') : NULL;

    if (!colon)
        return json_null();
    colon += 1 + strspn(colon + 1, " \t");
    return json_stringn(colon, strcspn(colon, "\n"));
}

static json_t *cpu(void)
{
    OWN(str) char *info = profile_read("/proc/cpuinfo");
    json_t *o = json_object(), *load = json_array();
    double v[3];

    json_put(o, "model", colon_value(info, "model name"));
    json_put_int(o, "count", sysconf(_SC_NPROCESSORS_ONLN));
    for (int i = 0; i < 3; i++)
        json_array_append_new(load, getloadavg(v, 3) == 3 ? json_real(round(v[i] * 100) / 100) : json_null());
    json_put(o, "load", load);
    return o;
}

static json_t *kib(const char *meminfo, const char *key)
{
    OWN(json) json_t *text = colon_value(meminfo, key);

    return json_is_string(text) ? json_integer(strtoll(json_string_value(text), NULL, 10) * 1024) : json_null();
}

static json_t *memory(void)
{
    OWN(str) char *info = profile_read("/proc/meminfo");
    json_t *o = json_object();

    json_put(o, "total_bytes", kib(info, "MemTotal"));
    json_put(o, "available_bytes", kib(info, "MemAvailable"));
    json_put(o, "swap_total_bytes", kib(info, "SwapTotal"));
    json_put(o, "swap_free_bytes", kib(info, "SwapFree"));
    return o;
}

json_t *profile_pressure(const char *text)
{
    const char *at = text ? strstr(text, "some avg10=") : NULL;
    double v = at ? strtod(at + strlen("some avg10="), NULL) : NAN;

    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *pressure(void)
{
    static const char *const names[] = {"cpu", "memory", "io"};
    json_t *o = json_object();

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        OWN(str) char *path = text_format("/proc/pressure/%s", names[i]), *text = path ? profile_read(path) : NULL;

        json_put(o, names[i], profile_pressure(text));
    }
    return o;
}

static json_t *addresses(void)
{
    json_t *list = json_array();
    struct ifaddrs *all = NULL;

    if (getifaddrs(&all) < 0)
        return list;
    for (const struct ifaddrs *a = all; a; a = a->ifa_next) {
        char text[INET6_ADDRSTRLEN];
        const void *at = NULL;

        if (a->ifa_addr && a->ifa_addr->sa_family == AF_INET)
            at = &((const struct sockaddr_in *)(const void *)a->ifa_addr)->sin_addr;
        else if (a->ifa_addr && a->ifa_addr->sa_family == AF_INET6)
            at = &((const struct sockaddr_in6 *)(const void *)a->ifa_addr)->sin6_addr;
        if (at && !(a->ifa_flags & IFF_LOOPBACK) && inet_ntop(a->ifa_addr->sa_family, at, text, sizeof text))
            json_array_append_new(list, json_pack("{ssss}", "interface", a->ifa_name, "address", text));
    }
    freeifaddrs(all);
    return list;
}

static json_t *changed_at(const char *path)
{
    char at[CLOCK_TEXT];
    struct stat st;

    return stat(path, &st) == 0 ? json_string(wall_text(st.st_mtim.tv_sec * 1000LL, at)) : json_null();
}

/* When packages last changed, and when it was last looked what there is. */
static json_t *packages(void)
{
    json_t *o = json_object();

    json_put(o, "changed_at", changed_at("/var/lib/dpkg/status"));
    json_put(o, "lists_at", changed_at("/var/lib/apt/lists"));
    return o;
}

static json_t *time_zone(void)
{
    static const char dir[] = "/zoneinfo/";
    char target[PATH_MAX];
    ssize_t n = readlink("/etc/localtime", target, sizeof target - 1);
    const char *name;

    if (n < 0)
        return json_string("UTC");
    target[n] = '\0';
    name = strstr(target, dir);
    return name ? json_string(name + sizeof dir - 1) : json_null();
}

static json_t *load(void)
{
    static const char *const names[] = {"1m", "5m", "15m"};
    json_t *o = json_object();
    double v[3];
    int n = getloadavg(v, 3);

    for (int i = 0; i < 3; i++)
        json_put(o, names[i], i < n ? json_real(v[i]) : NULL);
    return o;
}

json_t *profile_measures(void)
{
    json_t *o = json_object();

    json_put(o, "load", load());
    json_put(o, "memory", memory());
    json_put(o, "pressure", pressure());
    json_put(o, "file_systems", profile_file_systems());
    return o;
}

static json_t *profile(void)
{
    json_t *o = json_object();
    char host[65] = "";
    struct utsname kernel = {0};
    struct sysinfo si = {0};

    gethostname(host, sizeof host - 1);
    uname(&kernel);
    sysinfo(&si);
    json_put_str(o, "hostname", host);
    json_put(o, "os", os());
    json_put_str(o, "kernel", kernel.release);
    json_put_str(o, "machine", kernel.machine);
    json_put_int(o, "uptime", si.uptime);
    json_put(o, "time_zone", time_zone());
    json_put(o, "cpu", cpu());
    json_put(o, "memory", memory());
    json_put(o, "pressure", pressure());
    json_put(o, "file_systems", profile_file_systems());
    json_put(o, "addresses", addresses());
    json_put(o, "packages", packages());
    profile_arrays(o);
    return o;
}

json_t *profile_json(struct vm_err *e)
{
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    json_t *o;

    if (pthread_mutex_trylock(&one)) {
        vm_fail(e, VM_E_UNAVAILABLE, "somebody asks for the host's profile already; try again in a moment");
        return NULL;
    }
    if (!(o = profile()))
        vm_no_memory(e);
    pthread_mutex_unlock(&one);
    return o;
}
