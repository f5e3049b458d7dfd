/** BPF objects by their ids: which are an agent's, and which the kernel has still got. */
import { readdirSync, readFileSync } from 'node:fs';
import { openNetlink } from '#native/netlink.ts';
import { lostMaps } from '../../scripts/leftovers.mjs';
import { exec } from './exec.ts';

const kinds = ['prog', 'map', 'link'] as const;
export type BpfKind = (typeof kinds)[number];

/** Where to look for objects. */
interface BpfOwner {
  readonly netnsPath: string;
  readonly bpffs: string;
  /** Absent: nobody runs. */
  readonly agentPid: number | undefined;
}

/** As bpftool shows it. */
interface Shown {
  readonly id: number;
  readonly type?: string;
  readonly name?: string;
  readonly pinned?: readonly string[];
  /** A program's. */
  readonly map_ids?: readonly number[];
  /** A link's. */
  readonly prog_id?: number;
}

/** Ids of the objects that agents had at some time, by kind; one that is gone keeps its id, which nobody else gets. */
export class BpfIds {
  readonly #ids: Readonly<Record<BpfKind, Set<number>>> = { prog: new Set(), map: new Set(), link: new Set() };

  /** How many are known of a kind. */
  count(kind: BpfKind): number {
    return this.#ids[kind].size;
  }

  /** Notes what a node's agent holds, has pinned, and has put on devices as filters; and what those hold. */
  async note({ netnsPath, bpffs, agentPid }: BpfOwner): Promise<void> {
    const shown = await showAll();
    for (const { kind, id } of agentPid === undefined ? [] : held(agentPid)) this.#ids[kind].add(id);
    for (const kind of kinds) {
      for (const { id, pinned = [] } of shown[kind]) {
        if (pinned.some((path) => path.startsWith(`${bpffs}/`))) this.#ids[kind].add(id);
      }
    }
    for (const id of await filterPrograms(netnsPath)) this.#ids.prog.add(id);
    for (const { id, prog_id = 0 } of shown.link) if (this.#ids.link.has(id)) this.#ids.prog.add(prog_id);
    for (const { id, map_ids = [] } of shown.prog) {
      if (this.#ids.prog.has(id)) for (const map of map_ids) this.#ids.map.add(map);
    }
  }

  /** Those that somebody has still got, as text. */
  async left(): Promise<readonly string[]> {
    const shown = await showAll();
    const lost = lostMaps(shown.prog, shown.map);
    return kinds.flatMap((kind) =>
      shown[kind]
        .filter(({ id }) => this.#ids[kind].has(id) && (kind !== 'map' || !lost.has(id)))
        .map(({ id, name }) => `${kind} ${id} ${name ?? ''}`),
    );
  }
}

/**
 * A link that is just being attached has an id already and is for nobody yet (BPF_LINK_GET_FD_BY_ID says EAGAIN): bpftool ends there instead of passing it
 * over.
 */
async function show(kind: BpfKind): Promise<readonly Shown[]> {
  for (let tries = 1; ; tries++) {
    const { status, stdout, stderr } = await exec('bpftool', ['-j', '-f', kind, 'show']);
    if (status === 0) return JSON.parse(stdout) as readonly Shown[];
    if (tries === 50 || !`${stdout}${stderr}`.includes('temporarily unavailable'))
      throw new Error(`bpftool ${kind} show: status ${status}: ${stdout.slice(-500)}${stderr}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function showAll(): Promise<Readonly<Record<BpfKind, readonly Shown[]>>> {
  const [prog, map, link] = await Promise.all([show('prog'), show('map'), show('link')]);
  return { prog, map, link };
}

/** Ids of the programs of ours that devices run as filters. */
async function filterPrograms(netnsPath: string): Promise<readonly number[]> {
  using host = openNetlink({ path: netnsPath });
  const ids: number[] = [];
  for (const { name } of await host.links()) {
    for (const direction of ['ingress', 'egress'] as const) {
      for (const filter of await host.filters(name, direction)) {
        if (filter.name?.startsWith('tortie') === true && filter.programId !== undefined) ids.push(filter.programId);
      }
    }
  }
  return ids;
}

/** Ids of the BPF objects that a process has open (proc_pid_fdinfo(5)). */
function held(pid: number): { readonly kind: BpfKind; readonly id: number }[] {
  return readdirSync(`/proc/${pid}/fdinfo`).flatMap((fd) => {
    let text: string;
    try {
      text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []; // Closed meanwhile.
      throw error;
    }
    return kinds.flatMap((kind) => {
      const id = new RegExp(`^${kind}_id:\\s*(\\d+)`, 'm').exec(text)?.[1];
      return id === undefined ? [] : [{ kind, id: Number(id) }];
    });
  });
}
