import { setImmediate as turn } from 'node:timers/promises';
import type { Readable } from 'node:stream';
import type { Clock } from '#api/clock.ts';
import { messageOf } from '#api/errors.ts';
import { parseJson } from '#api/sequence.ts';
import { Backoff } from '../backoff.ts';
import { DatastoreError } from '../errors.ts';
import { TransportError, type WireResponse } from './connection.ts';
import type { Credentials, Identity } from './credentials.ts';
import { refusal, statusOf, type Attempt } from './status.ts';
import type { Transport } from './transport.ts';

/** One request to the API. */
export interface Call extends Attempt {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** With its query. */
  readonly path: string;
  readonly body?: string;
  /** Absent: JSON. */
  readonly contentType?: string;
  readonly signal?: AbortSignal;
  /** True if doing it twice is the same as doing it once: then a lost answer, and a server's failure, is no reason to give up. GET always is. */
  readonly repeatable?: boolean;
}

/** What bounds a request: how often it is tried; how long an answer may take, and how long a server may ask us to wait, in ms. */
const limits = { tries: 4, answerMs: 30_000, longestPauseMs: 10_000 };

/** So many requests (watches don't count) are under way at once; the server's other streams on the connection are for watches. */
const concurrency = 50;

/** A try that failed. `again`: what a next one depends on. */
interface Failure {
  readonly error: DatastoreError;
  readonly again: 'yes' | 'if-repeatable' | 'no' | { readonly refused: Identity };
  readonly pauseMs?: number;
}

/**
 * Requests that live with what API servers do: they ask to come back later (429), restart, lose their connection to etcd, refuse a token that
 * has been replaced meanwhile. What may have been done is never done again unless that is harmless.
 */
export class Requests {
  readonly #transport: Transport;
  readonly #credentials: Credentials;
  readonly #clock: Clock;
  readonly #closing: AbortSignal;
  readonly #waiting: (() => void)[] = [];
  #underWay = 0;

  /** `closing`: ends everything. */
  constructor(transport: Transport, credentials: Credentials, clock: Clock, closing: AbortSignal) {
    this.#transport = transport;
    this.#credentials = credentials;
    this.#clock = clock;
    this.#closing = closing;
  }

  /** The answer's JSON, whole numbers exact. Throws `DatastoreError`. */
  json(call: Call): Promise<unknown> {
    return this.read(call, async (body) => parseJson(await textOf(body)));
  }

  /** What `read` makes of the answer; if it throws, the answer was cut short. Throws `DatastoreError`. */
  async read<T>(call: Call, read: (body: Readable) => Promise<T>): Promise<T> {
    while (this.#underWay >= concurrency) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#underWay++;
    try {
      return await this.#tried(call, ({ body }) => read(body));
    } finally {
      this.#underWay--;
      this.#waiting.shift()?.();
    }
  }

  /** The answer as a stream, once the server has begun it; ends when the call's signal aborts. Whoever stops reading destroys it. Throws `DatastoreError`. */
  open(call: Call & { readonly signal: AbortSignal }): Promise<Readable> {
    return this.#tried(call, ({ body }) => Promise.resolve(body));
  }

  async #tried<T>(call: Call, read: (response: WireResponse) => Promise<T>): Promise<T> {
    const isRepeatable = call.repeatable ?? call.method === 'GET';
    const backoff = new Backoff(100, limits.longestPauseMs);
    let isRenewed = false;
    for (let left = limits.tries - 1; ; left--) {
      const outcome = await this.#once(call, read);
      if ('value' in outcome) return outcome.value;
      const { error, again, pauseMs = 0 } = outcome;
      if (left === 0 || this.#closing.aborted || call.signal?.aborted === true) throw error;
      if (typeof again === 'object') {
        const renewal = isRenewed ? { isNew: false } : await this.#renewed(again.refused);
        if (!renewal.isNew) throw this.#explained(error, renewal.why);
        isRenewed = true;
        continue;
      }
      const ms = Math.max(pauseMs, backoff.next());
      if (again === 'no' || (again === 'if-repeatable' && !isRepeatable) || ms > limits.longestPauseMs) throw error;
      await this.#pause(ms, call.signal);
    }
  }

  async #once<T>(call: Call, read: (response: WireResponse) => Promise<T>): Promise<{ readonly value: T } | Failure> {
    const abort = new AbortController();
    const enders = call.signal === undefined ? [this.#closing] : [this.#closing, call.signal];
    const onAbort = () => abort.abort();
    for (const ender of enders) ender.addEventListener('abort', onAbort);
    const release = () => {
      for (const ender of enders) ender.removeEventListener('abort', onAbort);
    };
    if (enders.some(({ aborted }) => aborted)) abort.abort();
    let isLate = false;
    using _limit = this.#clock.after(limits.answerMs, () => {
      isLate = true;
      abort.abort();
    });
    let isOpen = false;
    try {
      const identity = await this.#identity();
      const { method, path, body } = call;
      const headers = {
        accept: 'application/json',
        'user-agent': 'tortie',
        ...(body === undefined ? {} : { 'content-type': call.contentType ?? 'application/json' }),
      };
      const response = await this.#transport.send({ method, path, headers, body, signal: abort.signal }, identity);
      response.body.once('close', release);
      isOpen = true;
      if (response.status < 200 || response.status > 299) return await refused(call, response, identity);
      return { value: await read(response) };
    } catch (error) {
      return this.#unanswered(call, error, isLate);
    } finally {
      if (!isOpen) release();
    }
  }

  /** Without them nothing is sent. */
  async #identity(): Promise<Identity> {
    try {
      return await this.#credentials.identity();
    } catch (error) {
      throw new TransportError('connect', messageOf(error));
    }
  }

  /** Before the answer, or in the middle of it. */
  #unanswered(call: Call, error: unknown, isLate: boolean): Failure {
    // By name: under Jest, errors may come from another realm.
    const stage = error instanceof TransportError ? error.stage : 'sent';
    const why = isLate ? `nothing within ${limits.answerMs / 1000} s` : messageOf(error);
    const doubt = stage === 'sent' && call.method !== 'GET' ? '; it may have been done all the same' : '';
    return {
      error: new DatastoreError(
        'unavailable',
        `${call.verb} ${call.subject}: no answer from the API server ${this.#transport.server}: ${why}${doubt}`,
      ),
      // Who could not connect is told so at once: callers make pauses of their own, and a pod that is being made has no time.
      again: isLate || stage === 'connect' ? 'no' : stage === 'unsent' ? 'yes' : 'if-repeatable',
    };
  }

  /** Whether there are now others than those that were refused: another request may have renewed them already. `why`: what failed at it. */
  async #renewed({ authorization, tls }: Identity): Promise<{ readonly isNew: boolean; readonly why?: string }> {
    const differs = async () => {
      const now = await this.#credentials.identity();
      return now.authorization !== authorization || now.tls.cert !== tls.cert;
    };
    try {
      if (await differs()) return { isNew: true };
      this.#credentials.renew();
      return { isNew: await differs() };
    } catch (error) {
      return { isNew: false, why: `get other credentials: ${messageOf(error)}` };
    }
  }

  /** With what keeps us from having credentials that the server takes. */
  #explained(error: DatastoreError, why?: string): DatastoreError {
    const reasons = [...(why === undefined ? [] : [why]), ...this.#credentials.notTaken];
    return reasons.length === 0 ? error : new DatastoreError(error.code, [error.message, ...reasons].join('; '));
  }

  async #pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
    const either = signal === undefined ? this.#closing : AbortSignal.any([this.#closing, signal]);
    // Aborted: the next try fails at once and says so.
    await this.#clock.sleep(ms, either).catch(() => turn());
  }
}

/** What an API server answers where it serves nothing; all else it says as a Status. */
const unknownPath = '404 page not found';

async function refused(call: Call, response: WireResponse, identity: Identity): Promise<Failure> {
  const { status: http } = response;
  let text = '';
  let status = statusOf(undefined);
  try {
    text = await textOf(response.body);
    status = statusOf(JSON.parse(text));
  } catch {
    // Not an API server's, or cut short: the number says enough.
  }
  if (http === 404 && status.reason === undefined && text.trim() !== unknownPath) {
    // Of somebody between us and the API server: it must not be taken for "there is none".
    const message = `${call.verb} ${call.subject}: HTTP 404 that no API server has said: is there a proxy in between?`;
    return { error: new DatastoreError('unavailable', message), again: 'if-repeatable' };
  }
  const error = refusal(call, http, status);
  const seconds = status.retryAfterSeconds ?? Number(response.retryAfter ?? Number.NaN);
  const pauseMs = Number.isFinite(seconds) ? seconds * 1000 : 0;
  if (http === 401) return { error, again: { refused: identity } };
  if (http === 429) return { error, again: 'yes', pauseMs };
  return { error, again: http >= 500 ? 'if-repeatable' : 'no', pauseMs };
}

async function textOf(body: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of body as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}
