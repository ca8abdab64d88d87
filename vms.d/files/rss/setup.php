<?php
// Fills an empty database, and gives the web user "admin" the password in the secret rss_admin.
require '/etc/tt-rss/config.php';
$password = trim(file_get_contents(getenv('CREDENTIALS_DIRECTORY') . '/rss_admin'));
$db = new PDO('pgsql:host=' . DB_HOST . ';port=' . DB_PORT . ';dbname=' . DB_NAME, DB_USER, DB_PASS);

if (!$db->query("select to_regclass('ttrss_version')")->fetchColumn())
    $db->exec(file_get_contents('/usr/share/tt-rss/schema/ttrss_schema_pgsql.sql'));   // one transaction

$admin = $db->query("select pwd_hash, salt from ttrss_users where login = 'admin'")->fetch();
$hash = fn($salt) => 'MODE2:' . hash('sha256', $salt . $password);
if ($admin['salt'] === '' || !hash_equals($hash($admin['salt']), $admin['pwd_hash'])) {
    $salt = bin2hex(random_bytes(32));
    $db->prepare("update ttrss_users set pwd_hash = ?, salt = ? where login = 'admin'")->execute([$hash($salt), $salt]);
}
