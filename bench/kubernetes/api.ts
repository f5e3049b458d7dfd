import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { pathOf, type ApiObject } from './objects.ts';

const program = fileURLToPath(new URL('api-process.ts', import.meta.url));

/** One request to the API server. */
export interface ApiRequest {
  readonly method: 'GET' | 'POST' | 'PATCH' | 'PUT' | 'DELETE';
  readonly path: string;
  readonly body?: unknown;
  /** Of the body; JSON if absent. */
  readonly type?: string;
}

/** When a request was sent and answered, by CLOCK_MONOTONIC. */
export interface Timed {
  readonly sentNs: number;
  readonly answeredNs: number;
}

/** Of requests at a steady rate. */
export interface Paced {
  readonly seconds: number;
  readonly answerMs: readonly number[];
}

/** What the process is asked. */
export type Call = { readonly id: number } & (
  | { readonly what: 'ask'; readonly request: ApiRequest }
  | { readonly what: 'all'; readonly chains: readonly (readonly ApiRequest[])[]; readonly width: number }
  | { readonly what: 'paced'; readonly requests: readonly ApiRequest[]; readonly perSecond: number }
  | { readonly what: 'hear'; readonly path: string }
  | { readonly what: 'crowd'; readonly path: string; readonly count: number }
);

/** What it answers. */
export interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: string;
}

/** An event of a collection that `hear` follows. */
export interface Heard {
  readonly ns: number;
  readonly version: string;
}

/** Chains that are sent in one message to the process. */
const chunk = 500;

type Unnumbered<T> = T extends unknown ? Omit<T, 'id'> : never;

/** A client of the API server in a process of its own, in the API server's namespace. */
export class Api implements Disposable {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #listeners = new Set<(heard: Heard) => void>();
  #last = 0;

  constructor(netnsPath: string, kubeconfig: string) {
    this.#child = spawn(
      'nsenter',
      [`--net=${netnsPath}`, process.execPath, '--disable-warning=ExperimentalWarning', program, kubeconfig],
      { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], serialization: 'advanced' },
    );
    this.#child.on('message', (message: Answer | { readonly heard: Heard }) => {
      if ('heard' in message) {
        for (const listener of this.#listeners) listener(message.heard);
        return;
      }
      const { id, value, error } = message;
      const waiting = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) waiting?.resolve(value);
      else waiting?.reject(new Error(error));
    });
    this.#child.on('exit', () => {
      for (const waiting of this.#waiting.values()) waiting.reject(new Error('the API client has ended'));
    });
  }

  /** One request; anything but success rejects. */
  ask(request: ApiRequest): Promise<Timed & { readonly text: string }> {
    return this.#call({ what: 'ask', request }) as Promise<Timed & { readonly text: string }>;
  }

  /** Many: each chain in its order, `width` chains at a time. */
  async all(chains: readonly (readonly ApiRequest[])[], width = 16): Promise<void> {
    for (let at = 0; at < chains.length; at += chunk) {
      await this.#call({ what: 'all', chains: chains.slice(at, at + chunk), width });
    }
  }

  /** At a steady rate. */
  paced(requests: readonly ApiRequest[], perSecond: number): Promise<Paced> {
    return this.#call({ what: 'paced', requests, perSecond }) as Promise<Paced>;
  }

  /** Watches a collection as barely as one can: the listener is told of each event's time. */
  async hear(path: string, listener: (heard: Heard) => void): Promise<void> {
    this.#listeners.add(listener);
    await this.#call({ what: 'hear', path });
  }

  /** So many more watchers of a collection, each on a connection of its own, until this client is disposed of. */
  async crowd(path: string, count: number): Promise<void> {
    await this.#call({ what: 'crowd', path, count });
  }

  [Symbol.dispose](): void {
    this.#child.kill('SIGKILL');
  }

  #call(call: Unnumbered<Call>): Promise<unknown> {
    const id = ++this.#last;
    const waiting = Promise.withResolvers<unknown>();
    this.#waiting.set(id, waiting);
    this.#child.send({ id, ...call });
    return waiting.promise;
  }
}

export const create = (object: ApiObject): ApiRequest => ({
  method: 'POST',
  path: pathOf(object, 'collection'),
  body: object,
});

export const remove = (object: ApiObject): ApiRequest => ({
  method: 'DELETE',
  path: `${pathOf(object, 'object')}?gracePeriodSeconds=0`,
});

/** A merge patch. */
export const patch = (path: string, change: object): ApiRequest => ({
  method: 'PATCH',
  path,
  body: change,
  type: 'application/merge-patch+json',
});
