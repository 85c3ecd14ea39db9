<?php
// An endpoint that believes only what its mod_tus signed. The secret, as TusHookSecret has it, is
// in the environment; to try it: TUS_SECRET=... php -S 127.0.0.1:9000 hook.php
const TOLERANCE = 300; // seconds; both clocks must be right

function is_genuine(string $secret, string $body): bool
{
    $id = $_SERVER['HTTP_WEBHOOK_ID'] ?? '';
    $sent = $_SERVER['HTTP_WEBHOOK_TIMESTAMP'] ?? '';
    if ($secret === '' || !preg_match('/^\d+\z/', $sent) || abs(time() - (int) $sent) > TOLERANCE) {
        return false;
    }
    $key = str_starts_with($secret, 'whsec_') ? base64_decode(substr($secret, 6)) : $secret;
    $expected = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$sent.$body", $key, true));
    return hash_equals($expected, $_SERVER['HTTP_WEBHOOK_SIGNATURE'] ?? '');
}

ini_set('display_errors', '0'); // else PHP answers 200 to what goes wrong
$body = file_get_contents('php://input');
if (!is_genuine((string) getenv('TUS_SECRET'), $body)) {
    http_response_code(401);
    exit;
}
$call = json_decode($body, true, 64, JSON_THROW_ON_ERROR);
error_log("{$call['Type']} {$call['Event']['Upload']['ID']}");
header('Content-Type: application/json');
echo '{}';
