/** The labels that endpoints and network sets get from where they belong, besides their own and those of their profiles. */
import { labelKeys } from '../convert/convert.ts';
import type { LabelRecord, LabelSources } from '../labels/label-index.ts';

type OverLayer = NonNullable<LabelSources['over']>;

const whereItBelongs: ReadonlySet<string> = new Set([
  labelKeys.namespace,
  labelKeys.orchestrator,
  labelKeys.serviceAccount,
]);
const inherited = [labelKeys.namespacePrefix, labelKeys.serviceAccountPrefix];

/**
 * What something in a namespace may say of itself. Where it belongs is for others to say, also where they say nothing: whoever may label a pod
 * (or write a NetworkSet) could otherwise make it pass, by `pcns.env`, for one of another namespace.
 */
export function ownLabels(labels: LabelRecord = {}): LabelRecord {
  const isForged = (key: string) => whereItBelongs.has(key) || inherited.some((prefix) => key.startsWith(prefix));
  if (!Object.keys(labels).some(isForged)) return labels;
  return Object.fromEntries(Object.entries(labels).filter(([key]) => !isForged(key)));
}

/** Longest text that a label's value may be; a service account's name that is longer is no label. */
const longestLabelValue = 63;

/** What Kubernetes takes when a Pod names no service account. */
export const defaultAccount = 'default';

/**
 * Labels that no pod may give itself: where it belongs. The names of namespace and account hold whether or not there are objects. They are made when
 * somebody asks: of the many pods of an account, and of a pod's changes, only the first needs them.
 */
export function podLayer(namespace: string, account: string): OverLayer {
  return {
    id: `pod ${namespace}/${account}`,
    get labels() {
      return {
        ...namespaceLabels(namespace),
        [labelKeys.orchestrator]: 'k8s',
        ...(account.length > longestLabelValue ? {} : { [labelKeys.serviceAccount]: account }),
        [labelKeys.serviceAccountPrefix + labelKeys.name]: account,
      };
    },
  };
}

/** Likewise of a container that is no pod; as in Calico, it has a label for each network (its profiles) that it is in. */
export function containerLayer(namespace: string, orchestrator: string, networks: readonly string[]): OverLayer {
  return {
    id: `container ${namespace}/${orchestrator} ${networks.join(' ')}`,
    labels: {
      [labelKeys.namespace]: namespace,
      [labelKeys.orchestrator]: orchestrator,
      ...Object.fromEntries(networks.map((network) => [network, ''])),
    },
  };
}

/** Likewise of a NetworkSet. */
export function networkSetLayer(namespace: string): OverLayer {
  return { id: `networkset ${namespace}`, labels: namespaceLabels(namespace) };
}

/** The API server gives every namespace the second label; the files datastore has no API server. */
function namespaceLabels(namespace: string): LabelRecord {
  return {
    [labelKeys.namespace]: namespace,
    [labelKeys.namespacePrefix + labelKeys.name]: namespace,
    [`${labelKeys.namespacePrefix}kubernetes.io/metadata.name`]: namespace,
  };
}
