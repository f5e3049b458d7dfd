import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { FakeClock } from '#api/fake-clock.ts';
import { FakeApiServer, type FakeProtocol } from './fake-api-server-for-tests.ts';
import { openKubernetesDatastore, type KubernetesDatastore } from './kubernetes-datastore.ts';

/** The token of these tests, which must not be found in anything that is logged or thrown. */
export const secret = 'sEcReT-token-0123456789';

/** A datastore on a fake API server, and all that it has said. */
export class Bed implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), `tt${process.pid}-kube-`));
  readonly kubeconfig = join(this.dir, 'kubeconfig');
  readonly server: FakeApiServer;
  readonly clock: FakeClock;
  readonly log: string[] = [];
  /** Everything that was thrown, as deep as it goes. */
  readonly thrown: string[] = [];
  readonly #stores: KubernetesDatastore[] = [];

  private constructor(server: FakeApiServer, clock: FakeClock) {
    this.server = server;
    this.clock = clock;
  }

  /** `clock`: by default one on which pauses pass by themselves. */
  static async start(protocol?: FakeProtocol, clock = new FakeClock({ sleepsPass: true })): Promise<Bed> {
    return new Bed(await FakeApiServer.start(protocol), clock);
  }

  async open(user: Readonly<Record<string, unknown>> = { token: secret }, url?: string): Promise<KubernetesDatastore> {
    return this.openWith(this.server.kubeconfig(user, url));
  }

  /** With this kubeconfig. */
  async openWith(kubeconfig: string): Promise<KubernetesDatastore> {
    writeFileSync(this.kubeconfig, kubeconfig);
    const store = await openKubernetesDatastore({
      kubeconfig: this.kubeconfig,
      clock: this.clock,
      log: (level, message) => this.log.push(`${level} ${message}`),
    });
    this.#stores.push(store);
    return store;
  }

  /** The error's code and message; the error itself goes among those that are searched for secrets. */
  async failure(attempt: Promise<unknown>): Promise<{ readonly code: string; readonly message: string }> {
    try {
      await attempt;
    } catch (error) {
      this.thrown.push(inspect(error, { depth: 10, showHidden: true }));
      return error as { readonly code: string; readonly message: string };
    }
    throw new Error('it did not fail');
  }

  /** All that anybody could read. */
  get said(): string {
    return [...this.log, ...this.thrown].join('\n');
  }

  /** Lets time pass, a second at a time, with what happens meanwhile: for clocks on which pauses don't pass by themselves. */
  async pass(seconds: number, isEnough: () => boolean = () => false): Promise<void> {
    for (let second = 0; second < seconds && !isEnough(); second++) {
      this.clock.advance(1_000);
      for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
      // What goes through the kernel may need a moment there.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const store of this.#stores) await store[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** A Namespace with labels. */
export function rawNamespace(name: string, resourceVersion: string, labels: Readonly<Record<string, string>> = {}) {
  return { apiVersion: 'v1', kind: 'Namespace', metadata: { name, uid: `uid-${name}`, resourceVersion, labels } };
}

/** A page of a listing. */
export function page(items: readonly object[], resourceVersion: string, next?: string): object {
  return { kind: 'List', metadata: { resourceVersion, ...(next === undefined ? {} : { continue: next }) }, items };
}
