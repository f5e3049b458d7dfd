/** Tiers, order, Pass, Log, staged and invalid policies. */
import {
  globalPolicy,
  networkPolicy,
  stagedGlobalPolicy,
  stagedKubernetesPolicy,
  stagedPolicy,
  tier,
} from '../objects.ts';
import { policyRow, type Manifest, type Row } from '../row.ts';

const web = { selector: "app == 'web'", types: ['Ingress'] };
const everything = (action: string) => ({ ...web, ingress: [{ action }] });
const allow = (name: string, spec: object = {}): Manifest => globalPolicy(name, { ...everything('Allow'), ...spec });
const deny = (name: string, spec: object = {}): Manifest => globalPolicy(name, { ...everything('Deny'), ...spec });
const pass = (name: string, spec: object = {}): Manifest => globalPolicy(name, { ...everything('Pass'), ...spec });
/** Selects the webs, and has a rule that matches nothing that is asked for. */
const beside = (name: string, spec: object = {}): Manifest =>
  globalPolicy(name, { ...web, ingress: [{ action: 'Allow', protocol: 'TCP', destination: { ports: [1] } }], ...spec });

const asked = 'client,far > web,web2 tcp,udp,icmp';
const open = { reaches: [asked] };
const closed = { nothing: [asked] };

export const tiers: readonly Row[] = [
  policyRow({
    name: 'the policy with the lower order decides; swapped, the other one',
    source: ['core 20'],
    given: [deny('denies', { order: 10 }), allow('allows', { order: 20 })],
    phases: [
      { expect: closed },
      { do: [{ apply: [deny('denies', { order: 20 }), allow('allows', { order: 10 })] }], expect: open },
      { do: [{ apply: [deny('denies', { order: 10 }), allow('allows', { order: 20 })] }], expect: closed },
    ],
  }),
  policyRow({
    name: 'of policies of one order the name decides, and one without an order comes last',
    source: ['core 20'],
    given: [deny('a', { order: 5 }), allow('b', { order: 5 })],
    phases: [
      { expect: closed },
      { do: [{ remove: ['a'] }, { apply: [deny('c', { order: 5 })] }], expect: open },
      { do: [{ apply: [allow('b')] }], expect: closed },
      { do: [{ apply: [allow('b'), deny('c')] }], expect: open },
    ],
  }),
  policyRow({
    name: "what passes one tier is judged by the next one's policies",
    source: ['core 21'],
    given: [tier('first', { order: 100 }), pass('first.pass', { tier: 'first', order: 1 }), allow('allows')],
    phases: [
      { expect: open },
      { do: [{ apply: [deny('allows')] }], expect: closed },
      { do: [{ apply: [allow('allows'), deny('first.pass', { tier: 'first', order: 1 })] }], expect: closed },
    ],
  }),
  policyRow({
    name: "what no rule of a tier matches meets the tier's default action: Deny, or Pass",
    source: ['core 21'],
    given: [
      tier('first', { order: 100, defaultAction: 'Deny' }),
      beside('first.beside', { tier: 'first' }),
      allow('allows'),
    ],
    phases: [
      { expect: { ...closed, refused: ['client > web tcp 1'] } },
      { do: [{ apply: [tier('first', { order: 100, defaultAction: 'Pass' })] }], expect: open },
      { do: [{ apply: [tier('first', { order: 100, defaultAction: 'Deny' })] }], expect: closed },
    ],
  }),
  policyRow({
    name: 'tiers are asked in their order, and one that selects nobody is left out',
    source: ['core 21'],
    given: [
      tier('one', { order: 100 }),
      tier('two', { order: 200 }),
      tier('idle', { order: 50, defaultAction: 'Deny' }),
      deny('one.denies', { tier: 'one' }),
      allow('two.allows', { tier: 'two' }),
      globalPolicy('idle.idle', { tier: 'idle', selector: "app == 'nobody'", types: ['Ingress'] }),
      // Another direction is another matter.
      globalPolicy('idle.egress', { tier: 'idle', ...web, types: ['Egress'], egress: [{ action: 'Allow' }] }),
    ],
    phases: [
      { expect: closed },
      { do: [{ apply: [tier('one', { order: 300 })] }], expect: { ...open, reaches: [asked, 'web > client tcp,udp'] } },
    ],
  }),
  policyRow({
    name: 'what passes the last tier is allowed by the profile of its namespace',
    source: ['core 22'],
    given: [pass('passes')],
    phases: [{ expect: open }, { do: [{ apply: [beside('passes')] }], expect: closed }],
  }),
  policyRow({
    name: 'a Log rule decides nothing',
    source: ['core 21'],
    given: [globalPolicy('logs', { ...web, ingress: [{ action: 'Log' }, { action: 'Allow', protocol: 'TCP' }] })],
    phases: [{ expect: { reaches: ['client,far > web,web2 tcp'], nothing: ['client,far > web,web2 udp,icmp'] } }],
  }),
  policyRow({
    name: 'staged policies change nothing, of whatever kind and order',
    source: ['core 23'],
    given: [
      stagedGlobalPolicy('denies', { ...everything('Deny'), order: 1 }),
      stagedPolicy('isolates', { ...web, order: 2 }),
      stagedKubernetesPolicy('isolates', { podSelector: { matchLabels: { app: 'web' } }, policyTypes: ['Ingress'] }),
    ],
    phases: [
      { expect: open },
      { do: [{ apply: [beside('enforced', { order: 100 })] }], expect: { ...closed, refused: ['client > web tcp 1'] } },
    ],
  }),
  policyRow({
    name: 'a staged policy allows nothing either',
    source: ['core 23'],
    given: [stagedGlobalPolicy('allows', { ...everything('Allow'), order: 1 }), deny('denies', { order: 2 })],
    phases: [{ expect: closed }],
  }),
  policyRow({
    name: 'a tier of staged policies alone drops nothing',
    source: ['core 23'],
    given: [
      tier('trial', { order: 100, defaultAction: 'Deny' }),
      stagedGlobalPolicy('trial.denies', { ...everything('Deny'), tier: 'trial' }),
    ],
    phases: [{ expect: open }, { do: [{ apply: [beside('trial.beside', { tier: 'trial' })] }], expect: closed }],
  }),
  policyRow({
    name: 'an invalid policy denies its types for those it selects; made valid, it is what it says',
    source: ['design 6'],
    given: [
      globalPolicy('broken', {
        ...web,
        ingress: [{ action: 'Allow', protocol: 'TCP', destination: { ports: ['9:1'] } }],
      }),
    ],
    phases: [
      { expect: { ...closed, reaches: ['web > client,far tcp,udp', 'client > far'] } },
      { do: [{ apply: [allow('broken')] }], expect: open },
    ],
  }),
  policyRow({
    name: 'a policy that becomes invalid keeps its last valid version in force',
    source: ['design 6'],
    given: [
      networkPolicy('once-valid', { ...web, ingress: [{ action: 'Allow', source: { selector: "color == 'azure'" } }] }),
    ],
    phases: [
      { expect: { reaches: ['client > web,web2'], nothing: ['far > web,web2'] } },
      {
        do: [{ apply: [networkPolicy('once-valid', { ...web, ingress: [{ action: 'Permit' }] })] }],
        expect: { reaches: ['client > web,web2'], nothing: ['far > web,web2'] },
      },
      { do: [{ remove: ['default/once-valid'] }], expect: open },
    ],
  }),
  policyRow({
    name: 'an invalid policy with a selector that selects nothing sensible is left out',
    source: ['design 6'],
    given: [globalPolicy('senseless', { selector: 'app ==', types: ['Ingress'] })],
    phases: [{ expect: open }],
  }),
];
