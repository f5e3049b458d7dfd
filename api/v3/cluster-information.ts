import * as z from 'zod/mini';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

/** What is so of the whole cluster; one object, named `default`. */
export const clusterInformationSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('ClusterInformation'),
  metadata: clusterMeta,
  spec: z.prefault(
    z.object({
      clusterGUID: z.optional(z.string()),
      /** Comma-separated, for example `k8s,bgp`. */
      clusterType: z.optional(z.string()),
      calicoVersion: z.optional(z.string()),
      /** False: the datastore is being migrated; no pod may be wired. Absent counts as false, as in Calico. */
      datastoreReady: z.optional(z.boolean()),
      variant: z.optional(z.string()),
    }),
    {},
  ),
});

/** What is so of the whole cluster; one object, named `default`. */
export type ClusterInformation = DeepReadonly<z.infer<typeof clusterInformationSchema>>;
