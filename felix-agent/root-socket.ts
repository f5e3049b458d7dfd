import { chmodSync, rmSync } from 'node:fs';
import type { Server } from 'node:net';
import type { Log } from './log.ts';

/**
 * A unix socket that only root may use (mode 0600; its directory is 0700). A file left by an earlier agent is replaced: the caller holds the
 * directory's lock.
 */
export class RootSocket {
  readonly #server: Server;
  readonly #path: string;
  readonly #log: Log;
  #listening: Promise<void> | undefined;
  #isClosed = false;

  constructor(server: Server, path: string, log: Log) {
    this.#server = server;
    this.#path = path;
    this.#log = log;
  }

  /** Rejects with the system's error, and when it was closed before; what fails later (no file descriptor left for a caller) is logged. */
  async listen(): Promise<void> {
    if (this.#isClosed) throw new Error(`${this.#path} is closed: the agent is stopping`);
    this.#listening = this.#listen();
    await this.#listening;
  }

  /** Takes no new connections, waits for the open ones, and removes the file; for ever, also when `listen` is under way or comes later. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#listening?.catch(() => {}); // Told to whoever listens.
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    rmSync(this.#path, { force: true });
  }

  async #listen(): Promise<void> {
    const server = this.#server;
    rmSync(this.#path, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(this.#path, resolve);
    });
    server
      .removeAllListeners('error')
      .on('error', (error) => this.#log.error({ path: this.#path, err: error }, 'could not take a call'));
    chmodSync(this.#path, 0o600);
  }
}
