/* What a spec can say of alerts: of a guest, and of the host, which tells people. */
#include "rows.h"

static const struct field alerts_rows[] = {
    {"unhealthy", .word = &word_duration, .otherwise = "5m", .min = 0, .max = 7 * 24 * HOURS,
     MEMBER(spec_alerts, unhealthy_ms),
     .doc = "It was unhealthy, or down against its wish, for so long. `0s`: never.", .example = "1m"},
    {"restarts", .word = &word_count, .otherwise = "5", .min = 0, .max = 1000, MEMBER(spec_alerts, restarts),
     .doc = "It was started again so many times in a row, and never ran for 10 minutes; or vmsd has given it up. 0: never.",
     .example = "3"},
    {"memory", .word = &word_percent, .otherwise = "95%", .min = 0, .max = 100, MEMBER(spec_alerts, memory),
     .doc = "It uses that much of its memory, what the kernel can take back (its caches) not counted. `0%`: never.",
     .example = "90%"},
    {"memory_for", .word = &word_duration, .otherwise = "5m", .min = 0, .max = 24 * HOURS,
     MEMBER(spec_alerts, memory_for_ms), .doc = "And that for so long.", .example = "30m"},
    {"disk", .word = &word_percent, .otherwise = "90%", .min = 0, .max = 100, MEMBER(spec_alerts, disk),
     .doc = "Its root or one of its volumes is that full. `0%`: never.", .example = "80%"},
    {"growth", .word = &word_size, .otherwise = "0", .min = 0, .max = 8 * TB, MEMBER(spec_alerts, growth),
     .doc = "Its root or one of its volumes grew by more than that within a day. `0`: never.", .example = "2G"},
    {"applied", .word = &word_duration, .otherwise = "0s", .min = 0, .max = 3650 * 24 * HOURS,
     MEMBER(spec_alerts, applied_ms), .doc = "It was applied longer ago than that. `0s`: never.", .example = "30d"},
};
const struct table alerts_table = {.title = "alerts", .rows = alerts_rows, .n = ARRAY_LEN(alerts_rows),
                                   .size = sizeof(struct spec_alerts), NO_KIND};

static const struct field notify_rows[] = {
    {"command", LIST, .word = &word_arg, .flags = F_ONE_OF | F_SOME, MEMBER(spec_notify, command),
     .doc = "A program of the host, run as root. It gets the alert as JSON on standard input, and in variables "
            "`VMS_ALERT_*`; with another status than 0 it is tried again.", .example = "[/usr/local/bin/page, ops]"},
    {"webhook", .word = &word_url, .flags = F_ONE_OF, .max = 2048, MEMBER(spec_notify, webhook),
     .doc = "A URL that the alert is POSTed to, as JSON. One that is a secret belongs in `webhook_file`.",
     .example = "https://hooks.example.org/vmsd"},
    {"webhook_file", .word = &word_host_path, .flags = F_ONE_OF, MEMBER(spec_notify, webhook_file),
     .doc = "A file of the host, read by vmsd each time, with such a URL in its first line.",
     .example = "/etc/vmsd/secrets/hook"},
    {"mail", .word = &word_mail, .flags = F_ONE_OF, MEMBER(spec_notify, mail),
     .doc = "An address that gets mail, by the host's sendmail.", .example = "ops@example.org"},
    {"sendmail", .word = &word_host_path, .otherwise = "/usr/sbin/sendmail", MEMBER(spec_notify, sendmail),
     .doc = "The program that takes mail, with `-t -i`.", .example = "/usr/bin/msmtp"},
    {"timeout", .word = &word_duration, .otherwise = "30s", .min = 1 * SECONDS, .max = 10 * MINUTES,
     MEMBER(spec_notify, timeout_ms), .doc = "What takes longer has failed, and is tried again.", .example = "1m"},
};
TABLE(notify, "notify", .bare = "mail", .size = sizeof(struct spec_notify), .kind_at = offsetof(struct spec_notify, kind));

static const struct field path_rows[] = {
    {"path", .word = &word_host_path, .flags = F_NEED, MEMBER(spec_path, path),
     .doc = "A directory; its file system is looked at, which may be one of another host.", .example = "/srv"},
    {"full", .word = &word_percent, .otherwise = "0%", .min = 0, .max = 100, MEMBER(spec_path, full),
     .doc = "That much of it is in use. `0%`: never.", .example = "80%"},
    {"growth", .word = &word_size, .otherwise = "0", .min = 0, .max = 8192 * TB, MEMBER(spec_path, growth),
     .doc = "Its use grew by more than that within a day. `0`: never.", .example = "20G"},
};
TABLE(path, "path", .size = sizeof(struct spec_path), NO_KIND);

static const struct field watch_rows[] = {
    {"full", .word = &word_percent, .otherwise = "90%", .min = 0, .max = 100, MEMBER(host_spec, full),
     .doc = "So much of a local file system is in use, of its space or of its files. `0%`: never.", .example = "80%"},
    {"critical", .word = &word_percent, .otherwise = "95%", .min = 0, .max = 100, MEMBER(host_spec, critical),
     .doc = "So much is a critical alert. `0%`: never.", .example = "98%"},
    {"paths", LIST, .sub = &path_table, .items = 64, MEMBERS(host_spec, paths, n_paths),
     .doc = "Further directories, each with bounds of its own.", .example = "[{path: /srv, full: 80%, growth: 20G}]"},
    {"drives", .word = &word_bool, .otherwise = "true", MEMBER(host_spec, drives),
     .doc = "Whether arrays (md, btrfs, ZFS) and drives (SMART) are asked how they are, every hour.", .example = "false"},
    {"remind", .word = &word_duration, .otherwise = "0s", .min = 0, .max = 365 * 24 * HOURS, MEMBER(host_spec, remind_ms),
     .doc = "What goes on is told again after so long. `0s`: never.", .example = "1d"},
    {"recover", .word = &word_duration, .otherwise = "2m", .min = 0, .max = 24 * HOURS, MEMBER(host_spec, recover_ms),
     .doc = "An alert is over when all was well for so long.", .example = "10m"},
};
TABLE(watch, "host-alerts", .size = sizeof(struct host_spec), NO_KIND);

static const struct field host_rows[] = {
    {"kind", .word = &word_choice, .flags = F_NEED, .choices = kind_names, NOWHERE,
     .doc = "What this document describes. There is at most one of this kind.", .example = "host"},
    {"notify", LIST, .sub = &notify_table, .items = 16, MEMBERS(host_spec, notify, n_notify),
     .doc = "Who is told of alerts, each way by itself. Nobody, unless it is said here; `vmctl alerts` shows them anyway.",
     .example = "[{mail: ops@example.org}]"},
    {"alerts", .sub = &watch_table, .at = 0, .doc = "When somebody is to be told of the host.", .example = "{full: 85%, remind: 1d}"},
};
const struct table host_table = {.title = "host", .rows = host_rows, .n = ARRAY_LEN(host_rows),
                                 .size = sizeof(struct host_spec), NO_KIND};
