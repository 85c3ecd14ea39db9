// An endpoint that believes only what its mod_tus signed. TUS_SECRET=... node hook.mjs 9000
import crypto from 'node:crypto'
import http from 'node:http'

const SECRET = process.env.TUS_SECRET // as TusHookSecret has it
const TOLERANCE = 300 // seconds; both clocks must be right

function isGenuine(headers, body) {
  const id = headers['webhook-id'] ?? ''
  const sent = headers['webhook-timestamp'] ?? ''
  if (!/^\d+$/.test(sent) || Math.abs(Date.now() / 1000 - Number(sent)) > TOLERANCE) return false
  const key = SECRET.startsWith('whsec_') ? Buffer.from(SECRET.slice(6), 'base64') : SECRET
  const hmac = crypto.createHmac('sha256', key).update(`${id}.${sent}.`).update(body)
  const expected = Buffer.from('v1,' + hmac.digest('base64'))
  const got = Buffer.from(headers['webhook-signature'] ?? '')
  return got.length === expected.length && crypto.timingSafeEqual(got, expected)
}

http.createServer(async (request, response) => {
  const chunks = []
  for await (const chunk of request) chunks.push(chunk)
  const body = Buffer.concat(chunks) // as it came: the signature is over these bytes
  if (!isGenuine(request.headers, body)) return response.writeHead(401).end()
  const call = JSON.parse(body)
  console.log(call.Type, call.Event.Upload.ID)
  response.writeHead(200, { 'Content-Type': 'application/json' }).end('{}')
}).listen(Number(process.argv[2]), '127.0.0.1')
