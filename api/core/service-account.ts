import * as z from 'zod/mini';
import { namespacedMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';

/** A Kubernetes ServiceAccount: its labels. */
export const serviceAccountSchema = z.object({
  apiVersion: z.literal('v1'),
  kind: z.literal('ServiceAccount'),
  metadata: namespacedMeta,
});

/** A Kubernetes ServiceAccount: its labels. */
export type ServiceAccount = DeepReadonly<z.infer<typeof serviceAccountSchema>>;
