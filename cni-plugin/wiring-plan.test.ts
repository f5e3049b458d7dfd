import { describe, expect, test } from '@jest/globals';
import { planWiring, podRoutes, type WiringSpec } from './wiring-plan.ts';

const spec: WiringSpec = {
  hostDevice: 'cali1',
  alias: 'tortie:n/c/eth0',
  replacesOthers: true,
  ifname: 'eth0',
  netns: '/run/netns/c',
  netnsPath: '/proc/self/fd/9',
  mac: '02:00:00:00:00:01',
  mtu: 1440,
  queues: undefined,
  addresses: ['10.65.0.1/32'],
  customRoutes: undefined,
  includeDefaultRoutes: false,
  allowForwarding: false,
  deviceOps: [{ op: 'clsact.add', link: 'cali1' }],
  routes: { protocol: 3, metric4: 1024, metric6: 1024 },
};

describe('planWiring', () => {
  test('puts the dataplane’s requests before the device comes up, and routes after', () => {
    expect(planWiring(spec).hostOps).toEqual([
      { op: 'clsact.add', link: 'cali1' },
      { op: 'link.set', link: 'cali1', up: true },
      { op: 'route.add', dst: '10.65.0.1/32', link: 'cali1', protocol: 3, scope: 'link', metric: 1024 },
      { op: 'neigh.replace', link: 'cali1', address: '10.65.0.1', mac: '02:00:00:00:00:01', state: 'permanent' },
    ]);
  });

  test('makes the pod’s end in its namespace, down, with its final name and MAC', () => {
    expect(planWiring(spec).veth).toEqual({
      op: 'veth.add',
      name: 'cali1',
      mac: 'ee:ee:ee:ee:ee:ee',
      alias: 'tortie:n/c/eth0',
      mtu: 1440,
      peer: { name: 'eth0', mac: '02:00:00:00:00:01', netns: { path: '/proc/self/fd/9' }, mtu: 1440 },
    });
  });

  test('touches nothing of a family that the pod does not have', () => {
    const four = JSON.stringify(planWiring(spec));
    expect(four).not.toMatch(/ipv6|::/);
    const six = JSON.stringify(planWiring({ ...spec, addresses: ['fd00::1/128'] }));
    expect(six).not.toMatch(/ipv4|169\.254/);
  });
});

describe('podRoutes', () => {
  const both = { has4: true, has6: true };
  const dsts = (overrides: Partial<WiringSpec>) => podRoutes({ ...spec, ...overrides }, both).map(({ dst }) => dst);

  test('the default routes, or the custom ones, or both', () => {
    expect(dsts({})).toEqual(['169.254.1.1/32', '0.0.0.0/0', '::/0']);
    expect(dsts({ customRoutes: ['10.0.0.0/8'] })).toEqual(['169.254.1.1/32', '10.0.0.0/8']);
    expect(dsts({ customRoutes: ['10.0.0.0/8', '::/0'], includeDefaultRoutes: true })).toEqual([
      '169.254.1.1/32',
      '0.0.0.0/0',
      '10.0.0.0/8',
      '::/0',
    ]);
  });

  test('those of a further interface stand behind eth0’s', () => {
    const metrics = podRoutes({ ...spec, ifname: 'net1' }, both).map(({ metric }) => metric ?? 0);
    expect(metrics.every((metric) => metric >= 2000)).toBe(true);
    expect(metrics).not.toEqual(podRoutes({ ...spec, ifname: 'net2' }, both).map(({ metric }) => metric));
  });
});
