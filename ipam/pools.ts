/** Which pools an address may come from. Pure. */
import {
  containsCidr,
  containsIp,
  ipAt,
  overlaps,
  tryParseCidr,
  tryParseNet,
  type Cidr,
  type Family,
  type Ip,
} from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';
import { parseSelector, type Selector } from '#api/selector/selector.ts';
import { IpamError } from './ipam.ts';

/** Block sizes when the pool says none. */
const defaultBlockPrefix = { 4: 26, 6: 122 } as const;
/** Blocks per node and family when maxBlocksPerHost is 0, as in Calico. */
const defaultMaxBlocks = 20;

/** An IPPool as far as addresses are concerned. */
export interface Pool {
  readonly name: string;
  readonly cidr: Cidr;
  readonly blockPrefix: number;
  /** Why it gives nothing to anyone, or undefined: disabled, being deleted, not for workloads, broken. */
  readonly closed: string | undefined;
  /** Only for who asks for it. */
  readonly manual: boolean;
  readonly nodeSelector: Selector;
  /** Undefined: every namespace. */
  readonly namespaceSelector: Selector | undefined;
}

/** IPAMConfiguration with its defaults. */
export interface IpamSettings {
  readonly strictAffinity: boolean;
  readonly autoAllocateBlocks: boolean;
  /** Blocks that a node may have, per family. */
  readonly maxBlocks: number;
  readonly cooldownSeconds: number;
}

/** All that decides where an address may come from, besides the blocks themselves. */
export interface IpamFacts {
  /** In the order of their names. */
  readonly pools: readonly Pool[];
  /** Ranges that are never given automatically. */
  readonly reservations: readonly Cidr[];
  readonly settings: IpamSettings;
  readonly nodeLabels: Readonly<Record<string, string>>;
}

/** Who asks: the pod's namespace (absent for a container that is no pod), and the pools asked for, by name or CIDR. */
export interface PoolRequest {
  readonly requested: readonly string[] | undefined;
  readonly namespace: { readonly name: string; readonly labels: Readonly<Record<string, string>> } | undefined;
}

/** Puts the objects together. `configuration` and `node` may be missing: then defaults, and a node without labels. */
export function factsFrom(objects: {
  readonly pools: readonly KindMap['IPPool'][];
  readonly reservations: readonly KindMap['IPReservation'][];
  readonly configuration: KindMap['IPAMConfiguration'] | undefined;
  readonly node: KindMap['Node'] | undefined;
}): IpamFacts {
  const config = objects.configuration?.spec;
  return {
    pools: objects.pools.flatMap(poolFrom).sort((a, b) => (a.name < b.name ? -1 : 1)),
    reservations: objects.reservations.flatMap((reservation) =>
      reservation.spec.reservedCIDRs.flatMap((text) => tryParseNet(text) ?? []),
    ),
    settings: {
      strictAffinity: config?.strictAffinity ?? false,
      autoAllocateBlocks: config?.autoAllocateBlocks ?? true,
      maxBlocks: config?.maxBlocksPerHost || defaultMaxBlocks,
      cooldownSeconds: config?.ipCooldownSeconds ?? 0,
    },
    nodeLabels: objects.node?.metadata.labels ?? {},
  };
}

/**
 * The pools of one family for a request, in order of preference. Pools asked for skip the selectors, and each must be usable: there is
 * no fallback. Throws `IpamError`: `pool-disabled`, `no-pool`.
 */
export function selectPools(facts: IpamFacts, family: Family, request: PoolRequest): readonly Pool[] {
  const pools = facts.pools.filter((pool) => pool.cidr.family === family);
  if (request.requested !== undefined && request.requested.length > 0) {
    return request.requested.map((text) => requestedPool(pools, family, text));
  }
  const usable = pools.filter((pool) => whyNot(pool, facts, request.namespace) === undefined);
  if (usable.length === 0) {
    const reasons = pools.map((pool) => `${pool.name}: ${whyNot(pool, facts, request.namespace)}`);
    throw new IpamError(
      'no-pool',
      `no IPv${family} pool to take an address from (${reasons.length === 0 ? 'there is no IPPool of this family' : reasons.join('; ')})`,
    );
  }
  return usable;
}

/** True if a pool with a namespaceSelector is among those that a request without named pools may use. */
export function hasRestrictedPool(facts: IpamFacts, family: Family, namespace: PoolRequest['namespace']): boolean {
  return facts.pools.some(
    (pool) =>
      pool.cidr.family === family &&
      pool.namespaceSelector !== undefined &&
      whyNot(pool, facts, namespace) === undefined,
  );
}

/** Pools that any workload of this node may use: what a reserve can be held from. */
export function openPools(facts: IpamFacts): readonly Pool[] {
  return facts.pools.filter(
    (pool) => pool.namespaceSelector === undefined && whyNot(pool, facts, undefined) === undefined,
  );
}

/** True if new addresses for this node may come from the pool; false too for one that only waits to be asked for elsewhere. */
export function servesNode(pool: Pool, facts: IpamFacts): boolean {
  return pool.closed === undefined && pool.nodeSelector.evaluate(facts.nodeLabels);
}

/** The pool that holds a block or address, whatever its state. */
export function poolOf(facts: IpamFacts, what: Cidr | Ip): Pool | undefined {
  return facts.pools.find((pool) => ('prefix' in what ? containsCidr(pool.cidr, what) : containsIp(pool.cidr, what)));
}

/** Which addresses of a block may be given automatically: all that lie in no reservation. */
export function unreserved(facts: IpamFacts, block: Cidr): (ordinal: number) => boolean {
  const relevant = facts.reservations.filter((reservation) => overlaps(reservation, block));
  if (relevant.length === 0) {
    return () => true;
  }
  if (relevant.some((reservation) => containsCidr(reservation, block))) {
    return () => false;
  }
  return (ordinal) => {
    const ip = ipAt(block, ordinal);
    return !relevant.some((reservation) => containsIp(reservation, ip));
  };
}

/** Why new automatic addresses don't come from this pool, or undefined. */
function whyNot(pool: Pool, facts: IpamFacts, namespace: PoolRequest['namespace']): string | undefined {
  if (pool.closed !== undefined) {
    return pool.closed;
  }
  if (pool.manual) {
    return 'assignmentMode is Manual';
  }
  if (!pool.nodeSelector.evaluate(facts.nodeLabels)) {
    return `nodeSelector ${pool.nodeSelector.text} does not select this node`;
  }
  if (pool.namespaceSelector === undefined) {
    return undefined;
  }
  if (namespace === undefined) {
    return 'it has a namespaceSelector, and the container belongs to no namespace';
  }
  // The API server sets this label on every namespace; files may lack it.
  const labels = { 'kubernetes.io/metadata.name': namespace.name, ...namespace.labels };
  return pool.namespaceSelector.evaluate(labels)
    ? undefined
    : `namespaceSelector ${pool.namespaceSelector.text} does not select namespace ${namespace.name}`;
}

function requestedPool(pools: readonly Pool[], family: Family, text: string): Pool {
  const cidr = tryParseCidr(text)?.text;
  const pool = pools.find((candidate) => candidate.name === text || candidate.cidr.text === cidr);
  if (pool === undefined) {
    throw new IpamError(
      'no-pool',
      `there is no IPv${family} pool with name or CIDR "${text}"; correct the request or create the IPPool`,
    );
  }
  if (pool.closed !== undefined) {
    throw new IpamError('pool-disabled', `IPPool ${pool.name} was asked for, but ${pool.closed}`);
  }
  return pool;
}

/** Empty for an object without a usable cidr: validation refuses it and says so, here it is only not to break the others. */
function poolFrom(object: KindMap['IPPool']): Pool[] {
  const { spec, metadata } = object;
  const cidr = tryParseCidr(spec.cidr);
  if (cidr === undefined) {
    return [];
  }
  const blockPrefix = spec.blockSize ?? defaultBlockPrefix[cidr.family];
  const common = { name: metadata.name, cidr, blockPrefix, manual: spec.assignmentMode === 'Manual' };
  try {
    const nodeSelector = parseSelector(spec.nodeSelector);
    const namespaceSelector = spec.namespaceSelector === undefined ? undefined : parseSelector(spec.namespaceSelector);
    return [{ ...common, closed: closedReason(object), nodeSelector, namespaceSelector }];
  } catch (error) {
    const closed = `its selector is broken: ${error instanceof Error ? error.message : String(error)}`;
    return [{ ...common, closed, nodeSelector: parseSelector('all()'), namespaceSelector: undefined }];
  }
}

function closedReason({ metadata, spec }: KindMap['IPPool']): string | undefined {
  if (metadata.deletionTimestamp !== undefined) {
    return 'it is being deleted';
  }
  if (spec.disabled) {
    return 'it is disabled';
  }
  return spec.allowedUses.includes('Workload')
    ? undefined
    : `its allowedUses are ${spec.allowedUses.join(', ')}, not Workload`;
}
