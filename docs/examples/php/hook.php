<?php
ini_set('display_errors', '0'); // else PHP answers 200 to what goes wrong
if (($_SERVER['TUS_HOOK'] ?? '') !== '1') { // only mod_tus can set it: nobody else gets further
    http_response_code(404);
    exit;
}
$call = json_decode(file_get_contents('php://input'), true, 64, JSON_THROW_ON_ERROR);
['Upload' => $upload, 'HTTPRequest' => $request] = $call['Event'];
[$user, $name] = [$upload['MetaData']['user'] ?? '', $upload['MetaData']['filename'] ?? ''];
$is_name = fn ($text) => preg_match('/^[\w-][\w.-]{0,199}\z/', $text);
if ($call['Type'] === 'pre-create') {
    $cookies = implode('; ', $request['Header']['Cookie'] ?? []);
    session_id(preg_match('/(?:^|; )PHPSESSID=([\w,-]+)/', $cookies, $found) ? $found[1] : '');
    session_start(['read_and_close' => true, 'use_cookies' => 0, 'use_strict_mode' => 1]);
    [$user, $name] = [$_SESSION['user'] ?? '', preg_replace('/[^\w.-]+/', '_', ltrim($name, '.'))];
    $answer = $is_name($user) && $is_name($name)
        ? ['ChangeFileInfo' => ['MetaData' => ['filename' => $name, 'user' => "$user"]]]
        : ['RejectUpload' => true, 'HTTPResponse' => ['StatusCode' => 403, 'Body' => 'No.']];
} elseif ($call['Type'] === 'post-finish' && $is_name($user) && $is_name($name)) {
    [$from, $to] = [$upload['Storage']['Path'], dirname(__DIR__) . "/documents/$user"];
    // Elsewhere than in our store: another's .htaccess has us called. Gone: we were told before.
    $is_ours = $from === dirname($_SERVER['SCRIPT_FILENAME']) . "/files/store/{$upload['ID']}";
    if ($is_ours && is_file($from) // what fails now is told again later
        && !((is_dir($to) || @mkdir($to, 0770, true)) && @rename($from, "$to/$name"))) {
        http_response_code(500);
    }
}
header('Content-Type: application/json');
echo json_encode($answer ?? new stdClass);
