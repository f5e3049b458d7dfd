import * as z from 'zod/mini';
import { felixSpecSchema } from '../felix/felix-fields.ts';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

/** The agent's settings: `default` for all nodes, `node.<name>` for one. Values become usable by `resolveFelix`. */
export const felixConfigurationSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('FelixConfiguration'),
  metadata: clusterMeta,
  spec: z.prefault(felixSpecSchema, {}),
});

/** The agent's settings: `default` for all nodes, `node.<name>` for one. */
export type FelixConfiguration = DeepReadonly<z.infer<typeof felixConfigurationSchema>>;
