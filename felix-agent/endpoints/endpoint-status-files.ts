import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import type { EndpointId } from '#dataplanes/messages.ts';
import type { WorkloadEndpoint } from '#api/v3/workload-endpoint.ts';
import { resolveAgentConfig } from '../config/agent-config.ts';
import type { Log } from '../log.ts';
import { removeIfEmpty } from '../remove-if-empty.ts';
import { endpointId, endpointInfo, workloadName } from './endpoint-info.ts';

/** The directory below endpointStatusPathPrefix. */
export const endpointStatusDirName = 'endpoint-status';

/**
 * A file per endpoint whose policy is in the kernel, as Felix writes them for whoever waits on it: the name is orchestrator, workload and
 * endpoint, each escaped as in a URL's path and joined by a blank (`k8s default%2Fweb eth0`), the content JSON.
 *
 * Our own CNI plugin doesn't need them: its ADD returns when the kernel has the policy. A directory that can't be written is
 * reported in status and breaks nothing.
 */
export class EndpointStatusFiles {
  readonly #recordPath: string;
  readonly #log: Log;
  readonly #files = new Map<string, string>();
  /** Endpoints that could not be programmed at the last try. */
  #failing: ReadonlySet<EndpointId> = new Set();
  /** In the state dir. */
  static readonly recordName = 'endpoint-status-dir';
  #dir: string | undefined;
  /** The directory that the record names, once this process has written it. */
  #recorded: string | undefined;
  #failure: string | undefined;

  /** Where files were written is kept in the state dir, so that a clean-up finds them. */
  constructor(stateDir: string, log: Log) {
    this.#recordPath = join(stateDir, EndpointStatusFiles.recordName);
    this.#log = log;
  }

  /** Why files are not written although they should be. */
  get failure(): string | undefined {
    return this.#failure;
  }

  /** Where to write; undefined or empty: nowhere. What was written elsewhere moves. */
  configure(prefix: string | undefined): void {
    const dir = prefix === undefined || prefix === '' ? undefined : join(prefix, endpointStatusDirName);
    if (dir === this.#dir) return;
    if (this.#dir !== undefined) this.#attempt(this.#dir, removeStatusDir);
    this.#dir = dir;
    this.#failure = undefined;
    for (const [name, text] of this.#files) this.#write(name, text);
  }

  /** These are all endpoints, programmed but for those that fail: what a former agent left of others goes. */
  reset(endpoints: Iterable<WorkloadEndpoint>, failing: ReadonlySet<EndpointId>): void {
    this.#failing = failing;
    this.#files.clear();
    for (const endpoint of endpoints) if (!failing.has(endpointId(endpoint))) this.programmed(endpoint);
    if (this.#dir === undefined) return;
    this.#attempt(this.#dir, (dir) => {
      for (const name of namesIn(dir)) if (!this.#files.has(name)) rmSync(join(dir, name), { force: true });
    });
  }

  /** After a cycle: the file of one that fails now goes, that of one that is programmed again comes back. */
  follow(endpoints: () => Iterable<WorkloadEndpoint>, failing: ReadonlySet<EndpointId>): void {
    const before = this.#failing;
    this.#failing = failing;
    if (before.size + failing.size === 0) return;
    for (const endpoint of endpoints()) {
      const id = endpointId(endpoint);
      if (before.has(id) === failing.has(id)) continue;
      if (failing.has(id)) this.removed(endpoint);
      else this.programmed(endpoint);
    }
  }

  programmed(endpoint: WorkloadEndpoint): void {
    const { ifaceName, mac, ipv4Nets, ipv6Nets } = endpointInfo(endpoint);
    const text = JSON.stringify({ ifaceName, mac, ipv4Nets, ipv6Nets, bgpPeerName: '' });
    const name = statusFileName(endpoint);
    this.#files.set(name, text);
    this.#write(name, text);
  }

  removed(endpoint: WorkloadEndpoint): void {
    const name = statusFileName(endpoint);
    this.#files.delete(name);
    if (this.#dir !== undefined) this.#attempt(this.#dir, (dir) => rmSync(join(dir, name), { force: true }));
  }

  #write(name: string, text: string): void {
    if (this.#dir === undefined) return;
    this.#attempt(this.#dir, (dir) => {
      this.#prepare(dir);
      const temporary = join(dir, `.${name}.tmp`);
      writeFileSync(temporary, text);
      renameSync(temporary, join(dir, name));
    });
  }

  /** Recorded also where the directory is there already: the files in it are ours. */
  #prepare(dir: string): void {
    if (this.#recorded !== dir) writeFileSync(this.#recordPath, dir);
    this.#recorded = dir;
    if (!existsSync(dir)) mkdirSync(dir, { recursive: true });
  }

  #attempt(dir: string, work: (dir: string) => void): void {
    try {
      work(dir);
      this.#failure = undefined;
    } catch (error) {
      const failure = `endpoint status files in ${dir}: ${(error as Error).message}; set endpointStatusPathPrefix`;
      if (failure !== this.#failure) this.#log.error(failure);
      this.#failure = failure;
    }
  }
}

const defaultPrefix = resolveAgentConfig({}, undefined, undefined).settings.endpointStatusPathPrefix;

/** For a clean-up: removes what any agent with this state dir has written, and the record of it. */
export function removeEndpointStatusFiles(stateDir: string): void {
  const recordPath = join(stateDir, EndpointStatusFiles.recordName);
  if (!existsSync(recordPath)) return;
  const dir = readFileSync(recordPath, 'utf8');
  removeStatusDir(dir);
  // The default's parent is made for it alone, by us or by a kubelet; anybody else's may be somebody's though it is empty.
  if (dirname(dir) === defaultPrefix) removeIfEmpty(dirname(dir));
  rmSync(recordPath);
}

/** The directory with its files, and nothing above it. */
function removeStatusDir(dir: string): void {
  for (const name of namesIn(dir)) rmSync(join(dir, name), { force: true });
  if (existsSync(dir)) rmdirSync(dir);
}

function namesIn(dir: string): readonly string[] {
  return existsSync(dir) ? readdirSync(dir) : [];
}

function statusFileName(endpoint: WorkloadEndpoint): string {
  const { orchestrator, endpoint: name } = endpoint.spec;
  return [orchestrator, workloadName(endpoint), name].map(encodeURIComponent).join(' ');
}
