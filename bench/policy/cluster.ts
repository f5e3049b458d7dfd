/** The clusters that the measurements use: plain objects as a user would write them. */

const v3 = 'projectcalico.org/v3';

/** Of all the pods, the first ones are this node's. */
export const localPods = 10;

/** Address number `index` of the remote pods: 10.66.0.0 on. */
export const remoteAddress = (index: number): string => `10.${66 + (index >> 16)}.${(index >> 8) & 255}.${index & 255}`;

/** Hardware address of pod `index` of this node. */
export const macOf = (index: number): string => `02:00:00:00:00:${index.toString(16).padStart(2, '0')}`;

/** Labels of pod `index`: one of 100 apps, one of 10 roles; every pod that policies allow from has `role: role-<n>`. */
export const labelsOf = (index: number): Record<string, string> => ({
  app: `app-${index % 100}`,
  role: `role-${index % 10}`,
  pod: `pod-${index}`,
});

/** A pod of another node. */
export function remotePod(index: number, labels: Readonly<Record<string, string>> = labelsOf(index)): object {
  const ip = remoteAddress(index);
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `far-${index}`, namespace: 'default', labels },
    spec: { nodeName: `far${index % 50}`, containers: [{ name: 'main' }] },
    status: { phase: 'Running', podIP: ip, podIPs: [{ ip }] },
  };
}

/** Policy `index` of many: pods of one of ten apps accept TCP from one role and one app. A node with a pod of each of these apps uses them all. */
export function manyPolicy(index: number): object {
  return {
    apiVersion: v3,
    kind: 'NetworkPolicy',
    metadata: { name: `many-${index}`, namespace: 'default' },
    spec: {
      selector: `app == "app-${index % 10}"`,
      order: index,
      types: ['Ingress'],
      ingress: [
        {
          action: 'Allow',
          protocol: 'TCP',
          source: { selector: `role == "role-${index % 10}"` },
          destination: { ports: [80, 443] },
        },
        {
          action: 'Allow',
          protocol: 'TCP',
          source: { selector: `app == "app-${(index * 7) % 100}"` },
          destination: { ports: [8000 + index] },
        },
      ],
    },
  };
}

/** A policy of `count` rules for the pods labelled `bench: <target>`, each another /32 and port; the last one allows `from`. */
export function longPolicy(target: string, count: number, from: string): object[] {
  const rules = Array.from({ length: count - 1 }, (_, index) => ({
    action: 'Allow',
    protocol: 'TCP',
    source: { nets: [`${remoteAddress(index)}/32`] },
    destination: { ports: [10_000 + (index % 50_000)] },
  }));
  return targetPolicies(target, [...rules, allow({ nets: [`${from}/32`] })]);
}

/** A policy for the pods labelled `bench: <target>` whose one rule allows the members of a set of `count` networks; `from` is one of them. */
export function bigSet(target: string, count: number, from: string): object[] {
  const nets = Array.from({ length: count - 1 }, (_, index) => `${remoteAddress(index)}/32`);
  return [
    {
      apiVersion: v3,
      kind: 'GlobalNetworkSet',
      metadata: { name: target, labels: { set: target } },
      spec: { nets: [...nets, `${from}/32`] },
    },
    ...targetPolicies(target, [allow({ selector: `set == "${target}"` })]),
  ];
}

function allow(source: object): object {
  return { action: 'Allow', protocol: 'TCP', source };
}

/** At most 1,024 rules a direction are valid: a longer list is several policies, one after the other. */
function targetPolicies(target: string, rules: readonly object[]): object[] {
  const chunks = Array.from({ length: Math.ceil(rules.length / 1000) }, (_, index) =>
    rules.slice(index * 1000, (index + 1) * 1000),
  );
  return chunks.map((ingress, index) => ({
    apiVersion: v3,
    kind: 'GlobalNetworkPolicy',
    metadata: { name: `${target}-${index}` },
    spec: { selector: `bench == "${target}"`, order: 10 + index, types: ['Ingress'], ingress },
  }));
}
