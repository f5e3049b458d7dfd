/** Rows of policies, tiers, sets and host endpoints. */
import type { KindName } from '../kinds.ts';
import { conditionsRows, labelSelectorRows, ruleRows } from './shared.ts';
import { each, kept, no, under, yes, yesBut, type FieldTable } from './row.ts';

const rules: FieldTable = { ...under('spec.ingress[]', ruleRows), ...under('spec.egress[]', ruleRows) };

const common: FieldTable = {
  ...each(yes, 'spec.tier', 'spec.order', 'spec.selector', 'spec.types', 'spec.serviceAccountSelector'),
  'spec.performanceHints': kept('not needed: a policy is in the kernel before an endpoint that it selects'),
  ...rules,
  ...under('status', conditionsRows),
};

const global: FieldTable = {
  ...common,
  ...each(yes, 'spec.namespaceSelector', 'spec.doNotTrack', 'spec.preDNAT', 'spec.applyOnForward'),
};

const staged: FieldTable = {
  'spec.stagedAction': yesBut('Delete: counts nothing; the others are all evaluated and counted'),
};

const peers = (path: string): FieldTable => ({
  ...under(`${path}.podSelector`, labelSelectorRows),
  ...under(`${path}.namespaceSelector`, labelSelectorRows),
  ...each(yes, `${path}.ipBlock.cidr`, `${path}.ipBlock.except`),
});
const ports = (path: string): FieldTable => each(yes, `${path}.protocol`, `${path}.port`, `${path}.endPort`);

const kubernetes: FieldTable = {
  ...under('spec.podSelector', labelSelectorRows),
  ...ports('spec.ingress[].ports[]'),
  ...peers('spec.ingress[].from[]'),
  ...ports('spec.egress[].ports[]'),
  ...peers('spec.egress[].to[]'),
  'spec.policyTypes': yes,
};

const closed =
  'Accept matches nothing with it; Deny and Pass deny everything, as the API demands of what is not supported';

function clusterPeers(path: string): FieldTable {
  return {
    ...under(`${path}.namespaces`, labelSelectorRows),
    ...under(`${path}.pods.namespaceSelector`, labelSelectorRows),
    ...under(`${path}.pods.podSelector`, labelSelectorRows),
  };
}

function clusterRule(path: string): FieldTable {
  const protocols = ['tcp', 'udp', 'sctp'].flatMap((protocol) =>
    ['number', 'range.start', 'range.end'].map((port) => `${path}.protocols[].${protocol}.destinationPort.${port}`),
  );
  return {
    [`${path}.name`]: kept('for people'),
    ...each(yes, `${path}.action`, ...protocols, `${path}.protocols[].destinationNamedPort`),
  };
}

const cluster: FieldTable = {
  ...each(yes, 'spec.tier', 'spec.priority'),
  ...clusterPeers('spec.subject'),
  ...clusterRule('spec.ingress[]'),
  ...clusterPeers('spec.ingress[].from[]'),
  ...clusterRule('spec.egress[]'),
  ...clusterPeers('spec.egress[].to[]'),
  ...under('spec.egress[].to[].nodes', each(no(closed), ...Object.keys(labelSelectorRows))),
  'spec.egress[].to[].networks': yes,
  'spec.egress[].to[].domainNames': no(closed),
  ...under('status', conditionsRows),
};

export const policyTables = {
  NetworkPolicy: common,
  GlobalNetworkPolicy: global,
  StagedNetworkPolicy: { ...staged, ...common },
  StagedGlobalNetworkPolicy: { ...staged, ...global },
  StagedKubernetesNetworkPolicy: { ...staged, ...kubernetes },
  KubernetesNetworkPolicy: kubernetes,
  ClusterNetworkPolicy: cluster,
  Tier: { ...each(yes, 'spec.order', 'spec.defaultAction'), ...under('status', conditionsRows) },
  Profile: { ...rules, 'spec.labelsToApply': yes },
  NetworkSet: { 'spec.nets': yes },
  GlobalNetworkSet: { 'spec.nets': yes },
  HostEndpoint: each(
    yes,
    'spec.node',
    'spec.interfaceName',
    'spec.expectedIPs',
    'spec.profiles',
    'spec.ports[].name',
    'spec.ports[].protocol',
    'spec.ports[].port',
  ),
} satisfies { readonly [K in KindName]?: FieldTable };
