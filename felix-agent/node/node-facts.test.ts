import { describe, expect, test } from '@jest/globals';
import { annotation } from '#api/annotations.ts';
import { parseAs } from '#api/kinds.ts';
import { annotationChanges, mustReportNetwork } from './node-facts.ts';

const { nodeIPv4: ip4, nodeIPv6: ip6 } = annotation;
const node = (addresses: readonly string[], annotations: Record<string, string> = {}, conditions: object[] = []) =>
  parseAs('Node', {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name: 'node1', annotations },
    status: {
      addresses: [
        { type: 'ExternalIP', address: '192.0.2.1' },
        ...addresses.map((address) => ({ type: 'InternalIP', address })),
      ],
      conditions,
    },
  }).object;
const devices = ['127.0.0.1/8', '172.31.0.11/24', '172.31.0.99/16', 'fd31::11/64'];

describe('the annotations of the own Node', () => {
  test.each([
    [
      'are written where there are none',
      ['172.31.0.11', 'fd31::11'],
      {},
      { [ip4]: '172.31.0.11/24', [ip6]: 'fd31::11/64' },
    ],
    ['are left alone where they are right', ['172.31.0.11'], { [ip4]: '172.31.0.11/24', theirs: 'x' }, {}],
    ['follow an address that changes', ['172.31.0.99'], { [ip4]: '172.31.0.11/24' }, { [ip4]: '172.31.0.99/16' }],
    ['follow a subnet that changes', ['172.31.0.11'], { [ip4]: '172.31.0.11/25' }, { [ip4]: '172.31.0.11/24' }],
    ['go with the address', ['fd31::11'], { [ip4]: '172.31.0.11/24', [ip6]: 'fd31::11/64' }, { [ip4]: null }],
    ['are of the first address of a family', ['172.31.0.99', '172.31.0.11'], {}, { [ip4]: '172.31.0.99/16' }],
    ['are canonical', ['FD31:0::0:11'], {}, { [ip6]: 'fd31::11/64' }],
    [
      'say that the node is alone while no device has its address',
      ['10.9.9.9', 'fd99::9'],
      {},
      { [ip4]: '10.9.9.9/32', [ip6]: 'fd99::9/128' },
    ],
    ['say nothing while the Node has no address', [], {}, {}],
  ])('%s', (_title, addresses, annotations, changes) => {
    expect(annotationChanges(node(addresses, annotations), devices)).toEqual(changes);
  });
});

test.each([
  [[], true],
  [[{ type: 'Ready', status: 'False' }], true],
  [[{ type: 'NetworkUnavailable', status: 'True' }], true],
  [[{ type: 'NetworkUnavailable', status: 'Unknown' }], true],
  [
    [
      { type: 'Ready', status: 'True' },
      { type: 'NetworkUnavailable', status: 'False' },
    ],
    false,
  ],
])('with the conditions %j, the network must be reported: %s', (conditions, expected) => {
  expect(mustReportNetwork(node([], {}, conditions))).toBe(expected);
});
