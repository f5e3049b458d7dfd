import * as z from 'zod/mini';
import { net, rule } from '../schema/checks.ts';
import { clusterMeta, namespacedMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';
import { v3 } from './group.ts';

const namespaceLabel = 'projectcalico.org/namespace';

/** Labels are what rules find the set by; the one that tells the namespace is ours to give. */
const labels = z.optional(
  z
    .record(z.string(), z.string())
    .check(rule((given) => (Object.hasOwn(given, namespaceLabel) ? `must not have ${namespaceLabel}` : undefined))),
);

/** Networks, or single addresses; host bits mean nothing, and they may overlap. */
const spec = z.prefault(z.object({ nets: z._default(z.array(net), () => []) }), {});

/** Networks outside, with labels, so that selectors find them like endpoints of the namespace. */
export const networkSetSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('NetworkSet'),
  metadata: z.extend(namespacedMeta, { labels }),
  spec,
});

/** Networks outside, with labels, so that selectors find them like endpoints of the namespace. */
export type NetworkSet = DeepReadonly<z.infer<typeof networkSetSchema>>;

/** Networks outside, with labels, so that selectors find them like endpoints of no namespace. */
export const globalNetworkSetSchema = z.object({
  apiVersion: z.literal(v3),
  kind: z.literal('GlobalNetworkSet'),
  metadata: z.extend(clusterMeta, { labels }),
  spec,
});

/** Networks outside, with labels, so that selectors find them like endpoints of no namespace. */
export type GlobalNetworkSet = DeepReadonly<z.infer<typeof globalNetworkSetSchema>>;
