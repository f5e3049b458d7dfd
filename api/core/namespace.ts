import * as z from 'zod/mini';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';

/** A Kubernetes Namespace: its labels and annotations. */
export const namespaceSchema = z.object({
  apiVersion: z.literal('v1'),
  kind: z.literal('Namespace'),
  metadata: clusterMeta,
});

/** A Kubernetes Namespace: its labels and annotations. */
export type Namespace = DeepReadonly<z.infer<typeof namespaceSchema>>;
