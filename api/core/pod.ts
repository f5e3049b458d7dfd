import * as z from 'zod/mini';
import { port, portOrZero } from '../schema/checks.ts';
import { namespacedMeta } from '../schema/meta.ts';
import type { DeepReadonly } from '../schema/readonly.ts';

const containerPort = z.object({
  /** Policies refer to it; ports without one matter only for `hostPort`. */
  name: z.optional(z.string()),
  containerPort: port,
  protocol: z._default(z.enum(['TCP', 'UDP', 'SCTP']), 'TCP'),
  hostPort: z.optional(portOrZero),
  hostIP: z.optional(z.string()),
});

const container = z.object({
  name: z.string(),
  ports: z._default(z.array(containerPort), () => []),
  /** `Always` makes an init container a sidecar, whose ports count. */
  restartPolicy: z.optional(z.string()),
});

/** A Kubernetes Pod, with what we use of it. */
export const podSchema = z.object({
  apiVersion: z.literal('v1'),
  kind: z.literal('Pod'),
  metadata: namespacedMeta,
  spec: z.prefault(
    z.object({
      /** Absent until the scheduler has chosen. */
      nodeName: z.optional(z.string()),
      serviceAccountName: z.optional(z.string()),
      hostNetwork: z._default(z.boolean(), false),
      containers: z._default(z.array(container), () => []),
      initContainers: z._default(z.array(container), () => []),
    }),
    {},
  ),
  status: z.prefault(
    z.object({
      /** Pending, Running, Succeeded, Failed or Unknown. */
      phase: z.optional(z.string()),
      podIP: z.optional(z.string()),
      podIPs: z._default(z.array(z.object({ ip: z.string() })), () => []),
    }),
    {},
  ),
});

/** A Kubernetes Pod, with what we use of it. */
export type Pod = DeepReadonly<z.infer<typeof podSchema>>;
