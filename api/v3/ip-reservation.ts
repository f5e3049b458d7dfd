import * as z from 'zod/mini';
import { net } from '../schema/checks.ts';
import { clusterMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

/** Addresses that are never given automatically; who asks for one exactly gets it. */
export const ipReservationSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('IPReservation'),
  metadata: clusterMeta,
  spec: z.prefault(z.object({ reservedCIDRs: z._default(z.array(net), () => []) }), {}),
});

/** Addresses that are never given automatically; who asks for one exactly gets it. */
export type IPReservation = DeepReadonly<z.infer<typeof ipReservationSchema>>;
