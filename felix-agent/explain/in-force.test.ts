import { expect, test } from '@jest/globals';
import type { ApplyFailure } from '#dataplanes/contract.ts';
import type { Explanation } from './explain.ts';
import { asInForce, notesInForce, type InForce } from './in-force.ts';

const client = 'k8s/default/client/eth0';
const says = (verdict: 'allow' | 'deny') => ({ verdict, rule: null, reason: 'because', steps: [] });
const answer = (more: Partial<Explanation> = {}): Explanation => ({
  verdict: 'allow',
  reason: 'a rule',
  packet: { source: '10.65.0.1', destination: '10.65.0.2', protocol: 6 },
  source: { name: 'pod default/client', kind: 'local endpoint', endpoint: client, addresses: ['10.65.0.1'] },
  destination: { name: '192.0.2.1', kind: 'outside', addresses: ['192.0.2.1'] },
  egress: says('allow'),
  ingress: null,
  notes: ['first'],
  ...more,
});
const inForce = (kind?: string, failures: readonly ApplyFailure[] = []): InForce => ({
  dataplane: kind === undefined ? undefined : { kind, capabilities: { enforcesPolicy: kind !== 'ebpf' } },
  failures,
});
const failure: ApplyFailure = { object: 'endpoint', endpoint: client, reason: 'no room' };

test('what is programmed is left as it is', () => {
  const other = { ...failure, endpoint: 'k8s/default/other/eth0' };
  expect(asInForce(answer(), inForce('iptables', [other]))).toEqual(answer());
});

test('an endpoint that is not programmed as it should be is named, the verdict is what should be', () => {
  expect(asInForce(answer(), inForce('iptables', [failure]))).toEqual(
    answer({ notes: ['first', `endpoint ${client} is not programmed as it should be: no room`] }),
  );
});

test('without a dataplane in the path nothing is in force', () => {
  expect(asInForce(answer(), inForce()).notes[1]).toContain('no dataplane is active yet');
});

test.each<[string, Partial<Explanation>, readonly ApplyFailure[], 'allow' | 'deny', string]>([
  [
    'an endpoint that it can not judge is closed',
    {},
    [failure],
    'deny',
    'nothing passes from or to pod default/client: no room',
  ],
  ['what is open is open', {}, [], 'allow', 'a rule'],
  ['what nothing is allowed to stays closed', { verdict: 'deny', egress: says('deny') }, [], 'deny', 'a rule'],
  ['settings that act by rules do not', { verdict: 'deny' }, [], 'allow', 'the ebpf dataplane does not act on: a rule'],
])('a dataplane that enforces no policy: %s', (_what, more, failures, verdict, reason) => {
  const told = asInForce(answer(more), inForce('ebpf', failures));
  expect(told).toMatchObject({ verdict, reason });
  expect(told.notes.join('\n')).toContain('the ebpf dataplane does not enforce policy');
});

test('a reader of rules is told the same', () => {
  expect(notesInForce(inForce('iptables'), [client])).toEqual([]);
  expect(notesInForce(inForce('ebpf', [failure]), [client])).toHaveLength(2);
});
