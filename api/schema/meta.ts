import * as z from 'zod/mini';
import { dnsLabel, dnsSubdomain } from './checks.ts';

const common = {
  name: dnsSubdomain,
  uid: z.optional(z.string()),
  resourceVersion: z.optional(z.string()),
  generation: z.optional(z.int()),
  creationTimestamp: z.optional(z.string()),
  deletionTimestamp: z.optional(z.string()),
  labels: z.optional(z.record(z.string(), z.string())),
  annotations: z.optional(z.record(z.string(), z.string())),
};

/** `metadata` of a kind without namespaces. */
export const clusterMeta = z.object(common);

/** `metadata` of a namespaced kind; without a namespace it is `default`, as with kubectl. */
export const namespacedMeta = z.object({ ...common, namespace: z._default(dnsLabel, 'default') });
