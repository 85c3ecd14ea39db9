<?php
// Only mod_tus can set TUS_HOOK: nobody else gets further.
if (($_SERVER['TUS_HOOK'] ?? '') !== '1') {
    http_response_code(404);
    exit;
}
$call = json_decode(file_get_contents('php://input'), true, 64, JSON_THROW_ON_ERROR);
['Upload' => $upload, 'HTTPRequest' => $request] = $call['Event'];
$answer = new stdClass;
if ($call['Type'] === 'pre-create') {
    $cookies = implode('; ', $request['Header']['Cookie'] ?? []);
    session_id(preg_match('/(?:^|; )PHPSESSID=([\w,-]+)/', $cookies, $found) ? $found[1] : '');
    session_start(['read_and_close' => true, 'use_cookies' => 0, 'use_strict_mode' => 1]);
    $name = preg_replace('/[^\w.-]+/', '_', ltrim($upload['MetaData']['filename'] ?? '', '.'));
    $answer = empty($_SESSION['user']) || $name === ''
        ? ['RejectUpload' => true, 'HTTPResponse' => ['StatusCode' => 403, 'Body' => 'No.']]
        : ['ChangeFileInfo' => ['MetaData' => ['filename' => $name, 'user' => $_SESSION['user']]]];
} elseif ($call['Type'] === 'post-finish') {
    $from = $upload['Storage']['Path'];
    $to = dirname(__DIR__) . "/documents/{$upload['MetaData']['user']}";
    // Told once more, it has been moved already. Where that fails, it is told again later.
    if (is_file($from) && !((is_dir($to) || @mkdir($to, 0770, true))
                            && @rename($from, "$to/{$upload['MetaData']['filename']}"))) {
        http_response_code(500);
    }
}
header('Content-Type: application/json');
echo json_encode($answer);
