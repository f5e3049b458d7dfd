import type { Cidr, Family } from '#api/cidr.ts';
import { parseAs, type KindMap } from '#api/kinds.ts';
import { builtInTiers } from '#api/v3/tier.ts';

/** A kind of which agents make an object where there is none. */
export type DefaultKind = 'FelixConfiguration' | 'IPAMConfiguration' | 'Tier' | 'IPPool' | 'ClusterInformation';

/** One object that is to be there. */
export type DefaultObject = {
  readonly [K in DefaultKind]: { readonly kind: K; readonly object: KindMap[K] };
}[DefaultKind];

const v3 = 'projectcalico.org/v3';

/** What says that agents have made a pool: only such pools may be an unfinished set. */
export const managedBy = { 'app.kubernetes.io/managed-by': 'tortie' } as const;

/** The names of the default pools, as Calico's. */
export const defaultPoolNames: Readonly<Record<Family, string>> = {
  4: 'default-ipv4-ippool',
  6: 'default-ipv6-ippool',
};

/** Settings, tiers and IPAM's configuration. */
export function defaultSettings(): readonly DefaultObject[] {
  return [
    {
      kind: 'FelixConfiguration',
      // As Calico's manifest has it: with the built-in Drop no pod reaches its own node, where API server and DNS cache may be.
      object: object('FelixConfiguration', 'default', { defaultEndpointToHostAction: 'Accept' }),
    },
    { kind: 'IPAMConfiguration', object: object('IPAMConfiguration', 'default', {}) },
    ...[...builtInTiers].map(([name, settings]) => ({
      kind: 'Tier' as const,
      object: object('Tier', name, { ...settings }),
    })),
  ];
}

/** The default pool of a range's family. */
export function defaultPool(cidr: Cidr): DefaultObject {
  const spec = { cidr: cidr.text, natOutgoing: true, vxlanMode: 'Never' };
  return { kind: 'IPPool', object: object('IPPool', defaultPoolNames[cidr.family], spec, managedBy) };
}

/** The object that says that the cluster is set up; made last. */
export function clusterInformation(clusterGUID: string): DefaultObject {
  const spec = { clusterGUID, clusterType: 'k8s,tortie', datastoreReady: true };
  return { kind: 'ClusterInformation', object: object('ClusterInformation', 'default', spec) };
}

function object<K extends DefaultKind>(
  kind: K,
  name: string,
  spec: object,
  labels?: Readonly<Record<string, string>>,
): KindMap[K] {
  const metadata = { name, ...(labels === undefined ? {} : { labels }) };
  return parseAs(kind, { apiVersion: v3, kind, metadata, spec }).object;
}
