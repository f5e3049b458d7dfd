import { chmodSync, rmSync } from 'node:fs';
import type { Server } from 'node:net';

/**
 * Listens on a unix socket that only root may use (mode 0600; its directory is 0700). A file left by an earlier agent is replaced: the
 * caller holds the directory's lock. Rejects with the system's error.
 */
export async function listenForRoot(server: Server, path: string): Promise<void> {
  rmSync(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
  chmodSync(path, 0o600);
}

/** Takes no new connections, waits for the open ones, and removes the file. */
export async function closeRootSocket(server: Server, path: string): Promise<void> {
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  rmSync(path, { force: true });
}
