import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SysctlMemory } from '#dataplanes/shared/node-sysctls.ts';

/** The file can't be read as what it should be. */
export class SysctlFileError extends Error {
  override readonly name = 'SysctlFileError';
  readonly code = 'bad-sysctl-file';
}

/**
 * What the node's sysctls were before Tortie, as a JSON object of path and value in the state dir. Written as a whole and synced before
 * the sysctl is changed: after a crash there is the old file or the new one.
 */
export class HostSysctlFile implements SysctlMemory {
  static readonly fileName = 'host-sysctls.json';
  readonly #dir: string;

  /** `stateDir` must exist by the time that something is remembered. */
  constructor(stateDir: string) {
    this.#dir = stateDir;
  }

  remember(path: string, valueBefore: string): void {
    const values = this.all();
    if (values.has(path)) return;
    this.#write(JSON.stringify({ ...Object.fromEntries(values), [path]: valueBefore }));
  }

  /** Throws `SysctlFileError` when the file is damaged: its values would be written to the kernel. */
  all(): ReadonlyMap<string, string> {
    let text: string;
    try {
      text = readFileSync(this.#path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
      throw error;
    }
    const values = parse(text);
    if (values === undefined) {
      throw new SysctlFileError(
        `${this.#path} should hold what the node's sysctls were before Tortie, but is damaged; set net.ipv4.ip_forward and net.ipv6.conf.all.forwarding as you want them, and remove the file`,
      );
    }
    return new Map(values);
  }

  forget(): void {
    rmSync(this.#path, { force: true });
  }

  get #path(): string {
    return join(this.#dir, HostSysctlFile.fileName);
  }

  #write(text: string): void {
    const temporary = `${this.#path}.tmp`;
    writeFileSync(temporary, `${text}\n`, { mode: 0o600, flush: true });
    renameSync(temporary, this.#path);
    const dir = openSync(this.#dir, 'r');
    try {
      fsyncSync(dir); // Else the new name may be lost with the power.
    } finally {
      closeSync(dir);
    }
  }
}

/** The entries, in the order of writing; undefined if the text is something else than sysctls of the network and their values. */
function parse(text: string): [string, string][] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const entries = Object.entries(value);
  const isSysctl = ([path, before]: [string, unknown]): boolean =>
    path.startsWith('net/') && !path.split('/').includes('..') && typeof before === 'string';
  return entries.every(isSysctl) ? (entries as [string, string][]) : undefined;
}
