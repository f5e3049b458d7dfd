import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAs } from '#api/kinds.ts';
import type { LocalEndpoint } from '#cni/deps.ts';
import type { Log } from '../log.ts';

/** Of a file's name without its endings. */
const maxNameLength = 240;

/**
 * This node's endpoints on disk, one file each under the state dir: what a restarted agent knows its pods by. A file is written whole
 * and renamed. Not synced to disk: a power failure ends the pods as well, and what the reboot finds without a link is let go.
 */
export class EndpointFiles {
  readonly #dir: string;
  readonly #log: Log;

  constructor(stateDir: string, log: Log) {
    this.#dir = join(stateDir, 'endpoints');
    this.#log = log;
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
  }

  /** All that can be read; a file that can't is reported, set aside (`.broken`) and left out. */
  load(): readonly LocalEndpoint[] {
    const endpoints: LocalEndpoint[] = [];
    for (const name of readdirSync(this.#dir)) {
      const path = join(this.#dir, name);
      if (name.endsWith('.tmp')) rmSync(path, { force: true });
      if (!name.endsWith('.json')) continue;
      try {
        endpoints.push(parseFile(readFileSync(path, 'utf8')));
      } catch (error) {
        this.#log.error({ path, err: error }, 'endpoint file is unreadable; set aside as .broken');
        renameSync(path, `${path}.broken`);
      }
    }
    return endpoints;
  }

  save(endpoint: LocalEndpoint): void {
    const path = this.#path(endpoint.endpoint.metadata.namespace ?? '', endpoint.endpoint.metadata.name);
    writeFileSync(`${path}.tmp`, JSON.stringify(endpoint), { mode: 0o600 });
    renameSync(`${path}.tmp`, path);
  }

  remove(namespace: string, name: string): void {
    rmSync(this.#path(namespace, name), { force: true });
  }

  /** Namespace and name may have 63 + 253 characters, a file's name 255 bytes: what is too long ends in a hash of the whole. */
  #path(namespace: string, name: string): string {
    const text = `${encodeURIComponent(namespace)}@${encodeURIComponent(name)}`;
    const hash = createHash('sha256').update(text).digest('hex');
    return join(
      this.#dir,
      `${text.length <= maxNameLength ? text : `${text.slice(0, maxNameLength - 65)}@${hash}`}.json`,
    );
  }
}

function parseFile(text: string): LocalEndpoint {
  const raw = JSON.parse(text) as Partial<Record<keyof LocalEndpoint, unknown>>;
  const { network, ifname, netns, podUid } = raw;
  if (typeof network !== 'string' || typeof ifname !== 'string' || typeof netns !== 'string') {
    throw new TypeError('network, ifname and netns must be text');
  }
  const { object: endpoint } = parseAs('WorkloadEndpoint', raw.endpoint);
  return { endpoint, network, ifname, netns, ...(typeof podUid === 'string' ? { podUid } : {}) };
}
