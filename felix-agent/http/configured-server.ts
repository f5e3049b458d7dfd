import { createServer, type RequestListener, type Server } from 'node:http';
import { systemClock, type Clock } from '#api/clock.ts';
import type { Log } from '../log.ts';

/** Pause before an address that could not be taken is tried again, in ms. */
const retryMs = 5_000;

/** Where something is served; the same values compare equal as JSON. */
export interface ListenSettings {
  readonly enabled: boolean;
  readonly host: string;
  readonly port: number;
}

/** What is served, and how messages call it. */
export interface Service {
  /** `health server`. */
  readonly name: string;
  /** The settings to change when its address can't be taken: `healthPort or healthHost`. */
  readonly settings: string;
  readonly answer: RequestListener;
}

/** An HTTP endpoint as the configuration says at any time: it moves or stops when the settings change. An address that somebody else has is tried again. */
export class ConfiguredServer implements AsyncDisposable {
  readonly #service: Service;
  readonly #log: Log;
  readonly #clock: Clock;
  #retry: Disposable | undefined;
  #settings: ListenSettings | undefined;
  #server: Server | undefined;
  #failure: string | undefined;
  #work: Promise<void> = Promise.resolve();

  constructor(service: Service, log: Log, clock: Clock = systemClock) {
    this.#service = service;
    this.#log = log;
    this.#clock = clock;
  }

  /** Why it isn't served although it should be. */
  get failure(): string | undefined {
    return this.#failure;
  }

  configure(settings: ListenSettings): Promise<void> {
    this.#work = this.#work.then(() => this.#apply(settings));
    return this.#work;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.configure({ enabled: false, host: '', port: 0 });
  }

  async #apply(settings: ListenSettings): Promise<void> {
    if (JSON.stringify(settings) === JSON.stringify(this.#settings) && this.#failure === undefined) return;
    const before = this.#failure;
    this.#retry?.[Symbol.dispose]();
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
      this.#server = await this.#listen(settings);
      this.#server.on('error', (error) =>
        this.#log.error({ err: error }, `${this.#service.name} could not take a call`),
      );
    } catch (error) {
      this.#failure = error instanceof Error ? error.message : String(error);
      if (this.#failure !== before) this.#log.error(this.#failure);
      this.#retry = this.#clock.after(retryMs, () => this.#tryAgain());
    }
  }

  /** Unless other settings have come first. */
  #tryAgain(): void {
    this.#work = this.#work.then(async () => {
      if (this.#failure === undefined || this.#settings === undefined) return;
      await this.#apply(this.#settings);
      if (this.#failure === undefined) this.#log.info(`${this.#service.name}: its address is free now`);
    });
  }

  /** Rejects when the address can't be taken, naming it. An empty host is every address. */
  async #listen({ host, port }: ListenSettings): Promise<Server> {
    const { name, settings, answer } = this.#service;
    const server = createServer(answer);
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        const place = `${host === '' ? 'every address' : host}:${port}`;
        reject(new Error(`${name} can't listen on ${place}: ${error.message}; set ${settings}`, { cause: error }));
      });
      if (host === '') server.listen(port, resolve);
      else server.listen(port, host, resolve);
    });
    server.unref();
    return server;
  }
}
