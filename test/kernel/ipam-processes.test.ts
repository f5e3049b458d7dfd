/**
 * Agents' IPAM as real processes over one files datastore, killed with SIGKILL at random moments, among them "reboots" (nothing is live any
 * more). IPAM_SEED=<seed> repeats the order of requests; SOAK_SECONDS runs it longer.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from '@jest/globals';
import { systemClock } from '#api/clock.ts';
import { openFilesDatastore } from '#datastore/files/files-datastore.ts';
import { allocatedToPods, expectNoFindings, expectSoundBlocks, Random, TestFolder } from '#ipam/ipam-for-tests.ts';
import { KernelFileLock } from '#native/flock.ts';
import type { Command, FactsArgument, Reply } from './ipam-process.ts';

const budgetMs = Number(process.env['SOAK_SECONDS'] ?? 6) * 1000;
const seed = Number(process.env['IPAM_SEED'] ?? Date.now() % 1_000_000);

const pools = `
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: { name: v4 }
spec: { cidr: 10.65.0.0/24, blockSize: 28 }
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: { name: v6 }
spec: { cidr: 'fd00:65::/64' }
`;

/** What the runtimes were told: by address its handle. */
class Told {
  readonly byAddress = new Map<string, string>();
  readonly errors: string[] = [];

  given(handle: string, addresses: readonly string[]): void {
    for (const address of addresses) {
      const other = this.byAddress.get(address);
      if (other !== undefined) {
        this.errors.push(`${address} was given to ${handle}, but ${other} has it`);
      }
      this.byAddress.set(address, handle);
    }
  }

  forget(handle: string): void {
    for (const [address, owner] of this.byAddress) {
      if (owner === handle) {
        this.byAddress.delete(address);
      }
    }
  }
}

/** One node and its process of the moment. */
class AgentProcess implements Disposable {
  readonly #name: string;
  readonly #dir: string;
  readonly #journal: string;
  readonly #random: Random;
  readonly #told: Told;
  readonly handles = new Set<string>();
  #child: ChildProcess | undefined;
  #ended: Promise<void> = Promise.resolve();
  readonly #waiting = new Map<number, (reply: Reply | undefined) => void>();
  #id = 0;

  constructor(name: string, dir: string, journal: string, random: Random, told: Told) {
    this.#name = name;
    this.#dir = dir;
    this.#journal = journal;
    this.#random = random;
    this.#told = told;
  }

  async start(facts: FactsArgument): Promise<boolean> {
    const program = join(import.meta.dirname, 'ipam-process.ts');
    const child = spawn(process.execPath, [program, this.#dir, this.#name, this.#journal, JSON.stringify(facts)], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    child.stdin.on('error', () => {}); // It may be killed while it is written to.
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (!text.includes('kept out of use')) {
        this.#told.errors.push(text);
      }
    });
    this.#child = child;
    const ready = new Promise<Reply | undefined>((resolve) => this.#waiting.set(0, resolve));
    const lines = createInterface({ input: child.stdout });
    lines.on('line', (line) => {
      const reply = JSON.parse(line) as Reply;
      this.#waiting.get(reply.id)?.(reply);
      this.#waiting.delete(reply.id);
    });
    // What it wrote before it died is read first.
    this.#ended = Promise.all([
      new Promise((resolve) => child.once('close', resolve)),
      new Promise((resolve) => lines.once('close', resolve)),
    ]).then(() => {
      for (const resolve of this.#waiting.values()) {
        resolve(undefined);
      }
      this.#waiting.clear();
    });
    return (await ready) !== undefined;
  }

  /** Kills the process, and starts another until one is up; the node may have lost all its containers. */
  async restart(options: { readonly isLast?: boolean } = {}): Promise<void> {
    for (;;) {
      this.#child?.kill('SIGKILL');
      await this.#ended;
      const isReboot = options.isLast !== true && this.#random.below(4) === 0;
      if (isReboot) {
        for (const handle of this.handles) {
          this.#told.forget(handle);
        }
        this.handles.clear();
      }
      const knowsOwners = this.#random.below(2) === 0;
      const live = [...this.#told.byAddress]
        .filter(([, handle]) => this.handles.has(handle))
        .map(([address, handle]) => [address, knowsOwners ? { handle } : null] as const);
      const starting = this.start(isReboot ? { live: [], valid: [] } : { live });
      if (options.isLast !== true && this.#random.below(3) === 0) {
        const child = this.#child;
        setTimeout(() => child?.kill('SIGKILL'), this.#random.below(300));
      }
      if (await starting) {
        return;
      }
    }
  }

  /** Undefined: the process died without an answer. */
  ask(
    command: Command extends infer C ? (C extends Command ? Omit<C, 'id'> : never) : never,
  ): Promise<Reply | undefined> {
    const id = ++this.#id;
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve);
      this.#child?.stdin?.write(`${JSON.stringify({ id, ...command })}\n`);
      void this.#ended.then(() => resolve(undefined));
    });
  }

  /** Several requests at once; then, often, death. */
  async round(count: number): Promise<void> {
    const requests = Array.from({ length: 1 + this.#random.below(12) }, (_, i) =>
      this.#request(`net.${this.#name}-${count}-${i}`),
    );
    if (this.#random.below(3) === 0) {
      const child = this.#child;
      setTimeout(() => child?.kill('SIGKILL'), this.#random.below(40));
      await Promise.all([...requests, this.#ended]);
      await this.restart();
    } else {
      await Promise.all(requests);
    }
  }

  async #request(fresh: string): Promise<void> {
    const old = this.#random.pick([...this.handles]);
    if (old !== undefined && this.#random.below(5) < 2) {
      this.handles.delete(old);
      this.#told.forget(old); // From now on it may be given to others.
      await this.ask({ do: 'release', handle: old });
      return;
    }
    const reply = await this.ask({ do: 'assign', handle: fresh, want6: this.#random.below(2) === 0 });
    if (reply?.addresses !== undefined) {
      this.#told.given(fresh, reply.addresses);
      this.handles.add(fresh);
    } else if (reply !== undefined && reply.code !== 'no-free-address') {
      this.#told.errors.push(`${reply.code}: ${reply.message}`);
    }
  }

  /** Garbage collection and a clean shutdown, by a process that lives. */
  async finish(): Promise<void> {
    await this.restart({ isLast: true });
    for (const command of [{ do: 'gc', valid: [...this.handles] }, { do: 'flush' }, { do: 'close' }] as const) {
      expect(await this.ask(command)).not.toHaveProperty('code');
    }
    this.#child?.stdin?.end();
    await this.#ended;
  }

  [Symbol.dispose](): void {
    this.#child?.kill('SIGKILL');
  }
}

test(
  `agents killed at random moments give no address twice, and nothing is left after garbage collection (IPAM_SEED=${seed})`,
  async () => {
    using folder = new TestFolder();
    const dir = join(folder.path, 'datastore');
    mkdirSync(dir);
    writeFileSync(join(dir, 'pools.yaml'), pools);
    const random = new Random(seed);
    const told = new Told();
    using stack = new DisposableStack();
    const agents = ['n1', 'n2', 'n3'].map((name) =>
      stack.use(new AgentProcess(name, dir, folder.journal(name), random, told)),
    );
    await Promise.all(agents.map((agent) => agent.start({ live: [] })));
    const end = Date.now() + budgetMs;
    for (let count = 0; Date.now() < end; count++) {
      await Promise.all(agents.map((agent) => agent.round(count)));
      expect(told.errors).toEqual([]);
    }
    for (const agent of agents) {
      await agent.finish();
    }
    expect(told.errors).toEqual([]);
    await using datastore = await openFilesDatastore({
      dir,
      lock: new KernelFileLock(),
      clock: systemClock,
      log: () => {},
    });
    expect(Object.fromEntries(await allocatedToPods(datastore))).toEqual(Object.fromEntries(told.byAddress));
    await expectSoundBlocks(datastore);
    await expectNoFindings(datastore);
    expect(
      (await datastore.list('IPAMHandle')).items.filter(({ metadata }) => metadata.name.startsWith('tortie-reserve')),
    ).toEqual([]);
  },
  budgetMs + 300_000,
);
