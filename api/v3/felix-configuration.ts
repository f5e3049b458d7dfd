import * as z from 'zod/mini';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

/** The agent's settings: `default` for all nodes, `node.<name>` for one. */
export const felixConfigurationSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('FelixConfiguration'),
  metadata: clusterMeta,
  spec: z._default(z.object({ bpfEnabled: z.optional(z.boolean()) }), {}),
});

/** The agent's settings: `default` for all nodes, `node.<name>` for one. */
export type FelixConfiguration = DeepReadonly<z.infer<typeof felixConfigurationSchema>>;
