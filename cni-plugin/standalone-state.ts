import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAs } from '#api/kinds.ts';
import { KernelFileLock } from '#native/flock.ts';
import type { EndpointRegistry, LocalEndpoint } from './deps.ts';
import type { KeyedLocks } from './keyed-mutex.ts';

/** This node's endpoints without an agent: one file each. Every call reads anew, since each CNI call is a process of its own. */
export class EndpointFiles implements EndpointRegistry {
  readonly #dir: string;

  constructor(stateDir: string) {
    this.#dir = join(stateDir, 'standalone', 'endpoints');
  }

  get(namespace: string, name: string): LocalEndpoint | undefined {
    return readEndpoint(this.#path(namespace, name));
  }

  list(): readonly LocalEndpoint[] {
    let names: readonly string[];
    try {
      names = readdirSync(this.#dir);
    } catch (error) {
      if (isMissing(error)) return [];
      throw error;
    }
    return names.filter((name) => name.endsWith('.json')).flatMap((name) => readEndpoint(join(this.#dir, name)) ?? []);
  }

  /** Written whole and renamed. */
  async add(endpoint: LocalEndpoint): Promise<void> {
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
    const { namespace, name } = endpoint.endpoint.metadata;
    const path = this.#path(namespace ?? 'default', name);
    writeFileSync(`${path}.${process.pid}`, JSON.stringify(endpoint), { mode: 0o600 });
    renameSync(`${path}.${process.pid}`, path);
  }

  async remove(namespace: string, name: string, containerId: string): Promise<void> {
    if (this.get(namespace, name)?.endpoint.spec.containerID === containerId)
      rmSync(this.#path(namespace, name), { force: true });
  }

  /** Names of objects have up to 253 characters each, a file's name 255. */
  #path(namespace: string, name: string): string {
    return join(this.#dir, `${hash(`${namespace}/${name}`)}.json`);
  }
}

/** The lock between the processes of concurrent CNI calls; the kernel gives a dead one's back. */
export class FileLocks implements KeyedLocks {
  readonly #dir: string;
  readonly #lock = new KernelFileLock();

  constructor(stateDir: string) {
    this.#dir = join(stateDir, 'standalone', 'locks');
  }

  /** Whoever shares the node has it alone here. */
  async acquire(): Promise<Disposable> {
    return { [Symbol.dispose]: () => {} };
  }

  /** One call at a time: the lock knows no sharing. Without an agent, calls would only get in each other's way in IPAM. */
  shareNode(): Promise<Disposable> {
    return this.takeNode();
  }

  takeNode(): Promise<Disposable> {
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
    return this.#lock.acquire(join(this.#dir, 'node.lock'));
  }
}

function readEndpoint(path: string): LocalEndpoint | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
  try {
    const { endpoint, network, ifname, netns } = JSON.parse(text) as Record<keyof LocalEndpoint, unknown>;
    if (typeof network !== 'string' || typeof ifname !== 'string' || typeof netns !== 'string') {
      throw new TypeError('network, ifname and netns must be text');
    }
    return { endpoint: parseAs('WorkloadEndpoint', endpoint).object, network, ifname, netns };
  } catch (error) {
    throw new Error(
      `endpoint file ${path} can't be used: ${(error as Error).message}; remove it, and its device by GC`,
      { cause: error },
    );
  }
}

function isMissing(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOENT';
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 40);
}
