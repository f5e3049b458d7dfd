import * as z from 'zod/mini';
import { namespacedMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';

/** A Kubernetes ConfigMap, with what we use of it. */
export const configMapSchema = z.object({
  apiVersion: z.literal('v1'),
  kind: z.literal('ConfigMap'),
  metadata: namespacedMeta,
  data: z._default(z.record(z.string(), z.string()), () => ({})),
});

/** A Kubernetes ConfigMap, with what we use of it. */
export type ConfigMap = DeepReadonly<z.infer<typeof configMapSchema>>;
