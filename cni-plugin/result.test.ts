import { describe, expect, test } from '@jest/globals';
import { parseResult, renderResult, type CniResult } from './result.ts';

const result: CniResult = {
  interfaces: [
    { name: 'cali1', mac: 'ee:ee:ee:ee:ee:ee', mtu: 1440 },
    { name: 'eth0', mac: '02:00:00:00:00:01', mtu: 1440, sandbox: '/run/netns/c' },
  ],
  ips: [
    { address: '10.65.0.1/32', interface: 1 },
    { address: 'fd00::1/128', interface: 1 },
  ],
  routes: [{ dst: '10.0.0.0/8', gw: '169.254.1.1', mtu: 1400, scope: 0 }],
  dns: { nameservers: ['10.96.0.10'] },
};

describe('renderResult', () => {
  test.each(['0.3.1', '0.4.0'] as const)('[%s] addresses say their version; no MTU', (version) => {
    expect(JSON.parse(renderResult(result, version))).toEqual({
      cniVersion: version,
      interfaces: [
        { name: 'cali1', mac: 'ee:ee:ee:ee:ee:ee' },
        { name: 'eth0', mac: '02:00:00:00:00:01', sandbox: '/run/netns/c' },
      ],
      ips: [
        { version: '4', interface: 1, address: '10.65.0.1/32' },
        { version: '6', interface: 1, address: 'fd00::1/128' },
      ],
      routes: [{ dst: '10.0.0.0/8', gw: '169.254.1.1' }],
      dns: { nameservers: ['10.96.0.10'] },
    });
  });

  test('[1.0.0] addresses have no version', () => {
    const { ips, interfaces } = JSON.parse(renderResult(result, '1.0.0'));
    expect(ips).toEqual(result.ips);
    expect(interfaces[0]).toEqual({ name: 'cali1', mac: 'ee:ee:ee:ee:ee:ee' });
  });

  test('[1.1.0] interfaces have an MTU, routes their attributes', () => {
    expect(JSON.parse(renderResult(result, '1.1.0'))).toEqual({ cniVersion: '1.1.0', ...result });
  });

  test.each(['0.3.1', '0.4.0', '1.0.0', '1.1.0'] as const)('[%s] what is written can be read', (version) => {
    const read = parseResult(JSON.parse(renderResult(result, version)), 'x');
    expect(read.ips.map(({ address }) => address)).toEqual(['10.65.0.1/32', 'fd00::1/128']);
    expect(read.interfaces[1]).toMatchObject({ name: 'eth0', sandbox: '/run/netns/c' });
  });
});

test.each([[[]], ['x'], [{ ips: {} }], [{ ips: [{}] }], [{ interfaces: [{ name: 1 }] }]])(
  'parseResult refuses %j, naming what it is',
  (raw) => {
    expect(() => parseResult(raw, 'prevResult')).toThrow(
      expect.objectContaining({ code: 7, message: expect.stringMatching(/^prevResult: /) }),
    );
  },
);
