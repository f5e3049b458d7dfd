import { createServer } from 'node:net';

/**
 * Free TCP ports of the loopback address, at the time of asking; below those that the kernel gives to who wants any: while a server is away, its port
 * must not become somebody else's. Processes begin at different ones.
 */
export async function freePorts(count: number): Promise<readonly number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = 10_000 + (nextPort++ % 20_000);
    if (await isFree(port)) ports.push(port);
  }
  return ports;
}
/** Pids of workers are neighbours. */
let nextPort = process.pid * 1009;

/** One of them. */
export async function freePort(): Promise<number> {
  const [port = 0] = await freePorts(1);
  return port;
}

function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
