/* The table of all that a spec can say. The order of rows is the order of the reference. */
#include "rows.h"

#include <string.h>

#define X(id, name) name,
const char *const kind_names[] = {DOC_KINDS(X) NULL};
#undef X

static const char *check_image(const json_t *v)
{
    bool summed = json_object_get(v, "sha256"), needs = json_object_get(v, "tar") || json_object_get(v, "disk");

    if (needs && !summed)
        return "no sha256; expected the sum that the file must have; print it with sha256sum";
    if (summed && !needs)
        return "sha256 is for tar and disk only; expected no sha256 here; leave it out";
    return NULL;
}

static const struct field image_rows[] = {
    {"recipe", .word = &word_file_name, .flags = F_ONE_OF, MEMBER(spec_image, name),
     .doc = "An image that vmsd builds from its recipe of that name. This is what a bare name means.",
     .example = "debian-12"},
    {"directory", .word = &word_host_path, .flags = F_ONE_OF, MEMBER(spec_image, name),
     .doc = "A root directory on the host, taken as it is.", .example = "/srv/images/nixos"},
    {"tar", .word = &word_host_path, .flags = F_ONE_OF, MEMBER(spec_image, name),
     .doc = "A tarball of a root directory on the host.", .example = "/srv/images/nixos-system.tar.xz"},
    {"disk", .word = &word_host_path, .flags = F_ONE_OF, .kinds = K_MICROVM | K_DEFAULTS, MEMBER(spec_image, name),
     .doc = "A raw disk image on the host.", .example = "/srv/images/appliance.raw"},
    {"sha256", .word = &word_sha256, MEMBER(spec_image, sha256), .flags = F_SPARSE,
     .doc = "SHA-256 of the tarball or the disk; another content is refused.",
     .example = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
};
TABLE(image, "image", .bare = "recipe", .size = sizeof(struct spec_image), .kind_at = offsetof(struct spec_image, kind),
      .check = check_image);

static const struct field nic_rows[] = {
    {"name", .word = &word_label, .flags = F_NEED, MEMBER(spec_nic, network),
     .doc = "Name of a spec of kind `network`.", .example = "services"},
    {"address", .word = &word_address4, .flags = F_SPARSE, MEMBER(spec_nic, address),
     .doc = "A fixed IPv4 address in the network's subnet. Without it vmsd chooses one, which stays the same over "
            "rebuilds.", .example = "10.20.0.10"},
    {"address6", .word = &word_address6, .flags = F_SPARSE, MEMBER(spec_nic, address6),
     .doc = "The same for IPv6.", .example = "fd00:20::10"},
    {"mac", .word = &word_mac, .flags = F_SPARSE, MEMBER(spec_nic, mac),
     .doc = "A fixed MAC address. Without it one follows from the guest.", .example = "52:54:00:12:34:56"},
};
TABLE(nic, "nic", .bare = "name", .size = sizeof(struct spec_nic), NO_KIND);

static const char *check_allow(const json_t *v)
{
    if (!json_object_get(v, "tcp") && !json_object_get(v, "udp") && !json_is_true(json_object_get(v, "icmp")))
        return "opens nothing; expected tcp, udp or icmp";
    return NULL;
}

static const struct field allow_rows[] = {
    {"from", LIST, .word = &word_peer, .flags = F_NEED | F_SOME, MEMBER(spec_allow, from),
     .doc = "Who may connect: guests by name, all guests with a tag as `tag:NAME`, the `host`, or `any`.",
     .example = "[auth, \"tag:web\", host]"},
    {"tcp", LIST, .word = &word_ports, MEMBER(spec_allow, tcp), .doc = "TCP ports and ranges.",
     .example = "[5432, 8000-8010]"},
    {"udp", LIST, .word = &word_ports, MEMBER(spec_allow, udp), .doc = "UDP ports and ranges.", .example = "[53]"},
    {"icmp", .word = &word_bool, .otherwise = "false", MEMBER(spec_allow, icmp), .doc = "Whether ping passes.",
     .example = "true"},
};
TABLE(allow, "allow", .size = sizeof(struct spec_allow), NO_KIND, .check = check_allow);

static const struct field port_rows[] = {
    {"host", .word = &word_host_port, .flags = F_NEED, MEMBER(spec_port, host),
     .doc = "Port of the host, on all its addresses or on the one that is given.", .example = "\"127.0.0.1:8080\""},
    {"guest", .word = &word_port, .flags = F_NEED, MEMBER(spec_port, guest), .doc = "Port of the guest.",
     .example = "80"},
    {"proto", .word = &word_choice, .otherwise = "tcp", CHOICES("tcp", "udp"), MEMBER(spec_port, udp),
     .doc = "Protocol.", .example = "udp"},
};
TABLE(port, "port", .size = sizeof(struct spec_port), NO_KIND);

static const struct field volume_rows[] = {
    {"name", .word = &word_label, .flags = F_NEED, MEMBER(spec_volume, name),
     .doc = "Name of the volume, unique on the host. Its data outlives every rebuild.", .example = "pgdata"},
    {"target", .word = &word_guest_path, .flags = F_NEED, MEMBER(spec_volume, target),
     .doc = "Where the guest sees it.", .example = "/var/lib/postgresql"},
    {"size", .word = &word_size, .otherwise = "10G", .min = 64 * MB, .max = 8 * TB, .flags = F_GROWS,
     .change = PLAN_LIVE, MEMBER(spec_volume, size),
     .doc = "Bound of a volume of type `disk`. It may grow, but not shrink.", .example = "20G"},
    {"type", .word = &word_choice, .otherwise = "disk", CHOICES("disk", "directory"), .flags = F_FIXED,
     MEMBER(spec_volume, directory),
     .doc = "`disk`: a file system of its own with a bound; `directory`: a directory of the host, without one.",
     .example = "directory"},
};
TABLE(volume, "volume", .id = "name", .size = sizeof(struct spec_volume), NO_KIND);

static const struct field bind_rows[] = {
    {"source", .word = &word_host_path, .flags = F_NEED, MEMBER(spec_bind, source),
     .doc = "A file or directory of the host.", .example = "./files/db"},
    {"target", .word = &word_guest_path, .flags = F_NEED, MEMBER(spec_bind, target),
     .doc = "Where the guest sees it.", .example = "/srv/files"},
    {"read_only", .word = &word_bool, .otherwise = "false", MEMBER(spec_bind, read_only),
     .doc = "Whether the guest may only read.", .example = "true"},
    {"ids", .word = &word_choice, .otherwise = "mapped", CHOICES("none", "mapped"), MEMBER(spec_bind, mapped),
     .doc = "`mapped`: owners look the same inside as outside; `none`: files belong to nobody inside.",
     .example = "none"},
};
TABLE(bind, "bind", .id = "target", .size = sizeof(struct spec_bind), NO_KIND);

static const struct field file_rows[] = {
    {"source", .word = &word_bundle_path, .flags = F_NEED, MEMBER(spec_file, source),
     .doc = "A file of the spec directory.", .example = "files/unbound.conf"},
    {"target", .word = &word_guest_path, .flags = F_NEED, MEMBER(spec_file, target),
     .doc = "Where it is written in the guest.", .example = "/etc/unbound/unbound.conf"},
    {"mode", .word = &word_mode, .otherwise = "0644", MEMBER(spec_file, mode), .doc = "Octal mode of the file.",
     .example = "\"0600\""},
    {"owner", .word = &word_owner, .otherwise = "root:root", MEMBER(spec_file, owner), .doc = "Owner of the file.",
     .example = "unbound:unbound"},
    {"template", .word = &word_bool, .otherwise = "false", MEMBER(spec_file, template),
     .doc = "Whether `${NAME}` in the file stands for a value (`$$` for a `$`).", .example = "true"},
    {"digest", .word = &word_sha256, .flags = F_DERIVED, NOWHERE, .doc = "SHA-256 of the content."},
};
TABLE(file, "file", .id = "target", .size = sizeof(struct spec_file), NO_KIND);

static const struct field secret_rows[] = {
    {"name", .word = &word_file_name, .flags = F_NEED, MEMBER(spec_secret, name),
     .doc = "Name of the file in `$CREDENTIALS_DIRECTORY`.", .example = "pg_password"},
    {"file", .word = &word_host_path, .flags = F_ONE_OF, MEMBER(spec_secret, file),
     .doc = "A file of the host that holds the secret.", .example = "/etc/vmsd/secrets/pg_password"},
    {"command", LIST, .word = &word_arg, .flags = F_ONE_OF | F_SOME, MEMBER(spec_secret, command),
     .doc = "A command, run on the host without a shell, whose output is the secret.",
     .example = "[op, read, \"op://vault/pg/password\"]"},
    {"env", .word = &word_env_name, .flags = F_ONE_OF, MEMBER(spec_secret, env),
     .doc = "A variable in the environment of vmsd that holds the secret.", .example = "PG_PASSWORD"},
    {"digest", .word = &word_sha256, .flags = F_DERIVED, NOWHERE, .doc = "Keyed sum of the secret."},
};
TABLE(secret, "secret", .id = "name", .size = sizeof(struct spec_secret), NO_KIND);

static const struct field script_rows[] = {
    {"script", .word = &word_bundle_path, .flags = F_NEED, MEMBER(spec_script, script), .change = PLAN_LIVE,
     .doc = "An executable of the spec directory, run as root in the guest. A bare path means this.",
     .example = "scripts/postgres.sh"},
    {"args", LIST, .word = &word_arg, MEMBER(spec_script, args), .doc = "Its arguments.", .example = "[--verbose]"},
    {"env", ENV, .word = &word_arg, MEMBER(spec_script, env), .doc = "Variables for this script alone.",
     .example = "{VERSION: 15}"},
    {"inputs", LIST, .word = &word_bundle_path, NOWHERE, .change = PLAN_LIVE,
     .doc = "Files and directories of the spec directory on which the script depends: when one of them changes, it "
            "runs again.", .example = "[scripts/lib.sh, files/db]"},
    {"user", .word = &word_user, .flags = F_SPARSE, MEMBER(spec_script, user), .computed = "root",
     .doc = "User of the guest as which it runs.", .example = "git"},
    {"timeout", .word = &word_duration, .otherwise = "30m", .min = 1 * SECONDS, .max = 24 * HOURS, .change = PLAN_LIVE,
     MEMBER(spec_script, timeout_ms), .doc = "How long it may take.", .example = "10m"},
    {"digest", .word = &word_sha256, .flags = F_DERIVED | F_SPARSE, MEMBER(spec_script, digest),
     .doc = "Sum of all that decides about running again."},
};
TABLE(script, "script", .bare = "script", .size = sizeof(struct spec_script), NO_KIND);

static const struct field http_rows[] = {
    {"port", .word = &word_port, .otherwise = "80", MEMBER(spec_check, port), .doc = "Port of the guest.",
     .example = "8080"},
    {"path", .word = &word_url_path, .otherwise = "/", MEMBER(spec_check, path), .doc = "Path to ask for.",
     .example = "/health"},
    {"host", .word = &word_url_host, .flags = F_SPARSE, MEMBER(spec_check, host), .computed = "the guest's address",
     .doc = "Host header.", .example = "git.example.org"},
    {"status", .word = &word_count, .min = 100, .max = 599, MEMBER(spec_check, status),
     .computed = "any from 200 to 399", .doc = "Status that is expected.", .example = "200"},
    {"body", .word = &word_text, .min = 1, .max = 256, .flags = F_SPARSE, MEMBER(spec_check, body),
     .computed = "any", .doc = "Text that the body must contain.", .example = "ready"},
};
TABLE(http, "http", .size = sizeof(struct spec_check), NO_KIND);

static const char *check_numbers(const json_t *v)
{
    bool mute = json_object_get(v, "tcp") || json_object_get(v, "units");

    return mute && json_array_size(json_object_get(v, "numbers")) ? "numbers of a check that tells none; expected them with exec or http" : NULL;
}

static const struct field check_rows[] = {
    {"tcp", .word = &word_port, .flags = F_ONE_OF, MEMBER(spec_check, port),
     .doc = "Healthy when the port takes a connection.", .example = "5432"},
    {"http", .sub = &http_table, .flags = F_ONE_OF, .at = 0, .doc = "Healthy when a GET is answered as expected.",
     .example = "{port: 80, path: /, status: 200}"},
    {"exec", LIST, .word = &word_arg, .flags = F_ONE_OF | F_SOME, MEMBER(spec_check, exec),
     .doc = "Healthy when the command succeeds in the guest, run as root, with the environment of an install script.", .example = "[pg_isready, -q]"},
    {"units", .word = &word_true, .flags = F_ONE_OF, .at = 0,
     .doc = "Healthy when no unit of the guest's systemd has failed.", .example = "true"},
    {"numbers", LIST, .word = &word_numbers, .items = 32, MEMBER(spec_check, numbers),
     .doc = "What `exec` prints, or `http` gets, is read as lines `name value`, or as those of Prometheus. Of these names "
            "the numbers are kept and shown, at most 256; a `*` at the end stands for all that begin so, `true` for all. "
            "Whatever they say, the guest is as healthy as without them.", .example = "[queue_length, pg_database_*]"},
    {"every", .word = &word_duration, .otherwise = "10s", .min = 1 * SECONDS, .max = 24 * HOURS,
     MEMBER(spec_check, every_ms), .doc = "Time between two checks.", .example = "30s"},
    {"timeout", .word = &word_duration, .otherwise = "5s", .min = 100, .max = 10 * MINUTES,
     MEMBER(spec_check, timeout_ms), .doc = "A check that takes longer has failed.", .example = "2s"},
    {"failures", .word = &word_count, .otherwise = "3", .min = 1, .max = 100, MEMBER(spec_check, failures),
     .doc = "So many in a row make the guest unhealthy.", .example = "5"},
    {"successes", .word = &word_count, .otherwise = "1", .min = 1, .max = 100, MEMBER(spec_check, successes),
     .doc = "So many in a row make it healthy again.", .example = "2"},
    {"start_period", .word = &word_duration, .otherwise = "60s", .min = 0, .max = 24 * HOURS,
     MEMBER(spec_check, start_period_ms), .doc = "For so long after the start failures do not count.",
     .example = "2m"},
};
TABLE(check, "check", .size = sizeof(struct spec_check), .kind_at = offsetof(struct spec_check, kind), .check = check_numbers);

static const struct field restart_rows[] = {
    {"policy", .word = &word_choice, .otherwise = "always", CHOICES("always", "on-failure", "no"),
     MEMBER(spec_restart, policy), .doc = "When a guest that ended, or is unhealthy, is started again.",
     .example = "on-failure"},
    {"backoff", .word = &word_backoff, .otherwise = "1s..1m", MEMBER(spec_restart, backoff_min_ms),
     .doc = "Pause before the first restart, of a guest that ended or is unhealthy, doubled each time up to the second value. Who is healthy again by then is left alone.", .example = "2s..5m"},
    {"give_up", .word = &word_give_up, .otherwise = "10/10m", MEMBER(spec_restart, give_up),
     .doc = "After so many restarts in that time the guest stays down, as failed.", .example = "5/1h"},
};
TABLE(restart, "restart", .size = sizeof(struct spec_restart), NO_KIND);

static const struct field io_rows[] = {
    {"read", .word = &word_size, .min = 64 * KB, .max = 1 * TB, MEMBER(spec_limits, io_read),
     .doc = "Bytes read per second.", .computed = "none", .example = "50M"},
    {"write", .word = &word_size, .min = 64 * KB, .max = 1 * TB, MEMBER(spec_limits, io_write),
     .doc = "Bytes written per second.", .computed = "none", .example = "20M"},
};
TABLE(io, "io", .size = sizeof(struct spec_limits), NO_KIND);

static const struct field rate_rows[] = {
    {"rx", .word = &word_size, .min = 16 * KB, .max = 1 * TB, MEMBER(spec_limits, net_rx),
     .doc = "Bytes that the guest receives per second.", .computed = "none", .example = "10M"},
    {"tx", .word = &word_size, .min = 16 * KB, .max = 1 * TB, MEMBER(spec_limits, net_tx),
     .doc = "Bytes that the guest sends per second.", .computed = "none", .example = "10M"},
};
TABLE(rate, "net", .size = sizeof(struct spec_limits), NO_KIND);

static const struct field limits_rows[] = {
    {"pids", .word = &word_count, .kinds = K_CONTAINER | K_DEFAULTS, .min = 16, .max = 4194304, MEMBER(spec_limits, pids), .computed = "none",
     .doc = "Processes and threads at the same time.", .example = "500"},
    {"io", .sub = &io_table, .flags = F_MERGE, .at = 0, .doc = "Speed of its disks.", .example = "{read: 50M}"},
    {"net", .sub = &rate_table, .flags = F_MERGE, .at = 0, .doc = "Speed of its network.", .example = "{tx: 10M}"},
    {"cpu_weight", .word = &word_count, .computed = "that of all others, 100", .min = 1, .max = 10000,
     MEMBER(spec_limits, cpu_weight),
     .doc = "Share of the CPUs where guests compete for them.", .example = "50"},
};
TABLE(limits, "limits", .size = sizeof(struct spec_limits), NO_KIND);

static const struct field security_rows[] = {
    {"read_only_root", .word = &word_bool, .otherwise = "false", MEMBER(spec_security, read_only_root),
     .doc = "Whether the root file system is read-only once install scripts are done and `files` written. For a change of those the guest is started twice: with a writable root, and without. Volumes, `/run` and `/tmp` stay writable.", .example = "true"},
    {"capabilities", LIST, .word = &word_capability, .kinds = K_CONTAINER | K_DEFAULTS, .items = 41, .choices = capability_names,
     MEMBER(spec_security, capabilities),
     .doc = "Capabilities beyond those that every guest has.", .example = "[CAP_NET_ADMIN]"},
    {"no_new_privileges", .word = &word_bool, .kinds = K_CONTAINER | K_DEFAULTS, .otherwise = "true", MEMBER(spec_security, no_new_privileges),
     .doc = "Whether set-user-ID programs (sudo, su) give nothing. `false` lets them work.", .example = "false"},
};
TABLE(security, "security", .size = sizeof(struct spec_security), NO_KIND);

static const struct field for_rows[] = {
    {"kind", .word = &word_choice, CHOICES("container", "microvm"), NOWHERE, .computed = "both",
     .doc = "Guests of this kind only.", .example = "microvm"},
    {"tags", LIST, .word = &word_tag, NOWHERE, .doc = "Guests with at least one of these tags only.",
     .example = "[web]"},
};
TABLE(for, "for", .size = 0, NO_KIND);

static const struct field guest_rows[] = {
    {"kind", .word = &word_choice, .flags = F_NEED, .choices = kind_names, .change = PLAN_REBUILD,
     MEMBER(guest_spec, kind), .doc = "What this document describes.", .example = "container"},
    {"name", .word = &word_label, .flags = F_NEED, MEMBER(guest_spec, name),
     .doc = "Name of the guest, unique on the host; also its host name. Optional in `defaults`.", .example = "db"},
    {"for", .sub = &for_table, .kinds = K_DEFAULTS, NOWHERE, .computed = "every guest",
     .doc = "Limits which guests these defaults are for.",
     .example = "{kind: microvm, tags: [web]}"},
    {"tags", LIST, .word = &word_tag, .items = 64, .change = PLAN_LIVE, MEMBER(guest_spec, tags),
     .doc = "Words by which commands, `allow` and `defaults` select guests.", .example = "[core, data]"},
    {"domains", LIST, .word = &word_domain, .items = 64, .change = PLAN_LIVE, MEMBER(guest_spec, domains),
     .doc = "Further names under which other guests find this one.", .example = "[git.example.org]"},
    {"depends_on", LIST, .word = &word_label, .change = PLAN_LIVE, MEMBER(guest_spec, depends_on),
     .doc = "Guests that must be healthy before this one starts. When one of them ends, is unhealthy or restarts later, this one runs on.", .example = "[dns, db]"},
    {"image", .sub = &image_table, .flags = F_NEED, .change = PLAN_REBUILD, MEMBER(guest_spec, image),
     .doc = "What the guest's root file system starts from.", .example = "debian-12"},
    {"cpus", .word = &word_number, .kinds = K_CONTAINER | K_DEFAULTS, .otherwise = "1", .min = 0.05, .max = 1024,
     .change = PLAN_LIVE, MEMBER(guest_spec, cpus), .doc = "CPU time, in CPUs.", .example = "0.5"},
    {"cpus", .word = &word_number, .kinds = K_MICROVM, .otherwise = "1", .min = 1, .max = 254, .flags = F_WHOLE | F_RESIZES,
     .change = PLAN_RESTART, MEMBER(guest_spec, cpus), .doc = "Number of virtual CPUs.", .example = "2"},
    {"memory", .word = &word_size, .otherwise = "512M", .min = 16 * MB, .max = 16 * TB, .flags = F_RESIZES,
     .change = PLAN_LIVE, .change_vm = PLAN_RESTART, MEMBER(guest_spec, memory), .doc = "Memory that the guest may use.", .example = "1G"},
    {"disk", .word = &word_size, .otherwise = "8G", .min = 64 * MB, .max = 8 * TB, .flags = F_GROWS,
     .change = PLAN_RESTART, .change_vm = PLAN_LIVE, MEMBER(guest_spec, disk),
     .doc = "Bound of the writable part of the root file system. It may grow, but not shrink.", .example = "16G"},
    {"network", LIST, .sub = &nic_table, .items = 8, .change = PLAN_RESTART, MEMBERS(guest_spec, nics, n_nics),
     .doc = "Networks that the guest is on; the first one has the default route. Without any it has none but `lo`.",
     .example = "{name: services, address: 10.20.0.10}"},
    {"allow", LIST, .sub = &allow_table, .change = PLAN_LIVE, MEMBERS(guest_spec, allow, n_allow),
     .doc = "Who may connect to the guest. Nobody else can.", .example = "[{from: [auth], tcp: [5432]}]"},
    {"ports", LIST, .sub = &port_table, .change = PLAN_LIVE, MEMBERS(guest_spec, ports, n_ports),
     .doc = "Ports of the host that lead to the guest.", .example = "[{host: 8080, guest: 80}]"},
    {"volumes", LIST, .sub = &volume_table, .items = 32, .change = PLAN_RESTART,
     MEMBERS(guest_spec, volumes, n_volumes), .doc = "Data that outlives every rebuild.",
     .example = "[{name: pgdata, target: /var/lib/postgresql}]"},
    {"binds", LIST, .sub = &bind_table, .items = 32, .change = PLAN_RESTART, MEMBERS(guest_spec, binds, n_binds),
     .doc = "Files and directories of the host that the guest sees.",
     .example = "[{source: ./files/db, target: /srv/files, read_only: true}]"},
    {"env", ENV, .word = &word_arg, .flags = F_MERGE, .change = PLAN_LIVE, MEMBER(guest_spec, env),
     .doc = "Environment of install scripts and of commands in the guest. Numbers and booleans count as written. "
            "Secrets do not belong here.", .example = "{LANG: C.UTF-8}"},
    {"files", LIST, .sub = &file_table, .change = PLAN_LIVE, MEMBERS(guest_spec, files, n_files),
     .doc = "Files that are written into the guest.",
     .example = "[{source: files/motd, target: /etc/motd}]"},
    {"secrets", LIST, .sub = &secret_table, .items = 64, .change = PLAN_LIVE,
     MEMBERS(guest_spec, secrets, n_secrets),
     .doc = "Secrets for install scripts and commands, as files in memory, by name in `$CREDENTIALS_DIRECTORY`.",
     .example = "[{name: pg_password, file: /etc/vmsd/secrets/pg_password}]"},
    {"install", LIST, .sub = &script_table, .items = 99, .change = PLAN_SCRIPTS,
     MEMBERS(guest_spec, install, n_install),
     .doc = "Scripts that make the guest what it is, in order. One runs when the guest is new, and when it, its inputs "
            "or a script before it changed.", .example = "[scripts/base.sh, scripts/postgres.sh]"},
    {"health", LIST, .sub = &check_table, .items = 32, .change = PLAN_LIVE, MEMBERS(guest_spec, health, n_health),
     .doc = "Checks besides the one that the agent answers, which is always made.",
     .example = "[{tcp: 5432, every: 5s}, {units: true}]"},
    {"restart", .sub = &restart_table, .flags = F_MERGE, .change = PLAN_LIVE, MEMBER(guest_spec, restart),
     .doc = "What happens when the guest ends or is unhealthy.", .example = "{policy: always, backoff: 1s..1m}"},
    {"limits", .sub = &limits_table, .flags = F_MERGE, .change = PLAN_LIVE, MEMBER(guest_spec, limits),
     .doc = "Bounds besides cpus, memory and disk.", .example = "{pids: 500}"},
    {"security", .sub = &security_table, .flags = F_MERGE, .change = PLAN_RESTART, MEMBER(guest_spec, security),
     .doc = "What the guest may do to itself.", .example = "{capabilities: [CAP_NET_ADMIN]}"},
    {"alerts", .sub = &alerts_table, .flags = F_MERGE, .change = PLAN_LIVE, MEMBER(guest_spec, alerts),
     .doc = "When somebody is to be told of the guest; who that is, a document of kind `host` says.",
     .example = "{unhealthy: 1m, disk: 80%}"},
    {"autostart", .word = &word_bool, .otherwise = "true", .change = PLAN_LIVE, MEMBER(guest_spec, autostart),
     .doc = "Whether the guest is started when it is applied, and with the host.", .example = "false"},
    {"stop_timeout", .word = &word_duration, .otherwise = "30s", .min = 0, .max = 1 * HOURS, .change = PLAN_LIVE,
     MEMBER(guest_spec, stop_timeout_ms), .doc = "Time to shut down before it is killed.", .example = "2m"},
    {"boot_timeout", .word = &word_duration, .otherwise = "90s", .min = 1 * SECONDS, .max = 1 * HOURS,
     .change = PLAN_LIVE, MEMBER(guest_spec, boot_timeout_ms), .doc = "Time to boot before the start has failed.",
     .example = "5m"},
    {"hypervisor", .word = &word_choice, .kinds = K_MICROVM | K_DEFAULTS, .otherwise = "auto",
     CHOICES("auto", "cloud-hypervisor", "qemu"), .change = PLAN_REBUILD, MEMBER(guest_spec, hypervisor),
     .doc = "What runs the guest; `auto` picks what the host can run.", .example = "qemu"},
    {"kernel", .word = &word_host_path, .kinds = K_MICROVM | K_DEFAULTS, .flags = F_SPARSE, .change = PLAN_RESTART,
     MEMBER(guest_spec, kernel), .computed = "vmsd's",
     .doc = "A kernel of your own, bzImage or vmlinux, in a file that root alone can change. It gets no initramfs but the "
            "one that you name, and no modules but those of the image.", .example = "/srv/kernels/vmlinuz"},
    {"initramfs", .word = &word_host_path, .kinds = K_MICROVM | K_DEFAULTS, .flags = F_SPARSE, .change = PLAN_RESTART,
     MEMBER(guest_spec, initramfs), .computed = "vmsd's", .doc = "An initramfs of your own, which finds the root itself.",
     .example = "/srv/kernels/initrd.img"},
    {"cmdline", .word = &word_text, .kinds = K_MICROVM | K_DEFAULTS, .flags = F_SPARSE, .min = 1, .max = 1024,
     .change = PLAN_RESTART, MEMBER(guest_spec, cmdline), .computed = "none",
     .doc = "Words that are added to the kernel's command line.", .example = "quiet panic=1"},
};
const struct table guest_table = {.title = "guest", .rows = guest_rows, .n = ARRAY_LEN(guest_rows),
                                  .size = sizeof(struct guest_spec), NO_KIND};

static const struct field services_rows[] = {
    {"tcp", LIST, .word = &word_ports, MEMBER(network_spec, host_tcp), .doc = "TCP ports and ranges of the host.",
     .example = "[8123]"},
    {"udp", LIST, .word = &word_ports, MEMBER(network_spec, host_udp), .doc = "UDP ports and ranges of the host.",
     .example = "[123]"},
};
TABLE(services, "host_services", .size = sizeof(struct network_spec), NO_KIND);

static const struct field network_rows[] = {
    {"kind", .word = &word_choice, .flags = F_NEED, .choices = kind_names, NOWHERE,
     .doc = "What this document describes.", .example = "network"},
    {"name", .word = &word_label, .flags = F_NEED, MEMBER(network_spec, name),
     .doc = "Name of the network, unique on the host.", .example = "services"},
    {"subnet", .word = &word_cidr4, .flags = F_NEED, .change = PLAN_RESTART, MEMBER(network_spec, subnet),
     .doc = "Its IPv4 addresses. The first one is the host's, as gateway.", .example = "10.20.0.0/24"},
    {"subnet6", .word = &word_cidr6, .flags = F_SPARSE, .change = PLAN_RESTART, MEMBER(network_spec, subnet6),
     .computed = "no IPv6", .doc = "Its IPv6 addresses.", .example = "fd00:20::/64"},
    {"bridge", .word = &word_interface, .flags = F_SPARSE, .change = PLAN_RESTART, MEMBER(network_spec, bridge),
     .computed = "`vms-NAME`", .doc = "Name of its bridge on the host.", .example = "vms-services"},
    {"nat", .word = &word_bool, .otherwise = "true", .change = PLAN_LIVE, MEMBER(network_spec, nat),
     .doc = "Whether guests reach the world outside, under the host's address.", .example = "false"},
    {"dns", LIST, .word = &word_address, .items = 3, .change = PLAN_LIVE, MEMBER(network_spec, dns),
     .computed = "the host's", .doc = "Resolvers that guests ask for names outside.", .example = "[10.20.0.53]"},
    {"domain", .word = &word_domain, .flags = F_SPARSE, .change = PLAN_LIVE, MEMBER(network_spec, domain),
     .computed = "`NAME.internal`", .doc = "Domain of the guests' names.", .example = "lab.internal"},
    {"host_services", .sub = &services_table, .change = PLAN_LIVE, .at = 0,
     .doc = "Ports of the host itself that guests may reach. All others are closed to them.",
     .example = "{tcp: [8123], udp: [123]}"},
};
const struct table network_table = {.title = "network", .rows = network_rows, .n = ARRAY_LEN(network_rows),
                                    .size = sizeof(struct network_spec), NO_KIND};

const char *kind_name(enum kinds one)
{
    for (size_t i = 0; kind_names[i]; i++)
        if (one == 1u << i)
            return kind_names[i];
    return "?";
}

const struct table *table_of(enum kinds one)
{
    return one == K_NETWORK ? &network_table : one == K_HOST ? &host_table : &guest_table;
}

const struct field *table_find(const struct table *t, const char *key, unsigned kind)
{
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->rows[i].key, key) && field_has(&t->rows[i], kind))
            return &t->rows[i];
    return NULL;
}

json_t *field_default(const struct field *f, bool *failed)
{
    struct word_cx cx = {0};
    json_t *v = NULL;

    if (f->shape == ONE && f->otherwise && !(v = f->word->parse(f, f->otherwise, &cx)))
        *failed = true;
    return v;
}
