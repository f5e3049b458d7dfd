import { beforeEach, describe, expect, test } from '@jest/globals';
import type { WorkloadEndpointInfo } from '#dataplanes/messages.ts';
import type { LegView, PacketQuestion, PacketView } from '#dataplanes/observe.ts';
import type { Party } from './directory.ts';
import { explainInKernel, type Inspected } from './in-kernel.ts';
import type { PolicyView } from './policy-view.ts';

const client = 'k8s/default/client/eth0';
const allows = 'Profile kns.default egress 0';
const pod: WorkloadEndpointInfo = {
  ifaceName: 'cali1',
  mac: '0a:58:0a:41:00:01',
  ipv4Nets: ['10.65.0.1/32'],
  ipv6Nets: [],
  allowedSourcePrefixes: [],
  tiers: [],
  profiles: ['kns.default'],
};
const peer = { sets: [], notSets: [], ports: [], portSets: [], notPorts: [], notPortSets: [], ipPortSets: [] };
const view: PolicyView = {
  config: () => undefined,
  set: () => undefined,
  sets: () => [],
  policy: () => undefined,
  profile: () => ({
    ingress: [],
    egress: [{ id: allows, action: 'allow', source: peer, destination: { ...peer, notNet: '192.0.2.9/32' } }],
  }),
  endpoint: (id) => (id === client ? pod : undefined),
  endpoints: () => [],
  hostEndpoints: () => [],
};
const find = (text: string): Party =>
  text === 'client'
    ? { name: 'pod default/client', kind: 'local endpoint', endpoint: client, addresses: ['10.65.0.1'] }
    : { name: text, kind: 'outside', addresses: [text] };
const inForce = { dataplane: { kind: 'ebpf', capabilities: { enforcesPolicy: true } }, failures: [] };

let leg: Partial<LegView>;
let asked: PacketQuestion[];
beforeEach(() => {
  leg = {};
  asked = [];
});
const kernel = (question: PacketQuestion): PacketView => {
  asked.push(question);
  const address = { class: 0, hop: 0, nextHop: "the node's stack" };
  return {
    source: { ...address, address: question.source },
    destination: { ...address, address: question.destination },
    legs:
      question.sourceDevice === undefined
        ? []
        : [
            {
              direction: 'egress',
              device: question.sourceDevice,
              unit: 4,
              verdict: 'allow',
              rule: allows,
              decidedBy: allows,
              ...leg,
            },
          ],
  };
};
const ask = (destination: string, dataplane: Inspected | undefined) =>
  explainInKernel(
    { source: 'client', destination, protocol: 'tcp', port: '80' },
    { directory: { find }, view, inForce, dataplane },
  );
const withService = (...addresses: string[]): Inspected => ({
  inspect: async (question) => kernel(question),
  services: {
    find: (address) =>
      address === '10.96.0.1'
        ? { service: 'default/web', backends: addresses.map((each) => ({ address: each, port: 8080 })) }
        : undefined,
  },
});

describe('explain with the kernel', () => {
  test('a dataplane without tables adds nothing', async () => {
    expect(await ask('192.0.2.1', {})).not.toHaveProperty('kernel');
    expect(await ask('192.0.2.1', undefined)).toMatchObject({ verdict: 'allow' });
  });

  test('the kernel is asked about the legs that are judged here', async () => {
    const { kernel: said, notes } = await ask('192.0.2.1', withService());
    expect(said?.legs).toHaveLength(1);
    expect(asked).toMatchObject([
      { source: '10.65.0.1', destination: '192.0.2.1', destinationPort: 80, sourceDevice: 'cali1' },
    ]);
    expect(asked[0]).not.toHaveProperty('destinationDevice');
    expect(notes.join()).not.toContain('otherwise');
  });

  test.each<[string, Partial<LegView>]>([
    ['another verdict', { verdict: 'deny' }],
    ['another rule', { rule: 'other egress 0' }],
  ])('%s than the rules is said first', async (_, more) => {
    leg = more;
    expect((await ask('192.0.2.1', withService())).notes[0]).toMatch(
      /^the kernel's tables say otherwise than the rules: egress/,
    );
  });

  test.each<[readonly string[], string, string]>([
    [['192.0.2.1', '192.0.2.2'], 'allow', 'Service default/web, all backends alike: egress of pod default/client'],
    [['192.0.2.9'], 'deny', 'Service default/web, its backend: egress of pod default/client'],
    [['192.0.2.1', '192.0.2.9'], 'depends', 'Service default/web: 1 of 2 backends may be reached'],
    [[], 'deny', 'Service default/web has no backend: it is refused at once'],
  ])('a Service with the backends %j: %s', async (backends, verdict, reason) => {
    const answer = await ask('10.96.0.1', withService(...backends));
    expect(answer).toMatchObject({ verdict, reason: expect.stringContaining(reason) });
    expect(answer.service).toMatchObject({ service: 'default/web', address: '10.96.0.1', port: 80, more: 0 });
    expect(answer.service?.backends.map(({ address }) => address)).toEqual(backends);
    if (backends.length > 0) expect(answer.packet).toMatchObject({ destination: backends[0], destinationPort: 8080 });
  });

  test('of many backends the first 16 are looked at', async () => {
    const { service } = await ask(
      '10.96.0.1',
      withService(...Array.from({ length: 20 }, (_, i) => `192.0.2.${100 + i}`)),
    );
    expect(service).toMatchObject({ more: 4 });
    expect(service?.backends).toHaveLength(16);
  });
});
