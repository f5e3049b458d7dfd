import * as z from 'zod/mini';
import { addressCount, parseCidr } from '../cidr.ts';
import { cidr, fieldsRule, rule, type FieldProblem } from '../schema/checks.ts';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { blockSizes } from './ip-pool.ts';
import { v3 } from './group.ts';

/** See `sequence.ts`. A number beyond 2^53 has been rounded on its way here: better refused than written back wrong. */
const sequenceNumber = z
  .union([z.number(), z.bigint()])
  .check(
    rule((value) =>
      value >= 0 && (typeof value === 'bigint' || Number.isSafeInteger(value))
        ? undefined
        : 'must be a whole number, and one beyond 2^53 a bigint (read JSON by parseJson)',
    ),
  );

const ordinal = z.int().check(z.gte(0));

/** Who has an address. Several addresses of one owner share an entry. */
const allocationAttribute = z.object({
  handle_id: z.optional(z.string()),
  /** The owner: node, namespace, pod, timestamp; Calico's name for it is historical. */
  secondary: z.optional(z.record(z.string(), z.string())),
  /** A second owner while a virtual machine migrates. */
  alternate: z.optional(z.record(z.string(), z.string())),
  /** Set while a released address waits for its cool-down. */
  releasedAt: z.optional(z.string()),
});

const spec = z
  .object({
    cidr,
    /** `host:<node>` or `virtual:<name>`; absent: nobody's. */
    affinity: z.optional(
      z
        .string()
        .check(
          rule((text) =>
            /^(host|virtual):[a-zA-Z0-9._-]+$/.test(text) ? undefined : 'must be host:<node> or virtual:<name>',
          ),
        ),
    ),
    affinityClaimTime: z.optional(z.string()),
    /** By ordinal in the block: the index in `attributes`, or null for free. */
    allocations: z.array(z.nullable(ordinal)),
    /** Free ordinals, next to be used first: what was freed last comes last. */
    unallocated: z.array(ordinal),
    attributes: z.array(allocationAttribute),
    /** Grows with each write. */
    sequenceNumber: z._default(sequenceNumber, 0),
    /** Ordinal (as text) to the block's sequence number when it was given: makes a release safe against re-use. */
    sequenceNumberForAllocation: z._default(z.record(z.string(), sequenceNumber), () => ({})),
    /** Set, by compare-and-swap, just before the object is deleted. */
    deleted: z._default(z.boolean(), false),
    /** Without meaning; Calico still writes it. */
    strictAffinity: z.optional(z.boolean()),
  })
  .check(fieldsRule(problemsOf));

/** A block of addresses, and which of them are in use: the unit of compare-and-swap. */
export const ipamBlockSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('IPAMBlock'),
  metadata: clusterMeta,
  spec,
});

/** A block of addresses, and which of them are in use. */
export type IPAMBlock = DeepReadonly<z.infer<typeof ipamBlockSchema>>;

/**
 * A block whose lists disagree would hand out one address twice: what is free must be free, and once. An address in neither list is
 * only lost, and no reason to refuse the block.
 */
function* problemsOf(block: z.infer<typeof spec>): Generator<FieldProblem> {
  const range = parseCidr(block.cidr);
  const { min, max } = blockSizes[range.family];
  if (range.prefix < min || range.prefix > max) {
    yield { path: ['cidr'], message: `must have a prefix length from ${min} to ${max} for IPv${range.family}` };
    return;
  }
  const count = addressCount(range);
  if (block.allocations.length !== count) {
    yield { path: ['allocations'], message: `must have ${count} entries, one for each address of ${range.text}` };
    return;
  }
  const free = new Set<number>();
  for (const [index, value] of block.unallocated.entries()) {
    if (value >= count) {
      yield { path: ['unallocated', index], message: `must be less than ${count}` };
    } else if (block.allocations[value] !== null) {
      yield { path: ['unallocated', index], message: 'must not be an ordinal that is allocated' };
    } else if (free.has(value)) {
      yield { path: ['unallocated', index], message: 'must not be twice in the list' };
    }
    free.add(value);
  }
  for (const [index, attribute] of block.allocations.entries()) {
    if (attribute !== null && attribute >= block.attributes.length) {
      yield { path: ['allocations', index], message: 'must be an index in attributes' };
    }
  }
}
