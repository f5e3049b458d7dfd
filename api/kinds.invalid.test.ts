import { describe, expect, test } from '@jest/globals';
import { block, endpoint, errorOf, object } from './kinds.fixtures.ts';
import { parseAs, parseObject, type KindName } from './kinds.ts';

describe('a wrong object', () => {
  test('is refused by kind, name, field, rule and value', () => {
    const error = errorOf(() => parseObject(object('IPPool', { cidr: '10.65.0.1/16' }, { name: 'pool-a' })));
    expect(error.code).toBe('invalid');
    expect(error.message).toBe(
      'IPPool "pool-a": spec.cidr: must be a network address, e.g. 10.65.0.0/16 or fd00:10::/64 (is 10.65.0.1/16)',
    );
    expect(error.issues).toEqual([
      { path: 'spec.cidr', message: 'must be a network address, e.g. 10.65.0.0/16 or fd00:10::/64 (is 10.65.0.1/16)' },
    ]);
  });

  const rows: readonly (readonly [KindName, object, object, string])[] = [
    ['IPPool', {}, {}, 'spec.cidr: is missing'],
    ['IPPool', { cidr: 5 }, {}, 'spec.cidr: must be text (in YAML: in quotes) (is 5)'],
    ['IPPool', { cidr: ['a'] }, {}, 'spec.cidr: must be text (in YAML: in quotes) (is [a])'],
    ['IPPool', { cidr: { a: 1 } }, {}, 'spec.cidr: must be text (in YAML: in quotes) (is an object)'],
    ['IPPool', { cidr: '' }, {}, 'spec.cidr: must be a network address, e.g. 10.65.0.0/16 or fd00:10::/64 (is empty)'],
    ['Lease', { leaseDurationSeconds: 1.5 }, {}, 'spec.leaseDurationSeconds: must be a whole number (is 1.5)'],
    ['Lease', { holderIdentity: 7 }, {}, 'spec.holderIdentity: must be text (in YAML: in quotes) (is 7)'],
    [
      'IPPool',
      { cidr: '169.254.0.0/24' },
      {},
      'spec.cidr: must not overlap the link-local range (169.254.0.0/16, fe80::/10) (is 169.254.0.0/24)',
    ],
    [
      'IPPool',
      { cidr: 'fe80::/64' },
      {},
      'spec.cidr: must not overlap the link-local range (169.254.0.0/16, fe80::/10) (is fe80::/64)',
    ],
    [
      'IPPool',
      { cidr: '10.0.0.0/16', blockSize: 19 },
      {},
      'spec.blockSize: must be a prefix length from 20 to 32 for IPv4 (is 19)',
    ],
    [
      'IPPool',
      { cidr: '10.0.0.0/16', blockSize: 33 },
      {},
      'spec.blockSize: must be a prefix length from 20 to 32 for IPv4 (is 33)',
    ],
    [
      'IPPool',
      { cidr: 'fd00::/48', blockSize: 26 },
      {},
      'spec.blockSize: must be a prefix length from 116 to 128 for IPv6 (is 26)',
    ],
    ['IPPool', { cidr: '10.0.0.0/16', blockSize: 26.5 }, {}, 'spec.blockSize: must be a whole number (is 26.5)'],
    [
      'IPPool',
      { cidr: '10.0.0.0/28' },
      {},
      'spec.cidr: must have room for a block, which is a /26; set blockSize for smaller ones (is 10.0.0.0/28)',
    ],
    [
      'IPPool',
      { cidr: '10.0.0.0/28', blockSize: 27 },
      {},
      'spec.cidr: must have room for a block, which is a /27; set blockSize for smaller ones (is 10.0.0.0/28)',
    ],
    [
      'IPPool',
      { cidr: '10.0.0.0/16', vxlanMode: 'always' },
      {},
      'spec.vxlanMode: must be one of Never, Always, CrossSubnet (is always)',
    ],
    [
      'IPPool',
      { cidr: '10.0.0.0/16', vxlanMode: 'Always', ipipMode: 'CrossSubnet' },
      {},
      'spec.ipipMode: must be Never while vxlanMode is not (is CrossSubnet)',
    ],
    [
      'IPPool',
      { cidr: 'fd00::/48', ipipMode: 'Always' },
      {},
      'spec.ipipMode: must be Never: IPIP carries no IPv6 (is Always)',
    ],
    ['IPPool', { cidr: '10.0.0.0/16', natOutgoing: 'yes' }, {}, 'spec.natOutgoing: must be true or false (is yes)'],
    [
      'IPPool',
      { cidr: '10.0.0.0/16', allowedUses: ['Pods'] },
      {},
      'spec.allowedUses[0]: must be one of Workload, Tunnel, LoadBalancer (is Pods)',
    ],
    [
      'IPPool',
      { cidr: '10.0.0.0/16', allowedUses: ['LoadBalancer', 'Tunnel'] },
      {},
      'spec.allowedUses: must have LoadBalancer alone: a pool for load balancers has no other use (is [LoadBalancer, Tunnel])',
    ],
    [
      'IPPool',
      { cidr: '10.0.0.0/16', allowedUses: ['LoadBalancer'], vxlanMode: 'Always' },
      {},
      'spec.vxlanMode: must be Never in a pool for LoadBalancer (is Always)',
    ],
    [
      'IPPool',
      { cidr: '10.0.0.0/16', allowedUses: ['LoadBalancer'], nodeSelector: 'has(a)' },
      {},
      'spec.nodeSelector: must be all() in a pool for LoadBalancer (is has(a))',
    ],
    [
      'IPPool',
      { cidr: '10.0.0.0/16', nodeSelector: 'a = "b"' },
      {},
      'spec.nodeSelector: selector: expected "==" at position 2, found "= \\"b\\"" (is a = "b")',
    ],
    [
      'IPPool',
      { cidr: '10.0.0.0/16', namespaceSelector: 'has(a)&&'.repeat(128).concat('has(a)') },
      {},
      `spec.namespaceSelector: must have at most 1024 characters (is ${'has(a)&&'.repeat(9)}has(a...)`,
    ],
    [
      'IPPool',
      { cidr: '10.0.0.0/16', assignmentMode: 'None' },
      {},
      'spec.assignmentMode: must be one of Automatic, Manual (is None)',
    ],
    [
      'IPPool',
      { cidr: '10.0.0.0/16' },
      { name: 'Pool' },
      "metadata.name: must be a DNS subdomain: at most 253 of a-z, 0-9, '-' and '.', each part starting and ending with a letter or digit (is Pool)",
    ],
    [
      'IPPool',
      { cidr: '10.0.0.0/16' },
      { labels: { 'a.b/c': 1 } },
      'metadata.labels["a.b/c"]: must be text (in YAML: in quotes) (is 1)',
    ],
    [
      'Pod',
      {},
      { namespace: 'a.b' },
      "metadata.namespace: must be a DNS label: at most 63 of a-z, 0-9 and '-', starting and ending with a letter or digit (is a.b)",
    ],
    [
      'Pod',
      { containers: [{ name: 'c', ports: [{ containerPort: 0 }] }] },
      {},
      'spec.containers[0].ports[0].containerPort: must be at least 1 (is 0)',
    ],
    ['Pod', { containers: {} }, {}, 'spec.containers: must be a list (is an object)'],
    [
      'IPAMConfiguration',
      { autoAllocateBlocks: false },
      {},
      'spec.autoAllocateBlocks: must be true unless strictAffinity is: nodes without blocks would borrow every address (is false)',
    ],
    [
      'IPAMConfiguration',
      { maxBlocksPerHost: 1 },
      {},
      'spec.maxBlocksPerHost: must be 0 unless strictAffinity is true: nodes would borrow beyond it (is 1)',
    ],
    ['IPAMConfiguration', { ipCooldownSeconds: 1201 }, {}, 'spec.ipCooldownSeconds: must be at most 1200 (is 1201)'],
    [
      'IPReservation',
      { reservedCIDRs: ['10.0.0.1', 'ten'] },
      {},
      'spec.reservedCIDRs[1]: must be an IP address or a network, e.g. 10.65.0.0/16 (is ten)',
    ],
    [
      'BlockAffinity',
      { state: 'mine', node: 'n', cidr: '10.0.0.0/26' },
      {},
      'spec.state: must be one of pending, confirmed, pendingDeletion (is mine)',
    ],
    ['BlockAffinity', { state: 'pending', node: '', cidr: '10.0.0.0/26' }, {}, 'spec.node: must not be empty'],
    [
      'IPAMHandle',
      { handleID: 'x', block: { '10.0.0.1/26': 1 } },
      {},
      'spec.block["10.0.0.1/26"]: the key must be a network address, e.g. 10.65.0.0/16 or fd00:10::/64',
    ],
    [
      'IPAMHandle',
      { handleID: 'x', block: { '10.0.0.0/26': -1 } },
      {},
      'spec.block["10.0.0.0/26"]: must be at least 0 (is -1)',
    ],
    [
      'IPAMBlock',
      { ...block, cidr: '10.0.0.0/19' },
      {},
      'spec.cidr: must have a prefix length from 20 to 32 for IPv4 (is 10.0.0.0/19)',
    ],
    [
      'IPAMBlock',
      { ...block, affinity: 'node-1' },
      {},
      'spec.affinity: must be host:<node> or virtual:<name> (is node-1)',
    ],
    [
      'IPAMBlock',
      { ...block, allocations: [] },
      {},
      'spec.allocations: must have 4 entries, one for each address of 10.65.0.0/30 (is [])',
    ],
    ['IPAMBlock', { ...block, unallocated: [4] }, {}, 'spec.unallocated[0]: must be less than 4 (is 4)'],
    [
      'IPAMBlock',
      { ...block, unallocated: [0, 1] },
      {},
      'spec.unallocated[1]: must not be an ordinal that is allocated (is 1)',
    ],
    ['IPAMBlock', { ...block, unallocated: [0, 0] }, {}, 'spec.unallocated[1]: must not be twice in the list (is 0)'],
    ['IPAMBlock', { ...block, attributes: [] }, {}, 'spec.allocations[1]: must be an index in attributes (is 0)'],
    [
      'IPAMBlock',
      { ...block, sequenceNumber: 2 ** 60 },
      {},
      'spec.sequenceNumber: must be a whole number, and one beyond 2^53 a bigint (read JSON by parseJson) (is 1152921504606847000)',
    ],
    [
      'IPAMBlock',
      { ...block, sequenceNumber: -1 },
      {},
      'spec.sequenceNumber: must be a whole number, and one beyond 2^53 a bigint (read JSON by parseJson) (is -1)',
    ],
    [
      'WorkloadEndpoint',
      { ...endpoint, ipNetworks: ['10.0.0.0/24'] },
      {},
      'spec.ipNetworks[0]: must be one address, with /32 or /128 or without (is 10.0.0.0/24)',
    ],
    [
      'WorkloadEndpoint',
      { ...endpoint, interfaceName: 'cali0123456789ab' },
      {},
      'spec.interfaceName: must be an interface name of 1 to 15 characters (is cali0123456789ab)',
    ],
    [
      'WorkloadEndpoint',
      { ...endpoint, mac: '02-00' },
      {},
      'spec.mac: must be a MAC address, e.g. 02:00:00:00:00:01 (is 02-00)',
    ],
    [
      'WorkloadEndpoint',
      { ...endpoint, ipv4Gateway: 'fd00::1' },
      {},
      'spec.ipv4Gateway: must be an IPv4 address (is fd00::1)',
    ],
    [
      'WorkloadEndpoint',
      { ...endpoint, ports: [{ protocol: 'TCP', port: 0 }] },
      {},
      'spec.ports[0].port: must be at least 1 (is 0)',
    ],
    ['FelixConfiguration', { bpfEnabled: 'yes' }, {}, 'spec.bpfEnabled: must be true or false (is yes)'],
    [
      'FelixConfiguration',
      { routeRefreshInterval: '90' },
      {},
      'spec.routeRefreshInterval: must be a duration, e.g. 90s or 1m30s (in a variable also a number of seconds) (is 90)',
    ],
    ['ClusterInformation', { datastoreReady: 'true' }, {}, 'spec.datastoreReady: must be true or false (is true)'],
  ];
  test.each(rows)('%s %j %j', (kind, spec, metadata, message) => {
    const error = errorOf(() => parseObject(object(kind, spec, metadata)));
    expect(error.code).toBe('invalid');
    expect(error.issues.map((issue) => `${issue.path}: ${issue.message}`)).toEqual([message]);
  });

  test('says everything that is wrong at once', () => {
    const error = errorOf(() => parseObject(object('IPPool', { cidr: 1, disabled: 2, vxlanMode: 3 }, { name: 4 })));
    expect(error.issues.map(({ path }) => path)).toEqual([
      'metadata.name',
      'spec.cidr',
      'spec.vxlanMode',
      'spec.disabled',
    ]);
    expect(error.message).toMatch(/^IPPool \(without a name\): metadata\.name: must be text/);
  });

  test('is not another kind than was asked for', () => {
    const error = errorOf(() => parseAs('IPPool', object('IPReservation')));
    expect(error.issues[0]).toEqual({ path: 'kind', message: 'must be IPPool (is IPReservation)' });
  });
});
