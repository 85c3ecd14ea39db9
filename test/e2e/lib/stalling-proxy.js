import { connect, createServer } from 'node:net';

/**
 * A TCP proxy on 127.0.0.1 in front of httpd: a connection that has sent `bytes` falls silent
 * there, as a client does whose network is gone; the answer still comes through. This happens
 * `times` times.
 */
export async function stallingProxy(test, port, bytes, times = 1) {
  const sockets = new Set();
  let stalls = 0;

  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    let sent = 0;
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    upstream.pipe(client);
    client.on('end', () => upstream.end());
    client.on('data', (data) => {
      sent += data.length;
      if (stalls < times && sent >= bytes) {
        stalls += 1;
        client.pause();
        return;
      }
      if (!upstream.write(data)) {
        client.pause();
        upstream.once('drain', () => client.resume());
      }
    });
  });

  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  test.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return { endpoint: `http://127.0.0.1:${server.address().port}/files/`, stalls: () => stalls };
}
