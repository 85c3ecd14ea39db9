// Serves uploads as @tus/server's own documentation shows: tus-node.js PORT DIRECTORY, in a
// directory with node_modules.
import { FileStore } from '@tus/file-store';
import { Server } from '@tus/server';

const [port, directory] = process.argv.slice(2);
const server = new Server({ path: '/files', datastore: new FileStore({ directory }) });
server.listen({ host: '127.0.0.1', port: Number(port) });
