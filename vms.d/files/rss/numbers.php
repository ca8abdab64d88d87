<?php
// What check-rss says of the reader, as lines "name value".
require '/etc/tt-rss/config.php';
$db = new PDO('pgsql:host=' . DB_HOST . ';port=' . DB_PORT . ';dbname=' . DB_NAME, DB_USER, DB_PASS);
$row = $db->query('select count(*) as feeds, extract(epoch from max(last_updated)) as feeds_read_timestamp_seconds,
    (select count(*) from ttrss_entries) as articles from ttrss_feeds')->fetch(PDO::FETCH_ASSOC);
foreach ($row as $name => $value)
    if ($value !== null)
        echo "$name $value\n";
