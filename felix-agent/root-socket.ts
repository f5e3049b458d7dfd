import { chmodSync, rmSync } from 'node:fs';
import type { Server } from 'node:net';
import type { Log } from './log.ts';

/**
 * Listens on a unix socket that only root may use (mode 0600; its directory is 0700). A file left by an earlier agent is replaced: the
 * caller holds the directory's lock. Rejects with the system's error; what fails later (no file descriptor left for a caller) is logged.
 */
export async function listenForRoot(server: Server, path: string, log: Log): Promise<void> {
  rmSync(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  server.removeAllListeners('error').on('error', (error) => log.error({ path, err: error }, 'could not take a call'));
  chmodSync(path, 0o600);
}

/** Takes no new connections, waits for the open ones, and removes the file. */
export async function closeRootSocket(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  rmSync(path, { force: true });
}
