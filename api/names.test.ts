import { describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import {
  blockAffinityName,
  blockName,
  handleName,
  hostAffinity,
  hostOfAffinity,
  parseWorkloadEndpointName,
  workloadEndpointName,
} from './names.ts';

const seed = Date.now() & 0x7fffffff;

describe("a WorkloadEndpoint's name", () => {
  test.each([
    ['node1', 'k8s', 'web', 'eth0', 'node1-k8s-web-eth0'],
    ['node-1', 'k8s', 'web-0', 'eth0', 'node--1-k8s-web--0-eth0'],
    ['a--b', 'cni', '0123abcd', 'eth0', 'a----b-cni-0123abcd-eth0'],
    ['ip-10-0-0-1.example.com', 'k8s', 'x', 'eth0', 'ip--10--0--0--1.example.com-k8s-x-eth0'],
  ])('joins %s, %s, %s and %s, and is read back', (node, orchestrator, workload, endpoint, name) => {
    const parts = { node, orchestrator, workload, endpoint };
    expect(workloadEndpointName(parts)).toBe(name);
    expect(parseWorkloadEndpointName(name)).toEqual(parts);
  });

  test.each([
    '',
    'node1',
    'node1-k8s-web',
    'node1-k8s-web-eth0-more',
    '-k8s-web-eth0',
    'node1--k8s-web-eth0',
    'a---k8s-w-eth0',
    'a---b-k8s-w-eth0',
    'node1-k8s-web-eth0--',
  ])('is not %j', (name) => {
    expect(parseWorkloadEndpointName(name)).toBeUndefined();
  });

  test.each(['', '-a', 'a-'])('has no part %j, which could not be read back', (workload) => {
    const parts = { node: 'n', orchestrator: 'k8s', workload, endpoint: 'eth0' };
    expect(() => workloadEndpointName(parts)).toThrow(RangeError);
  });

  test(`is read back whatever its parts are (seed ${seed})`, () => {
    const part = fc.stringMatching(/^[a-z0-9.]([a-z0-9.-]{0,8}[a-z0-9.])?$/);
    fc.assert(
      fc.property(part, part, part, part, (node, orchestrator, workload, endpoint) => {
        const parts = { node, orchestrator, workload, endpoint };
        expect(parseWorkloadEndpointName(workloadEndpointName(parts))).toEqual(parts);
      }),
      { seed, interruptAfterTimeLimit: 2000, numRuns: 2000 },
    );
  });
});

test.each([
  ['10.65.0.0/26', '10-65-0-0-26'],
  ['fd00:10::/122', 'fd00-10---122'],
  ['fd00:1:2:3:4:5:6:40/122', 'fd00-1-2-3-4-5-6-40-122'],
])('the block %s is the object %s', (cidr, name) => {
  expect(blockName(cidr)).toBe(name);
  expect(blockAffinityName('node-1', cidr)).toBe(`node-1-${name}`);
});

test('the affinity of a node with a very long name fits, and stays its own', () => {
  const node = `${'n'.repeat(120)}.${'m'.repeat(130)}`;
  const name = blockAffinityName(`${node}a`, '10.65.0.0/26');
  expect(name).toMatch(/^n{120}\.m+-10-65-0-0-26-[0-9a-f]{11}$/);
  expect(name.length).toBeLessThanOrEqual(252);
  expect(blockAffinityName(`${node}b`, '10.65.0.0/26')).not.toBe(name);
});

test('handles are stored in lower case', () => {
  expect(handleName('k8s-pod-network.ABC')).toBe('k8s-pod-network.abc');
});

test('a block belongs to a node, to something virtual, or to nobody', () => {
  expect(hostOfAffinity(hostAffinity('node-1'))).toBe('node-1');
  expect(hostOfAffinity('virtual:load-balancer')).toBeUndefined();
  expect(hostOfAffinity(undefined)).toBeUndefined();
});
