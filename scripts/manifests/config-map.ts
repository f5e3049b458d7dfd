import { configMapName, namespace } from './names.ts';
import type { Documented } from './render.ts';

/** The keys of the ConfigMap, with what each is when it is empty. */
const keys: Readonly<Record<string, readonly [value: string, comment: string]>> = {
  podCIDR: [
    '',
    "The pods' IPv4 range, such as 10.65.0.0/16. Empty: what kubeadm was told, else the /16 that holds every Node's podCIDR; if nobody says a range of either family, 192.168.0.0/16, or one of 172.16.0.0/12 where that is in use. Read while the cluster has no IPPool; later ranges are added as IPPools.",
  ],
  podCIDRv6: [
    '',
    "The pods' IPv6 range, such as fd65::/48. Empty: what kubeadm was told, else the /48 that holds every Node's IPv6 podCIDR; if nobody says a range of either family, a random one where every Node has an IPv6 address.",
  ],
  defaultPools: ['true', '"false": no IPPool is made; pods get addresses when you have made one.'],
  mtu: [
    '',
    "MTU of the pods' interfaces, in bytes. Empty: that of the node's own device. Holds for pods that start after the agents did: kubectl -n kube-system rollout restart daemonset tortie-node",
  ],
  cniVersion: [
    '1.0.0',
    'cniVersion of /etc/cni/net.d/10-tortie.conflist. 1.1.0 lets containerd 2 and CRI-O ask for status and collect garbage; older runtimes and Multus refuse it.',
  ],
  ipamLeakGrace: [
    '',
    'How long an address must look unused before it is released, such as 90s or 1h. Empty: 15m. "0": never. Read at each start of an agent.',
  ],
};

/** What a cluster is set up with. People may edit it: there is no default in it that a later version must be able to change. */
export function configMap(): Documented {
  return {
    head: 'Settings for setting up. All other settings are in the FelixConfiguration named default, which the first agent creates.',
    object: {
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name: configMapName, namespace },
      data: Object.fromEntries(Object.entries(keys).map(([key, [value]]) => [key, value])),
    },
    comments: new Map(Object.entries(keys).map(([key, [, comment]]) => [['data', key], comment])),
  };
}
