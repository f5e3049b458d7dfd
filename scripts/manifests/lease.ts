import { leaseName, namespace } from './names.ts';
import type { Documented } from './render.ts';

/** The agents would make it too; as a part of the manifest it goes with it. */
export function lease(): Documented {
  return {
    head: 'Who of the agents collects what nodes that are gone have left.',
    object: { apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { name: leaseName, namespace }, spec: {} },
  };
}
