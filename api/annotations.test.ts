import { describe, expect, test } from '@jest/globals';
import {
  annotation,
  parseNamespaceAnnotations,
  parseNodeAddress,
  parsePodAnnotations,
  parsePodIPs,
  podNetworkAnnotations,
} from './annotations.ts';

const prefix = 'cni.projectcalico.org/';

describe("a pod's annotations", () => {
  test('say nothing where there are none', () => {
    const nothing = {
      ipv4Pools: undefined,
      ipv6Pools: undefined,
      ipFamilies: undefined,
      ipAddrs: undefined,
      ipAddrsNoIpam: undefined,
      hwAddr: undefined,
      floatingIPs: undefined,
      allowedSourcePrefixes: undefined,
    };
    expect(parsePodAnnotations(undefined)).toEqual(nothing);
    expect(parsePodAnnotations({ other: 'x', [`${prefix}ipv4pools`]: '[]' })).toEqual(nothing);
  });

  test('are read in canonical form', () => {
    const parsed = parsePodAnnotations({
      [`${prefix}ipv4pools`]: '["pool-a", "10.65.0.0/16"]',
      [`${prefix}ipv6pools`]: '["FD00::/48"]',
      [`${prefix}ipAddrs`]: '["10.65.0.9", "FD00::9"]',
      [`${prefix}ipFamilies`]: '["IPv6", "ipv4"]',
      [`${prefix}hwAddr`]: '02:AA:00:00:00:01',
      [`${prefix}floatingIPs`]: '["192.0.2.1"]',
      [`${prefix}allowedSourcePrefixes`]: '["192.0.2.0/24", "fd00::1"]',
    });
    expect(parsed).toMatchObject({
      ipv4Pools: ['pool-a', '10.65.0.0/16'],
      ipv6Pools: ['fd00::/48'],
      ipFamilies: [6, 4],
      hwAddr: '02:aa:00:00:00:01',
      floatingIPs: ['192.0.2.1'],
      allowedSourcePrefixes: ['192.0.2.0/24', 'fd00::1/128'],
    });
    expect(parsed.ipAddrs?.map(({ text }) => text)).toEqual(['10.65.0.9', 'fd00::9']);
  });

  test.each([
    ['ipv4pools', 'pool-a', 'a JSON list of IPv4 pools, by name or CIDR'],
    ['ipv4pools', '{"a":1}', 'a JSON list of IPv4 pools, by name or CIDR'],
    ['ipv4pools', '[1]', 'a JSON list of IPv4 pools, by name or CIDR'],
    ['ipv4pools', '["fd00::/48"]', 'a JSON list of IPv4 pools, by name or CIDR'],
    ['ipv6pools', '[""]', 'a JSON list of IPv6 pools, by name or CIDR'],
    ['ipAddrs', '[]', 'a JSON list of one IP address, or one of each family'],
    ['ipAddrs', '["10.0.0.1/32"]', 'a JSON list of one IP address, or one of each family'],
    ['ipAddrs', '["10.0.0.1","10.0.0.2"]', 'a JSON list of one IP address, or one of each family'],
    ['ipAddrsNoIpam', '["ten"]', 'a JSON list of one IP address, or one of each family'],
    ['ipFamilies', '["IPv5"]', 'a JSON list of IPv4 and IPv6'],
    ['hwAddr', '02-00-00-00-00-01', 'a MAC address, e.g. 02:00:00:00:00:01'],
    ['hwAddr', '', 'a MAC address, e.g. 02:00:00:00:00:01'],
    ['floatingIPs', '["192.0.2.0/24"]', 'a JSON list of IP addresses'],
    ['allowedSourcePrefixes', '["x"]', 'a JSON list of networks or IP addresses'],
  ])('%s: %s is refused by name', (name, value, expected) => {
    expect(() => parsePodAnnotations({ [prefix + name]: value })).toThrow(
      expect.objectContaining({
        code: 'bad-annotation',
        annotation: prefix + name,
        message: `annotation ${prefix}${name} must be ${expected} (is ${value})`,
      }),
    );
  });

  test('ask for addresses with or without IPAM, not both', () => {
    const both = { [annotation.ipAddrs]: '["10.0.0.1"]', [annotation.ipAddrsNoIpam]: '["10.0.0.2"]' };
    expect(() => parsePodAnnotations(both)).toThrow(expect.objectContaining({ annotation: annotation.ipAddrsNoIpam }));
  });

  test('show at most 120 characters of a wrong value', () => {
    expect(() => parsePodAnnotations({ [annotation.ipAddrs]: 'x'.repeat(1000) })).toThrow(/\(is x{117}\.\.\.\)$/);
  });
});

test('a namespace asks for pools and families', () => {
  const annotations = {
    [annotation.ipv4Pools]: '["a"]',
    [annotation.ipFamilies]: '["IPv4"]',
    [annotation.hwAddr]: 'x',
  };
  expect(parseNamespaceAnnotations(annotations)).toEqual({ ipv4Pools: ['a'], ipv6Pools: undefined, ipFamilies: [4] });
});

describe('what the plugin writes', () => {
  test('is read back', () => {
    const written = podNetworkAnnotations(['10.65.0.9/32', 'fd00::9/128'], 'abc');
    expect(written).toEqual({
      [annotation.podIP]: '10.65.0.9/32',
      [annotation.podIPs]: '10.65.0.9/32,fd00::9/128',
      [annotation.containerID]: 'abc',
    });
    expect(parsePodIPs(written)?.map(({ text }) => text)).toEqual(['10.65.0.9/32', 'fd00::9/128']);
  });

  test('is blank when the network is gone, which is not the same as absent', () => {
    expect(podNetworkAnnotations([], 'abc')).toMatchObject({ [annotation.podIP]: '', [annotation.podIPs]: '' });
    expect(parsePodIPs(podNetworkAnnotations([], 'abc'))).toEqual([]);
    expect(parsePodIPs({})).toBeUndefined();
  });

  test('may be the first address alone, as older plugins wrote', () => {
    expect(parsePodIPs({ [annotation.podIP]: '10.65.0.9' })?.map(({ text }) => text)).toEqual(['10.65.0.9/32']);
    expect(() => parsePodIPs({ [annotation.podIP]: 'ten' })).toThrow(
      expect.objectContaining({ annotation: annotation.podIP }),
    );
  });
});

describe("a node's address", () => {
  test('comes with its subnet', () => {
    const address = parseNodeAddress({ [annotation.nodeIPv4]: '192.168.1.5/24' }, 4);
    expect(address?.ip.text).toBe('192.168.1.5');
    expect(address?.network.text).toBe('192.168.1.0/24');
    expect(parseNodeAddress({ [annotation.nodeIPv4]: '192.168.1.5/24' }, 6)).toBeUndefined();
    expect(parseNodeAddress(undefined, 4)).toBeUndefined();
  });

  test.each(['192.168.1.5', 'fd00::1/64'])('is not %s', (value) => {
    expect(() => parseNodeAddress({ [annotation.nodeIPv4]: value }, 4)).toThrow(
      expect.objectContaining({ annotation: annotation.nodeIPv4 }),
    );
  });
});
