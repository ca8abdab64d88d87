<?php
// Fills an empty database.
require '/etc/tt-rss/config.php';

// A password that was changed reaches this guest and "db" at the same time; who is first waits for the other.
function database($patience) {
    for (;; sleep(2)) {
        try {
            return new PDO('pgsql:host=' . DB_HOST . ';port=' . DB_PORT . ';dbname=' . DB_NAME, DB_USER, DB_PASS);
        } catch (PDOException $e) {
            if (($patience -= 2) < 0)
                throw $e;
        }
    }
}

$db = database(300);
if (!$db->query("select to_regclass('ttrss_version')")->fetchColumn())
    $db->exec(file_get_contents('/usr/share/tt-rss/schema/ttrss_schema_pgsql.sql'));   // one transaction
