import type { Server } from 'node:http';
import type { Log } from '../log.ts';
import { serveHealth, type Health } from './health.ts';

/** Where health is served; the same values compare equal as JSON. */
export interface HealthSettings {
  readonly enabled: boolean;
  readonly host: string;
  readonly port: number;
}

/** The health endpoint as the configuration says at any time: it moves or stops when the settings change. */
export class HealthServer implements AsyncDisposable {
  readonly #health: Health;
  readonly #log: Log;
  #settings: HealthSettings | undefined;
  #server: Server | undefined;
  #failure: string | undefined;
  #work: Promise<void> = Promise.resolve();

  constructor(health: Health, log: Log) {
    this.#health = health;
    this.#log = log;
  }

  /** Why it isn't served although it should be. */
  get failure(): string | undefined {
    return this.#failure;
  }

  configure(settings: HealthSettings): Promise<void> {
    this.#work = this.#work.then(() => this.#apply(settings));
    return this.#work;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.configure({ enabled: false, host: '', port: 0 });
  }

  async #apply(settings: HealthSettings): Promise<void> {
    if (JSON.stringify(settings) === JSON.stringify(this.#settings) && this.#failure === undefined) return;
    this.#settings = settings;
    this.#failure = undefined;
    const old = this.#server;
    this.#server = undefined;
    if (old !== undefined) {
      old.closeAllConnections();
      await new Promise((resolve) => {
        old.close(resolve);
      });
    }
    if (!settings.enabled) return;
    try {
      this.#server = await serveHealth(this.#health, settings.host, settings.port);
      this.#server.on('error', (error) => this.#log.error({ err: error }, 'health server could not take a call'));
    } catch (error) {
      this.#failure = error instanceof Error ? error.message : String(error);
      this.#log.error(this.#failure);
    }
  }
}
