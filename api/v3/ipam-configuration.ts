import * as z from 'zod/mini';
import { fieldsRule, type FieldProblem } from '../schema/checks.ts';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

const spec = z
  .object({
    /** Nodes use no address from a block of another node. */
    strictAffinity: z._default(z.boolean(), false),
    /** Blocks a node may have, per family; 0 is 20 per family. */
    maxBlocksPerHost: z._default(z.int().check(z.gte(0), z.lte(1_000_000)), 0),
    /** Nodes take new blocks by themselves when theirs are full. */
    autoAllocateBlocks: z._default(z.boolean(), true),
    /** Seconds that a released address is not given again. */
    ipCooldownSeconds: z.optional(z.int().check(z.gte(0), z.lte(1200))),
    /** Addresses of KubeVirt machines outlive their pods. */
    kubeVirtVMAddressPersistence: z.optional(z.enum(['Enabled', 'Disabled'])),
  })
  .check(fieldsRule(problemsOf));

/** How IPAM works in the whole cluster; one object, named `default`. */
export const ipamConfigurationSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('IPAMConfiguration'),
  metadata: clusterMeta,
  spec: z.prefault(spec, {}),
});

/** How IPAM works in the whole cluster; one object, named `default`. */
export type IPAMConfiguration = DeepReadonly<z.infer<typeof ipamConfigurationSchema>>;

function* problemsOf(config: z.infer<typeof spec>): Generator<FieldProblem> {
  if (!config.autoAllocateBlocks && !config.strictAffinity) {
    yield {
      path: ['autoAllocateBlocks'],
      message: 'must be true unless strictAffinity is: nodes without blocks would borrow every address',
    };
  }
  if (config.maxBlocksPerHost > 0 && !config.strictAffinity) {
    yield {
      path: ['maxBlocksPerHost'],
      message: 'must be 0 unless strictAffinity is true: nodes would borrow beyond it',
    };
  }
}
