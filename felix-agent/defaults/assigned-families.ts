import { familyOf, type Family } from '#api/cidr.ts';
import type { KindMap } from '#api/kinds.ts';

/**
 * The families that pods get an address of: those with a pool that workloads may use without asking for it. For `assign_ipv4` and
 * `assign_ipv6` of the CNI configuration: with a family that has no pool every ADD would fail. Empty while there is no such pool.
 */
export function assignedFamilies(pools: Iterable<KindMap['IPPool']>): ReadonlySet<Family> {
  const open = [...pools].filter(
    ({ metadata, spec }) =>
      metadata.deletionTimestamp === undefined &&
      !spec.disabled &&
      spec.assignmentMode === 'Automatic' &&
      spec.allowedUses.includes('Workload'),
  );
  return new Set(open.map(({ spec }) => familyOf(spec.cidr)));
}
