import { describe, expect, test } from '@jest/globals';
import { parseCidr, type Cidr } from '#api/cidr.ts';
import { parseAs, type KindMap } from '#api/kinds.ts';
import { uniqueLocal } from './cluster-defaults.ts';
import { decideRanges, freeRanges, hasPodCidr, type RangeInputs } from './pool-ranges.ts';

/** A Node by its InternalIPs and podCIDRs. */
function node(addresses: readonly string[], ...podCIDRs: string[]): KindMap['Node'] {
  return parseAs('Node', {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: `node-${addresses.join('-').replaceAll(/[^\w]/g, '-')}x` },
    spec: podCIDRs.length === 0 ? {} : { podCIDR: podCIDRs[0], podCIDRs },
    status: {
      addresses: [
        { type: 'Hostname', address: '192.168.7.7' },
        ...addresses.map((address) => ({ type: 'InternalIP', address })),
      ],
    },
  }).object;
}

const cidrs = (texts: readonly string[]): Cidr[] => texts.map((text) => parseCidr(text));
const v4 = ['10.0.0.1'];
const both = ['10.0.0.1', 'fd31::1'];

interface Case {
  readonly podCIDR?: string;
  readonly podCIDRv6?: string;
  readonly kubeadm?: readonly string[];
  readonly nodes?: readonly KindMap['Node'][];
  readonly routes?: readonly string[];
}

function inputs({ podCIDR, podCIDRv6, kubeadm = [], nodes = [node(v4)], routes = [] }: Case): RangeInputs {
  return {
    config: {
      ranges: {
        4: podCIDR === undefined ? undefined : parseCidr(podCIDR),
        6: podCIDRv6 === undefined ? undefined : parseCidr(podCIDRv6),
      },
    },
    kubeadm: cidrs(kubeadm),
    nodes,
    hostNetworks: cidrs(routes),
    uniqueLocal: () => parseCidr('fd12:3456:789a::/48'),
  };
}

describe('the ranges of the default pools', () => {
  test.each<readonly [string, Case, readonly string[]]>([
    [
      'the ConfigMap has the first word',
      { podCIDR: '10.1.0.0/16', kubeadm: ['10.2.0.0/16'], nodes: [node(v4, '10.3.0.0/24')] },
      ['10.1.0.0/16'],
    ],
    [
      'a family of which it says nothing is asked for further on',
      { podCIDRv6: 'fd01::/48', kubeadm: ['10.2.0.0/16', 'fd02::/48'] },
      ['10.2.0.0/16', 'fd01::/48'],
    ],
    ['kubeadm comes before the Nodes', { kubeadm: ['10.2.0.0/20'], nodes: [node(v4, '10.3.0.0/24')] }, ['10.2.0.0/20']],
    [
      'kubeadm with two families makes two pools',
      { kubeadm: ['10.2.0.0/16', 'fd02::/56'] },
      ['10.2.0.0/16', 'fd02::/56'],
    ],
    [
      'one /16 holds the podCIDR of every Node',
      { nodes: [node(['10.0.0.1'], '10.244.0.0/24'), node(['10.0.0.2'], '10.244.255.0/24'), node(['10.0.0.3'])] },
      ['10.244.0.0/16'],
    ],
    [
      'and one /48, where they have IPv6 too',
      { nodes: [node(both, '10.244.1.0/24', 'fd44:0:0:1::/64'), node(both, '10.244.0.0/24', 'fd44:0:0:2::/64')] },
      ['10.244.0.0/16', 'fd44::/48'],
    ],
    ['podCIDRs of IPv6 alone make no pool of IPv4', { nodes: [node(['fd31::1'], 'fd44::/64')] }, ['fd44::/48']],
    [
      'podCIDRs of IPv4 alone make none of IPv6, whatever addresses the Nodes have',
      { nodes: [node(both, '10.244.1.0/24')] },
      ['10.244.0.0/16'],
    ],
    [
      'podCIDRs of two /16 are as good as none',
      { nodes: [node(['10.0.0.1'], '10.1.255.0/24'), node(['10.0.0.2'], '10.2.0.0/24')] },
      ['192.168.0.0/16'],
    ],
    [
      'the same in IPv6',
      { nodes: [node(both, '10.1.0.0/24', 'fd44::/64'), node(both, '10.1.1.0/24', 'fd45::/64')] },
      ['10.1.0.0/16', 'fd12:3456:789a::/48'],
    ],
    ['a podCIDR larger than a /16 is in none', { nodes: [node(v4, '10.64.0.0/12')] }, ['192.168.0.0/16']],
    ['where nobody says anything, the range of Calico', {}, ['192.168.0.0/16']],
    ['default routes are in nobody’s way', { routes: ['0.0.0.0/0', '::/0', '10.0.0.0/24'] }, ['192.168.0.0/16']],
    ['moved aside from a route of the node', { routes: ['192.168.1.0/24'] }, ['172.16.0.0/16']],
    ['from one that holds it', { routes: ['192.0.0.0/8', '172.16.0.0/15'] }, ['172.18.0.0/16']],
    [
      'and from the address of any Node',
      { nodes: [node(v4), node(['192.168.3.4']), node(['172.16.9.9'])] },
      ['172.17.0.0/16'],
    ],
    [
      'IPv6 as well, if every Node has an address of it',
      { nodes: [node(both), node(both)] },
      ['192.168.0.0/16', 'fd12:3456:789a::/48'],
    ],
    ['not if one has none: its blocks could not be routed', { nodes: [node(both), node(v4)] }, ['192.168.0.0/16']],
    ['IPv6 alone, if the Nodes have nothing else', { nodes: [node(['fd31::1'])] }, ['fd12:3456:789a::/48']],
  ])('%s', (_title, given, expected) => {
    const { ranges, problems } = decideRanges(inputs(given));
    expect([ranges.map(({ cidr }) => cidr.text), problems]).toEqual([expected, []]);
    for (const { because } of ranges) expect(because).not.toBe('');
  });

  test.each<readonly [string, Case, readonly string[]]>([
    [
      'every free range is in use',
      { routes: freeRanges.map(({ text }) => text) },
      ['in use on this node', 'podCIDR in ConfigMap'],
    ],
    ['no Node has an address yet', { nodes: [node([])] }, ['no Node has an InternalIP yet', 'podCIDR in ConfigMap']],
    ['there is no Node', { nodes: [] }, ['no Node has an InternalIP yet']],
    [
      'a Node of an IPv6 cluster has no address yet',
      { nodes: [node(['fd31::1']), node([])] },
      ['not every Node has an InternalIP yet', 'podCIDRv6 in ConfigMap'],
    ],
    [
      'a Node’s address is in the range that was said',
      { podCIDR: '10.0.0.0/16' },
      ['10.0.0.0/16', '10.0.0.1 of Node node-10-0-0-1x', 'podCIDR in ConfigMap'],
    ],
    [
      'a Node’s address is in the /16 around the podCIDRs',
      { nodes: [node(['10.244.200.1'], '10.244.0.0/24')] },
      ['10.244.0.0/16', "it holds every Node's podCIDR", '10.244.200.1'],
    ],
    [
      'it is so in one family only',
      { kubeadm: ['10.2.0.0/16', 'fd31::/48'], nodes: [node(both)] },
      ['fd31::/48', 'fd31::1 of Node', 'podCIDRv6 in ConfigMap'],
    ],
  ])('nothing is decided when %s', (_title, given, parts) => {
    const { ranges, problems } = decideRanges(inputs(given));
    expect(ranges).toEqual([]);
    expect(problems).toHaveLength(1);
    for (const part of parts) expect(problems[0]).toContain(part);
  });

  test('a random range is a unique local /48, and never the same again', () => {
    const ranges = Array.from({ length: 20 }, () => uniqueLocal());
    for (const { family, prefix, text } of ranges) {
      expect([family, prefix]).toEqual([6, 48]);
      expect(text).toMatch(/^fd[0-9a-f]{2}:/);
    }
    expect(new Set(ranges.map(({ text }) => text)).size).toBe(20);
  });

  test('a Node may have its podCIDR in either field', () => {
    const bare = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'a' } };
    const withSpec = (spec: object) => [parseAs('Node', { ...bare, spec }).object];
    expect(
      [{}, { podCIDRs: [] }, { podCIDR: '10.1.0.0/24' }, { podCIDRs: ['10.1.0.0/24'] }].map((spec) =>
        hasPodCidr(withSpec(spec)),
      ),
    ).toEqual([false, false, true, true]);
    expect(decideRanges(inputs({ nodes: withSpec({ podCIDR: '10.1.0.0/24' }) })).ranges[0]?.cidr.text).toBe(
      '10.1.0.0/16',
    );
  });
});
