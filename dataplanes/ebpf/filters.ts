import type { BpfProgram } from '#native/bpf.ts';
import type { Filter, FilterOp, Netlink, NetlinkOp, OpResult } from '#native/types.ts';
import type { Filters } from './programs.ts';

/**
 * Our place on a device's clsact. Priority 1, because a filter of another program that comes first and ends classification would let
 * packets past us; the handle tells our filter from others at that priority ("to").
 */
export const ourFilter = { priority: 1, handle: 0x746f } as const;

const directions = ['ingress', 'egress'] as const;

/** What a device's filters are called: by that they are known again, whoever made them. */
export type FilterNames = Readonly<Record<(typeof directions)[number], string>>;
const podNames: FilterNames = { ingress: 'tortie_from_pod', egress: 'tortie_to_pod' };

/** The programs of a device's filters. */
export interface FilterPair {
  readonly names: FilterNames;
  readonly ingress: Pick<BpfProgram, 'id' | 'fd'>;
  readonly egress: Pick<BpfProgram, 'id' | 'fd'>;
}

/** Those of pods' devices. */
export const podFilters = ({ fromPod, toPod }: Pick<Filters, 'fromPod' | 'toPod'>): FilterPair => ({
  names: podNames,
  ingress: fromPod,
  egress: toPod,
});
/** Behind the name of a filter on a clsact that was there before us: then the qdisc is not ours to remove, whoever asks and whenever. */
const guestSuffix = '/guest';

/** What a device has of ours. */
export interface AttachedState {
  /** `yes`: the right programs in both directions; `stale`: ours, of another build; `no`: one of them is missing. */
  readonly attached: 'yes' | 'stale' | 'no';
  /** Whose qdisc it is, by the names of our filters on it; `unknown` without any. */
  readonly clsact: 'ours' | 'foreign' | 'unknown';
  /** In which directions it has filters of others. */
  readonly others: readonly (typeof directions)[number][];
}

/** What a new device needs: nothing is on it yet, so the qdisc is ours. */
export function newDeviceOps(link: string, programs: Filters): readonly NetlinkOp[] {
  return [{ op: 'clsact.add', link }, ...filterOps(link, podFilters(programs), false)];
}

/** Looks whether a device has our filters, on the calling thread: every ADD waits for it. Throws NetlinkFailure (`ENODEV` when it is gone). */
export function readAttached(host: Netlink, ifindex: number, pair: FilterPair): AttachedState {
  const all = directions.flatMap((direction) => host.filtersSync(ifindex, direction));
  const [ingress, egress] = directions.map((direction) =>
    all.find((filter) => filter.direction === direction && isOurs(filter, pair.names)),
  );
  const others = directions.filter((direction) =>
    all.some((filter) => filter.direction === direction && !isOurs(filter, pair.names)),
  );
  const present = [ingress, egress].filter((filter) => filter !== undefined);
  const clsact = present.length === 0 ? 'unknown' : present.some(isGuestFilter) ? 'foreign' : 'ours';
  if (ingress === undefined || egress === undefined) return { attached: 'no', clsact, others };
  const isCurrent = ingress.programId === pair.ingress.id && egress.programId === pair.egress.id;
  return { attached: isCurrent ? 'yes' : 'stale', clsact, others };
}

/** The qdisc `ingress`, which others put on devices, stands where clsact would; filters for both directions have no place there. */
export class IngressQdiscError extends Error {
  override readonly name = 'IngressQdiscError';
  readonly code = 'INGRESS_QDISC';

  constructor() {
    super('it has the qdisc `ingress`, beside which there is no clsact');
  }
}

/** Which devices have the qdisc `clsact`, and which `ingress`, by ifindex. */
export type IngressQdiscs = ReadonlyMap<number, 'clsact' | 'ingress'>;

/** Reads those of all devices. */
export async function ingressQdiscs(host: Pick<Netlink, 'qdiscs'>): Promise<IngressQdiscs> {
  return new Map(
    (await host.qdiscs()).flatMap(({ kind, linkIndex }) =>
      kind === 'clsact' || kind === 'ingress' ? [[linkIndex, kind]] : [],
    ),
  );
}

/**
 * Puts our filters on a device, or replaces older ones: each direction changes from one program to the other between two packets. A qdisc that is made
 * for them has the first of them from the system call that makes it, so that whose it is can be told whenever we are killed. `qdiscs` is asked where
 * filters are missing; what it says may be old. Throws the first NetlinkFailure, or IngressQdiscError.
 */
export async function attach(
  host: Netlink,
  ifindex: number,
  pair: FilterPair,
  state: AttachedState,
  qdiscs: () => Promise<IngressQdiscs> = () => ingressQdiscs(host),
): Promise<void> {
  // Filters in both directions: their qdisc is known.
  const qdisc = state.attached === 'stale' ? 'clsact' : (await qdiscs()).get(ifindex);
  // The kernel takes filters for clsact where `ingress` is, and gives both directions to what comes in.
  if (qdisc === 'ingress') throw new IngressQdiscError();
  if (qdisc === 'clsact') {
    // If the qdisc was there without us, the names of our filters say so.
    throwFirst(await host.batch(filterOps(ifindex, pair, state.clsact !== 'ours')));
    return;
  }
  const [ingress, egress] = filterOps(ifindex, pair, false);
  // Egress not yet: should `ingress` have come meanwhile, it would judge what the pod sends.
  const [made, first] = await host.batch([{ op: 'clsact.add', link: ifindex }, ingress]);
  if (made?.ok === false) {
    if (made.error.code !== 'EEXIST') throw made.error;
    await attachBeside(host, ifindex, pair, first);
    return;
  }
  if (first?.ok === false) {
    if ((await filtersOn(host, ifindex)).length === 0) await host.run([{ op: 'clsact.del', link: ifindex }]);
    throw first.error;
  }
  throwFirst(await host.batch([egress]));
}

/** Somebody's qdisc came between a look and an attempt to make ours, and has our filter (`first`: what came of it), named as if the qdisc were ours. */
async function attachBeside(
  host: Netlink,
  ifindex: number,
  pair: FilterPair,
  first: OpResult | undefined,
): Promise<void> {
  if (await host.hasClsact(ifindex)) {
    throwFirst(await host.batch(filterOps(ifindex, pair, true)));
    return;
  }
  if (first?.ok === true) await host.run([{ op: 'filter.del', link: ifindex, direction: 'ingress', ...ourFilter }]);
  throw new IngressQdiscError();
}

/** Everybody's, in both directions. */
async function filtersOn(host: Netlink, ifindex: number): Promise<readonly Filter[]> {
  return (await Promise.all(directions.map((direction) => host.filters(ifindex, direction)))).flat();
}

/** Takes our filters off, and the qdisc with them if we made it and nobody else uses it. True if there was something; a missing device is done. */
export async function detach(host: Netlink, ifindex: number, names: FilterNames = podNames): Promise<boolean> {
  try {
    const filters = await filtersOn(host, ifindex);
    const ours = filters.filter((filter) => isOurs(filter, names));
    if (ours.length === 0) return false;
    if (ours.length === filters.length && !ours.some(isGuestFilter)) {
      // All in one step: who is killed behind the filters leaves a qdisc of which nobody can tell whose it is.
      await host.run([{ op: 'clsact.del', link: ifindex }]);
      return true;
    }
    const results = await host.batch(
      ours.map(({ direction, priority, handle }) => ({ op: 'filter.del', link: ifindex, direction, priority, handle })),
    );
    const left = await filtersOn(host, ifindex);
    // What counts is that they are gone; somebody may have been faster.
    if (left.some((filter) => isOurs(filter, names))) throwFirst(results);
    if (left.length === 0 && !ours.some(isGuestFilter)) await host.run([{ op: 'clsact.del', link: ifindex }]); // Others have left.
    return true;
  } catch (error) {
    if (['ENODEV', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) return false;
    throw error;
  }
}

function isOurs(filter: Filter, names: FilterNames): boolean {
  return (
    filter.priority === ourFilter.priority &&
    filter.handle === ourFilter.handle &&
    filter.name?.startsWith(names[filter.direction]) === true
  );
}

/** Ingress, egress. */
function filterOps(
  link: string | number,
  { names, ingress, egress }: FilterPair,
  guest: boolean,
): readonly [FilterOp, FilterOp] {
  const op = (direction: (typeof directions)[number], { fd }: Pick<BpfProgram, 'fd'>): FilterOp => ({
    op: 'filter.replace',
    link,
    direction,
    ...ourFilter,
    name: guest ? names[direction] + guestSuffix : names[direction],
    fd,
  });
  return [op('ingress', ingress), op('egress', egress)];
}

function isGuestFilter(filter: Filter): boolean {
  return filter.name?.endsWith(guestSuffix) === true;
}

function throwFirst(results: readonly OpResult[]): void {
  for (const result of results) if (!result.ok) throw result.error;
}
