import { parse } from 'yaml';
import { tryParseCidr, type Cidr } from '#api/cidr.ts';
import { isPoolRange } from './cluster-config.ts';

/** Where kubeadm keeps how it set the cluster up. */
export const kubeadmConfigKey = { namespace: 'kube-system', name: 'kubeadm-config' } as const;
const where = `ConfigMap ${kubeadmConfigKey.namespace}/${kubeadmConfigKey.name}`;

/**
 * The pods' ranges of a cluster made by kubeadm: `networking.podSubnet` of its ClusterConfiguration, one range or one of each family. Empty if it
 * was given none, or if the cluster isn't kubeadm's. What can't be read is a problem: the controller manager hands out of a range that we don't know.
 */
export function kubeadmRanges(data: Readonly<Record<string, string>> | undefined): {
  readonly ranges: readonly Cidr[];
  readonly problems: readonly string[];
} {
  const text = data?.['ClusterConfiguration'];
  if (text === undefined) return { ranges: [], problems: [] };
  let subnet: unknown;
  try {
    const configuration: unknown = parse(text);
    subnet = (configuration as { networking?: { podSubnet?: unknown } } | null)?.networking?.podSubnet;
  } catch (error) {
    return problem(`ClusterConfiguration is no YAML: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (subnet === undefined || subnet === null || subnet === '') return { ranges: [], problems: [] };
  const ranges = typeof subnet === 'string' ? subnet.split(',').map((part) => tryParseCidr(part.trim())) : [undefined];
  const usable = ranges.filter((range) => range !== undefined && isPoolRange(range));
  const isOneOfEach = new Set(usable.map((range) => range?.family)).size === ranges.length;
  return isOneOfEach
    ? { ranges: usable as readonly Cidr[], problems: [] }
    : problem(`networking.podSubnet must be a network, or one of each family (is ${JSON.stringify(subnet)})`);
}

function problem(what: string): { readonly ranges: readonly Cidr[]; readonly problems: readonly string[] } {
  return {
    ranges: [],
    problems: [`${where}: ${what}; say podCIDR in ConfigMap kube-system/tortie-config instead`],
  };
}
