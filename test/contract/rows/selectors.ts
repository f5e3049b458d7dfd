/** Who is selected: labels, namespaces, service accounts. Each selector has a port of its own, so that one policy tells of all. */
import { globalNetworkSet, globalPolicy, networkPolicy, networkSet } from '../objects.ts';
import { policyRow, type Row } from '../row.ts';

/** Who may be selected, and all of them. */
const candidates = ['client', 'far', 'blue', 'red', 'web2', 'outside'] as const;
type Candidate = (typeof candidates)[number];

/** A source, and whom of the candidates it selects. */
interface Case {
  readonly source: Readonly<Record<string, unknown>>;
  readonly selects: readonly Candidate[];
}

const ports = (cases: readonly Case[]) => cases.map((one, index) => ({ ...one, port: 3001 + index }));

const rules = (cases: readonly Case[]) =>
  ports(cases).map(({ source, port }) => ({
    action: 'Allow',
    protocol: 'TCP',
    source,
    destination: { ports: [port] },
  }));

/** Who is selected gets as far as web, where nobody listens; nobody else does. */
const matrix = (cases: readonly Case[]) => ({
  refused: ports(cases)
    .filter(({ selects }) => selects.length > 0)
    .map(({ selects, port }) => `${selects.join()} > web tcp ${port}`),
  nothing: ports(cases)
    .map(({ selects, port }) => ({ rest: candidates.filter((one) => !selects.includes(one)), port }))
    .filter(({ rest }) => rest.length > 0)
    .map(({ rest, port }) => `${rest.join()} > web tcp ${port}`),
});

const pods = ['client', 'far', 'blue', 'red', 'web2'] as const;

const operators: readonly Case[] = [
  { source: { selector: "color == 'azure'" }, selects: ['client'] },
  { source: { selector: "color != 'azure'" }, selects: ['far', 'blue', 'red', 'web2'] },
  { source: { selector: "color in {'azure', 'red'}" }, selects: ['client', 'red'] },
  { source: { selector: "color not in {'azure', 'red'}" }, selects: ['far', 'blue', 'web2'] },
  { source: { selector: "color contains 'zal'" }, selects: ['far'] },
  { source: { selector: "color starts with 'az'" }, selects: ['client', 'far'] },
  { source: { selector: "color ends with 'e'" }, selects: ['client', 'blue'] },
  { source: { selector: 'has(zone)' }, selects: ['client', 'far'] },
  { source: { selector: '!has(zone)' }, selects: ['blue', 'red', 'web2'] },
  { source: { selector: "zone != 'eu-west-1'" }, selects: ['far', 'blue', 'red', 'web2'] },
  { source: { selector: "has(zone) && color == 'azure' || color == 'red'" }, selects: ['client', 'red'] },
  { source: { selector: "app == 'client' && (color == 'blue' || color == 'red')" }, selects: ['blue', 'red'] },
  { source: { selector: "!(app == 'client')" }, selects: ['web2'] },
  { source: { selector: 'all()' }, selects: pods },
  { source: { notSelector: "color == 'azure'" }, selects: ['far', 'blue', 'red', 'web2', 'outside'] },
  { source: { selector: "app == 'client'", notSelector: "color == 'red'" }, selects: ['client', 'far', 'blue'] },
  { source: { selector: "projectcalico.org/namespace == 'red'" }, selects: ['red'] },
  { source: { namespaceSelector: "team == 'blue'" }, selects: ['blue'] },
  { source: { namespaceSelector: 'all()' }, selects: pods },
  { source: { serviceAccounts: { names: ['robot'] } }, selects: ['client', 'red'] },
];

const inNamespace: readonly Case[] = [
  { source: { selector: "app == 'client'" }, selects: ['client', 'far'] },
  { source: { namespaceSelector: "team == 'blue'" }, selects: ['blue'] },
  { source: { namespaceSelector: 'has(team)', selector: "color == 'red'" }, selects: ['red'] },
  { source: { namespaceSelector: 'all()', selector: "app == 'client'" }, selects: ['client', 'far', 'blue', 'red'] },
  { source: { namespaceSelector: 'all()' }, selects: [...pods, 'outside'] },
  { source: { serviceAccounts: { names: ['robot'] } }, selects: ['client'] },
  { source: { serviceAccounts: { selector: "kind == 'person'" } }, selects: ['far'] },
  { source: { serviceAccounts: { names: ['robot'] }, namespaceSelector: 'all()' }, selects: ['client', 'red'] },
  {
    source: { serviceAccounts: { selector: "kind == 'person'" }, namespaceSelector: 'all()' },
    selects: ['far', 'blue'],
  },
  { source: { namespaceSelector: 'global()', selector: "place == 'outside'" }, selects: ['outside'] },
  // Of a set in the namespace, and not of the global one of the same addresses.
  { source: { selector: "place == 'local'" }, selects: ['outside'] },
  { source: { selector: "place == 'outside'" }, selects: [] },
];

export const selectors: readonly Row[] = [
  policyRow({
    name: 'every operator of selectors picks exactly its pods',
    source: ['core 24', 'core 25'],
    given: [globalPolicy('operators', { selector: "color == 'green'", types: ['Ingress'], ingress: rules(operators) })],
    phases: [{ expect: matrix(operators) }],
  }),
  policyRow({
    name: "a NetworkPolicy's bare selectors stay in its namespace; namespaceSelector, service accounts and global() lead out of it",
    source: ['core 25'],
    given: (v4, v6) => [
      networkPolicy('inside', { selector: "color == 'green'", types: ['Ingress'], ingress: rules(inNamespace) }),
      globalNetworkSet('outside', [v4['outside'] ?? '', v6['outside'] ?? ''], { place: 'outside' }),
      networkSet('local', [v4['outside'] ?? '', v6['outside'] ?? ''], { place: 'local' }),
    ],
    phases: [{ expect: matrix(inNamespace) }],
  }),
  policyRow({
    name: 'a change of labels takes a pod into a rule and out of it',
    source: ['core 24'],
    given: [
      globalPolicy('azures', {
        selector: "app == 'web'",
        types: ['Ingress'],
        ingress: [{ action: 'Allow', source: { selector: "color == 'azure'" } }],
      }),
    ],
    phases: [
      { expect: { reaches: ['client > web,web2'], nothing: ['far,red > web,web2'] } },
      {
        do: [{ relabel: 'far', labels: { app: 'client', color: 'azure' } }],
        expect: { reaches: ['client,far > web,web2'], nothing: ['red > web,web2'] },
      },
      {
        do: [
          { relabel: 'client', labels: { app: 'client' } },
          { relabel: 'red', labels: { color: 'azure' } },
        ],
        expect: { reaches: ['far,red > web,web2'], nothing: ['client > web,web2'] },
      },
    ],
  }),
  policyRow({
    name: 'a change of labels puts a pod under a policy and takes it out, and established flows go on',
    source: ['core 24'],
    given: [globalPolicy('quarantine', { selector: "quarantine == 'yes'", types: ['Ingress', 'Egress'] })],
    phases: [
      {
        do: [{ flow: 'old', line: 'client > web' }],
        expect: { reaches: ['client > web', 'web > client'], flows: { old: 'runs' } },
      },
      {
        do: [{ relabel: 'web', labels: { app: 'web', color: 'green', quarantine: 'yes' } }],
        expect: { nothing: ['client,far > web tcp,udp', 'web > client,far tcp,udp'], flows: { old: 'runs' } },
      },
      {
        do: [{ relabel: 'web', labels: { app: 'web', color: 'green' } }],
        expect: { reaches: ['client,far > web tcp,udp', 'web > client,far tcp,udp'], flows: { old: 'runs' } },
      },
    ],
  }),
  policyRow({
    name: "a global policy's namespaceSelector and serviceAccountSelector choose whom it is for",
    source: ['core 25'],
    given: [
      globalPolicy('blues', { namespaceSelector: "team == 'blue'", types: ['Ingress'] }),
      globalPolicy('machines', {
        serviceAccountSelector: "kind == 'machine'",
        types: ['Ingress'],
        ingress: [{ action: 'Allow', protocol: 'UDP' }],
      }),
    ],
    phases: [
      {
        expect: {
          nothing: ['web > blue tcp,udp', 'web > client,red tcp'],
          reaches: ['web > client,red udp', 'client > web,far,web2 tcp,udp'],
        },
      },
    ],
  }),
];
