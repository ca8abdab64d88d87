-- Local accounts, encrypted, no talk with other servers.
modules_enabled = {
    "roster", "saslauth", "tls", "disco", "carbons", "mam", "smacks", "pep", "blocklist", "bookmarks",
    "vcard4", "vcard_legacy", "csi_simple", "private", "ping", "time", "version", "posix",
}
modules_disabled = { "s2s" }
allow_registration = false
c2s_require_encryption = true
authentication = "internal_hashed"
archive_expires_after = "4w"
pidfile = "/run/prosody/prosody.pid"
log = { info = "*stdout" }            -- the journal

VirtualHost "@DOMAIN@"
    ssl = {
        certificate = "/var/lib/prosody/tls/@DOMAIN@.crt",
        key = "/var/lib/prosody/tls/@DOMAIN@.key",
    }
