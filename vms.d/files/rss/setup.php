<?php
// Fills an empty database.
require '/etc/tt-rss/config.php';
$db = new PDO('pgsql:host=' . DB_HOST . ';port=' . DB_PORT . ';dbname=' . DB_NAME, DB_USER, DB_PASS);
if (!$db->query("select to_regclass('ttrss_version')")->fetchColumn())
    $db->exec(file_get_contents('/usr/share/tt-rss/schema/ttrss_schema_pgsql.sql'));   // one transaction
