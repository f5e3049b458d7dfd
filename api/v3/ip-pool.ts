import * as z from 'zod/mini';
import { isLinkLocal, parseCidr, type Family } from '../cidr.ts';
import { cidr, fieldsRule, selector, type FieldProblem } from '../schema/checks.ts';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { conditionsStatus } from '../schema/status.ts';
import { v3 } from './group.ts';

const encapsulation = z._default(z.enum(['Never', 'Always', 'CrossSubnet']), 'Never');

const spec = z
  .object({
    /** Can't be changed. */
    cidr,
    vxlanMode: encapsulation,
    ipipMode: encapsulation,
    /** What leaves all pools from this one gets the node's address. */
    natOutgoing: z._default(z.boolean(), false),
    /** No new addresses from it. It still counts as inside for natOutgoing. */
    disabled: z._default(z.boolean(), false),
    disableBGPExport: z._default(z.boolean(), false),
    /** Prefix length of a block, 20 to 32 or 116 to 128; can't be changed. Read it by `blockSizeOf`: the default depends on the family. */
    blockSize: z.optional(z.int()),
    /** Nodes that take addresses from it. */
    nodeSelector: z._default(selector, 'all()'),
    /** Namespaces that get addresses from it; absent: all. */
    namespaceSelector: z.optional(selector),
    allowedUses: z._default(z.array(z.enum(['Workload', 'Tunnel', 'LoadBalancer'])), ['Workload', 'Tunnel']),
    /** Manual: only for who asks for the pool by name. */
    assignmentMode: z._default(z.enum(['Automatic', 'Manual']), 'Automatic'),
  })
  .check(fieldsRule(problemsOf));

/** A range that addresses are given from, and how its traffic travels. */
export const ipPoolSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('IPPool'),
  metadata: clusterMeta,
  spec,
  /** Kept by Calico's controllers. */
  status: z.optional(conditionsStatus),
});

/** A range that addresses are given from, and how its traffic travels. */
export type IPPool = DeepReadonly<z.infer<typeof ipPoolSchema>>;

/** The prefix lengths that blocks may have, and the one that they have unless the pool says. */
export const blockSizes = {
  4: { min: 20, max: 32, default: 26 },
  6: { min: 116, max: 128, default: 122 },
} as const satisfies Readonly<Record<Family, { min: number; max: number; default: number }>>;

/** Prefix length of the pool's blocks. Only a disabled pool can be smaller than its blocks. */
export function blockSizeOf(pool: IPPool): number {
  return blockSizeIn(pool.spec);
}

/** Go programs write 0 for what was left out. */
function blockSizeIn({ cidr, blockSize }: { readonly cidr: string; readonly blockSize?: number | undefined }): number {
  return blockSize === undefined || blockSize === 0 ? blockSizes[parseCidr(cidr).family].default : blockSize;
}

function* problemsOf(pool: z.infer<typeof spec>): Generator<FieldProblem> {
  const range = parseCidr(pool.cidr);
  const { min, max } = blockSizes[range.family];
  if (isLinkLocal(range)) {
    yield { path: ['cidr'], message: 'must not overlap the link-local range (169.254.0.0/16, fe80::/10)' };
  }
  const blockSize = blockSizeIn(pool);
  if (blockSize < min || blockSize > max) {
    yield { path: ['blockSize'], message: `must be a prefix length from ${min} to ${max} for IPv${range.family}` };
  } else if (range.prefix > blockSize && !pool.disabled) {
    yield {
      path: ['cidr'],
      message: `must have room for a block, which is a /${blockSize}; set blockSize for smaller ones`,
    };
  }
  if (pool.vxlanMode !== 'Never' && pool.ipipMode !== 'Never') {
    yield { path: ['ipipMode'], message: 'must be Never while vxlanMode is not' };
  }
  if (range.family === 6 && pool.ipipMode !== 'Never') {
    yield { path: ['ipipMode'], message: 'must be Never: IPIP carries no IPv6' };
  }
  if (pool.allowedUses.includes('LoadBalancer')) {
    yield* problemsOfLoadBalancerPool(pool);
  }
}

/** A pool for load balancers has no nodes and carries no pod's traffic. */
function* problemsOfLoadBalancerPool(pool: z.infer<typeof spec>): Generator<FieldProblem> {
  if (pool.allowedUses.some((use) => use !== 'LoadBalancer')) {
    yield {
      path: ['allowedUses'],
      message: 'must have LoadBalancer alone: a pool for load balancers has no other use',
    };
  }
  if (pool.vxlanMode !== 'Never' || pool.ipipMode !== 'Never') {
    yield {
      path: [pool.vxlanMode === 'Never' ? 'ipipMode' : 'vxlanMode'],
      message: 'must be Never in a pool for LoadBalancer',
    };
  }
  if (pool.nodeSelector !== 'all()' && pool.nodeSelector !== '') {
    yield { path: ['nodeSelector'], message: 'must be all() in a pool for LoadBalancer' };
  }
}
